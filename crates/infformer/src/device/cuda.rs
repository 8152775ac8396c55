//! The kernel on a CUDA device. It is compiled (by NVRTC) for one configuration when an engine is made, and runs on
//! streams of its own, one a lane: candle's is another one on each thread, and engines move from thread to thread.
//!
//! The only module with `unsafe`: a launch hands raw addresses to the kernel, and pinned memory begins uninitialised.
#![allow(unsafe_code)]

use super::processor::{BUFFERS, Buffer, COMMON, INPUTS, LANES, Launch, Processor};
use crate::error::{Error, Result};
use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::sys::{CUdevice_attribute, CUevent_flags, CUfunction_attribute};
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaModule, CudaSlice, CudaStream, LaunchConfig, PinnedHostSlice,
    PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts};
use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Threads of an agent: a warp.
pub(super) const THREADS: usize = 32;

pub(super) struct Cuda {
    context: Arc<CudaContext>,
    kernel: CudaFunction,
    /// Bytes of shared memory that a block of it needs, and each agent of the block.
    room: [u32; 2],
    /// The most agents of a block.
    agents: u32,
    multiprocessors: u32,
    /// Common buffers are the first lane's.
    lanes: [Lane; LANES],
    /// Whether the first lane was told to change what is common, and may not have done it yet.
    is_unsettled: bool,
    /// Before and after each kernel of the tick.
    timed: Vec<[CudaEvent; 2]>,
}

/// What a launch has for itself.
#[derive(Debug)]
struct Lane {
    stream: Arc<CudaStream>,
    buffers: [CudaSlice<u32>; BUFFERS],
    /// The host's side of the inputs, and of what is received: memory that the device reads and writes by itself.
    inputs: [PinnedHostSlice<u32>; INPUTS],
    received: PinnedHostSlice<u32>,
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Cuda").field("device", &self.context.ordinal()).finish_non_exhaustive()
    }
}

fn failed(error: impl Display) -> Error {
    Error::Kernel { message: error.to_string() }
}

/// Host memory of at least so many words, all zero.
fn pinned(context: &Arc<CudaContext>, words: usize) -> Result<PinnedHostSlice<u32>> {
    // SAFETY: it is filled before anything reads it.
    let mut memory = unsafe { context.alloc_pinned_with_flags::<u32>(words, 0) }.map_err(failed)?;
    memory.as_mut_slice().map_err(failed)?.fill(0);
    Ok(memory)
}

/// As many of something as asked, or the first error.
fn each<T: fmt::Debug, const COUNT: usize>(make: impl Fn() -> Result<T>) -> Result<[T; COUNT]> {
    let made: Vec<T> = (0..COUNT).map(|_| make()).collect::<Result<_>>()?;
    made.try_into().map_err(|made: Vec<T>| failed(format!("{} of {COUNT}", made.len())))
}

impl Cuda {
    /// Compiles the kernel for the configuration that `numbers` are. Errors: no NVRTC on this machine, or a kernel that
    /// the device cannot hold.
    pub(super) fn new(device: &CudaDevice, numbers: &str) -> Result<Self> {
        let context = CudaContext::new(device.cuda_stream().context().ordinal()).map_err(failed)?;
        // SAFETY: what is common to the streams changes on the first one, when nothing is under way on the others (after
        // an error, and before anything is dropped, `drain` waits for them), and they wait for it (`is_unsettled`); all
        // else is on one stream, in the order in which it was asked for.
        unsafe { context.disable_event_tracking() };
        let lanes: [Lane; LANES] = each(|| Lane::new(&context))?;
        let (major, minor) = context.compute_capability().map_err(failed)?;
        let architecture = format!("--gpu-architecture=compute_{major}{minor}");
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let most = u32::try_from(context.attribute(attribute).map_err(failed)?).map_err(failed)?;
        let load = |numbers: &str| {
            let module = context.load_module(compile(numbers, architecture.clone())?).map_err(failed)?;
            let room = room(&lanes[0].stream, &module)?;
            Ok::<_, Error>((module, room, most.saturating_sub(room[0]) / room[1].max(1)))
        };
        let (mut module, mut room, mut agents) = load(numbers)?;
        if agents == 0 {
            (module, room, agents) = load(&format!("{numbers}#define FAR_CONSTANTS\n"))?;
        }
        if agents == 0 {
            let needed = room[1];
            return Err(failed(format!("it needs {needed} bytes of shared memory an agent, the device has {most}")));
        }
        let kernel = module.load_function("tick").map_err(failed)?;
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK;
        let threads = u32::try_from(kernel.get_attribute(attribute).map_err(failed)?).map_err(failed)?;
        let agents = agents.min(threads / THREADS as u32);
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        kernel.set_attribute(attribute, (room[0] + agents * room[1]) as i32).map_err(failed)?;
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let multiprocessors = u32::try_from(context.attribute(attribute).map_err(failed)?).map_err(failed)?;
        Ok(Self { context, kernel, room, agents, multiprocessors, lanes, is_unsettled: false, timed: vec![] })
    }

