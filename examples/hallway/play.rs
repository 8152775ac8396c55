//! The ways to run the game: in a window, without one, and for one picture.

use crate::game::{Hall, HallwayGame, Walker};
use crate::offscreen::{Canvas, OffscreenPlugin};
use crate::picture::HallwayPicture;
use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_infformer::{MemoryFailure, MemorySlot};
use bevy_infformer_inspector::MemoryInspector;
use indicatif::ProgressBar;
use infformer_rl::bevy_game::BeginEpisode;
use infformer_rl::{Error, Result};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Frames from the turn to the picture: fonts and textures arrive meanwhile.
const FRAMES_TO_SETTLE: u32 = 60;

/// Opens a window.
pub fn watch(hall: Hall) -> ExitCode {
    let window = Window { title: "a sign remembered".into(), resolution: (1280, 800).into(), ..default() };
    let mut app = App::new();
    app.add_plugins(DefaultPlugins.set(WindowPlugin { primary_window: Some(window), ..default() }));
    app.add_plugins((HallwayGame(hall), HallwayPicture));
    exit(app.run())
}

fn exit(exit: AppExit) -> ExitCode {
    match exit {
        AppExit::Success => ExitCode::SUCCESS,
        AppExit::Error(_) => ExitCode::FAILURE,
    }
}

#[derive(Resource)]
struct Shot {
    path: PathBuf,
    /// Frames left since the turn; none before it, and at last.
    settling: Option<u32>,
}

/// Renders one frame to `path`: the selected walker has just turned.
pub fn render(hall: Hall, path: PathBuf) -> ExitCode {
    let mut app = App::new();
    app.add_plugins(OffscreenPlugin)
        .add_plugins((HallwayGame(hall), HallwayPicture))
        .insert_resource(Shot { path, settling: None })
        .insert_resource(TimeUpdateStrategy::FixedTimesteps(1))
        .add_systems(FixedPostUpdate, stop_at_the_turn)
        .add_systems(Update, take);
    exit(app.run())
}

fn stop_at_the_turn(
    inspector: Res<MemoryInspector>,
    walkers: Query<&Walker>,
    mut shot: ResMut<Shot>,
    mut time: ResMut<Time<Virtual>>,
) {
    let walker = inspector.selected.and_then(|entity| walkers.get(entity).ok());
    if shot.settling.is_none() && walker.is_some_and(|walker| walker.turned.is_some()) {
        time.pause();
        shot.settling = Some(FRAMES_TO_SETTLE);
    }
}

fn take(mut shot: ResMut<Shot>, canvas: Res<Canvas>, mut commands: Commands) {
    match shot.settling {
        Some(1) => canvas.save(shot.path.clone(), &mut commands),
        Some(0) | None => return,
        Some(_) => {}
    }
    shot.settling = shot.settling.map(|left| left - 1);
}

/// Walks one round without a window, as fast as it goes, and counts the right turns.
pub fn run(hall: Hall) -> Result<()> {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, AssetPlugin::default(), HallwayGame(hall)));
    app.insert_resource(TimeUpdateStrategy::FixedTimesteps(1));
    app.finish();
    app.cleanup();
    let mut ready = app.world_mut().query_filtered::<(), With<MemorySlot>>();
    while ready.iter(app.world()).count() < hall.walkers {
        app.update();
        if let Some(AppExit::Error(_)) = app.should_exit() {
            let message = "the walkers' model could not be loaded: start by `cargo run`, or say in BEVY_ASSET_ROOT \
                           which folder `assets` is in";
            return Err(Error::Configuration(message.into()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    app.world_mut().trigger(BeginEpisode { seed: 0 });
    app.world_mut().flush();
    let bar = ProgressBar::new(hall.corridor as u64);
    let mut walkers = app.world_mut().query::<&Walker>();
    while walkers.iter(app.world()).any(|walker| walker.turned.is_none()) {
        app.update();
        if let Some(failure) = app.world_mut().resource_mut::<Messages<MemoryFailure>>().drain().next() {
            return Err(Error::Configuration(failure.message));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let right = walkers.iter(app.world()).filter(|walker| walker.turned == Some(true)).count();
    let total: f64 = walkers.iter(app.world()).map(|walker| walker.total).sum();
    let count = hall.walkers as f64;
    println!(
        "{} steps: return {:.3}, the right turn in {:.4} of {} episodes",
        hall.corridor,
        total / count,
        right as f64 / count,
        hall.walkers
    );
    Ok(())
}
