//! A headless app for tests: memories run inline, and time moves only when [`tick`] says so.
//!
//! ```
//! use bevy::prelude::*;
//! use bevy_infformer::{Observations, Questions, Recall, test_app};
//! use bevy_infformer::infformer::{ChannelGroup, MemoryConfig, Query as MemoryQuery, Scale};
//!
//! let groups = vec![
//!     ChannelGroup::new("kind", &["berry", "nut"], "", Scale::Given(1.0)),
//!     ChannelGroup::new("position", &["x"], "m", Scale::Given(1.0)),
//! ];
//! let mut app = test_app::new();
//! let agent = test_app::spawn_agent(&mut app, MemoryConfig::events(groups.clone()));
//! test_app::tick(&mut app);
//!
//! // A berry at 7 m, then a hundred ticks of nothing but nuts at 2 m.
//! for seen in std::iter::once([1.0, 0.0, 7.0]).chain([[0.0, 1.0, 2.0]; 100]) {
//!     app.world_mut().get_mut::<Observations>(agent).unwrap().push(&seen).unwrap();
//!     test_app::tick(&mut app);
//! }
//! let berry = MemoryQuery::from_masked(&[Some(1.0), Some(0.0), None]);
//! app.world_mut().get_mut::<Questions>(agent).unwrap().ask(berry);
//! test_app::tick(&mut app);
//! test_app::tick(&mut app);
//!
//! let recall = app.world().get::<Recall>(agent).unwrap();
//! assert!((recall.value()[2] - 7.0).abs() < 1e-3);
//! assert!((recall.age() - 101.0).abs() < 1.0);
//! ```

use crate::agent::MemoryAgent;
use crate::asset::MemoryAsset;
use crate::plugin::InfformerPlugin;
use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use infformer::{MemoryConfig, RuntimeConfig, RuntimeMode};

/// An app without a window, with the plugin in `FixedUpdate` and one tick an update. Memories run
/// [`RuntimeMode::Inline`], so that answers come at the same tick in every run.
pub fn new() -> App {
    with_runtime(RuntimeConfig { mode: RuntimeMode::Inline, ..default() })
}

/// As [`new`], with memories that run as told.
pub fn with_runtime(runtime: RuntimeConfig) -> App {
    let mut app = App::new();
    app.add_plugins((MinimalPlugins, AssetPlugin::default()))
        .add_plugins(InfformerPlugin::default().with_runtime(runtime))
        .insert_resource(TimeUpdateStrategy::FixedTimesteps(1));
    app.finish();
    app.cleanup();
    // Bevy's first update has no time to step.
    app.update();
    app
}

/// Adds an agent with a memory of its own kind.
pub fn spawn_agent(app: &mut App, memory: MemoryConfig) -> Entity {
    let memory = app.world_mut().resource_mut::<Assets<MemoryAsset>>().add(MemoryAsset::Recall(memory));
    app.world_mut().spawn(MemoryAgent::new(memory)).id()
}

/// One tick of `FixedUpdate`.
pub fn tick(app: &mut App) {
    app.update();
}
