//! Policies learn, stop and go on as if they had not stopped; what is truncated is worth what would have followed.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::Device;
use infformer::model::Input;
use infformer::{Channel, Scale};
use infformer_rl::comparison::{self, Results, interquartile_mean, interval, late_return};
use infformer_rl::distribution::Choice;
use infformer_rl::environment::{Action, ActionSpace, Ending, Environment, Step};
use infformer_rl::environment_batch::EnvironmentBatch;
use infformer_rl::environments::EnvironmentConfig;
use infformer_rl::evaluation::{EvaluationConfig, evaluate};
use infformer_rl::memories::{MemoryConfig, MemoryName};
use infformer_rl::optimiser::{Optimiser, OptimiserConfig};
use infformer_rl::policy::{Policy, PolicyConfig};
use infformer_rl::ppo::PpoConfig;
use infformer_rl::probe::probe;
use infformer_rl::trainer::{Record, Trained, TrainingConfig, train};
use infformer_rl::{Error, log};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("infformer-reinforcement-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn environment(name: &str) -> EnvironmentConfig {
    EnvironmentConfig::parse(name).unwrap()
}

/// A small network.
fn small(name: &str, memory: MemoryName, ppo: PpoConfig, steps: u64) -> TrainingConfig {
    let policy = PolicyConfig::new(32, 32, memory.config(32));
    TrainingConfig::new(name, policy, ppo, steps, 0)
}

fn go(config: &TrainingConfig, folder: &Path) -> Trained {
    let environment = environment(&config.environment);
    train(config, &move || environment.make(), folder, &Device::Cpu, &AtomicBool::new(false)).unwrap()
}

fn greedy(policy: &Policy, name: &str, episodes: usize) -> f64 {
    let environment = environment(name);
    let wanted = EvaluationConfig { episodes, seed: 1 };
    let stop = AtomicBool::new(false);
    evaluate(policy, &move || environment.make(), wanted, Choice::Greedy, &Device::Cpu, &stop).unwrap().mean()
}

/// A small network with a window of 8 to 11 ticks, trained on a chain of 20.
fn along_the_chain(memory: MemoryName) -> TrainingConfig {
    let ppo = PpoConfig { members: 32, ticks: 22, ..PpoConfig::default() };
    let mut config = small("memory-chain-20", memory, ppo, 150_000);
    config.stop_at = Some(0.97);
    let MemoryConfig::Transformer { short_term, chunk, recurrence, .. } = &mut config.policy.memory else {
        panic!("a transformer expected");
    };
    (*short_term, *chunk, *recurrence) = (8, 4, (*recurrence).min(32));
    config
}

/// The bit was shown 20 ticks before: beyond the window, for attention alone. Chance is 0; one wrong answer of 64 costs .03.
#[test]
fn a_bit_is_remembered_along_the_chain() {
    let path = folder("chain");
    let config = along_the_chain(MemoryName::InfformerAdaptive);
    let trained = go(&config, &path);
    assert!(greedy(&trained.policy, "memory-chain-20", 64) >= 0.9, "{:?}", trained.progress);
    // What the answer goes by was seen then, and not on the way.
    let environment = environment("memory-chain-20");
    let stop = AtomicBool::new(false);
    let make = move || environment.make();
    let dependences = probe(&trained.policy, &make, 20, config.ppo.ticks, 1, &Device::Cpu, &stop).unwrap();
    let [of_then, of_others] = [true, false].map(|then| {
        let ages = dependences.by_age.iter().filter(|row| row.ages.contains(&20) == then);
        ages.map(|row| row.divergence).fold(0.0, f64::max)
    });
    assert!(of_then > 10.0 * of_others, "{dependences:?}");
    // The policy that was good enough was not changed any more: it is that of the update before.
    let log = std::fs::read_to_string(path.join("metrics.jsonl")).unwrap();
    let last: Record = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!(last.update, None);
    let earlier = folder("chain-before");
    let steps = trained.progress.steps - (config.ppo.members * config.ppo.ticks) as u64;
    let before = go(&TrainingConfig { stop_at: None, steps, ..config }, &earlier);
    assert_eq!(weights(&before.policy), weights(&trained.policy));
    std::fs::remove_dir_all(earlier).unwrap();
    std::fs::remove_dir_all(path).unwrap();
}

/// Attention and recurrence together, which is the default.
#[test]
fn the_default_memory_remembers_along_the_chain() {
    let path = folder("default-chain");
    let trained = go(&along_the_chain(MemoryName::Infformer), &path);
    let found = greedy(&trained.policy, "memory-chain-20", 64);
    assert!(found >= 0.9, "{found} {:?}", trained.progress);
    std::fs::remove_dir_all(path).unwrap();
}

