//! Many agents for as long as asked, at full speed, while everything happens that happens in a long game: agents come
//! and go, memories are reset, the workers are kept busy with other things, and now and then one fails.
//!
//! `cargo bench -p infformer --bench soak -- --minutes 20`. Every observation is accounted for at the end; the exit
//! status says whether all were, and whether memory grew.
#![allow(clippy::unwrap_used)]

mod scenes;

use clap::Parser;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use infformer::{
    AgentId, AnswerDetail, Device, Error, ObservationQueue, Query, Runtime, RuntimeConfig, RuntimeDiagnostics,
    RuntimeMode, ViewRequest,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use scenes::{CAPACITY, Policy, Walk, config, query};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Runs many agents for a long time and reports what became of memory, observations and latency.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// How many agents at a time.
    #[arg(long, default_value_t = 10_000)]
    agents: usize,
    /// Worker threads.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// What cargo bench passes.
    #[arg(long, hide = true)]
    bench: bool,
}

/// d
const WIDTH: usize = 32;
/// A tick begins at the latest after this, whatever the workers do: then they lag.
const FRAME: Duration = Duration::from_micros(16_667);
/// Agents despawned and spawned a tick, and reset a tick.
const COMING_AND_GOING: usize = 5;
/// Ticks from one long occupation of the workers to the next: looks at so many agents at once.
const BUSY_EVERY: u64 = 1_000;
const LOOKS: usize = 500;
const COLUMNS: usize = 1_024;
/// Ticks from one failure of a worker to the next.
const FAILURE_EVERY: u64 = 5_000;
/// Ticks whose beginning is known: more than an answer is ever late.
const KNOWN_TICKS: usize = 4_096;
/// Observations that wait in an agent's queue at most.
const WAITING: usize = 32;
/// Queues in turn for an agent: its own, and those of the batches that are being filled, worked on and read.
const QUEUES: usize = 4;
/// Shorter runs are still warming up: their growth is told, not judged.
const JUDGED_MINUTES: f64 = 10.0;
/// What a latency is counted up to.
const MOST_MICROSECONDS: u64 = 600_000_000;
/// Memory may not grow by more than this after the first tenth: the allocator's own unrest.
const ALLOWED_GROWTH: f64 = 0.01;

/// One agent, and what became of what it saw.
struct Agent {
    id: AgentId,
    queue: ObservationQueue,
    /// Observations pushed since its memory began.
    pushed: u64,
    /// What its queue had coalesced by then.
    coalesced_before: u64,
}

/// Observations, by what became of them.
#[derive(Default)]
struct Account {
    pushed: u64,
    remembered: u64,
    coalesced: u64,
    waiting: u64,
    /// Forgotten because the agent went or was reset.
    forgotten: u64,
    /// Of what was pushed, agent by agent: nowhere to be found.
    missing: u64,
    /// Remembered, but never pushed.
    surplus: u64,
}

impl Agent {
    fn new(runtime: &mut Runtime) -> Self {
        Self { id: runtime.spawn(), queue: runtime.observation_queue(), pushed: 0, coalesced_before: 0 }
    }

    fn coalesced(&self) -> u64 {
        self.queue.coalesced() - self.coalesced_before
    }

