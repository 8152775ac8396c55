//! `*.model.ron` and its weights: loaded, run on entities with the numbers of training, reloaded, refused.
#![allow(clippy::unwrap_used, clippy::panic)]

use bevy::asset::io::memory::{Dir, MemoryAssetReader};
use bevy::asset::io::{AssetSourceBuilder, AssetSourceId};
use bevy::asset::{AssetLoadFailedEvent, LoadState};
use bevy::prelude::*;
use bevy::time::TimeUpdateStrategy;
use bevy_infformer::infformer::candle_core::{DType, Tensor};
use bevy_infformer::infformer::model::{Head, HeadKind, Input, Model, ModelConfig, Wanted};
use bevy_infformer::infformer::{Device, RuntimeConfig, RuntimeMode, weights};
use bevy_infformer::{InfformerPlugin, MemoryAgent, MemoryAsset, Observations, Recall};
use std::path::Path;

fn model(seed: u64) -> Model {
    let inputs = vec![Input::Token { name: "symbol".into(), vocabulary: 4 }];
    let heads = vec![Head { name: "next".into(), kind: HeadKind::Logits { classes: 4 } }];
    let config = ModelConfig { width: 8, feed_forward: 8, short_term: 4, chunk: 2, ..ModelConfig::new(inputs, heads) };
    config.init_seeded(seed, DType::F32, &Device::Cpu).unwrap()
}

fn write(files: &Dir, model: &Model) {
    files.insert_asset_text(Path::new("small.model.ron"), &model.config().to_ron().unwrap());
    files.insert_asset(Path::new("small.safetensors"), weights::to_bytes(model).unwrap());
}

fn app(files: &Dir) -> App {
    let mut app = App::new();
    let root = files.clone();
    let source = AssetSourceBuilder::new(move || Box::new(MemoryAssetReader { root: root.clone() }));
    app.register_asset_source(AssetSourceId::Default, source);
    let runtime = RuntimeConfig { mode: RuntimeMode::Inline, ..default() };
    app.add_plugins((MinimalPlugins, AssetPlugin::default(), InfformerPlugin::default().with_runtime(runtime)));
    app.insert_resource(TimeUpdateStrategy::FixedTimesteps(1));
    app.finish();
    app.cleanup();
    app
}

fn wait(app: &mut App, until: impl Fn(&World) -> bool) {
    for _ in 0..10_000 {
        app.update();
        if until(app.world()) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("it did not come to pass");
}

fn symbol(tick: usize) -> f32 {
    (tick * tick % 4) as f32
}

/// The logits of a segment of `ticks` symbols \[ticks\]\[4\].
fn segment(model: &Model, ticks: usize) -> Vec<Vec<f32>> {
    let x = Tensor::from_vec((0..ticks).map(symbol).collect(), (1, ticks, 1), &Device::Cpu).unwrap();
    let (outputs, _) = model.forward_segment(&x, &[], Wanted::All, &model.empty_state(1).unwrap()).unwrap();
    outputs.heads[0].squeeze(0).unwrap().to_vec2().unwrap()
}

fn close(found: &[f32], expected: &[f32]) -> bool {
    // f32 sums in another order.
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs()))
}

#[test]
fn a_trained_model_runs_on_an_entity_and_is_reloaded() {
    let files = Dir::default();
    let trained = model(1);
    write(&files, &trained);
    let mut app = app(&files);
    let handle: Handle<MemoryAsset> = app.world().resource::<AssetServer>().load("small.model.ron");
    let agent = app.world_mut().spawn(MemoryAgent::new(handle.clone())).id();
    wait(&mut app, |world| world.get::<bevy_infformer::MemorySlot>(agent).is_some());
    let expected = segment(&trained, 30);
    for (tick, expected) in expected.iter().enumerate() {
        app.world_mut().get_mut::<Observations>(agent).unwrap().push(&[symbol(tick)]).unwrap();
        app.update();
        app.update();
        let recall = app.world().get::<Recall>(agent).unwrap();
        assert!(close(&recall.heads()[0], expected), "tick {tick}: {:?}", recall.heads());
        assert_eq!((recall.readout().len(), &recall.error), (8, &None));
    }
    // Other weights of the same shape: what the agent saw goes on under them.
    write(&files, &model(2));
    app.world().resource::<AssetServer>().reload("small.model.ron");
    let weights_of = |world: &World| {
        let asset = world.resource::<Assets<MemoryAsset>>().get(&handle).unwrap().clone();
        asset.model().unwrap().parameters()["heads.next.weight"].flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let before = weights_of(app.world());
    wait(&mut app, |world| weights_of(world) != before);
    app.world_mut().get_mut::<Observations>(agent).unwrap().push(&[1.0]).unwrap();
    app.update();
    app.update();
    let recall = app.world().get::<Recall>(agent).unwrap();
    assert!(recall.heads()[0].iter().all(|value| value.is_finite()) && recall.error.is_none());
}

#[test]
fn weights_that_are_missing_or_do_not_fit_are_refused_by_name() {
    let files = Dir::default();
    let good = model(1);
    files.insert_asset_text(Path::new("alone.model.ron"), &good.config().to_ron().unwrap());
    files.insert_asset_text(Path::new("mixed.model.ron"), &good.config().to_ron().unwrap());
    let other = ModelConfig { feed_forward: 9, ..good.config().clone() };
    files.insert_asset(Path::new("mixed.safetensors"), weights::to_bytes(&other.init(&Device::Cpu).unwrap()).unwrap());
    let mut app = app(&files);
    for (name, words) in [("alone.model.ron", "alone.safetensors cannot be read"), ("mixed.model.ron", "configuration")]
    {
        let handle: Handle<MemoryAsset> = app.world().resource::<AssetServer>().load(name);
        wait(&mut app, |world| matches!(world.resource::<AssetServer>().load_state(&handle), LoadState::Failed(_)));
        let mut failures = app.world_mut().resource_mut::<Messages<AssetLoadFailedEvent<MemoryAsset>>>();
        let error = failures.drain().last().unwrap().error.to_string();
        assert!(error.contains(words), "{error}");
    }
}
