//! The kernel on a CUDA device. It is compiled (by NVRTC) for one configuration when an engine is made, and runs on a
//! stream of its own: candle's is another one on each thread, and engines move from thread to thread.
//!
//! The only module with `unsafe`: a launch hands raw addresses to the kernel, and pinned memory begins uninitialised.
#![allow(unsafe_code)]

use super::processor::{BUFFERS, Buffer, INPUTS, Processor};
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

/// Threads of a block. A block has one agent at a time, and most loops are as long as the signal has functions.
pub(super) const THREADS: usize = 64;

pub(super) struct Cuda {
    stream: Arc<CudaStream>,
    kernel: CudaFunction,
    /// Bytes of shared memory that it needs.
    room: u32,
    buffers: [CudaSlice<u32>; BUFFERS],
    /// The host's side of the inputs, and of what is received: memory that the device reads and writes by itself.
    inputs: [PinnedHostSlice<u32>; INPUTS],
    received: PinnedHostSlice<u32>,
    /// Before and after the last launch.
    timed: [CudaEvent; 2],
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Cuda").field("device", &self.stream.context().ordinal()).finish_non_exhaustive()
    }
}

fn failed(error: impl Display) -> Error {
    Error::Kernel { message: error.to_string() }
}

/// Host memory of at least so many words, all zero.
fn pinned(stream: &CudaStream, words: usize) -> Result<PinnedHostSlice<u32>> {
    // SAFETY: it is filled before anything reads it.
    let mut memory = unsafe { stream.context().alloc_pinned_with_flags::<u32>(words, 0) }.map_err(failed)?;
    memory.as_mut_slice().map_err(failed)?.fill(0);
    Ok(memory)
}

/// As many of something as asked, or the first error.
fn each<T: fmt::Debug, const COUNT: usize>(make: impl Fn() -> Result<T>) -> Result<[T; COUNT]> {
    let made: Vec<T> = (0..COUNT).map(|_| make()).collect::<Result<_>>()?;
    made.try_into().map_err(|made: Vec<T>| failed(format!("{} of {COUNT} buffers", made.len())))
}

impl Cuda {
    /// Compiles the kernel for the configuration that `numbers` are. Errors: no NVRTC on this machine, or a kernel that
    /// the device cannot hold.
    pub(super) fn new(device: &CudaDevice, numbers: &str) -> Result<Self> {
        let context = CudaContext::new(device.cuda_stream().context().ordinal()).map_err(failed)?;
        // SAFETY: all work of this context object is on one stream, in the order in which it was asked for.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(failed)?;
        let (major, minor) = context.compute_capability().map_err(failed)?;
        let compiled = compile(numbers, format!("--gpu-architecture=compute_{major}{minor}"))?;
        let module = context.load_module(compiled).map_err(failed)?;
        let kernel = module.load_function("tick").map_err(failed)?;
        let buffers = each(|| stream.alloc_zeros::<u32>(1).map_err(failed))?;
        let room = room(&stream, &module)?;
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let most = context.attribute(attribute).map_err(failed)?;
        if i64::from(room) > i64::from(most) {
            return Err(failed(format!("it needs {room} bytes of shared memory, the device has {most}")));
        }
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        kernel.set_attribute(attribute, room as i32).map_err(failed)?;
        let inputs = each(|| pinned(&stream, 1))?;
        let received = pinned(&stream, 1)?;
        let event = || context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(failed);
        let timed = [event()?, event()?];
        Ok(Self { kernel, room, buffers, inputs, received, timed, stream })
    }

    /// Waits until the device has done all that it was told to.
    fn wait(&self) -> Result<()> {
        self.stream.synchronize().map_err(failed)
    }
}

