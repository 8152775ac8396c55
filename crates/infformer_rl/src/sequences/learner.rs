//! What is trained on a task: a transformer with some memory, or a recurrent network.

use crate::error::{Error, Result};
use crate::memories::Gru;
use crate::sequences::task::Task;
use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use infformer::model::parameters::{Parameters, seeded};
use infformer::model::{Encoder, LongTermConfig, Model, ModelConfig, Normalisation, Wanted};
use serde::{Deserialize, Serialize};

/// Which network, and how large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LearnerConfig {
    /// The model of `infformer`; the task gives its inputs and its head.
    Transformer(TransformerConfig),
    /// A gated recurrent unit.
    Gru {
        /// Width of the encoded inputs.
        width: usize,
        /// Hidden units.
        hidden: usize,
    },
}

/// The sizes of a [`ModelConfig`], which see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// d
    pub width: usize,
    /// Transformer layers.
    pub layers: usize,
    /// h
    pub attention_heads: usize,
    /// Hidden units of each feed-forward part.
    pub feed_forward: usize,
    /// S
    pub short_term: usize,
    /// L
    pub chunk: usize,
    /// The memory beyond the window, if any.
    pub long_term: Option<LongTermConfig>,
}

/// A network under training.
#[derive(Debug)]
pub enum Learner {
    /// The model of `infformer`.
    Transformer(Box<Model>),
    /// A gated recurrent unit.
    Gru(Box<GruLearner>),
}

/// Encoder, recurrence and head.
#[derive(Debug)]
pub struct GruLearner {
    encoder: Encoder,
    gru: Gru,
    /// \[classes, h\]
    head: Tensor,
    head_bias: Tensor,
    parameters: Parameters,
}

impl LearnerConfig {
    /// The whole configuration of the model for `task`; `None` for a recurrent network.
    pub fn model_config(&self, task: &Task) -> Option<ModelConfig> {
        match self {
            LearnerConfig::Transformer(sizes) => Some(sizes.model_config(task)),
            LearnerConfig::Gru { .. } => None,
        }
    }

    /// Says what is wrong, if anything is.
    pub fn validate(&self, task: &Task) -> Result<()> {
        match self {
            LearnerConfig::Gru { width, hidden } if *width == 0 || *hidden == 0 => {
                let message = format!("a Gru of width {width} and {hidden} hidden units: both are 1 or more");
                Err(Error::Configuration(message))
            }
            LearnerConfig::Gru { .. } => Ok(()),
            LearnerConfig::Transformer(sizes) => Ok(sizes.model_config(task).validate()?),
        }
    }

    /// New weights from a seed.
    pub fn init(&self, task: &Task, seed: u64, device: &Device) -> Result<Learner> {
        match self {
            LearnerConfig::Transformer(sizes) => {
                Ok(Learner::Transformer(Box::new(sizes.model_config(task).init_seeded(seed, DType::F32, device)?)))
            }
            LearnerConfig::Gru { width, hidden } => {
                let (learner, parameters) =
                    seeded(seed, DType::F32, device, |vb| GruLearner::new(task, *width, *hidden, vb))?;
                Ok(Learner::Gru(Box::new(GruLearner { parameters, ..learner })))
            }
        }
    }
}

impl TransformerConfig {
    fn model_config(&self, task: &Task) -> ModelConfig {
        let Self { width, layers, attention_heads, feed_forward, short_term, chunk, long_term } = self.clone();
        let base = ModelConfig::new(task.inputs(), task.heads());
        ModelConfig { width, layers, attention_heads, feed_forward, short_term, chunk, long_term, ..base }
    }
}

impl GruLearner {
    fn new(task: &Task, width: usize, hidden: usize, vb: VarBuilder) -> infformer::Result<Self> {
        let bound = 1.0 / (hidden as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            encoder: Encoder::new(&task.inputs(), width, Normalisation::Parts, vb.pp("encoder"))?,
            gru: Gru::new(width, hidden, vb.pp("gru"))?,
            head: vb.get_with_hints((task.classes(), hidden), "head.weight", init)?,
            head_bias: vb.get_with_hints(task.classes(), "head.bias", Init::Const(0.0))?,
            parameters: Parameters::new(),
        })
    }
}

impl Learner {
    /// The weights by name.
    pub fn parameters(&self) -> &Parameters {
        match self {
            Learner::Transformer(model) => model.parameters(),
            Learner::Gru(gru) => &gru.parameters,
        }
    }

    /// How many numbers the weights are.
    pub fn parameter_count(&self) -> usize {
        self.parameters().values().map(|var| var.elem_count()).sum()
    }

    /// Logits of the last `wanted` ticks \[batch, wanted, classes\] of x \[batch, T, channels\], and the regulariser.
    pub fn forward(&self, x: &Tensor, wanted: usize) -> Result<(Tensor, Option<Tensor>)> {
        match self {
            Learner::Transformer(model) => {
                let state = model.empty_state(x.dim(0)?)?;
                let (mut outputs, _) = model.forward_segment(x, &[], Wanted::Last(wanted), &state)?;
                Ok((outputs.heads.swap_remove(0), outputs.regulariser))
            }
            Learner::Gru(gru) => {
                let initial = Tensor::zeros((x.dim(0)?, gru.head.dim(1)?), DType::F32, x.device())?;
                let states = gru.gru.forward(&gru.encoder.forward(x, DType::F32)?, &[], &initial)?;
                let first = states.dim(1)?.saturating_sub(wanted);
                let states = states.narrow(1, first, states.dim(1)? - first)?.contiguous()?;
                let (batch, ticks, hidden) = states.dims3()?;
                let logits = states.reshape((batch * ticks, hidden))?.matmul(&gru.head.t()?)?;
                Ok((logits.broadcast_add(&gru.head_bias)?.reshape((batch, ticks, ()))?, None))
            }
        }
    }
}
