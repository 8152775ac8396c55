//! Memories of policies, one a file, and their names.
//!
//! A new one is a file with an `impl` of [`Memory`], and in this one: its module, its variant of [`MemoryConfig`] with what
//! [`build`](MemoryConfig::build) makes of it and, if it has hidden units, its [`size`](MemoryConfig::size); its variant of [`MemoryName`]
//! with its [`name`](MemoryName::name) and its [`config`](MemoryName::config) of so many hidden units. Comparisons then size, train and
//! print it like the others: by its hidden units, if the configuration changes with them, else by its feed-forward part.
//!
//! `tests/policies.rs` holds every name to what is asked of it: a segment gives what its ticks give one by one; a reset is a fresh
//! beginning for one member and nothing for the others; members of a batch do not see each other; states, tensors \[batch, ..\] in
//! f32, can be kept; gradients reach every weight.

pub mod transformer;
pub mod layer;
pub mod nothing;
pub mod frame_stack;
pub mod gru;
pub mod lstm;
mod linear_recurrence;
pub mod fast_and_forgetful;

pub use fast_and_forgetful::FastAndForgetful;
pub use frame_stack::FrameStack;
pub use gru::{Gru, GruMemory};
pub use layer::Layer;
pub use lstm::Lstm;
pub use nothing::Nothing;
pub use transformer::Transformer;

use crate::memory::Memory;
use candle_nn::VarBuilder;
use clap::ValueEnum;
use infformer::MemoryConfig as WithoutTraining;
use infformer::basis::BasisKind;
use infformer::density::Measure;
use infformer::forgetting::{AdaptiveRule, Forgetting, Projection};
use infformer::model::{LinearRecurrence, LongTermConfig, LongTermForgetting, ReadingDensity, Residual};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a policy remembers with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum MemoryConfig {
    /// The model of `infformer`, or the same transformer with its window alone.
    Transformer {
        /// Transformer layers.
        layers: usize,
        /// h
        attention_heads: usize,
        /// S
        short_term: usize,
        /// L
        chunk: usize,
        /// The memory beyond the window, if any.
        long_term: Option<LongTermConfig>,
        /// Complex units of a linear recurrence beside the attention; 0: none.
        #[serde(default)]
        recurrence: usize,
        /// How what a layer's parts make joins the stream.
        #[serde(default)]
        residual: Residual,
    },
    /// None: what is seen now.
    Nothing,
    /// The last `frames` ticks, side by side.
    FrameStack {
        /// How many, this one included.
        frames: usize,
    },
    /// A gated recurrent unit (Cho et al. 2014).
    Gru {
        /// Hidden units.
        hidden: usize,
    },
    /// Long short-term memory (Hochreiter and Schmidhuber 1997; with a forget gate, Gers et al. 2000).
    Lstm {
        /// Hidden units.
        hidden: usize,
    },
    /// A diagonal complex linear recurrence (the linear recurrent unit of Orvieto et al. 2023).
    LinearRecurrence {
        /// Complex units.
        hidden: usize,
    },
    /// Fast and forgetful memory (Morad et al. 2023).
    FastAndForgetful {
        /// Numbers that are added up, each with four frequencies.
        hidden: usize,
    },
}

/// The memories that a comparison has, in the order of its tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryName {
    /// Ours: `infformer-adaptive`, and beside its attention a linear recurrence.
    Infformer,
    /// `Adaptive` forgetting, blocks that merge where least is lost, and attention alone.
    InfformerAdaptive,
    /// The same with `PowerLaw` forgetting: detail falls like 1/age.
    InfformerPowerLaw,
    /// The same with `Uniform` forgetting, read with every tick counting the same.
    InfformerUniform,
    /// As published: geometric forgetting on Gaussian functions, one Gaussian density a query.
    InfformerPaper,
    /// The same transformer with a window of as many bytes and the gates of the GTrXL.
    Window,
    /// A gated recurrent unit.
    Gru,
    /// Long short-term memory.
    Lstm,
    /// A diagonal linear recurrence.
    LinearRecurrence,
    /// Fast and forgetful memory.
    FastAndForgetful,
    /// The last four ticks.
    FrameStack,
    /// No memory.
    None,
}

/// S and L of the transformers.
const SHORT_TERM: usize = 32;
const CHUNK: usize = 16;
/// N
const CAPACITY: usize = 64;
/// Complex units of a recurrence beside attention.
const RECURRENCE: usize = 128;

