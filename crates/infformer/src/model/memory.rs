//! One layer's long-term memory by itself: written a chunk at a time, read by queries, without the layer around it.

use super::knots::Knots;
use super::layer::LongTermAttention;
use super::product::Rows;
use super::schedule::Event;
use super::stretches::Stretches;
use crate::error::{Error, Result};
use candle_core::Tensor;

/// The long-term memory of one layer for a batch of agents that write in step.
#[derive(Debug)]
pub struct LayerMemory<'a> {
    pub(crate) attention: &'a LongTermAttention,
    pub(crate) coefficients: Tensor,
    pub(crate) knots: Vec<Knots>,
    pub(crate) chunks: u64,
}

impl LayerMemory<'_> {
    /// Writes `chunk` \[batch, L, d\]. The past is cut from the graph first: only this chunk learns from readings.
    pub fn write(&mut self, chunk: &Tensor) -> Result<()> {
        let (batch, ticks, width) = chunk.dims3()?;
        let [expected_ticks, expected_width] = self.attention.writer.chunk_shape();
        for (what, expected, found) in [
            ("the batch", self.knots.len(), batch),
            ("the ticks of a chunk", expected_ticks, ticks),
            ("the width of a chunk", expected_width, width),
        ] {
            if expected != found {
                return Err(Error::Shape { what, expected, found });
            }
        }
        let events = vec![Event::Write { chunks: self.chunks }; self.knots.len()];
        let past = self.coefficients.detach();
        self.coefficients = self.attention.writer.write(&past, chunk, &events, &mut self.knots)?;
        self.chunks += 1;
        Ok(())
    }

    /// W_o′·readout for `x` \[batch, n, d\], which the query matrix maps first → \[batch, n, d\].
    pub fn read(&mut self, x: &Tensor) -> Result<Tensor> {
        let rows = Rows::of(x.dim(0)? * x.dim(1)? * self.attention.heads);
        let queries = self.attention.queries(x, rows)?;
        let mut stretches = Stretches::default();
        for (member, knots) in self.knots.iter().enumerate() {
            let cells = self.attention.writer.cells(self.chunks, knots);
            stretches.push(member, self.knots.len(), 0..x.dim(1)?, x.dim(1)?.max(1), &cells);
        }
        let recalled = self.attention.read(&queries, &self.coefficients, &stretches.cells, rows)?;
        self.attention.count_attention(&recalled.looked, &stretches, &mut self.knots)?;
        Ok(self.attention.output.forward(&recalled.values)?)
    }

    /// Bᵀ \[batch, d, N\]
    pub fn coefficients(&self) -> &Tensor {
        &self.coefficients
    }
}
