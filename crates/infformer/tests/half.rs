//! States in f16: what they lose, and what they do not.
#![allow(clippy::unwrap_used)]

use infformer::{
    AgentId, AgentStep, ChannelGroup, Device, Engine, Error, Forgetting, LoadedClock, MemoryConfig, Scale,
    StatePrecision,
};

fn groups() -> Vec<ChannelGroup> {
    vec![ChannelGroup::new("g", &["x", "y"], "", Scale::Given(1.0))]
}

fn half(config: MemoryConfig) -> MemoryConfig {
    MemoryConfig { state: StatePrecision::Half, ..config }
}

fn live(config: &MemoryConfig, scale: f32) -> (Engine, AgentId) {
    let mut engine = Engine::new(config, &Device::Cpu).unwrap();
    let agent = engine.spawn().unwrap();
    let mut step = AgentStep::new(agent, engine.layout().clone(), 2);
    for tick in 0..2_000 {
        // Changes now and then, by far more than f16 rounds: which blocks merge does not hang on it.
        let place = (tick / 100) as f32;
        step.observations.push(tick, &[scale * (place * 0.7).sin(), scale * (place % 3.0)]).unwrap();
        engine.step(std::slice::from_mut(&mut step)).unwrap();
    }
    (engine, agent)
}

/// Rounding is to 11 bits at every write, and a value is written a hundred times before it is old here.
#[test]
fn signals_are_nearly_the_same() {
    for config in [MemoryConfig::trajectory(groups()), MemoryConfig::events(groups())] {
        let [single, half] = [&config, &half(config.clone())].map(|config| {
            let (mut engine, agent) = live(config, 1.0);
            let ages = [0.0, 50.0, 250.0, 850.0];
            ages.map(|age| engine.signal_at(agent, age).unwrap().unwrap())
        });
        for (single, half) in single.iter().flatten().zip(half.iter().flatten()) {
            assert!((single - half).abs() < 0.05 && half.abs() < 3.0, "{single} {half}");
        }
    }
}

/// A state of either precision goes into the other, and bytes tell the same.
#[test]
fn states_move_between_precisions() {
    for config in [MemoryConfig::trajectory(groups()), MemoryConfig::events(groups())] {
        let (mut from, agent) = live(&half(config.clone()), 1.0);
        let saved = from.save(agent).unwrap();
        let mut single = Engine::new(&config, &Device::Cpu).unwrap();
        let there = single.spawn().unwrap();
        single.load(there, &saved, LoadedClock::Kept).unwrap();
        assert_eq!(single.coefficients(there).unwrap(), from.coefficients(agent).unwrap());
        from.load(agent, &single.save(there).unwrap(), LoadedClock::Kept).unwrap();
        assert_eq!(from.save(agent).unwrap(), saved);
    }
}

/// What is too large becomes the largest, and no infinity spoils the rest.
#[test]
fn large_values_stay_numbers() {
    for config in [MemoryConfig::trajectory(groups()), MemoryConfig::events(groups())] {
        let (mut engine, agent) = live(&half(config), 1e6);
        let coefficients = engine.coefficients(agent).unwrap();
        assert!(coefficients.iter().all(|value| value.abs() <= 65_504.0));
        assert!(coefficients.iter().any(|value| value.abs() > 60_000.0));
    }
}

#[test]
fn uniform_needs_more_bits() {
    let config = half(MemoryConfig { forgetting: Forgetting::Uniform, ..MemoryConfig::lifetime(groups()) });
    let refused = Engine::new(&config, &Device::Cpu);
    assert!(matches!(refused, Err(Error::Configuration { field, .. }) if field == "state"));
}