/// The velocities are not seen. Random pushes hold the pole for 22 ticks of 200: .11; without a memory it was held for .63 at most.
#[test]
fn a_pole_is_balanced() {
    let path = folder("pole");
    let ppo = PpoConfig { members: 32, ticks: 64, epochs: 6, ..PpoConfig::default() };
    let config = TrainingConfig {
        stop_at: Some(0.8),
        ..small("position-only-cart-pole-easy", MemoryName::InfformerAdaptive, ppo, 250_000)
    };
    let trained = go(&config, &path);
    let found = greedy(&trained.policy, "position-only-cart-pole-easy", 64);
    assert!(found >= 0.7, "{found} {:?}", trained.progress);
    std::fs::remove_dir_all(path).unwrap();
}

/// Trains a small network in a small environment; its greedy mean return of 100 episodes.
fn learnt<E: Environment + Default + 'static>(name: &str, memory: MemoryName, steps: u64) -> f64 {
    let path = folder(name);
    let ppo = PpoConfig { members: 32, ticks: 32, minibatches: 4, ..PpoConfig::default() };
    let config = small(name, memory, ppo, steps);
    let make = || Box::<E>::default() as Box<dyn Environment>;
    let stop = AtomicBool::new(false);
    let trained = train(&config, &make, &path, &Device::Cpu, &stop).unwrap();
    let wanted = EvaluationConfig { episodes: 100, seed: 1 };
    let found = evaluate(&trained.policy, &make, wanted, Choice::Greedy, &Device::Cpu, &stop).unwrap().mean();
    std::fs::remove_dir_all(path).unwrap();
    found
}

/// A number is shown, then nothing for three ticks; the last action is to be that number.
#[derive(Default)]
struct Echo {
    number: f32,
    tick: usize,
    seen: [f32; 1],
}

impl Environment for Echo {
    fn observations(&self) -> Vec<Input> {
        vec![Input::Continuous { name: "number".into(), channels: vec![Channel::new("n", "", Scale::Given(1.0))] }]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Continuous(1)
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        let number = ChaCha8Rng::seed_from_u64(seed).random_range(-0.8..0.8);
        *self = Self { number, tick: 0, seen: [number] };
        &self.seen
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        let [said] = action.numbers();
        self.tick += 1;
        self.seen = [0.0];
        let over = self.tick == 4;
        Step {
            observation: &self.seen,
            reward: if over { 1.0 - (said - self.number).abs() } else { 0.0 },
            ending: if over { Ending::Terminated } else { Ending::Running },
        }
    }
}

/// Actions that are numbers. Who remembers nothing says 0 at best: .6.
#[test]
fn a_number_is_remembered_and_said() {
    let found = learnt::<Echo>("echo", MemoryName::Gru, 80_000);
    assert!(found >= 0.85, "{found}");
}

/// Two tokens are shown, then nothing for three ticks; the last action is to be both.
#[derive(Default)]
struct Twice {
    tokens: [usize; 2],
    tick: usize,
    seen: [f32; 2],
}

impl Environment for Twice {
    fn observations(&self) -> Vec<Input> {
        ["one", "other"].map(|name| Input::Token { name: name.into(), vocabulary: 4 }).into()
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::MultiDiscrete(&[2, 3])
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let tokens = [random.random_range(0..2), random.random_range(0..3)];
        *self = Self { tokens, tick: 0, seen: tokens.map(|token| token as f32 + 1.0) };
        &self.seen
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        let said = action.choices([2, 3]);
        self.tick += 1;
        self.seen = [0.0; 2];
        let over = self.tick == 4;
        let right = said.iter().zip(&self.tokens).filter(|(said, token)| said == token).count();
        Step {
            observation: &self.seen,
            reward: if over { right as f32 / 2.0 } else { 0.0 },
            ending: if over { Ending::Terminated } else { Ending::Running },
        }
    }
}

/// Actions of two choices. Who remembers neither gets half of one and a third of the other: .42; who remembers one alone, .75 at most.
#[test]
fn two_tokens_are_remembered_and_said() {
    let found = learnt::<Twice>("twice", MemoryName::InfformerAdaptive, 40_000);
    assert!(found >= 0.95, "{found}");
}

fn weights(policy: &Policy) -> Vec<f32> {
    policy.parameters().values().flat_map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
}

