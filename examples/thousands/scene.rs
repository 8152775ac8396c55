//! What one sees: bushes, foragers by the thousand, and the meter.

use crate::Place;
use crate::meadow::{BushRadius, ForagerIndex, GameWorld, kind_colour, show_bushes, spawn_bushes};
use crate::meter::{Frame, Meter};
use crate::offscreen::{Canvas, OffscreenPlugin};
use crate::world::KINDS;
use bevy::prelude::*;
use bevy_egui::{EguiContexts, EguiGlobalSettings, EguiPlugin, EguiPrimaryContextPass, PrimaryEguiContext, egui};
use bevy_infformer::Memories;
use std::path::PathBuf;
use std::time::Duration;

/// Draws the world and the meter.
pub struct ScenePlugin;

impl Plugin for ScenePlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(EguiGlobalSettings { auto_create_primary_context: false, ..default() })
            .insert_resource(BushRadius(5.0))
            .insert_resource(ClearColor(Color::srgb(0.07, 0.09, 0.08)))
            .add_plugins(EguiPlugin::default())
            .add_systems(Startup, (spawn_camera, spawn_bushes, make_looks))
            .init_resource::<Switch>()
            .add_systems(Update, (dress_foragers, show_bushes, show_foragers, switch_by_key))
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
}

impl Plugin for Offscreen {
    fn build(&self, app: &mut App) {
        app.add_plugins((OffscreenPlugin, ScenePlugin))
            .insert_resource(Shot { path: self.path.clone(), frames: self.frames })
            .add_systems(Update, shoot);
    }
}

fn shoot(mut shot: ResMut<Shot>, canvas: Res<Canvas>, mut commands: Commands) {
    if shot.frames == 1 {
        canvas.save(shot.path.clone(), &mut commands);
    }
    shot.frames = shot.frames.saturating_sub(1);
}

/// One body and one material a craving, shared: thousands are drawn in a few batches.
#[derive(Resource)]
struct Looks {
    body: Handle<Mesh>,
    content: Handle<ColorMaterial>,
    craving: Vec<Handle<ColorMaterial>>,
}

/// Points of the screen that the world takes.
const SCREEN: f32 = 780.0;

fn spawn_camera(world: Res<GameWorld>, mut commands: Commands) {
    let side = world.0.rules.side;
    let projection = OrthographicProjection { scale: side / SCREEN, ..OrthographicProjection::default_2d() };
    let place = Transform::from_translation(Vec2::splat(side / 2.0).extend(0.0));
    commands.spawn((Camera2d, Projection::Orthographic(projection), place, PrimaryEguiContext));
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

/// Moves the memories between the CPU and the GPU; keeps why it could not.
#[derive(Resource, Default)]
struct Switch {
    refused: Option<String>,
}

impl Switch {
    /// Moves the memories to where they are not.
    fn flip(&mut self, memories: &mut Memories) {
        let place = if is_on_gpu(memories) { Place::Cpu } else { Place::Gpu };
        match place.device() {
            Ok(device) => {
                self.refused = None;
                memories.move_to(&device);
            }
            Err(error) => self.refused = Some(error),
        }
    }
}

fn is_on_gpu(memories: &Memories) -> bool {
    memories.runtimes().any(|runtime| !runtime.device().is_cpu())
}

fn switch_by_key(keys: Res<ButtonInput<KeyCode>>, mut switch: ResMut<Switch>, mut memories: ResMut<Memories>) {
    if keys.just_pressed(KeyCode::KeyG) {
        switch.flip(&mut memories);
    }
}

fn show_meter(
    mut contexts: EguiContexts,
    meter: Res<Meter>,
    time: Res<Time<Real>>,
    world: Res<GameWorld>,
    mut switch: ResMut<Switch>,
    mut memories: ResMut<Memories>,
) -> Result {
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
            let (here, other) = if is_on_gpu(&memories) { ("GPU", "CPU") } else { ("CPU", "GPU") };
            line(ui, "memories are on the", here.into());
            if ui.button(format!("to the {other} (G)")).clicked() {
                switch.flip(&mut memories);
            }
            ui.end_row();
        });
        if let Some(refused) = &switch.refused {
            ui.label(format!("the memories stay: {refused}"));
        }
    });
    Ok(())
}
