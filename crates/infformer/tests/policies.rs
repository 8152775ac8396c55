//! The algebra of the forgetting policies, each against the slow reference or a law that it must keep.
#![allow(clippy::unwrap_used, clippy::panic)]

mod agents;

use agents::{Agent, every_policy, noise};
use infformer::basis::{Basis, BasisKind};
use infformer::forgetting::{AdaptiveRule, Placement, Projection, TimeAxis};
use infformer::{Forgetting, MemoryConfig, projection, reference};
use nalgebra::DVector;
use proptest::prelude::*;

fn is_linear(config: &MemoryConfig) -> bool {
    !matches!(config.forgetting, Forgetting::Adaptive(_))
}

/// An agent after a stream of one channel.
fn after(config: &MemoryConfig, stream: impl Iterator<Item = f32>) -> Agent {
    let mut agent = Agent::new(config);
    stream.enumerate().for_each(|(tick, value)| agent.see(tick as u64, &[value]));
    agent
}

/// The most that a single fit of the constant 1 is off.
fn misses_of_a_constant(basis: &Basis) -> f32 {
    let fitted = reference::fit(basis, 1e-6, |_| 1.0).unwrap();
    let off = |i: usize| (reference::evaluate(basis, fitted.as_slice(), (i as f64 + 0.5) / 512.0) - 1.0).abs();
    (0..512).map(off).fold(0.0, f64::max) as f32
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// The memory of a·x + b·y is a × the memory of x + b × the memory of y.
    #[test]
    fn linear_policies_are_linear(seed in 0_usize..1_000, a in -2.0_f32..2.0, b in -2.0_f32..2.0) {
        for config in every_policy(1).iter().filter(|config| is_linear(config)) {
            let x = |i: usize| noise(2 * i + 1_000 * seed);
            let y = |i: usize| noise(2 * i + 1 + 1_000 * seed);
            let coefficients = |stream: &dyn Fn(usize) -> f32| {
                let mut agent = after(config, (0..64).map(stream));
                agent.engine.coefficients(agent.id()).unwrap()
            };
            let (of_x, of_y) = (coefficients(&x), coefficients(&y));
            let of_sum = coefficients(&|i| a * x(i) + b * y(i));
            let size = of_x.iter().chain(&of_y).fold(1.0_f32, |most, value| most.max(value.abs()));
            for row in 0..config.capacity {
                // Rounding: 64 products of f32 a coefficient and write, 16 writes; the RBF fits scale it by the size
                // of their coefficients.
                let difference = of_sum[2 * row] - a * of_x[2 * row] - b * of_y[2 * row];
                prop_assert!(difference.abs() < 64.0 * 16.0 * f32::EPSILON * size, "{:?}: {difference}", config.forgetting);
            }
        }
    }

    /// Whoever sees nothing but c remembers nothing but c, at every age that it lived.
    #[test]
    fn a_constant_stays_that_constant(c in -10.0_f32..10.0, length in 8_usize..200) {
        // The published placement reads the signal at t = 0, where the published first fit has seen no point.
        let quirk = |c: &MemoryConfig| matches!(c.forgetting, Forgetting::Sticky { placement: Placement::LeftEdge, .. });
        for config in every_policy(1).into_iter().filter(|config| !quirk(config)) {
            let mut agent = after(&config, (0..length).map(|_| c));
            let written = length / config.chunk * config.chunk;
            // Each write adds at most what one fit of a constant misses (nothing but the ridge of 1e-6 and rounding, but
            // for normal densities, which can say a constant only nearly).
            let missed = match &config.forgetting {
                Forgetting::Adaptive(_) => 0.0,
                forgetting => misses_of_a_constant(&Basis::new(forgetting.basis(), config.capacity).unwrap()),
            };
            // That would let anything pass after many writes: the oldest end of a memory on normal densities really loses
            // about a tenth, and no more is let through than a seventh.
            let tolerance = 1e-5 + (missed * (written / config.chunk) as f32).min(1.0 / 7.0);
            for age in 0..written {
                let value = agent.engine.signal_at(agent.id(), age as f64).unwrap().unwrap()[0];
                prop_assert!((value - c).abs() <= tolerance * c.abs() + 1e-6, "{:?} age {age} of {written}: {value} for {c}", config.forgetting);
            }
        }
    }

    /// Blocks' means are the true means of their spans, whatever was merged.
    #[test]
    fn means_are_true_means(seed in 0_usize..1_000, length in 17_usize..400) {
        let mut config = every_policy(3).pop().unwrap();
        config.capacity = 8;
        let mut agent = Agent::new(&config);
        let stream: Vec<Vec<f32>> = (0..length).map(|i| (0..3).map(|c| noise(seed * 7_919 + 3 * i + c)).collect()).collect();
        stream.iter().enumerate().for_each(|(tick, values)| agent.see(tick as u64, values));
        let mut age = 0;
        while age < length {
            let value = agent.engine.signal_at(agent.id(), age as f64).unwrap().unwrap();
            // A block ends where the value changes.
            let mut end = age + 1;
            while end < length && agent.engine.signal_at(agent.id(), end as f64).unwrap().unwrap() == value {
                end += 1;
            }
            for (channel, value) in value.iter().enumerate() {
                let span = &stream[length - end..length - age];
                let mean = span.iter().map(|values| f64::from(values[channel])).sum::<f64>() / span.len() as f64;
                // One rounding a merge, at most one merge an observation.
                prop_assert!((f64::from(*value) - mean).abs() < f64::from(f32::EPSILON) * span.len() as f64, "{value} {mean}");
            }
            age = end;
        }
    }

    /// The fast blocks merge what the plain ones merge.
    #[test]
    fn adaptive_is_its_reference(seed in 0_usize..1_000, mix in 0.0_f64..0.1, tolerance in 0.0_f64..0.1) {
        let rule = AdaptiveRule { mix, tolerance, ..AdaptiveRule::default() };
        let mut config = every_policy(2).pop().unwrap();
        config.forgetting = Forgetting::Adaptive(rule);
        let mut agent = Agent::new(&config);
        let mut blocks = reference::Blocks::new(rule, config.capacity);
        let (mut count, mut mean, mut variance) = (0.0, [0.0; 2], [0.0; 2]);
        for i in 0..300 {
            // Steps of random length, with noise: merges of very different worth.
            let values = [noise(seed + i / 17) + 0.1 * noise(5 * i), noise(seed + i / 5)];
            count += 1.0;
            for channel in 0..2 {
                let value = f64::from(values[channel]);
                let before = value - mean[channel];
                mean[channel] += before / count;
                variance[channel] += (before * (value - mean[channel]) - variance[channel]) / count;
            }
            agent.see(i as u64, &values);
            let found = agent.engine.coefficients(agent.id()).unwrap();
            // Values are within 1.1. A mean has one rounding a merge, at most one merge an observation; so have the numbers of
            // a cost.
            let slack = 300.0 * f64::from(f32::EPSILON);
            let possible = blocks.after(&values.map(f64::from), (variance[0] + variance[1]) / 2.0, slack);
            let choices = possible.len();
            let done = possible.into_iter().find(|blocks| {
                // A row ends with the interval.
                blocks.blocks().zip(found.chunks(values.len() + 1)).all(|((mean, _), row)| {
                    mean.iter().zip(row).all(|(mean, found)| (mean - f64::from(*found)).abs() < slack)
                })
            });
            prop_assert!(done.is_some(), "observation {i}: none of {choices} possible merges was done");
            blocks = done.unwrap();
        }
        prop_assert_eq!(blocks.blocks().count(), config.capacity);
        let mut age = 0.0;
        for (expected, length) in blocks.blocks().collect::<Vec<_>>().iter().rev() {
            let middle = age + (length / 2.0).floor();
            let value = agent.engine.signal_at(agent.id(), middle).unwrap().unwrap();
            for channel in 0..2 {
                prop_assert!((f64::from(value[channel]) - expected[channel]).abs() < 1e-5, "age {middle}: {value:?} {expected:?}");
            }
            age += length;
        }
    }
}

