//! `*.memory.ron` files: loaded, refused with a reason, reloaded.
#![allow(clippy::unwrap_used, clippy::panic)]

use bevy::asset::io::memory::{Dir, MemoryAssetReader};
use bevy::asset::io::{AssetSourceBuilder, AssetSourceId};
use bevy::asset::{AssetLoadFailedEvent, LoadState};
use bevy::prelude::*;
use bevy_infformer::infformer::{ChannelGroup, MemoryConfig, Scale};
use bevy_infformer::{InfformerPlugin, MemoryAsset};
use std::path::Path;

fn app(files: &Dir) -> App {
    let mut app = App::new();
    let root = files.clone();
    let source = AssetSourceBuilder::new(move || Box::new(MemoryAssetReader { root: root.clone() }));
    app.register_asset_source(AssetSourceId::Default, source);
    app.add_plugins((MinimalPlugins, AssetPlugin::default(), InfformerPlugin::default()));
    app.finish();
    app.cleanup();
    app
}

/// Updates until the condition holds.
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

#[test]
fn a_file_is_loaded_and_reloaded() {
    let config = MemoryConfig::trajectory(vec![ChannelGroup::new("position", &["x", "y"], "m", Scale::Learnt)]);
    let files = Dir::default();
    files.insert_asset_text(Path::new("walker.memory.ron"), &config.to_ron().unwrap());
    let mut app = app(&files);
    let handle: Handle<MemoryAsset> = app.world().resource::<AssetServer>().load("walker.memory.ron");
    wait(&mut app, |world| world.resource::<Assets<MemoryAsset>>().get(&handle).is_some());
    assert_eq!(app.world().resource::<Assets<MemoryAsset>>().get(&handle).unwrap().recall(), Some(&config));

    let changed = MemoryConfig { capacity: 128, ..config };
    files.insert_asset_text(Path::new("walker.memory.ron"), &changed.to_ron().unwrap());
    app.world().resource::<AssetServer>().reload("walker.memory.ron");
    wait(&mut app, |world| {
        world.resource::<Assets<MemoryAsset>>().get(&handle).unwrap().recall().unwrap().capacity == 128
    });
}

#[test]
fn a_bad_file_is_refused_with_its_name_and_the_field() {
    let mut config = MemoryConfig::trajectory(vec![ChannelGroup::new("position", &["x"], "m", Scale::Learnt)]);
    config.capacity = 1;
    let files = Dir::default();
    files.insert_asset_text(Path::new("bad.memory.ron"), &config.to_ron().unwrap());
    files.insert_asset_text(Path::new("worse.memory.ron"), "this is not RON");
    let mut app = app(&files);
    for (name, words) in [("bad.memory.ron", "`capacity` is 1"), ("worse.memory.ron", "cannot be read")] {
        let handle: Handle<MemoryAsset> = app.world().resource::<AssetServer>().load(name);
        wait(&mut app, |world| matches!(world.resource::<AssetServer>().load_state(&handle), LoadState::Failed(_)));
        let mut failures = app.world_mut().resource_mut::<Messages<AssetLoadFailedEvent<MemoryAsset>>>();
        let error = failures.drain().last().unwrap().error.to_string();
        assert!(error.contains(words) && error.contains(name), "{error}");
    }
}

#[test]
fn the_file_of_the_readme_is_valid() {
    let text = include_str!("../../../assets/memories/walker.memory.ron");
    let layout = MemoryConfig::from_ron(text).unwrap().layout().unwrap();
    assert_eq!(layout.names(), ["position.x", "position.y", "threat.level"]);
}
