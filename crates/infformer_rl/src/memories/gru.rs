//! A gated recurrent unit over the same inputs and heads: the recurrent baseline.
//!
//! h′ = (1 − z)·n + z·h with r, z = σ(W x + U h + b), n = tanh(W x + b + r·(U h + c)) (Cho et al. 2014, in the order
//! of the common libraries).

use crate::memory::{Memory, MemoryState, Remembered, kept};
use candle_core::{CpuStorage, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, WithDType};
use candle_nn::{Init, VarBuilder};
use infformer::model::{Linear, Reset};
use num_traits::Float;

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

    /// x \[batch, T, in\] from h = `initial` \[batch, h\] on → all hidden states \[batch, T, h\]. A member that is
    /// reset begins again with h = 0. No gradient flows into `initial`.
    pub fn forward(&self, x: &Tensor, resets: &[Reset], initial: &Tensor) -> Result<Tensor> {
        if !x.device().is_cpu() {
            return self.forward_by_operations(x, resets, initial);
        }
        let (mapped, recurrent) = self.prepare(x)?;
        let (batch, ticks, _) = x.dims3()?;
        let mut anew = vec![false; ticks * batch];
        resets.iter().for_each(|reset| anew[reset.tick * batch + reset.member] = true);
        let course = Recurrence { initial: initial.detach().contiguous()?, anew };
        mapped.apply_op3(&recurrent, &self.recurrent_bias, course)?.transpose(0, 1)?.contiguous()
    }

    /// The same, every operation of every tick recorded by the tensor library: slow and obvious.
    pub fn forward_by_operations(&self, x: &Tensor, resets: &[Reset], initial: &Tensor) -> Result<Tensor> {
        let (mapped, recurrent) = self.prepare(x)?;
        let (ticks, batch, _) = mapped.dims3()?;
        let kept = Tensor::from_vec(kept(resets, batch, ticks), (batch, ticks), x.device())?.to_dtype(x.dtype())?;
        let mut state = initial.detach();
        let mut states = Vec::with_capacity(ticks);
        for tick in 0..ticks {
            state = state.broadcast_mul(&kept.narrow(1, tick, 1)?)?;
            let (now, past) = (mapped.get(tick)?, state.matmul(&recurrent)?.broadcast_add(&self.recurrent_bias)?);
            let part = |of: &Tensor, gate: usize| of.narrow(1, gate * self.hidden, self.hidden);
            let reset = candle_nn::ops::sigmoid(&(part(&now, 0)? + part(&past, 0)?)?)?;
            let keep = candle_nn::ops::sigmoid(&(part(&now, 1)? + part(&past, 1)?)?)?;
            let new = (part(&now, 2)? + (reset * part(&past, 2)?)?)?.tanh()?;
            state = (&new + (keep * (state - &new)?)?)?;
            states.push(state.clone());
        }
        Tensor::stack(&states, 1)
    }

    /// W x + b of all ticks \[T, batch, 3h\], and Uᵀ \[h, 3h\].
    fn prepare(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (batch, ticks, inputs) = x.dims3()?;
        let x = x.transpose(0, 1)?.contiguous()?.reshape((ticks * batch, inputs))?;
        let mapped = x.matmul(&self.input.t()?)?.broadcast_add(&self.input_bias)?;
        Ok((mapped.reshape((ticks, batch, 3 * self.hidden))?, self.recurrent.t()?.contiguous()?))
    }
}

/// A recurrent unit as a policy's memory: its states mapped back to the stream.
#[derive(Debug)]
pub struct GruMemory {
    gru: Gru,
    output: Linear,
    device: Device,
    dtype: DType,
}

impl GruMemory {
    /// `hidden` units on a stream of the given width.
    pub fn new(width: usize, hidden: usize, vb: VarBuilder) -> Result<Self> {
        let (device, dtype) = (vb.device().clone(), vb.dtype());
        let output = Linear::with_bias(hidden, width, vb.pp("output"))?;
        Ok(Self { gru: Gru::new(width, hidden, vb)?, output, device, dtype })
    }
}

impl Memory for GruMemory {
    /// h \[batch, hidden\].
    fn empty_state(&self, batch: usize) -> crate::Result<MemoryState> {
        let h = Tensor::zeros((batch, self.gru.hidden), self.dtype, &self.device)?;
        Ok(MemoryState::Tensors(vec![h]))
    }

