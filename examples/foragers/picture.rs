//! One frame as a PNG, panel and all, without a window.

use crate::controls::step_fixed;
use crate::game::{ForagerIndex, Foragers, GameWorld};
use bevy::app::ScheduleRunnerPlugin;
use bevy::camera::RenderTarget;
use bevy::prelude::*;
use bevy::render::RenderPlugin;
use bevy::render::render_resource::TextureFormat;
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured, save_to_disk};
use bevy::time::TimeUpdateStrategy;
use bevy::window::ExitCondition;
use bevy::winit::WinitPlugin;
use bevy_infformer::infformer::{RuntimeConfig, RuntimeMode};
use bevy_infformer::{InfformerPlugin, Recall};
use bevy_infformer_inspector::MemoryInspector;
use std::path::PathBuf;
use std::time::Duration;

/// Ticks worked off in one frame before the picture.
const TICKS_A_FRAME: u32 = 500;
/// Frames from the last tick to the picture: fonts, textures and the look at the memory arrive meanwhile.
const FRAMES_TO_SETTLE: u32 = 60;
/// Ticks waited at most for a forager with a craving and an answer.
const PATIENCE: u64 = 20_000;

#[derive(Resource)]
struct Shot {
    path: PathBuf,
    target: Handle<Image>,
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
    let no_window = WindowPlugin { primary_window: None, exit_condition: ExitCondition::DontExit, ..default() };
    let synchronous = RenderPlugin { synchronous_pipeline_compilation: true, ..default() };
    app.add_plugins(DefaultPlugins.set(no_window).set(synchronous).disable::<WinitPlugin>())
        .add_plugins(ScheduleRunnerPlugin::run_loop(Duration::ZERO))
        .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_micros(16_667)));
    // The same picture at every run: nothing depends on how fast the worker is.
    let runtime = RuntimeConfig { mode: RuntimeMode::Lockstep, ..default() };
    app.add_plugins((Foragers, InfformerPlugin::default().with_runtime(runtime)))
        .insert_resource(Shot { path, target: Handle::default(), ticks, stage: Stage::Living })
        .add_systems(PostStartup, aim)
        .add_systems(Update, live)
        .run()
}

/// Turns the camera from the window to an image.
fn aim(
    camera: Single<Entity, With<Camera2d>>,
    mut images: ResMut<Assets<Image>>,
    mut shot: ResMut<Shot>,
    mut commands: Commands,
) {
    shot.target = images.add(Image::new_target_texture(1280, 800, TextureFormat::Rgba8UnormSrgb, None));
    commands.entity(*camera).insert(RenderTarget::Image(shot.target.clone().into()));
}

fn live(world: &mut World) {
    let tick = world.resource::<GameWorld>().0.tick;
    let shot = world.resource::<Shot>();
    let (ticks, path, target) = (shot.ticks, shot.path.clone(), shot.target.clone());
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
            world.commands().spawn(Screenshot::image(target)).observe(save_to_disk(path)).observe(
                |_: On<ScreenshotCaptured>, mut exit: MessageWriter<AppExit>| {
                    exit.write(AppExit::Success);
                },
            );
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
