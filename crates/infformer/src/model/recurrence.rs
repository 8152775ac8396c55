//! A diagonal linear recurrence (the linear recurrent unit, Orvieto et al. 2023): h′ = λ·h + γ·(B x), y = Re(C h) + c, with complex
//! h, |λ| = exp(−exp ν) and γ = √(1 − |λ|²).
//!
//! Attention takes means of what it finds, and a mean does not tell of how many; a sum that leaks slowly does. Begins with
//! rings from ten to a thousand ticks long; phases begin below π/10, as the paper has it for long sequences.

use super::contiguous::contiguous;
use super::linear::Linear;
use super::schedule::Reset;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, WithDType};
use candle_nn::{Init, VarBuilder};

/// ln(−ln |λ|) for |λ| from .9 to .999.
const LEAST_DECAY: f64 = -6.9;
const MOST_DECAY: f64 = -2.25;

/// Less makes no difference in a million ticks, and 1 − |λ|² would be lost to rounding.
const LEAST_EVER: f64 = -12.0;

/// Matrices, decays and phases.
#[derive(Debug)]
pub struct LinearRecurrence {
    /// Real parts of B x, then imaginary ones.
    input: Linear,
    /// ν \[units\]
    decay: Tensor,
    /// The angle of λ \[units\].
    phase: Tensor,
    /// On the real parts of h, then on the imaginary ones.
    output: Linear,
}

impl LinearRecurrence {
    /// `units` complex numbers, at least one, over a stream of the given width.
    pub fn new(width: usize, units: usize, vb: VarBuilder) -> Result<Self> {
        if units == 0 {
            candle_core::bail!("a linear recurrence has 1 or more units");
        }
        let between = |lo: f64, up: f64| Init::Uniform { lo, up };
        Ok(Self {
            input: Linear::new(width, 2 * units, vb.pp("input"))?,
            decay: vb.get_with_hints(units, "decay", between(LEAST_DECAY, MOST_DECAY))?,
            phase: vb.get_with_hints(units, "phase", between(0.0, std::f64::consts::PI / 10.0))?,
            output: Linear::with_bias(2 * units, width, vb.pp("output"))?,
        })
    }

    /// h of `batch` members that have seen nothing: zeros \[batch, 1, 2·units\].
    pub fn empty_state(&self, batch: usize) -> Result<Tensor> {
        Tensor::zeros((batch, 1, 2 * self.decay.dim(0)?), self.decay.dtype(), self.decay.device())
    }

    /// x \[batch, T, d\] from h = `state` \[batch, 1, 2·units\] on → h after every tick \[batch, T, 2·units\]. A member that is
    /// reset begins again with h = 0. Gradients flow to the weights, to x and to `state`.
    pub fn states(&self, x: &Tensor, resets: &[Reset], state: &Tensor) -> Result<Tensor> {
        let length = self.decay.maximum(LEAST_EVER)?.exp()?.neg()?.exp()?;
        let scale = (1.0 - length.sqr()?)?.sqrt()?;
        let turns = Tensor::stack(&[(&length * self.phase.cos()?)?, (&length * self.phase.sin()?)?], 0)?;
        let added = self.input.forward(x)?.broadcast_mul(&Tensor::cat(&[&scale, &scale], 0)?)?;
        leaky_sums(&added, &turns, resets, state)
    }

    /// C on states \[batch, T, 2·units\] → \[batch, T, d\].
    pub fn readout(&self, states: &Tensor) -> Result<Tensor> {
        self.output.forward(states)
    }
}

/// h ← λ·h + what is `added` \[batch, T, 2·units\], from h = `state` \[batch, 1, 2·units\] on → h after every tick. Rows hold real
/// parts, then imaginary ones; `turns` \[2, units\] the real parts of λ, then the imaginary ones. A member that is reset begins
/// again with h = 0. Gradients flow to all three. Errors: other shapes, no tick, a reset of a member or at a tick that there is
/// not.
pub fn leaky_sums(added: &Tensor, turns: &Tensor, resets: &[Reset], state: &Tensor) -> Result<Tensor> {
    let (batch, ticks, twice) = added.dims3()?;
    if turns.dims() != [2, twice / 2] || state.dims() != [batch, 1, twice] || added.elem_count() == 0 {
        let (turns, state) = (turns.dims(), state.dims());
        candle_core::bail!("leaky sums of {:?}: turns are {turns:?}, the state {state:?}", added.dims());
    }
    if let Some(reset) = resets.iter().find(|reset| reset.member >= batch || reset.tick >= ticks) {
        candle_core::bail!("{reset:?}: there are {batch} members and {ticks} ticks, counted from 0");
    }
    let ours = added.device().is_cpu() && matches!(added.dtype(), DType::F32 | DType::F64);
    if !ours {
        return leaky_sums_by_operations(added, turns, resets, state);
    }
    let anew = anew(resets, added)?;
    added.contiguous()?.apply_op3(&turns.contiguous()?, &state.contiguous()?, Recurrence { anew })
}

