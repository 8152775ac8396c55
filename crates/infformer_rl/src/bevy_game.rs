//! A Bevy game as an [`Environment`](crate::environment::Environment), and what was trained on it as an agent in the game.
//!
//! The game is an ordinary one: its rules run in `FixedUpdate`, and one of its entities is the agent. The agent has a
//! component that says what it sees ([`Observe`]), one that takes what it decides ([`Act`]), the [`Verdict`] that the rules
//! give at every tick, and a [`MemoryAgent`](bevy_infformer::MemoryAgent). A tick is the same with and without training:
//! rules that follow the decision run in [`MemorySystems::Act`](bevy_infformer::MemorySystems::Act), what is seen then is
//! taken down in [`MemorySystems::Observe`](bevy_infformer::MemorySystems::Observe).
//!
//! In training [`BevyGame`] takes the place of the plugins of the memories: it writes each decision of the trainer, steps
//! the app by one tick and reads what came of it; no model runs in the app. In the shipped game the plugin
//! [`TrainedAgents`] hands the same observations to the model of each agent, and the model's decisions to the same
//! component.

mod environment;
mod trained;

pub use environment::BevyGame;
pub use trained::TrainedAgents;

use crate::environment::{Action, ActionSpace, Ending};
use bevy::ecs::component::Mutable;
use bevy::prelude::*;
use bevy_infformer::Observe;
use infformer::model::Input;
use serde::{Deserialize, Serialize};

/// A component that takes what an agent decides, for the rules of the game to follow.
pub trait Act: Component<Mutability = Mutable> {
    /// What a decision is.
    fn actions() -> ActionSpace;

    /// Takes a decision. `None`: the agent has not decided yet, as at the first tick of every episode, when it has seen
    /// nothing.
    fn decide(&mut self, action: Option<Action>);
}

/// What a tick was worth to the agent, and whether the episode is over. Before every tick it is worth nothing and goes on;
/// the game's rules add to it.
#[derive(Component, Debug, Clone, Copy, PartialEq)]
#[require(PreviousAction)]
pub struct Verdict {
    /// The reward of the tick.
    pub reward: f32,
    /// Whether the episode is over. It may say so at once, and at every tick after.
    pub ending: Ending,
}

impl Default for Verdict {
    fn default() -> Self {
        Self { reward: 0.0, ending: Ending::Running }
    }
}

/// Begins an episode: an observer of the game puts all of the world back to a beginning that follows from the seed.
/// In training [`BevyGame`] triggers it, in the shipped game whoever begins a round; agents then forget what was.
#[derive(Event, Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeginEpisode {
    /// All that is random in the episode follows from it.
    pub seed: u64,
}

/// What a trained agent is acting on. Belongs into a saved game beside the bytes of its memory: put back with them, the episode goes
/// on, and the decision stands until the next has come.
#[derive(Component, Reflect, Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[reflect(Component, Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[component(clone_behavior = Ignore)]
pub struct PreviousAction {
    /// The decision as numbers, a choice as one; none before the first of an episode.
    pub action: Option<Vec<f32>>,
    /// Decisions so far in this episode.
    pub ticks: usize,
}

/// The channels of `S` as a policy's inputs.
fn inputs<S: Observe>() -> Vec<Input> {
    let groups = S::groups().into_iter();
    groups.map(|group| Input::Continuous { name: group.name, channels: group.channels }).collect()
}
