//! Trainings on a GPU are the processor's, whose operations are others. Skipped where there is no GPU.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::{Device, Var};
use clap::ValueEnum;
use infformer_rl::environments::EnvironmentConfig;
use infformer_rl::memories::MemoryName;
use infformer_rl::policy::PolicyConfig;
use infformer_rl::ppo::PpoConfig;
use infformer_rl::sequences::benchmark::{self, Memory};
use infformer_rl::trainer::TrainingConfig;
use infformer_rl::{sequences, trainer};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Gradients that differ by f32's rounding, some 1e-6 of them, give steps that differ by as much; but Adam makes the step of a
/// weight whose gradient is nothing but rounding as long as any other's, and it may go the other way: one weight in ten
/// thousand of that kind is 2e-2 of the way of all. An action is drawn differently where a draw falls between two probabilities,
/// which of all draws here happens once in some tens of runs at most; the ways then part altogether.
const OF_THE_WAY: f64 = 2e-2;

fn gpu() -> Option<Device> {
    Device::new_cuda(0).inspect_err(|error| eprintln!("SKIPPED: no GPU was tried: {error}")).ok()
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("infformer-device-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn weights<'a>(vars: impl Iterator<Item = &'a Var>) -> Vec<f32> {
    vars.flat_map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect()
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

/// From the same weights, both trainings went the same way.
fn went_alike(what: &str, from: &[f32], here: &[f32], there: &[f32]) {
    let (way, apart) = (distance(from, here), distance(here, there));
    println!("{what}: {:.1e} of the way apart", apart / way);
    assert!(way > 0.0 && apart < OF_THE_WAY * way, "{what}: {apart:e} apart after a way of {way:e}");
}

#[test]
fn every_memory_learns_there_what_it_learns_here() {
    let Some(gpu) = gpu() else { return };
    for memory in MemoryName::value_variants() {
        // Segments are longer than windows, and episodes end within them.
        let name = "repeat-previous-medium";
        let ppo = PpoConfig { members: 4, ticks: 256, minibatches: 2, ..PpoConfig::default() };
        let config = TrainingConfig::new(name, PolicyConfig::new(32, 32, memory.config(32)), ppo, 2048, 0);
        let environment = EnvironmentConfig::parse(name).unwrap();
        let spaces = config.policy.spaces(&*environment.make());
        let from = config.policy.init(&spaces, config.seed, &Device::Cpu).unwrap();
        let [here, there] = [&Device::Cpu, &gpu].map(|device| {
            let folder = folder(memory.name());
            let make = move || environment.make();
            let trained = trainer::train(&config, &make, &folder, device, &AtomicBool::new(false)).unwrap();
            std::fs::remove_dir_all(&folder).unwrap();
            weights(trained.policy.parameters().values())
        });
        went_alike(memory.name(), &weights(from.parameters().values()), &here, &there);
    }
}

#[test]
fn every_learner_of_sequences_learns_there_what_it_learns_here() {
    let Some(gpu) = gpu() else { return };
    for memory in Memory::ALL {
        let run = benchmark::recall_run(&benchmark::recall_tasks(8)[1], 8, memory, 3, 0).unwrap();
        let from = run.learner.init(&run.task, run.seed, &Device::Cpu).unwrap();
        let [here, there] = [&Device::Cpu, &gpu].map(|device| {
            let folder = folder(memory.name());
            let trained = sequences::trainer::train(&run, &folder, device, &AtomicBool::new(false)).unwrap();
            std::fs::remove_dir_all(&folder).unwrap();
            weights(trained.learner.parameters().values())
        });
        went_alike(memory.name(), &weights(from.parameters().values()), &here, &there);
    }
}
