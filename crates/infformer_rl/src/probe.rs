//! What a trained policy's last decision of an episode depends on: what was seen so many ticks before is exchanged for what
//! another episode showed at the same tick, and the policy asked again. Works for every memory; what it never kept, cannot
//! find or does not use changes nothing.

use crate::distribution::{Choice, choose, divergence};
use crate::environment::{Ending, Environment};
use crate::environment_batch::Make;
use crate::error::Result;
use crate::evaluation::evaluation_seed;
use crate::policy::{Policy, PolicyState};
use candle_core::{Device, Tensor};
use infformer::model::Reset;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much a decision depends on what was seen at some ages.
#[derive(Debug, Clone, PartialEq)]
pub struct Dependence {
    /// Ticks before the decision, 0 its own.
    pub ages: RangeInclusive<usize>,
    /// How far the actions' distribution moves when these observations are exchanged: KL divergence in nats, the mean over
    /// the episodes.
    pub divergence: f64,
    /// Episodes that are long enough.
    pub episodes: usize,
}

/// Ticks that are run at once.
const SEGMENT: usize = 512;

/// Lives through `episodes` of an evaluation, most probable actions, and asks what their last decisions depend on, at ages
/// 0, 1, 2 to 3, 4 to 7 and so on; `stop` ends it with the episodes so far.
pub fn probe(
    policy: &Policy,
    make: Make,
    episodes: usize,
    seed: u64,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Vec<Dependence>> {
    let mut environment = make();
    let mut found: Vec<Dependence> = vec![];
    let mut other = live(policy, &mut *environment, evaluation_seed(seed, episodes), device)?;
    for number in 0..episodes {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let episode = live(policy, &mut *environment, evaluation_seed(seed, number), device)?;
        for (place, divergence) in dependences(policy, &episode, &other, device)?.into_iter().enumerate() {
            if place == found.len() {
                found.push(Dependence { ages: ages(place), divergence: 0.0, episodes: 0 });
            }
            found[place].divergence += divergence;
            found[place].episodes += 1;
        }
        other = episode;
    }
    found.iter_mut().for_each(|dependence| dependence.divergence /= dependence.episodes as f64);
    Ok(found)
}

/// The ages of row `place`: 0, 1, 2 to 3, 4 to 7, …
fn ages(place: usize) -> RangeInclusive<usize> {
    match place {
        0 => 0..=0,
        _ => 1 << (place - 1)..=(1 << place) - 1,
    }
}

/// What the policy sees in an episode \[T, channels\], row by row, up to its last decision.
fn live(policy: &Policy, environment: &mut dyn Environment, seed: u64, device: &Device) -> Result<Vec<f32>> {
    let spaces = policy.spaces();
    let (channels, mut action) = (spaces.channels(), vec![0.0; spaces.action_size()]);
    let mut x = vec![0.0; channels];
    spaces.write(environment.reset(seed), 0, None, &mut x);
    let mut state = policy.empty_state(1)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for tick in 0.. {
        let now = &x[tick * channels..];
        let (said, after) = step(policy, now, 1, tick == 0, &state, device)?;
        state = after;
        choose(spaces.actions, &said, Choice::Greedy, &mut random, &mut action);
        let step = environment.step(spaces.action(&action));
        if step.ending != Ending::Running {
            break;
        }
        x.resize((tick + 2) * channels, 0.0);
        spaces.write(step.observation, tick + 1, Some(&action), &mut x[(tick + 1) * channels..]);
    }
    Ok(x)
}

/// What the policy says after `x` \[batch, T, channels\], at its last tick \[batch, numbers of an action\].
fn step(
    policy: &Policy,
    x: &[f32],
    batch: usize,
    first: bool,
    state: &PolicyState,
    device: &Device,
) -> Result<(Vec<f32>, PolicyState)> {
    let channels = policy.spaces().channels();
    let ticks = x.len() / batch / channels;
    let x = Tensor::from_slice(x, (batch, ticks, channels), device)?;
    let members = if first { 0..batch } else { 0..0 };
    let resets: Vec<Reset> = members.map(|member| Reset { member, tick: 0 }).collect();
    let (said, state) = policy.forward(&x, &resets, state)?;
    Ok((said.action.narrow(1, ticks - 1, 1)?.flatten_all()?.to_vec1()?, state))
}

/// How far the last decision moves, age by age.
fn dependences(policy: &Policy, episode: &[f32], other: &[f32], device: &Device) -> Result<Vec<f64>> {
    let spaces = policy.spaces();
    let channels = spaces.channels();
    let (ticks, others, seen) = (episode.len() / channels, other.len() / channels, channels - spaces.rest());
    let rows = (0..).take_while(|place| *ages(*place).start() < ticks).count();
    // The episode as it was, then one with each row of ages exchanged.
    let batch = rows + 1;
    let mut state = policy.empty_state(batch)?;
    let mut said = vec![];
    for start in (0..ticks).step_by(SEGMENT) {
        let end = ticks.min(start + SEGMENT);
        let mut x = vec![];
        for member in 0..batch {
            for tick in start..end {
                let own = &episode[tick * channels..(tick + 1) * channels];
                let exchanged = member > 0 && ages(member - 1).contains(&(ticks - 1 - tick));
                let from = if exchanged { &other[tick.min(others - 1) * channels..] } else { own };
                x.extend_from_slice(&from[..seen]);
                x.extend_from_slice(&own[seen..]);
            }
        }
        (said, state) = step(policy, &x, batch, start == 0, &state, device)?;
    }
    let mut said = said.chunks_exact(said.len() / batch);
    let as_it_was = said.next().unwrap_or_default();
    Ok(said.map(|changed| divergence(spaces.actions, as_it_was, changed)).collect())
}
