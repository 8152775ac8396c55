//! A peer in candle: one attention layer over a window of keys and values of the same bytes as the memory.

use infformer::candle_core::{D, DType, Device, Result, Tensor};
use infformer::candle_nn::{Init, VarBuilder, VarMap, ops::softmax};

const HEADS: usize = 4;

/// One layer for many agents, its window a ring that is written in place.
pub struct Window {
    projections: Tensor,
    output: Tensor,
    /// \[agents, window, d\]
    keys: Tensor,
    values: Tensor,
    at: usize,
    seen: Tensor,
}

impl Window {
    /// N·d floats of state: N/2 ticks of keys and as many of values.
    pub fn new(agents: usize, capacity: usize, width: usize) -> Result<Self> {
        let variables = VarMap::new();
        let weights = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
        let zeros = || Tensor::zeros((agents, capacity / 2, width), DType::F32, &Device::Cpu);
        Ok(Self {
            projections: weights.get_with_hints((width, 3 * width), "in", Init::Randn { mean: 0.0, stdev: 0.1 })?,
            output: weights.get_with_hints((width, width), "out", Init::Randn { mean: 0.0, stdev: 0.1 })?,
            keys: zeros()?,
            values: zeros()?,
            at: 0,
            seen: Tensor::randn(0.0_f32, 1.0, (agents, width), &Device::Cpu)?,
        })
    }

    /// One tick of all agents.
    pub fn tick(&mut self) -> Result<Tensor> {
        let (agents, window, width) = self.keys.dims3()?;
        let projected = self.seen.matmul(&self.projections)?;
        let part = |number: usize| projected.narrow(1, number * width, width)?.contiguous();
        self.keys.slice_set(&part(1)?.unsqueeze(1)?, 1, self.at)?;
        self.values.slice_set(&part(2)?.unsqueeze(1)?, 1, self.at)?;
        self.at = (self.at + 1) % window;
        let heads =
            |tensor: &Tensor| tensor.reshape((agents, window, HEADS, width / HEADS))?.transpose(1, 2)?.contiguous();
        let query = part(0)?.reshape((agents, HEADS, 1, width / HEADS))?;
        let scores = (query.matmul(&heads(&self.keys)?.transpose(2, 3)?)? / ((width / HEADS) as f64).sqrt())?;
        let read = softmax(&scores, D::Minus1)?.matmul(&heads(&self.values)?)?;
        read.reshape((agents, width))?.matmul(&self.output)
    }
}
