//! A peer in candle: one attention layer over a window of keys and values of the same bytes as the memory.

use infformer::candle_core::{D, DType, Device, Result, Tensor};
use infformer::candle_nn::{Init, VarBuilder, VarMap, ops::softmax};

const HEADS: usize = 4;

/// One layer for many agents, its window a ring that is written in place.
pub struct Window {
    projections: Tensor,
    output: Tensor,
    /// \[agents · heads, window, d/heads\]
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
        let zeros = || Tensor::zeros((agents * HEADS, capacity / 2, width / HEADS), DType::F32, &Device::Cpu);
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
        let (rows, window, head_width) = self.keys.dims3()?;
        let (agents, width) = (rows / HEADS, HEADS * head_width);
        let projected = self.seen.matmul(&self.projections)?;
        let part =
            |number: usize| projected.narrow(1, number * width, width)?.contiguous()?.reshape((rows, 1, head_width));
        self.keys.slice_set(&part(1)?, 1, self.at)?;
        self.values.slice_set(&part(2)?, 1, self.at)?;
        self.at = (self.at + 1) % window;
        let scores = (part(0)?.matmul(&self.keys.transpose(1, 2)?)? / (head_width as f64).sqrt())?;
        let read = softmax(&scores, D::Minus1)?.matmul(&self.values)?;
        read.reshape((agents, width))?.matmul(&self.output)
    }
}
