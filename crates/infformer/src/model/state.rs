//! What a model remembers between two ticks: an explicit value, one member a row.

use super::Model;
use super::config::ModelConfig;
use super::knots::Knots;
use super::schedule::Clock;
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The state of a batch of agents under one model. Cloning is cheap: tensors are shared until they are replaced.
#[derive(Debug, Clone)]
pub struct ModelState {
    pub(crate) fingerprint: u64,
    pub(crate) clocks: Vec<Clock>,
    pub(crate) layers: Vec<LayerState>,
}

/// The state of one layer.
#[derive(Debug, Clone)]
pub struct LayerState {
    /// What the layer saw in the last S + L − 1 ticks, newest last \[batch, S + L − 1, d\].
    pub(crate) inputs: Tensor,
    /// Keys of the same ticks.
    pub(crate) keys: Tensor,
    /// Values of the same ticks.
    pub(crate) values: Tensor,
    /// Bᵀ \[batch, d, N\]
    pub(crate) coefficients: Option<Tensor>,
    /// h of the linear recurrence \[batch, 1, 2·units\].
    pub(crate) recurrence: Option<Tensor>,
    /// What the host knows of each member's long-term memory.
    pub(crate) knots: Vec<Knots>,
    /// Writes since gradients were cut.
    pub(crate) writes: usize,
}

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    fingerprint: u64,
    clocks: Vec<Clock>,
    /// \[layers\]\[batch\]
    knots: Vec<Vec<Knots>>,
    /// Where an engine saved it.
    #[serde(default)]
    newest_tick: Option<u64>,
}

const VERSION: u32 = 1;
const HEADER: &str = "infformer_model_state";

impl ModelState {
    /// `batch` empty memories.
    pub(crate) fn empty(config: &ModelConfig, batch: usize, dtype: DType, device: &Device) -> Result<Self> {
        let ring = Tensor::zeros((batch, config.ring(), config.width), dtype, device)?;
        let coefficients = match &config.long_term {
            Some(long_term) => Some(Tensor::zeros((batch, config.width, long_term.capacity), dtype, device)?),
            None => None,
        };
        let recurrence = match config.recurrence {
            0 => None,
            units => Some(Tensor::zeros((batch, 1, 2 * units), dtype, device)?),
        };
        let layer = LayerState {
            inputs: ring.clone(),
            keys: ring.clone(),
            values: ring,
            coefficients,
            recurrence,
            knots: vec![Knots::default(); batch],
            writes: 0,
        };
        Ok(Self {
            fingerprint: config.fingerprint()?,
            clocks: vec![Clock::default(); batch],
            layers: vec![layer; config.layers],
        })
    }

    /// Members of the batch.
    pub fn batch(&self) -> usize {
        self.clocks.len()
    }

    /// How far each member has come.
    pub fn clocks(&self) -> &[Clock] {
        &self.clocks
    }

    /// The layers, the first next to the input.
    pub fn layers(&self) -> &[LayerState] {
        &self.layers
    }

    /// The same numbers without their history: no gradient flows from what comes after into what was before.
    pub fn detach(&self) -> Self {
        let mut state = self.clone();
        for layer in &mut state.layers {
            for tensor in layer.tensors_mut() {
                *tensor = tensor.detach();
            }
            layer.writes = 0;
        }
        state
    }

    /// Empties the members whose mask is true.
    pub fn reset(&self, mask: &[bool]) -> Result<Self> {
        self.check_batch(mask.len())?;
        let keep: Vec<u8> = mask.iter().map(|reset| u8::from(!*reset)).collect();
        let mut state = self.clone();
        for (clock, _) in state.clocks.iter_mut().zip(mask).filter(|(_, reset)| **reset) {
            *clock = Clock::default();
        }
        for layer in &mut state.layers {
            for tensor in layer.tensors_mut() {
                // Not a product with zero, which would keep what is no number.
                let keep = Tensor::from_slice(&keep, (keep.len(), 1, 1), tensor.device())?;
                *tensor = keep.broadcast_as(tensor.shape())?.where_cond(tensor, &tensor.zeros_like()?)?;
            }
            for (knots, _) in layer.knots.iter_mut().zip(mask).filter(|(_, reset)| **reset) {
                *knots = Knots::default();
            }
        }
        Ok(state)
    }

