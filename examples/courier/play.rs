//! Play: the same game with the memories' plugins, and the trained model on the courier.

use crate::display;
use crate::game::{Courier, CourierGame, Sight, Walk};
use crate::picture::picture;
use crate::training::{CHOICE, NAME, ROUNDS};
use bevy::asset::LoadState;
use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_infformer::infformer::{RuntimeConfig, RuntimeMode};
use bevy_infformer::{InfformerPlugin, MemoryAgent, MemoryFailure, MemorySlot};
use infformer_rl::bevy_game::{BeginEpisode, TrainedAgents, Verdict};
use infformer_rl::environment::Ending;
use infformer_rl::evaluation::evaluation_seed;
use infformer_rl::{Error, Result};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// The game, the memories and the trained courier.
fn add_game(app: &mut App) {
    let runtime = RuntimeConfig { mode: RuntimeMode::Lockstep, ..default() };
    app.add_plugins(InfformerPlugin::default().with_runtime(runtime));
    let memory = app.world().resource::<AssetServer>().load(format!("{NAME}.model.ron"));
    app.add_plugins((CourierGame { memory }, TrainedAgents::<Sight, Walk>::new(CHOICE)));
}

/// Files of the model lie in `folder`.
fn assets(folder: &Path) -> Result<AssetPlugin> {
    let missing = |error| Error::Configuration(format!("{}: {error}; `-- train` trains a courier", folder.display()));
    let folder = folder.canonicalize().map_err(missing)?;
    Ok(AssetPlugin { file_path: folder.display().to_string(), ..default() })
}

/// Opens a window.
pub fn watch(folder: &Path) -> ExitCode {
    let assets = match (display::missing(), assets(folder)) {
        (None, Ok(assets)) => assets,
        (Some(what), _) => return refuse(&format!("{what}: `-- play` needs none")),
        (_, Err(error)) => return refuse(&error.to_string()),
    };
    let mut app = App::new();
    app.add_plugins(DefaultPlugins.set(assets));
    add_game(&mut app);
    app.add_plugins(picture);
    match app.run() {
        AppExit::Success => ExitCode::SUCCESS,
        AppExit::Error(_) => ExitCode::FAILURE,
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

/// Plays the rounds that the trainer judged by, as fast as they can be, and counts the right doors.
pub fn run(folder: &Path, rounds: usize) -> Result<()> {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, assets(folder)?)).add_plugins(add_game);
    app.insert_resource(TimeUpdateStrategy::FixedTimesteps(1));
    app.finish();
    app.cleanup();
    let mut ready = app.world_mut().query_filtered::<(), With<MemorySlot>>();
    let mut couriers = app.world_mut().query::<&MemoryAgent>();
    while ready.single(app.world()).is_err() {
        app.update();
        let state = couriers.single(app.world()).map(|courier| courier.memory.id());
        let state = state.map(|memory| app.world().resource::<AssetServer>().load_state(memory));
        if let Ok(LoadState::Failed(error)) = state {
            return Err(Error::Configuration(format!("{error}; `-- train` trains a courier")));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut couriers = app.world_mut().query_filtered::<&Verdict, With<Courier>>();
    let (mut right, mut returns) = (0, 0.0);
    for round in 0..rounds {
        app.world_mut().trigger(BeginEpisode { seed: evaluation_seed(ROUNDS, round) });
        app.world_mut().flush();
        loop {
            app.update();
            if let Some(failure) = app.world_mut().resource_mut::<Messages<MemoryFailure>>().drain().next() {
                return Err(Error::Configuration(failure.message));
            }
            let verdict = couriers.single(app.world()).map_err(|error| Error::Configuration(error.to_string()))?;
            returns += f64::from(verdict.reward);
            if verdict.ending != Ending::Running {
                right += usize::from(verdict.reward > 0.0);
                break;
            }
        }
    }
    let (right, mean) = (right as f64 / rounds as f64, returns / rounds as f64);
    println!("in the game: the right door in {right:.3} of {rounds} rounds, return {mean:.5}");
    Ok(())
}
