//! A run learns, stops, goes on as if it had not stopped, and says what is wrong with its files.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::Device;
use infformer::model::LongTermForgetting;
use infformer_rl::Error;
use infformer_rl::log;
use infformer_rl::sequences::benchmark::{Memory, Row, WINDOW, recall_run, recall_tasks, sorting_run, sorting_window};
use infformer_rl::sequences::learner::{Learner, LearnerConfig};
use infformer_rl::sequences::task::{Difficulty, Distance, Task, by_frequency, sorting_ceilings};
use infformer_rl::sequences::trainer::{Record, TrainingConfig, train};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("infformer-training-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn go(config: &TrainingConfig, folder: &std::path::Path) -> infformer_rl::sequences::trainer::Trained {
    train(config, folder, &Device::Cpu, &AtomicBool::new(false)).unwrap()
}

/// A symbol four windows back, which the window alone cannot see.
fn small(memory: Memory, steps: u64) -> TrainingConfig {
    let task = Task::FirstToken { symbols: 4, distance: Distance { least: 16, most: 64 } };
    let mut config = recall_run(&task, 4, memory, steps, 0).unwrap();
    if let LearnerConfig::Transformer(sizes) = &mut config.learner {
        (sizes.width, sizes.feed_forward) = (16, 32);
    }
    config.optimiser.warm_up = 20;
    config.optimiser.learning_rate = 5e-3;
    config
}

#[test]
fn a_memory_is_learnt_where_a_window_stays_at_chance() {
    let path = folder("learns");
    let ours = go(&small(Memory::Ours, 500), &path.join("ours"));
    let window = go(&small(Memory::Window, 200), &path.join("window"));
    assert!(ours.progress.best >= 0.95, "{:?}", ours.progress);
    // Chance is .25; of 256 answers, .40 is five standard deviations off, and the best of two is taken.
    assert!(window.progress.best < 0.40, "{:?}", window.progress);
    assert!(!log::read::<Record>(&path.join("ours/metrics.jsonl")).unwrap().is_empty());
    std::fs::remove_dir_all(path).unwrap();
}

fn weights(learner: &Learner) -> Vec<f32> {
    let values = learner.parameters().values().map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    values.flatten().collect()
}

#[test]
fn a_run_that_was_resumed_is_the_same_run() {
    let config =
        TrainingConfig { evaluate_every: 10, evaluation_sequences: 32, stop_at: None, ..small(Memory::Ours, 30) };
    let path = folder("resumes");
    let whole = go(&config, &path.join("whole"));
    let part = path.join("part");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As soon as there is a checkpoint.
            while !part.join("checkpoint.safetensors").exists() {
                std::thread::yield_now();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        let stopped = train(&config, &part, &Device::Cpu, &stop).unwrap();
        assert!(stopped.progress.step >= 10, "{:?}", stopped.progress);
    });
    let resumed = go(&config, &part);
    assert_eq!(weights(&whole.learner), weights(&resumed.learner));
    let told = |name: &str| -> Vec<(u64, f64, f64)> {
        let records = log::read::<Record>(&path.join(name).join("metrics.jsonl")).unwrap();
        records.iter().map(|record| (record.step, record.loss, record.accuracy)).collect()
    };
    assert_eq!(told("whole"), told("part"));
    // It goes on where more steps are allowed.
    let longer = go(&TrainingConfig { steps: 40, ..config.clone() }, &part);
    assert_eq!((longer.progress.step, longer.progress.finished), (40, true));
    // Another configuration does not go on from this checkpoint; a damaged file says so.
    let other = TrainingConfig { seed: 1, ..config.clone() };
    let refused = train(&other, &part, &Device::Cpu, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(refused, Error::Checkpoint { .. }), "{refused}");
    std::fs::write(part.join("checkpoint.safetensors"), b"broken").unwrap();
    let refused = train(&config, &part, &Device::Cpu, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(refused, Error::Checkpoint { .. }), "{refused}");
    std::fs::remove_dir_all(path).unwrap();
}

