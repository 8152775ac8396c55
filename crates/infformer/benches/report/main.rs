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
use infformer::{AgentStep, AnswerDetail, Channel, Device, MemoryConfig, ModelEngine, Scale, StatePrecision};
use scenes::{CAPACITY, CHUNK, Crowd, Game, Policy, config};
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use timing::{middle, middle_of, percentiles};

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
    #[serde(skip)]
    work: Option<Work>,
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
    /// How much each answer tells.
    detail: String,
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
    /// Squared error of the signal against the same memory in f32, over its variance, channel by channel.
    relative_squared_error: f64,
    bytes_single: usize,
    bytes_half: usize,
    /// Agents, then µs a tick and agent with a query: in f32, in f16.
    ticks: Vec<(usize, [f64; 2])>,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    gflops: f64,
    copy_gigabytes: Vec<(f64, f64)>,
    rows: Vec<Row>,
    /// Peaks an answer of the readings above, on average.
    peaks: Vec<f64>,
    threads: Vec<Threads>,
    games: Vec<GameRow>,
    half: Vec<HalfError>,
    peers: Vec<Peer>,
    growth: Vec<Growth>,
}

/// Set for the second start of this program, on one thread.
const ONE_THREAD: &str = "INFFORMER_REPORT_ON_ONE_THREAD";

const POLICIES: [(Policy, &str); 2] = [(Policy::Linear, "PowerLaw"), (Policy::Adaptive, "Adaptive")];

/// Answers with peaks, and without.
const DETAILS: [AnswerDetail; 2] = [AnswerDetail::Peaks, AnswerDetail::Expectation];

fn main() -> Result<(), Box<dyn Error>> {
    // Everything is measured on one thread unless it says otherwise, candle's products too.
    if std::env::var_os(ONE_THREAD).is_none() {
        let mut again = Command::new(std::env::current_exe()?);
        again.args(std::env::args_os().skip(1)).env("RAYON_NUM_THREADS", "1").env(ONE_THREAD, "yes");
        std::process::exit(again.status()?.code().unwrap_or(1));
    }
    let arguments = Arguments::parse();
    let mut machine = Machine::measure();
    let mut report = Report::default();
    for &agents in &arguments.agents {
        eprintln!("measuring {agents} agents on one thread");
        machine.measure_again();
        memories(agents, &mut report);
        model(agents, &mut report)?;
        window(agents, &mut report)?;
    }
    machine.measure_again();
    print(&machine, &mut report);
    (report.gflops, report.copy_gigabytes) = (machine.operations / 1e9, machine.copies_in_gigabytes());
    println!("\nGEMM peak {:.1} GFLOP/s; copies (bytes: GB/s) {:.1?}", report.gflops, report.copy_gigabytes);
    peers(&arguments, &mut report);
    threads(&arguments, &mut report);
    games(&arguments, &mut report);
    half(&arguments, &mut report);
    growth(&arguments, &mut report);
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
    }
    if let Some(path) = &arguments.plot {
        plot::draw(path, &report.growth)?;
    }
    Ok(())
}

fn add(report: &mut Report, what: &str, width: usize, agents: usize, seconds: f64, work: Option<Work>) {
    let row = Row { what: what.into(), width, agents, microseconds: seconds * 1e6, floor_microseconds: None, work };
    report.rows.push(row);
}

/// The table, once the machine's peaks are known: all floors are of the same peaks.
fn print(machine: &Machine, report: &mut Report) {
    println!(
        "{:<34} {:>4} {:>7} {:>12} {:>10} {:>10} {:>8}",
        "one thread, middle of many rounds", "d", "agents", "µs", "µs/agent", "floor", "×floor"
    );
    for row in &mut report.rows {
        row.floor_microseconds = row.work.map(|work| machine.floor(work, row.agents) * 1e6);
        let Row { what, width, agents, microseconds, floor_microseconds, .. } = row;
        let each = *microseconds / *agents as f64;
        let floor = floor_microseconds.map(|floor| format!("{:.3}", floor / *agents as f64)).unwrap_or_default();
        let ratio = floor_microseconds.map(|floor| format!("{:.2}", *microseconds / floor)).unwrap_or_default();
        println!("{what:<34} {width:>4} {agents:>7} {microseconds:>12.2} {each:>10.3} {floor:>10} {ratio:>8}");
    }
    println!("peaks an answer, {} agents and more: {:.1?}", report.rows[0].agents, report.peaks);
}

