//! A diagonal complex linear recurrence (the linear recurrent unit, Orvieto et al. 2023): h′ = λ·h + γ·(B x),
//! y = Re(C h), with |λ| = exp(−exp ν) and γ = √(1 − |λ|²).
//!
//! Rings of memories from a few to a thousand ticks long; phases begin below π/10, as the paper has it for long
//! sequences.

use crate::error::Result;
use crate::memory::{Memory, kept};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use infformer::model::{Linear, Reset};

/// ln(−ln |λ|) for |λ| from .9 to .999.
const LEAST_DECAY: f64 = -6.9;
const MOST_DECAY: f64 = -2.25;

/// Matrices, decays and phases.
#[derive(Debug)]
pub struct LinearRecurrence {
    hidden: usize,
    /// Real parts, then imaginary ones, of B x.
    input: Linear,
    /// ν \[h\]
    decay: Tensor,
    /// The angle of λ \[h\].
    phase: Tensor,
    /// On the real parts, then on the imaginary ones.
    output: Linear,
    device: Device,
    dtype: DType,
}

impl LinearRecurrence {
    /// `hidden` complex units on a stream of the given width.
    pub fn new(width: usize, hidden: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        let between = |lo: f64, up: f64| Init::Uniform { lo, up };
        Ok(Self {
            hidden,
            device: vb.device().clone(),
            dtype: vb.dtype(),
            input: Linear::new(width, 2 * hidden, vb.pp("input"))?,
            decay: vb.get_with_hints(hidden, "decay", between(LEAST_DECAY, MOST_DECAY))?,
            phase: vb.get_with_hints(hidden, "phase", between(0.0, std::f64::consts::PI / 10.0))?,
            output: Linear::with_bias(2 * hidden, width, vb.pp("output"))?,
        })
    }
}

impl Memory for LinearRecurrence {
    /// The real and the imaginary part of h \[batch, hidden\].
    fn empty_state(&self, batch: usize) -> Result<Vec<Tensor>> {
        let zeros = Tensor::zeros((batch, self.hidden), self.dtype, &self.device)?;
        Ok(vec![zeros.clone(), zeros])
    }

    fn forward(&self, x: &Tensor, resets: &[Reset], state: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        let (batch, ticks, _) = x.dims3()?;
        let kept = Tensor::from_vec(kept(resets, batch, ticks), (batch, ticks), x.device())?.to_dtype(x.dtype())?;
        let length = self.decay.exp()?.neg()?.exp()?;
        let scale = (1.0 - length.sqr()?)?.sqrt()?;
        let (turn, lift) = ((&length * self.phase.cos()?)?, (&length * self.phase.sin()?)?);
        let mapped = self.input.forward(x)?.transpose(0, 1)?.broadcast_mul(&Tensor::cat(&[&scale, &scale], 0)?)?;
        let (mut real, mut imaginary) = (state[0].detach(), state[1].detach());
        let mut states = Vec::with_capacity(ticks);
        for tick in 0..ticks {
            let (now, kept) = (mapped.get(tick)?, kept.narrow(1, tick, 1)?);
            (real, imaginary) = (real.broadcast_mul(&kept)?, imaginary.broadcast_mul(&kept)?);
            let turned = (real.broadcast_mul(&turn)? - imaginary.broadcast_mul(&lift)?)?;
            imaginary = (imaginary.broadcast_mul(&turn)? + real.broadcast_mul(&lift)?)?;
            real = (turned + now.narrow(1, 0, self.hidden)?)?;
            imaginary = (imaginary + now.narrow(1, self.hidden, self.hidden)?)?;
            states.push(Tensor::cat(&[&real, &imaginary], 1)?);
        }
        let output = self.output.forward(&Tensor::stack(&states, 1)?)?;
        Ok((output, vec![real.detach(), imaginary.detach()]))
    }
}
