//! A Bevy plugin that gives entities the long-term memory of [`infformer`].
//!
//! Add [`InfformerPlugin`], put [`MemoryAgent`] on an entity, push what it sees into its [`Observations`], put what it
//! wants to know into its [`Questions`], and read its [`Recall`] one tick later.
//!
//! The modules, in the order that the data flows: [`asset`] (what a kind of agent remembers), [`agent`] (which entities
//! remember), [`observe`] (from components to channels), [`recall`] (what comes back), [`memories`] (the memories
//! themselves), [`plugin`], [`diagnostics`], [`test_app`].
#![forbid(unsafe_code)]

pub mod agent;
pub mod asset;
pub mod diagnostics;
pub mod memories;
pub mod observe;
pub mod plugin;
pub mod recall;
pub mod test_app;

pub use agent::{MemoryAgent, MemorySlot, ResetMemory};
pub use asset::{MemoryAsset, MemoryLoader, ModelLoader};
pub use infformer;
pub use memories::{Memories, MemoryFailure, MemoryTick};
pub use observe::{Observations, Observe};
pub use plugin::{InfformerPlugin, MemorySystems};
pub use recall::{Questions, Recall};
