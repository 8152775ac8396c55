//! The panel without a window: what it says, what clicks do, and that it never draws a thousand rows.
#![allow(clippy::unwrap_used)]

use bevy::prelude::Entity;
use bevy_egui::egui;
use bevy_infformer::Recall;
use bevy_infformer::infformer::model::{Head, HeadKind, Input, ModelConfig};
use bevy_infformer::infformer::{
    AgentStep, ChannelGroup, Device, Engine, MemoryConfig, Query, RuntimeDiagnostics, Scale, ViewRequest,
};
use bevy_infformer_inspector::query_builder::QuerySource;
use bevy_infformer_inspector::{MemoryInspector, ModelData, PanelData, show};
use egui_kittest::{Harness, kittest::Queryable as _};

/// An engine with one agent that saw a berry at 7 m for 20 ticks, 200 ticks ago.
fn engine() -> (Engine, AgentStep) {
    let groups = vec![
        ChannelGroup::new("kind", &["berry", "nut"], "", Scale::Given(1.0)),
        ChannelGroup::new("position", &["x"], "m", Scale::Given(1.0)),
    ];
    let mut engine = Engine::new(&MemoryConfig::events(groups), &Device::Cpu).unwrap();
    let mut step = AgentStep::new(engine.spawn().unwrap(), engine.layout().clone(), 256);
    for tick in 0..=200 {
        let seen = if tick < 20 { [1.0, 0.0, 7.0] } else { [0.0, 1.0, 0.0] };
        step.observations.push(tick, &seen).unwrap();
    }
    engine.step(std::slice::from_mut(&mut step)).unwrap();
    (engine, step)
}

fn agents(count: u32) -> Vec<Entity> {
    (0..count).map(|index| Entity::from_raw_u32(index).unwrap()).collect()
}

/// The panel over `agents`, with the first selected and its memory at hand.
fn harness(agents: Vec<Entity>) -> Harness<'static, MemoryInspector> {
    let (mut engine, step) = engine();
    let mut inspector = MemoryInspector::default();
    inspector.select(agents[0]);
    let query = Some(Query::from_masked(&[Some(1.0), None, None]));
    let look = |engine: &mut Engine| {
        engine.view(step.agent, &ViewRequest { tick: 200, columns: 64, query: query.clone() }).unwrap()
    };
    inspector.view = Some(Box::new(look(&mut engine)));
    let config = engine.config().clone();
    let layout = engine.layout().clone();
    let diagnostics = RuntimeDiagnostics { agents: agents.len(), batch_size: 17, ..Default::default() };
    let draw = move |ui: &mut egui::Ui, inspector: &mut MemoryInspector| {
        let label = |entity: Entity| format!("agent number {}", entity.index_u32());
        let memory = Some((&config, &*layout, &diagnostics));
        show(ui, inspector, &PanelData { agents: &agents, label: &label, memory, model: None });
    };
    Harness::builder().with_size([440.0, 900.0]).with_max_steps(20).build_ui_state(draw, inspector)
}

#[test]
fn it_tells_what_is_remembered() {
    let mut harness = harness(agents(3));
    harness.run_steps(3);
    assert!(harness.query_by_label("201 observations").is_some());
    assert!(harness.query_by_label("Adaptive").is_some());
    assert!(harness.query_by_label("memory map").is_some());
    assert!(harness.query_by_label("density over age").is_some());
    assert!(harness.query_by_label_contains("confidence 1.00").is_some());
    // The peak, decoded by channel name.
    assert!(harness.query_by_label_contains("kind.berry 1, kind.nut 0, position.x 7 m").is_some());
}

#[test]
fn hovering_the_map_tells_a_value_and_its_age() {
    let mut harness = harness(agents(1));
    harness.run_steps(3);
    let map = harness.get_by_label("memory map").rect();
    // The oldest column, the last row: the place of the berry.
    harness.hover_at(egui::pos2(map.right() - 1.0, map.bottom() - 3.0));
    harness.run_steps(6);
    assert!(harness.query_by_label_contains("7.000 m").is_some());
    assert!(harness.query_all_by_label("3.2 s ago").count() >= 1);
    assert!(harness.query_by_label_contains("resolved to").is_some());
}

