//! Reinforcement learning for agents with the long-term memory of infformer: environments that need memory, memories to
//! compare, proximal policy optimisation for policies that remember, and a trainer; sequence tasks with one right answer too.
//!
//! The modules, in the order that the data flows: [`environment`] and [`environments`] (what an agent lives in),
//! `bevy_game` (with the feature `bevy`: your game as an environment, and trained agents in it),
//! [`memory`] and [`memories`] (what it remembers with), [`policy`] (encoder, memory, actor and critic),
//! [`environment_batch`], [`distribution`], [`rollout`] and [`ppo`] (how it learns), [`evaluation`],
//! [`probe`] (what its decisions depend on), [`optimiser`] (AdamW
//! whose state can be saved), [`checkpoint`], [`log`], [`trainer`], [`comparison`] (tables of environments × memories ×
//! seeds), [`sequences`] (supervised tasks and their comparisons) and [`program`] (how the binaries start).
#![forbid(unsafe_code)]

pub mod environment;
pub mod environments;
#[cfg(feature = "bevy")]
pub mod bevy_game;
pub mod memory;
pub mod memories;
pub mod policy;
pub mod environment_batch;
pub mod distribution;
pub mod rollout;
pub mod ppo;
pub mod evaluation;
pub mod probe;
pub mod optimiser;
pub mod checkpoint;
mod events;
pub mod log;
pub mod trainer;
pub mod comparison;
pub mod sequences;
pub mod program;
pub mod error;

pub use error::{Error, Result};
