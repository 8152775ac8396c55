//! After warm-up, a tick of one agent allocates nothing; what `Sticky` and `Uniform` need does not grow with history.
#![allow(clippy::unwrap_used, clippy::panic)]

mod agents;

use agents::{every_policy, noise};
use infformer::{Density, Device, Query, Runtime, RuntimeConfig, RuntimeMode};

#[test]
fn a_tick_allocates_nothing_that_grows() {
    let kinds = [
        (Density::Gibbs, RuntimeMode::Inline),
        (Density::Gaussian, RuntimeMode::Inline),
        // The caller's thread, with a worker: what a frame does.
        (Density::Gibbs, RuntimeMode::Lockstep),
    ];
    let configs = kinds.into_iter().flat_map(|kind| every_policy(2).into_iter().map(move |config| (kind, config)));
    for ((density, mode), mut config) in configs {
        config.short_term = 4;
        config.recall.density = density;
        let name = config.forgetting.name();
        let runtime = RuntimeConfig { mode, ..RuntimeConfig::default() };
        let mut runtime = Runtime::new(&config, runtime, &Device::Cpu).unwrap();
        let agent = runtime.spawn();
        let mut queue = runtime.observation_queue();
        let query = [Query::from_masked(&[Some(0.2), None])];
        let mut tick = 0_u64;
        let mut ticks = |count: u64| {
            let info = allocation_counter::measure(|| {
                for _ in 0..count {
                    runtime.receive(|step, _| assert!(step.outcome.is_ok()));
                    queue.push(tick, &[noise(tick as usize), 1.0]).unwrap();
                    runtime.submit(agent, tick, &mut queue, &query).unwrap();
                    runtime.flush();
                    tick += 1;
                }
            });
            (info.count_total, info.bytes_current)
        };
        ticks(2_000);
        let (young, young_kept) = ticks(640);
        ticks(20_000);
        let (old, old_kept) = ticks(640);
        println!(
            "{name}, {density:?}, {mode:?}: {young} allocations in 640 young ticks, {old} in 640 old ones; kept {young_kept}, {old_kept} bytes"
        );
        // `Sticky` makes its sample places, `Uniform` its matrices at every write; its cache of them is bounded.
        match name {
            "Adaptive" | "PowerLaw" | "Geometric" => assert_eq!(old, 0, "{name} allocates"),
            "Uniform" => assert!(old <= 2 * young, "{name}: {old} allocations in 640 ticks"),
            _ => assert!(old <= young, "{name}: {old} allocations in 640 ticks"),
        }
        if !matches!(name, "Uniform") {
            assert_eq!(old_kept, 0, "{name} keeps memory");
        }
    }
}
