//! How many agents a device carries: a million memories on one GPU, or as many as asked on the CPU.
//!
//! `cargo bench -p infformer --features cuda --bench crowd`. First the device's answers beside the CPU's, then ticks in
//! which every agent sees and asks, for more and more agents: the kernel's time, its share of what the device's memory
//! allows, and the whole tick with the way there and back. Without a GPU it says so, and measures the CPU.
#![allow(clippy::unwrap_used)]

mod scenes;

use clap::{Parser, ValueEnum};
use infformer::candle_core::{DType, Tensor};
use infformer::{AgentId, CrowdAnswers, CrowdStep, Device, Engine, MemoryConfig};
use scenes::{ASKED, CAPACITY, CHUNK, Policy, SHORT_TERM, Seen, config, target};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Measures how many agents a device carries in one frame.
#[derive(Debug, Parser)]
struct Arguments {
    /// Agents, separated by commas.
    #[arg(long, value_delimiter = ',')]
    agents: Vec<usize>,
    /// Ticks that are measured.
    #[arg(long, default_value_t = 64)]
    ticks: u64,
    /// Where the memories are; the GPU if there is one.
    #[arg(long)]
    device: Option<Where>,
    /// What cargo bench passes.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Where {
    Cpu,
    Cuda,
}

/// d
const WIDTH: usize = 32;
/// A frame of a 60 Hz game, in seconds.
const FRAME: f64 = 1.0 / 60.0;
/// Answers of the device and of the CPU may differ by so much, relative to 1 + the value: arithmetic is single on the
/// device, and an error of the squared distance is multiplied by the sharpness.
const TOLERANCE: f32 = 2e-4;
/// One life of a hundred may go another way under `Adaptive`, where two merges cost nearly the same.
const STRANGE: f64 = 0.01;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let gpu = Device::new_cuda(0);
    let device = match (arguments.device, gpu) {
        (Some(Where::Cpu), _) => Device::Cpu,
        (_, Ok(device)) => device,
        (None, Err(error)) => {
            println!("no GPU ({}): the CPU is measured", error.to_string().lines().next().unwrap_or_default());
            Device::Cpu
        }
        (Some(Where::Cuda), Err(error)) => {
            eprintln!("no CUDA device: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut sizes = arguments.agents;
    if sizes.is_empty() {
        sizes = if device.is_cpu() { vec![1_000, 10_000] } else { vec![1_000, 10_000, 100_000, 1_000_000] };
    }
    let mut correct = true;
    if !device.is_cpu() {
        for policy in [Policy::Linear, Policy::Adaptive] {
            correct &= is_correct(policy, &device);
        }
    }
    let bandwidth = bandwidth(&device);
    println!("memory bandwidth, a copy, read and written: {:.0} GB/s", bandwidth * 1e-9);
    println!("{CAPACITY} functions or blocks, {WIDTH} channels; every agent sees and asks at every tick");
    println!("policy     agents      kernel ms   of bandwidth   whole tick ms   frames of 60 Hz");
    for policy in [Policy::Linear, Policy::Adaptive] {
        for &agents in &sizes {
            let config = config(policy, CAPACITY, WIDTH);
            let Times { kernel, whole } = measure(&config, &device, agents, arguments.ticks);
            let work = kernel.unwrap_or(whole);
            let share = bytes_a_tick(policy) * agents as f64 / work / bandwidth;
            let kernel = kernel.map_or("-".into(), |kernel| format!("{:.3}", kernel * 1e3));
            println!(
                "{:10} {agents:<11} {kernel:<11} {:<14} {:<15.3} {:.2}",
                format!("{policy:?}"),
                format!("{:.0} %", share * 100.0),
                whole * 1e3,
                whole / FRAME
            );
        }
    }
    if correct { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Bytes that a tick cannot do without, an agent: the signal, read; the ring's rows, read, and one written; statistics,
/// both; the answer, written. A linear signal is read and written once more every L ticks; blocks have their lengths,
/// order and losses, both ways, and touch two rows.
fn bytes_a_tick(policy: Policy) -> f64 {
    let (row, signal) = (4 * (WIDTH + 1), 4 * (WIDTH + 1) * CAPACITY);
    let common = 4 * 4 * WIDTH + row + 4 * (WIDTH + 3) + 12 * 4 + row;
    (common
        + match policy {
            Policy::Linear => signal + row * (SHORT_TERM + CHUNK / 2) + (2 * signal + row * CHUNK) / CHUNK,
            Policy::Adaptive => signal + row * SHORT_TERM + 2 * 3 * 4 * 2 * (CAPACITY + 1) + 4 * row,
        }) as f64
}

/// Bytes a second in a copy within the device's memory, each read and each written counted.
fn bandwidth(device: &Device) -> f64 {
    let floats = if device.is_cpu() { 1 << 24 } else { 1 << 28 };
    let from = Tensor::zeros(floats, DType::F32, device).unwrap();
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        let begun = Instant::now();
        let copy = from.copy().unwrap();
        device.synchronize().unwrap();
        best = best.min(begun.elapsed().as_secs_f64());
        drop(copy);
    }
    8.0 * floats as f64 / best
}

/// Agents that see and ask in flat arrays.
struct Herd {
    engine: Engine,
    agents: Vec<AgentId>,
    seen: Seen,
    observations: Vec<f32>,
    targets: Vec<f32>,
    answers: CrowdAnswers,
    tick: u64,
}

impl Herd {
    fn new(config: &MemoryConfig, device: &Device, count: usize) -> Self {
        let mut engine = Engine::new(config, device).unwrap();
        let agents: Vec<AgentId> = (0..count).map(|_| engine.spawn().unwrap()).collect();
        let targets = (0..count).map(|agent| target(agent as u64)).collect();
        let (seen, observations) = (Seen::new(count, WIDTH), vec![]);
        Self { engine, agents, seen, observations, targets, answers: CrowdAnswers::default(), tick: 0 }
    }

    /// One tick. Agents begin over L ticks, so that their chunks fill at different ones, as in a game.
    fn step(&mut self) -> Duration {
        let there = if self.tick < CHUNK as u64 {
            self.agents.len() * (self.tick as usize + 1) / CHUNK
        } else {
            self.agents.len()
        };
        let there = there.max(1);
        self.seen.step();
        self.observations.clear();
        (0..there).for_each(|agent| self.observations.extend_from_slice(self.seen.get(agent)));
        let step = CrowdStep {
            agents: &self.agents[..there],
            tick: self.tick,
            observations: &self.observations,
            channels: &[ASKED],
            targets: &self.targets[..there],
        };
        let begun = Instant::now();
        self.engine.step_crowd(&step, &mut self.answers).unwrap();
        self.tick += 1;
        begun.elapsed()
    }
}

/// The device's answers beside the CPU's, tick by tick.
fn is_correct(policy: Policy, device: &Device) -> bool {
    const AGENTS: usize = 200;
    let config = config(policy, CAPACITY, WIDTH);
    let mut herds = [Herd::new(&config, &Device::Cpu, AGENTS), Herd::new(&config, device, AGENTS)];
    let mut most = [0.0_f32; AGENTS];
    let ticks = 600;
    for _ in 0..ticks {
        herds.iter_mut().for_each(|herd| _ = herd.step());
        let [expected, found] = herds.each_ref().map(|herd| &herd.answers);
        for (agent, most) in most.iter_mut().enumerate().take(expected.len()) {
            let [expected, found] = [expected, found].map(|answers| answers.get(agent).unwrap());
            let pairs = [(found.age, expected.age), (found.confidence, expected.confidence)];
            let values = found.value.iter().copied().zip(expected.value.iter().copied());
            for (found, expected) in pairs.into_iter().chain(values) {
                let off = (found - expected).abs() / (1.0 + expected.abs());
                *most = if off.is_nan() { f32::INFINITY } else { most.max(off) };
            }
        }
    }
    let strange = most.iter().filter(|most| **most > TOLERANCE).count();
    let largest = most.iter().filter(|most| **most <= TOLERANCE).fold(0.0, |largest: f32, most| largest.max(*most));
    let allowed = if policy == Policy::Adaptive { STRANGE * AGENTS as f64 } else { 0.0 };
    let correct = strange as f64 <= allowed;
    println!(
        "{policy:?}: {AGENTS} agents, {ticks} ticks beside the CPU: largest difference {largest:.1e} (tolerance \
         {TOLERANCE:.0e}), {strange} lives went another way ({allowed} allowed): {}",
        if correct { "correct" } else { "WRONG" }
    );
    correct
}

struct Times {
    /// Seconds of the kernel, where the device says.
    kernel: Option<f64>,
    whole: f64,
}

/// Means over the ticks, whole rounds of L of them, once the agents have lived for a while.
fn measure(config: &MemoryConfig, device: &Device, agents: usize, ticks: u64) -> Times {
    let mut herd = Herd::new(config, device, agents);
    (0..2 * (CAPACITY + SHORT_TERM) as u64).for_each(|_| _ = herd.step());
    let (mut kernels, mut wholes) = (vec![], vec![]);
    for _ in 0..ticks {
        wholes.push(herd.step().as_secs_f64());
        kernels.extend(herd.answers.kernel_time().map(|time| time.as_secs_f64()));
    }
    let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
    let kernel = (!kernels.is_empty()).then(|| mean(&kernels));
    Times { kernel, whole: mean(&wholes) }
}
