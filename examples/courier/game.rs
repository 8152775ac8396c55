//! The game: its rules, the same for training and for play.
//!
//! A courier is told an address at one end of a street. At the other end is a square with four doors, and it must enter
//! the right one. Nothing but its memory tells it which: the address is told for one second, and in the street
//! all walk in line.

use bevy::prelude::*;
use bevy_infformer::infformer::{ChannelGroup, Scale};
use bevy_infformer::{MemoryAgent, MemoryAsset, MemorySystems, Observe};
use infformer_rl::bevy_game::{Act, BeginEpisode, Verdict};
use infformer_rl::environment::{Action, ActionSpace, Ending};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

/// Doors, side by side at the far end of the square.
pub const DOORS: usize = 4;
/// Length of the street in metres.
pub const STREET: f32 = 40.0;
/// Metres from the street's end to the doors.
pub const SQUARE: f32 = 2.0;
/// Width of a door in metres.
pub const DOOR: f32 = 1.0;

const TICK: Duration = Duration::from_millis(125);
/// Metres a second: one a tick.
const SPEED: f32 = 8.0;
/// For so many ticks the address is told.
const TOLD: u32 = 8;
/// After so many ticks it is too late.
const LATEST: u32 = 80;

/// The rules, and a courier.
pub struct CourierGame {
    /// What the courier remembers with: its trained model, or nothing while it is trained.
    pub memory: Handle<MemoryAsset>,
}

impl Plugin for CourierGame {
    fn build(&self, app: &mut App) {
        let memory = self.memory.clone();
        let spawn = move |mut commands: Commands| {
            commands.spawn((Courier::default(), MemoryAgent::new(memory.clone()), Name::new("courier")));
        };
        app.insert_resource(Time::<Fixed>::from_duration(TICK))
            .add_observer(begin)
            .add_systems(Startup, spawn)
            .add_systems(FixedUpdate, (walk.in_set(MemorySystems::Act), look.in_set(MemorySystems::Observe)));
    }
}

/// A courier on its way.
#[derive(Component, Default)]
#[require(Sight, Walk, Verdict)]
pub struct Courier {
    /// Where it is, in metres from the street's beginning.
    pub place: Vec2,
    /// Which door it was told.
    pub address: usize,
    /// Ticks that it has walked.
    pub ticks: u32,
    /// Whether its way is over.
    pub over: bool,
}

/// What a courier sees.
#[derive(Component, Default)]
pub struct Sight {
    place: Vec2,
    /// What it is told, while it is.
    pub address: Option<usize>,
}

impl Observe for Sight {
    fn groups() -> Vec<ChannelGroup> {
        vec![
            ChannelGroup::new("along", &["x"], "m", Scale::Given(STREET)),
            ChannelGroup::new("across", &["y"], "m", Scale::Given(DOOR)),
            ChannelGroup::new("address", &["red", "green", "blue", "yellow"], "", Scale::Given(1.0)),
        ]
    }

    fn write(&self, channels: &mut Vec<f32>) {
        channels.extend([self.place.x, self.place.y]);
        channels.extend((0..DOORS).map(|door| f32::from(u8::from(self.address == Some(door)))));
    }
}

/// Where a courier walks; nowhere while it has not decided.
#[derive(Component, Default)]
pub struct Walk(Option<Vec2>);

const DIRECTIONS: [Vec2; 4] = [Vec2::X, Vec2::Y, Vec2::NEG_X, Vec2::NEG_Y];

impl Act for Walk {
    fn actions() -> ActionSpace {
        ActionSpace::Discrete(DIRECTIONS.len())
    }

    fn decide(&mut self, action: Option<Action>) {
        self.0 = action.map(|action| DIRECTIONS[action.choice(DIRECTIONS.len())]);
    }
}

fn begin(begin: On<BeginEpisode>, mut couriers: Query<&mut Courier>) {
    let mut random = ChaCha8Rng::seed_from_u64(begin.seed);
    for mut courier in &mut couriers {
        *courier = Courier { address: random.random_range(0..DOORS), ..default() };
    }
}

/// The door that is entered at a place across the square.
fn door(y: f32) -> usize {
    ((0.5 * DOORS as f32 - y / DOOR) as usize).min(DOORS - 1)
}

/// Follows the decisions: half a point for the way, one for the right door, half a point less for being too late.
fn walk(time: Res<Time>, mut couriers: Query<(&Walk, &mut Courier, &mut Verdict)>) {
    for (walk, mut courier, mut verdict) in &mut couriers {
        let (Some(direction), false) = (walk.0, courier.over) else { continue };
        let before = courier.place.x;
        let half = if before < STREET { 0.0 } else { 0.5 * DOOR * DOORS as f32 };
        let place = courier.place + direction * SPEED * time.delta_secs();
        courier.place = place.clamp(Vec2::new(0.0, -half), Vec2::new(STREET + SQUARE, half));
        courier.ticks += 1;
        if courier.place.x >= STREET + SQUARE {
            verdict.reward += f32::from(u8::from(door(courier.place.y) == courier.address));
            verdict.ending = Ending::Terminated;
        } else if courier.ticks >= LATEST {
            verdict.reward -= 0.5;
            verdict.ending = Ending::Terminated;
        } else {
            verdict.reward += 0.5 * (courier.place.x.min(STREET) - before.min(STREET)) / STREET;
        }
        courier.over = verdict.ending != Ending::Running;
    }
}

fn look(mut couriers: Query<(&Courier, &mut Sight)>) {
    for (courier, mut sight) in &mut couriers {
        let address = (courier.ticks < TOLD).then_some(courier.address);
        *sight = Sight { place: courier.place, address };
    }
}
