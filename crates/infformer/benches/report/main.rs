//! What a tick costs, beside what it must cost and what others cost: one table, measured in one run.
//!
//! `cargo bench -p infformer --bench report -- [--json FILE] [--plot FILE]`
#![allow(clippy::unwrap_used)]

mod floor;
mod plot;
#[path = "../scenes/mod.rs"]
mod scenes;
mod timing;
mod window;

use clap::Parser;
use floor::{Machine, Work};
use infformer::model::{Head, HeadKind, Input, ModelConfig};
use infformer::{AgentStep, Channel, Device, MemoryConfig, ModelEngine, RuntimeMode, Scale, StatePrecision};
use scenes::{CAPACITY, CHUNK, Crowd, Game, Policy, config};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use timing::{best, percentiles};

/// Measures writing, reading and whole ticks against the machine's own peaks and against peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Numbers of agents.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1_024, 10_000])]
    agents: Vec<usize>,
    /// The longest history of the growth table, in observations.
    #[arg(long, default_value_t = 10_000_000)]
    history: u64,
    /// Python with torch (and onnxruntime), for the peers.
    #[arg(long, default_value = "python3")]
    python: String,
    /// Writes all figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes how the cost grows as an SVG.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// What cargo bench passes.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One cell of the table.
#[derive(Debug, Serialize)]
struct Row {
    what: String,
    width: usize,
    agents: usize,
    /// Of all agents together.
    microseconds: f64,
    floor_microseconds: Option<f64>,
}

/// What a peer's script prints.
#[derive(Debug, Serialize, Deserialize)]
struct Peer {
    name: String,
    unit: String,
    agents: usize,
    microseconds: f64,
}

