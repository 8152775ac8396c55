//! A diagonal complex linear recurrence, the one that a model can have beside its attention, by itself.

use crate::error::Result;
use crate::memory::{Memory, MemoryState, Remembered};
use candle_core::Tensor;
use infformer::model::{LinearRecurrence, Reset};

impl Memory for LinearRecurrence {
    /// h \[batch, 1, 2·units\].
    fn empty_state(&self, batch: usize) -> Result<MemoryState> {
        Ok(MemoryState::Tensors(vec![LinearRecurrence::empty_state(self, batch)?]))
    }

    fn forward(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> Result<(Remembered, MemoryState)> {
        let [h] = state.tensors()?;
        let states = self.states(x, resets, &h.detach())?;
        let newest = states.narrow(1, x.dim(1)? - 1, 1)?.contiguous()?.detach();
        Ok((self.readout(&states)?.into(), MemoryState::Tensors(vec![newest])))
    }
}
