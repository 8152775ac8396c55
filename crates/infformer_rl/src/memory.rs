//! What stands between an encoder and the heads of a policy and remembers: one trait, so that memories can be compared
//! where everything else is the same.

use crate::error::Result;
use candle_core::Tensor;
use infformer::model::Reset;
use std::fmt;

/// A trained memory over a stream of vectors.
pub trait Memory: fmt::Debug + Send + Sync {
    /// The state of `batch` members that have seen nothing: tensors \[batch, ..\], zeros.
    fn empty_state(&self, batch: usize) -> Result<Vec<Tensor>>;

    /// Takes x \[batch, T, d\] from `state` on → \[batch, T, d\] and the state after it. At a reset a member is as one
    /// that has seen nothing, which changes nothing for the others. Gradients flow to the weights and within the
    /// segment, not into `state`.
    fn forward(&self, x: &Tensor, resets: &[Reset], state: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)>;
}

/// Where members begin anew, tick by tick: 0 there, else 1, \[batch, T\].
pub(crate) fn kept(resets: &[Reset], batch: usize, ticks: usize) -> Vec<f32> {
    let mut kept = vec![1.0; batch * ticks];
    for reset in resets {
        kept[reset.member * ticks + reset.tick] = 0.0;
    }
    kept
}
