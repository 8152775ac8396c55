//! What a trained policy's last decision of an episode depends on, at each age, by four questions.
//!
//! *Does it matter?* What was seen so many ticks before is exchanged for what another episode showed at the same tick, and the
//! policy asked again: what a memory never kept, cannot find or does not use changes nothing. *Does the memory hold it?* How
//! near what a model remembers of a tick is to what it saw then. *Does the query find it?* Where a model looked in its
//! long-term memory. *Does the gradient reach it?* How much what was seen then learns from the decision: where there is no
//! gradient, queries may still learn to find what was written, but what is written does not learn to be found.

use crate::distribution::{Choice, choose, divergence};
use crate::environment::{ActionSpace, Ending, Environment};
use crate::environment_batch::Make;
use crate::error::Result;
use crate::evaluation::evaluation_seed;
use crate::memory::MemoryState;
use crate::policy::Policy;
use candle_core::{Device, Tensor, Var};
use infformer::model::{InputMask, Model};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicBool, Ordering};

/// How much a decision depends on what was seen at some ages.
#[derive(Debug, Clone, PartialEq)]
pub struct Dependence {
    /// Ticks before the decision, 0 its own.
    pub ages: RangeInclusive<usize>,
    /// How far the actions' distribution moves when these observations are exchanged: KL divergence in nats.
    pub divergence: f64,
    /// How much of what the last layer saw then its long-term memory still tells at the decision: 1 less the squared error, over the
    /// variance of what it saw in the episode. 1 within the window; about 0 where the memory says no more than the mean would, and
    /// less where it is wrong. What a recurrence beside the attention holds is not in it, see [`Dependences::recurrence`].
    /// `None` for memories that are no models, and for models that mask what they write.
    pub held: Option<f64>,
    /// Share of the last layer's density over its long-term memory, the mean over its heads. 0 while that is empty, and for
    /// memories that have none of cells.
    pub looked: f64,
    /// Share of the gradient of the decision by what was encoded at each tick: of its norms, tick by tick. The decision is the
    /// logit of the most probable choice over the mean of all, summed over the places, or the sum of all means.
    pub gradient: f64,
    /// Episodes that are long enough: all numbers are means over them.
    pub episodes: usize,
}

/// What a probe finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Dependences {
    /// Ages 0, 1, 2 to 3, 4 to 7 and so on.
    pub by_age: Vec<Dependence>,
    /// How far the actions' distribution moves when all that a model's recurrence has summed up is taken away before the last
    /// decision: KL divergence in nats, the mean over the episodes. `None` for memories that have none beside their attention.
    pub recurrence: Option<f64>,
}

/// Ticks that are run at once.
const SEGMENT: usize = 512;

/// Lives through `episodes` of an evaluation, most probable actions, and asks what their last decisions depend on, at ages
/// 0, 1, 2 to 3, 4 to 7 and so on; `stop` ends it with the episodes so far. Gradients are followed through the newest `ticks`, as
/// many as they flow through in training. Errors: as those of an [evaluation](crate::evaluation::evaluate).
pub fn probe(
    policy: &Policy,
    make: Make,
    episodes: usize,
    ticks: usize,
    seed: u64,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Dependences> {
    let mut environment = make();
    environment.check()?;
    let mut found: Vec<Dependence> = vec![];
    let mut without_recurrence = vec![];
    let mut other = live(policy, &mut *environment, evaluation_seed(seed, episodes), device, stop)?;
    for number in 0..episodes {
        let episode = live(policy, &mut *environment, evaluation_seed(seed, number), device, stop)?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let divergences = divergences(policy, &episode, &other, device)?;
        let state = before(policy, &episode, 1, device)?;
        let (looked, held) = (looked(policy, &episode, &state, device)?, held(policy, &episode, device)?);
        let gradients = gradients(policy, &episode, ticks, device)?;
        without_recurrence.extend(recurrence(policy, &episode, &state, device)?);
        for (place, divergence) in divergences.into_iter().enumerate() {
            let ages = ages(place);
            if place == found.len() {
                let (ages, held) = (ages.clone(), remembering(policy).map(|_| 0.0));
                found.push(Dependence { ages, divergence: 0.0, held, looked: 0.0, gradient: 0.0, episodes: 0 });
            }
            let sum = |values: &[f64]| of_ages(values, &ages).iter().sum::<f64>();
            let row = &mut found[place];
            row.divergence += divergence;
            row.held = row.held.map(|all| all + sum(&held) / of_ages(&held, &ages).len() as f64);
            row.looked += sum(&looked);
            row.gradient += sum(&gradients);
            row.episodes += 1;
        }
        other = episode;
    }
    for Dependence { divergence, held, looked, gradient, episodes, .. } in &mut found {
        let sums = [divergence, looked, gradient].into_iter().chain(held);
        sums.for_each(|sum| *sum /= *episodes as f64);
    }
    let recurrence = match without_recurrence.len() {
        0 => None,
        count => Some(without_recurrence.iter().sum::<f64>() / count as f64),
    };
    Ok(Dependences { by_age: found, recurrence })
}

/// The ages of row `place`: 0, 1, 2 to 3, 4 to 7, …
fn ages(place: usize) -> RangeInclusive<usize> {
    match place {
        0 => 0..=0,
        _ => 1 << (place - 1)..=(1 << place) - 1,
    }
}

/// The values of these ages, those that there are; `values` are of age 0, 1, …
fn of_ages<'a>(values: &'a [f64], ages: &RangeInclusive<usize>) -> &'a [f64] {
    &values[(*ages.start()).min(values.len())..(*ages.end() + 1).min(values.len())]
}