/// Cost a tick and agent as one thing grows.
#[derive(Debug, Serialize)]
pub struct Growth {
    /// What grows.
    pub what: &'static str,
    /// Policy, then points (how much, µs a tick and agent).
    pub curves: Vec<(&'static str, Vec<(f64, f64)>)>,
}

/// One thread against two.
#[derive(Debug, Serialize)]
struct Threads {
    what: &'static str,
    agents: usize,
    times_as_fast: f64,
}

/// A game of many agents on two workers.
#[derive(Debug, Serialize)]
struct GameRow {
    what: &'static str,
    agents: usize,
    /// Milliseconds of the caller's thread a tick: the middle, and what 99 of 100 do not exceed.
    caller: (f64, f64),
    /// Milliseconds from the flush to the last reply.
    whole: (f64, f64),
}

/// What f16 costs in truth.
#[derive(Debug, Serialize)]
struct HalfError {
    policy: &'static str,
    /// Squared error of the signal against the same memory in f32, over its variance.
    relative_squared_error: f64,
    bytes_single: usize,
    bytes_half: usize,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    gflops: f64,
    copy_gigabytes: Vec<(f64, f64)>,
    rows: Vec<Row>,
    threads: Vec<Threads>,
    games: Vec<GameRow>,
    half: Vec<HalfError>,
    peers: Vec<Peer>,
    growth: Vec<Growth>,
}

const POLICIES: [(Policy, &str); 2] = [(Policy::Linear, "PowerLaw"), (Policy::Adaptive, "Adaptive")];

fn main() -> Result<(), Box<dyn Error>> {
    // candle asks for this variable at every product, opens /proc/cpuinfo where it is not set, and uses every core.
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let mut again = Command::new(std::env::current_exe()?);
        let status = again.args(std::env::args_os().skip(1)).env("RAYON_NUM_THREADS", "1").status()?;
        std::process::exit(status.code().unwrap_or(1));
    }
    let arguments = Arguments::parse();
    let mut machine = Machine::measure();
    let mut report = Report::default();
    println!(
        "{:<34} {:>4} {:>7} {:>12} {:>10} {:>10} {:>8}",
        "one thread", "d", "agents", "µs", "µs/agent", "floor", "×floor"
    );
    for &agents in &arguments.agents {
        machine.measure_again();
        memories(agents, &machine, &mut report);
        model(agents, &machine, &mut report)?;
        window(agents, &mut report)?;
    }
    machine.measure_again();
    (report.gflops, report.copy_gigabytes) = (machine.operations / 1e9, machine.copies_in_gigabytes());
    println!("\nGEMM peak {:.1} GFLOP/s; copies (bytes: GB/s) {:.1?}", report.gflops, report.copy_gigabytes);
    peers(&arguments, &mut report);
    threads(&arguments, &mut report);
    games(&arguments, &mut report);
    half(&mut report);
    growth(&arguments, &mut report);
    if let Some(path) = &arguments.plot {
        plot::draw(path, &report.growth)?;
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    Ok(())
}

fn add(report: &mut Report, what: &str, width: usize, agents: usize, seconds: f64, floor: Option<f64>) {
    let microseconds = seconds * 1e6;
    let (floor, ratio) = match floor {
        Some(floor) => (format!("{:.2}", floor * 1e6 / agents as f64), format!("{:.2}", seconds / floor)),
        None => Default::default(),
    };
    let each = microseconds / agents as f64;
    println!("{what:<34} {width:>4} {agents:>7} {microseconds:>12.2} {each:>10.3} {floor:>10} {ratio:>8}");
    let floor_microseconds = floor.parse::<f64>().ok().map(|floor| floor * agents as f64);
    report.rows.push(Row { what: what.into(), width, agents, microseconds, floor_microseconds });
}

/// Writing, reading and whole ticks of the memories that are not trained.
fn memories(agents: usize, machine: &Machine, report: &mut Report) {
    let (n, l) = (CAPACITY as f64, CHUNK as f64);
    for width in [64, 32] {
        let d = width as f64;
        let mut crowd = Crowd::new(&config(Policy::Linear, CAPACITY, width), agents, 2_000);
        crowd.ask(0);
        let write = best(&mut crowd, |crowd| crowd.observe(CHUNK, |_| true), Crowd::run);
        let read = best(&mut crowd, |crowd| crowd.ask(1), Crowd::run);
        let both = best(
            &mut crowd,
            |crowd| {
                crowd.ask(1);
                crowd.observe(CHUNK, |_| true)
            },
            Crowd::run,
        );
        let tick = steady(&mut crowd);
        let floor = |work: Work| Some(machine.floor(work, agents));
        let (write_work, read_work) = (floor::write(n, l, d), floor::read(n, d));
        add(report, "PowerLaw: write of 16", width, agents, write, floor(write_work));
        add(report, "PowerLaw: read, one query", width, agents, read, floor(read_work));
        add(report, "PowerLaw: write and read", width, agents, both, floor(write_work + read_work));
        add(report, "PowerLaw: engine tick", width, agents, tick, floor(write_work * (1.0 / l) + read_work));
        drop(crowd);

        // Pushing is compared on one group of channels; what is read and asked has two.
        let mut crowd = Crowd::new(&scenes::one_group(CAPACITY, width), agents, 160);
        let push = best(&mut crowd, |crowd| crowd.observe(1, |_| true), Crowd::run);
        let sixteen = best(&mut crowd, |crowd| crowd.observe(16, |_| true), Crowd::run) / 16.0;
        let mut crowd = Crowd::new(&config(Policy::Adaptive, CAPACITY, width), agents, 2_000);
        crowd.ask(0);
        let read = best(&mut crowd, |crowd| crowd.ask(1), Crowd::run);
        let tick = steady(&mut crowd);
        let (push_work, read_work) = (floor::push(n, d), floor::read_blocks(n, d));
        add(report, "Adaptive: push, one a step", width, agents, push, floor(push_work));
        add(report, "Adaptive: push, sixteen a step", width, agents, sixteen, floor(push_work));
        if agents == 1 {
            add(report, "Adaptive: push, plain scalar", width, 1, plain_push(width), None);
        }
        add(report, "Adaptive: read, one query", width, agents, read, floor(read_work));
        add(report, "Adaptive: engine tick", width, agents, tick, floor(push_work + read_work));
    }
}

/// Seconds of a tick in which everybody sees once and asks once: the mean over whole chunks, so that every agent's
/// writes are in it. The best of some such means.
fn steady(crowd: &mut Crowd) -> f64 {
    let tick = |crowd: &mut Crowd| {
        crowd.ask(1);
        crowd.observe(1, |_| true);
        let begun = Instant::now();
        crowd.run();
        begun.elapsed().as_secs_f64()
    };
    let (begun, mut best) = (Instant::now(), f64::INFINITY);
    while begun.elapsed().as_secs_f64() < 1.0 || best.is_infinite() {
        best = best.min((0..CHUNK).map(|_| tick(crowd)).sum::<f64>() / CHUNK as f64);
    }
    best
}

/// The merging rule in plain scalar code, seconds an observation.
fn plain_push(width: usize) -> f64 {
    let seen = scenes::Seen::new(1, width, 64);
    let mut blocks = scenes::plain::Blocks::new(CAPACITY, width);
    (0..160).for_each(|tick| blocks.push(seen.get(tick, 0)));
    let mut subject = (blocks, 160);
    let sixteen = best(
        &mut subject,
        |_| {},
        |(blocks, tick)| {
            (0..16).for_each(|i| blocks.push(seen.get(*tick + i, 0)));
            *tick += 16;
        },
    );
    sixteen / 16.0
}

/// A one-layer model of d = 64 under the engine.
fn model(agents: usize, machine: &Machine, report: &mut Report) -> Result<(), Box<dyn Error>> {
    const WIDTH: usize = 64;
    let channels: Vec<Channel> = (0..8).map(|c| Channel::new(&format!("c{c}"), "", Scale::Given(1.0))).collect();
    let inputs = vec![Input::Continuous { name: "seen".into(), channels }];
    let heads = vec![Head { name: "act".into(), kind: HeadKind::Logits { classes: 8 } }];
    let model = ModelConfig { width: WIDTH, layers: 1, ..ModelConfig::new(inputs, heads) }.init(&Device::Cpu)?;
    let parameters: usize = model.parameters().values().map(|tensor| tensor.elem_count()).sum();
    let long_term = model.config().long_term.clone().unwrap_or_default();
    let (n, l, d) = (long_term.capacity as f64, model.config().chunk as f64, WIDTH as f64);
    let window = model.config().short_term as f64 + l;
    // Every weight once, scores and values over the window, scores and the readout over the long-term memory.
    let operations = 2.0 * parameters as f64 + 4.0 * window * d + 4.0 * n * d;
    let state = 4.0 * d * (n + 3.0 * window);
    let work = Work { operations, bytes: state, state } + floor::write(n, l, d) * (1.0 / l);
    let mut engine = ModelEngine::new(model.into());
    let mut steps: Vec<AgentStep> = vec![];
    for _ in 0..agents {
        let agent = engine.spawn()?;
        steps.push(AgentStep::new(agent, engine.layout().clone(), 2));
    }
    let mut tick = 0;
    let mut subject = (engine, steps);
    let seconds = best(
        &mut subject,
        |(_, steps)| {
            tick += 1;
            steps.iter_mut().for_each(|step| step.observations.push(tick, &[0.5; 8]).unwrap());
        },
        |(engine, steps)| engine.step(steps).unwrap(),
    );
    add(report, "model, 1 layer: engine tick", WIDTH, agents, seconds, Some(machine.floor(work, agents)));
    Ok(())
}

fn window(agents: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut layer = window::Window::new(agents, CAPACITY, 64)?;
    let seconds = best(&mut layer, |_| {}, |layer| _ = layer.tick().unwrap());
    add(report, "peer: window of same bytes, candle", 64, agents, seconds, None);
    Ok(())
}

fn peers(arguments: &Arguments, report: &mut Report) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/report/peers.py");
    println!("\npeers, one thread, d = 64");
    let output = Command::new(&arguments.python).arg(script).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        println!("skipped: {} with torch is not installed here", arguments.python);
        return;
    };
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(peer) = serde_json::from_str::<Peer>(line) else { continue };
        let each = peer.microseconds / peer.agents as f64;
        println!(
            "{:<40} {:<14} {:>6} {:>12.1} µs {each:>9.3} each",
            peer.name, peer.unit, peer.agents, peer.microseconds
        );
        report.peers.push(peer);
    }
}

