//! How a kind of agent remembers, as a Bevy asset, reloaded while the game runs: `*.memory.ron` remembers without
//! training, `*.model.ron` by a trained model, whose weights lie beside it as `*.safetensors`.

use bevy::asset::{AssetLoader, LoadContext, io::Reader};
use bevy::prelude::*;
use infformer::model::{Model, ModelConfig};
use infformer::{Device, MemoryConfig, weights};
use std::sync::Arc;

/// What agents share.
#[derive(Asset, Reflect, Debug, Clone)]
#[reflect(opaque, Clone, Debug)]
pub enum MemoryAsset {
    /// A memory that answers questions without training.
    Recall(MemoryConfig),
    /// A trained model, whose heads and readout come with every [`Recall`](crate::Recall).
    Model(Arc<Model>),
}

impl MemoryAsset {
    /// The configuration of a memory without training.
    pub fn recall(&self) -> Option<&MemoryConfig> {
        match self {
            MemoryAsset::Recall(config) => Some(config),
            MemoryAsset::Model(_) => None,
        }
    }

    /// The model.
    pub fn model(&self) -> Option<&Arc<Model>> {
        match self {
            MemoryAsset::Recall(_) => None,
            MemoryAsset::Model(model) => Some(model),
        }
    }
}

/// Reads and validates `*.memory.ron`.
#[derive(Debug, Default, Clone, Copy, Reflect)]
pub struct MemoryLoader;

/// Reads `*.model.ron` and the `*.safetensors` beside it; a change of either loads both again.
#[derive(Debug, Clone, Reflect)]
#[reflect(opaque, Debug, Clone)]
pub struct ModelLoader {
    /// Where the model computes.
    pub(crate) device: Device,
}

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
    /// The weights beside a model's configuration cannot be read.
    #[error("{path} cannot be read: {error}; a model's weights lie beside its `.model.ron`")]
    Weights {
        /// The path of the weights.
        path: String,
        /// What the asset server says.
        error: String,
    },
    /// The file is no valid configuration, or the weights do not fit it.
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
        let text = read_text(reader, &path).await?;
        MemoryConfig::from_ron(&text)
            .map(MemoryAsset::Recall)
            .map_err(|error| MemoryLoaderError::Configuration { path, error })
    }

    fn extensions(&self) -> &[&str] {
        &["memory.ron"]
    }
}

async fn read_text(reader: &mut dyn Reader, path: &str) -> Result<String, MemoryLoaderError> {
    let mut bytes = vec![];
    match reader.read_to_end(&mut bytes).await {
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(MemoryLoaderError::Read { path: path.into(), error }),
    }
}

impl AssetLoader for ModelLoader {
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
        let text = read_text(reader, &path).await?;
        let refuse = |error| MemoryLoaderError::Configuration { path: path.clone(), error };
        let config = ModelConfig::from_ron(&text).map_err(refuse)?;
        let weights = path.replace(weights::CONFIG_ENDING, weights::WEIGHTS_ENDING);
        let bytes = context.read_asset_bytes(weights.clone()).await;
        let bytes = bytes.map_err(|error| MemoryLoaderError::Weights { path: weights, error: error.to_string() })?;
        weights::from_bytes(&config, &bytes, &self.device)
            .map(|model| MemoryAsset::Model(Arc::new(model)))
            .map_err(refuse)
    }

    fn extensions(&self) -> &[&str] {
        &[weights::CONFIG_ENDING]
    }
}