/// What the policy sees in an episode \[T, channels\], row by row, up to its last decision or until it is stopped.
fn live(
    policy: &Policy,
    environment: &mut dyn Environment,
    seed: u64,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Vec<f32>> {
    let spaces = policy.spaces();
    let (channels, mut action) = (spaces.channels(), vec![0.0; spaces.actions.size()]);
    let mut x = vec![0.0; channels];
    spaces.write(environment.reset(seed), 0, None, &mut x)?;
    let mut state = policy.empty_state(1)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for tick in 0.. {
        let now = &x[tick * channels..];
        let (said, after) = step(policy, now, 1, &state, device)?;
        state = after;
        choose(spaces.actions, &said, Choice::Greedy, &mut random, &mut action);
        let step = environment.step(spaces.action(&action));
        if step.ending != Ending::Running || stop.load(Ordering::Relaxed) {
            break;
        }
        x.resize((tick + 2) * channels, 0.0);
        spaces.write(step.observation, tick + 1, Some(&action), &mut x[(tick + 1) * channels..])?;
    }
    Ok(x)
}

/// What the policy says after `x` \[batch, T, channels\], at its last tick \[batch, numbers of an action\].
fn step(
    policy: &Policy,
    x: &[f32],
    batch: usize,
    state: &MemoryState,
    device: &Device,
) -> Result<(Vec<f32>, MemoryState)> {
    let channels = policy.spaces().channels();
    let ticks = x.len() / batch / channels;
    let x = Tensor::from_slice(x, (batch, ticks, channels), device)?;
    let (said, state) = policy.forward(&x, &[], state)?;
    Ok((said.action.narrow(1, ticks - 1, 1)?.flatten_all()?.to_vec1()?, state))
}

/// How far the last decision moves, row of ages by row of ages.
fn divergences(policy: &Policy, episode: &[f32], other: &[f32], device: &Device) -> Result<Vec<f64>> {
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
        (said, state) = step(policy, &x, batch, &state, device)?;
    }
    let mut said = said.chunks_exact(said.len() / batch);
    let as_it_was = said.next().unwrap_or_default();
    Ok(said.map(|changed| divergence(spaces.actions, as_it_was, changed)).collect())
}

/// The state after all ticks of an episode \[T, channels\] but the last so many.
fn before(policy: &Policy, episode: &[f32], last: usize, device: &Device) -> Result<MemoryState> {
    let channels = policy.spaces().channels();
    let earlier = &episode[..episode.len() - last * channels];
    let mut state = policy.empty_state(1)?;
    for segment in earlier.chunks(SEGMENT * channels) {
        (_, state) = step(policy, segment, 1, &state, device)?;
    }
    Ok(state)
}

/// How far the last decision, from `state` on, moves without the sums of a model's recurrence.
fn recurrence(policy: &Policy, episode: &[f32], state: &MemoryState, device: &Device) -> Result<Option<f64>> {
    let MemoryState::Model(before) = state else { return Ok(None) };
    if before.layers().iter().all(|layer| layer.recurrence().is_none()) {
        return Ok(None);
    }
    let now = &episode[episode.len() - policy.spaces().channels()..];
    let without = MemoryState::Model(before.without_recurrence()?);
    let (as_it_was, _) = step(policy, now, 1, state, device)?;
    let (changed, _) = step(policy, now, 1, &without, device)?;
    Ok(Some(divergence(policy.spaces().actions, &as_it_was, &changed)))
}

/// Shares of the density over the long-term memory at the last decision, from `state` on, tick by tick, the newest first.
fn looked(policy: &Policy, episode: &[f32], state: &MemoryState, device: &Device) -> Result<Vec<f64>> {
    let channels = policy.spaces().channels();
    let now = Tensor::from_slice(&episode[episode.len() - channels..], (1, 1, channels), device)?;
    let (said, state) = policy.forward(&now, &[], state)?;
    let mut shares = vec![0.0; episode.len() / channels];
    for cell in policy.density(&said, &state, 0)? {
        let (newer, older) = (f64::from(cell.newer), f64::from(cell.older));
        let ticks = (newer as usize)..(older.ceil() as usize).min(shares.len());
        for age in ticks {
            let within = older.min(age as f64 + 1.0) - newer.max(age as f64);
            shares[age] += f64::from(cell.mass) * within / (older - newer);
        }
    }
    Ok(shares)
}