/// An environment that asks for the run to be stopped once all of its kind took so many steps together.
struct Stopping {
    inner: Box<dyn Environment>,
    left: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
}

impl Environment for Stopping {
    fn observations(&self) -> Vec<Input> {
        self.inner.observations()
    }

    fn actions(&self) -> ActionSpace {
        self.inner.actions()
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        self.inner.reset(seed)
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.inner.step(action)
    }
}

/// Weights to the bit, and every record, for a memory of each kind. Episodes of up to 101 ticks end within updates, and beyond 48
/// ticks the signal is written: it is there when the run is stopped.
#[test]
fn a_run_that_was_resumed_is_the_same_run() {
    const MAZES: &str = "distracting-t-maze-up-to-100";
    let path = folder("resumes");
    for memory in [MemoryName::Infformer, MemoryName::InfformerAdaptive, MemoryName::Lstm] {
        let ppo = PpoConfig { members: 4, ticks: 40, epochs: 1, minibatches: 2, ..PpoConfig::default() };
        let config = TrainingConfig { checkpoint_every: 2, ..small(MAZES, memory, ppo, 4 * 40 * 6) };
        let whole = go(&config, &path.join("whole"));
        let part = path.join("part");
        let (left, stop) = (Arc::new(AtomicI64::new(4 * 40 * 3)), Arc::new(AtomicBool::new(false)));
        let make = || -> Box<dyn Environment> {
            Box::new(Stopping { inner: environment(MAZES).make(), left: left.clone(), stop: stop.clone() })
        };
        let stopped = train(&config, &make, &part, &Device::Cpu, &stop).unwrap();
        assert_eq!((stopped.progress.updates, stopped.progress.finished), (3, false));
        let resumed = go(&config, &part);
        assert_eq!(weights(&whole.policy), weights(&resumed.policy), "{memory:?}");
        let told = |name: &str| -> Vec<_> {
            let records = log::read::<Record>(&path.join(name).join("metrics.jsonl")).unwrap();
            records.into_iter().map(|record| (record.steps, record.mean_return, record.update)).collect()
        };
        assert_eq!(told("whole"), told("part"));
        assert_eq!(told("whole").len(), 6);
        // Another run does not go on from this checkpoint.
        let other = TrainingConfig { optimiser: OptimiserConfig::default(), ..config.clone() };
        let environment = environment(MAZES);
        let refused = train(&other, &move || environment.make(), &part, &Device::Cpu, &AtomicBool::new(false));
        assert!(matches!(refused, Err(Error::Checkpoint { .. })));
        std::fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn a_run_stops_when_asked() {
    let path = folder("stops");
    let ppo = PpoConfig { members: 2, ticks: 8, epochs: 1, minibatches: 1, ..PpoConfig::default() };
    let config = small("proof-of-memory", MemoryName::None, ppo, 1_000_000);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while log::read::<Record>(&path.join("metrics.jsonl")).is_ok_and(|records| records.is_empty()) {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let environment = environment("proof-of-memory");
        let trained = train(&config, &move || environment.make(), &path, &Device::Cpu, &stop).unwrap();
        assert!(!trained.progress.finished && trained.progress.updates > 0);
        let resumed = train(&config, &move || environment.make(), &path, &Device::Cpu, &stop).unwrap();
        assert_eq!(resumed.progress.updates, trained.progress.updates);
    });
    std::fs::remove_dir_all(path).unwrap();
}

/// Says that it shows one number, and shows as many as are left.
struct Liar {
    left: usize,
    seen: [f32; 3],
}

impl Environment for Liar {
    fn observations(&self) -> Vec<Input> {
        vec![Input::Continuous { name: "seen".into(), channels: vec![Channel::new("x", "", Scale::Given(1.0))] }]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(2)
    }

    fn reset(&mut self, _: u64) -> &[f32] {
        &self.seen[..self.left]
    }

    fn step(&mut self, _: Action) -> Step<'_> {
        self.left -= 1;
        Step { observation: &self.seen[..self.left], reward: 0.0, ending: Ending::Running }
    }
}

