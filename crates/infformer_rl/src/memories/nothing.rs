//! No memory: what every other one must beat.

use crate::error::Result;
use crate::memory::Memory;
use candle_core::Tensor;
use infformer::model::Reset;

/// Remembers nothing.
#[derive(Debug)]
pub struct Nothing;

impl Memory for Nothing {
    fn empty_state(&self, _: usize) -> Result<Vec<Tensor>> {
        Ok(vec![])
    }

    fn forward(&self, x: &Tensor, _: &[Reset], _: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        Ok((x.zeros_like()?, vec![]))
    }
}