    /// Waits until what is common is as it was told to be.
    fn settle(&mut self) -> Result<()> {
        self.lanes[0].wait()?;
        self.is_unsettled = false;
        Ok(())
    }
}

/// No memory is given back while the device may still use it.
impl Drop for Cuda {
    fn drop(&mut self) {
        self.drain();
    }
}

impl Lane {
    fn new(context: &Arc<CudaContext>) -> Result<Self> {
        let stream = context.new_stream().map_err(failed)?;
        let buffers = each(|| stream.alloc_zeros::<u32>(1).map_err(failed))?;
        Ok(Self { buffers, inputs: each(|| pinned(context, 1))?, received: pinned(context, 1)?, stream })
    }

    /// Waits until the device has done all that it was told to here.
    fn wait(&self) -> Result<()> {
        self.stream.synchronize().map_err(failed)
    }

    /// The host's side of what is received, made at least so long.
    fn received(&mut self, words: usize) -> Result<&mut [u32]> {
        if words > self.received.len() {
            self.wait()?;
            self.received = pinned(self.stream.context(), words.next_power_of_two())?;
        }
        Ok(&mut self.received.as_mut_slice().map_err(failed)?[..words])
    }

    /// Tells the device to send the first words of a buffer back.
    fn send_back(&mut self, buffer: Buffer, words: usize) -> Result<()> {
        if words == 0 {
            return Ok(());
        }
        self.received(words)?;
        let there = self.buffers[buffer as usize].slice(..words);
        let here = &mut self.received.as_mut_slice().map_err(failed)?[..words];
        self.stream.memcpy_dtoh(&there, here).map_err(failed)
    }
}

/// Bytes of shared memory that a block of the kernel needs, and each agent of the block.
fn room(stream: &Arc<CudaStream>, module: &Arc<CudaModule>) -> Result<[u32; 2]> {
    let measure = module.load_function("measure_room").map_err(failed)?;
    let mut bytes = stream.alloc_zeros::<u32>(2).map_err(failed)?;
    let shape = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    let mut launch = stream.launch_builder(&measure);
    launch.arg(&mut bytes);
    // SAFETY: the kernel writes two words, and there are two.
    unsafe { launch.launch(shape) }.map_err(failed)?;
    let mut found = [0; 2];
    stream.memcpy_dtoh(&bytes, &mut found).map_err(failed)?;
    stream.synchronize().map_err(failed)?;
    Ok(found)
}

/// What was compiled before, by its text and architecture: every worker of a runtime needs the same.
static COMPILED: Mutex<Vec<(String, Ptx)>> = Mutex::new(vec![]);