/// The same agents on one thread and shared out between two.
fn threads(arguments: &Arguments, report: &mut Report) {
    println!("\ntwo threads, d = 32: times as fast as one");
    for (policy, what) in POLICIES {
        for &agents in arguments.agents.iter().filter(|agents| **agents >= 64) {
            let time = |threads: usize| {
                let (config, start) = (config(policy, CAPACITY, 32), Barrier::new(threads));
                let run = || {
                    let mut crowd = Crowd::new(&config, agents / threads, 500);
                    start.wait();
                    steady(&mut crowd)
                };
                std::thread::scope(|scope| {
                    let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
                    handles.into_iter().map(|handle| handle.join().unwrap()).fold(0.0, f64::max)
                })
            };
            let times_as_fast = time(1) / time(2);
            println!("{what:<34} {agents:>12} {times_as_fast:>10.2}");
            report.threads.push(Threads { what, agents, times_as_fast });
        }
    }
}

/// A whole game: what its own thread spends on memory, and when the last answer is there.
fn games(arguments: &Arguments, report: &mut Report) {
    println!("\ngame, two workers, d = 32, every agent sees and asks at every tick: ms, middle and 99 of 100");
    for (policy, what) in POLICIES {
        for &agents in &arguments.agents {
            let mut game = Game::new(&config(policy, CAPACITY, 32), agents, 2, RuntimeMode::FreeRunning);
            let (mut caller, mut whole): (Vec<Duration>, Vec<Duration>) = (vec![], vec![]);
            for tick in 0..400 {
                game.look();
                let begun = Instant::now();
                game.submit();
                let mut spent = begun.elapsed();
                while !game.is_answered() {
                    std::thread::sleep(Duration::from_micros(50));
                    // Only what hands out replies counts as the caller's share; looking whether there are any does not.
                    let received = Instant::now();
                    if game.receive() > 0 {
                        spent += received.elapsed();
                    }
                }
                if tick >= 100 {
                    caller.push(spent);
                    whole.push(begun.elapsed());
                }
            }
            let row = GameRow { what, agents, caller: percentiles(&mut caller), whole: percentiles(&mut whole) };
            let (caller, whole) = (row.caller, row.whole);
            println!(
                "{what:<20} {agents:>7} caller {:>7.3} {:>7.3}   all answers {:>7.2} {:>7.2}",
                caller.0, caller.1, whole.0, whole.1
            );
            report.games.push(row);
        }
    }
}

