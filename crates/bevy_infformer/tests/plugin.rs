//! The plugin in a headless app: agents come, go, are cloned, reset, reloaded, and outlive a failing worker.
#![allow(clippy::unwrap_used, clippy::panic)]

use bevy::diagnostic::DiagnosticsStore;
use bevy::ecs::message::Messages;
use bevy::prelude::*;
use bevy_infformer::infformer::{
    ChannelGroup, LoadedClock, MemoryConfig, Query as MemoryQuery, RuntimeConfig, RuntimeMode, Scale, ViewRequest,
};
use bevy_infformer::{
    Memories, MemoryAgent, MemoryAsset, MemoryFailure, MemorySlot, MemorySystems, MemoryTick, Observations, Questions,
    Recall, ResetMemory, diagnostics, test_app,
};

fn memory() -> MemoryConfig {
    MemoryConfig::events(vec![ChannelGroup::new("seen", &["kind", "place"], "", Scale::Given(1.0))])
}

fn app_with_agent(mode: RuntimeMode) -> (App, Entity) {
    let mut app = test_app::with_runtime(RuntimeConfig { mode, ..default() });
    let agent = test_app::spawn_agent(&mut app, memory());
    test_app::tick(&mut app);
    (app, agent)
}

fn see(app: &mut App, agent: Entity, kind: f32, place: f32) {
    app.world_mut().get_mut::<Observations>(agent).unwrap().push(&[kind, place]).unwrap();
    test_app::tick(app);
}

/// Asks for a kind and gives the place and the age of the answer.
fn ask(app: &mut App, agent: Entity, kind: f32) -> Option<(f32, f32)> {
    app.world_mut().get_mut::<Questions>(agent).unwrap().ask(MemoryQuery::from_masked(&[Some(kind), None]));
    test_app::tick(app);
    app.world_mut().get_mut::<Questions>(agent).unwrap().clear();
    test_app::tick(app);
    let recall = app.world().get::<Recall>(agent).unwrap();
    recall.value().get(1).map(|place| (*place, recall.age()))
}

#[test]
fn an_answer_comes_one_tick_later() {
    for mode in [RuntimeMode::Inline, RuntimeMode::Lockstep] {
        let (mut app, agent) = app_with_agent(mode);
        see(&mut app, agent, 1.0, 7.0);
        (0..200).for_each(|_| see(&mut app, agent, 5.0, 0.0));
        app.world_mut().get_mut::<Questions>(agent).unwrap().ask(MemoryQuery::from_masked(&[Some(1.0), None]));
        test_app::tick(&mut app);
        assert!(app.world().get::<Recall>(agent).unwrap().answer().is_none());
        test_app::tick(&mut app);
        let recall = app.world().get::<Recall>(agent).unwrap();
        assert_eq!((recall.late, recall.error.as_deref()), (0, None));
        assert!((recall.value()[1] - 7.0).abs() < 1e-3, "{recall:?}");
        assert!((recall.age() - 201.0).abs() < 1.0, "{}", recall.age());
        assert!(recall.confidence() > 0.99);
    }
}

