//! Weights on disk: what is saved comes back, and what does not fit is refused with one clear error.
#![allow(clippy::unwrap_used, clippy::panic)]

mod models;

use candle_core::{Device, Tensor};
use infformer::model::{InputMask, Model, ReadingDensity, Wanted};
use infformer::{Error, WeightsError, weights};
use models::{config, difference, observations, policies};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};

fn model() -> Model {
    let (_, policy) = policies().swap_remove(0);
    config(policy, ReadingDensity::Gibbs, InputMask::Convolution)
        .init_seeded(5, candle_core::DType::F32, &Device::Cpu)
        .unwrap()
}

fn answer(model: &Model) -> Tensor {
    let state = model.empty_state(2).unwrap();
    model.forward_segment(&observations(2, 30, 1), &[], Wanted::All, &state).unwrap().0.heads[0].clone()
}

#[test]
fn what_is_saved_comes_back() {
    let folder = std::env::temp_dir().join(format!("infformer-weights-{}", std::process::id()));
    let model = model();
    weights::save(&model, &folder, "small").unwrap();
    let loaded = weights::load(&folder, "small", &Device::Cpu).unwrap();
    assert_eq!(loaded.config(), model.config());
    assert_eq!(difference(&answer(&loaded), &answer(&model)), 0.0);
    std::fs::write(folder.join("small.safetensors"), b"cut short").unwrap();
    let short = weights::load(&folder, "small", &Device::Cpu).unwrap_err().to_string();
    assert!(short.contains("small.safetensors") && short.contains("no whole"), "{short}");
    std::fs::remove_dir_all(&folder).unwrap();
    let missing = weights::load(&folder, "small", &Device::Cpu).unwrap_err();
    assert!(matches!(missing, Error::Weights(WeightsError::File { .. })), "{missing}");
}

#[test]
fn a_seed_is_the_same_weights_every_time() {
    assert_eq!(difference(&answer(&model()), &answer(&model())), 0.0);
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

/// The file with its tensors changed.
fn changed(change: impl FnOnce(&mut Tensors)) -> Vec<u8> {
    let bytes = weights::to_bytes(&model()).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let mut tensors: Tensors = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap()))
        .collect();
    let metadata: Option<HashMap<String, String>> = metadata.metadata().clone();
    safetensors::serialize(views, metadata).unwrap()
}

fn refusal(bytes: &[u8]) -> WeightsError {
    match weights::from_bytes(model().config(), bytes, &Device::Cpu) {
        Err(Error::Weights(error)) => {
            println!("{error}");
            error
        }
        other => panic!("{other:?}"),
    }
}

const NAME: &str = "layers.1.long_term.key.weight";

#[test]
fn malformed_files_are_refused() {
    // As it is, the file is good.
    weights::from_bytes(model().config(), &changed(|_| {}), &Device::Cpu).unwrap();
    // No safetensors file; one that ends too early.
    assert!(matches!(refusal(b"not a file of tensors"), WeightsError::Unreadable(_)));
    let whole = weights::to_bytes(&model()).unwrap();
    assert!(matches!(refusal(&whole[..whole.len() - 100]), WeightsError::Unreadable(_)));
    assert!(matches!(refusal(&whole[..7]), WeightsError::Unreadable(_)));
    // A tensor too few, one too many, one of another shape, of other numbers, of no number.
    let missing = refusal(&changed(|tensors| drop(tensors.remove(NAME))));
    assert!(matches!(missing, WeightsError::Missing { name, .. } if name == NAME));
    let unknown = refusal(&changed(|tensors| drop(tensors.insert("more".into(), tensors[NAME].clone()))));
    assert!(matches!(unknown, WeightsError::Unknown { name } if name == "more"));
    let shape = refusal(&changed(|tensors| tensors.get_mut(NAME).unwrap().1 = vec![6, 24]));
    assert!(matches!(shape, WeightsError::Shape { found, .. } if found == [6, 24]));
    let kind = refusal(&changed(|tensors| tensors.get_mut(NAME).unwrap().0 = Dtype::I32));
    assert!(matches!(kind, WeightsError::Kind { name, .. } if name == NAME));
    let nan =
        refusal(&changed(|tensors| tensors.get_mut(NAME).unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes())));
    assert!(matches!(nan, WeightsError::NotFinite { name } if name == NAME));
    // The weights of a model that is otherwise alike: the shapes fit, the meaning does not.
    let mut other = model().config().clone();
    other.short_term += 1;
    other.chunk -= 1;
    let bytes = weights::to_bytes(&other.init(&Device::Cpu).unwrap()).unwrap();
    assert!(matches!(refusal(&bytes), WeightsError::Configuration { .. }));
}

#[test]
fn only_published_names_are_imported() {
    let tensor = Tensor::zeros((4, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
    let named =
        |names: &[&str]| names.iter().map(|name| ((*name).to_string(), tensor.clone())).collect::<BTreeMap<_, _>>();
    let known = named(&["a.proj_key.weight", "a.mask_net.weight", "b.other"]);
    let imported = weights::import_published(&known, "a.", 2).unwrap();
    let names: Vec<&str> = imported.keys().map(String::as_str).collect();
    assert_eq!(names, ["layers.2.long_term.key.weight", "layers.2.long_term.mask.weight"]);
    assert!(weights::import_published(&named(&["a.proj_key.weight", "a.proj_keys.weight"]), "a.", 0).is_err());
    assert!(weights::import_published(&known, "c.", 0).is_err());
}
