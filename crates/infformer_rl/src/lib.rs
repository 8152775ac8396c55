//! Tasks that need memory, baselines beside ours, and a trainer for all of them.
//!
//! The modules, in the order that the data flows: [`task`] (sequences and their right answers), [`gru`] (a recurrent
//! baseline), [`learner`] (what is trained: a transformer with a memory, or a baseline), [`optimiser`] (AdamW whose
//! state can be saved), [`checkpoint`], [`trainer`] and its [`log`], [`benchmark`] (the
//! comparisons) and [`program`] (how the binaries start).
#![forbid(unsafe_code)]

pub mod task;
pub mod gru;
pub mod learner;
pub mod optimiser;
pub mod checkpoint;
mod events;
pub mod log;
pub mod trainer;
pub mod benchmark;
pub mod program;
pub mod error;

pub use error::{Error, Result};