/// Too few numbers, too many, and too few later on.
#[test]
fn an_environment_shows_what_it_says() {
    let path = folder("liar");
    let ppo = PpoConfig { members: 4, ticks: 8, ..PpoConfig::default() };
    let config = small("liar", MemoryName::Gru, PpoConfig { minibatches: 1, ..ppo }, 1_000);
    let stop = AtomicBool::new(false);
    for (left, shown) in [(0, 0), (2, 2), (3, 3), (1, 0)] {
        let make = move || Box::new(Liar { left, seen: [0.0; 3] }) as Box<dyn Environment>;
        let spaces = config.policy.spaces(&*make());
        let policy = config.policy.init(&spaces, 0, &Device::Cpu).unwrap();
        let wanted = EvaluationConfig { episodes: 2, seed: 1 };
        let refusals = [
            train(&config, &make, &path, &Device::Cpu, &stop).err(),
            evaluate(&policy, &make, wanted, Choice::Greedy, &Device::Cpu, &stop).err(),
            probe(&policy, &make, 2, 8, 1, &Device::Cpu, &stop).err(),
            EnvironmentBatch::new(&make, spaces, 4, 0).and_then(|mut batch| batch.step(&[0.0; 4]).map(|_| ())).err(),
        ];
        for refused in refusals {
            let found = match refused {
                Some(Error::Observation { found, expected: 1 }) => found,
                other => panic!("{left}: {other:?}"),
            };
            assert_eq!(found, shown);
        }
    }
    std::fs::remove_dir_all(path).unwrap();
}

/// Going on from episodes under way shows what would have been shown.
#[test]
fn episodes_under_way_are_lived_again() {
    for name in ["repeat-previous-easy", "battleship-easy", "position-only-cart-pole-easy", "multiarmed-bandit-easy"] {
        let environment = environment(name);
        let make = move || environment.make();
        let spaces =
            PolicyConfig { clock: Some(32), ..PolicyConfig::new(1, 1, MemoryConfig::Nothing) }.spaces(&*make());
        let mut batch = EnvironmentBatch::new(&make, spaces.clone(), 3, 7).unwrap();
        let size = spaces.actions.size();
        let all = |of_member: [f32; 3]| of_member.into_iter().flat_map(|choice| vec![choice; size]).collect::<Vec<_>>();
        for tick in 0..70 {
            batch.step(&all([(tick % 2) as f32, 0.0, ((tick / 3) % 2) as f32])).unwrap();
        }
        let (x, episodes) = (batch.x().to_vec(), batch.episodes());
        for wrong in [0, 3 * size - 1, 3 * size + 1] {
            assert!(matches!(batch.step(&vec![0.0; wrong]), Err(Error::Configuration(_))));
        }
        assert_eq!((batch.x(), batch.episodes()), (&x[..], episodes));
        let mut again = EnvironmentBatch::new(&make, spaces, 3, 7).unwrap();
        // Too few, or not what the environment gives.
        let mut others = batch.episodes();
        others[1].total += 1.0;
        for wrong in [&others[..2], &others] {
            assert!(matches!(again.resume(wrong), Err(Error::Beginning(_))));
        }
        again.resume(&batch.episodes()).unwrap();
        for tick in 0..70 {
            assert_eq!(batch.x(), again.x(), "{name} {tick}");
            let actions = all([(tick % 2) as f32, 1.0, 0.0]);
            assert_eq!(batch.step(&actions).unwrap().to_vec(), again.step(&actions).unwrap().to_vec());
        }
    }
}

/// The same weights and seeds give the same episodes, however many are lived through side by side.
#[test]
fn evaluations_are_of_their_seeds() {
    let name = "repeat-previous-easy";
    let policy = PolicyConfig { clock: Some(16), ..PolicyConfig::new(16, 16, MemoryName::InfformerAdaptive.config(0)) };
    let policy = policy.init(&policy.spaces(&*environment(name).make()), 0, &Device::Cpu).unwrap();
    let go = |episodes| {
        let environment = environment(name);
        let wanted = EvaluationConfig { episodes, seed: 3 };
        let stop = AtomicBool::new(false);
        evaluate(&policy, &move || environment.make(), wanted, Choice::Greedy, &Device::Cpu, &stop).unwrap()
    };
    let (some, more) = (go(3), go(6));
    assert_eq!(some.returns, more.returns[..3]);
    assert!(more.returns.iter().any(|total| *total != more.returns[0]));
}

