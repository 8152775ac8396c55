//! Walkers in long hallways: a sign at the beginning tells which way to turn at the end.
//!
//! `cargo run --release --example hallway` opens a window; `-- --headless` counts the right turns of the episodes that the
//! trainer evaluates; `-- --screenshot FILE` draws one frame. The hallway is the environment that the walkers were trained
//! on; without a window it is 20 times as long where nothing else is said.

#[path = "../foragers/display.rs"]
mod display;
mod game;
#[path = "../foragers/offscreen.rs"]
mod offscreen;
mod picture;
mod play;

use clap::Parser;
use infformer_rl::program;
use std::path::PathBuf;
use std::process::ExitCode;

/// Walkers that remember a sign.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// Counts right turns, without a window.
    #[arg(long)]
    headless: bool,
    /// Renders one frame, panel and all, to a PNG file without a window: a walker that has just turned.
    #[arg(long)]
    screenshot: Option<PathBuf>,
    /// Steps from the sign to the junction. 240; 5,000 without a window.
    #[arg(long)]
    corridor: Option<usize>,
    /// Walkers side by side. 12; 100 without a window.
    #[arg(long)]
    walkers: Option<usize>,
    /// Seed of the episodes, as the trainer's `--seed`.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

fn main() -> ExitCode {
    let Arguments { headless, screenshot, corridor, walkers, seed } = Arguments::parse();
    let hall = move |steps: usize, count: usize| game::Hall {
        corridor: corridor.unwrap_or(steps).max(1),
        walkers: walkers.unwrap_or(count).max(1),
        seed,
    };
    let seen = hall(240, 12);
    let unseen = move || program::run(1, move || play::run(hall(5_000, 100)));
    match (headless, screenshot, display::missing()) {
        (true, ..) => unseen(),
        (false, Some(path), _) if display::has_gpu() => play::render(seen, path),
        (false, Some(_), _) => {
            eprintln!(
                "a picture needs a Vulkan driver; a software one will do (Debian: libvulkan1 mesa-vulkan-drivers)"
            );
            ExitCode::FAILURE
        }
        (false, None, None) => play::watch(seen),
        (false, None, Some(what)) => {
            eprintln!("{what}: counting right turns instead (as with --headless)");
            unseen()
        }
    }
}
