//! A training run between two steps, as one file: weights, moments, and how far it is.

use crate::error::{Error, Result};
use crate::optimiser::Optimiser;
use candle_core::{DType, Device, Tensor};
use infformer::model::Parameters;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// What a checkpoint says besides its tensors.
#[derive(Serialize, Deserialize)]
struct Header<P> {
    /// The training configuration, as RON, but for when it ends: a checkpoint belongs to one.
    configuration: String,
    /// Steps of the optimiser.
    steps: u64,
    progress: P,
}

const PROGRESS: &str = "infformer_training";
const ATTACHMENT: &str = "attachment";

/// Writes a checkpoint; the one before stays until the new one is whole.
/// `attachment` is anything else that belongs to it.
pub fn save<P: Serialize>(
    path: &Path,
    configuration: &str,
    parameters: &Parameters,
    optimiser: &Optimiser,
    progress: &P,
    attachment: &[u8],
) -> Result<()> {
    let refuse = |message: String| Error::Checkpoint { path: path.to_path_buf(), message };
    let mut tensors: Vec<(String, Tensor)> = vec![];
    for (name, var) in parameters {
        tensors.push((format!("weight.{name}"), var.as_tensor().clone()));
    }
    for (name, (mean, square)) in &optimiser.moments {
        tensors.push((format!("mean.{name}"), mean.clone()));
        tensors.push((format!("square.{name}"), square.clone()));
    }
    let mut values = vec![];
    for (name, tensor) in &tensors {
        let floats = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let bytes: Vec<u8> = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
        values.push((name.clone(), tensor.dims().to_vec(), bytes));
    }
    let views = values.iter().map(|(name, shape, bytes)| {
        TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).map(|view| (name.clone(), view))
    });
    let mut views: Vec<_> = views.collect::<std::result::Result<_, _>>().map_err(|error| refuse(error.to_string()))?;
    let attached = TensorView::new(safetensors::Dtype::U8, vec![attachment.len()], attachment);
    views.push((ATTACHMENT.into(), attached.map_err(|error| refuse(error.to_string()))?));
    let header = Header { configuration: configuration.to_string(), steps: optimiser.steps, progress };
    let header = ron::to_string(&header).map_err(|error| refuse(error.to_string()))?;
    let metadata = HashMap::from([(PROGRESS.to_string(), header)]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| refuse(error.to_string()))?;
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, bytes).map_err(Error::file(&unfinished))?;
    std::fs::rename(&unfinished, path).map_err(Error::file(path))
}

/// The first field of two configurations, in RON without spaces, that is not the same; a field that one of them leaves out is `nothing`.
fn first_difference(left: &str, right: &str) -> (String, String) {
    let equal = left.chars().zip(right.chars()).take_while(|(left, right)| left == right).count();
    let before: Vec<char> = left.chars().take(equal).collect();
    let opens = |end: usize| before[..end].iter().rposition(|c| [',', '(', '{'].contains(c)).map_or(0, |at| at + 1);
    let field = |text: &str, start: usize| {
        let mut depth = 0;
        let is_in_it = |c: &char| {
            depth += i32::from("([{".contains(*c)) - i32::from(")]}".contains(*c));
            depth >= 0 && (depth > 0 || *c != ',')
        };
        text.chars().skip(start).take_while(is_in_it).collect::<String>()
    };
    match (left.chars().nth(equal), right.chars().nth(equal)) {
        (Some(','), Some(')')) => (field(left, equal + 1), "nothing".into()),
        (Some(')'), Some(',')) => ("nothing".into(), field(right, equal + 1)),
        _ => {
            let mut start = opens(equal);
            // A value has its name before the last colon.
            if !left.chars().nth(start).is_some_and(char::is_alphabetic) {
                let name_ends = before.iter().rposition(|c| *c == ':').unwrap_or(0);
                start = opens(name_ends);
            }
            (field(left, start), field(right, start))
        }
    }
}

/// Reads a checkpoint into weights and moments; gives how far the run is and what was attached. Errors: another
/// configuration, a damaged file.
pub fn load<P: DeserializeOwned>(
    path: &Path,
    configuration: &str,
    parameters: &Parameters,
    optimiser: &mut Optimiser,
) -> Result<(P, Vec<u8>)> {
    let refuse = |message: String| Error::Checkpoint { path: path.to_path_buf(), message };
    let bytes = std::fs::read(path).map_err(Error::file(path))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| refuse(error.to_string()))?;
    let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(PROGRESS));
    let text = text.ok_or_else(|| refuse(format!("it has no `{PROGRESS}`")))?;
    let header: Header<P> = ron::from_str(text).map_err(|error| refuse(error.to_string()))?;
    if header.configuration != configuration {
        let (there, here) = first_difference(&header.configuration, configuration);
        return Err(refuse(format!("it is of another training (`{there}` there, `{here}` here)")));
    }
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| refuse(error.to_string()))?;
    let read = |name: &str, like: &Tensor| -> Result<Tensor> {
        let view = tensors.tensor(name).map_err(|error| refuse(format!("{name}: {error}")))?;
        if view.shape() != like.dims() || view.dtype() != safetensors::Dtype::F32 {
            return Err(refuse(format!("{name} is {:?} instead of {:?}", view.shape(), like.dims())));
        }
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let device: &Device = like.device();
        Ok(Tensor::from_vec(values.collect::<Vec<f32>>(), like.dims(), device)?)
    };
    for (name, var) in parameters {
        var.set(&read(&format!("weight.{name}"), var.as_tensor())?)?;
    }
    for (name, (mean, square)) in &mut optimiser.moments {
        *mean = read(&format!("mean.{name}"), mean)?;
        *square = read(&format!("square.{name}"), square)?;
    }
    optimiser.steps = header.steps;
    let attached = tensors.tensor(ATTACHMENT).map_err(|error| refuse(error.to_string()))?;
    Ok((header.progress, attached.data().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    /// Whoever chose another memory, another clock or another seed reads which.
    #[test]
    fn a_difference_begins_with_its_field() {
        let begins = |field: &str, left: &str, right: &str| {
            let (there, here) = first_difference(left, right);
            assert!(there.starts_with(field) && here.starts_with(field) && there != here, "{there} {here}");
        };
        begins("memory:", "(clock:None,memory:Gru(hidden:72),seed:0)", "(clock:None,memory:Lstm(hidden:50),seed:0)");
        begins("clock:", "(clock:Some(256),seed:0)", "(clock:Some(64),seed:0)");
        begins("seed:", "(clock:None,seed:0)", "(clock:None,seed:1)");
        begins("name:", "(name:\"é\")", "(name:\"è\")");
        begins("betas:", "(betas:(0.9,0.98),seed:0)", "(betas:(0.9,0.999),seed:0)");
        begins("betas:", "(betas:(0.9,0.98),seed:0)", "(betas:(0.9,1.0),seed:0)");
        let whole = |left: &str, right: &str| first_difference(left, right);
        let (none, some) = ("(policy:(clock:None),seed:0)", "(policy:(clock:Some(256)),seed:0)");
        assert_eq!(whole(none, some), ("clock:None".into(), "clock:Some(256)".into()));
        let hidden = "(policy:(clock:None,previous_action:Hidden),seed:0)";
        assert_eq!(whole(none, hidden), ("nothing".into(), "previous_action:Hidden".into()));
        assert_eq!(whole(hidden, none), ("previous_action:Hidden".into(), "nothing".into()));
    }
}
