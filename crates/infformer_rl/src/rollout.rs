//! What a policy lives through between two updates: T ticks of all members, and the advantages of what it did.

use crate::distribution::{Choice, choose};
use crate::environment::Ending;
use crate::environment_batch::EnvironmentBatch;
use crate::error::Result;
use crate::memory::MemoryState;
use crate::policy::Policy;
use candle_core::{Device, Tensor};
use infformer::model::Reset;
use rand::Rng;

/// T ticks of all members. Rows go by member, then by tick.
#[derive(Debug)]
pub struct Rollout {
    /// Members.
    pub members: usize,
    /// T
    pub ticks: usize,
    /// What the memories held before the first tick.
    pub start: MemoryState,
    /// What was seen \[members, T, channels\].
    pub x: Vec<f32>,
    /// Where episodes began.
    pub resets: Vec<Reset>,
    /// What was done \[members, T, size\].
    pub actions: Vec<f32>,
    /// Log-probabilities of that \[members, T\].
    pub log_probabilities: Vec<f32>,
    /// Expected returns \[members, T\].
    pub values: Vec<f32>,
    /// Advantages of what was done \[members, T\].
    pub advantages: Vec<f32>,
    /// Returns and lengths of the episodes that ended.
    pub finished: Vec<(f64, usize)>,
}

/// How rewards become advantages (Schulman et al. 2016).
#[derive(Debug, Clone, Copy)]
pub struct Discounts {
    /// γ
    pub gamma: f64,
    /// λ
    pub lambda: f64,
}

/// The advantages of one member's actions, from the last one back. A truncated episode would have gone on: after it comes
/// the value of what was seen last; after a terminated one comes nothing.
///
/// All \[T\]; `next` is the value of what is seen after the tick, in the same episode.
pub fn advantages(rewards: &[f32], values: &[f32], next: &[f32], endings: &[Ending], by: Discounts) -> Vec<f32> {
    let mut advantages = vec![0.0; rewards.len()];
    let mut later = 0.0;
    for tick in (0..rewards.len()).rev() {
        let (worth, goes_on) = match endings[tick] {
            Ending::Running => (f64::from(next[tick]), 1.0),
            Ending::Truncated => (f64::from(next[tick]), 0.0),
            Ending::Terminated => (0.0, 0.0),
        };
        let surprise = f64::from(rewards[tick]) + by.gamma * worth - f64::from(values[tick]);
        later = surprise + by.gamma * by.lambda * goes_on * later;
        advantages[tick] = later as f32;
    }
    advantages
}

impl Rollout {
    /// Lives through `ticks` ticks; `state` moves on.
    pub fn collect(
        policy: &Policy,
        environments: &mut EnvironmentBatch,
        state: &mut MemoryState,
        ticks: usize,
        by: Discounts,
        random: &mut impl Rng,
        device: &Device,
    ) -> Result<Self> {
        let spaces = policy.spaces().clone();
        let (members, channels, size) = (environments.members(), spaces.channels(), spaces.actions.size());
        let rows = members * ticks;
        let start = state.clone();
        let (mut x, mut actions) = (vec![0.0; rows * channels], vec![0.0; rows * size]);
        let [mut log_probabilities, mut values, mut rewards, mut next] = [(); 4].map(|()| vec![0.0; rows]);
        let mut endings = vec![Ending::Running; rows];
        let (mut resets, mut finished, mut chosen) = (vec![], vec![], vec![0.0; members * size]);
        for tick in 0..ticks {
            let begun: Vec<Reset> = begun(environments).collect();
            resets.extend(begun.iter().map(|reset| Reset { tick, ..*reset }));
            let seen = Tensor::from_slice(environments.x(), (members, 1, channels), device)?;
            let (said, after) = policy.forward(&seen, &begun, state)?;
            *state = after;
            let value = said.value.flatten_all()?.to_vec1::<f32>()?;
            let said = said.action.flatten_all()?.to_vec1::<f32>()?;
            for (member, said) in said.chunks_exact(said.len() / members).enumerate() {
                let row = member * ticks + tick;
                let action = &mut actions[row * size..(row + 1) * size];
                log_probabilities[row] = choose(spaces.actions, said, Choice::Drawn, random, action);
                chosen[member * size..(member + 1) * size].copy_from_slice(action);
                values[row] = value[member];
                if tick > 0 && endings[row - 1] == Ending::Running {
                    next[row - 1] = value[member];
                }
                let from = &environments.x()[member * channels..(member + 1) * channels];
                x[row * channels..(row + 1) * channels].copy_from_slice(from);
            }
            let mut cut_off = vec![];
            for (member, outcome) in environments.step(&chosen)?.iter().enumerate() {
                let row = member * ticks + tick;
                (rewards[row], endings[row]) = (outcome.reward, outcome.ending);
                finished.extend(outcome.finished);
                if outcome.ending == Ending::Truncated {
                    cut_off.push(member);
                }
            }
            if !cut_off.is_empty() {
                let seen: Vec<f32> = cut_off.iter().flat_map(|member| environments.last_x(*member)).copied().collect();
                let worth = values_of(policy, &seen, &[], &state.select(&cut_off)?, device)?;
                cut_off.iter().zip(worth).for_each(|(member, value)| next[member * ticks + tick] = value);
            }
        }
        let begun: Vec<Reset> = begun(environments).collect();
        let worth = values_of(policy, environments.x(), &begun, state, device)?;
        for (member, value) in worth.into_iter().enumerate() {
            let row = (member + 1) * ticks - 1;
            if endings[row] == Ending::Running {
                next[row] = value;
            }
        }
        let advantages = (0..members).flat_map(|member| {
            let of = member * ticks..(member + 1) * ticks;
            advantages(&rewards[of.clone()], &values[of.clone()], &next[of.clone()], &endings[of], by)
        });
        let advantages = advantages.collect();
        Ok(Self { members, ticks, start, x, resets, actions, log_probabilities, values, advantages, finished })
    }
}

/// Who begins an episode with what it sees now.
fn begun(environments: &EnvironmentBatch) -> impl Iterator<Item = Reset> {
    let members = (0..environments.members()).filter(|member| environments.begins(*member));
    members.map(|member| Reset { member, tick: 0 })
}

/// What some members' next tick is worth; their memories do not move.
fn values_of(policy: &Policy, x: &[f32], begun: &[Reset], state: &MemoryState, device: &Device) -> Result<Vec<f32>> {
    let channels = policy.spaces().channels();
    let x = Tensor::from_slice(x, (x.len() / channels, 1, channels), device)?;
    Ok(policy.forward(&x, begun, state)?.0.value.flatten_all()?.to_vec1::<f32>()?)
}
