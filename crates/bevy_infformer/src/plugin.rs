//! The plugin: the table of contents of this crate, in the order of a tick.

use crate::agent::{MemoryAgent, MemorySlot, ResetMemory};
use crate::asset::{MemoryAsset, MemoryLoader, ModelLoader};
use crate::memories::{self, Memories, MemoryFailure, MemoryTick};
use crate::observe::Observations;
use crate::recall::{Questions, Recall};
use bevy::ecs::schedule::{InternedScheduleLabel, ScheduleLabel};
use bevy::prelude::*;
use infformer::{Device, RuntimeConfig};

/// A tick of the memories, chained.
#[derive(SystemSet, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemorySystems {
    /// Replies arrive; [`Recall`] is up to date after it.
    Recall,
    /// For the game: read [`Recall`], decide, change [`Questions`].
    Act,
    /// For the game: push [`Observations`].
    Observe,
    /// Observations and questions leave for the worker.
    Submit,
}

/// Gives entities with [`MemoryAgent`] a long-term memory.
#[derive(Debug, Clone)]
pub struct InfformerPlugin {
    schedule: InternedScheduleLabel,
    runtime: RuntimeConfig,
    device: Device,
}

impl Default for InfformerPlugin {
    fn default() -> Self {
        Self::new(FixedUpdate)
    }
}

impl InfformerPlugin {
    /// Runs the memories in `schedule`: one run is one tick.
    pub fn new(schedule: impl ScheduleLabel) -> Self {
        Self { schedule: schedule.intern(), runtime: RuntimeConfig::default(), device: Device::Cpu }
    }

    /// Where and when memories are worked on.
    pub fn with_runtime(self, runtime: RuntimeConfig) -> Self {
        Self { runtime, ..self }
    }

    /// On which device the signals are kept.
    pub fn with_device(self, device: Device) -> Self {
        Self { device, ..self }
    }
}

impl Plugin for InfformerPlugin {
    fn build(&self, app: &mut App) {
        app.init_asset::<MemoryAsset>()
            .init_asset_loader::<MemoryLoader>()
            .register_asset_loader(ModelLoader { device: self.device.clone() })
            .register_type::<(MemoryAgent, MemorySlot, ResetMemory)>()
            .register_type::<(Observations, Questions, Recall, MemoryTick, MemoryFailure)>()
            .insert_resource(Memories::new(self.runtime, self.device.clone()))
            .init_resource::<MemoryTick>()
            .add_message::<MemoryFailure>()
            .add_observer(memories::detach_agent)
            .add_observer(memories::reset_agent);
        crate::diagnostics::register(app);
        app.configure_sets(
            self.schedule,
            (MemorySystems::Recall, MemorySystems::Act, MemorySystems::Observe, MemorySystems::Submit).chain(),
        )
        .add_systems(
            self.schedule,
            (
                (memories::reload_memories, memories::attach_agents, memories::receive)
                    .chain()
                    .in_set(MemorySystems::Recall),
                (memories::submit, crate::diagnostics::measure).chain().in_set(MemorySystems::Submit),
            ),
        )
        .add_systems(Last, memories::log_failures);
    }
}