#[test]
fn agents_are_searched_and_chosen() {
    let mut harness = harness(agents(1_000));
    harness.run_steps(3);
    assert!(harness.query_by_label("agents: 1000").is_some());
    // Only what is visible is drawn.
    let drawn = harness.query_all_by_label_contains("agent number").count();
    assert!((1..30).contains(&drawn), "{drawn} rows drawn");
    harness.state_mut().agents.search = "number 777".into();
    harness.run_steps(3);
    harness.get_by_label("agent number 777").click();
    harness.run_steps(3);
    assert_eq!(harness.state().selected, Some(Entity::from_raw_u32(777).unwrap()));
    // The look at the other agent is gone with the selection.
    assert!(harness.state().view.is_none());
}

#[test]
fn a_query_is_built_by_ticking_channels() {
    let mut harness = harness(agents(1));
    harness.run_steps(3);
    assert_eq!(harness.state().query.query(), None);
    harness.get_by_label("my own query").click();
    harness.run_steps(3);
    assert_eq!(harness.state().query.source, QuerySource::Own);
    harness.get_by_role_and_label(egui::accesskit::Role::CheckBox, "kind.nut").click();
    harness.run_steps(3);
    assert_eq!(harness.state().query.query(), Some(Query::from_masked(&[None, Some(0.0), None])));
}

#[test]
fn workers_and_short_term_memory_unfold() {
    let mut harness = harness(agents(1));
    harness.run_steps(3);
    assert!(harness.query_by_label("17").is_none());
    harness.get_by_label("workers").click();
    harness.get_by_label_contains("short-term memory").click();
    harness.run_steps(12);
    assert!(harness.query_by_label("17").is_some());
    let newest = harness.query_all_by_label_contains("s: kind.berry 0, kind.nut 1, position.x 0 m").count();
    assert!(newest > 1, "{newest} rows of the short-term memory");
}

/// Not a test of speed, which machines decide: prints how long a frame of the panel takes with 1,000 agents.
/// `cargo test --workspace --test panel -- --ignored --nocapture`
#[test]
#[ignore = "prints a time"]
fn how_long_a_frame_takes() {
    let mut harness = harness(agents(1_000));
    harness.run_steps(30);
    let begun = std::time::Instant::now();
    harness.run_steps(300);
    println!("{:.3} ms a frame, 1,000 agents listed", begun.elapsed().as_secs_f64() * 1e3 / 300.0);
}

/// An agent with a trained model has a part of the panel for itself.
#[test]
fn it_tells_of_a_model() {
    let seen = Input::Token { name: "symbol".into(), vocabulary: 3 };
    let head = Head { name: "answer".into(), kind: HeadKind::Logits { classes: 3 } };
    let config = ModelConfig::new(vec![seen], vec![head]);
    let (recall, diagnostics) = (Recall::default(), RuntimeDiagnostics::default());
    let all = agents(2);
    let mut inspector = MemoryInspector::default();
    inspector.select(all[0]);
    let draw = move |ui: &mut egui::Ui, inspector: &mut MemoryInspector| {
        let label = |entity: Entity| format!("agent number {}", entity.index_u32());
        let model = Some(ModelData { config: &config, recall: &recall, diagnostics: &diagnostics });
        show(ui, inspector, &PanelData { agents: &all, label: &label, memory: None, model });
    };
    let builder = Harness::builder().with_size([440.0, 900.0]).with_max_steps(20);
    let mut harness = builder.build_ui_state(draw, inspector);
    harness.run_steps(3);
    assert!(harness.query_by_label("a model: 2 layers, d = 64, the last 32 ticks and N = 64 for all before").is_some());
    assert!(harness.query_by_label("nothing has left its window yet").is_some());
    assert!(harness.query_by_label("memory map").is_none());
}
