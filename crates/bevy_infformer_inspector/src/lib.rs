//! bevy_infformer_inspector
