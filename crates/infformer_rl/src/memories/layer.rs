//! A transformer layer, as the model of infformer has it, with another memory in the place of its attention.

use crate::error::Result;
use crate::memory::{Memory, MemoryState, Remembered};
use candle_core::Tensor;
use candle_nn::VarBuilder;
use infformer::model::{LayerNorm, Linear, Reset, gelu};

/// x + memory(norm x), then x + feed-forward(norm x).
#[derive(Debug)]
pub struct Layer {
    memory_norm: LayerNorm,
    memory: Box<dyn Memory>,
    feed_forward_norm: LayerNorm,
    up: Linear,
    down: Linear,
}

impl Layer {
    /// Of the given width, with so many hidden units in its feed-forward part. Errors: `vb` has no such tensors.
    pub fn new(
        width: usize,
        feed_forward: usize,
        memory: Box<dyn Memory>,
        vb: VarBuilder,
    ) -> candle_core::Result<Self> {
        Ok(Self {
            memory_norm: LayerNorm::new(width, vb.pp("memory_norm"))?,
            memory,
            feed_forward_norm: LayerNorm::new(width, vb.pp("feed_forward_norm"))?,
            up: Linear::with_bias(width, feed_forward, vb.pp("feed_forward.up"))?,
            down: Linear::with_bias(feed_forward, width, vb.pp("feed_forward.down"))?,
        })
    }
}

impl Memory for Layer {
    fn empty_state(&self, batch: usize) -> Result<MemoryState> {
        self.memory.empty_state(batch)
    }

    fn forward(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> Result<(Remembered, MemoryState)> {
        let (remembered, state) = self.memory.forward(&self.memory_norm.forward(x)?, resets, state)?;
        let x = (x + &remembered.stream)?;
        let hidden = gelu(&self.up.forward(&self.feed_forward_norm.forward(&x)?)?)?;
        let stream = (x + self.down.forward(&hidden)?)?;
        Ok((Remembered { stream, ..remembered }, state))
    }

    fn fits(&self, state: &MemoryState, batch: usize) -> Result<()> {
        self.memory.fits(state, batch)
    }

    fn load_state(&self, bytes: &[u8]) -> Result<MemoryState> {
        self.memory.load_state(bytes)
    }
}
