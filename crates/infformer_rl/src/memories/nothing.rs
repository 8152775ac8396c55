//! No memory: what every other one must beat.

use crate::error::Result;
use crate::memory::{Memory, MemoryState, Remembered};
use candle_core::Tensor;
use infformer::model::Reset;

/// Remembers nothing.
#[derive(Debug)]
pub struct Nothing;

impl Memory for Nothing {
    fn empty_state(&self, _: usize) -> Result<MemoryState> {
        Ok(MemoryState::Tensors(vec![]))
    }

    fn forward(&self, x: &Tensor, _: &[Reset], state: &MemoryState) -> Result<(Remembered, MemoryState)> {
        let [] = state.tensors()?;
        Ok((x.zeros_like()?.into(), MemoryState::Tensors(vec![])))
    }
}
