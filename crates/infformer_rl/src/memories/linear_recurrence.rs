//! A diagonal complex linear recurrence, the one that a model can have beside its attention, by itself.

use crate::error::Result;
use crate::memory::Memory;
use candle_core::Tensor;
use infformer::model::{LinearRecurrence, Reset};

impl Memory for LinearRecurrence {
    /// h \[batch, 1, 2·units\].
    fn empty_state(&self, batch: usize) -> Result<Vec<Tensor>> {
        Ok(vec![LinearRecurrence::empty_state(self, batch)?])
    }

    fn forward(&self, x: &Tensor, resets: &[Reset], state: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        let states = self.states(x, resets, &state[0].detach())?;
        let newest = states.narrow(1, x.dim(1)? - 1, 1)?.contiguous()?.detach();
        Ok((self.readout(&states)?, vec![newest]))
    }
}