    /// The same without what the layers' recurrences have summed up, if they have any: to see what depends on it.
    /// Errors: the tensor library failed.
    pub fn without_recurrence(&self) -> Result<Self> {
        let mut state = self.clone();
        for sums in state.layers.iter_mut().filter_map(|layer| layer.recurrence.as_mut()) {
            *sums = sums.zeros_like()?;
        }
        Ok(state)
    }

    /// The members at `places`, in that order.
    pub fn select(&self, places: &[usize]) -> Result<Self> {
        if let Some(place) = places.iter().find(|place| **place >= self.batch()) {
            return Err(Error::Shape { what: "the members selected", expected: self.batch(), found: place + 1 });
        }
        // Nothing of the others is copied: there may be thousands.
        let select = |tensor: &Tensor| {
            let index: Vec<u32> = places.iter().map(|place| *place as u32).collect();
            tensor.contiguous()?.index_select(&Tensor::from_vec(index, places.len(), tensor.device())?, 0)
        };
        let select_layer = |layer: &LayerState| {
            Ok(LayerState {
                inputs: select(&layer.inputs)?,
                keys: select(&layer.keys)?,
                values: select(&layer.values)?,
                coefficients: layer.coefficients.as_ref().map(select).transpose()?,
                recurrence: layer.recurrence.as_ref().map(select).transpose()?,
                knots: places.iter().map(|place| layer.knots[*place].clone()).collect(),
                writes: layer.writes,
            })
        };
        let clocks = places.iter().map(|place| self.clocks[*place]).collect();
        let layers = self.layers.iter().map(select_layer).collect::<Result<_>>()?;
        Ok(Self { fingerprint: self.fingerprint, clocks, layers })
    }

    /// Puts the members of `from` at `places` of this state, in place.
    pub(crate) fn put(&mut self, places: &[usize], from: &ModelState) -> Result<()> {
        for (layer, from) in self.layers.iter_mut().zip(&from.layers) {
            for (tensor, from) in layer.tensors_mut().into_iter().zip(from.tensors()) {
                for (member, place) in places.iter().enumerate() {
                    tensor.slice_set(&from.narrow(0, member, 1)?.contiguous()?, 0, *place)?;
                }
            }
        }
        for (member, place) in places.iter().enumerate() {
            self.clocks[*place] = from.clocks[member];
            for (layer, from) in self.layers.iter_mut().zip(&from.layers) {
                layer.knots[*place] = from.knots[member].clone();
            }
        }
        Ok(())
    }

    /// The same numbers in tensors of their own, that can be written in place.
    pub(crate) fn owned(&self) -> Result<Self> {
        let mut state = self.clone();
        for layer in &mut state.layers {
            for tensor in layer.tensors_mut() {
                *tensor = tensor.copy()?;
            }
        }
        Ok(state)
    }

    /// More room: the members of both, one after the other, in memory of their own.
    pub(crate) fn join(&self, other: &ModelState) -> Result<Self> {
        let mut state = self.clone();
        state.clocks.extend(&other.clocks);
        for (layer, other) in state.layers.iter_mut().zip(&other.layers) {
            for (tensor, other) in layer.tensors_mut().into_iter().zip(other.tensors()) {
                *tensor = Tensor::cat(&[&*tensor, other], 0)?;
            }
            layer.knots.extend(other.knots.iter().cloned());
        }
        Ok(state)
    }

    /// Bytes of state a member, once its knots are as many as they become.
    pub(crate) fn bytes_per_member(&self, config: &ModelConfig) -> usize {
        let tensors = self.layers.iter().flat_map(|layer| layer.tensors());
        let floats: usize = tensors.map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum();
        floats / self.batch().max(1) + self.layers.len() * Knots::most_bytes(config) + size_of::<Clock>()
    }

    /// The state as bytes: a safetensors file whose metadata holds clocks, knots and the model's fingerprint.
    pub fn save(&self) -> Result<Vec<u8>> {
        self.encode(None)
    }

