//! The game: the world as a resource, each forager an entity with a memory of its own.

use crate::meadow::{ForagerIndex, GameWorld, observe};
use crate::world::{Rules, TICKS_A_SECOND, World};
use crate::{controls, scene, sighting};
use bevy::prelude::*;
use bevy_egui::EguiGlobalSettings;
use bevy_infformer::infformer::MemoryConfig;
use bevy_infformer::{InfformerPlugin, MemoryAgent, MemoryAsset, MemorySystems, Questions, Recall};
use bevy_infformer_inspector::MemoryInspectorPlugin;

/// Opens the window and plays.
pub fn play() -> AppExit {
    let window = Window { title: "foragers that remember".into(), resolution: (1280, 800).into(), ..default() };
    let mut app = App::new();
    app.add_plugins(DefaultPlugins.set(WindowPlugin { primary_window: Some(window), ..default() }));
    app.add_plugins((Foragers, InfformerPlugin::default()));
    app.run()
}

/// Everything but the way to the screen and the memories' mode.
pub struct Foragers;

impl Plugin for Foragers {
    fn build(&self, app: &mut App) {
        app.insert_resource(GameWorld(World::new(Rules::default(), 0)))
            .insert_resource(Time::<Fixed>::from_hz(f64::from(TICKS_A_SECOND)))
            .insert_resource(EguiGlobalSettings { auto_create_primary_context: false, ..default() })
            .add_plugins((MemoryInspectorPlugin { pick_radius: 4.0 }, scene::ScenePlugin, controls::ControlsPlugin))
            .add_systems(Startup, spawn_foragers)
            .add_systems(FixedUpdate, (act.in_set(MemorySystems::Act), observe.in_set(MemorySystems::Observe)));
    }
}

fn spawn_foragers(world: Res<GameWorld>, mut memories: ResMut<Assets<MemoryAsset>>, mut commands: Commands) {
    let memory = memories.add(MemoryAsset::Recall(sighting::memory(MemoryConfig::events)));
    for forager in 0..world.0.foragers.len() {
        let name = Name::new(format!("forager {}", forager + 1));
        commands.spawn((ForagerIndex(forager), name, MemoryAgent::new(memory.clone()), Transform::default()));
    }
}

/// Reads what came back, walks, and asks again.
fn act(mut world: ResMut<GameWorld>, mut foragers: Query<(&ForagerIndex, Ref<Recall>, &mut Questions)>) {
    for (&ForagerIndex(forager), recall, mut questions) in &mut foragers {
        let craving = world.0.foragers[forager].craving;
        let asked = craving.map(sighting::query);
        let is_answer = recall.is_changed() && asked.as_ref() == recall.asked().first();
        let mut remembered = vec![];
        if let Some(answer) = recall.answer().filter(|_| is_answer) {
            sighting::remembered(answer, &mut remembered);
        }
        world.0.act(forager, is_answer.then_some(&remembered));
        match world.0.wonders(forager) {
            Some(kind) => questions.ask(sighting::query(kind)),
            None => questions.clear(),
        }
    }
}
