//! Which entities remember, and how an entity loses its memory.

use crate::asset::MemoryAsset;
use crate::observe::Observations;
use crate::recall::{Questions, Recall};
use bevy::prelude::*;
use infformer::AgentId;

/// An entity that remembers. Its memory begins empty when the asset is loaded, and ends with the component.
///
/// A clone of the entity is another agent: it begins with an empty memory of its own.
#[derive(Component, Reflect, Debug, Clone)]
#[reflect(Component, Debug, Clone)]
#[require(Observations, Questions, Recall)]
pub struct MemoryAgent {
    /// What it remembers, and how.
    pub memory: Handle<MemoryAsset>,
}

impl MemoryAgent {
    /// An agent with the given kind of memory.
    pub fn new(memory: Handle<MemoryAsset>) -> Self {
        Self { memory }
    }
}

/// Where an agent's memory is kept. The plugin adds it once the asset is loaded.
#[derive(Component, Reflect, Debug)]
#[reflect(Component, Debug, from_reflect = false)]
#[component(clone_behavior = Ignore)]
pub struct MemorySlot {
    pub(crate) memory: AssetId<MemoryAsset>,
    #[reflect(ignore)]
    pub(crate) agent: AgentId,
}

impl MemorySlot {
    /// The agent's name in its runtime.
    pub fn agent(&self) -> AgentId {
        self.agent
    }
}

/// Empties an entity's memory: `commands.trigger(ResetMemory { entity })`, at the end of an episode for example.
#[derive(EntityEvent, Debug, Clone, Copy, Reflect)]
pub struct ResetMemory {
    /// Whose memory.
    pub entity: Entity,
}
