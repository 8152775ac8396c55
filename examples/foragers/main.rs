//! Foragers that remember: a small world in which it pays to know where and when something was seen.
//!
//! `cargo run --release --example foragers` opens a window; `-- --headless` runs the same world as an experiment;
//! `-- --help` tells the rest.

mod controls;
mod display;
mod experiment;
mod game;
mod meadow;
mod minds;
mod offscreen;
mod picture;
mod scene;
mod sighting;
mod world;

use bevy::prelude::AppExit;
use clap::Parser;
use std::path::PathBuf;

/// Foragers that remember where they saw what.
#[derive(Debug, Parser)]
struct Arguments {
    /// Runs the experiment and prints its table, without a window.
    #[arg(long)]
    headless: bool,
    /// Ticks of a life in the experiment, or before the screenshot.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    ticks: u64,
    /// Seeds of the experiment.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Writes the experiment's figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Renders one frame, panel and all, to a PNG file without a window.
    #[arg(long)]
    screenshot: Option<PathBuf>,
}

fn main() -> AppExit {
    let arguments = Arguments::parse();
    let experiment = || match experiment::run(arguments.ticks, arguments.seeds, arguments.json.as_deref()) {
        Ok(()) => AppExit::Success,
        Err(error) => {
            eprintln!("the experiment failed: {error}");
            AppExit::error()
        }
    };
    if arguments.headless {
        return experiment();
    }
    if let Some(path) = arguments.screenshot {
        if !display::has_gpu() {
            eprintln!(
                "a picture needs a Vulkan driver; a software one will do (Debian: libvulkan1 mesa-vulkan-drivers)"
            );
            return AppExit::error();
        }
        return picture::render(path, arguments.ticks);
    }
    match display::missing() {
        None => game::play(),
        Some(what) => {
            println!("{what}: running the experiment instead (as with --headless)\n");
            experiment()
        }
    }
}
