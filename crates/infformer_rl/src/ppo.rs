//! Proximal policy optimisation (Schulman et al. 2017) for policies with a memory.
//!
//! A minibatch is whole segments of some members, not single ticks: each is run again from the memory that was stored at
//! its beginning, with the resets where they were, so that gradients flow through the memory and no member's past is
//! another's.

use crate::distribution::log_probability;
use crate::error::{Error, Result};
use crate::optimiser::Optimiser;
use crate::policy::Policy;
use crate::rollout::{Discounts, Rollout};
use candle_core::{Device, Tensor};
use infformer::model::Reset;
use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// How a policy is improved. RON.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PpoConfig {
    /// Environments side by side. 64.
    pub members: usize,
    /// T: ticks of each between two updates; gradients flow through so many. 128.
    pub ticks: usize,
    /// Times that each rollout is used. 4.
    pub epochs: usize,
    /// Parts of the members; a step each an epoch. 16.
    pub minibatches: usize,
    /// γ. .99
    pub gamma: f64,
    /// λ. .95
    pub lambda: f64,
    /// ε: how far the ratio of probabilities may move. .2
    pub clip: f64,
    /// Weight of the value's squared error. .5
    pub value: f64,
    /// Weight of the entropy. .001
    pub entropy: f64,
    /// Weight of the memory's regulariser. 0
    pub regulariser: f64,
}

impl Default for PpoConfig {
    fn default() -> Self {
        Self {
            members: 64,
            ticks: 128,
            epochs: 4,
            minibatches: 16,
            gamma: 0.99,
            lambda: 0.95,
            clip: 0.2,
            value: 0.5,
            entropy: 0.001,
            regulariser: 0.0,
        }
    }
}

/// What an update tells, means over its steps.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Update {
    /// Loss of the policy.
    pub policy_loss: f64,
    /// Squared error of the value.
    pub value_loss: f64,
    /// Nats.
    pub entropy: f64,
    /// How far the probabilities moved: mean of ratio − 1 − ln ratio.
    pub divergence: f64,
    /// Share of ticks whose ratio was beyond ε.
    pub clipped: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
}

impl PpoConfig {
    /// Says what is wrong, if anything is.
    pub fn validate(&self) -> Result<()> {
        let refuse = |message: &str| Err(Error::Configuration(format!("ppo: {message}")));
        let Self { members, ticks, epochs, minibatches, gamma, lambda, clip, value, entropy, regulariser } = *self;
        if [members, ticks, epochs, minibatches].contains(&0) || !members.is_multiple_of(minibatches) {
            let found = format!("{members} members, {ticks} ticks, {epochs} epochs and {minibatches} minibatches");
            return refuse(&format!("{found}: all are 1 or more, and minibatches divides members"));
        }
        let shares = [gamma, lambda].iter().all(|share| (0.0..=1.0).contains(share));
        if !(shares && clip > 0.0 && clip < 1.0) {
            return refuse("gamma and lambda lie within 0 and 1, clip between them");
        }
        if ![value, entropy, regulariser].iter().all(|weight| weight.is_finite() && *weight >= 0.0) {
            return refuse("value, entropy and regulariser are weights of 0 or more");
        }
        Ok(())
    }

    /// Of the rewards.
    pub fn discounts(&self) -> Discounts {
        Discounts { gamma: self.gamma, lambda: self.lambda }
    }

