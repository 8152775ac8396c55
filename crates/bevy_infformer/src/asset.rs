//! What a kind of agent remembers, as a Bevy asset: `*.memory.ron`, reloaded while the game runs.

use bevy::asset::{AssetLoader, LoadContext, io::Reader};
use bevy::prelude::*;
use infformer::MemoryConfig;

/// A [`MemoryConfig`] that agents share.
#[derive(Asset, Reflect, Debug, Clone)]
#[reflect(opaque, Clone, Debug)]
pub struct MemoryAsset(pub MemoryConfig);

/// Reads and validates `*.memory.ron`.
#[derive(Debug, Default, Clone, Copy, Reflect)]
pub struct MemoryLoader;

/// Why a memory file cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryLoaderError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Read {
        /// The asset's path.
        path: String,
        /// What the reader says.
        error: std::io::Error,
    },
    /// The file is no valid configuration.
    #[error("{path}: {error}")]
    Configuration {
        /// The asset's path.
        path: String,
        /// What is wrong with it.
        error: infformer::Error,
    },
}

impl AssetLoader for MemoryLoader {
    type Asset = MemoryAsset;
    type Settings = ();
    type Error = MemoryLoaderError;

    async fn load(
        &self,
        reader: &mut dyn Reader,
        _: &(),
        context: &mut LoadContext<'_>,
    ) -> Result<MemoryAsset, MemoryLoaderError> {
        let path = context.path().to_string();
        let mut bytes = vec![];
        match reader.read_to_end(&mut bytes).await {
            Ok(_) => {}
            Err(error) => return Err(MemoryLoaderError::Read { path, error }),
        }
        let text = String::from_utf8_lossy(&bytes);
        MemoryConfig::from_ron(&text).map(MemoryAsset).map_err(|error| MemoryLoaderError::Configuration { path, error })
    }

    fn extensions(&self) -> &[&str] {
        &["memory.ron"]
    }
}
