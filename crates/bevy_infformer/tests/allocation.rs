//! After warm-up the plugin's systems, and the memories behind them, allocate nothing for their agents.
#![allow(clippy::unwrap_used, clippy::panic)]

use bevy::prelude::*;
use bevy_infformer::infformer::{ChannelGroup, MemoryConfig, Query as MemoryQuery, Scale};
use bevy_infformer::{MemoryAgent, MemoryAsset, MemorySlot, MemorySystems, Observations, Questions, test_app};

/// Every agent sees something and asks something at every tick.
fn look(time: Res<Time>, mut agents: Query<(&mut Observations, &mut Questions)>) {
    for (mut observations, mut questions) in &mut agents {
        observations.push(&[time.elapsed_secs().sin(), 1.0]).unwrap();
        if questions.queries().is_empty() {
            questions.ask(MemoryQuery::from_masked(&[Some(0.5), None]));
        }
    }
}

/// Allocations of each of some updates on this thread, where the memories run too.
fn allocations(app: &mut App) -> Vec<u64> {
    (0..400).for_each(|_| test_app::tick(app));
    (0..64).map(|_| allocation_counter::measure(|| test_app::tick(app)).count_total).collect()
}

/// Allocations of ticks of one app, at least: before it has agents, and of all ticks with 200 of them.
fn before_and_with_agents(memory: &MemoryConfig) -> (u64, Vec<u64>) {
    let mut app = test_app::new();
    app.add_systems(FixedUpdate, look.in_set(MemorySystems::Observe));
    // All systems on this thread: none escapes the count.
    app.edit_schedule(FixedUpdate, |schedule| {
        schedule.set_executor(bevy::ecs::schedule::SingleThreadedExecutor::new());
    });
    let memory = app.world_mut().resource_mut::<Assets<MemoryAsset>>().add(MemoryAsset::Recall(memory.clone()));
    let none = allocations(&mut app).into_iter().min().unwrap();
    (0..200).for_each(|_| _ = app.world_mut().spawn(MemoryAgent::new(memory.clone())));
    let many = allocations(&mut app);
    assert_eq!(app.world_mut().query::<&MemorySlot>().iter(app.world()).count(), 200);
    (none, many)
}

#[test]
fn a_tick_allocates_nothing_for_its_agents() {
    let groups = vec![ChannelGroup::new("seen", &["x", "y"], "", Scale::Given(1.0))];
    for memory in [MemoryConfig::events(groups.clone()), MemoryConfig::trajectory(groups.clone())] {
        let name = memory.forgetting.name();
        // Bevy's own schedules allocate a little, and in some apps one or two more once there are agents: what the plugin
        // allocated, it would in every app.
        let mut apps = 0;
        loop {
            let (none, many) = before_and_with_agents(&memory);
            println!("{name}: {none} allocations without agents, {many:?} with 200");
            // A buffer here and there still comes to its largest size: in fewer than one agent of ten.
            assert!(many.iter().all(|count| *count < none + 20), "{name}: {many:?} allocations a tick");
            if many.iter().any(|count| *count <= none) {
                break;
            }
            apps += 1;
            assert!(apps < 12, "{name}: in no app a tick without an allocation for agents: {many:?}, {none} without");
        }
    }
}
