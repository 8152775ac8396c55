//! bevy_infformer