/// As many parameters; as many coefficients, which for the means reach over all ticks of training.
#[test]
fn baselines_have_the_parameters_and_the_reach_of_ours() {
    let recall = |times: usize| recall_tasks(times).into_iter().map(move |task| (task, times));
    let mut runs = vec![];
    for (task, times) in recall(8).chain(recall(64)).chain(recall(12)) {
        let all = Memory::ALL.map(|memory| (memory, recall_run(&task, times, memory, 1, 0).unwrap()));
        runs.push((times * WINDOW, BTreeMap::from(all)));
    }
    for length in [1_000, 4_000, 16_000] {
        let all = Memory::ALL.map(|memory| (memory, sorting_run(length, memory, 200, 0).unwrap()));
        runs.push((length, BTreeMap::from(all)));
    }
    for (ticks, run) in runs {
        let count = |memory| {
            let config = &run[&memory];
            config.validate().unwrap();
            config.learner.init(&config.task, 0, &Device::Cpu).unwrap().parameter_count() as f64
        };
        let ratio = count(Memory::Gru) / count(Memory::Ours);
        assert!((0.97..=1.0).contains(&ratio), "{ratio}");
        assert_eq!(count(Memory::MeanPooled), count(Memory::Ours));
        let long_term = |memory| match &run[&memory].learner {
            LearnerConfig::Transformer(sizes) => sizes.long_term.clone().unwrap(),
            LearnerConfig::Gru { .. } => panic!("no transformer"),
        };
        let (means, ours) = (long_term(Memory::MeanPooled), long_term(Memory::Ours));
        assert_eq!(means.capacity, ours.capacity);
        let LongTermForgetting::MeanPooled { rate } = means.forgetting else { panic!("not pooled") };
        assert!(rate * means.capacity >= ticks, "{rate} at {ticks}");
    }
}

/// An evaluation that is no better than the best for so long ends the run.
#[test]
fn a_run_without_progress_ends_early() {
    let path = folder("patience");
    let config = TrainingConfig { evaluate_every: 2, patience: Some(3), ..small(Memory::Window, 200) };
    let trained = go(&TrainingConfig { evaluation_sequences: 32, stop_at: None, ..config }, &path);
    let records = log::read::<Record>(&path.join("metrics.jsonl")).unwrap();
    let accuracies: Vec<f64> = records.iter().map(|record| record.accuracy).collect();
    assert!(trained.progress.finished && trained.progress.step < 200, "{:?}", trained.progress);
    let best = accuracies.iter().position(|accuracy| *accuracy == trained.progress.best).unwrap();
    assert_eq!(accuracies.len(), best + 4, "{accuracies:?}");
    assert_eq!(trained.progress.best_step, 2 * (best as u64 + 1));
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn answers_are_where_the_rules_say() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let task = Task::KeyValue { pairs: 5, values: 3, distance: Distance { least: 7, most: 7 } };
    let batch = task.sample(50, Difficulty::Farthest(1), &mut random, &Device::Cpu).unwrap();
    let targets = batch.targets.to_vec2::<u32>().unwrap();
    for (sequence, target) in batch.x.to_vec3::<f32>().unwrap().iter().zip(targets) {
        assert_eq!(sequence.len(), 5 + 7 + 1);
        let asked = sequence.last().unwrap();
        let shown: Vec<_> = sequence[..5].iter().filter(|tick| tick[0] == asked[0]).collect();
        assert_eq!((shown.len(), shown[0][1] as u32 - 1, asked[1]), (1, target[0], 0.0));
        assert!(sequence[5..12].iter().all(|tick| tick[0] == 0.0 && tick[1] >= 1.0));
    }
    let task = Task::Sorting { symbols: 4, length: 60 };
    let batch = task.sample(20, Difficulty::Training, &mut random, &Device::Cpu).unwrap();
    let targets = batch.targets.to_vec2::<u32>().unwrap();
    for (sequence, target) in batch.x.to_vec3::<f32>().unwrap().iter().zip(targets) {
        let symbols: Vec<usize> = sequence.iter().map(|tick| tick[0] as usize).collect();
        let order: Vec<usize> = target.iter().map(|symbol| *symbol as usize).collect();
        assert_eq!(by_frequency(4, &symbols[..60]), order);
        // The question, then all answers but the last.
        let phases: Vec<usize> = sequence.iter().map(|tick| tick[1] as usize).collect();
        assert_eq!((&phases[..60], &phases[60..]), (&[0; 60][..], &[1, 2, 2, 2][..]));
        assert_eq!(&symbols[61..], &order[..3]);
    }
    let farther = task.sample(2, Difficulty::Farthest(4), &mut random, &Device::Cpu).unwrap();
    assert_eq!(farther.x.dims(), &[2, 4 * 60 + 4, 2]);
    let [whole, window] = sorting_ceilings(4, 400, 20, 100, &mut random);
    assert!(whole == 1.0 && window < 0.9 && window > 0.25, "{whole} {window}");
    // At the first question 1,001 ticks were there: 29 chunks of 32 have left, 72 ticks and the question stay.
    assert_eq!(sorting_window(1_000), 72);
}

