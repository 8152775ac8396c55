//! The last k ticks side by side (Mnih et al. 2015).

use crate::error::Result;
use crate::memory::{Memory, MemoryState, Remembered};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use infformer::model::{Linear, Reset};

/// The last frames, mapped to the stream by one matrix.
#[derive(Debug)]
pub struct FrameStack {
    frames: usize,
    width: usize,
    output: Linear,
    device: Device,
    dtype: DType,
}

impl FrameStack {
    /// `frames` of them, 1 or more, each `width` wide.
    pub fn new(width: usize, frames: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        let (device, dtype) = (vb.device().clone(), vb.dtype());
        Ok(Self { frames, width, output: Linear::with_bias(frames * width, width, vb.pp("output"))?, device, dtype })
    }
}

impl Memory for FrameStack {
    /// One tensor: the frames before this one, oldest first \[batch, frames − 1, d\].
    fn empty_state(&self, batch: usize) -> Result<MemoryState> {
        let frames = Tensor::zeros((batch, self.frames - 1, self.width), self.dtype, &self.device)?;
        Ok(MemoryState::Tensors(vec![frames]))
    }

    fn forward(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> Result<(Remembered, MemoryState)> {
        let [past_frames] = state.tensors()?;
        let (batch, ticks, _) = x.dims3()?;
        let past = self.frames - 1;
        let all = Tensor::cat(&[&past_frames.detach(), x], 1)?;
        // How many ticks back a member's episode reaches at most.
        let mut reach = vec![usize::MAX; batch * ticks];
        for reset in resets {
            for (since, reach) in reach[reset.member * ticks..][..ticks][reset.tick..].iter_mut().enumerate() {
                *reach = since;
            }
        }
        let seen = |back: usize| -> Result<Tensor> {
            let within = reach.iter().map(|reach| f32::from(u8::from(*reach >= back))).collect::<Vec<f32>>();
            let within = Tensor::from_vec(within, (batch, ticks, 1), x.device())?.to_dtype(x.dtype())?;
            Ok(all.narrow(1, past - back, ticks)?.broadcast_mul(&within)?)
        };
        let frames = (0..self.frames).map(seen).collect::<Result<Vec<_>>>()?;
        let output = self.output.forward(&Tensor::cat(&frames, 2)?)?;
        // What the last tick saw, but for the oldest.
        let kept: Vec<Tensor> =
            (0..past).rev().map(|back| frames[back].narrow(1, ticks - 1, 1)).collect::<candle_core::Result<_>>()?;
        let state = if kept.is_empty() { past_frames.clone() } else { Tensor::cat(&kept, 1)?.detach() };
        Ok((output.into(), MemoryState::Tensors(vec![state])))
    }
}
