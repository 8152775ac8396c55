//! What the panel shows: the one resource of this crate.

use crate::agent_list::AgentList;
use crate::memory_map::MemoryMap;
use crate::query_builder::QueryBuilder;
use bevy::prelude::*;
use bevy_infformer::infformer::MemoryView;

/// Whether the panel is there, and whom it shows.
#[derive(Resource, Default)]
pub struct MemoryInspector {
    /// Whether the panel is shown.
    pub visibility: PanelVisibility,
    /// The agent shown.
    pub selected: Option<Entity>,
    /// The latest look at its memory.
    pub view: Option<Box<MemoryView>>,
    /// What went wrong with the latest look.
    pub error: Option<String>,
    /// The list of agents.
    pub agents: AgentList,
    /// The map of the memory.
    pub map: MemoryMap,
    /// The query being built.
    pub query: QueryBuilder,
    pub(crate) look: Look,
    pub(crate) pointer: PointerPlace,
}

/// Whether the panel is on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PanelVisibility {
    /// Not drawn; nothing is asked of the memories.
    Hidden,
    /// On the right of the screen.
    #[default]
    Shown,
}

impl PanelVisibility {
    /// The other one.
    pub fn toggled(self) -> Self {
        match self {
            PanelVisibility::Hidden => PanelVisibility::Shown,
            PanelVisibility::Shown => PanelVisibility::Hidden,
        }
    }
}

/// Whether a look at the memory is under way.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) enum Look {
    /// None is; the next may be asked for at this time, in seconds.
    #[default]
    Due,
    /// One was asked for at this time.
    Asked(f64),
    /// One came at this time.
    Came(f64),
}

/// Where the pointer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PointerPlace {
    #[default]
    World,
    Panel,
}

impl MemoryInspector {
    /// Shows another agent.
    pub fn select(&mut self, entity: Entity) {
        if self.selected != Some(entity) {
            self.selected = Some(entity);
            self.view = None;
            self.error = None;
            self.look = Look::Due;
            self.map.forget_picture();
        }
    }
}
