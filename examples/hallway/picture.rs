//! What one sees: hallways with their signs, walkers, and above each walker's way where its memory looks.

use crate::game::{Hall, TICKS_A_SECOND, Walker};
use bevy::camera::ScalingMode;
use bevy::prelude::*;
use bevy_egui::{EguiGlobalSettings, PrimaryEguiContext};
use bevy_infformer::{MemorySlot, Recall};
use bevy_infformer_inspector::{MemoryInspector, MemoryInspectorPlugin};
use infformer_rl::bevy_game::BeginEpisode;

/// From one hallway to the next, in steps of a walker.
const LANE: f32 = 20.0;
/// Height of all of a density in one place: of a quarter of it, half a lane.
const HEIGHT: f32 = 2.0 * LANE;
/// Room for the panel, as a share of the picture.
const PANEL: f32 = 0.36;
/// Ticks from the last turn to the next round.
const PAUSE: u32 = 2 * TICKS_A_SECOND as u32;

/// Shows the hallways and begins one round after the other.
pub struct HallwayPicture;

impl Plugin for HallwayPicture {
    fn build(&self, app: &mut App) {
        app.insert_resource(ClearColor(Color::srgb(0.07, 0.08, 0.1)))
            .insert_resource(EguiGlobalSettings { auto_create_primary_context: false, ..default() })
            .add_plugins(MemoryInspectorPlugin { pick_radius: 0.5 * LANE })
            .init_resource::<Rounds>()
            .add_systems(Startup, aim)
            .add_systems(FixedPostUpdate, next_round)
            .add_systems(Update, (place, draw));
    }
}

/// Rounds that were begun, turns that were made, and those that were right.
#[derive(Resource, Default)]
pub struct Rounds {
    begun: u64,
    turned: usize,
    right: usize,
    /// Ticks since all have turned.
    paused: u32,
}

fn aim(hall: Res<Hall>, mut commands: Commands) {
    let size = Vec2::new(1.15 * hall.corridor as f32 / (1.0 - PANEL), LANE * (hall.walkers + 3) as f32);
    let scaling_mode = ScalingMode::AutoMin { min_width: size.x, min_height: size.y };
    let projection = OrthographicProjection { scaling_mode, ..OrthographicProjection::default_2d() };
    let middle = Vec2::new(0.5 * size.x - 0.075 * hall.corridor as f32, 0.5 * LANE * hall.walkers as f32);
    let place = Transform::from_translation(middle.extend(0.0));
    commands.spawn((Camera2d, Projection::from(projection), place, PrimaryEguiContext));
}

fn next_round(
    walkers: Query<(Entity, &Walker)>,
    ready: Query<(), (With<Walker>, With<MemorySlot>)>,
    mut rounds: ResMut<Rounds>,
    mut inspector: ResMut<MemoryInspector>,
    mut commands: Commands,
) {
    if ready.iter().count() < walkers.iter().count() {
        return;
    }
    let over = walkers.iter().all(|(_, walker)| walker.turned.is_some());
    if rounds.begun > 0 && !over {
        return;
    }
    rounds.paused += 1;
    if rounds.begun > 0 && rounds.paused == 1 {
        rounds.turned += walkers.iter().count();
        rounds.right += walkers.iter().filter(|(_, walker)| walker.turned == Some(true)).count();
    }
    if rounds.begun == 0 || rounds.paused > PAUSE {
        if let Some((walker, _)) = walkers.iter().next().filter(|_| inspector.selected.is_none()) {
            inspector.select(walker);
        }
        commands.trigger(BeginEpisode { seed: rounds.begun });
        rounds.begun += 1;
        rounds.paused = 0;
    }
}

/// Lanes from the top down.
fn height(hall: &Hall, lane: usize) -> f32 {
    LANE * (hall.walkers - 1 - lane) as f32
}

fn place(hall: Res<Hall>, mut walkers: Query<(&Walker, &mut Transform)>) {
    for (walker, mut transform) in &mut walkers {
        let (x, y) = walker.maze.place();
        transform.translation = Vec3::new(x as f32, height(&hall, walker.lane) + 5.0 * f32::from(y), 1.0);
    }
}

/// The colour of a side.
fn colour(side: i8) -> Color {
    if side > 0 { Color::srgb(0.35, 0.65, 1.0) } else { Color::srgb(1.0, 0.6, 0.25) }
}

fn draw(
    hall: Res<Hall>,
    rounds: Res<Rounds>,
    inspector: Res<MemoryInspector>,
    walkers: Query<(Entity, &Walker, &Transform, &Recall)>,
    mut gizmos: Gizmos,
) {
    let grey = Color::srgb(0.35, 0.37, 0.4);
    let end = hall.corridor as f32;
    for (entity, walker, transform, recall) in &walkers {
        let floor = height(&hall, walker.lane);
        let at = transform.translation.truncate();
        gizmos.line_2d(Vec2::new(0.0, floor), Vec2::new(end, floor), grey);
        gizmos.line_2d(Vec2::new(end, floor - 5.0), Vec2::new(end, floor + 5.0), grey);
        gizmos.circle_2d(Vec2::new(-6.0, floor), 3.0, colour(walker.maze.goal()));
        for (place, side) in &walker.distractions {
            gizmos.circle_2d(Vec2::new(*place as f32, floor - 4.0), 1.0, colour(*side).with_alpha(0.6));
        }
        for side in [1, -1] {
            let faded = if walker.turned.is_some() && walker.maze.place().1 == side { 1.0 } else { 0.4 };
            gizmos.circle_2d(Vec2::new(end, floor + 5.0 * f32::from(side)), 2.0, colour(side).with_alpha(faded));
        }
        // A walker goes one step a tick, so that an age is a place of its way.
        let walked = walker.maze.place().0 as f32;
        let looked = Color::srgb(0.98, 0.75, 0.25);
        for cell in recall.density() {
            let (from, to) = (walked - cell.older, walked - cell.newer);
            let top = floor + HEIGHT * cell.mass;
            gizmos.linestrip_2d(
                [Vec2::new(from, floor), Vec2::new(from, top), Vec2::new(to, top), Vec2::new(to, floor)],
                looked,
            );
        }
        let selected = inspector.selected == Some(entity);
        gizmos.circle_2d(at, 2.5, if selected { Color::WHITE } else { Color::srgb(0.7, 0.7, 0.7) });
        if let Some(right) = walker.turned {
            let word = if right { "right" } else { "wrong" };
            gizmos.text_2d(Vec2::new(end + 8.0, floor), word, 7.0, Vec2::new(-0.5, 0.0), colour(walker.maze.goal()));
        }
    }
    let top = height(&hall, 0) + 1.9 * LANE;
    for (line, told) in [
        format!("{} right turns of {}", rounds.right, rounds.turned),
        "bars: where each walker's memory looks".to_string(),
    ]
    .iter()
    .enumerate()
    {
        let place = Vec2::new(0.0, top - 9.0 * line as f32);
        gizmos.text_2d(place, told, 6.0, Vec2::new(-0.5, 0.0), Color::WHITE);
    }
}
