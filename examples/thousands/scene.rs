//! What one sees: bushes, foragers by the thousand, and the meter.

use crate::meter::{Frame, Meter};
use crate::world::KINDS;
use crate::{ForagerIndex, GameWorld};
use bevy::app::ScheduleRunnerPlugin;
use bevy::camera::RenderTarget;
use bevy::prelude::*;
use bevy::render::RenderPlugin;
use bevy::render::render_resource::TextureFormat;
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured, save_to_disk};
use bevy::time::TimeUpdateStrategy;
use bevy::window::ExitCondition;
use bevy::winit::WinitPlugin;
use bevy_egui::{EguiContexts, EguiGlobalSettings, EguiPlugin, EguiPrimaryContextPass, PrimaryEguiContext, egui};
use std::path::PathBuf;
use std::time::Duration;

/// Draws the world and the meter.
pub struct ScenePlugin;

impl Plugin for ScenePlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(EguiGlobalSettings { auto_create_primary_context: false, ..default() })
            .insert_resource(ClearColor(Color::srgb(0.07, 0.09, 0.08)))
            .add_plugins(EguiPlugin::default())
            .add_systems(Startup, (spawn_camera, spawn_bushes, make_looks))
            .add_systems(Update, (dress_foragers, show_bushes, show_foragers))
            .add_systems(EguiPrimaryContextPass, show_meter);
    }
}

/// The same without a window: one frame to a file.
pub struct Offscreen {
    pub path: PathBuf,
    /// Frames before the picture.
    pub frames: u64,
}

#[derive(Resource)]
struct Shot {
    path: PathBuf,
    frames: u64,
    target: Handle<Image>,
}

impl Plugin for Offscreen {
    fn build(&self, app: &mut App) {
        let no_window = WindowPlugin { primary_window: None, exit_condition: ExitCondition::DontExit, ..default() };
        let synchronous = RenderPlugin { synchronous_pipeline_compilation: true, ..default() };
        app.add_plugins(DefaultPlugins.set(no_window).set(synchronous).disable::<WinitPlugin>())
            .add_plugins((ScheduleRunnerPlugin::run_loop(Duration::ZERO), ScenePlugin))
            .insert_resource(TimeUpdateStrategy::ManualDuration(Duration::from_micros(16_667)))
            .insert_resource(Shot { path: self.path.clone(), frames: self.frames, target: Handle::default() })
            .add_systems(PostStartup, aim)
            .add_systems(Update, shoot);
    }
}

fn aim(
    camera: Single<Entity, With<Camera2d>>,
    mut images: ResMut<Assets<Image>>,
    mut shot: ResMut<Shot>,
    mut commands: Commands,
) {
    shot.target = images.add(Image::new_target_texture(1280, 800, TextureFormat::Rgba8UnormSrgb, None));
    commands.entity(*camera).insert(RenderTarget::Image(shot.target.clone().into()));
}

fn shoot(mut shot: ResMut<Shot>, mut commands: Commands) {
    if shot.frames == 1 {
        commands.spawn(Screenshot::image(shot.target.clone())).observe(save_to_disk(shot.path.clone())).observe(
            |_: On<ScreenshotCaptured>, mut exit: MessageWriter<AppExit>| {
                exit.write(AppExit::Success);
            },
        );
    }
    shot.frames = shot.frames.saturating_sub(1);
}

/// Which bush of the world an entity is.
#[derive(Component)]
struct BushIndex(usize);

/// One body and one material a craving, shared: thousands are drawn in a few batches.
#[derive(Resource)]
struct Looks {
    body: Handle<Mesh>,
    content: Handle<ColorMaterial>,
    craving: Vec<Handle<ColorMaterial>>,
}

/// Points of the screen that the world takes.
const SCREEN: f32 = 780.0;

fn kind_colour(kind: usize) -> Color {
    Color::hsl(360.0 * kind as f32 / KINDS.len() as f32, 0.75, 0.6)
}

fn spawn_camera(world: Res<GameWorld>, mut commands: Commands) {
    let side = world.0.rules.side;
    let projection = OrthographicProjection { scale: side / SCREEN, ..OrthographicProjection::default_2d() };
    let place = Transform::from_translation(Vec2::splat(side / 2.0).extend(0.0));
    commands.spawn((Camera2d, Projection::Orthographic(projection), place, PrimaryEguiContext));
}

