//! The ∞-former as a model: transformer layers that attend to their last ticks and, through a continuous signal, to
//! everything before; trained a segment at a time, streamed tick by tick, with the same numbers.
//!
//! ```
//! use infformer::model::{Head, HeadKind, Input, ModelConfig, Wanted};
//! use infformer::Device;
//! use candle_core::Tensor;
//!
//! # fn main() -> infformer::Result<()> {
//! let seen = Input::Token { name: "symbol".into(), vocabulary: 10 };
//! let next = Head { name: "next".into(), kind: HeadKind::Logits { classes: 10 } };
//! let model = ModelConfig { width: 32, ..ModelConfig::new(vec![seen], vec![next]) }.init(&Device::Cpu)?;
//!
//! // Two sequences of 100 ticks at once …
//! let x = Tensor::zeros((2, 100, 1), candle_core::DType::F32, &Device::Cpu)?;
//! let (outputs, state) = model.forward_segment(&x, &[], Wanted::All, &model.empty_state(2)?)?;
//! assert_eq!(outputs.heads[0].dims(), &[2, 100, 10]);
//!
//! // … and one tick more of each.
//! let (outputs, _state) = model.step(&Tensor::zeros((2, 1), candle_core::DType::F32, &Device::Cpu)?, &state)?;
//! assert_eq!(outputs.heads[0].dims(), &[2, 10]);
//! # Ok(())
//! # }
//! ```
//!
//! The parts, in the order that the data flows: `encoder` (observations become a stream), `schedule` (who is written
//! and reset at which tick), `layer` with `window` (short-term attention), `writing` with `knots` and `moves`, and
//! `reading` (long-term memory), `recurrence` (a sum beside them), `joint` (how it joins the stream), `heads`, `state`.

pub mod config;
pub mod parameters;
pub mod memory;
mod contiguous;
pub(crate) mod product;
mod linear;
mod normalisation;
mod softmax;
mod gelu;
mod encoder;
mod schedule;
mod window_attention;
mod window;
mod knots;
mod moves;
mod writing;
mod reading;
mod rows;
mod stretches;
mod recurrence;
mod joint;
mod layer;
mod heads;
pub mod state;

pub use config::{
    Head, HeadKind, Input, InputMask, LongTermConfig, LongTermForgetting, ModelConfig, Normalisation, ReadingDensity,
    Regulariser, Residual,
};
pub use encoder::Encoder;
pub use gelu::gelu;
pub use heads::Heads;
pub use linear::Linear;
pub use memory::LayerMemory;
pub use normalisation::LayerNorm;
pub use parameters::Parameters;
pub use recurrence::{LinearRecurrence, leaky_sums};
pub use schedule::{Clock, Reset};

pub use state::{LayerState, ModelState};

use crate::channels::ChannelLayout;
use crate::error::{Error, Result};
use crate::query::DensityCell;
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use layer::{Layer, LayerOutput};
use schedule::Schedule;
use std::sync::Arc;

/// Chunks that are worked on at once. A longer segment is cut into such pieces: the gradient of a part of a tensor
/// costs as much as the whole tensor, so that work would grow with the square of the length.
const CHUNKS_A_PIECE: usize = 8;

/// Of which ticks of a segment the outputs are wanted. Memory is written at all of them; the last layer attends at
/// the wanted ones alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Of all.
    All,
    /// Of the last so many; of all, where there are fewer.
    Last(usize),
}

/// What comes out of the wanted ticks.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// One tensor a head, in the order of the configuration: \[batch, ticks, size\]; of a step \[batch, size\].
    pub heads: Vec<Tensor>,
    /// What the last layer read from its long-term memory, W_o′·readout: \[batch, ticks, d\]; of a step \[batch, d\].
    /// `None` without a long-term memory.
    pub readout: Option<Tensor>,
    /// Of a single tick: what share of each cell of its long-term memory the last layer read, the mean over its heads
    /// \[batch, cells\], nothing for a member whose memory is empty; see [`Model::density`]. `None` without a long-term
    /// memory, before anything is in that of any member, and for Gaussian densities.
    pub looked: Option<Tensor>,
    /// Mean divergence of the densities of all layers, to be weighted and added to the loss: a scalar.
    pub regulariser: Option<Tensor>,
}

