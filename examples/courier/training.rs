//! Training: many games side by side, one policy.

use crate::game::{CourierGame, Sight, Walk};
use bevy::prelude::*;
use bevy_infformer::infformer::{Device, weights};
use infformer_rl::Result;
use infformer_rl::bevy_game::BevyGame;
use infformer_rl::distribution::Choice;
use infformer_rl::environment::{Action, Ending, Environment};
use infformer_rl::evaluation::{EvaluationConfig, evaluate};
use infformer_rl::memories::MemoryName;
use infformer_rl::policy::{PolicyConfig, Spaces};
use infformer_rl::ppo::PpoConfig;
use infformer_rl::program::stop_on_interrupt;
use infformer_rl::trainer::{TrainingConfig, train};
use std::path::Path;
use std::time::Instant;

/// The name of the model's files.
pub const NAME: &str = "courier";
/// The rounds that a courier is judged by follow from it.
pub const ROUNDS: u64 = 0;
/// As in training: the most probable actions alone lead along one way, which the courier seldom went.
pub const CHOICE: Choice = Choice::Drawn;

fn game() -> BevyGame<Sight, Walk> {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, CourierGame { memory: Handle::default() }));
    BevyGame::new(app)
}

/// Trains, saves and judges.
pub fn run(folder: &Path, steps: u64, seed: u64, rounds: usize) -> Result<()> {
    let mut first = game();
    println!("the game alone: {:.0} ticks/s", speed(&mut first));
    let policy = PolicyConfig::named(MemoryName::Infformer, &Spaces::of(&first, None))?;
    let ppo = PpoConfig { ticks: 128, minibatches: 8, ..PpoConfig::default() };
    let mut config = TrainingConfig::new(NAME, policy, ppo, steps, seed);
    config.stop_at = Some(1.45);
    let make = || -> Box<dyn Environment> { Box::new(game()) };
    let stop = stop_on_interrupt();
    let trained = train(&config, &make, folder, &Device::Cpu, &stop)?;
    let progress = &trained.progress;
    if !progress.finished {
        println!("stopped at step {}; the same command goes on from there", progress.steps);
        return Ok(());
    }
    let speed = progress.steps as f64 / progress.seconds;
    println!("{} steps in {:.0} s, {speed:.0} steps/s", progress.steps, progress.seconds);
    if let Some(model) = trained.policy.model() {
        weights::save(model, folder, NAME)?;
    }
    let wanted = EvaluationConfig { episodes: rounds, seed: ROUNDS };
    let found = evaluate(&trained.policy, &make, wanted, CHOICE, &Device::Cpu, &stop)?;
    let (right, mean) = (found.successes(), found.mean());
    println!("in training's games: the right door in {right:.3} of {rounds} rounds, return {mean:.5}");
    println!("the model is in {}; `-- play` plays with it", folder.display());
    Ok(())
}

/// Ticks a second of one game whose courier walks on and on.
fn speed(game: &mut BevyGame<Sight, Walk>) -> f64 {
    const TICKS: u32 = 10_000;
    let begun = Instant::now();
    let mut ending = Ending::Terminated;
    for tick in 0..TICKS {
        ending = match ending {
            Ending::Running => game.step(Action::Discrete(0)).ending,
            _ => {
                game.reset(u64::from(tick));
                Ending::Running
            }
        };
    }
    f64::from(TICKS) / begun.elapsed().as_secs_f64()
}
