//! An egui panel that shows what an agent of [`bevy_infformer`] remembers.
//!
//! Add [`MemoryInspectorPlugin`], give a camera bevy_egui's `PrimaryEguiContext`, and press F1. The panel only reads:
//! it never writes a memory. Hidden, it costs nothing.
//!
//! The modules: [`inspector`] (the resource that says what is shown), [`plugin`], and the parts of the panel from top
//! to bottom: [`agent_list`], [`summary`], [`memory_map`], [`density_strip`], [`query_builder`]; for an agent with a
//! trained model [`model_view`].
#![forbid(unsafe_code)]

pub mod agent_list;
pub mod density_strip;
pub mod inspector;
pub mod memory_map;
pub mod model_view;
pub mod panel;
pub mod plugin;
pub mod query_builder;
pub mod summary;

pub use inspector::MemoryInspector;
pub use model_view::ModelData;
pub use panel::{PanelData, show};
pub use plugin::{MemoryInspectorPlugin, pointer_is_free};

/// The README's examples, compiled and run with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