impl MemoryName {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            MemoryName::Infformer => "infformer",
            MemoryName::InfformerAdaptive => "infformer-adaptive",
            MemoryName::InfformerPowerLaw => "infformer-power-law",
            MemoryName::InfformerUniform => "infformer-uniform",
            MemoryName::InfformerPaper => "infformer-paper",
            MemoryName::Window => "window",
            MemoryName::Gru => "gru",
            MemoryName::Lstm => "lstm",
            MemoryName::LinearRecurrence => "linear-recurrence",
            MemoryName::FastAndForgetful => "fast-and-forgetful",
            MemoryName::FrameStack => "frame-stack",
            MemoryName::None => "none",
        }
    }

    /// The memory, a recurrent one with `hidden` units.
    pub fn config(self, hidden: usize) -> MemoryConfig {
        let with_recurrence = |long_term: LongTermConfig, recurrence: usize| MemoryConfig::Transformer {
            layers: 1,
            attention_heads: 4,
            short_term: SHORT_TERM,
            chunk: CHUNK,
            long_term: Some(LongTermConfig { capacity: CAPACITY, ..long_term }),
            recurrence,
            residual: Residual::Sum,
        };
        let ours = |long_term| with_recurrence(long_term, 0);
        let signal = |forgetting| LongTermConfig {
            forgetting: LongTermForgetting::Signal(forgetting),
            ..LongTermConfig::default()
        };
        // However long ago something was, it is found as well.
        let adaptive = LongTermConfig {
            density: ReadingDensity::Softmax,
            ..signal(Forgetting::Adaptive(AdaptiveRule::ageless()))
        };
        match self {
            MemoryName::Infformer => with_recurrence(adaptive, RECURRENCE),
            MemoryName::InfformerAdaptive => ours(adaptive),
            MemoryName::InfformerPowerLaw => ours(signal(WithoutTraining::trajectory(vec![]).forgetting)),
            MemoryName::InfformerUniform => {
                ours(LongTermConfig { measure: Measure::Lifetime, ..signal(Forgetting::Uniform) })
            }
            MemoryName::InfformerPaper => {
                let basis = BasisKind::GaussianRbf { widths: vec![0.01, 0.05] };
                let geometric = Forgetting::Geometric { tau: 0.75, basis, projection: Projection::default() };
                ours(LongTermConfig { density: ReadingDensity::Affine { variance_floor: 1e-6 }, ..signal(geometric) })
            }
            MemoryName::Window => MemoryConfig::Transformer {
                layers: 1,
                attention_heads: 4,
                // A tick of the window is three vectors of state, a coefficient one.
                short_term: SHORT_TERM + CAPACITY.div_ceil(3),
                chunk: CHUNK,
                long_term: None,
                recurrence: 0,
                residual: Residual::Gate,
            },
            MemoryName::Gru => MemoryConfig::Gru { hidden },
            MemoryName::Lstm => MemoryConfig::Lstm { hidden },
            MemoryName::LinearRecurrence => MemoryConfig::LinearRecurrence { hidden },
            MemoryName::FastAndForgetful => MemoryConfig::FastAndForgetful { hidden },
            MemoryName::FrameStack => MemoryConfig::FrameStack { frames: 4 },
            MemoryName::None => MemoryConfig::Nothing,
        }
    }
}

impl MemoryConfig {
    /// Shares of the learning rate that a policy is trained with if nothing else is said: a quarter for the matrices of attention and
    /// for what reads a recurrence. Policies with both learnt to count and to recite sooner than at the whole rate.
    pub fn shares(&self) -> BTreeMap<String, f64> {
        let MemoryConfig::Transformer { long_term, recurrence, .. } = self else { return BTreeMap::new() };
        let attentions = [Some("short_term"), long_term.as_ref().map(|_| "long_term")];
        let matrices = |attention| ["query", "key", "value", "output"].map(|part| format!("{attention}.{part}.weight"));
        let recurrence = (*recurrence > 0).then(|| "recurrence.output.weight".to_string());
        let names = attentions.into_iter().flatten().flat_map(matrices).chain(recurrence);
        names.map(|name| (name, 0.25)).collect()
    }

    /// How many hidden units or frames it has, where that is what it is made of.
    pub fn size(&self) -> Option<usize> {
        match *self {
            MemoryConfig::Gru { hidden } | MemoryConfig::Lstm { hidden } => Some(hidden),
            MemoryConfig::LinearRecurrence { hidden } | MemoryConfig::FastAndForgetful { hidden } => Some(hidden),
            MemoryConfig::FrameStack { frames } => Some(frames),
            MemoryConfig::Nothing | MemoryConfig::Transformer { .. } => None,
        }
    }

    /// The memory over a stream of the given width, to be put in a [`Layer`]. Errors: a transformer, whose layers are those of a
    /// model ([`Transformer`]).
    pub fn build(&self, width: usize, vb: VarBuilder) -> candle_core::Result<Box<dyn Memory>> {
        Ok(match *self {
            MemoryConfig::Transformer { .. } => candle_core::bail!("a transformer is made of a model"),
            MemoryConfig::Nothing => Box::new(Nothing),
            MemoryConfig::FrameStack { frames } => Box::new(FrameStack::new(width, frames, vb)?),
            MemoryConfig::Gru { hidden } => Box::new(GruMemory::new(width, hidden, vb)?),
            MemoryConfig::Lstm { hidden } => Box::new(Lstm::new(width, hidden, vb)?),
            MemoryConfig::FastAndForgetful { hidden } => Box::new(FastAndForgetful::new(width, hidden, vb)?),
            MemoryConfig::LinearRecurrence { hidden } => Box::new(LinearRecurrence::new(width, hidden, vb)?),
        })
    }
}
