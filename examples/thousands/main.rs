//! Ten thousand foragers that remember, and a meter that shows what that costs.
//!
//! `cargo run --release --example thousands` opens a window; `-- --headless` measures without one.

#[path = "../foragers/display.rs"]
mod display;
#[path = "../foragers/meadow.rs"]
mod meadow;
mod meter;
#[path = "../foragers/offscreen.rs"]
mod offscreen;
mod scene;
#[path = "../foragers/sighting.rs"]
#[allow(dead_code)]
mod sighting;
#[path = "../foragers/world.rs"]
#[allow(dead_code)]
mod world;

use bevy::app::ScheduleRunnerPlugin;
use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_infformer::infformer::{Device, MemoryConfig, RuntimeConfig};
use bevy_infformer::{InfformerPlugin, MemoryAgent, MemoryAsset, MemorySystems, Questions, Recall};
use clap::{Parser, ValueEnum};
use meadow::{ForagerIndex, GameWorld, observe};
use std::time::Duration;
use world::{Rules, World as Meadow};

/// Ticks a second, of the world and of every memory.
const TICKS_A_SECOND: f64 = 60.0;
/// Bushes of each kind a thousand foragers.
const BUSHES_A_THOUSAND: usize = 10;
/// Square metres a forager.
const ROOM: f32 = 144.0;

/// Foragers by the thousand.
#[derive(Debug, Clone, Parser, Resource)]
struct Arguments {
    /// How many.
    #[arg(long, default_value_t = 10_000)]
    foragers: usize,
    /// Threads that work on the memories: all cores but the game's own, where nothing is said.
    #[arg(long, default_value_t = cores_to_spare())]
    workers: usize,
    /// Where the memories are at the start; G moves them while the foragers go on.
    #[arg(long, default_value = "cpu")]
    device: Place,
    /// Measures without a window.
    #[arg(long)]
    headless: bool,
    /// Frames to measure without a window, at 60 a second.
    #[arg(long, default_value_t = 1_200)]
    frames: u64,
    /// Renders one frame, meter and all, to a PNG file without a window.
    #[arg(long)]
    screenshot: Option<std::path::PathBuf>,
}

/// Where memories can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    Cpu,
    Gpu,
}

impl Place {
    /// The device, or why there is none, in words.
    fn device(self) -> Result<Device, String> {
        match self {
            Place::Cpu => Ok(Device::Cpu),
            Place::Gpu if !cfg!(feature = "cuda") => Err("this was built without `--features cuda`".into()),
            Place::Gpu => Device::new_cuda(0).map_err(|error| error.to_string()),
        }
    }
}

fn cores_to_spare() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

fn main() -> AppExit {
    let arguments = Arguments::parse();
    let device = match arguments.device.device() {
        Ok(device) => device,
        Err(error) => {
            eprintln!("there is no GPU for the memories: {error}");
            return AppExit::error();
        }
    };
    let missing = if arguments.headless || arguments.screenshot.is_some() { None } else { display::missing() };
    if let Some(what) = missing {
        println!("{what}: measuring without a window instead (as with --headless)\n");
    }
    let mut app = App::new();
    if let Some(path) = &arguments.screenshot {
        if !display::has_gpu() {
            eprintln!("a picture needs a Vulkan driver; a software one will do (Debian: mesa-vulkan-drivers)");
            return AppExit::error();
        }
        app.add_plugins(scene::Offscreen { path: path.clone(), frames: arguments.frames });
    } else if arguments.headless || missing.is_some() {
        let frame = Duration::from_secs_f64(1.0 / TICKS_A_SECOND);
        app.add_plugins((MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(frame)), AssetPlugin::default()))
            .insert_resource(TimeUpdateStrategy::ManualDuration(frame))
            .init_resource::<meter::Record>()
            .add_systems(Last, meter::report);
    } else {
        let window = Window { title: "thousands that remember".into(), resolution: (1280, 800).into(), ..default() };
        app.add_plugins(DefaultPlugins.set(WindowPlugin { primary_window: Some(window), ..default() }))
            .add_plugins(scene::ScenePlugin);
    }
    let runtime = RuntimeConfig { workers: arguments.workers, ..RuntimeConfig::default() };
    let memories = InfformerPlugin::default().with_runtime(runtime).with_device(device);
    app.add_plugins((memories, meter::MeterPlugin))
        .insert_resource(GameWorld(Meadow::new(rules(arguments.foragers), 0)))
        .insert_resource(Time::<Fixed>::from_hz(TICKS_A_SECOND))
        .insert_resource(arguments)
        .add_systems(Startup, spawn_foragers)
        .add_systems(First, meter::begin_frame)
        .add_systems(FixedUpdate, (act.in_set(MemorySystems::Act), observe.in_set(MemorySystems::Observe)));
    app.run()
}

/// A meadow with as much room and as many bushes a forager whatever their number.
fn rules(foragers: usize) -> Rules {
    let bushes_a_kind = (foragers * BUSHES_A_THOUSAND).div_ceil(1_000);
    Rules { foragers, side: (foragers as f32 * ROOM).sqrt(), bushes_a_kind, ripening: 30.0, ..Rules::default() }
}

fn spawn_foragers(world: Res<GameWorld>, mut memories: ResMut<Assets<MemoryAsset>>, mut commands: Commands) {
    let memory = memories.add(MemoryAsset::Recall(sighting::memory(MemoryConfig::events)));
    let agent = |forager| (ForagerIndex(forager), MemoryAgent::new(memory.clone()), Transform::default());
    commands.spawn_batch((0..world.0.foragers.len()).map(agent).collect::<Vec<_>>());
}

/// Reads what came back, walks, and asks again: every forager with a craving, at every tick.
fn act(
    mut world: ResMut<GameWorld>,
    mut foragers: Query<(&ForagerIndex, Ref<Recall>, &mut Questions)>,
    mut remembered: Local<Vec<world::Remembered>>,
) {
    for (&ForagerIndex(forager), recall, mut questions) in &mut foragers {
        let asked = world.0.foragers[forager].craving;
        let is_answer =
            recall.is_changed() && asked.is_some_and(|kind| recall.asked().first() == Some(&sighting::query(kind)));
        remembered.clear();
        if let Some(answer) = recall.answer().filter(|_| is_answer) {
            sighting::remembered(answer, &mut remembered);
        }
        world.0.act(forager, is_answer.then_some(remembered.as_slice()));
        // One that craves nothing asks for the first kind: everybody asks at every tick.
        let kind = world.0.foragers[forager].craving.unwrap_or(0);
        if asked != Some(kind) || questions.queries().is_empty() {
            questions.ask(sighting::query(kind));
        }
    }
}
