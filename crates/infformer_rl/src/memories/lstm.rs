//! Long short-term memory: the other recurrent baseline.
//!
//! c′ = f·c + i·g, h′ = o·tanh c′ with i, f, o = σ(W x + U h + b), g = tanh(W x + U h + b).

use crate::error::Result;
use crate::memory::{Memory, MemoryState, Remembered, kept};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::sigmoid;
use candle_nn::{Init, VarBuilder};
use infformer::model::{Linear, Reset};

/// The gates' matrices and the map back to the stream.
#[derive(Debug)]
pub struct Lstm {
    hidden: usize,
    /// i, f, o, g
    input: Linear,
    /// \[4h, h\]
    recurrent: Tensor,
    output: Linear,
    device: Device,
    dtype: DType,
}

impl Lstm {
    /// `hidden` units on a stream of the given width.
    pub fn new(width: usize, hidden: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        let bound = 1.0 / (hidden as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            hidden,
            device: vb.device().clone(),
            dtype: vb.dtype(),
            input: Linear::with_bias(width, 4 * hidden, vb.pp("input"))?,
            recurrent: vb.get_with_hints((4 * hidden, hidden), "recurrent.weight", init)?,
            output: Linear::with_bias(hidden, width, vb.pp("output"))?,
        })
    }
}

impl Memory for Lstm {
    /// h and c \[batch, hidden\].
    fn empty_state(&self, batch: usize) -> Result<MemoryState> {
        let zeros = Tensor::zeros((batch, self.hidden), self.dtype, &self.device)?;
        Ok(MemoryState::Tensors(vec![zeros.clone(), zeros]))
    }

    fn forward(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> Result<(Remembered, MemoryState)> {
        let [h, c] = state.tensors()?;
        let (batch, ticks, _) = x.dims3()?;
        let kept = Tensor::from_vec(kept(resets, batch, ticks), (batch, ticks), x.device())?.to_dtype(x.dtype())?;
        let mapped = self.input.forward(x)?.transpose(0, 1)?.contiguous()?;
        let recurrent = self.recurrent.t()?.contiguous()?;
        let (mut h, mut c) = (h.detach(), c.detach());
        let mut states = Vec::with_capacity(ticks);
        for tick in 0..ticks {
            let kept = kept.narrow(1, tick, 1)?;
            (h, c) = (h.broadcast_mul(&kept)?, c.broadcast_mul(&kept)?);
            let gates = (mapped.get(tick)? + h.matmul(&recurrent)?)?;
            let squashed = sigmoid(&gates.narrow(D::Minus1, 0, 3 * self.hidden)?)?;
            let gate = |number: usize| squashed.narrow(D::Minus1, number * self.hidden, self.hidden);
            let new = gates.narrow(D::Minus1, 3 * self.hidden, self.hidden)?.tanh()?;
            c = ((gate(1)? * c)? + (gate(0)? * new)?)?;
            h = (gate(2)? * c.tanh()?)?;
            states.push(h.clone());
        }
        let output = self.output.forward(&Tensor::stack(&states, 1)?)?;
        Ok((output.into(), MemoryState::Tensors(vec![h.detach(), c.detach()])))
    }
}