    /// Improves the policy by what was lived through. Errors: a loss that is no number, with the weights as they were
    /// before the step that found it.
    pub fn update(
        &self,
        policy: &Policy,
        rollout: &Rollout,
        optimiser: &mut Optimiser,
        random: &mut impl Rng,
        device: &Device,
    ) -> Result<Update> {
        let (members, ticks) = (rollout.members, rollout.ticks);
        let (channels, size) = (policy.spaces().channels(), policy.spaces().actions.size());
        let tensor = |values: &[f32], width: usize| Tensor::from_slice(values, (members, ticks, width), device);
        let rows = |values: &[f32]| Tensor::from_slice(values, (members, ticks), device);
        let (x, actions) = (tensor(&rollout.x, channels)?, tensor(&rollout.actions, size)?);
        let (before, values) = (rows(&rollout.log_probabilities)?, rows(&rollout.values)?);
        let advantages = rows(&rollout.advantages)?;
        let returns = (&advantages + &values)?;
        // Over all members: those of one part alone would be scaled by chance.
        let advantages = normalised(&advantages)?;
        let mut order: Vec<usize> = (0..members).collect();
        let (mut told, mut steps) = (Update::default(), 0.0);
        for _ in 0..self.epochs {
            order.shuffle(random);
            for part in order.chunks_exact(members / self.minibatches) {
                let index: Vec<u32> = part.iter().map(|member| *member as u32).collect();
                let index = Tensor::from_slice(&index, index.len(), device)?;
                let of = |tensor: &Tensor| tensor.index_select(&index, 0);
                let place = |reset: &Reset| {
                    let member = part.iter().position(|member| *member == reset.member)?;
                    Some(Reset { member, ..*reset })
                };
                let resets: Vec<Reset> = rollout.resets.iter().filter_map(place).collect();
                let (said, _) = policy.forward(&of(&x)?, &resets, &rollout.start.select(part)?)?;
                let (now, entropy) = log_probability(policy.spaces().actions, &said.action, &of(&actions)?)?;
                let advantages = of(&advantages)?;
                let moved = (now - of(&before)?)?;
                let ratio = moved.exp()?;
                let within = ratio.clamp(1.0 - self.clip, 1.0 + self.clip)?;
                let policy_loss = (&ratio * &advantages)?.minimum(&(&within * &advantages)?)?.mean_all()?.neg()?;
                let value_loss = (said.value - of(&returns)?)?.sqr()?.mean_all()?;
                let entropy = entropy.mean_all()?;
                let mut loss = ((&policy_loss + (&value_loss * self.value)?)? - (&entropy * self.entropy)?)?;
                if let Some(regulariser) = said.regulariser.filter(|_| self.regulariser > 0.0) {
                    loss = (loss + (regulariser * self.regulariser)?)?;
                }
                let found = scalar(&loss)?;
                let norm = match found.is_finite() {
                    true => optimiser.step(policy.parameters(), &loss.backward()?)?,
                    false => f64::NAN,
                };
                if !norm.is_finite() {
                    return Err(Error::Diverged { step: optimiser.steps, loss: found, norm });
                }
                let beyond = ratio.detach().affine(1.0, -1.0)?.abs()?.gt(self.clip)?;
                let beyond = beyond.to_dtype(candle_core::DType::F32)?.mean_all()?;
                told.policy_loss += scalar(&policy_loss)?;
                told.value_loss += scalar(&value_loss)?;
                told.entropy += scalar(&entropy)?;
                told.divergence += scalar(&(ratio.affine(1.0, -1.0)? - moved)?.mean_all()?)?;
                told.clipped += scalar(&beyond)?;
                told.gradient_norm += norm;
                steps += 1.0;
            }
        }
        let Update { policy_loss, value_loss, entropy, divergence, clipped, gradient_norm } = told;
        Ok(Update {
            policy_loss: policy_loss / steps,
            value_loss: value_loss / steps,
            entropy: entropy / steps,
            divergence: divergence / steps,
            clipped: clipped / steps,
            gradient_norm: gradient_norm / steps,
        })
    }
}

fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.to_scalar::<f32>()?))
}

/// Mean 0 and deviation 1.
fn normalised(values: &Tensor) -> Result<Tensor> {
    let centred = values.broadcast_sub(&values.mean_all()?)?;
    let deviation = (centred.sqr()?.mean_all()?.sqrt()? + 1e-8)?;
    Ok(centred.broadcast_div(&deviation)?)
}