/// Writing, reading and whole ticks of the memories that are not trained.
fn memories(agents: usize, report: &mut Report) {
    let (n, l) = (CAPACITY as f64, CHUNK as f64);
    let ask_and_see = |crowd: &mut Crowd| {
        crowd.ask(1);
        crowd.observe(CHUNK, |_| true);
    };
    for width in [64, 32] {
        let d = width as f64;
        let mut crowd = Crowd::new(&config(Policy::Linear, CAPACITY, width), agents, 2_000);
        crowd.ask(0);
        let write = middle(&mut crowd, |crowd| crowd.observe(CHUNK, |_| true), Crowd::run);
        let read = middle(&mut crowd, |crowd| crowd.ask(1), Crowd::run);
        report.peaks.push(crowd.peaks());
        let both = middle(&mut crowd, ask_and_see, Crowd::run);
        let tick = steady(&mut crowd);
        crowd.detail = AnswerDetail::Expectation;
        let read_less = middle(&mut crowd, |crowd| crowd.ask(1), Crowd::run);
        let both_less = middle(&mut crowd, ask_and_see, Crowd::run);
        let tick_less = steady(&mut crowd);
        let (write_work, read_work) = (floor::write(n, l, d), floor::read(n, d));
        add(report, "PowerLaw: write of 16", width, agents, write, Some(write_work));
        add(report, "PowerLaw: read, one query", width, agents, read, Some(read_work));
        add(report, "PowerLaw: write and read", width, agents, both, Some(write_work.then(read_work)));
        let tick_work = (write_work * (1.0 / l)).then(read_work);
        add(report, "PowerLaw: engine tick", width, agents, tick, Some(tick_work));
        add(report, "PowerLaw: read, no peaks", width, agents, read_less, Some(read_work));
        add(report, "PowerLaw: both, no peaks", width, agents, both_less, Some(write_work.then(read_work)));
        add(report, "PowerLaw: tick, no peaks", width, agents, tick_less, Some(tick_work));
        drop(crowd);

        // Pushing is compared on one group of channels; what is read and asked has two.
        let mut crowd = Crowd::new(&scenes::one_group(CAPACITY, width), agents, 160);
        let push = middle(&mut crowd, |crowd| crowd.observe(1, |_| true), Crowd::run);
        let sixteen = middle(&mut crowd, |crowd| crowd.observe(16, |_| true), Crowd::run) / 16.0;
        let mut crowd = Crowd::new(&config(Policy::Adaptive, CAPACITY, width), agents, 2_000);
        crowd.ask(0);
        let read = middle(&mut crowd, |crowd| crowd.ask(1), Crowd::run);
        report.peaks.push(crowd.peaks());
        let tick = steady(&mut crowd);
        crowd.detail = AnswerDetail::Expectation;
        let read_less = middle(&mut crowd, |crowd| crowd.ask(1), Crowd::run);
        let tick_less = steady(&mut crowd);
        let (push_work, read_work) = (floor::push(n, d), floor::read_blocks(n, d));
        add(report, "Adaptive: push, one a step", width, agents, push, Some(push_work));
        add(report, "Adaptive: push, sixteen a step", width, agents, sixteen, Some(push_work));
        if agents == 1 {
            add(report, "Adaptive: push, plain scalar", width, 1, plain_push(width), None);
        }
        add(report, "Adaptive: read, one query", width, agents, read, Some(read_work));
        add(report, "Adaptive: engine tick", width, agents, tick, Some(push_work.then(read_work)));
        add(report, "Adaptive: read, no peaks", width, agents, read_less, Some(read_work));
        add(report, "Adaptive: tick, no peaks", width, agents, tick_less, Some(push_work.then(read_work)));
    }
}

/// Seconds of a tick in which everybody sees once and asks once: the mean over whole chunks, so that every agent's
/// writes are in it. The middle of some such means.
fn steady(crowd: &mut Crowd) -> f64 {
    let tick = |crowd: &mut Crowd| {
        crowd.ask(1);
        crowd.observe(1, |_| true);
        let begun = Instant::now();
        crowd.run();
        begun.elapsed().as_secs_f64()
    };
    let (begun, mut means) = (Instant::now(), vec![]);
    while means.is_empty() || begun.elapsed().as_secs_f64() < 1.0 {
        means.push((0..CHUNK).map(|_| tick(crowd)).sum::<f64>() / CHUNK as f64);
    }
    middle_of(means)
}