/// The same, every operation of every tick recorded by the tensor library: slow and obvious. Other devices have no other.
fn leaky_sums_by_operations(added: &Tensor, turns: &Tensor, resets: &[Reset], state: &Tensor) -> Result<Tensor> {
    let (batch, ticks, twice) = added.dims3()?;
    let units = twice / 2;
    let kept: Vec<u8> = anew(resets, added)?.iter().map(|anew| u8::from(!anew)).collect();
    let kept = Tensor::from_vec(kept, (batch, ticks, 1), added.device())?;
    let mut states = vec![];
    let mut state = state.clone();
    for tick in 0..ticks {
        // Not a product with zero, which would keep what is no number.
        let kept = kept.narrow(1, tick, 1)?.broadcast_as(state.shape())?;
        let before = kept.where_cond(&state, &state.zeros_like()?)?;
        let (real, imaginary) = (before.narrow(2, 0, units)?, before.narrow(2, units, units)?);
        let by = |number: &Tensor, part: usize| number.broadcast_mul(&turns.get(part)?);
        let turned_real = (by(&real, 0)? - by(&imaginary, 1)?)?;
        let turned_imaginary = (by(&imaginary, 0)? + by(&real, 1)?)?;
        state = (Tensor::cat(&[turned_real, turned_imaginary], 2)? + added.narrow(1, tick, 1)?)?;
        states.push(state.clone());
    }
    Tensor::cat(&states, 1)
}

/// Who begins with h = 0 at which tick \[batch · T\].
fn anew(resets: &[Reset], added: &Tensor) -> Result<Vec<bool>> {
    let (batch, ticks, _) = added.dims3()?;
    let mut anew = vec![false; batch * ticks];
    for reset in resets {
        anew[reset.member * ticks + reset.tick] = true;
    }
    Ok(anew)
}

/// The recurrence as one operation with its own gradient, which goes back through the ticks without a graph of them all.
struct Recurrence {
    /// \[batch · T\]
    anew: Vec<bool>,
}

impl Recurrence {
    /// `states` \[batch, T, 2·units\] hold what is added at first.
    fn run<T: WithDType>(&self, turns: &[T], initial: &[T], states: &mut [T]) {
        let (twice, units) = (turns.len(), turns.len() / 2);
        let ticks = self.anew.len() * twice / initial.len();
        let members = states.chunks_exact_mut(ticks * twice).zip(initial.chunks_exact(twice));
        for ((states, initial), anew) in members.zip(self.anew.chunks_exact(ticks)) {
            let mut before = initial;
            for (now, anew) in states.chunks_exact_mut(twice).zip(anew) {
                if !anew {
                    for unit in 0..units {
                        let (turn, lift) = (turns[unit], turns[units + unit]);
                        let (real, imaginary) = (before[unit], before[units + unit]);
                        now[unit] += turn * real - lift * imaginary;
                        now[units + unit] += turn * imaginary + lift * real;
                    }
                }
                before = now;
            }
        }
    }

    /// Gradients of the initial state and of λ, and of what is added in `slopes`, which hold dL/dh at first: what reaches h
    /// is multiplied with the conjugate of λ on its way to the h before it.
    fn run_back<T: WithDType>(&self, turns: &[T], initial: &[T], states: &[T], slopes: &mut [T]) -> [Vec<T>; 2] {
        let (twice, units) = (turns.len(), turns.len() / 2);
        let ticks = self.anew.len() * twice / initial.len();
        let (mut by_turns, mut by_initial) = (vec![T::zero(); twice], vec![T::zero(); initial.len()]);
        for member in 0..initial.len() / twice {
            let of_initial = member * twice..(member + 1) * twice;
            for tick in (0..ticks).rev().filter(|tick| !self.anew[member * ticks + tick]) {
                let at = (member * ticks + tick) * twice;
                let (earlier, now) = slopes.split_at_mut(at);
                let (before, to) = match tick {
                    0 => (&initial[of_initial.clone()], &mut by_initial[of_initial.clone()]),
                    _ => (&states[at - twice..at], &mut earlier[at - twice..]),
                };
                for unit in 0..units {
                    let (turn, lift) = (turns[unit], turns[units + unit]);
                    let (real, imaginary) = (before[unit], before[units + unit]);
                    let (by_real, by_imaginary) = (now[unit], now[units + unit]);
                    by_turns[unit] += by_real * real + by_imaginary * imaginary;
                    by_turns[units + unit] += by_imaginary * real - by_real * imaginary;
                    to[unit] += turn * by_real + lift * by_imaginary;
                    to[units + unit] += turn * by_imaginary - lift * by_real;
                }
            }
        }
        [by_turns, by_initial]
    }

