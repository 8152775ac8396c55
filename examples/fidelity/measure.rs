//! The measurements: error by age, retrieval of events, and the rounding of f32.

use crate::keepers::{KeeperKind, config};
use crate::streams::{EVENT_STEPS, EVENT_WIDTH, EventStream, Stream};
use infformer::reference::LinearMemory;
use infformer::{AgentStep, Device, Engine, Error, Forgetting};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Channels of a stream; independent, in one group.
pub const CHANNELS: usize = 8;
/// Bins of the age axis a factor of ten.
const BINS_A_DECADE: usize = 20;
/// Moments of a life at which the whole past is asked for, evenly spaced over its last 70 %.
const LOOKS: usize = 28;
/// The ages of events that are told apart, in steps.
pub const RETRIEVAL_AGES: [(usize, usize); 3] = [(250, 1_000), (1_000, 4_000), (4_000, 16_000)];

/// Error by age for one policy, stream and N.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorCurve {
    /// Ages in steps, the middle of each bin.
    pub ages: Vec<f64>,
    /// Mean squared error over the stream's variance.
    pub errors: Vec<f64>,
    /// The age at which the error first crosses one half; `None` if it never does.
    pub half_age: Option<f64>,
    /// Mean squared error of the newest 16 observations.
    pub newest_error: f64,
}

/// Feeds `seeds` streams to one keeper each and compares what is remembered with what was seen.
pub fn error_curve(
    kind: &KeeperKind,
    stream: Stream,
    capacity: usize,
    steps: usize,
    seeds: u64,
) -> Result<ErrorCurve, Error> {
    let bins = ((steps as f64).log10() * BINS_A_DECADE as f64) as usize;
    let edge = |bin: usize| 10_f64.powf(bin as f64 / BINS_A_DECADE as f64);
    let (mut sums, mut counts) = (vec![0.0; bins], vec![0.0; bins]);
    let (mut newest, mut newest_count) = (0.0, 0.0);
    for seed in 0..seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let values = stream.sample(steps, CHANNELS, &mut rng);
        let variance = values.iter().map(|value| f64::from(value * value)).sum::<f64>() / values.len() as f64;
        let mut keeper = kind.start(capacity, CHANNELS)?;
        let mut seen = 0;
        for look in 0..=LOOKS {
            let until = (steps * 3 / 10 + steps * 7 / 10 * look / LOOKS) / 16 * 16;
            keeper.push(&values[seen * CHANNELS..until * CHANNELS])?;
            seen = until;
            let mut error = |age: usize| -> Result<f64, Error> {
                let truth = &values[(seen - 1 - age) * CHANNELS..(seen - age) * CHANNELS];
                let found = keeper.recall(age)?.unwrap_or_else(|| vec![0.0; CHANNELS]);
                let squared = found.iter().zip(truth).map(|(found, truth)| f64::from(found - truth).powi(2));
                Ok(squared.sum::<f64>() / CHANNELS as f64 / variance)
            };
            for age in 0..16 {
                newest += error(age)?;
                newest_count += 1.0;
            }
            for bin in 0..bins {
                let age = rng.random_range(edge(bin)..edge(bin + 1)) as usize;
                if age < seen {
                    sums[bin] += error(age)?;
                    counts[bin] += 1.0;
                }
            }
        }
    }
    let filled: Vec<usize> = (0..bins).filter(|bin| counts[*bin] > 0.0).collect();
    let ages: Vec<f64> = filled.iter().map(|bin| (edge(*bin) * edge(bin + 1)).sqrt()).collect();
    let errors: Vec<f64> = filled.iter().map(|bin| sums[*bin] / counts[*bin]).collect();
    let half_age = errors.iter().position(|error| *error > 0.5).map(|bin| match bin {
        0 => ages[0],
        bin => {
            let part = (0.5 - errors[bin - 1]) / (errors[bin] - errors[bin - 1]);
            ages[bin - 1] * (ages[bin] / ages[bin - 1]).powf(part)
        }
    });
    Ok(ErrorCurve { ages, errors, half_age, newest_error: newest / newest_count })
}

