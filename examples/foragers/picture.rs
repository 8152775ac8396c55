//! One frame as a PNG, panel and all, without a window.

use crate::controls::step_fixed;
use crate::game::Foragers;
use crate::meadow::{ForagerIndex, GameWorld};
use crate::offscreen::{Canvas, OffscreenPlugin};
use bevy::prelude::*;
use bevy_infformer::infformer::{RuntimeConfig, RuntimeMode};
use bevy_infformer::{InfformerPlugin, Recall};
use bevy_infformer_inspector::MemoryInspector;
use std::path::PathBuf;

/// Ticks worked off in one frame before the picture.
const TICKS_A_FRAME: u32 = 500;
/// Frames from the last tick to the picture: fonts, textures and the look at the memory arrive meanwhile.
const FRAMES_TO_SETTLE: u32 = 60;
/// Ticks waited at most for a forager with a craving and an answer.
const PATIENCE: u64 = 20_000;

#[derive(Resource)]
struct Shot {
    path: PathBuf,
    ticks: u64,
    stage: Stage,
}

/// How far the picture is.
enum Stage {
    /// The foragers live.
    Living,
    /// The frame settles; so many are left.
    Settling(u32),
    /// The picture is on its way.
    Taken,
}

/// Lets the foragers live for `ticks`, then renders one frame to `path`.
pub fn render(path: PathBuf, ticks: u64) -> AppExit {
    let mut app = App::new();
    app.add_plugins(OffscreenPlugin);
    // The same picture at every run: nothing depends on how fast the worker is.
    let runtime = RuntimeConfig { mode: RuntimeMode::Lockstep, ..default() };
    app.add_plugins((Foragers, InfformerPlugin::default().with_runtime(runtime)))
        .insert_resource(Shot { path, ticks, stage: Stage::Living })
        .add_systems(Update, live)
        .run()
}

fn live(world: &mut World) {
    let tick = world.resource::<GameWorld>().0.tick;
    let shot = world.resource::<Shot>();
    let (ticks, path) = (shot.ticks, shot.path.clone());
    let next = match shot.stage {
        Stage::Living if tick < ticks => {
            step_fixed(world, TICKS_A_FRAME.min((ticks - tick) as u32));
            Stage::Living
        }
        Stage::Living => match live_until_craving(world) {
            Some(forager) => {
                world.resource_mut::<MemoryInspector>().select(forager);
                world.resource_mut::<Time<Virtual>>().pause();
                Stage::Settling(FRAMES_TO_SETTLE)
            }
            None if tick > ticks + PATIENCE => Stage::Settling(FRAMES_TO_SETTLE),
            None => Stage::Living,
        },
        Stage::Settling(0) => {
            let canvas = world.resource::<Canvas>().clone();
            canvas.save(path, &mut world.commands());
            Stage::Taken
        }
        Stage::Settling(left) => Stage::Settling(left - 1),
        Stage::Taken => Stage::Taken,
    };
    world.resource_mut::<Shot>().stage = next;
}

/// Lives on, for one frame at most, until a forager craves something and remembers where there was some.
fn live_until_craving(world: &mut World) -> Option<Entity> {
    (0..TICKS_A_FRAME).find_map(|_| {
        step_fixed(world, 1);
        craving_forager(world)
    })
}

/// A forager that craves something and remembers where there was some.
fn craving_forager(world: &mut World) -> Option<Entity> {
    let mut foragers = world.query::<(Entity, &ForagerIndex, &Recall)>();
    let game = world.resource::<GameWorld>();
    let fresh = |recall: &Recall| recall.tick + 5 >= game.0.tick && recall.confidence() > 0.5;
    let peaks = |recall: &Recall| {
        recall.answer().map_or(0, |answer| answer.peaks().filter(|peak| peak.confidence > 0.3).count())
    };
    let craving = |forager: &ForagerIndex| game.0.foragers[forager.0].craving.is_some();
    let found =
        foragers.iter(world).find(|(_, forager, recall)| craving(forager) && fresh(recall) && peaks(recall) >= 4);
    found.map(|(entity, ..)| entity)
}