/// A and C mean: squeeze or shift the signal, append the chunk, fit again. Against a dense fit on 20,000 points.
#[test]
fn a_write_is_a_fit_of_the_moved_signal() {
    let (count, chunk, ridge) = (16, 4, 1e-6);
    let kinds =
        [BasisKind::GaussianRbf { widths: vec![0.05, 0.1] }, BasisKind::Cosine, BasisKind::Legendre, BasisKind::Bins];
    for kind in kinds {
        let basis = Basis::new(&kind, count).unwrap();
        let operator = projection::geometric(&basis, 0.75, chunk, Projection::Exact { ridge }).unwrap();
        compare_write(&basis, TimeAxis::Geometric { tau: 0.75, chunk }, &operator, ridge, 40);
        let operator = projection::power_law(&basis, 16.0, 2_000.0, chunk).unwrap();
        compare_write(&basis, TimeAxis::PowerLaw { resolution: 16.0, horizon: 2_000.0 }, &operator, 1e-10, 40);
    }
    let legendre = Basis::new(&BasisKind::Legendre, count).unwrap();
    for chunks in [1, 2, 10, 1_000] {
        let operator = projection::uniform(&legendre, chunks, chunk);
        compare_write(&legendre, TimeAxis::Uniform, &operator, 0.0, chunks * chunk as u64);
    }
}

fn compare_write(basis: &Basis, axis: TimeAxis, operator: &projection::Operator, ridge: f64, written: u64) {
    let before = DVector::from_fn(basis.count(), |i, _| f64::from(noise(i)));
    let chunk = DVector::from_fn(operator.chunk.ncols(), |i, _| f64::from(noise(100 + i)));
    let fast = &operator.past * &before + &operator.chunk * &chunk;
    let moved = reference::signal_after_write(
        axis,
        |t| reference::evaluate(basis, before.as_slice(), t),
        chunk.as_slice(),
        written,
    );
    let slow = reference::fit(basis, ridge, moved).unwrap();
    // The two are compared as signals: the midpoint rule misplaces each of the few steps by up to half of 1/20,000,
    // which a nearly singular RBF Gram matrix turns into a larger error of single coefficients.
    let difference = &fast - &slow;
    let norm = |c: &DVector<f64>| {
        let squares = (0..512).map(|i| reference::evaluate(basis, c.as_slice(), (i as f64 + 0.5) / 512.0).powi(2));
        (squares.sum::<f64>() / 512.0).sqrt()
    };
    let error = norm(&difference) / norm(&slow);
    assert!(error < 2e-3, "{:?} on {axis:?}: {error:e}", basis.kind());
}