/// Share of the events in each range of ages whose key (1 of 32) is the nearest to what is remembered of their time.
pub fn retrieval(kind: &KeeperKind, capacity: usize, steps: usize, seeds: u64) -> Result<[f64; 3], Error> {
    let (mut hits, mut counts) = ([0.0; 3], [0.0; 3]);
    for seed in 0..seeds {
        let mut rng = ChaCha8Rng::seed_from_u64(1_000 + seed);
        let stream = EventStream::sample(steps, &mut rng);
        let mut keeper = kind.start(capacity, EVENT_WIDTH)?;
        let mut seen = 0;
        for look in 0..=LOOKS {
            let until = (steps * 3 / 10 + steps * 7 / 10 * look / LOOKS) / 16 * 16;
            keeper.push(&stream.values[seen * EVENT_WIDTH..until * EVENT_WIDTH])?;
            seen = until;
            for (start, key) in &stream.events {
                let Some(age) = (seen - 1).checked_sub(start + EVENT_STEPS / 2) else { continue };
                let Some(range) = RETRIEVAL_AGES.iter().position(|(from, to)| (*from..*to).contains(&age)) else {
                    continue;
                };
                let found = keeper.recall(age)?.unwrap_or_else(|| vec![0.0; EVENT_WIDTH]);
                let likeness = |key: &Vec<f32>| key.iter().zip(&found).map(|(key, found)| key * found).sum::<f32>();
                let nearest = (0..stream.keys.len())
                    .max_by(|a, b| likeness(&stream.keys[*a]).total_cmp(&likeness(&stream.keys[*b])));
                // A memory that holds nothing gives zeros: that is no answer.
                let answered = found.iter().any(|value| *value != 0.0);
                hits[range] += if answered && nearest == Some(*key) { 1.0 } else { 0.0 };
                counts[range] += 1.0;
            }
        }
    }
    Ok([0, 1, 2].map(|range| hits[range] / counts[range]))
}

/// After `steps` observations of `smooth`: the f32 engine's signal against the same recursion in f64, as the norm of
/// the difference over the norm of the signal. `None` for a policy that is not linear.
pub fn rounding(
    forgetting: &Forgetting,
    capacity: usize,
    steps: usize,
    tick: &mut dyn FnMut(usize),
) -> Result<Option<f64>, Error> {
    let config = config(forgetting, capacity, 1);
    let Some(mut exact) = LinearMemory::new(&config)? else { return Ok(None) };
    let mut engine = Engine::new(&config, &Device::Cpu)?;
    let agent = engine.spawn()?;
    let mut step = AgentStep::new(agent, engine.layout().clone(), config.chunk);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let values = Stream::Smooth.sample(steps / config.chunk * config.chunk, 1, &mut rng);
    for (written, chunk) in values.chunks_exact(config.chunk).enumerate() {
        for (i, value) in chunk.iter().enumerate() {
            step.observations.push((written * config.chunk + i) as u64, &[*value])?;
        }
        engine.step(std::slice::from_mut(&mut step))?;
        exact.write(&chunk.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
        if written % 1_000 == 0 {
            tick(written * config.chunk);
        }
    }
    let coefficients: Vec<f64> = engine.coefficients(agent)?.chunks_exact(2).map(|row| f64::from(row[0])).collect();
    let (mut difference, mut norm) = (0.0, 0.0);
    for i in 0..4 * capacity {
        let t = (i as f64 + 0.5) / (4 * capacity) as f64;
        let (signal, expected) = (exact.evaluate_with(&coefficients, t), exact.evaluate(t));
        difference += (signal - expected).powi(2);
        norm += expected * expected;
    }
    Ok(Some((difference / norm).sqrt()))
}
