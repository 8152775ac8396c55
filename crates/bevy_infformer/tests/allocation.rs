//! After warm-up the plugin's systems, and the memories behind them, allocate nothing for their agents.
#![allow(clippy::unwrap_used, clippy::panic)]

use bevy::prelude::*;
use bevy_infformer::infformer::{ChannelGroup, MemoryConfig, Query as MemoryQuery, Scale};
use bevy_infformer::{MemoryAgent, MemoryAsset, MemorySystems, Observations, Questions, test_app};

/// Every agent sees something and asks something at every tick.
fn look(time: Res<Time>, mut agents: Query<(&mut Observations, &mut Questions)>) {
    for (mut observations, mut questions) in &mut agents {
        observations.push(&[time.elapsed_secs().sin(), 1.0]).unwrap();
        if questions.queries().is_empty() {
            questions.ask(MemoryQuery::from_masked(&[Some(0.5), None]));
        }
    }
}

/// Allocations of one update on this thread, where the memories run too, with so many agents.
fn allocations(agents: usize, memory: &MemoryConfig) -> Vec<u64> {
    let mut app = test_app::new();
    app.add_systems(FixedUpdate, look.in_set(MemorySystems::Observe));
    // All systems on this thread: none escapes the count.
    app.edit_schedule(FixedUpdate, |schedule| {
        schedule.set_executor(bevy::ecs::schedule::SingleThreadedExecutor::new());
    });
    let memory = app.world_mut().resource_mut::<Assets<MemoryAsset>>().add(MemoryAsset::Recall(memory.clone()));
    (0..agents).for_each(|_| _ = app.world_mut().spawn(MemoryAgent::new(memory.clone())));
    (0..400).for_each(|_| test_app::tick(&mut app));
    (0..64).map(|_| allocation_counter::measure(|| test_app::tick(&mut app)).count_total).collect()
}

#[test]
fn a_tick_allocates_nothing_for_its_agents() {
    let groups = vec![ChannelGroup::new("seen", &["x", "y"], "", Scale::Given(1.0))];
    for memory in [MemoryConfig::events(groups.clone()), MemoryConfig::trajectory(groups.clone())] {
        // Bevy's own schedules allocate a little, in some apps once a tick more than in others; what they do does not depend
        // on the agents. The app that allocates least tells.
        let least_of_apps = |agents: usize| {
            let apps = (0..4).map(|_| allocations(agents, &memory));
            apps.min_by_key(|ticks| ticks.iter().copied().min()).unwrap()
        };
        let none = least_of_apps(0).into_iter().min().unwrap();
        let many = least_of_apps(200);
        let least = many.iter().min().unwrap();
        println!("{}: {none} allocations without agents, {many:?} with 200", memory.forgetting.name());
        assert!(*least <= none, "{}: {many:?} allocations a tick, {none} without agents", memory.forgetting.name());
        // A buffer here and there still comes to its largest size: in fewer than one agent of ten.
        let most = many.iter().max().unwrap();
        assert!(*most < none + 20, "{}: {many:?} allocations a tick", memory.forgetting.name());
    }
}