fn spawn_bushes(
    world: Res<GameWorld>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut commands: Commands,
) {
    let side = world.0.rules.side;
    let ground = Sprite::from_color(Color::srgb(0.11, 0.14, 0.11), Vec2::splat(side));
    commands.spawn((ground, Transform::from_translation(Vec2::splat(side / 2.0).extend(-1.0))));
    let mesh = meshes.add(Circle::new(5.0));
    let colours: Vec<_> = (0..KINDS.len()).map(|kind| materials.add(kind_colour(kind).with_alpha(0.8))).collect();
    for (at, bush) in world.0.bushes.iter().enumerate() {
        let look = (Mesh2d(mesh.clone()), MeshMaterial2d(colours[bush.kind].clone()));
        commands.spawn((BushIndex(at), look, Transform::from_translation(bush.place.extend(0.0))));
    }
}

fn make_looks(mut meshes: ResMut<Assets<Mesh>>, mut materials: ResMut<Assets<ColorMaterial>>, mut commands: Commands) {
    commands.insert_resource(Looks {
        body: meshes.add(Triangle2d::new(Vec2::new(4.5, 0.0), Vec2::new(-3.0, 2.6), Vec2::new(-3.0, -2.6))),
        content: materials.add(Color::srgb(0.75, 0.75, 0.75)),
        craving: (0..KINDS.len()).map(|kind| materials.add(kind_colour(kind))).collect(),
    });
}

fn dress_foragers(foragers: Query<Entity, Added<ForagerIndex>>, looks: Res<Looks>, mut commands: Commands) {
    for forager in &foragers {
        commands.entity(forager).insert((Mesh2d(looks.body.clone()), MeshMaterial2d(looks.content.clone())));
    }
}

/// A bare bush is small.
fn show_bushes(world: Res<GameWorld>, mut bushes: Query<(&BushIndex, &mut Transform)>) {
    for (&BushIndex(at), mut transform) in &mut bushes {
        let scale = Vec3::splat(if world.0.is_ripe(&world.0.bushes[at]) { 1.0 } else { 0.4 });
        if transform.scale != scale {
            transform.scale = scale;
        }
    }
}

/// Moves the bodies smoothly between ticks; a craving colours them.
fn show_foragers(
    world: Res<GameWorld>,
    time: Res<Time<Fixed>>,
    looks: Res<Looks>,
    mut foragers: Query<(&ForagerIndex, &mut Transform, &mut MeshMaterial2d<ColorMaterial>)>,
) {
    for (&ForagerIndex(at), mut transform, mut material) in &mut foragers {
        let forager = &world.0.foragers[at];
        let ahead = forager.place - forager.before;
        transform.translation = forager.before.lerp(forager.place, time.overstep_fraction()).extend(2.0);
        if ahead.length_squared() > 0.0 {
            transform.rotation = Quat::from_rotation_z(ahead.to_angle());
        }
        let look = forager.craving.map_or(&looks.content, |kind| &looks.craving[kind]);
        if material.0 != *look {
            material.0 = look.clone();
        }
    }
}

fn show_meter(mut contexts: EguiContexts, meter: Res<Meter>, time: Res<Time<Real>>, world: Res<GameWorld>) -> Result {
    let line = |ui: &mut egui::Ui, what: &str, text: String| {
        ui.label(what);
        ui.monospace(text);
        ui.end_row();
    };
    let milliseconds = |measure: fn(&Frame) -> Duration| {
        let (middle, worst) = meter.middle_and_worst(measure);
        format!("{:>6.2} ms   worst {:>6.2}", middle.as_secs_f64() * 1e3, worst.as_secs_f64() * 1e3)
    };
    egui::Window::new("meter").default_pos([12.0, 12.0]).resizable(false).show(contexts.ctx_mut()?, |ui| {
        egui::Grid::new("meter").num_columns(2).show(ui, |ui| {
            line(ui, "foragers", world.0.foragers.len().to_string());
            line(ui, "frame to frame", format!("{:>6.2} ms", time.delta_secs_f64() * 1e3));
            line(ui, "memories on this thread", milliseconds(|frame| frame.memory));
            line(ui, "a worker's batch", milliseconds(|frame| frame.worker));
            line(ui, "agents a batch", meter.middle_and_worst(|frame| frame.agents).0.to_string());
            line(ui, "batches under way", meter.middle_and_worst(|frame| frame.queue_depth).1.to_string());
            line(ui, "late answers", meter.late.to_string());
            line(ui, "coalesced", meter.coalesced.to_string());
        });
    });
    Ok(())
}