fn half(report: &mut Report) {
    println!("\nstate in f16, d = 32, 10,000 observations");
    for (policy, what) in POLICIES {
        let single = config(policy, CAPACITY, 32);
        let mut crowds = [
            Crowd::new(&single, 4, 10_000),
            Crowd::new(&MemoryConfig { state: StatePrecision::Half, ..single }, 4, 10_000),
        ];
        let mut signals = crowds.each_mut().map(|crowd| {
            let ages = (0..100).map(|i| 1.09_f64.powi(i)).filter(|age| *age < 9_000.0);
            let agent = crowd.steps[0].agent;
            ages.flat_map(|age| crowd.engine.signal_at(agent, age).unwrap().unwrap_or_default()).collect::<Vec<f32>>()
        });
        let [exact, rounded] = &mut signals;
        let mean = exact.iter().sum::<f32>() / exact.len() as f32;
        let variance: f32 = exact.iter().map(|value| (value - mean).powi(2)).sum();
        let error: f32 = exact.iter().zip(rounded).map(|(exact, rounded)| (*exact - *rounded).powi(2)).sum();
        let [bytes_single, bytes_half] = crowds.each_ref().map(|crowd| crowd.engine.bytes_per_agent());
        let relative_squared_error = f64::from(error / variance);
        println!("{what:<34} {relative_squared_error:.1e}, {bytes_single} bytes an agent become {bytes_half}");
        report.half.push(HalfError { policy: what, relative_squared_error, bytes_single, bytes_half });
    }
}

/// Cost a tick and agent (64 agents, one thread) against history, agents, N and d.
fn growth(arguments: &Arguments, report: &mut Report) {
    println!("\nhow it grows: µs a tick and agent, one thread, N = 64, d = 32 where nothing else is said");
    let tick = |crowd: &mut Crowd| steady(crowd) * 1e6 / crowd.steps.len() as f64;
    let curves =
        |points: &dyn Fn(Policy) -> Vec<(f64, f64)>| POLICIES.map(|(policy, what)| (what, points(policy))).to_vec();
    let history = |policy| {
        let mut crowd = Crowd::new(&config(policy, CAPACITY, 32), 1, 0);
        let mut lived = 0;
        let decades = (3..).map(|power| 10_u64.pow(power)).take_while(|length| *length <= arguments.history);
        decades
            .map(|length| {
                crowd.live(length.saturating_sub(lived));
                lived = length;
                (length as f64, tick(&mut crowd))
            })
            .collect()
    };
    let agents = |policy| {
        let at = |agents: usize| (agents as f64, tick(&mut Crowd::new(&config(policy, CAPACITY, 32), agents, 2_000)));
        let most = arguments.agents.iter().copied().max().unwrap_or(0);
        [1, 10, 100, 1_000, 10_000].into_iter().filter(|agents| *agents <= most).map(at).collect()
    };
    let capacities = |policy| {
        let at = |n: usize| (n as f64, tick(&mut Crowd::new(&config(policy, n, 32), 16, 2_000)));
        [16, 32, 64, 128, 256].map(at).to_vec()
    };
    let widths = |policy| {
        let at = |d: usize| (d as f64, tick(&mut Crowd::new(&config(policy, CAPACITY, d), 16, 2_000)));
        [4, 8, 16, 32, 64, 128].map(at).to_vec()
    };
    report.growth = vec![
        Growth { what: "observations of history", curves: curves(&history) },
        Growth { what: "agents", curves: curves(&agents) },
        Growth { what: "N", curves: curves(&capacities) },
        Growth { what: "d", curves: curves(&widths) },
    ];
    for growth in &report.growth {
        for (policy, points) in &growth.curves {
            let points: Vec<String> = points.iter().map(|(at, cost)| format!("{at:.0}: {cost:.2}")).collect();
            println!("{:<24} {policy:<10} {}", growth.what, points.join("  "));
        }
    }
}
