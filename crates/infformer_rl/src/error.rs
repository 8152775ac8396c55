//! What can go wrong in a training run.

use std::path::{Path, PathBuf};

/// Why a run cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// What is asked for makes no sense.
    #[error("{0}")]
    Configuration(String),
    /// An environment shows more or less than it says.
    #[error(
        "an observation of {found} numbers was shown, and the environment's observations have {expected}: it is to show one number \
         a channel at every tick"
    )]
    Observation {
        /// Numbers that were shown.
        found: usize,
        /// Channels of the observations.
        expected: usize,
    },
    /// An episode cannot begin so.
    #[error("beginning of an episode: {0}")]
    Beginning(String),
    /// A checkpoint that does not belong to this run.
    #[error("checkpoint {path} is refused: {message}; remove it or choose another folder (`--output`)")]
    Checkpoint {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        message: String,
    },
    /// The loss, or its gradient, is no number any more.
    #[error(
        "the loss is {loss} and its gradient has the norm {norm} at step {step}: lower the learning rate or clip harder; the last \
         checkpoint is kept"
    )]
    Diverged {
        /// At which step.
        step: u64,
        /// The loss found.
        loss: f64,
        /// The norm of its gradient; NaN where the loss is no number.
        norm: f64,
    },
    /// The model refuses.
    #[error(transparent)]
    Model(#[from] infformer::Error),
    /// The tensor library failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// What went wrong with the file at `path`.
    pub fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| Error::File { path: path.to_path_buf(), error }
    }
}