/// The runs that the documentation names are valid, and of environments that there are.
#[test]
fn the_runs_of_the_folder_are_valid() {
    let runs = std::fs::read_dir(format!("{}/runs/agents", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let runs: Vec<TrainingConfig> = runs
        .map(|file| TrainingConfig::from_ron(&std::fs::read_to_string(file.unwrap().path()).unwrap()).unwrap())
        .collect();
    assert!(!runs.is_empty());
    for run in runs {
        let spaces = run.policy.spaces(&*environment(&run.environment).make());
        let policy = run.policy.init(&spaces, 0, &Device::Cpu).unwrap();
        assert!(Optimiser::new(&run.optimiser, policy.parameters()).is_ok());
    }
}

#[test]
fn means_of_the_middle_half() {
    assert_eq!(interquartile_mean(&[9.0, 1.0, 3.0, -50.0]), 2.0);
    // Of three values the middle one whole, half of which lies within, and a quarter of each other.
    assert!((interquartile_mean(&[0.0, 3.0, 9.0]) - (0.25 * 0.0 + 3.0 + 0.25 * 9.0) / 1.5).abs() < 1e-12);
    assert_eq!(interquartile_mean(&[4.0]), 4.0);
    assert_eq!(interval(&[2.0, 2.0, 2.0]), [2.0, 2.0]);
    let [low, high] = interval(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    assert!((1.0..3.0).contains(&low) && high > 3.0 && high <= 5.0, "{low} {high}");
}

/// Of 1,000 steps those after 900 count, each episode once.
#[test]
fn the_last_tenth_is_a_mean_of_episodes() {
    let record = |steps, mean_return, episodes| Record {
        steps,
        mean_return,
        episodes,
        mean_length: None,
        update: None,
        seconds: 0.0,
        collecting_seconds: 0.0,
        learning_seconds: 0.0,
    };
    let early = [record(100, Some(9.0), 5), record(900, Some(9.0), 5)];
    let late = [record(950, Some(1.0), 3), record(975, None, 0), record(1_000, Some(5.0), 1)];
    assert_eq!(late_return(&[&early[..], &late].concat()), Some(2.0));
    assert_eq!(late_return(&[record(1_000, None, 0)]), None);
    assert_eq!(late_return(&[]), None);
}

/// The programs: one trains and evaluates, the other prints a table and does not train again what is finished.
#[test]
fn the_programs_train_and_compare() {
    let path = folder("programs");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(arguments).arg("--output").arg(&path).output().unwrap()
    };
    let train = env!("CARGO_BIN_EXE_train");
    let arguments = [
        "memory-chain-8",
        "--steps",
        "128",
        "--members",
        "8",
        "--ticks",
        "8",
        "--episodes",
        "4",
        "--also",
        "memory-chain-20",
    ];
    let done = run(train, &arguments);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success() && said.contains("128 steps") && said.contains("memory-chain-20: return"),
        "{done:?}"
    );
    assert!(infformer::weights::load(&path, "memory-chain-8", &Device::Cpu).is_ok());
    // What it wrote of itself is the same training, in the same folder.
    let again = |episodes: &str| {
        let mut command = std::process::Command::new(train);
        command.arg(path.join("run.ron")).args(["--episodes", episodes]).output().unwrap()
    };
    let done = again("4");
    let repeated = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && repeated.contains("128 steps") && said.starts_with(&repeated), "{said} {done:?}");
    assert!(!again("0").status.success());
    let wrong = run(train, &["memory-chain-0"]);
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && told.contains("repeat-first-easy"), "{told}");

    let json = path.join("cells.json");
    let benchmark = env!("CARGO_BIN_EXE_benchmark");
    let arguments =
        ["agents", "--environments", "proof-of-memory", "--memories", "gru,none", "--seeds", "0,1", "--steps", "1"];
    let arguments = [&arguments[..], &["--json", json.to_str().unwrap()]].concat();
    let done = run(benchmark, &arguments);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(said.lines().filter(|line| line.starts_with("| proof-of-memory | ")).count(), 2, "{done:?}");
    let results: Results = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(results.cells.len(), 4);
    assert_eq!(comparison::table(&comparison::rows(&results.cells)), said);
    assert_eq!(comparison::table(&results.rows), said);
    assert_eq!(String::from_utf8_lossy(&run(benchmark, &arguments).stdout), said);
    // What is finished is read, not made again: a number that no training gives stays.
    let cells = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path().join("cell.json"));
    let cell = cells.into_iter().find(|cell| cell.exists() && cell.to_str().unwrap().contains("-none-")).unwrap();
    let mut finished: serde_json::Value = serde_json::from_slice(&std::fs::read(&cell).unwrap()).unwrap();
    finished["cell"]["parameters"] = 123_456_789.into();
    std::fs::write(&cell, finished.to_string()).unwrap();
    run(benchmark, &arguments);
    let results: Results = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(results.cells.iter().filter(|cell| cell.parameters == 123_456_789).count(), 1);
    std::fs::remove_dir_all(path).unwrap();
}
