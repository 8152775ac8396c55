//! A gated recurrent unit over the same inputs and heads: the recurrent baseline.
//!
//! h′ = (1 − z)·n + z·h with r, z = σ(W x + U h + b), n = tanh(W x + b + r·(U h + c)) (Cho et al. 2014, in the order
//! of the common libraries).

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// Recurrent weights and the map from the inputs.
#[derive(Debug)]
pub struct Gru {
    hidden: usize,
    /// \[3h, in\] and \[3h\]: r, z, n.
    input: Tensor,
    input_bias: Tensor,
    /// \[3h, h\] and \[3h\].
    recurrent: Tensor,
    recurrent_bias: Tensor,
}

impl Gru {
    /// `hidden` units on `inputs` numbers.
    pub fn new(inputs: usize, hidden: usize, vb: VarBuilder) -> Result<Self> {
        let bound = 1.0 / (hidden as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            hidden,
            input: vb.get_with_hints((3 * hidden, inputs), "input.weight", init)?,
            input_bias: vb.get_with_hints(3 * hidden, "input.bias", Init::Const(0.0))?,
            recurrent: vb.get_with_hints((3 * hidden, hidden), "recurrent.weight", init)?,
            recurrent_bias: vb.get_with_hints(3 * hidden, "recurrent.bias", Init::Const(0.0))?,
        })
    }

    /// x \[batch, T, in\] from h = 0 → the hidden states of the last `wanted` ticks \[batch, wanted, h\].
    pub fn forward(&self, x: &Tensor, wanted: usize) -> Result<Tensor> {
        let (batch, ticks, inputs) = x.dims3()?;
        let mapped = x.reshape((batch * ticks, inputs))?.matmul(&self.input.t()?)?.broadcast_add(&self.input_bias)?;
        // Tick by tick in rows of their own, so that a tick's gradient is as small as the tick.
        let mapped = mapped.reshape((batch, ticks, 3 * self.hidden))?.transpose(0, 1)?.contiguous()?;
        let recurrent = self.recurrent.t()?;
        let mut state = Tensor::zeros((batch, self.hidden), DType::F32, x.device())?.to_dtype(x.dtype())?;
        let mut states = vec![];
        const TICKS_A_PIECE: usize = 64;
        for start in (0..ticks).step_by(TICKS_A_PIECE) {
            let count = TICKS_A_PIECE.min(ticks - start);
            let piece = mapped.narrow(0, start, count)?.contiguous()?;
            for at in 0..count {
                let now = piece.get(at)?;
                let past = state.matmul(&recurrent)?.broadcast_add(&self.recurrent_bias)?;
                let part = |of: &Tensor, gate: usize| of.narrow(1, gate * self.hidden, self.hidden);
                let reset = candle_nn::ops::sigmoid(&(part(&now, 0)? + part(&past, 0)?)?)?;
                let keep = candle_nn::ops::sigmoid(&(part(&now, 1)? + part(&past, 1)?)?)?;
                let new = (part(&now, 2)? + (reset * part(&past, 2)?)?)?.tanh()?;
                state = (&new + (keep * (state - &new)?)?)?;
                if start + at + wanted >= ticks {
                    states.push(state.clone());
                }
            }
        }
        Tensor::stack(&states, 1)
    }
}