#[test]
fn the_tick_runs_in_order() {
    #[derive(Resource, Default)]
    struct Order(Vec<&'static str>);
    let (mut app, _) = app_with_agent(RuntimeMode::Inline);
    app.init_resource::<Order>();
    for (set, name) in [
        (MemorySystems::Submit, "submit"),
        (MemorySystems::Observe, "observe"),
        (MemorySystems::Act, "act"),
        (MemorySystems::Recall, "recall"),
    ] {
        app.add_systems(FixedUpdate, (move |mut order: ResMut<Order>| order.0.push(name)).in_set(set));
    }
    test_app::tick(&mut app);
    assert_eq!(app.world().resource::<Order>().0, ["recall", "act", "observe", "submit"]);
}

#[test]
fn a_reset_empties_one_memory_only() {
    let (mut app, agent) = app_with_agent(RuntimeMode::Lockstep);
    let handle = app.world().get::<MemoryAgent>(agent).unwrap().memory.clone();
    let other = app.world_mut().spawn(MemoryAgent::new(handle)).id();
    test_app::tick(&mut app);
    for _ in 0..30 {
        app.world_mut().get_mut::<Observations>(other).unwrap().push(&[1.0, 3.0]).unwrap();
        see(&mut app, agent, 1.0, 4.0);
    }
    // Seen, but not yet submitted when the reset comes.
    app.world_mut().get_mut::<Observations>(agent).unwrap().push(&[1.0, 9.0]).unwrap();
    app.world_mut().trigger(ResetMemory { entity: agent });
    app.world_mut().flush();
    assert_eq!(ask(&mut app, agent, 1.0), None);
    assert!((ask(&mut app, other, 1.0).unwrap().0 - 3.0).abs() < 1e-3);
    // Resetting what has no memory is no error.
    let stone = app.world_mut().spawn_empty().id();
    app.world_mut().trigger(ResetMemory { entity: stone });
}

/// An answer that was on its way when the memory was emptied does not come back.
#[test]
fn a_reset_reaches_answers_on_their_way() {
    for mode in [RuntimeMode::Inline, RuntimeMode::Lockstep] {
        let (mut app, agent) = app_with_agent(mode);
        see(&mut app, agent, 1.0, 4.0);
        app.world_mut().get_mut::<Questions>(agent).unwrap().ask(MemoryQuery::from_masked(&[Some(1.0), None]));
        test_app::tick(&mut app);
        app.world_mut().get_mut::<Questions>(agent).unwrap().clear();
        app.world_mut().trigger(ResetMemory { entity: agent });
        (0..3).for_each(|_| test_app::tick(&mut app));
        assert!(app.world().get::<Recall>(agent).unwrap().answer().is_none());
    }
}

/// The default mode: nobody waits, and the answer comes all the same.
#[test]
fn free_running_answers_in_its_own_time() {
    let (mut app, agent) = app_with_agent(RuntimeMode::FreeRunning);
    (0..50).for_each(|_| see(&mut app, agent, 1.0, 4.0));
    let handle = app.world().get::<MemoryAgent>(agent).unwrap().memory.clone();
    let doomed = app.world_mut().spawn(MemoryAgent::new(handle)).id();
    test_app::tick(&mut app);
    for entity in [agent, doomed] {
        app.world_mut().get_mut::<Questions>(entity).unwrap().ask(MemoryQuery::from_masked(&[Some(1.0), None]));
    }
    test_app::tick(&mut app);
    app.world_mut().despawn(doomed);
    for _ in 0..10_000 {
        test_app::tick(&mut app);
        if app.world().get::<Recall>(agent).unwrap().answer().is_some() {
            break;
        }
        std::thread::yield_now();
    }
    assert!((app.world().get::<Recall>(agent).unwrap().value()[1] - 4.0).abs() < 1e-3);
}

/// A question that makes no sense is refused; what was seen at the same tick is remembered.
#[test]
fn a_bad_question_costs_no_observation() {
    let (mut app, agent) = app_with_agent(RuntimeMode::Lockstep);
    app.world_mut().get_mut::<Questions>(agent).unwrap().ask(MemoryQuery::from_masked(&[None, None, Some(1.0)]));
    see(&mut app, agent, 1.0, 4.0);
    assert!(app.world().get::<Recall>(agent).unwrap().error.as_deref().unwrap().contains("the query has 3"));
    assert!((ask(&mut app, agent, 1.0).unwrap().0 - 4.0).abs() < 1e-3);
}

/// A clone, a despawn or a replacement in the very tick of the attachment.
#[test]
fn an_agent_may_go_in_the_tick_in_which_it_comes() {
    let (mut app, agent) = app_with_agent(RuntimeMode::Inline);
    let handle = app.world().get::<MemoryAgent>(agent).unwrap().memory.clone();
    let doom = |new: Query<Entity, (With<MemoryAgent>, Without<MemorySlot>)>, mut commands: Commands| {
        new.iter().for_each(|entity| commands.entity(entity).despawn());
    };
    app.add_systems(FixedUpdate, doom.in_set(MemorySystems::Recall));
    for _ in 0..10 {
        app.world_mut().spawn(MemoryAgent::new(handle.clone()));
        test_app::tick(&mut app);
    }
    (0..2).for_each(|_| test_app::tick(&mut app));
    let living = app.world_mut().query::<&MemoryAgent>().iter(app.world()).count();
    let agents: usize = app.world().resource::<Memories>().runtimes().map(|runtime| runtime.diagnostics().agents).sum();
    assert_eq!(agents, living);
}

#[test]
fn agents_come_and_go_at_any_time() {
    for mode in [RuntimeMode::Inline, RuntimeMode::Lockstep] {
        let (mut app, agent) = app_with_agent(mode);
        see(&mut app, agent, 1.0, 4.0);
        app.world_mut().get_mut::<Questions>(agent).unwrap().ask(MemoryQuery::from_masked(&[Some(1.0), None]));
        test_app::tick(&mut app);
        // Its reply is on its way now.
        let handle = app.world().get::<MemoryAgent>(agent).unwrap().memory.clone();
        app.world_mut().despawn(agent);
        let heir = app.world_mut().spawn(MemoryAgent::new(handle)).id();
        test_app::tick(&mut app);
        test_app::tick(&mut app);
        assert_eq!(ask(&mut app, heir, 1.0), None, "the heir knows what the dead saw");
        let agents: usize =
            app.world().resource::<Memories>().runtimes().map(|runtime| runtime.diagnostics().agents).sum();
        assert_eq!(agents, 1);
        // Without the component there is no memory; with it again, an empty one.
        see(&mut app, heir, 1.0, 2.0);
        let handle = app.world().get::<MemoryAgent>(heir).unwrap().memory.clone();
        app.world_mut().entity_mut(heir).remove::<MemoryAgent>();
        assert!(app.world().get::<MemorySlot>(heir).is_none());
        test_app::tick(&mut app);
        app.world_mut().entity_mut(heir).insert(MemoryAgent::new(handle));
        test_app::tick(&mut app);
        assert_eq!(ask(&mut app, heir, 1.0), None);
    }
}

#[test]
fn a_clone_remembers_nothing_and_a_child_everything() {
    let (mut app, agent) = app_with_agent(RuntimeMode::Inline);
    (0..30).for_each(|_| see(&mut app, agent, 1.0, 4.0));
    let clone = app.world_mut().entity_mut(agent).clone_and_spawn();
    test_app::tick(&mut app);
    assert_ne!(
        app.world().get::<MemorySlot>(clone).unwrap().agent(),
        app.world().get::<MemorySlot>(agent).unwrap().agent()
    );
    assert_eq!(ask(&mut app, clone, 1.0), None);
    let parent = app.world_mut().spawn_empty().id();
    app.world_mut().entity_mut(parent).add_child(agent);
    assert!((ask(&mut app, agent, 1.0).unwrap().0 - 4.0).abs() < 1e-3);
    app.world_mut().entity_mut(parent).despawn();
    test_app::tick(&mut app);
    let agents: usize = app.world().resource::<Memories>().runtimes().map(|runtime| runtime.diagnostics().agents).sum();
    assert_eq!(agents, 1);
}

#[test]
fn a_failed_worker_is_reported_and_restarted() {
    let (mut app, agent) = app_with_agent(RuntimeMode::Lockstep);
    (0..30).for_each(|_| see(&mut app, agent, 1.0, 4.0));
    app.world_mut().resource_scope(|world, mut memories: Mut<Memories>| {
        memories.inject_failure(world.get::<MemorySlot>(agent).unwrap()).unwrap();
    });
    see(&mut app, agent, 1.0, 4.0);
    test_app::tick(&mut app);
    let messages: Vec<MemoryFailure> = app.world_mut().resource_mut::<Messages<MemoryFailure>>().drain().collect();
    assert_eq!(messages, [MemoryFailure { message: "asked to fail".into() }]);
    assert!(app.world().get::<Recall>(agent).unwrap().error.as_deref().unwrap().contains("asked to fail"));
    see(&mut app, agent, 2.0, 8.0);
    assert_eq!(app.world().get::<Observations>(agent).unwrap().waiting(), 1);
    assert_eq!(app.world_mut().resource_mut::<Memories>().restart().unwrap(), 0);
    test_app::tick(&mut app);
    assert!((ask(&mut app, agent, 1.0).unwrap().0 - 4.0).abs() < 1e-3);
    assert!((ask(&mut app, agent, 2.0).unwrap().0 - 8.0).abs() < 1e-3, "what waited was lost");
    assert_eq!(app.world().get::<Recall>(agent).unwrap().error, None);
}

#[test]
fn a_changed_asset_keeps_memories_of_the_same_shape() {
    let (mut app, agent) = app_with_agent(RuntimeMode::Lockstep);
    (0..30).for_each(|_| see(&mut app, agent, 1.0, 4.0));
    let handle = app.world().get::<MemoryAgent>(agent).unwrap().memory.clone();
    let change = |app: &mut App, change: &dyn Fn(&mut MemoryConfig)| {
        let mut assets = app.world_mut().resource_mut::<Assets<MemoryAsset>>();
        let mut config = assets.get(&handle).unwrap().recall().unwrap().clone();
        change(&mut config);
        *assets.get_mut(&handle).unwrap() = MemoryAsset::Recall(config);
        (0..3).for_each(|_| test_app::tick(app));
    };
    change(&mut app, &|config| config.recall.sharpness = 30.0);
    let sharpness = app.world().resource::<Memories>().runtimes().next().unwrap().memory().unwrap().recall.sharpness;
    assert_eq!(sharpness, 30.0);
    assert!((ask(&mut app, agent, 1.0).unwrap().0 - 4.0).abs() < 1e-3);
    // An invalid one is refused, and the old one goes on.
    change(&mut app, &|config| config.capacity = 0);
    let failures: Vec<_> = app.world_mut().resource_mut::<Messages<MemoryFailure>>().drain().collect();
    assert!(failures[0].message.contains("`capacity` is 0"), "{failures:?}");
    assert!((ask(&mut app, agent, 1.0).unwrap().0 - 4.0).abs() < 1e-3);
    // Another shape cannot hold the old memory: it begins anew and says so.
    change(&mut app, &|config| config.capacity = 32);
    let failures: Vec<_> = app.world_mut().resource_mut::<Messages<MemoryFailure>>().drain().collect();
    assert!(failures[0].message.contains("begins with an empty memory"), "{failures:?}");
    assert_eq!(ask(&mut app, agent, 1.0), None);
    see(&mut app, agent, 1.0, 6.0);
    assert!((ask(&mut app, agent, 1.0).unwrap().0 - 6.0).abs() < 1e-3);
}

#[test]
fn memories_are_saved_looked_at_and_measured() {
    let (mut app, agent) = app_with_agent(RuntimeMode::Lockstep);
    (0..30).for_each(|_| see(&mut app, agent, 1.0, 4.0));
    let saved = app.world_mut().resource_scope(|world, mut memories: Mut<Memories>| {
        memories.save(world.get::<MemorySlot>(agent).unwrap()).unwrap()
    });
    app.world_mut().trigger(ResetMemory { entity: agent });
    app.world_mut().resource_scope(|world, mut memories: Mut<Memories>| {
        let slot = world.get::<MemorySlot>(agent).unwrap();
        assert!(memories.load(slot, vec![0; 64], LoadedClock::Kept).is_err());
        memories.load(slot, saved.clone(), LoadedClock::Kept).unwrap();
        let request = ViewRequest { tick: 31, columns: 16, query: Some(MemoryQuery::from_masked(&[Some(1.0), None])) };
        memories.request_view(slot, request).unwrap();
        // Between ticks, as in a paused game.
        let view =
            std::iter::repeat_with(|| memories.take_view(slot)).take(10_000_000).flatten().next().unwrap().unwrap();
        assert_eq!((view.observations, view.ages.len(), view.values.len()), (30, 16, 32));
        assert!((view.answer.unwrap().value[1] - 4.0).abs() < 1e-3);
    });
    assert!((ask(&mut app, agent, 1.0).unwrap().0 - 4.0).abs() < 1e-3);
    // A new session: its ticks begin anew, and what was saved is of just now.
    let (mut next, heir) = app_with_agent(RuntimeMode::Lockstep);
    next.world_mut().resource_scope(|world, mut memories: Mut<Memories>| {
        let now = world.resource::<MemoryTick>().0;
        memories.load(world.get::<MemorySlot>(heir).unwrap(), saved, LoadedClock::NewestAt(now)).unwrap();
    });
    see(&mut next, heir, 2.0, 8.0);
    let (place, age) = ask(&mut next, heir, 1.0).unwrap();
    assert!((place - 4.0).abs() < 1e-3 && age < 33.0, "{place} {age}");
    assert!((ask(&mut next, heir, 2.0).unwrap().0 - 8.0).abs() < 1e-3);
    let store = app.world().resource::<DiagnosticsStore>();
    assert_eq!(store.get(&diagnostics::COALESCED).unwrap().value(), Some(0.0));
    assert_eq!(store.get(&diagnostics::BATCH_SIZE).unwrap().value(), Some(1.0));
    assert!(store.get(&diagnostics::STEP_TIME).unwrap().value().unwrap() >= 0.0);
}

#[test]
fn an_agent_without_its_asset_waits_and_counts() {
    let mut app = test_app::new();
    let handle = app.world().resource::<Assets<MemoryAsset>>().reserve_handle();
    let agent = app.world_mut().spawn(MemoryAgent::new(handle.clone())).id();
    test_app::tick(&mut app);
    app.world_mut().get_mut::<Observations>(agent).unwrap().push(&[1.0, 2.0]).unwrap();
    assert_eq!(app.world().get::<Observations>(agent).unwrap().before_memory(), 1);
    app.world_mut().resource_mut::<Assets<MemoryAsset>>().insert(&handle, MemoryAsset::Recall(memory())).unwrap();
    test_app::tick(&mut app);
    see(&mut app, agent, 1.0, 2.0);
    assert!(ask(&mut app, agent, 1.0).is_some());
    let error = app.world_mut().get_mut::<Observations>(agent).unwrap().push(&[f32::NAN, 2.0]).unwrap_err();
    assert!(error.to_string().contains("seen.kind"), "{error}");
}