#[test]
fn the_program_trains_and_says_what_is_wrong() {
    let path = folder("program");
    std::fs::create_dir_all(&path).unwrap();
    let run = |text: &str| {
        let file = path.join("run.ron");
        std::fs::write(&file, text).unwrap();
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_train_sequences"));
        program.arg(&file).arg("--output").arg(path.join("out")).args(["--beyond", "2"]).output().unwrap()
    };
    let config =
        TrainingConfig { evaluate_every: 5, evaluation_sequences: 32, stop_at: None, ..small(Memory::Ours, 10) };
    let done = run(&ron::to_string(&config).unwrap());
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains("10 steps") && said.contains("at 2 times that"), "{done:?}");
    let trained = infformer::weights::load(&path.join("out"), "first-token", &Device::Cpu).unwrap();
    assert!(trained.parameter_count() > 0);
    let events = std::fs::read_dir(path.join("out")).unwrap();
    assert!(events.filter_map(|file| file.ok()).any(|file| file.file_name().to_string_lossy().contains("tfevents")));
    let gru = LearnerConfig::Gru { width: 8, hidden: 0 };
    let stunted = ron::to_string(&TrainingConfig { learner: gru, ..config }).unwrap();
    for (wrong, expected) in [("(task: Nothing)", "Nothing"), (&stunted, "0 hidden units")] {
        let wrong = run(wrong);
        let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(!wrong.status.success() && said.contains(expected), "{wrong:?}");
    }
    std::fs::remove_dir_all(path).unwrap();
}

/// A table, its rows as JSON, the same again from the folders of its runs; a name that is none is an error.
#[test]
fn the_benchmark_prints_its_rows() {
    let path = folder("benchmark");
    std::fs::create_dir_all(&path).unwrap();
    let json = path.join("rows.json");
    let run = |memories: &str| {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_benchmark"));
        program.args(["recall", "--times", "2", "--tasks", "first-token", "--steps", "5", "--memories", memories]);
        program.arg("--output").arg(&path).arg("--json").arg(&json).output().unwrap()
    };
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let done = run("ours,window");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(said(&done).lines().filter(|line| line.starts_with("| first-token | 32 | ")).count(), 2);
    let rows: Vec<Row> = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!(rows.iter().map(|row| row.memory).collect::<Vec<_>>(), [Memory::Ours, Memory::Window]);
    assert!(rows.iter().all(|row| (row.steps, row.most_steps, row.seed) == (5, 5, 0)));
    assert_eq!(said(&run("ours,window")), said(&done));
    let wrong = run("ours,none");
    let told = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success() && told.contains("mean-pooled"), "{told}");
    std::fs::remove_dir_all(path).unwrap();
}

/// Ctrl-C ends the program after the step under way, and the same command goes on.
#[cfg(unix)]
#[test]
fn the_program_can_be_interrupted() {
    let path = folder("interrupted");
    std::fs::create_dir_all(&path).unwrap();
    let (file, out) = (path.join("run.ron"), path.join("out"));
    let config =
        TrainingConfig { evaluate_every: 5, evaluation_sequences: 32, stop_at: None, ..small(Memory::Ours, 1_000_000) };
    std::fs::write(&file, ron::to_string(&config).unwrap()).unwrap();
    let interrupted = || {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_train_sequences"));
        program.arg(&file).arg("--output").arg(&out).stdout(std::process::Stdio::piped());
        let program = program.spawn().unwrap();
        let records = || log::read::<Record>(&out.join("metrics.jsonl")).unwrap().len();
        let before = records();
        while records() == before {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let id = program.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let done = program.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && said.contains("stopped at step"), "{done:?}");
        records()
    };
    let first = interrupted();
    assert!(interrupted() > first);
    std::fs::remove_dir_all(path).unwrap();
}

/// The runs that the documentation names are valid.
#[test]
fn the_runs_of_the_folder_are_valid() {
    let runs = std::fs::read_dir(format!("{}/runs/sequences", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let texts: Vec<String> = runs.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    assert_eq!(texts.len(), 5);
    let runs: Vec<TrainingConfig> = texts.iter().map(|text| TrainingConfig::from_ron(text).unwrap()).collect();
    // The file and the table's row are the same run.
    assert!(runs.contains(&sorting_run(1_000, Memory::Ours, 2_000, 0).unwrap()));
}
