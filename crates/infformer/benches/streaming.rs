//! The parts of a tick, one by one, with confidence intervals and a comparison with the run before:
//! `cargo bench -p infformer --bench streaming`.
#![allow(clippy::unwrap_used, missing_docs)]

mod scenes;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use scenes::{CAPACITY, CHUNK, Crowd, Policy, config};
use std::cell::RefCell;

/// A part of a tick: its name, whose, and what is prepared before it is timed.
type Part = (&'static str, Policy, fn(&mut Crowd));

fn streaming(criterion: &mut Criterion) {
    let parts: [Part; 6] = [
        ("power law, write of 16", Policy::Linear, |crowd| crowd.observe(CHUNK, |_| true)),
        ("power law, read", Policy::Linear, |crowd| crowd.ask(1)),
        ("power law, tick", Policy::Linear, |crowd| {
            crowd.ask(1);
            crowd.observe(1, |_| true);
        }),
        ("adaptive, push", Policy::Adaptive, |crowd| crowd.observe(1, |_| true)),
        ("adaptive, read", Policy::Adaptive, |crowd| crowd.ask(1)),
        ("adaptive, tick", Policy::Adaptive, |crowd| {
            crowd.ask(1);
            crowd.observe(1, |_| true);
        }),
    ];
    for (name, policy, prepare) in parts {
        let mut group = criterion.benchmark_group(name);
        for agents in [1, 64, 1_024, 10_000] {
            group.throughput(Throughput::Elements(agents as u64));
            group.sample_size(if agents > 1_000 { 20 } else { 100 });
            let crowd = RefCell::new(Crowd::new(&config(policy, CAPACITY, 32), agents, 160));
            group.bench_function(BenchmarkId::from_parameter(agents), |bencher| {
                let setup = || prepare(&mut crowd.borrow_mut());
                bencher.iter_batched(setup, |()| crowd.borrow_mut().run(), BatchSize::PerIteration);
            });
        }
    }
}

criterion_group!(benches, streaming);
criterion_main!(benches);