    /// The state as bytes, with the tick of the newest observation where there is one.
    pub(crate) fn encode(&self, newest_tick: Option<u64>) -> Result<Vec<u8>> {
        let mut values: Vec<(String, Vec<usize>, Vec<u8>)> = vec![];
        for (number, layer) in self.layers.iter().enumerate() {
            for (name, tensor) in layer.names().zip(layer.tensors()) {
                let floats = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
                let bytes = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
                values.push((format!("layers.{number}.{name}"), tensor.dims().to_vec(), bytes));
            }
        }
        let knots = self.layers.iter().map(|layer| layer.knots.clone()).collect();
        let (version, fingerprint, clocks) = (VERSION, self.fingerprint, self.clocks.clone());
        let header = Header { version, fingerprint, clocks, knots, newest_tick };
        let header = ron::to_string(&header).map_err(|error| Error::State(error.to_string()))?;
        let views = values.iter().map(|(name, shape, bytes)| {
            TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).map(|view| (name.clone(), view))
        });
        let views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(|e| Error::State(e.to_string()))?;
        let metadata = HashMap::from([(HEADER.to_string(), header)]);
        safetensors::serialize(views, Some(metadata)).map_err(|error| Error::State(error.to_string()))
    }

    /// Reads what [`ModelState::save`] wrote (in f32), for the same model. Errors say what does not fit.
    pub fn load(bytes: &[u8], model: &Model) -> Result<Self> {
        Ok(Self::decode(bytes, model)?.0)
    }

    /// The state, and the tick of the newest observation where an engine saved it.
    pub(crate) fn decode(bytes: &[u8], model: &Model) -> Result<(Self, Option<u64>)> {
        let like = model.empty_state(1)?;
        let refuse = |message: String| Error::State(message);
        let (_, metadata) =
            safetensors::SafeTensors::read_metadata(bytes).map_err(|e| refuse(format!("no state: {e}")))?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(HEADER));
        let header = header.ok_or_else(|| refuse(format!("these bytes hold tensors, but no `{HEADER}`")))?;
        let header: Header = ron::from_str(header).map_err(|e| refuse(format!("unreadable header: {e}")))?;
        if header.version != VERSION {
            return Err(refuse(format!("version {} instead of {VERSION}", header.version)));
        }
        if header.fingerprint != like.fingerprint {
            let (found, expected) = (header.fingerprint, like.fingerprint);
            return Err(refuse(format!("it is of model {found:016x}; this model is {expected:016x}")));
        }
        let tensors = safetensors::SafeTensors::deserialize(bytes).map_err(|e| refuse(e.to_string()))?;
        let batch = header.clocks.len();
        if batch == 0 {
            return Err(refuse("it holds no member".into()));
        }
        if header.knots.len() != like.layers.len() || header.knots.iter().any(|knots| knots.len() != batch) {
            return Err(refuse("its header contradicts itself".into()));
        }
        let config = model.config();
        for (member, clock) in header.clocks.iter().enumerate() {
            let whole = |knots: &Vec<Knots>| knots[member].fit(config, clock);
            if clock.held > config.ring() || !header.knots.iter().all(whole) {
                return Err(refuse(format!("the clock and the knots of member {member} contradict each other")));
            }
        }
        let mut state = like;
        state.clocks = header.clocks;
        for (number, (layer, knots)) in state.layers.iter_mut().zip(header.knots).enumerate() {
            for (name, tensor) in layer.names().zip(layer.tensors_mut()) {
                let name = format!("layers.{number}.{name}");
                let view = tensors.tensor(&name).map_err(|e| refuse(format!("{name}: {e}")))?;
                let mut shape = tensor.dims().to_vec();
                shape[0] = batch;
                if view.shape() != shape || view.dtype() != safetensors::Dtype::F32 {
                    let (found, dtype) = (view.shape(), view.dtype());
                    return Err(refuse(format!("{name} is {dtype:?} {found:?} instead of F32 {shape:?}")));
                }
                let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                let values: Vec<f32> = values.collect();
                if values.iter().any(|value| !value.is_finite()) {
                    return Err(refuse(format!("{name} holds values that are not finite")));
                }
                *tensor = Tensor::from_vec(values, shape, tensor.device())?.to_dtype(tensor.dtype())?;
            }
            layer.knots = knots;
        }
        Ok((state, header.newest_tick))
    }

    /// Whether every number is finite.
    pub(crate) fn is_finite(&self) -> Result<bool> {
        for tensor in self.layers.iter().flat_map(LayerState::tensors) {
            if !tensor.to_dtype(DType::F32)?.abs()?.sum_all()?.to_scalar::<f32>()?.is_finite() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(crate) fn check_batch(&self, found: usize) -> Result<()> {
        let expected = self.batch();
        if found == expected { Ok(()) } else { Err(Error::Shape { what: "the batch", expected, found }) }
    }
}

impl LayerState {
    /// Bᵀ \[batch, d, N\] of the layer's long-term memory, if it has one.
    pub fn coefficients(&self) -> Option<&Tensor> {
        self.coefficients.as_ref()
    }

    /// Keys of the last S + L − 1 ticks, newest last \[batch, S + L − 1, d\]; only the newest `held` count.
    pub fn keys(&self) -> &Tensor {
        &self.keys
    }

    /// Values of the same ticks.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// What the layer saw in the same ticks.
    pub fn inputs(&self) -> &Tensor {
        &self.inputs
    }

    /// Lengths in ticks of a member's blocks under `Adaptive`, oldest first; empty for the other policies.
    pub fn block_lengths(&self, member: usize) -> &[u32] {
        self.knots.get(member).map_or(&[], |knots| &knots.lengths)
    }

    /// h of the layer's linear recurrence \[batch, 1, 2·units\], if it has one: real parts, then imaginary ones.
    pub fn recurrence(&self) -> Option<&Tensor> {
        self.recurrence.as_ref()
    }

    /// Of the tensors.
    fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let coefficients = self.coefficients.as_ref().map(|_| "coefficients");
        let recurrence = self.recurrence.as_ref().map(|_| "recurrence");
        ["inputs", "keys", "values"].into_iter().chain(coefficients).chain(recurrence)
    }

    fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        [&self.inputs, &self.keys, &self.values].into_iter().chain(&self.coefficients).chain(&self.recurrence)
    }

    fn tensors_mut(&mut self) -> Vec<&mut Tensor> {
        let Self { inputs, keys, values, coefficients, recurrence, .. } = self;
        [inputs, keys, values].into_iter().chain(coefficients).chain(recurrence).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::{Head, HeadKind, Input, Wanted};

    /// What became no number is gone after a reset; the other members are as they were.
    #[test]
    fn a_reset_heals() {
        let inputs = vec![Input::Token { name: "x".into(), vocabulary: 4 }];
        let heads = vec![Head { name: "y".into(), kind: HeadKind::Value }];
        let config = ModelConfig {
            width: 8,
            attention_heads: 2,
            short_term: 4,
            chunk: 4,
            recurrence: 3,
            ..ModelConfig::new(inputs, heads)
        };
        let model = config.init(&Device::Cpu).unwrap();
        let x = Tensor::zeros((2, 30, 1), DType::F32, &Device::Cpu).unwrap();
        let go = |state: &ModelState| {
            let (outputs, next) = model.forward_segment(&x, &[], Wanted::All, state).unwrap();
            (outputs.heads[0].to_vec3::<f32>().unwrap(), next)
        };
        let (fresh, mut state) = go(&model.empty_state(2).unwrap());
        let (on, _) = go(&state);
        for layer in &mut state.layers {
            for tensor in layer.tensors_mut() {
                let first = tensor.narrow(0, 0, 1).unwrap();
                let broken = (first.zeros_like().unwrap() / 0.0).unwrap();
                *tensor = Tensor::cat(&[&broken, &tensor.narrow(0, 1, 1).unwrap()], 0).unwrap();
            }
        }
        assert!(!state.is_finite().unwrap());
        let (healed, _) = go(&state.reset(&[true, false]).unwrap());
        assert_eq!(healed, [fresh[0].clone(), on[1].clone()]);
    }
}
