//! Densities and expectations, against quadrature.
#![allow(clippy::unwrap_used, clippy::panic)]

mod agents;

use agents::{Agent, every_policy, group, noise};
use infformer::basis::{Basis, BasisKind};
use infformer::density::GaussianDensity;
use infformer::{AnswerDetail, Density, Measure, MemoryConfig, Query, reference};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// E[ψ] in closed form is the integral.
    #[test]
    fn expectations_agree_with_quadrature(mean in 0.3_f64..0.7, spread in 0.01_f64..0.06) {
        // Ten standard deviations stay (nearly) inside [0, 1], where all bases are defined.
        let kinds = [BasisKind::GaussianRbf { widths: vec![0.01, 0.05] }, BasisKind::Cosine, BasisKind::Legendre, BasisKind::Bins];
        for kind in kinds {
            let basis = Basis::new(&kind, 16).unwrap();
            let fast = GaussianDensity { mean, variance: spread * spread }.expectation(&basis);
            let slow = reference::expectation(&basis, mean, spread * spread);
            for (fast, slow) in fast.iter().zip(&slow) {
                // The reference's step is a thousandth of a standard deviation; a bin's edge costs as much.
                prop_assert!((fast - slow).abs() < 1e-3 * (1.0 + slow.abs()), "{kind:?}: {fast} {slow}");
            }
        }
    }

    /// Every density over age has mass one, is nowhere negative, and covers the life without gaps.
    #[test]
    fn densities_integrate_to_one(seed in 0_usize..1_000, length in 1_usize..300) {
        for mut config in every_policy(2) {
            config.short_term = 3;
            for (density, measure) in [
                (Density::Gibbs, Measure::default()),
                (Density::Gibbs, Measure::Lifetime),
                (Density::Gaussian, Measure::default()),
            ] {
                (config.recall.density, config.recall.measure) = (density, measure);
                let mut agent = Agent::new(&config);
                (0..length).for_each(|i| agent.see(i as u64, &[noise(seed + i), noise(seed + 2 * i)]));
                let query = Query::from_masked(&[Some(0.5), None]).with_detail(AnswerDetail::Density);
                let answer = agent.ask(length as u64 - 1, query);
                let mass: f32 = answer.density.iter().map(|cell| cell.mass).sum();
                // A sum of f32 masses, each rounded.
                prop_assert!((mass - 1.0).abs() < 1e-6 * answer.density.len() as f32, "{:?}: {mass}", config.forgetting);
                prop_assert!(answer.density.iter().all(|cell| cell.mass >= 0.0 && cell.older >= cell.newer));
                prop_assert!(answer.density.windows(2).all(|pair| (pair[0].older - pair[1].newer).abs() <= 1e-3 * pair[0].older.max(1.0)));
                prop_assert!((0.0..=1.0).contains(&answer.confidence));
            }
        }
    }
}

/// While nothing was merged, recall is the reference's brute force over the whole history.
#[test]
fn recall_is_its_reference() {
    let mut config = MemoryConfig::events(group(3));
    config.capacity = 128;
    for (measure, short_term) in [(Measure::default(), 16), (Measure::Lifetime, 16), (Measure::default(), 0)] {
        config.recall.measure = measure;
        config.short_term = short_term;
        let mut agent = Agent::new(&config);
        let history: Vec<Vec<f64>> = (0..120).map(|i| (0..3).map(|c| f64::from(noise(3 * i + c))).collect()).collect();
        for (tick, values) in history.iter().enumerate() {
            agent.see(tick as u64, &values.iter().map(|value| *value as f32).collect::<Vec<_>>());
        }
        let query = Query::from_masked(&[Some(0.2), None, Some(-0.4)]).with_detail(AnswerDetail::Density);
        let answer = agent.ask(119, query);
        let (density, expected) =
            reference::recall(&history, &[(0, 0.2), (2, -0.4)], f64::from(config.recall.sharpness), measure);
        assert_eq!(answer.density.len(), 120);
        for (cell, expected) in answer.density.iter().zip(&density) {
            assert!((f64::from(cell.mass) - expected).abs() < 1e-5, "{cell:?} {expected}");
        }
        for (value, expected) in answer.value.iter().zip(&expected) {
            assert!((f64::from(*value) - expected).abs() < 1e-5, "{value} {expected}");
        }
        let age: f64 = density.iter().enumerate().map(|(age, mass)| age as f64 * mass).sum();
        assert!((f64::from(answer.age) - age).abs() < 1e-3, "{} {age}", answer.age);
    }
}

/// The divergence is zero only at the prior, and grows away from it.
#[test]
fn the_regulariser_has_its_minimum_at_the_prior() {
    let at = |variance: f64| GaussianDensity { mean: 0.3, variance }.regulariser(0.05);
    assert!(at(0.05 * 0.05).abs() < 1e-12);
    assert!(at(0.04 * 0.04) > 0.0 && at(0.06 * 0.06) > 0.0 && at(0.01) > at(0.005));
}
