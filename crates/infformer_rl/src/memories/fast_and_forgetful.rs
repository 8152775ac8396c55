//! Fast and forgetful memory (Morad et al., NeurIPS 2023): every number that passes the input gate is added up with one decay
//! and several frequencies, and what is made of the sums passes an output gate.
//!
//! With y, i = W x and σ(V x): S ← S ⊙ exp(a ⊕ iω) + (y·i) ⊗ 1, z = M (Re S, Im S), and out comes LN(z)·g + (T x)·(1 − g) with
//! g = σ(G x). As in the authors' program, decays begin evenly between half left after a tick and a hundredth after 1,024, and
//! periods evenly between 1 and 1,024 ticks.

use crate::error::Result;
use crate::memory::{Memory, MemoryState, Remembered};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::sigmoid;
use candle_nn::{Init, VarBuilder};
use infformer::model::{Linear, Reset, leaky_sums};

/// Frequencies of every number that is added up.
const CONTEXTS: usize = 4;
/// Of a, the logarithm of what is left after a tick.
const LEAST_DECAY: f64 = -0.6732;
const MOST_DECAY: f64 = -0.0045;
/// The longest period in ticks.
const LONGEST: f64 = 1_024.0;

/// Matrices, decays and frequencies.
#[derive(Debug)]
pub struct FastAndForgetful {
    traces: usize,
    added: Linear,
    input_gate: Linear,
    /// a \[traces\]
    decay: Begun,
    /// ω \[contexts\]
    frequency: Begun,
    mix: Linear,
    output_gate: Linear,
    through: Linear,
    device: Device,
    dtype: DType,
}

/// Where numbers begin, and how far training has moved them.
#[derive(Debug)]
struct Begun {
    begin: Tensor,
    moved: Tensor,
}

impl Begun {
    fn now(&self) -> candle_core::Result<Tensor> {
        &self.begin + &self.moved
    }
}

impl FastAndForgetful {
    /// `traces` numbers, each with four frequencies, over a stream of the given width.
    pub fn new(width: usize, traces: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        let linear = |inputs, outputs, name: &str| Linear::with_bias(inputs, outputs, vb.pp(name));
        let from = |begin: Vec<f64>, name: &str| {
            let count = begin.len();
            let begin = Tensor::from_vec(begin, count, vb.device())?.to_dtype(vb.dtype())?;
            Ok::<_, candle_core::Error>(Begun { begin, moved: vb.get_with_hints(count, name, Init::Const(0.0))? })
        };
        Ok(Self {
            traces,
            added: linear(width, traces, "added")?,
            input_gate: linear(width, traces, "input_gate")?,
            decay: from(evenly(LEAST_DECAY, MOST_DECAY, traces).collect(), "decay")?,
            frequency: from(
                evenly(1.0, LONGEST, CONTEXTS).map(|period| std::f64::consts::TAU / period).collect(),
                "frequency",
            )?,
            mix: linear(2 * traces * CONTEXTS, width, "mix")?,
            output_gate: linear(width, width, "output_gate")?,
            through: linear(width, width, "through")?,
            device: vb.device().clone(),
            dtype: vb.dtype(),
        })
    }

    /// The real and the imaginary parts of exp(a ⊕ iω) \[2, traces · contexts\].
    fn turns(&self) -> candle_core::Result<Tensor> {
        // Nothing may grow; the gradient passes by, so that what came to the bound can leave it.
        let decay = self.decay.now()?;
        let beyond = (decay.minimum(-1e-8)? - &decay)?.detach();
        let length = (decay + beyond)?.exp()?.unsqueeze(1)?;
        let frequency = self.frequency.now()?;
        let part = |wave: Tensor| length.broadcast_mul(&wave.unsqueeze(0)?)?.flatten_all();
        Tensor::stack(&[part(frequency.cos()?)?, part(frequency.sin()?)?], 0)
    }
}

/// `count` numbers from the first to the last.
fn evenly(first: f64, last: f64, count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |i| first + (last - first) * i as f64 / (count.max(2) - 1) as f64)
}

impl Memory for FastAndForgetful {
    /// S \[batch, 1, 2 · traces · contexts\].
    fn empty_state(&self, batch: usize) -> Result<MemoryState> {
        let sums = Tensor::zeros((batch, 1, 2 * self.traces * CONTEXTS), self.dtype, &self.device)?;
        Ok(MemoryState::Tensors(vec![sums]))
    }

    fn forward(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> Result<(Remembered, MemoryState)> {
        let [sums] = state.tensors()?;
        let (batch, ticks, _) = x.dims3()?;
        let passed = (self.added.forward(x)? * sigmoid(&self.input_gate.forward(x)?)?)?;
        let each = (batch, ticks, self.traces, CONTEXTS);
        let real = passed.unsqueeze(3)?.broadcast_as(each)?.reshape((batch, ticks, self.traces * CONTEXTS))?;
        let added = Tensor::cat(&[&real, &real.zeros_like()?], 2)?;
        let sums = leaky_sums(&added, &self.turns()?, resets, &sums.detach())?;
        let newest = sums.narrow(1, ticks - 1, 1)?.contiguous()?.detach();
        let mixed = self.mix.forward(&sums)?;
        let centred = mixed.broadcast_sub(&mixed.mean_keepdim(D::Minus1)?)?;
        let spread = (centred.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
        let (normal, through) = (centred.broadcast_div(&spread)?, self.through.forward(x)?);
        let open = sigmoid(&self.output_gate.forward(x)?)?;
        let stream = (&through + open * (normal - &through)?)?;
        Ok((stream.into(), MemoryState::Tensors(vec![newest])))
    }
}
