//! The transformers: infformer's own model, with each of its long-term memories, and the same with its window alone.

use crate::error::{Error, Result};
use crate::memory::{Memory, MemoryState, Remembered, another_kind};
use candle_core::Tensor;
use infformer::model::{Model, ModelState, Reset, Wanted};

/// The layers of a model.
#[derive(Debug)]
pub struct Transformer {
    model: Model,
}

impl Transformer {
    /// Those of `model`, whose encoder and heads stay unused here.
    pub fn new(model: Model) -> Self {
        Self { model }
    }
}

impl Memory for Transformer {
    fn empty_state(&self, batch: usize) -> Result<MemoryState> {
        Ok(MemoryState::Model(self.model.empty_state(batch)?))
    }

    fn forward(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> Result<(Remembered, MemoryState)> {
        let MemoryState::Model(state) = state else { return Err(another_kind()) };
        let (outputs, state) = self.model.forward_stream(x, resets, Wanted::All, state)?;
        let remembered =
            Remembered { stream: outputs.stream, regulariser: outputs.regulariser, looked: outputs.looked };
        Ok((remembered, MemoryState::Model(state.detach())))
    }

    fn load_state(&self, bytes: &[u8]) -> Result<MemoryState> {
        Ok(MemoryState::Model(ModelState::load(bytes, &self.model)?))
    }

    fn fits(&self, state: &MemoryState, batch: usize) -> Result<()> {
        match state {
            MemoryState::Model(state) if state.batch() == batch => Ok(()),
            MemoryState::Model(state) => {
                let found = format!("the state of a memory is of {} members instead of {batch}", state.batch());
                Err(Error::Configuration(found))
            }
            MemoryState::Tensors(_) => Err(another_kind()),
        }
    }

    fn model(&self) -> Option<&Model> {
        Some(&self.model)
    }
}