/// Legendre's span is closed under dilation: many writes lose nothing against one fit of the whole life.
#[test]
fn uniform_is_one_fit_of_the_whole_life() {
    let mut config = every_policy(1).into_iter().find(|config| config.forgetting == Forgetting::Uniform).unwrap();
    config.capacity = 12;
    let length = 400;
    let stream = |i: usize| (i as f32 * 0.02).sin() + 0.3 * (i as f32 * 0.05).cos();
    let mut agent = after(&config, (0..length).map(stream));
    let basis = Basis::new(&BasisKind::Legendre, config.capacity).unwrap();
    let whole = reference::fit(&basis, 0.0, |t| f64::from(stream((t * length as f64) as usize))).unwrap();
    for age in (0..length).step_by(7) {
        let value = agent.engine.signal_at(agent.id(), age as f64).unwrap().unwrap()[0];
        let t = 1.0 - (age as f64 + 0.5) / length as f64;
        let expected = reference::evaluate(&basis, whole.as_slice(), t);
        // 100 writes in f32, and the midpoint rule of the reference.
        assert!((f64::from(value) - expected).abs() < 1e-3, "age {age}: {value} {expected}");
    }
}

/// No policy ever grows its state.
#[test]
fn the_state_never_grows() {
    for config in every_policy(2) {
        let mut agent = Agent::new(&config);
        let mut sizes = vec![];
        for tick in 0..2_000 {
            agent.see(tick, &[noise(tick as usize), 1.0]);
            if tick % 500 == 499 {
                sizes.push(agent.engine.save(agent.id()).unwrap().len() as i64);
            }
        }
        // The header's counters gain a digit now and then.
        assert!(sizes.iter().all(|size| (size - sizes[0]).abs() < 16), "{:?}: {sizes:?}", config.forgetting);
        assert_eq!(agent.engine.observations(agent.id()), Ok(2_000));
    }
}

/// Position and age undo each other on every axis.
#[test]
fn axes_are_invertible() {
    let axes = [
        TimeAxis::Geometric { tau: 0.75, chunk: 4 },
        TimeAxis::PowerLaw { resolution: 16.0, horizon: 2_000.0 },
        TimeAxis::Uniform,
    ];
    for axis in axes {
        for age in [0.0, 0.5, 3.0, 4.0, 17.0, 39.0] {
            let back = axis.age(axis.position(age, 40, &[]), 40, &[]);
            assert!((back - age).abs() < 1e-6, "{axis:?}: {age} became {back}");
        }
    }
}

/// Orthonormal functions have the identity as their Gram matrix, however many there are.
#[test]
fn orthonormal_bases_are_orthonormal() {
    for kind in [BasisKind::Cosine, BasisKind::Legendre] {
        for count in [16, 128, 512] {
            let gram = projection::gram(&Basis::new(&kind, count).unwrap());
            let identity = nalgebra::DMatrix::<f64>::identity(count, count);
            // Rounding of some thousand terms of size N.
            assert!((gram - identity).amax() < 1e-9, "{kind:?} at {count}");
        }
    }
}

/// What f32 loses against the same recursion in f64 does not pile up.
#[test]
fn rounding_does_not_pile_up() {
    for config in every_policy(1) {
        let Some(mut exact) = reference::LinearMemory::new(&config).unwrap() else { continue };
        let mut agent = Agent::new(&config);
        let stream = |i: usize| (0.01 * i as f32).sin() + 0.2 * noise(i / 50);
        for chunk in 0..20_000 / config.chunk {
            let values: Vec<f32> = (0..config.chunk).map(|i| stream(chunk * config.chunk + i)).collect();
            values.iter().enumerate().for_each(|(i, value)| agent.see((chunk * config.chunk + i) as u64, &[*value]));
            exact.write(&values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
        }
        let coefficients = agent.engine.coefficients(agent.id()).unwrap();
        let coefficients: Vec<f64> = coefficients.chunks_exact(2).map(|row| f64::from(row[0])).collect();
        let (mut difference, mut norm) = (0.0, 0.0);
        for i in 0..256 {
            let t = (i as f64 + 0.5) / 256.0;
            difference += (exact.evaluate_with(&coefficients, t) - exact.evaluate(t)).powi(2);
            norm += exact.evaluate(t).powi(2);
        }
        let error = (difference / norm).sqrt();
        // The promise, 1e-5; normal densities lose what their large coefficients cancel.
        let promise = if matches!(config.forgetting.basis(), BasisKind::GaussianRbf { .. }) { 1e-3 } else { 1e-5 };
        assert!(error < promise, "{:?}: {error:e}", config.forgetting);
    }
}
