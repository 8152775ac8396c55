//! The world in the game, and what is seen of it: foragers look around, bushes lie on the ground.

use crate::world::{KINDS, World};
use bevy::prelude::*;
use bevy_infformer::Observations;

/// The world, in the game.
#[derive(Resource)]
pub struct GameWorld(pub World);

/// Which forager of the world an entity is.
#[derive(Component, Clone, Copy)]
pub struct ForagerIndex(pub usize);

/// Which bush of the world an entity is.
#[derive(Component)]
pub struct BushIndex(usize);

/// Hands what each forager sees to its memory, and ends the world's tick.
pub fn observe(mut world: ResMut<GameWorld>, mut foragers: Query<(&ForagerIndex, &mut Observations)>) -> Result {
    for (&ForagerIndex(forager), mut observations) in &mut foragers {
        if let Some(sighting) = world.0.see(forager) {
            observations.see(&sighting).warn()?;
        }
    }
    world.0.end_tick();
    Ok(())
}

/// The colour of a kind of bush, and of a forager that craves it.
pub fn kind_colour(kind: usize) -> Color {
    Color::hsl(360.0 * kind as f32 / KINDS.len() as f32, 0.75, 0.6)
}

/// Radius of a bush in metres.
#[derive(Resource)]
pub struct BushRadius(pub f32);

/// Lays out the ground and the bushes.
pub fn spawn_bushes(
    world: Res<GameWorld>,
    radius: Res<BushRadius>,
    mut meshes: ResMut<Assets<Mesh>>,
    mut materials: ResMut<Assets<ColorMaterial>>,
    mut commands: Commands,
) {
    let side = world.0.rules.side;
    let ground = Sprite::from_color(Color::srgb(0.11, 0.14, 0.11), Vec2::splat(side));
    commands.spawn((ground, Transform::from_translation(Vec2::splat(side / 2.0).extend(-1.0))));
    let bush = meshes.add(Circle::new(radius.0));
    let colours: Vec<_> = (0..KINDS.len()).map(|kind| materials.add(kind_colour(kind))).collect();
    for (at, own) in world.0.bushes.iter().enumerate() {
        let look = (Mesh2d(bush.clone()), MeshMaterial2d(colours[own.kind].clone()));
        commands.spawn((BushIndex(at), look, Transform::from_translation(own.place.extend(0.0))));
    }
}

/// A bare bush is small.
pub fn show_bushes(world: Res<GameWorld>, mut bushes: Query<(&BushIndex, &mut Transform)>) {
    for (&BushIndex(at), mut transform) in &mut bushes {
        let scale = Vec3::splat(if world.0.is_ripe(&world.0.bushes[at]) { 1.0 } else { 0.4 });
        if transform.scale != scale {
            transform.scale = scale;
        }
    }
}