    fn back<T: WithDType>(&self, of: [&Tensor; 4]) -> Result<[Tensor; 3]> {
        let [turns, initial, states, gradient] = of;
        let host = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<T>();
        let mut slopes = host(gradient)?;
        let [by_turns, by_initial] = self.run_back(&host(turns)?, &host(initial)?, &host(states)?, &mut slopes);
        let like = |values: Vec<T>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        Ok([like(slopes, states)?, like(by_turns, turns)?, like(by_initial, initial)?])
    }
}

impl CustomOp3 for Recurrence {
    fn name(&self) -> &'static str {
        "linear-recurrence"
    }

    fn cpu_fwd(
        &self,
        added: &CpuStorage,
        added_layout: &Layout,
        turns: &CpuStorage,
        turns_layout: &Layout,
        initial: &CpuStorage,
        initial_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let run = |added: &CpuStorage| match added {
            CpuStorage::F64(_) => {
                let mut states = contiguous::<f64>(added, added_layout)?.to_vec();
                self.run(contiguous(turns, turns_layout)?, contiguous(initial, initial_layout)?, &mut states);
                Ok::<_, candle_core::Error>(CpuStorage::F64(states))
            }
            _ => {
                let mut states = contiguous::<f32>(added, added_layout)?.to_vec();
                self.run(contiguous(turns, turns_layout)?, contiguous(initial, initial_layout)?, &mut states);
                Ok(CpuStorage::F32(states))
            }
        };
        Ok((run(added)?, added_layout.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        turns: &Tensor,
        initial: &Tensor,
        states: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let of = [turns, initial, states, gradient];
        let [added, turns, initial] = match states.dtype() {
            DType::F64 => self.back::<f64>(of)?,
            _ => self.back::<f32>(of)?,
        };
        Ok((Some(added), Some(turns), Some(initial)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn one_operation_and_many_agree() {
        agree(DType::F64, f64::EPSILON);
        agree(DType::F32, f64::from(f32::EPSILON));
    }

    /// Two members, 9 ticks, 5 units; values and all gradients, to some roundings.
    fn agree(dtype: DType, rounding: f64) {
        let waves = |shape: (usize, usize, usize), step: f64| {
            let values = (0..shape.0 * shape.1 * shape.2).map(|i| (i as f64 * step).sin()).collect();
            Var::from_tensor(&Tensor::from_vec::<_, f64>(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap())
                .unwrap()
        };
        let (added, state, weights) = (waves((2, 9, 10), 1.0), waves((2, 1, 10), 1.9), waves((2, 9, 10), 1.3));
        let turns = Var::from_tensor(&(waves((1, 2, 5), 0.7).squeeze(0).unwrap() * 0.7).unwrap()).unwrap();
        let host =
            |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let reset = |member, tick| Reset { member, tick };
        for resets in [vec![], vec![reset(0, 0)], vec![reset(1, 4), reset(0, 8), reset(1, 5)]] {
            let one = leaky_sums(&added, &turns, &resets, &state).unwrap();
            let many = leaky_sums_by_operations(&added, &turns, &resets, &state).unwrap();
            // A few roundings a tick of numbers up to 3: |λ| is at most .7.
            let close = |one: f64, many: f64| (one - many).abs() < 9.0 * 3.0 * 4.0 * rounding;
            assert!(host(&one).into_iter().zip(host(&many)).all(|(one, many)| close(one, many)));
            let back = |states: &Tensor| (states * weights.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
            let (one, many) = (back(&one), back(&many));
            for var in [&added, &turns, &state] {
                for (one, many) in host(one.get(var).unwrap()).into_iter().zip(host(many.get(var).unwrap())) {
                    // Of λ: sums of 18 products of such numbers.
                    assert!((one - many).abs() < 18.0 * 9.0 * 9.0 * 4.0 * rounding, "{one} instead of {many}");
                }
            }
        }
    }
}
