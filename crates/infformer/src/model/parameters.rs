//! Where the weights of a new model come from: a seed, the same numbers whatever the order in which they are asked.
//!
//! candle's own initialisers draw from a generator that cannot be seeded on the CPU.

use super::Model;
use crate::error::Result;
use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Trained tensors by name.
pub type Parameters = BTreeMap<String, Var>;

/// Builds a network with new weights drawn from `seed`; gives it and its weights by name.
pub fn seeded<T>(
    seed: u64,
    dtype: DType,
    device: &Device,
    build: impl FnOnce(VarBuilder) -> Result<T>,
) -> Result<(T, Parameters)> {
    let made = Arc::new(Mutex::new(Parameters::new()));
    let backend = SeededParameters { seed, made: made.clone() };
    let network = build(VarBuilder::from_backend(Box::new(backend), dtype, device.clone()))?;
    let parameters = std::mem::take(&mut *made.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((network, parameters))
}

/// Draws each tensor from a generator of its own, seeded by `seed` and the tensor's name.
struct SeededParameters {
    seed: u64,
    made: Arc<Mutex<Parameters>>,
}

impl SimpleBackend for SeededParameters {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed ^ xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
        let values: Vec<f64> = match init {
            Init::Const(value) => vec![value; shape.elem_count()],
            Init::Uniform { lo, up } => (0..shape.elem_count()).map(|_| random.random_range(lo..up)).collect(),
            other => candle_core::bail!("{name}: no seeded draw for {other:?}"),
        };
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, device)?.to_dtype(dtype)?)?;
        let tensor = var.as_tensor().clone();
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), var);
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("{name}: a new tensor needs a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// Builds a model with the given weights, which stay variables, so that training can go on.
pub(crate) fn loaded(
    parameters: Parameters,
    dtype: DType,
    device: &Device,
    build: impl FnOnce(VarBuilder) -> Result<Model>,
) -> Result<Model> {
    let backend = LoadedParameters(parameters.clone());
    let model = build(VarBuilder::from_backend(Box::new(backend), dtype, device.clone()))?;
    Ok(model.with_parameters(parameters))
}

struct LoadedParameters(Parameters);

impl SimpleBackend for LoadedParameters {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if tensor.shape() != &shape {
            candle_core::bail!("{name}: {shape:?} expected, {:?} found", tensor.shape());
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        match self.0.get(name) {
            Some(var) => Ok(var.as_tensor().clone()),
            None => candle_core::bail!("{name}: no such tensor"),
        }
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}
