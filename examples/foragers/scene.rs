//! What one sees: bushes, foragers, and over the selected forager lines to the places that it remembers.

use crate::meadow::{BushRadius, ForagerIndex, GameWorld, kind_colour, show_bushes, spawn_bushes};
use crate::sighting;
use crate::world::{TICKS_A_SECOND, newest_of_each_place};
use bevy::prelude::*;
use bevy_egui::PrimaryEguiContext;
use bevy_infformer::Recall;
use bevy_infformer_inspector::MemoryInspector;

/// Draws the world.
pub struct ScenePlugin;

impl Plugin for ScenePlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(BushRadius(2.4))
            .insert_resource(ClearColor(Color::srgb(0.07, 0.09, 0.08)))
            .add_systems(Startup, (spawn_camera, spawn_bushes))
            .add_systems(Update, (dress_foragers, show_bushes, show_foragers, show_memories));
    }
}

/// Metres a point of the screen at the start.
const SCALE: f32 = 0.32;
/// Points of the screen under the panel at the start.
const PANEL: f32 = 420.0;

fn spawn_camera(world: Res<GameWorld>, mut commands: Commands) {
    let middle = Vec2::splat(world.0.rules.side / 2.0) + Vec2::X * SCALE * PANEL / 2.0;
    let projection = OrthographicProjection { scale: SCALE, ..OrthographicProjection::default_2d() };
    let place = Transform::from_translation(middle.extend(0.0));
    commands.spawn((Camera2d, Projection::Orthographic(projection), place, PrimaryEguiContext));
}

/// Gives each new forager a body.
fn dress_foragers(
    foragers: Query<Entity, Added<ForagerIndex>>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut commands: Commands,
) {
    for forager in &foragers {
        let body = meshes.add(Triangle2d::new(Vec2::new(3.2, 0.0), Vec2::new(-2.2, 2.0), Vec2::new(-2.2, -2.0)));
        commands.entity(forager).insert((Mesh2d(body), MeshMaterial2d(materials.add(Color::WHITE))));
    }
}

/// Moves the bodies smoothly between ticks; a craving colours them.
fn show_foragers(
    world: Res<GameWorld>,
    time: Res<Time<Fixed>>,
    mut foragers: Query<(&ForagerIndex, &mut Transform, &MeshMaterial2d<ColorMaterial>)>,
    mut materials: ResMut<Assets<ColorMaterial>>,
) {
    for (&ForagerIndex(at), mut transform, material) in &mut foragers {
        let forager = &world.0.foragers[at];
        let place = forager.before.lerp(forager.place, time.overstep_fraction());
        transform.translation = place.extend(2.0);
        let ahead = forager.place - forager.before;
        if ahead.length_squared() > 0.0 {
            transform.rotation = Quat::from_rotation_z(ahead.to_angle());
        }
        let colour = forager.craving.map_or(Color::WHITE, kind_colour);
        if let Some(mut material) = materials.get_mut(&material.0)
            && material.color != colour
        {
            material.color = colour;
        }
    }
}

/// Lines from the selected forager to the places that it remembers, faded by confidence, with their ages.
fn show_memories(
    world: Res<GameWorld>,
    inspector: Res<MemoryInspector>,
    foragers: Query<(&ForagerIndex, &Transform, &Recall)>,
    mut gizmos: Gizmos,
) {
    let Some((&ForagerIndex(at), transform, recall)) = inspector.selected.and_then(|entity| foragers.get(entity).ok())
    else {
        return;
    };
    let place = transform.translation.truncate();
    gizmos.circle_2d(place, world.0.rules.sight, Color::WHITE.with_alpha(0.35)).resolution(48);
    let (Some(kind), Some(answer)) = (world.0.foragers[at].craving, recall.answer()) else { return };
    // An answer to the craving before this one says nothing of it.
    if recall.asked().first() != Some(&sighting::query(kind)) {
        return;
    }
    let mut remembered = vec![];
    sighting::remembered(answer, &mut remembered);
    let elapsed = world.0.tick.saturating_sub(recall.tick) as f32 / TICKS_A_SECOND;
    for memory in newest_of_each_place(&remembered) {
        let colour = kind_colour(kind).with_alpha(memory.confidence);
        gizmos.line_2d(place, memory.place, colour);
        gizmos.circle_2d(memory.place, 4.0, colour);
        let minutes = format!("{:.0} min", (memory.age + elapsed) / 60.0);
        gizmos.text_2d(memory.place + Vec2::new(0.0, 7.0), &minutes, 4.5, Vec2::ZERO, colour);
    }
}