/// The merging rule in plain scalar code, seconds an observation.
fn plain_push(width: usize) -> f64 {
    let mut walk = scenes::Walk::new(0, width);
    let rows: Vec<Vec<f32>> = (0..8_192).map(|_| walk.step().to_vec()).collect();
    let mut blocks = scenes::plain::Blocks::new(CAPACITY, width);
    rows[..160].iter().for_each(|row| blocks.push(row));
    let mut subject = (blocks, 160);
    let sixteen = middle(
        &mut subject,
        |_| {},
        |(blocks, tick)| {
            (0..16).for_each(|i| blocks.push(&rows[(*tick + i) % rows.len()]));
            *tick += 16;
        },
    );
    sixteen / 16.0
}

/// A one-layer model of d = 64 under the engine.
fn model(agents: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
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
    let work = Work { operations, bytes: state, state }.then(floor::write(n, l, d) * (1.0 / l));
    let mut engine = ModelEngine::new(model.into());
    let mut steps: Vec<AgentStep> = vec![];
    for _ in 0..agents {
        let agent = engine.spawn()?;
        steps.push(AgentStep::new(agent, engine.layout().clone(), 2));
    }
    let mut walk = scenes::Walk::new(0, 8);
    let mut tick = 0_u64;
    let mut live = |ticks: u64| {
        let mut spent = 0.0;
        for _ in 0..ticks {
            // Agents begin at different ticks of a chunk, so that each tick has its share of writes.
            let there = steps.len() * (tick as usize + 1) / CHUNK;
            let there = there.clamp(1, steps.len());
            walk.step();
            steps[..there].iter_mut().for_each(|step| step.observations.push(tick, walk.values()).unwrap());
            let begun = Instant::now();
            engine.step(&mut steps[..there]).unwrap();
            spent += begun.elapsed().as_secs_f64();
            tick += 1;
        }
        spent / ticks as f64
    };
    // The window is full and something was written.
    live((window + 2.0 * l) as u64);
    let rounds = if agents > 1_000 { 1 } else { 5 };
    let seconds = middle_of((0..rounds).map(|_| live(l as u64)).collect());
    add(report, "model, 1 layer: engine tick", WIDTH, agents, seconds, Some(work));
    Ok(())
}

fn window(agents: usize, report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut layer = window::Window::new(agents, CAPACITY, 64)?;
    let seconds = middle(&mut layer, |_| {}, |layer| _ = layer.tick().unwrap());
    add(report, "peer: window of same bytes, candle", 64, agents, seconds, None);
    Ok(())
}

