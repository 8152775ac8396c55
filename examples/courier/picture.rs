//! What is seen of the game in a window: the street, the doors, the courier and what it was told; beside it, its memory.

use crate::game::{Courier, DOOR, DOORS, SQUARE, STREET, Sight};
use crate::training::ROUNDS;
use bevy::camera::ScalingMode;
use bevy::prelude::*;
use bevy_egui::{EguiGlobalSettings, PrimaryEguiContext};
use bevy_infformer_inspector::{MemoryInspector, MemoryInspectorPlugin};
use infformer_rl::bevy_game::{BeginEpisode, Verdict};
use infformer_rl::environment::Ending;
use infformer_rl::evaluation::evaluation_seed;

const COLOURS: [Color; DOORS] =
    [Color::srgb(0.9, 0.3, 0.3), Color::srgb(0.3, 0.8, 0.4), Color::srgb(0.4, 0.5, 1.0), Color::srgb(0.9, 0.8, 0.3)];

/// Room for the panel, as a share of the picture.
const PANEL: f32 = 0.36;

/// Shows the game, and begins a round when the one before is over.
pub fn picture(app: &mut App) {
    app.insert_resource(ClearColor(Color::srgb(0.08, 0.08, 0.1)))
        .insert_resource(EguiGlobalSettings { auto_create_primary_context: false, ..default() })
        .add_plugins(MemoryInspectorPlugin { pick_radius: DOOR })
        .init_resource::<Rounds>()
        .add_systems(Startup, aim)
        .add_systems(FixedPostUpdate, next_round)
        .add_systems(Update, draw);
}

/// Rounds begun, those that are over, and those that ended at the right door.
#[derive(Resource, Default)]
struct Rounds {
    begun: usize,
    over: usize,
    right: usize,
}

fn aim(mut commands: Commands) {
    let (length, edge) = (STREET + SQUARE, 0.1 * STREET);
    let width = (length + 2.0 * edge) / (1.0 - PANEL);
    let scaling_mode = ScalingMode::AutoMin { min_width: width, min_height: 2.0 * DOOR * DOORS as f32 };
    let projection = OrthographicProjection { scaling_mode, ..OrthographicProjection::default_2d() };
    let place = Transform::from_xyz(0.5 * width - edge, 0.0, 0.0);
    commands.spawn((Camera2d, Projection::from(projection), place, PrimaryEguiContext));
}

fn next_round(
    couriers: Query<(Entity, &Verdict), With<Courier>>,
    mut rounds: ResMut<Rounds>,
    mut inspector: ResMut<MemoryInspector>,
    mut windows: Query<&mut Window>,
    mut commands: Commands,
) {
    let ended = couriers.iter().find(|(_, verdict)| verdict.ending != Ending::Running);
    if let Some((_, verdict)) = ended {
        rounds.over += 1;
        rounds.right += usize::from(verdict.reward > 0.0);
        for mut window in &mut windows {
            window.title = format!("the right door in {} of {} rounds", rounds.right, rounds.over);
        }
    }
    if ended.is_some() || rounds.begun == 0 {
        if let Some((courier, _)) = couriers.iter().next().filter(|_| inspector.selected.is_none()) {
            inspector.select(courier);
        }
        commands.trigger(BeginEpisode { seed: evaluation_seed(ROUNDS, rounds.begun) });
        rounds.begun += 1;
    }
}

fn draw(couriers: Query<(&Courier, &Sight)>, mut gizmos: Gizmos) {
    let half = 0.5 * DOOR * DOORS as f32;
    let grey = Color::srgb(0.4, 0.4, 0.45);
    gizmos.line_2d(Vec2::ZERO, Vec2::new(STREET, 0.0), grey);
    gizmos.rect_2d(Vec2::new(STREET + 0.5 * SQUARE, 0.0), Vec2::new(SQUARE, 2.0 * half), grey);
    for (number, colour) in COLOURS.into_iter().enumerate() {
        let middle = Vec2::new(STREET + SQUARE, half - DOOR * (number as f32 + 0.5));
        gizmos.rect_2d(middle, Vec2::new(0.3, 0.9 * DOOR), colour);
    }
    for (courier, sight) in &couriers {
        gizmos.circle_2d(courier.place, 0.3, Color::WHITE);
        if let Some(address) = sight.address {
            gizmos.circle_2d(courier.place, 0.5, COLOURS[address]);
        }
    }
}