/// The kernel for one configuration and one architecture.
fn compile(numbers: &str, architecture: String) -> Result<Ptx> {
    let source = [architecture.as_str(), numbers].join("\n");
    // A panic elsewhere leaves the list as it was.
    let mut known = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, compiled)) = known.iter().find(|(text, _)| *text == source) {
        return Ok(compiled.clone());
    }
    let text = [numbers, include_str!("prelude.cu"), include_str!("tick.cu")].concat();
    let options = CompileOptions { options: vec![architecture], ..Default::default() };
    let compiled = compile_ptx_with_opts(text, options).map_err(|error| match error {
        CompileError::CompileError { log, .. } => failed(log.to_string_lossy()),
        other => failed(other),
    })?;
    known.push((source, compiled.clone()));
    Ok(compiled)
}

impl Processor for Cuda {
    fn reserve(&mut self, number: usize, buffer: Buffer, words: usize) -> Result<()> {
        let lane = &mut self.lanes[if buffer.is_common() { 0 } else { number % LANES }];
        let own = &mut lane.buffers[buffer as usize];
        if words <= own.len() {
            return Ok(());
        }
        if buffer.is_common() {
            let mut longer = lane.stream.alloc_zeros::<u32>(words).map_err(failed)?;
            lane.stream.memcpy_dtod(own, &mut longer.slice_mut(..own.len())).map_err(failed)?;
            *own = longer;
            self.is_unsettled = true;
            return Ok(());
        }
        // What is written anew at every tick grows seldom, and both sides of it together, or neither.
        let words = words.next_power_of_two();
        let longer = lane.stream.alloc_zeros::<u32>(words).map_err(failed)?;
        if let Some(input) = lane.inputs.get_mut(buffer as usize) {
            let there = pinned(&self.context, words)?;
            // The device may still read what is there.
            lane.stream.synchronize().map_err(failed)?;
            *input = there;
        }
        *own = longer;
        Ok(())
    }