    /// Its memory ends: nothing of it is accounted for one by one.
    fn forget(&mut self, account: &mut Account) {
        account.forgotten += self.pushed;
        self.queue.reset();
        (self.pushed, self.coalesced_before) = (0, self.queue.coalesced());
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The workers' failures are on purpose, and caught: their words would fill the screen.
    std::panic::set_hook(Box::new(|_| {}));
    match soak(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the soak failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn soak(arguments: &Arguments) -> Result<bool, Error> {
    let runtime = RuntimeConfig {
        mode: RuntimeMode::FreeRunning,
        workers: arguments.workers,
        observations: WAITING,
        ..RuntimeConfig::default()
    };
    let config = config(Policy::Adaptive, CAPACITY, WIDTH);
    let mut runtime = Runtime::new(&config, runtime, &Device::Cpu)?;
    let mut agents: Vec<Agent> = (0..arguments.agents).map(|_| Agent::new(&mut runtime)).collect();
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut walks: Vec<Walk> = (0..64).map(|seed| Walk::new(seed, WIDTH)).collect();
    let mut account = Account::default();
    let [mut latencies, mut frames] = [(); 2].map(|()| Histogram::new_with_max(MOST_MICROSECONDS, 3).unwrap());
    let mut looked_at: Vec<AgentId> = vec![];
    let mut begun_at = vec![Instant::now(); KNOWN_TICKS];
    let (mut failures, mut memory, mut peak_late) = (0, vec![], 0);

    let whole = Duration::from_secs_f64(arguments.minutes * 60.0);
    let bar = ProgressBar::new(whole.as_secs()).with_style(
        ProgressStyle::with_template("{elapsed_precise} {bar:40} {msg}").unwrap_or(ProgressStyle::default_bar()),
    );
    let begun = Instant::now();
    let mut tick = 0_u64;
    while begun.elapsed() < whole {
        let frame = Instant::now();
        receive(&mut runtime, tick, &begun_at, &mut latencies, &mut peak_late);
        failures += runtime.take_failures().count();
        if runtime.has_failed() {
            runtime.restart()?;
        }
        for _ in 0..COMING_AND_GOING {
            let leaves = random.random_range(0..agents.len());
            agents[leaves].forget(&mut account);
            runtime.remove(agents[leaves].id)?;
            agents[leaves] = Agent::new(&mut runtime);
            let resets = random.random_range(0..agents.len());
            agents[resets].forget(&mut account);
            runtime.reset(agents[resets].id)?;
        }
        looked_at.retain(|agent| runtime.take_view(*agent).is_none());
        if tick % BUSY_EVERY == BUSY_EVERY - 1 {
            looked_at.clear();
            for _ in 0..LOOKS {
                let agent = agents[random.random_range(0..agents.len())].id;
                runtime.request_view(agent, ViewRequest { tick, columns: COLUMNS, query: None })?;
                looked_at.push(agent);
            }
        }
        if tick % FAILURE_EVERY == FAILURE_EVERY - 1 {
            runtime.inject_failure(agents[random.random_range(0..agents.len())].id)?;
        }
        walks.iter_mut().for_each(|walk| _ = walk.step());
        // The worst comes first: queues that are full, as after a long lag. They keep the room that it took, so that
        // whatever grows afterwards is a leak.
        let sightings = if tick < QUEUES as u64 { WAITING } else { 1 };
        for (at, agent) in agents.iter_mut().enumerate() {
            for _ in 0..sightings {
                agent.queue.push(tick, walks[at % walks.len()].values())?;
                agent.pushed += 1;
                account.pushed += 1;
            }
            let queries: [Query; 1] = [query(tick + at as u64, AnswerDetail::default())];
            // Deferred: the observation waits in the queue, for the next tick.
            runtime.submit(agent.id, tick, &mut agent.queue, &queries)?;
        }
        begun_at[tick as usize % KNOWN_TICKS] = frame;
        runtime.flush();
        frames.saturating_record(frame.elapsed().as_micros() as u64);
        tick += 1;
        // Full speed: the next tick begins when the workers have room for it.
        while runtime.diagnostics().queue_depth >= arguments.workers * runtime.config().batches
            && frame.elapsed() < FRAME
        {
            std::thread::sleep(Duration::from_micros(100));
            receive(&mut runtime, tick, &begun_at, &mut latencies, &mut peak_late);
        }
        if begun.elapsed() > whole * (memory.len() as u32 + 1) / 10 {
            memory.push(resident());
        }
        if tick.is_multiple_of(100) {
            bar.set_position(begun.elapsed().as_secs());
            bar.set_message(format!("tick {tick}, {} late", runtime.diagnostics().late_replies));
        }
    }
    bar.finish_and_clear();
    memory.push(resident());
    let ticks_a_second = tick as f64 / begun.elapsed().as_secs_f64();
    settle(&mut runtime, &mut agents, tick, &mut account)?;
    let diagnostics = *runtime.diagnostics();
    let lasted = begun.elapsed().as_secs_f64() / 60.0;
    println!("{} agents, {lasted:.1} minutes, {tick} ticks ({ticks_a_second:.1} a second)", arguments.agents);
    let in_milliseconds = |histogram: &Histogram<u64>| {
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1e3;
        format!("{:.2} / {:.2} / {:.2} / {:.2}", at(0.5), at(0.99), at(0.999), histogram.max() as f64 / 1e3)
    };
    println!("caller's frame, ms at 50 / 99 / 99.9 % / most     {}", in_milliseconds(&frames));
    println!("answer after the frame that took its question, ms {}", in_milliseconds(&latencies));
    println!("latest answer: {peak_late} ticks late; failures injected and survived: {failures}");
    Ok(report_account(&account, &diagnostics) & report_memory(&memory, arguments.minutes))
}

fn receive(
    runtime: &mut Runtime,
    tick: u64,
    begun_at: &[Instant],
    latencies: &mut Histogram<u64>,
    peak_late: &mut u64,
) {
    let now = Instant::now();
    runtime.receive(|step, _| {
        let waited = now - begun_at[step.tick as usize % KNOWN_TICKS];
        latencies.saturating_record(waited.as_micros() as u64);
        *peak_late = (*peak_late).max(tick.saturating_sub(step.tick + 1));
    });
}

/// Lets everything arrive, then asks every agent how much it remembers.
fn settle(runtime: &mut Runtime, agents: &mut [Agent], tick: u64, account: &mut Account) -> Result<(), Error> {
    let drain = |runtime: &mut Runtime| {
        while runtime.diagnostics().queue_depth > 0 {
            runtime.receive(|_, _| {});
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    drain(runtime);
    if runtime.has_failed() {
        runtime.restart()?;
    }
    // What still waits goes too: it is not lost.
    for agent in agents.iter_mut() {
        runtime.submit(agent.id, tick, &mut agent.queue, &[])?;
    }
    runtime.flush();
    drain(runtime);
    for agent in agents.iter() {
        runtime.request_view(agent.id, ViewRequest { tick, columns: 1, query: None })?;
    }
    runtime.flush();
    drain(runtime);
    for agent in agents.iter() {
        let Some(view) = runtime.take_view(agent.id) else { continue };
        let (remembered, waiting) = (view?.observations, agent.queue.len() as u64);
        account.remembered += remembered;
        account.coalesced += agent.coalesced();
        account.waiting += waiting;
        let found = remembered + agent.coalesced() + waiting;
        account.missing += agent.pushed.saturating_sub(found);
        account.surplus += found.saturating_sub(agent.pushed);
    }
    Ok(())
}

/// Whether every observation is accounted for.
fn report_account(account: &Account, diagnostics: &RuntimeDiagnostics) -> bool {
    let Account { pushed, remembered, coalesced, waiting, forgotten, missing, surplus } = account;
    let lost = diagnostics.lost_observations;
    println!(
        "observations: {pushed} pushed = {remembered} remembered + {coalesced} coalesced + {waiting} waiting + {forgotten} \
         of agents that went or were reset + {missing} missing, at most {lost} of failed steps, all counted"
    );
    // Some of those that a failure lost were forgotten with their agents later: they are not missing. Agents are held to
    // their own: what one has too much does not stand for what another lacks.
    let uncounted = missing.saturating_sub(lost) + surplus;
    let unanswered = (pushed + surplus).abs_diff(remembered + coalesced + waiting + forgotten + missing);
    println!("uncounted: {uncounted}, and {unanswered} of agents that did not answer");
    uncounted + unanswered == 0
}

/// Whether memory stayed as it was, after the first tenth of the time.
fn report_memory(memory: &[Option<f64>], minutes: f64) -> bool {
    let told: Vec<f64> = memory.iter().flatten().copied().collect();
    let (Some(early), Some(late)) = (told.first(), told.last()) else {
        println!("resident memory is not told on this system");
        return true;
    };
    let growth = late / early - 1.0;
    println!("resident memory in MiB, tenth by tenth: {told:.1?} ({:+.2} %)", growth * 100.0);
    minutes < JUDGED_MINUTES || growth <= ALLOWED_GROWTH
}

/// Resident memory in MiB.
fn resident() -> Option<f64> {
    memory_stats::memory_stats().map(|stats| stats.physical_mem as f64 / f64::from(1 << 20))
}
