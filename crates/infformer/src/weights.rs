//! A trained model as two files side by side: `<name>.model.ron`, the configuration, and `<name>.safetensors`, the
//! weights under the names of the formulas, with the configuration's fingerprint in the metadata.

use crate::error::{Error, Result, WeightsError};
use crate::model::parameters::loaded;
use crate::model::{Model, ModelConfig, Parameters};
use candle_core::{DType, Device, Tensor, Var};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const FINGERPRINT: &str = "infformer_fingerprint";

/// Ending of the configuration file.
pub const CONFIG_ENDING: &str = "model.ron";
/// Ending of the weights file.
pub const WEIGHTS_ENDING: &str = "safetensors";

/// The weights as the bytes of a safetensors file, in f32.
pub fn to_bytes(model: &Model) -> Result<Vec<u8>> {
    let mut values = vec![];
    for (name, var) in model.parameters() {
        let floats = var.as_tensor().to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
        values.push((name, var.dims().to_vec(), bytes));
    }
    let unwritable = |error: safetensors::SafeTensorError| Error::Weights(WeightsError::Unreadable(error.to_string()));
    let views = values.iter().map(|(name, shape, bytes)| {
        TensorView::new(Dtype::F32, shape.clone(), bytes).map(|view| (name.as_str(), view)).map_err(unwritable)
    });
    let fingerprint = format!("{:016x}", model.config().fingerprint()?);
    let metadata = HashMap::from([(FINGERPRINT.to_string(), fingerprint)]);
    safetensors::serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata)).map_err(unwritable)
}

/// A model of the given configuration with the weights of a safetensors file, in f32 on `device`.
///
/// Errors: bytes that are no safetensors file or end too early, another configuration's fingerprint, a tensor that is
/// missing, of another shape, not f32, not finite, or that the model does not know.
pub fn from_bytes(config: &ModelConfig, bytes: &[u8], device: &Device) -> Result<Model> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| WeightsError::Unreadable(e.to_string()))?;
    let expected = format!("{:016x}", config.fingerprint()?);
    let found = metadata.metadata().as_ref().and_then(|metadata| metadata.get(FINGERPRINT));
    if let Some(found) = found.filter(|found| **found != expected) {
        return Err(WeightsError::Configuration { expected, found: found.clone() }.into());
    }
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| WeightsError::Unreadable(e.to_string()))?;
    let mut found = BTreeMap::new();
    for (name, view) in tensors.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(WeightsError::Kind { name, found: format!("{:?}", view.dtype()) }.into());
        }
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let values: Vec<f32> = values.collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(WeightsError::NotFinite { name }.into());
        }
        found.insert(name, Tensor::from_vec(values, view.shape(), device)?);
    }
    from_tensors(config, found, device)
}

/// A model whose weights are exactly `tensors`. Errors: a tensor that is missing, of another shape or unknown.
pub fn from_tensors(config: &ModelConfig, tensors: BTreeMap<String, Tensor>, device: &Device) -> Result<Model> {
    // What a new model of this configuration has is what the file must have.
    let shapes: BTreeMap<String, Vec<usize>> =
        config.init(device)?.parameters().iter().map(|(name, var)| (name.clone(), var.dims().to_vec())).collect();
    for (name, shape) in &shapes {
        match tensors.get(name) {
            None => return Err(WeightsError::Missing { name: name.clone(), shape: shape.clone() }.into()),
            Some(tensor) if tensor.dims() != shape.as_slice() => {
                let (expected, found) = (shape.clone(), tensor.dims().to_vec());
                return Err(WeightsError::Shape { name: name.clone(), expected, found }.into());
            }
            Some(_) => {}
        }
    }
    if let Some(name) = tensors.keys().find(|name| !shapes.contains_key(*name)) {
        return Err(WeightsError::Unknown { name: name.clone() }.into());
    }
    let parameters = tensors.into_iter().map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor)?)));
    let parameters: Parameters = parameters.collect::<Result<_>>()?;
    let dtype = parameters.values().next().map_or(DType::F32, |var| var.dtype());
    loaded(parameters, dtype, device, |vb| Model::new(config, vb))
}

/// Writes `<name>.model.ron` and `<name>.safetensors` into `folder`, which is made if need be.
pub fn save(model: &Model, folder: &Path, name: &str) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| file(folder, &error))?;
    let write = |ending: &str, bytes: &[u8]| {
        let path = folder.join(format!("{name}.{ending}"));
        std::fs::write(&path, bytes).map_err(|error| file(&path, &error))
    };
    write(WEIGHTS_ENDING, &to_bytes(model)?)?;
    write(CONFIG_ENDING, model.config().to_ron()?.as_bytes())
}

/// Reads `<name>.model.ron` and `<name>.safetensors` from `folder`. Errors: as [`from_bytes`], a missing file, a
/// configuration that makes no sense.
pub fn load(folder: &Path, name: &str, device: &Device) -> Result<Model> {
    let read = |ending: &str| {
        let path = folder.join(format!("{name}.{ending}"));
        std::fs::read(&path).map_err(|error| file(&path, &error))
    };
    let config = ModelConfig::from_ron(&String::from_utf8_lossy(&read(CONFIG_ENDING)?))?;
    from_bytes(&config, &read(WEIGHTS_ENDING)?, device).map_err(|error| match error {
        Error::Weights(error) => {
            let path = folder.join(format!("{name}.{WEIGHTS_ENDING}")).display().to_string();
            WeightsError::In { path, error: Box::new(error) }.into()
        }
        other => other,
    })
}

fn file(path: &Path, error: &std::io::Error) -> Error {
    WeightsError::File { path: path.display().to_string(), message: error.to_string() }.into()
}

/// The names that the published module of the ∞-former (Martins et al. 2022) gives its long-term attention, and ours.
const PUBLISHED: [(&str, &str); 8] = [
    ("proj_query.weight", "query.weight"),
    ("proj_key.weight", "key.weight"),
    ("proj_value.weight", "value.weight"),
    ("attn_out.weight", "output.weight"),
    ("mu.weight", "mean.weight"),
    ("sigma.weight", "variance.weight"),
    ("mask_net.weight", "mask.weight"),
    ("mask_net.bias", "mask.bias"),
];

/// Gives the tensors of one published long-term attention, whose names begin with `prefix`, the names that they have
/// in layer `layer` of a model. Other tensors under the prefix are refused: nothing is lost silently.
pub fn import_published(
    tensors: &BTreeMap<String, Tensor>,
    prefix: &str,
    layer: usize,
) -> Result<BTreeMap<String, Tensor>> {
    let own = tensors.iter().filter_map(|(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)));
    let renamed = own.map(|(name, tensor)| match PUBLISHED.iter().find(|(theirs, _)| *theirs == name) {
        Some((_, ours)) => Ok((format!("layers.{layer}.long_term.{ours}"), tensor.clone())),
        None => Err(WeightsError::Unknown { name: format!("{prefix}{name}") }.into()),
    });
    let renamed: BTreeMap<String, Tensor> = renamed.collect::<Result<_>>()?;
    if renamed.is_empty() {
        return Err(WeightsError::Missing { name: format!("{prefix}proj_key.weight"), shape: vec![] }.into());
    }
    Ok(renamed)
}
