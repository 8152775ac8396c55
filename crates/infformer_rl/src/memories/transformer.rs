//! The transformers: infformer's own model, with each of its long-term memories, and the same with its window alone.

use crate::error::Result;
use crate::memory::{Memory, MemoryState, Remembered, another_kind};
use candle_core::Tensor;
use infformer::model::{Model, Reset, Wanted};

/// The layers of a model.
#[derive(Debug)]
pub struct Transformer(pub Model);

impl Memory for Transformer {
    fn empty_state(&self, batch: usize) -> Result<MemoryState> {
        Ok(MemoryState::Model(self.0.empty_state(batch)?))
    }

    fn forward(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> Result<(Remembered, MemoryState)> {
        let MemoryState::Model(state) = state else { return Err(another_kind()) };
        let (outputs, state) = self.0.forward_stream(x, resets, Wanted::All, state)?;
        let remembered =
            Remembered { stream: outputs.stream, regulariser: outputs.regulariser, looked: outputs.looked };
        Ok((remembered, MemoryState::Model(state.detach())))
    }

    fn load_state(&self, bytes: &[u8]) -> Result<MemoryState> {
        Ok(MemoryState::Model(infformer::model::ModelState::load(bytes, &self.0)?))
    }

    fn model(&self) -> Option<&Model> {
        Some(&self.0)
    }
}