    fn write(&mut self, buffer: Buffer, at: usize, words: &[u32]) -> Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        let Lane { buffers, stream, .. } = &mut self.lanes[0];
        let mut there = buffers[buffer as usize].slice_mut(at..at + words.len());
        stream.memcpy_htod(words, &mut there).map_err(failed)?;
        // The words may be gone when the caller goes on.
        self.settle()
    }

    fn clear(&mut self, buffer: Buffer, at: usize, words: usize) -> Result<()> {
        if words == 0 {
            return Ok(());
        }
        self.is_unsettled = true;
        let Lane { buffers, stream, .. } = &mut self.lanes[0];
        let mut there = buffers[buffer as usize].slice_mut(at..at + words);
        stream.memset_zeros(&mut there).map_err(failed)
    }

    fn read(&mut self, buffer: Buffer, at: usize, words: &mut [u32]) -> Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        let Lane { buffers, stream, .. } = &mut self.lanes[0];
        let there = buffers[buffer as usize].slice(at..at + words.len());
        stream.memcpy_dtoh(&there, words).map_err(failed)?;
        self.settle()
    }

    fn exchange(&mut self, number: usize, words: usize) -> Result<(&[u32], [&mut [u32]; INPUTS])> {
        let lane = &mut self.lanes[number % LANES];
        // What was sent last has arrived: nothing reads or writes this memory now.
        lane.wait()?;
        let answers = &lane.received.as_slice().map_err(failed)?[..words];
        let [a, b, c, d, e, f] = lane.inputs.each_mut().map(PinnedHostSlice::as_mut_slice);
        let all = || Ok::<_, candle_core::cuda_backend::cudarc::driver::DriverError>([a?, b?, c?, d?, e?, f?]);
        Ok((answers, all().map_err(failed)?))
    }

    fn launch(&mut self, number: usize, launch: &Launch) -> Result<()> {
        if self.is_unsettled {
            self.settle()?;
        }
        let event = || self.context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(failed);
        while self.timed.len() <= number {
            self.timed.push([event()?, event()?]);
        }
        let (first, others) = self.lanes.split_at_mut(1);
        let (lane, common) = match number % LANES {
            0 => (&mut first[0], None),
            number => (&mut others[number - 1], Some(&first[0])),
        };
        // Once the kernel runs, nothing is left that lack of memory could refuse.
        lane.received(launch.answers)?;
        for ((words, input), own) in launch.inputs.into_iter().zip(&lane.inputs).zip(&mut lane.buffers) {
            if words > 0 {
                let here = &input.as_slice().map_err(failed)?[..words];
                lane.stream.memcpy_htod(here, &mut own.slice_mut(..words)).map_err(failed)?;
            }
        }
        lane.stream.memset_zeros(&mut lane.buffers[Buffer::Counter as usize]).map_err(failed)?;
        // Few turns are spread over all multiprocessors; of many, each has as many at once as it can.
        let turns = launch.turns as u32;
        let agents = turns.div_ceil(self.multiprocessors).clamp(1, self.agents);
        let shape = LaunchConfig {
            grid_dim: (turns.div_ceil(agents).min(self.multiprocessors), 1, 1),
            block_dim: (THREADS as u32, agents, 1),
            shared_mem_bytes: self.room[0] + agents * self.room[1],
        };
        let [before, after] = &self.timed[number];
        before.record(&lane.stream).map_err(failed)?;
        let mut arguments = lane.stream.launch_builder(&self.kernel);
        for (at, own) in lane.buffers.iter().enumerate() {
            arguments.arg(common.filter(|_| COMMON.contains(&at)).map_or(own, |common| &common.buffers[at]));
        }
        arguments.arg(&turns);
        // SAFETY: the arguments are the kernel's, in its order and of its types (words of four bytes); `DeviceArena`
        // has made every buffer as long as the turns need, and a turn names only slots that it has made room for, each
        // in one launch at a time.
        unsafe { arguments.launch(shape) }.map_err(failed)?;
        after.record(&lane.stream).map_err(failed)?;
        lane.send_back(Buffer::Answers, launch.answers)
    }

    fn receive(&mut self, number: usize, buffer: Buffer, words: usize) -> Result<&[u32]> {
        let lane = &mut self.lanes[number % LANES];
        lane.send_back(buffer, words)?;
        lane.wait()?;
        lane.received(words).map(|received| &*received)
    }

    fn drain(&mut self) {
        for lane in &self.lanes {
            // What went wrong was told where it did.
            let _ = lane.wait();
        }
    }

    fn kernel_time(&self, launches: usize) -> Result<Option<Duration>> {
        let timed = &self.timed[..launches];
        let mut stretches = vec![];
        for ends in timed {
            let [from, to] = ends.each_ref().map(|end| timed[0][0].elapsed_ms(end).map(f64::from).map_err(failed));
            stretches.push((from?, to?));
        }
        stretches.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut until, mut busy) = (f64::NEG_INFINITY, 0.0);
        for (from, to) in stretches {
            busy += (to - from.max(until)).max(0.0);
            until = until.max(to);
        }
        Ok(Some(Duration::from_secs_f64(busy * 1e-3)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::channels::{ChannelGroup, Scale};
    use crate::config::MemoryConfig;
    use crate::device::numbers::numbers;
    use crate::plan::MemoryPlan;

    /// The kernel is one that NVRTC takes, for every kind of policy; no device is needed for that, only NVRTC.
    #[test]
    fn the_kernel_compiles() {
        let groups = || {
            vec![
                ChannelGroup::new("kind", &["a", "b"], "", Scale::Given(0.5)),
                ChannelGroup::new("place", &["x", "y", "z"], "m", Scale::Learnt),
            ]
        };
        let presets = [MemoryConfig::events, MemoryConfig::trajectory, MemoryConfig::lifetime, MemoryConfig::paper];
        for config in presets.map(|preset| preset(groups())) {
            let plan = MemoryPlan::new(&config).unwrap();
            let numbers = numbers(&plan, THREADS).unwrap();
            let compiled = compile(&numbers, "--gpu-architecture=compute_80".into()).unwrap();
            assert!(compiled.to_src().contains("tick"));
        }
    }
}
