//! Long-term memory for agents: an unbounded history folded into a fixed-size continuous signal.
//!
//! An agent pushes what it sees at every tick; [`Engine`] folds it into a signal of fixed size and answers queries
//! like "when and where was it like this?" by content, without training. [`Runtime`] does the same on worker threads.
//! The signal is that of the ∞-former (Martins, Marinho and Martins, ACL 2022), with other ways to forget beside the
//! paper's. The modules stand in the order that the data flows.
// Kernels are launched in one module, `device::cuda`.
#![cfg_attr(not(feature = "cuda"), forbid(unsafe_code))]

// What is remembered, and in which functions.
pub mod channels;
pub mod config;
pub mod basis;
pub mod quadrature;
pub mod projection;
pub mod forgetting;
// One agent: writing, and reading.
mod plan;
mod kernels;
mod grid;
mod signal;
pub mod sticky;
mod blocks;
mod moments;
pub mod density;
pub mod query;
mod recall;
pub mod attention;
pub mod view;
// A model that learns what to remember.
pub mod model;
pub mod weights;
// Many agents.
pub mod observations;
pub mod crowd;
mod arena;
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
mod device;
pub mod engine;
pub mod model_engine;
mod worker;
mod lane;
pub mod runtime;
pub mod snapshot;
// For all of them.
pub mod error;
pub mod reference;

pub use channels::{Channel, ChannelGroup, ChannelLayout, Scale};
pub use config::{MemoryConfig, RecallConfig, StatePrecision};
pub use crowd::{CrowdAnswer, CrowdAnswers, CrowdStep};
pub use density::{Density, Measure};
pub use engine::{AgentId, AgentStep, Engine, LoadedClock};
pub use error::{Error, Result, SnapshotError, WeightsError};
pub use forgetting::Forgetting;
pub use model_engine::{ModelAnswer, ModelEngine};
pub use observations::ObservationQueue;
pub use query::{Answer, AnswerDetail, DensityCell, Peak, Query};
pub use runtime::{Runtime, RuntimeConfig, RuntimeDiagnostics, RuntimeMode, Submitted};
pub use view::{MemoryView, ViewRequest};

pub use candle_core::{self, Device};
pub use candle_nn;