/// What comes out of the layers at the wanted ticks, before the heads.
#[derive(Debug, Clone)]
pub struct StreamOutputs {
    /// \[batch, ticks, d\]
    pub stream: Tensor,
    /// As in [`Outputs::readout`].
    pub readout: Option<Tensor>,
    /// As in [`Outputs::looked`].
    pub looked: Option<Tensor>,
    /// As in [`Outputs::regulariser`].
    pub regulariser: Option<Tensor>,
}

/// A model: its configuration and its weights. It holds no state; see [`ModelState`].
#[derive(Debug)]
pub struct Model {
    config: ModelConfig,
    layout: Arc<ChannelLayout>,
    dtype: DType,
    device: Device,
    encoder: Encoder,
    layers: Vec<Layer>,
    heads: Heads,
    parameters: Parameters,
}

impl ModelConfig {
    /// A new model in f32 with weights drawn from seed 0.
    pub fn init(&self, device: &Device) -> Result<Model> {
        self.init_seeded(0, DType::F32, device)
    }

    /// A new model with weights drawn from `seed`: the same on every machine. `dtype` is F32, or F64 to check gradients.
    pub fn init_seeded(&self, seed: u64, dtype: DType, device: &Device) -> Result<Model> {
        let (model, parameters) = parameters::seeded(seed, dtype, device, |vb| Model::new(self, vb))?;
        Ok(Model { parameters, ..model })
    }
}

impl Model {
    /// A model whose weights come from `vb`. [`Model::parameters`] is empty then: whoever made `vb` has them.
    pub fn new(config: &ModelConfig, vb: VarBuilder) -> Result<Self> {
        config.validate()?;
        let layer = |number: usize| Layer::new(config, vb.pp("layers").pp(number));
        Ok(Self {
            layout: Arc::new(config.layout()?),
            dtype: vb.dtype(),
            device: vb.device().clone(),
            encoder: Encoder::new(&config.inputs, config.width, config.normalisation, vb.pp("encoder"))?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            heads: Heads::new(&config.heads, config.width, vb)?,
            parameters: Parameters::new(),
            config: config.clone(),
        })
    }