/// The model, where what its memory holds can be compared with what the layer saw: where nothing masks what is written.
fn remembering(policy: &Policy) -> Option<&Model> {
    let is_plain = |model: &&Model| {
        let long_term = model.config().long_term.as_ref();
        long_term.is_none_or(|long_term| long_term.input_mask == InputMask::Everything)
    };
    policy.model().filter(is_plain)
}

/// How much the memory still tells of each tick at the last decision, the newest first.
fn held(policy: &Policy, episode: &[f32], device: &Device) -> Result<Vec<f64>> {
    let Some(model) = remembering(policy) else { return Ok(vec![]) };
    let channels = policy.spaces().channels();
    let mut state = policy.empty_state(1)?;
    // What the last layer saw, tick by tick, the oldest first.
    let mut seen: Vec<Vec<f32>> = vec![];
    for now in episode.chunks_exact(channels) {
        (_, state) = step(policy, now, 1, &state, device)?;
        if let MemoryState::Model(state) = &state
            && let Some(layer) = state.layers().last()
        {
            let inputs = layer.inputs();
            seen.push(inputs.narrow(1, inputs.dim(1)? - 1, 1)?.flatten_all()?.to_vec1()?);
        }
    }
    let MemoryState::Model(state) = &state else { return Ok(vec![]) };
    let width = seen.first().map_or(0, Vec::len);
    let distance = |left: &[f32], right: &[f32]| {
        left.iter().zip(right).map(|(left, right)| f64::from(left - right).powi(2)).sum::<f64>()
    };
    let mean: Vec<f32> =
        (0..width).map(|channel| seen.iter().map(|row| row[channel]).sum::<f32>() / seen.len() as f32).collect();
    // An episode in which nothing changes has no variance; errors of rounding are not to count then.
    let variance = (seen.iter().map(|row| distance(row, &mean)).sum::<f64>() / seen.len() as f64).max(1e-6);
    let stretches = model.remembered(state, 0)?;
    let window = state.clocks().first().map_or(0, |clock| clock.held);
    let told = |(age, seen): (usize, &Vec<f32>)| {
        // The middle of the tick.
        let at = age as f32 + 0.5;
        let stretch = stretches.iter().find(|stretch| stretch.newer <= at && at < stretch.older);
        match stretch {
            _ if age < window => 1.0,
            Some(stretch) => 1.0 - distance(seen, &stretch.value) / variance,
            None => 0.0,
        }
    };
    Ok(seen.iter().rev().enumerate().map(told).collect())
}

/// Shares of the gradient of the last decision, tick by tick, the newest first.
fn gradients(policy: &Policy, episode: &[f32], ticks: usize, device: &Device) -> Result<Vec<f64>> {
    let spaces = policy.spaces();
    let channels = spaces.channels();
    let ticks = (episode.len() / channels).min(ticks);
    let state = before(policy, episode, ticks, device)?;
    let newest = &episode[episode.len() - ticks * channels..];
    let seen = Var::from_tensor(&policy.encode(&Tensor::from_slice(newest, (1, ticks, channels), device)?)?.detach())?;
    let (said, _) = policy.forward_encoded(seen.as_tensor(), &[], &state)?;
    let said = said.action.narrow(1, ticks - 1, 1)?.flatten_all()?;
    let decision = match spaces.actions {
        // A probability near 1 has hardly a gradient, its logit has.
        ActionSpace::Discrete(_) | ActionSpace::MultiDiscrete(_) => {
            let one = |place: Range<usize>| {
                let said = said.narrow(0, place.start, place.len())?;
                said.max(0)? - said.mean(0)?
            };
            let places = spaces.actions.places().map(one).collect::<candle_core::Result<Vec<_>>>()?;
            Tensor::stack(&places, 0)?.sum(0)?
        }
        ActionSpace::Continuous(size) => said.narrow(0, 0, size)?.sum(0)?,
    };
    let gradients = decision.backward()?;
    let Some(gradient) = gradients.get(&seen) else { return Ok(vec![0.0; ticks]) };
    let norms = gradient.sqr()?.sum(2)?.sqrt()?.flatten_all()?.to_vec1::<f32>()?;
    let whole = norms.iter().copied().map(f64::from).sum::<f64>().max(f64::MIN_POSITIVE);
    Ok(norms.into_iter().rev().map(|norm| f64::from(norm) / whole).collect())
}
