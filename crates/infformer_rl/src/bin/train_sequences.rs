//! Trains one network on one task: RON in; checkpoint, metrics, curves and, for our model, weights out.

use clap::Parser;
use infformer_rl::program::{self, DeviceChoice};
use infformer_rl::sequences::learner::Learner;
use infformer_rl::sequences::task::Difficulty;
use infformer_rl::sequences::trainer::{TrainingConfig, evaluate, train};
use infformer_rl::{Error, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Trains a network with a memory, or a baseline, on a sequence task. Ctrl-C stops it; the same command goes on.
#[derive(Debug, Parser)]
struct Arguments {
    /// The run, as RON: see crates/infformer_rl/runs.
    config: PathBuf,
    /// Folder for checkpoint, metrics.jsonl, TensorBoard events and weights.
    #[arg(long)]
    output: PathBuf,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceChoice,
    /// Another seed than the file's.
    #[arg(long)]
    seed: Option<u64>,
    /// After training, evaluate at so many times the farthest distance too; 1 does not.
    #[arg(long, default_value_t = 16)]
    beyond: usize,
    /// Threads of the tensor library, where RAYON_NUM_THREADS does not say.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run(arguments.threads, move || run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let text = std::fs::read_to_string(&arguments.config)
        .map_err(|error| Error::File { path: arguments.config.clone(), error })?;
    let mut config = TrainingConfig::from_ron(&text)?;
    config.seed = arguments.seed.unwrap_or(config.seed);
    let device = arguments.device.open()?;
    let stop = program::stop_on_interrupt();
    let trained = train(&config, &arguments.output, &device, &stop)?;
    let progress = &trained.progress;
    if !progress.finished {
        println!("stopped at step {}; the same command goes on from there", progress.step);
        return Ok(());
    }
    let count = trained.learner.parameter_count();
    println!("{} parameters, {} steps, {:.0} s", count, progress.step, progress.seconds);
    let accuracy = evaluate(&config, &trained.learner, Difficulty::Farthest(1), 1_000, &device)?;
    println!("accuracy {accuracy:.3} at the distance or length of training");
    if arguments.beyond > 1 {
        let beyond = evaluate(&config, &trained.learner, Difficulty::Farthest(arguments.beyond), 200, &device)?;
        println!("accuracy {beyond:.3} at {} times that", arguments.beyond);
    }
    if let Learner::Transformer(model) = &trained.learner {
        let name = config.task.name();
        infformer::weights::save(model, &arguments.output, name)?;
        println!("{name}.model.ron and {name}.safetensors are in {}", arguments.output.display());
    }
    Ok(())
}
