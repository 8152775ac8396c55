//! What a policy reaches on episodes whose seeds are given.

use crate::distribution::{Choice, choose, draws};
use crate::environment::{Ending, Environment};
use crate::environment_batch::{Make, episode_seed};
use crate::error::Result;
use crate::policy::{Policy, Spaces};
use candle_core::{Device, Tensor};
use infformer::model::Reset;
use std::sync::atomic::{AtomicBool, Ordering};

/// Episodes that are lived through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvaluationConfig {
    /// How many, side by side.
    pub episodes: usize,
    /// Their seeds, and the draws of actions by them, follow from it. Training never uses the same episodes.
    pub seed: u64,
}

/// Returns, episode by episode.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evaluation {
    /// The sum of rewards.
    pub returns: Vec<f64>,
    /// Its ticks.
    pub lengths: Vec<usize>,
    /// The last reward: tasks that are won or lost at the end have it 1 or not.
    pub last_rewards: Vec<f32>,
}

impl Evaluation {
    /// Mean return.
    pub fn mean(&self) -> f64 {
        self.returns.iter().sum::<f64>() / self.returns.len() as f64
    }

    /// Standard error of the mean return.
    pub fn standard_error(&self) -> f64 {
        let (mean, count) = (self.mean(), self.returns.len() as f64);
        let squares: f64 = self.returns.iter().map(|x| (x - mean) * (x - mean)).sum();
        (squares / (count - 1.0).max(1.0) / count).sqrt()
    }

    /// The share of episodes whose last reward is above 0.
    pub fn successes(&self) -> f64 {
        self.last_rewards.iter().filter(|reward| **reward > 0.0).count() as f64 / self.last_rewards.len() as f64
    }
}

/// Where the seeds of an evaluation's episodes come from: far from those of training.
const STREAM: u64 = 0xe7a1_0000_5eed_0000;

/// The seed of episode `number` of an evaluation.
pub fn evaluation_seed(seed: u64, number: usize) -> u64 {
    episode_seed(seed ^ STREAM, number, 0)
}

/// Lives through episodes; `stop` ends it early with those that are over. Errors: an environment that
/// [`check`](Environment::check) refuses, or that shows more or less later.
pub fn evaluate(
    policy: &Policy,
    make: Make,
    config: EvaluationConfig,
    choice: Choice,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Evaluation> {
    let spaces: Spaces = policy.spaces().clone();
    let (channels, size) = (spaces.channels(), spaces.actions.size());
    let seeds: Vec<u64> = (0..config.episodes).map(|number| evaluation_seed(config.seed, number)).collect();
    let mut random: Vec<_> = seeds.iter().map(|seed| draws(*seed)).collect();
    let mut environments: Vec<Box<dyn Environment>> = (0..config.episodes).map(|_| make()).collect();
    let mut x = vec![0.0; config.episodes * channels];
    environments.first_mut().map_or(Ok(()), |first| first.check())?;
    for ((environment, seed), x) in environments.iter_mut().zip(seeds).zip(x.chunks_exact_mut(channels)) {
        spaces.write(environment.reset(seed), 0, None, x)?;
    }
    let mut found = Evaluation {
        returns: vec![0.0; config.episodes],
        lengths: vec![0; config.episodes],
        last_rewards: vec![0.0; config.episodes],
    };
    // Who is still living, and their memories, row by row.
    let mut living: Vec<usize> = (0..config.episodes).collect();
    let mut state = policy.empty_state(config.episodes)?;
    let mut resets: Vec<Reset> = (0..config.episodes).map(|member| Reset { member, tick: 0 }).collect();
    let mut action = vec![0.0; size];
    while !living.is_empty() && !stop.load(Ordering::Relaxed) {
        let seen: Vec<f32> =
            living.iter().flat_map(|member| &x[member * channels..(member + 1) * channels]).copied().collect();
        let seen = Tensor::from_vec(seen, (living.len(), 1, channels), device)?;
        let (said, after) = policy.forward(&seen, &resets, &state)?;
        resets.clear();
        let said = said.action.flatten_all()?.to_vec1::<f32>()?;
        let mut still = vec![];
        for (row, said) in said.chunks_exact(said.len() / living.len()).enumerate() {
            let member = living[row];
            choose(spaces.actions, said, choice, &mut random[member], &mut action);
            let step = environments[member].step(spaces.action(&action));
            found.returns[member] += f64::from(step.reward);
            found.lengths[member] += 1;
            found.last_rewards[member] = step.reward;
            if step.ending == Ending::Running {
                let x = &mut x[member * channels..(member + 1) * channels];
                spaces.write(step.observation, found.lengths[member], Some(&action), x)?;
                still.push(row);
            }
        }
        state = after;
        if still.len() < living.len() {
            living = still.iter().map(|row| living[*row]).collect();
            state = if still.is_empty() { state } else { state.select(&still)? };
        }
    }
    if !living.is_empty() {
        let over = |member: &usize| !living.contains(member);
        let keep: Vec<usize> = (0..config.episodes).filter(over).collect();
        found.returns = keep.iter().map(|member| found.returns[*member]).collect();
        found.lengths = keep.iter().map(|member| found.lengths[*member]).collect();
        found.last_rewards = keep.iter().map(|member| found.last_rewards[*member]).collect();
    }
    Ok(found)
}
