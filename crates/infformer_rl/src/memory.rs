//! What stands between an encoder and the heads of a policy and remembers: one trait, so that memories can be compared
//! where everything else is the same.

use crate::error::{Error, Result};
use candle_core::Tensor;
use infformer::model::{Model, ModelState, Reset};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::fmt;

/// A trained memory over a stream of vectors.
pub trait Memory: fmt::Debug + Send + Sync {
    /// The state of `batch` members that have seen nothing. Errors: those of the tensor library.
    fn empty_state(&self, batch: usize) -> Result<MemoryState>;

    /// Takes x \[batch, T, d\] from `state` on; gives what is made of it and the state after it. At a reset a member is as
    /// one that has seen nothing, which changes nothing for the others. Gradients flow to the weights and within the
    /// segment, not into `state`. There is at least one tick, resets lie within the segment, and the state [fits](Memory::fits):
    /// a policy sees to that. Errors: the state of another kind of memory, those of the tensor library.
    fn forward(&self, x: &Tensor, resets: &[Reset], state: &MemoryState) -> Result<(Remembered, MemoryState)>;

    /// Reads what [`MemoryState::save`] wrote, for the same memory. Errors: bytes that are no state, or the state of another memory.
    fn load_state(&self, bytes: &[u8]) -> Result<MemoryState> {
        let empty = self.empty_state(1)?;
        let MemoryState::Tensors(expected) = &empty else { return Err(another_kind()) };
        let refuse = |message: String| Error::Configuration(format!("a saved state: {message}"));
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| refuse(error.to_string()))?;
        if tensors.len() != expected.len() {
            return Err(refuse(format!("{} tensors instead of {}", tensors.len(), expected.len())));
        }
        let read = |(number, expected): (usize, &Tensor)| {
            let view = tensors.tensor(&number.to_string()).map_err(|error| refuse(error.to_string()))?;
            if view.dtype() != Dtype::F32 || view.shape().get(1..) != expected.dims().get(1..) {
                let (dtype, shape) = (view.dtype(), view.shape());
                return Err(refuse(format!("{dtype:?} {shape:?} instead of F32 {:?}, any first", expected.dims())));
            }
            let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
            Ok(Tensor::from_vec(values.collect::<Vec<f32>>(), view.shape(), expected.device())?)
        };
        Ok(MemoryState::Tensors(expected.iter().enumerate().map(read).collect::<Result<_>>()?))
    }

    /// Refuses a state of another kind, of other sizes, or of another number of members than `batch`.
    fn fits(&self, state: &MemoryState, batch: usize) -> Result<()> {
        let empty = self.empty_state(1)?;
        let (MemoryState::Tensors(state), MemoryState::Tensors(one)) = (state, &empty) else {
            return Err(another_kind());
        };
        let found: Vec<&[usize]> = state.iter().map(Tensor::dims).collect();
        let of_batch = |one: &Tensor| [&[batch], one.dims().get(1..).unwrap_or_default()].concat();
        let expected: Vec<Vec<usize>> = one.iter().map(of_batch).collect();
        if found == expected {
            return Ok(());
        }
        Err(Error::Configuration(format!("the state of a memory is {found:?} instead of {expected:?}")))
    }

    /// The model that it is a part of, where there is one: it can be saved and shipped.
    fn model(&self) -> Option<&Model> {
        None
    }
}

/// What a memory makes of a segment.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// \[batch, T, d\]
    pub stream: Tensor,
    /// To be weighted and added to the loss, where the memory has one: a scalar.
    pub regulariser: Option<Tensor>,
    /// Of a single tick of a model: where it looked \[batch, cells\], see [`Outputs::looked`](infformer::model::Outputs::looked).
    pub looked: Option<Tensor>,
}

impl From<Tensor> for Remembered {
    fn from(stream: Tensor) -> Self {
        Self { stream, regulariser: None, looked: None }
    }
}

/// What is remembered, one member a row.
#[derive(Debug, Clone)]
pub enum MemoryState {
    /// Of a model.
    Model(ModelState),
    /// Of another memory: tensors \[batch, ..\].
    Tensors(Vec<Tensor>),
}

impl MemoryState {
    /// The tensors of a memory that has so many. Errors: it is another kind of memory.
    pub fn tensors<const COUNT: usize>(&self) -> Result<&[Tensor; COUNT]> {
        match self {
            MemoryState::Tensors(tensors) => tensors.as_slice().try_into().map_err(|_| another_kind()),
            MemoryState::Model(_) => Err(another_kind()),
        }
    }

    /// The members at `places`, in that order.
    pub fn select(&self, places: &[usize]) -> Result<Self> {
        Ok(match self {
            MemoryState::Model(state) => MemoryState::Model(state.select(places)?),
            MemoryState::Tensors(tensors) => {
                let index: Vec<u32> = places.iter().map(|place| *place as u32).collect();
                let select = |tensor: &Tensor| {
                    let index = Tensor::from_slice(&index, index.len(), tensor.device())?;
                    tensor.contiguous()?.index_select(&index, 0)
                };
                MemoryState::Tensors(tensors.iter().map(select).collect::<candle_core::Result<_>>()?)
            }
        })
    }

    /// Bytes that [`Memory::load_state`] reads.
    pub fn save(&self) -> Result<Vec<u8>> {
        let tensors = match self {
            MemoryState::Model(state) => return Ok(state.save()?),
            MemoryState::Tensors(tensors) => tensors,
        };
        let named = tensors.iter().enumerate().map(|(number, tensor)| (number.to_string(), tensor.clone()));
        Ok(safetensors::serialize(named.collect::<HashMap<_, _>>(), None).map_err(candle_core::Error::from)?)
    }
}

pub(crate) fn another_kind() -> Error {
    Error::Configuration("this state belongs to another kind of memory".into())
}

/// Where members begin anew, tick by tick: 0 there, else 1, \[batch, T\].
pub(crate) fn kept(resets: &[Reset], batch: usize, ticks: usize) -> Vec<f32> {
    let mut kept = vec![1.0; batch * ticks];
    for reset in resets {
        kept[reset.member * ticks + reset.tick] = 0.0;
    }
    kept
}
