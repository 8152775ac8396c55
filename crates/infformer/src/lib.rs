//! Long-term memory for agents: an unbounded history folded into a fixed-size continuous signal.
//!
//! An agent pushes what it sees at every tick; [`Engine`] folds it into a signal of fixed size and answers queries
//! like "when and where was it like this?" by content, without training. [`Runtime`] does the same on worker threads.
//!
//! The modules, in the order that the data flows:
#![doc = ""]

pub mod attention;
pub mod basis;
pub mod channels;
pub mod config;
pub mod density;
pub mod engine;
pub mod error;
pub mod forgetting;
pub mod observations;
pub mod projection;
pub mod quadrature;
pub mod query;
pub mod reference;
pub mod runtime;
pub mod snapshot;
pub mod sticky;
pub mod view;

mod arena;
mod blocks;
mod moments;
mod plan;
mod recall;
mod signal;
mod worker;

pub use channels::{Channel, ChannelGroup, ChannelLayout, Scale};
pub use config::{MemoryConfig, RecallConfig};
pub use density::{Density, Measure};
pub use engine::{AgentId, AgentStep, Engine};
pub use error::{Error, Result, SnapshotError};
pub use forgetting::Forgetting;
pub use observations::ObservationQueue;
pub use query::{Answer, AnswerDetail, DensityCell, Peak, Query};
pub use runtime::{Runtime, RuntimeConfig, RuntimeDiagnostics, RuntimeMode, Submitted};
pub use view::{MemoryView, ViewRequest};

pub use candle_core::Device;
