//! What a probe finds of memories whose reach is known.
#![allow(clippy::unwrap_used)]

use candle_core::Device;
use infformer_rl::distribution::divergence;
use infformer_rl::environment::ActionSpace;
use infformer_rl::environments::EnvironmentConfig;
use infformer_rl::memories::{MemoryConfig, MemoryName};
use infformer_rl::policy::PolicyConfig;
use infformer_rl::probe::{Dependence, probe};
use std::sync::atomic::AtomicBool;

/// Without a memory only the newest observation counts, with four frames four, with a window and a signal all.
#[test]
fn decisions_depend_on_what_a_memory_reaches() {
    let environment = EnvironmentConfig::parse("repeat-previous-hard").unwrap();
    let make = move || environment.make();
    for (memory, reach) in [(MemoryName::None, 1), (MemoryName::FrameStack, 4), (MemoryName::InfformerAdaptive, 200)] {
        let config = PolicyConfig { clock: Some(16), ..PolicyConfig::new(16, 16, memory.config(8)) };
        let policy = config.init(&config.spaces(&*make()), 1, &Device::Cpu).unwrap();
        let found = probe(&policy, &make, 3, 200, 0, &Device::Cpu, &AtomicBool::new(false)).unwrap().by_age;
        // 155 ticks.
        assert_eq!(found.last().unwrap().ages, 128..=255);
        let whole = |of: &dyn Fn(&Dependence) -> f64| found.iter().map(of).sum::<f64>();
        assert!((whole(&|row| row.gradient) - 1.0).abs() < 1e-5);
        let looked = if memory == MemoryName::InfformerAdaptive { 1.0 } else { 0.0 };
        assert!((whole(&|row| row.looked) - looked).abs() < 1e-5);
        let is_ours = memory == MemoryName::InfformerAdaptive;
        assert!(found.iter().all(|row| row.held.is_some() == is_ours));
        for dependence in &found {
            // Untrained logits are within some hundredths, f32 roundings of them below 1e-8.
            let depends = dependence.divergence > 1e-14;
            assert_eq!(depends, *dependence.ages.start() < reach, "{memory:?} {dependence:?}");
            assert_eq!(dependence.episodes, 3);
            // What is reached is what a gradient reaches; a model looks beyond its window, 32 to 47 ticks back and farther.
            assert_eq!(dependence.gradient > 1e-12, *dependence.ages.start() < reach, "{memory:?} {dependence:?}");
            let beyond = memory == MemoryName::InfformerAdaptive && *dependence.ages.end() >= 32;
            assert_eq!(dependence.looked > 0.0, beyond, "{memory:?} {dependence:?}");
        }
    }
}

/// With a block for each tick all is held, to rounding, whatever its age; with few blocks the window alone is.
#[test]
fn a_memory_holds_what_it_has_blocks_for() {
    let environment = EnvironmentConfig::parse("repeat-previous-hard").unwrap();
    let make = move || environment.make();
    for blocks in [200, 4] {
        let mut memory = MemoryName::InfformerAdaptive.config(0);
        if let MemoryConfig::Transformer { long_term: Some(long_term), .. } = &mut memory {
            long_term.capacity = blocks;
        }
        let config = PolicyConfig { clock: Some(16), ..PolicyConfig::new(16, 16, memory) };
        let policy = config.init(&config.spaces(&*make()), 1, &Device::Cpu).unwrap();
        let found = probe(&policy, &make, 2, 8, 0, &Device::Cpu, &AtomicBool::new(false)).unwrap().by_age;
        for row in &found {
            let held = row.held.unwrap();
            // 155 ticks in 4 blocks of about 28 ticks each, of a clock and suits that change at every tick.
            let is_held = blocks == 200 || *row.ages.end() < 32;
            assert_eq!(held > 1.0 - 1e-5, is_held, "{blocks} blocks: {row:?}");
        }
    }
}

/// Gradients end where they end in training; a memory on functions looks everywhere beyond its window.
#[test]
fn gradients_end_where_training_cuts_them() {
    let environment = EnvironmentConfig::parse("repeat-previous-hard").unwrap();
    let make = move || environment.make();
    let memory = MemoryName::InfformerPowerLaw.config(0);
    let config = PolicyConfig::new(16, 16, memory);
    let policy = config.init(&config.spaces(&*make()), 1, &Device::Cpu).unwrap();
    let found = probe(&policy, &make, 2, 8, 0, &Device::Cpu, &AtomicBool::new(false)).unwrap().by_age;
    for row in &found {
        assert_eq!(row.gradient > 0.0, *row.ages.start() < 8, "{row:?}");
        assert_eq!(row.looked > 0.0, *row.ages.end() >= 32, "{row:?}");
    }
    // The sum of f32 shares.
    assert!((found.iter().map(|row| row.looked).sum::<f64>() - 1.0).abs() < 1e-5);
}

/// A decision depends on a recurrence that is there, and on none that is not.
#[test]
fn decisions_depend_on_a_recurrence() {
    let environment = EnvironmentConfig::parse("repeat-previous-hard").unwrap();
    let make = move || environment.make();
    for memory in [MemoryName::Infformer, MemoryName::InfformerAdaptive, MemoryName::LinearRecurrence] {
        let config = PolicyConfig::new(16, 16, memory.config(8));
        let policy = config.init(&config.spaces(&*make()), 1, &Device::Cpu).unwrap();
        let found = probe(&policy, &make, 2, 8, 0, &Device::Cpu, &AtomicBool::new(false)).unwrap().recurrence;
        // Of a memory that is nothing else, the ages tell. Roundings are below 1e-14, as above.
        assert_eq!(found.is_some(), memory == MemoryName::Infformer, "{memory:?} {found:?}");
        assert!(found.is_none_or(|nats| nats > 1e-14), "{found:?}");
    }
}

/// Against the definition, by sums and by an integral.
#[test]
fn divergences_are_those_of_their_distributions() {
    let (from, to) = ([0.3f32, -1.0, 2.0], [1.0f32, 0.5, -0.2]);
    let masses = |said: &[f32]| {
        let whole: f64 = said.iter().map(|logit| f64::from(*logit).exp()).sum();
        said.iter().map(|logit| f64::from(*logit).exp() / whole).collect::<Vec<f64>>()
    };
    let expected: f64 = masses(&from).iter().zip(masses(&to)).map(|(p, q)| p * (p / q).ln()).sum();
    assert!((divergence(ActionSpace::Discrete(3), &from, &to) - expected).abs() < 1e-12);
    // Of two independent choices: the sum.
    let twice = |said: &[f32; 3]| [said.as_slice(), said].concat();
    let found = divergence(ActionSpace::MultiDiscrete(&[3, 3]), &twice(&from), &twice(&to));
    assert!((found - 2.0 * expected).abs() < 1e-12);
    let density = |said: [f32; 2], x: f64| {
        let (mean, spread) = (f64::from(said[0]), f64::from(said[1]).exp());
        (-0.5 * ((x - mean) / spread).powi(2)).exp() / spread / std::f64::consts::TAU.sqrt()
    };
    let (from, to) = ([0.3f32, -0.5], [-0.4f32, 0.2]);
    let step = 1e-3;
    let at = |i: i32| {
        let x = f64::from(i) * step;
        density(from, x) * (density(from, x) / density(to, x)).ln() * step
    };
    let expected: f64 = (-8_000..8_000).map(at).sum();
    assert!((divergence(ActionSpace::Continuous(1), &from, &to) - expected).abs() < 1e-6);
}