fn peers(arguments: &Arguments, report: &mut Report) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/report/peers.py");
    println!("\npeers, one thread, d = 64");
    let output = match Command::new(&arguments.python).arg(script).output() {
        Ok(output) => output,
        Err(error) => return println!("skipped: {} does not run: {error}", arguments.python),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    eprint!("{said}");
    if !output.status.success() {
        println!("not all were measured: {}", said.lines().last().unwrap_or("the script failed"));
    }
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
            // Ticks begin on all threads at once and end with the slowest.
            let time = |threads: usize| {
                let (config, arrived) = (config(policy, CAPACITY, 32), AtomicUsize::new(0));
                let ticks = CHUNK * (2_000_000 / (agents * CHUNK)).clamp(4, 200);
                // Threads that sleep take longer to wake than a small tick takes.
                let meet = |meeting: usize| {
                    arrived.fetch_add(1, Ordering::AcqRel);
                    while arrived.load(Ordering::Acquire) < threads * meeting {
                        std::hint::spin_loop();
                    }
                };
                let run = || {
                    let mut crowd = Crowd::new(&config, agents / threads, 500);
                    let mut spent = vec![];
                    for tick in 0..ticks {
                        crowd.ask(1);
                        crowd.observe(1, |_| true);
                        meet(2 * tick + 1);
                        let begun = Instant::now();
                        crowd.run();
                        meet(2 * tick + 2);
                        spent.push(begun.elapsed().as_secs_f64());
                    }
                    spent.iter().sum::<f64>() / ticks as f64
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
    println!(
        "\ngame, two workers, d = 32, every agent sees and asks at every tick, the game sleeps meanwhile: ms, middle and 99 of 100"
    );
    for ((policy, what), detail) in POLICIES.into_iter().flat_map(|policy| DETAILS.map(|detail| (policy, detail))) {
        for &agents in &arguments.agents {
            let mut game = Game::new(&config(policy, CAPACITY, 32), agents, 2, detail);
            let (mut caller, mut whole): (Vec<Duration>, Vec<Duration>) = (vec![], vec![]);
            let mut latest = Duration::ZERO;
            for tick in 0..800 {
                game.look();
                let begun = Instant::now();
                game.submit();
                let mut spent = begun.elapsed();
                // Who wakes takes a core from a worker: looking every 50 µs made ticks of 10,000 agents a fifth longer.
                let nap = (latest / 20).max(Duration::from_micros(50));
                while !game.is_answered() {
                    std::thread::sleep(nap);
                    // Only what hands out replies counts as the caller's share; looking whether there are any does not.
                    let received = Instant::now();
                    if game.receive() > 0 {
                        spent += received.elapsed();
                    }
                }
                latest = begun.elapsed();
                if tick >= 400 {
                    caller.push(spent);
                    whole.push(latest);
                }
            }
            let row = GameRow {
                what,
                detail: format!("{detail:?}"),
                agents,
                caller: percentiles(&mut caller),
                whole: percentiles(&mut whole),
            };
            let (caller, whole) = (row.caller, row.whole);
            println!(
                "{what:<10} {:<12} {agents:>7} caller {:>7.3} {:>7.3}   all answers {:>7.2} {:>7.2}",
                row.detail, caller.0, caller.1, whole.0, whole.1
            );
            report.games.push(row);
        }
    }
}

fn half(arguments: &Arguments, report: &mut Report) {
    println!("\nstate in f16, d = 32, 10,000 observations");
    for (policy, what) in POLICIES {
        let single = config(policy, CAPACITY, 32);
        let configs = [single.clone(), MemoryConfig { state: StatePrecision::Half, ..single }];
        let mut crowds = configs.each_ref().map(|config| Crowd::new(config, 4, 10_000));
        let ages: Vec<f64> = (0..100).map(|i| 1.09_f64.powi(i)).filter(|age| *age < 9_000.0).collect();
        let mut errors = vec![];
        for agent in 0..crowds[0].steps.len() {
            let [exact, rounded] = crowds.each_mut().map(|crowd| {
                let agent = crowd.steps[agent].agent;
                let at = |age: &f64| crowd.engine.signal_at(agent, *age).unwrap().unwrap_or_default();
                ages.iter().map(at).collect::<Vec<Vec<f32>>>()
            });
            // Each channel's error over its own variance.
            for channel in 0..32 {
                let values =
                    |signal: &[Vec<f32>]| signal.iter().map(|row| f64::from(row[channel])).collect::<Vec<f64>>();
                let (exact, rounded) = (values(&exact), values(&rounded));
                let mean = exact.iter().sum::<f64>() / exact.len() as f64;
                let variance: f64 = exact.iter().map(|value| (value - mean).powi(2)).sum();
                let error: f64 = exact.iter().zip(rounded).map(|(exact, rounded)| (exact - rounded).powi(2)).sum();
                errors.push(error / variance.max(1e-9));
            }
        }
        let relative_squared_error = errors.iter().sum::<f64>() / errors.len() as f64;
        let [bytes_single, bytes_half] = crowds.each_ref().map(|crowd| crowd.engine.bytes_per_agent());
        println!("{what:<34} {relative_squared_error:.1e}, {bytes_single} bytes an agent become {bytes_half}");
        let mut ticks = vec![];
        for &agents in &arguments.agents {
            let [single, half] = configs.each_ref().map(|config| {
                let mut crowd = Crowd::new(config, agents, 500);
                steady(&mut crowd) * 1e6 / agents as f64
            });
            println!("{what:<34} {agents:>7} a tick of {single:.2} µs takes {half:.2} (after 500 observations)");
            ticks.push((agents, [single, half]));
        }
        report.half.push(HalfError { policy: what, relative_squared_error, bytes_single, bytes_half, ticks });
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