    fn forward(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> crate::Result<(Remembered, MemoryState)> {
        let [h] = state.tensors()?;
        let states = self.gru.forward(x, resets, h)?;
        let newest = states.narrow(1, x.dim(1)? - 1, 1)?.squeeze(1)?.detach();
        Ok((self.output.forward(&states)?.into(), MemoryState::Tensors(vec![newest])))
    }
}

/// The recurrence as one operation with its own gradient, which goes back through the ticks without a graph of them all.
struct Recurrence {
    /// \[batch, h\]
    initial: Tensor,
    /// Who begins with h = 0 at which tick \[T · batch\].
    anew: Vec<bool>,
}

/// r, z and n of one unit from its parts of W x + b and of U h + c.
fn gates<T: Float>(now: [T; 3], past: [T; 3]) -> [T; 3] {
    let sigmoid = |x: T| T::one() / (T::one() + (-x).exp());
    let reset = sigmoid(now[0] + past[0]);
    // tanh x = 2σ(2x) − 1: the system's own was a quarter of a training step.
    let new = now[2] + reset * past[2];
    [reset, sigmoid(now[1] + past[1]), sigmoid(new + new) * (T::one() + T::one()) - T::one()]
}

/// The three parts of unit `unit` in a row \[3h\].
fn parts<T: Float>(row: &[T], unit: usize) -> [T; 3] {
    let hidden = row.len() / 3;
    [row[unit], row[hidden + unit], row[2 * hidden + unit]]
}

/// Zeros in the rows of `state` \[batch, h\] that begin anew.
fn begin_anew<T: WithDType + Float>(state: &mut [T], anew: &[bool]) {
    let rows = state.chunks_exact_mut(state.len() / anew.len());
    rows.zip(anew).filter(|(_, anew)| **anew).for_each(|(row, _)| row.fill(T::zero()));
}

/// The states \[T · batch · h\].
fn run<T: WithDType + Float>(course: &Recurrence, mapped: &[T], recurrent: &Tensor, bias: &Tensor) -> Result<Vec<T>> {
    let (batch, hidden) = course.initial.dims2()?;
    let mut states: Vec<T> = Vec::with_capacity(mapped.len() / 3);
    let mut state = course.initial.flatten_all()?.to_vec1::<T>()?;
    for (now, anew) in mapped.chunks_exact(batch * 3 * hidden).zip(course.anew.chunks_exact(batch)) {
        begin_anew(&mut state, anew);
        let past = Tensor::from_slice(&state, (batch, hidden), &Device::Cpu)?.matmul(recurrent)?;
        let past = past.broadcast_add(bias)?.flatten_all()?.to_vec1::<T>()?;
        let rows = now.chunks_exact(3 * hidden).zip(past.chunks_exact(3 * hidden));
        for ((now, past), state) in rows.zip(state.chunks_exact_mut(hidden)) {
            for (unit, state) in state.iter_mut().enumerate() {
                let [_, keep, new] = gates(parts(now, unit), parts(past, unit));
                *state = new + keep * (*state - new);
            }
        }
        states.extend_from_slice(&state);
    }
    Ok(states)
}

/// Gradients of W x + b, of Uᵀ and of c.
///
/// With g = dL/dh′ and the slopes a of r, z, n before their squashing: a_n = g(1 − z)(1 − n²), a_z = g(h − n)z(1 − z),
/// a_r = a_n(U h + c)_n r(1 − r); U h + c gets (a_r, a_z, a_n r), and h gets g z and what U sends back.
fn run_back<T: WithDType + Float>(
    course: &Recurrence,
    mapped: &Tensor,
    recurrent: &Tensor,
    bias: &Tensor,
    states: &Tensor,
    gradient: &Tensor,
) -> Result<[Tensor; 3]> {
    let (ticks, batch, hidden) = states.dims3()?;
    let mut before = course.initial.flatten_all()?.to_vec1::<T>()?;
    before.extend(states.narrow(0, 0, ticks - 1)?.flatten_all()?.to_vec1::<T>()?);
    for (state, anew) in before.chunks_exact_mut(batch * hidden).zip(course.anew.chunks_exact(batch)) {
        begin_anew(state, anew);
    }
    let before = Tensor::from_vec(before, (ticks * batch, hidden), &Device::Cpu)?;
    let past = before.matmul(recurrent)?.broadcast_add(bias)?;
    let host = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<T>();
    let (mut by_mapped, mut by_past) = (host(mapped)?, host(&past)?);
    let (states, slopes, back) = (host(&before)?, host(gradient)?, recurrent.t()?.contiguous()?);
    let mut carried = vec![T::zero(); batch * hidden];
    for tick in (0..ticks).rev() {
        for member in 0..batch {
            let row = tick * batch + member;
            let now = &mut by_mapped[row * 3 * hidden..(row + 1) * 3 * hidden];
            let past = &mut by_past[row * 3 * hidden..(row + 1) * 3 * hidden];
            for unit in 0..hidden {
                let at = member * hidden + unit;
                let (state, slope) = (states[row * hidden + unit], slopes[row * hidden + unit] + carried[at]);
                let through = parts(past, unit);
                let [reset, keep, new] = gates(parts(now, unit), through);
                let to_new = slope * (T::one() - keep) * (T::one() - new * new);
                let to_keep = slope * (state - new) * keep * (T::one() - keep);
                let to_reset = to_new * through[2] * reset * (T::one() - reset);
                carried[at] = slope * keep;
                for (gate, (by_now, by_then)) in
                    [(to_reset, to_reset), (to_keep, to_keep), (to_new, to_new * reset)].into_iter().enumerate()
                {
                    (now[gate * hidden + unit], past[gate * hidden + unit]) = (by_now, by_then);
                }
            }
        }
        let rows = &by_past[tick * batch * 3 * hidden..(tick + 1) * batch * 3 * hidden];
        let sent = host(&Tensor::from_slice(rows, (batch, 3 * hidden), &Device::Cpu)?.matmul(&back)?)?;
        carried.iter_mut().zip(sent).for_each(|(carried, sent)| *carried += sent);
        begin_anew(&mut carried, &course.anew[tick * batch..(tick + 1) * batch]);
    }
    let by_past = Tensor::from_vec(by_past, (ticks * batch, 3 * hidden), &Device::Cpu)?;
    Ok([Tensor::from_vec(by_mapped, mapped.shape(), &Device::Cpu)?, before.t()?.matmul(&by_past)?, by_past.sum(0)?])
}

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
        fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
            match layout.contiguous_offsets() {
                Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
                None => candle_core::bail!("gated-recurrence takes contiguous tensors"),
            }
        }
        fn tensor<T: WithDType>(storage: &CpuStorage, layout: &Layout) -> Result<Tensor> {
            Tensor::from_slice(slice::<T>(storage, layout)?, layout.shape(), &Device::Cpu)
        }
        let (ticks, batch, gates) = mapped_layout.shape().dims3()?;
        let states = match mapped {
            CpuStorage::F64(_) => {
                let (u, c) = (tensor::<f64>(recurrent, recurrent_layout)?, tensor::<f64>(bias, bias_layout)?);
                CpuStorage::F64(run(self, slice(mapped, mapped_layout)?, &u, &c)?)
            }
            _ => {
                let (u, c) = (tensor::<f32>(recurrent, recurrent_layout)?, tensor::<f32>(bias, bias_layout)?);
                CpuStorage::F32(run(self, slice(mapped, mapped_layout)?, &u, &c)?)
            }
        };
        Ok((states, Shape::from((ticks, batch, gates / 3))))
    }

    fn bwd(
        &self,
        mapped: &Tensor,
        recurrent: &Tensor,
        bias: &Tensor,
        states: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [mapped, recurrent, bias, states] = [mapped, recurrent, bias, states].map(Tensor::detach);
        let [by_mapped, by_recurrent, by_bias] = match states.dtype() {
            DType::F64 => run_back::<f64>(self, &mapped, &recurrent, &bias, &states, &gradient.detach())?,
            _ => run_back::<f32>(self, &mapped, &recurrent, &bias, &states, &gradient.detach())?,
        };
        Ok((Some(by_mapped), Some(by_recurrent), Some(by_bias)))
    }
}
