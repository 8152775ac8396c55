//! Where what a part of a layer made joins the stream: a sum, or the gate of the GTrXL (Parisotto et al. 2020).
//!
//! With x the stream and y what was made of it, through max(0, ·): r = σ(W_r y + U_r x), z = σ(W_z y + U_z x − b) and
//! n = tanh(W_n y + U_n (r·x)); out comes (1 − z)·x + z·n. b begins at 2: at first that is nearly x.

use super::config::{ModelConfig, Residual};
use super::linear::Linear;
use candle_core::{Result, Tensor};
use candle_nn::ops::sigmoid;
use candle_nn::{Init, VarBuilder};

/// The sum or the gate.
#[derive(Debug)]
pub(crate) struct Joint {
    gate: Option<Gate>,
}

/// Matrices of r, z and n, one below the other.
#[derive(Debug)]
struct Gate {
    /// W \[3d, d\]
    made: Linear,
    /// U of r and z \[2d, d\].
    stream: Linear,
    /// U_n \[d, d\]
    kept: Linear,
    /// b \[d\]
    bias: Tensor,
    width: usize,
}

impl Joint {
    pub(crate) fn new(config: &ModelConfig, vb: VarBuilder) -> Result<Self> {
        let width = config.width;
        let gate = match config.residual {
            Residual::Sum => None,
            Residual::Gate => Some(Gate {
                made: Linear::new(width, 3 * width, vb.pp("made"))?,
                stream: Linear::new(width, 2 * width, vb.pp("stream"))?,
                kept: Linear::new(width, width, vb.pp("kept"))?,
                bias: vb.get_with_hints(width, "bias", Init::Const(2.0))?,
                width,
            }),
        };
        Ok(Self { gate })
    }

    /// Both \[batch, T, d\].
    pub(crate) fn forward(&self, stream: &Tensor, made: &Tensor) -> Result<Tensor> {
        let Some(gate) = &self.gate else { return stream + made };
        let width = gate.width;
        let made = gate.made.forward(&made.relu()?)?;
        let gates = (made.narrow(2, 0, 2 * width)? + gate.stream.forward(stream)?)?;
        let reset = sigmoid(&gates.narrow(2, 0, width)?)?;
        let open = sigmoid(&gates.narrow(2, width, width)?.broadcast_sub(&gate.bias)?)?;
        let new = (made.narrow(2, 2 * width, width)? + gate.kept.forward(&(reset * stream)?)?)?.tanh()?;
        stream + (open * (new - stream)?)?
    }
}
