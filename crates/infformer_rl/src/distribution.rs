//! Distributions over actions: drawn on the host, their log-probabilities and entropies with gradients.

use crate::environment::ActionSpace;
use crate::error::{Error, Result};
use candle_core::{D, DType, Tensor};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// ½·ln 2π
const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_7;

/// How an action is taken from a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Drawn.
    Drawn,
    /// The most probable.
    Greedy,
}

/// What the actions of one episode are drawn by, in evaluations and in games: it follows from the episode's seed, and is apart from
/// what an environment draws by that seed.
pub fn draws(episode: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(episode ^ 0xd4a3_5000_ac71_0000)
}

/// Takes one action from what a policy says of it (logits, or means and logarithms of standard deviations), into `action`;
/// gives its log-probability.
pub fn choose(space: ActionSpace, said: &[f32], choice: Choice, random: &mut impl Rng, action: &mut [f32]) -> f32 {
    match space {
        ActionSpace::Discrete(_) | ActionSpace::MultiDiscrete(_) => {
            let places = action.iter_mut().zip(space.places());
            places.map(|(action, place)| choose_one(&said[place], choice, random, action)).sum()
        }
        ActionSpace::Continuous(size) => {
            let (means, spreads) = said.split_at(size);
            let mut sum = 0.0;
            for ((action, mean), spread) in action.iter_mut().zip(means).zip(spreads) {
                let noise: f64 = match choice {
                    Choice::Greedy => 0.0,
                    Choice::Drawn => StandardNormal.sample(random),
                };
                *action = mean + (f64::from(spread.exp()) * noise) as f32;
                sum -= 0.5 * noise * noise + f64::from(*spread) + HALF_LOG_TAU;
            }
            sum as f32
        }
    }
}

/// One choice by its logits; gives its log-probability.
fn choose_one(said: &[f32], choice: Choice, random: &mut impl Rng, action: &mut f32) -> f32 {
    let most = said.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = said.iter().map(|logit| f64::from(logit - most).exp()).sum();
    let log_mass = |class: usize| f64::from(said[class] - most) - total.ln();
    let class = match choice {
        Choice::Greedy => said.iter().position(|logit| *logit == most).unwrap_or(0),
        Choice::Drawn => {
            let mut left: f64 = random.random_range(0.0..1.0);
            let drawn = (0..said.len()).find(|class| {
                left -= log_mass(*class).exp();
                left < 0.0
            });
            drawn.unwrap_or(said.len() - 1)
        }
    };
    *action = class as f32;
    log_mass(class) as f32
}

/// KL divergence in nats of one distribution from another, each as a policy says it.
pub fn divergence(space: ActionSpace, from: &[f32], to: &[f32]) -> f64 {
    match space {
        ActionSpace::Discrete(_) | ActionSpace::MultiDiscrete(_) => {
            let log_masses = |said: &[f32]| {
                let most = f64::from(said.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let total: f64 = said.iter().map(|logit| (f64::from(*logit) - most).exp()).sum();
                said.iter().map(|logit| f64::from(*logit) - most - total.ln()).collect::<Vec<f64>>()
            };
            let one = |from: &[f32], to: &[f32]| -> f64 {
                log_masses(from).iter().zip(log_masses(to)).map(|(from, to)| from.exp() * (from - to)).sum()
            };
            space.places().map(|place| one(&from[place.clone()], &to[place])).sum()
        }
        ActionSpace::Continuous(size) => {
            let one = |place: usize| {
                let [mean, spread, to_mean, to_spread] =
                    [from[place], from[size + place], to[place], to[size + place]].map(f64::from);
                let variances = (2.0 * (spread - to_spread)).exp();
                let distance = (mean - to_mean) / to_spread.exp();
                0.5 * (variances + distance * distance - 1.0) + to_spread - spread
            };
            (0..size).map(one).sum()
        }
    }
}

/// Log-probabilities of `actions` \[batch, T, size\] and entropies, both \[batch, T\].
pub fn log_probability(space: ActionSpace, said: &Tensor, actions: &Tensor) -> Result<(Tensor, Tensor)> {
    match space {
        ActionSpace::Discrete(_) | ActionSpace::MultiDiscrete(_) => {
            let actions = actions.to_dtype(DType::U32)?;
            let mut sums: Option<(Tensor, Tensor)> = None;
            for (number, place) in space.places().enumerate() {
                let log_masses = candle_nn::ops::log_softmax(&said.narrow(2, place.start, place.len())?, D::Minus1)?;
                let chosen = log_masses.gather(&actions.narrow(2, number, 1)?.contiguous()?, 2)?.squeeze(2)?;
                let entropy = (log_masses.exp()? * &log_masses)?.sum(D::Minus1)?.neg()?;
                sums = Some(match sums {
                    Some((all, entropies)) => ((all + chosen)?, (entropies + entropy)?),
                    None => (chosen, entropy),
                });
            }
            Ok(sums.ok_or_else(|| Error::Configuration("an action of no choice".into()))?)
        }
        ActionSpace::Continuous(size) => {
            let (means, spreads) = (said.narrow(2, 0, size)?, said.narrow(2, size, size)?);
            let noise = ((actions - means)? / spreads.exp()?)?;
            let each = ((noise.sqr()? * -0.5)? - &spreads)?.affine(1.0, -HALF_LOG_TAU)?;
            Ok((each.sum(D::Minus1)?, spreads.affine(1.0, HALF_LOG_TAU + 0.5)?.sum(D::Minus1)?))
        }
    }
}