/// Bytes of shared memory that the kernel needs.
fn room(stream: &Arc<CudaStream>, module: &Arc<CudaModule>) -> Result<u32> {
    let measure = module.load_function("measure_room").map_err(failed)?;
    let mut bytes = stream.alloc_zeros::<u32>(1).map_err(failed)?;
    let shape = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    let mut launch = stream.launch_builder(&measure);
    launch.arg(&mut bytes);
    // SAFETY: the kernel writes one word, and there is one.
    unsafe { launch.launch(shape) }.map_err(failed)?;
    let mut found = [0];
    stream.memcpy_dtoh(&bytes, &mut found).map_err(failed)?;
    stream.synchronize().map_err(failed)?;
    Ok(found[0])
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
    fn reserve(&mut self, buffer: Buffer, words: usize) -> Result<()> {
        let had = self.buffers[buffer as usize].len();
        if words <= had {
            return Ok(());
        }
        if matches!(buffer, Buffer::States | Buffer::Places | Buffer::Maps) {
            let mut longer = self.stream.alloc_zeros::<u32>(words).map_err(failed)?;
            self.stream.memcpy_dtod(&self.buffers[buffer as usize], &mut longer.slice_mut(..had)).map_err(failed)?;
            self.buffers[buffer as usize] = longer;
            return Ok(());
        }
        // What is written anew at every tick grows seldom, and both sides of it together.
        let words = words.next_power_of_two();
        let longer = self.stream.alloc_zeros::<u32>(words).map_err(failed)?;
        if let Some(input) = self.inputs.get_mut(buffer as usize) {
            let there = pinned(&self.stream, words)?;
            // The device may still read what is there.
            self.stream.synchronize().map_err(failed)?;
            *input = there;
        }
        self.buffers[buffer as usize] = longer;
        Ok(())
    }

    fn write(&mut self, buffer: Buffer, at: usize, words: &[u32]) -> Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        let mut there = self.buffers[buffer as usize].slice_mut(at..at + words.len());
        self.stream.memcpy_htod(words, &mut there).map_err(failed)?;
        // The words may be gone when the caller goes on.
        self.wait()
    }

    fn clear(&mut self, buffer: Buffer, at: usize, words: usize) -> Result<()> {
        if words == 0 {
            return Ok(());
        }
        let mut there = self.buffers[buffer as usize].slice_mut(at..at + words);
        self.stream.memset_zeros(&mut there).map_err(failed)
    }

    fn read(&mut self, buffer: Buffer, at: usize, words: &mut [u32]) -> Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        let there = self.buffers[buffer as usize].slice(at..at + words.len());
        self.stream.memcpy_dtoh(&there, words).map_err(failed)?;
        self.wait()
    }

    fn inputs(&mut self) -> Result<[&mut [u32]; INPUTS]> {
        // What was sent last has arrived: nothing reads this memory now.
        self.stream.synchronize().map_err(failed)?;
        let [a, b, c, d, e, f] = self.inputs.each_mut().map(PinnedHostSlice::as_mut_slice);
        let all = || Ok::<_, candle_core::cuda_backend::cudarc::driver::DriverError>([a?, b?, c?, d?, e?, f?]);
        all().map_err(failed)
    }

    fn launch(&mut self, inputs: [usize; INPUTS], turns: usize) -> Result<()> {
        for ((words, input), own) in inputs.into_iter().zip(&self.inputs).zip(&mut self.buffers) {
            if words > 0 {
                let here = &input.as_slice().map_err(failed)?[..words];
                self.stream.memcpy_htod(here, &mut own.slice_mut(..words)).map_err(failed)?;
            }
        }
        let shape = LaunchConfig {
            grid_dim: (turns as u32, 1, 1),
            block_dim: (THREADS as u32, 1, 1),
            shared_mem_bytes: self.room,
        };
        self.timed[0].record(&self.stream).map_err(failed)?;
        let mut launch = self.stream.launch_builder(&self.kernel);
        for buffer in &mut self.buffers {
            launch.arg(buffer);
        }
        // SAFETY: the arguments are the kernel's, in its order and of its types (words of four bytes); `DeviceArena`
        // has made every buffer as long as the turns need, and a turn names only slots that it has made room for.
        unsafe { launch.launch(shape) }.map_err(failed)?;
        self.timed[1].record(&self.stream).map_err(failed)
    }

    fn receive(&mut self, buffer: Buffer, words: usize) -> Result<&[u32]> {
        if words > self.received.len() {
            self.received = pinned(&self.stream, words.next_power_of_two())?;
        }
        let received = self.received.as_mut_slice().map_err(failed)?;
        if words > 0 {
            let there = self.buffers[buffer as usize].slice(..words);
            self.stream.memcpy_dtoh(&there, &mut received[..words]).map_err(failed)?;
            self.stream.synchronize().map_err(failed)?;
        }
        Ok(&received[..words])
    }

    fn kernel_time(&self) -> Result<Option<Duration>> {
        let milliseconds = self.timed[0].elapsed_ms(&self.timed[1]).map_err(failed)?;
        Ok(Some(Duration::from_secs_f64(f64::from(milliseconds) * 1e-3)))
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