    pub(crate) fn with_parameters(self, parameters: Parameters) -> Self {
        Self { parameters, ..self }
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What an observation is made of.
    pub fn layout(&self) -> &Arc<ChannelLayout> {
        &self.layout
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// In which numbers it computes.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The weights by name.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How many numbers the weights are.
    pub fn parameter_count(&self) -> usize {
        self.parameters.values().map(|var| var.elem_count()).sum()
    }

    /// The state of `batch` agents that have seen nothing.
    pub fn empty_state(&self, batch: usize) -> Result<ModelState> {
        ModelState::empty(&self.config, batch, self.dtype, &self.device)
    }

    /// The long-term memory of layer `layer` by itself, empty, for `batch` agents: to look at it, or to hold it against
    /// other implementations. Errors: no such layer, or a layer without one.
    pub fn layer_memory(&self, layer: usize, batch: usize) -> Result<LayerMemory<'_>> {
        let attention = self.layers.get(layer).and_then(|layer| layer.long_term.as_ref());
        let attention =
            attention.ok_or(Error::Shape { what: "layers with a memory", expected: layer + 1, found: 0 })?;
        let state = self.empty_state(batch)?.layers.swap_remove(layer);
        let zeros = || Tensor::zeros((batch, self.config.width, attention.capacity()), self.dtype, &self.device);
        let coefficients = state.coefficients.map_or_else(zeros, Ok)?;
        Ok(LayerMemory { attention, coefficients, knots: state.knots, chunks: 0 })
    }

    /// What makes the stream of observations.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// What is said of the stream.
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// The layers by themselves: [`Model::forward_segment`] of what was [encoded](Model::encoder) \[batch, T, d\], without the
    /// [heads](Model::heads). For gradients to what was seen at each tick: a token has none, what is encoded of it has. Errors: other
    /// shapes, values that are not finite, a reset outside the segment, a state of another batch or configuration.
    pub fn forward_stream(
        &self,
        stream: &Tensor,
        resets: &[Reset],
        wanted: Wanted,
        state: &ModelState,
    ) -> Result<(StreamOutputs, ModelState)> {
        let &[batch, ticks, found] = stream.dims() else {
            return Err(Error::Segment(format!("it is {:?} instead of [batch, ticks, d]", stream.dims())));
        };
        if found != self.config.width {
            return Err(Error::Width { what: "the encoded observation", expected: self.config.width, found });
        }
        if !stream.detach().abs()?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?.is_finite() {
            return Err(Error::Segment("it holds values that are not finite".into()));
        }
        let part = |start: usize, count: usize| Ok(stream.narrow(1, start, count)?);
        self.run([batch, ticks], &part, resets, wanted, state)
    }

    /// Runs `x` \[batch, T, channels\] from `state` on, all ticks between two writes at once. Gradients flow to the
    /// weights, to `x`'s history in `state` unless it was detached, and through memory writes as
    /// [`LongTermConfig::gradient_writes`] says. Outputs are those of `wanted`, heads \[batch, wanted, size\].
    ///
    /// Errors: shapes that do not fit the configuration or the state, values that are not finite, a token outside its
    /// vocabulary, a reset outside the segment.
    pub fn forward_segment(
        &self,
        x: &Tensor,
        resets: &[Reset],
        wanted: Wanted,
        state: &ModelState,
    ) -> Result<(Outputs, ModelState)> {
        let refuse = |message: String| Err(Error::Segment(message));
        let &[batch, ticks, channels] = x.dims() else {
            return refuse(format!("it is {:?} instead of [batch, ticks, channels]", x.dims()));
        };
        if channels != self.encoder.channels() {
            return Err(Error::Width { what: "the observation", expected: self.encoder.channels(), found: channels });
        }
        let part = |start: usize, count: usize| self.encoder.forward(&x.narrow(1, start, count)?, self.dtype);
        let (outputs, state) = self.run([batch, ticks], &part, resets, wanted, state)?;
        let StreamOutputs { stream, readout, looked, regulariser } = outputs;
        Ok((Outputs { heads: self.heads.forward(&stream)?, readout, looked, regulariser }, state))
    }

    /// Runs the ticks that `part` gives the encoded observations of, piece by piece.
    fn run(
        &self,
        [batch, ticks]: [usize; 2],
        part: &dyn Fn(usize, usize) -> Result<Tensor>,
        resets: &[Reset],
        wanted: Wanted,
        state: &ModelState,
    ) -> Result<(StreamOutputs, ModelState)> {
        let refuse = |message: String| Err(Error::Segment(message));
        if batch == 0 || batch != state.batch() {
            let of_state = state.batch();
            return refuse(format!(
                "it has {batch} members, the state {of_state}: as many, and at least 1, are needed"
            ));
        }
        if state.fingerprint != self.config.fingerprint()? {
            return Err(Error::State("this state belongs to a model of another configuration".into()));
        }
        for reset in resets {
            if reset.member >= batch || reset.tick >= ticks {
                let Reset { member, tick } = reset;
                return refuse(format!(
                    "a reset of member {member} at tick {tick}: it has {batch} members and {ticks} ticks, counted from 0"
                ));
            }
        }
        let first_wanted = match wanted {
            Wanted::All => 0,
            Wanted::Last(count) => ticks.saturating_sub(count),
        };
        let mut state = state.clone();
        let (mut streams, mut readouts, mut divergences, mut looked) = (vec![], vec![], vec![], None);
        let piece = CHUNKS_A_PIECE * self.config.chunk;
        for start in (0..ticks).step_by(piece) {
            let count = piece.min(ticks - start);
            let own = resets.iter().filter(|reset| (start..start + count).contains(&reset.tick));
            let own: Vec<Reset> = own.map(|reset| Reset { tick: reset.tick - start, ..*reset }).collect();
            let wanted = first_wanted.saturating_sub(start).min(count);
            let output = self.run_piece(part(start, count)?, &own, wanted, &mut state, &mut divergences)?;
            if wanted < count {
                streams.push(output.stream);
                readouts.extend(output.readout);
                looked = output.looked.filter(|_| ticks == 1);
            }
        }
        if streams.is_empty() {
            return refuse("no tick of it is wanted: at least 1 is".into());
        }
        let stream = Tensor::cat(&streams, 1)?;
        let readout = if readouts.is_empty() { None } else { Some(Tensor::cat(&readouts, 1)?) };
        let regulariser = match divergences.is_empty() {
            true => None,
            false => Some(Tensor::cat(&divergences, 0)?.mean_all()?),
        };
        let looked = match looked {
            Some(mass) => Some(mass.mean(1)?),
            None => None,
        };
        Ok((StreamOutputs { stream, readout, looked, regulariser }, state))
    }

    fn run_piece(
        &self,
        stream: Tensor,
        resets: &[Reset],
        wanted: usize,
        state: &mut ModelState,
        divergences: &mut Vec<Tensor>,
    ) -> Result<LayerOutput> {
        let ticks = stream.dim(1)?;
        let (short_term, chunk) = (self.config.short_term, self.config.chunk);
        let schedule = Schedule::new(&mut state.clocks, resets, ticks, short_term, chunk);
        let mut output = LayerOutput { stream, readout: None, looked: None, divergences: vec![] };
        let last = self.layers.len() - 1;
        for (number, (layer, layer_state)) in self.layers.iter().zip(&mut state.layers).enumerate() {
            let wanted = if number == last { wanted } else { 0 };
            output = layer.forward(&output.stream, &schedule, wanted, layer_state)?;
            divergences.append(&mut output.divergences);
        }
        Ok(output)
    }

    /// Where the last layer looked at a tick whose `outputs` have [`looked`](Outputs::looked), for one member: the cells of
    /// its long-term memory, ages in ticks. `state` is the one after that tick.
    pub fn density(&self, looked: &[f32], state: &ModelState, member: usize) -> Vec<DensityCell> {
        let last = self.layers.last().and_then(|layer| layer.long_term.as_ref()).zip(state.layers.last());
        let Some((long_term, layer)) = last else { return vec![] };
        let (Some(clock), Some(knots)) = (state.clocks.get(member), layer.knots.get(member)) else { return vec![] };
        let held = clock.held as f64;
        let cell = |(place, [newer, older]): (usize, [f64; 2])| {
            let mass = *looked.get(place)?;
            Some(DensityCell { newer: (newer + held) as f32, older: (older + held) as f32, mass })
        };
        long_term.writer.ages(clock.chunks, knots).into_iter().filter_map(cell).collect()
    }

    /// What one member's long-term memory in the last layer holds, stretch by stretch, newest first: the layer's inputs after its
    /// input mask, the mean over a block, or the value in the middle of a stretch where the memory is a sum of functions. Empty
    /// without a long-term memory and for a member that there is not. Beside it, the window holds the newest ticks as they were
    /// ([`LayerState::inputs`]). Errors: the tensor library failed.
    pub fn remembered(&self, state: &ModelState, member: usize) -> Result<Vec<RememberedStretch>> {
        let last = self.layers.last().and_then(|layer| layer.long_term.as_ref()).zip(state.layers.last());
        let Some((long_term, layer)) = last else { return Ok(vec![]) };
        let (Some(clock), Some(knots), Some(coefficients)) =
            (state.clocks.get(member), layer.knots.get(member), &layer.coefficients)
        else {
            return Ok(vec![]);
        };
        // [cells, d]
        let coefficients = coefficients.get(member)?.t()?.contiguous()?;
        let values = match long_term.writer.grid(self.dtype(), self.device())? {
            Some(psi) => psi.matmul(&coefficients)?,
            None => coefficients,
        };
        let values = values.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let held = clock.held as f64;
        let stretch = |(place, [newer, older]): (usize, [f64; 2])| {
            let value = values.get(place)?.clone();
            Some(RememberedStretch { newer: (newer + held) as f32, older: (older + held) as f32, value })
        };
        Ok(long_term.writer.ages(clock.chunks, knots).into_iter().filter_map(stretch).collect())
    }

    /// Runs one tick `x` \[batch, channels\]. Heads are \[batch, size\], the readout \[batch, d\]. Gradients flow back
    /// through the state: a stream without end passes on [`ModelState::detach`], or its graph grows without end.
    pub fn step(&self, x: &Tensor, state: &ModelState) -> Result<(Outputs, ModelState)> {
        if x.dims().len() != 2 {
            return Err(Error::Segment(format!("a tick is {:?} instead of [batch, channels]", x.dims())));
        }
        let (outputs, state) = self.forward_segment(&x.unsqueeze(1)?, &[], Wanted::All, state)?;
        let heads = outputs.heads.iter().map(|head| head.squeeze(1)).collect::<candle_core::Result<_>>()?;
        let readout = match outputs.readout {
            Some(readout) => Some(readout.squeeze(1)?),
            None => None,
        };
        Ok((Outputs { heads, readout, ..outputs }, state))
    }
}

/// A stretch of the past as a long-term memory holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct RememberedStretch {
    /// Age in ticks of the newer end.
    pub newer: f32,
    /// Age in ticks of the older end.
    pub older: f32,
    /// The layer's input then, as far as it is remembered \[d\].
    pub value: Vec<f32>,
}
