//! A gated recurrent unit over the same inputs and heads: the recurrent baseline.
//!
//! h′ = (1 − z)·n + z·h with r, z = σ(W x + U h + b), n = tanh(W x + b + r·(U h + c)) (Cho et al. 2014, in the order
//! of the common libraries).

use candle_core::{CpuStorage, CustomOp3, D, DType, Device, Layout, Result, Shape, Tensor};
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
        let (mapped, recurrent) = self.prepare(x)?;
        let states = match x.device() {
            Device::Cpu => mapped.apply_op3(&recurrent, &self.recurrent_bias, Recurrence)?,
            _ => recur(&mapped, &recurrent, &self.recurrent_bias)?,
        };
        let first = states.dim(0)?.saturating_sub(wanted);
        states.narrow(0, first, states.dim(0)? - first)?.transpose(0, 1)?.contiguous()
    }

    /// The same, every operation of every tick recorded by the tensor library: slow and obvious.
    pub fn forward_by_operations(&self, x: &Tensor, wanted: usize) -> Result<Tensor> {
        let (mapped, recurrent) = self.prepare(x)?;
        let states = recur(&mapped, &recurrent, &self.recurrent_bias)?;
        let first = states.dim(0)?.saturating_sub(wanted);
        states.narrow(0, first, states.dim(0)? - first)?.transpose(0, 1)?.contiguous()
    }

    /// W x + b of all ticks \[T, batch, 3h\], and Uᵀ \[h, 3h\].
    fn prepare(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, ticks, inputs) = x.dims3()?;
        let x = x.transpose(0, 1)?.contiguous()?.reshape((ticks * batch, inputs))?;
        let mapped = x.matmul(&self.input.t()?)?.broadcast_add(&self.input_bias)?;
        Ok((mapped.reshape((ticks, batch, 3 * self.hidden))?, self.recurrent.t()?.contiguous()?))
    }
}

/// r, z, n and U h + c of one tick, or of many at once: from W x + b and U h + c \[.., 3h\].
struct Gates {
    reset: Tensor,
    keep: Tensor,
    new: Tensor,
    /// The part of U h + c that r lets through.
    past: Tensor,
}

impl Gates {
    fn new(mapped: &Tensor, past: &Tensor) -> Result<Self> {
        let part = |of: &Tensor, gate: usize| {
            let hidden = of.dim(D::Minus1)? / 3;
            of.narrow(D::Minus1, gate * hidden, hidden)?.contiguous()
        };
        let reset = candle_nn::ops::sigmoid(&(part(mapped, 0)? + part(past, 0)?)?)?;
        let keep = candle_nn::ops::sigmoid(&(part(mapped, 1)? + part(past, 1)?)?)?;
        let past = part(past, 2)?;
        let new = (part(mapped, 2)? + (&reset * &past)?)?.tanh()?;
        Ok(Self { reset, keep, new, past })
    }
}

/// All hidden states \[T, batch, h\], tick by tick from h = 0.
fn recur(mapped: &Tensor, recurrent: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (ticks, batch, gates) = mapped.dims3()?;
    let mut state = Tensor::zeros((batch, gates / 3), mapped.dtype(), mapped.device())?;
    let mut states = Vec::with_capacity(ticks);
    for tick in 0..ticks {
        let Gates { keep, new, .. } =
            Gates::new(&mapped.get(tick)?, &state.matmul(recurrent)?.broadcast_add(bias)?)?;
        state = (&new + (keep * (state - &new)?)?)?;
        states.push(state.clone());
    }
    Tensor::stack(&states, 0)
}

/// [`recur`] as one operation with its own gradient, which goes back through the ticks without a graph of them all.
struct Recurrence;

impl CustomOp3 for Recurrence {
    fn name(&self) -> &'static str {
        "gated-recurrence"
    }

    fn cpu_fwd(
        &self,
        mapped: &CpuStorage,
        mapped_layout: &Layout,
        recurrent: &CpuStorage,
        recurrent_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let tensor = |storage: &CpuStorage, layout: &Layout| {
            let Some((start, end)) = layout.contiguous_offsets() else { candle_core::bail!("{}: strided", self.name()) };
            match storage {
                CpuStorage::F32(values) => Tensor::from_slice(&values[start..end], layout.shape(), &Device::Cpu),
                CpuStorage::F64(values) => Tensor::from_slice(&values[start..end], layout.shape(), &Device::Cpu),
                _ => candle_core::bail!("{} takes f32 or f64", self.name()),
            }
        };
        let states =
            recur(&tensor(mapped, mapped_layout)?, &tensor(recurrent, recurrent_layout)?, &tensor(bias, bias_layout)?)?;
        let values = states.flatten_all()?;
        let storage = match states.dtype() {
            DType::F64 => CpuStorage::F64(values.to_vec1()?),
            _ => CpuStorage::F32(values.to_vec1()?),
        };
        Ok((storage, states.shape().clone()))
    }

    fn bwd(
        &self,
        mapped: &Tensor,
        recurrent: &Tensor,
        bias: &Tensor,
        states: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (ticks, batch, hidden) = states.dims3()?;
        let [mapped, recurrent, bias, states] = [mapped, recurrent, bias, states].map(Tensor::detach);
        let zero = states.narrow(0, 0, 1)?.zeros_like()?;
        let before = Tensor::cat(&[&zero, &states.narrow(0, 0, ticks - 1)?], 0)?.reshape((ticks * batch, hidden))?;
        let past = before.matmul(&recurrent)?.broadcast_add(&bias)?;
        let Gates { reset, keep, new, past } = Gates::new(&mapped.reshape((ticks * batch, 3 * hidden))?, &past)?;
        // What dL/dh′ is multiplied by on its way to r, z and n before their squashing, and to U h + c of n.
        let to_new = ((1.0 - &keep)? * (1.0 - new.sqr()?)?)?;
        let to_keep = ((before.clone() - &new)? * (&keep * (1.0 - &keep)?)?)?;
        let to_reset = ((&to_new * &past)? * (&reset * (1.0 - &reset)?)?)?;
        let to_past = (&to_new * &reset)?;
        let slopes = |last: &Tensor| Tensor::stack(&[&to_reset, &to_keep, last], 1)?.reshape((ticks, batch, 3, hidden));
        let (to_recurrent, keep) = (slopes(&to_past)?, keep.reshape((ticks, batch, hidden))?);
        let back = recurrent.t()?.contiguous()?;
        let mut carried = zero.squeeze(0)?;
        let mut sums = Vec::with_capacity(ticks);
        for tick in (0..ticks).rev() {
            let sum = (gradient.get(tick)?.detach() + carried)?;
            let slope = to_recurrent.get(tick)?.broadcast_mul(&sum.unsqueeze(1)?)?.reshape((batch, 3 * hidden))?;
            carried = ((&sum * keep.get(tick)?)? + slope.matmul(&back)?)?;
            sums.push(sum);
        }
        sums.reverse();
        let sums = Tensor::stack(&sums, 0)?.unsqueeze(2)?;
        let rows = to_recurrent.broadcast_mul(&sums)?.reshape((ticks * batch, 3 * hidden))?;
        let by_mapped = slopes(&to_new)?.broadcast_mul(&sums)?.reshape((ticks, batch, 3 * hidden))?;
        Ok((Some(by_mapped), Some(before.t()?.matmul(&rows)?), Some(rows.sum(0)?)))
    }
}
