//! A courier that remembers an address: a small Bevy game, an agent trained on it, and the agent in the game.
//!
//! `cargo run --release --example courier -- train` trains it; `-- play` plays the game with what was
//! trained, `-- watch` shows it in a window.

#[path = "../foragers/display.rs"]
mod display;
mod game;
mod picture;
mod play;
mod training;

use clap::{Parser, Subcommand};
use infformer_rl::program;
use std::path::PathBuf;
use std::process::ExitCode;

/// A courier that remembers an address.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
    /// Folder of the checkpoint, the curves and the model.
    #[arg(long, global = true, default_value = "target/courier")]
    folder: PathBuf,
    /// Rounds to judge it by.
    #[arg(long, global = true, default_value_t = 200)]
    rounds: usize,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Trains a courier. Ctrl-C stops it, the same command goes on.
    Train {
        /// Steps of all games together.
        #[arg(long, default_value_t = 400_000)]
        steps: u64,
        /// Seed of weights, episodes and actions.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Plays rounds with the trained courier, without a window.
    Play,
    /// Shows the trained courier in a window.
    Watch,
}

fn main() -> ExitCode {
    let Arguments { what, folder, rounds } = Arguments::parse();
    match what {
        // A window belongs to the program's first thread.
        What::Watch => play::watch(&folder),
        What::Train { steps, seed } => program::run(1, move || training::run(&folder, steps, seed, rounds)),
        What::Play => program::run(1, move || play::run(&folder, rounds)),
    }
}
