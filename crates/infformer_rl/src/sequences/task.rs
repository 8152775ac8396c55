//! Sequences with one right answer, that nobody gives who has forgotten the beginning.

use candle_core::{Device, Tensor};
use infformer::model::{Head, HeadKind, Input};
use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// A supervised sequence task. Sequences are made anew from a seed, never stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Task {
    /// The first tick shows a symbol and says that it is the first; random symbols follow; the last tick asks for the
    /// first. Chance is 1/`symbols`.
    FirstToken {
        /// Different symbols.
        symbols: usize,
        /// Ticks from the first to the question.
        distance: Distance,
    },
    /// `pairs` ticks show a key and a value each, every key once, in random order; noise follows: random values
    /// without a key; the last tick asks for the value of one key. Chance is 1/`values`.
    KeyValue {
        /// Keys, all of which are shown.
        pairs: usize,
        /// Different values.
        values: usize,
        /// Ticks of noise.
        distance: Distance,
    },
    /// The sorting task of Martins et al. (2022): a sequence whose symbol distribution drifts from one random
    /// distribution (integer weights 1–9) to another; then all symbols by descending frequency, the ones before given.
    /// A second input tells the sequence, the question and the answers apart.
    Sorting {
        /// Different symbols.
        symbols: usize,
        /// Ticks of the sequence.
        length: usize,
    },
}

/// How far back the answer lies: log-uniform between two bounds in training, the farther one in evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distance {
    /// The nearest, in ticks.
    pub least: usize,
    /// The farthest, in ticks.
    pub most: usize,
}

/// Sequences of one length and their answers.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Observations \[batch, T, channels\].
    pub x: Tensor,
    /// Right classes of the last n ticks \[batch, n\].
    pub targets: Tensor,
}

/// Which distance, or length, a batch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difficulty {
    /// As in training.
    Training,
    /// The farthest, or the length, times this.
    Farthest(usize),
}

impl Task {
    /// The task's name, as it stands in files and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Task::FirstToken { .. } => "first-token",
            Task::KeyValue { .. } => "key-value",
            Task::Sorting { .. } => "sorting",
        }
    }

    /// What an observation is made of.
    pub fn inputs(&self) -> Vec<Input> {
        let token = |name: &str, vocabulary| Input::Token { name: name.into(), vocabulary };
        match self {
            Task::FirstToken { symbols, .. } => vec![token("symbol", *symbols), token("phase", 3)],
            Task::KeyValue { pairs, values, .. } => vec![token("key", pairs + 1), token("value", values + 1)],
            Task::Sorting { symbols, .. } => vec![token("symbol", *symbols), token("phase", 3)],
        }
    }

    /// The one head: which class.
    pub fn heads(&self) -> Vec<Head> {
        vec![Head { name: "answer".into(), kind: HeadKind::Logits { classes: self.classes() } }]
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        match self {
            Task::FirstToken { symbols, .. } | Task::Sorting { symbols, .. } => *symbols,
            Task::KeyValue { values, .. } => *values,
        }
    }

    /// Ticks at the end of a sequence at which an answer is asked for.
    pub fn answers(&self) -> usize {
        match self {
            Task::FirstToken { .. } | Task::KeyValue { .. } => 1,
            Task::Sorting { symbols, .. } => *symbols,
        }
    }

    /// Says what is wrong with the task, if anything is.
    pub fn validate(&self) -> std::result::Result<(), String> {
        let check = |holds: bool, message: &str| if holds { Ok(()) } else { Err(message.to_string()) };
        match self {
            Task::FirstToken { symbols, distance } => {
                check(*symbols >= 2, "a first-token task needs 2 symbols or more")?;
                check((1..=distance.most).contains(&distance.least), "distances are 1 or more, least before most")
            }
            Task::KeyValue { pairs, values, distance } => {
                check(*pairs >= 1 && *values >= 2, "a key-value task needs a pair and 2 values or more")?;
                check((1..=distance.most).contains(&distance.least), "distances are 1 or more, least before most")
            }
            Task::Sorting { symbols, length } => {
                check(*symbols >= 2 && *length >= 1, "a sorting task needs 2 symbols or more and a length")
            }
        }
    }

    /// `batch` sequences of one length.
    pub fn sample(
        &self,
        batch: usize,
        difficulty: Difficulty,
        random: &mut impl Rng,
        device: &Device,
    ) -> candle_core::Result<Batch> {
        let distance = |distance: &Distance, random: &mut dyn Rng| match difficulty {
            Difficulty::Farthest(times) => distance.most * times,
            Difficulty::Training => {
                let (least, most) = (distance.least as f64, distance.most as f64);
                let between: f64 = random.random_range(0.0..1.0);
                ((least * (most / least).powf(between)).round() as usize).clamp(distance.least, distance.most)
            }
        };
        let (mut values, mut targets) = (vec![], vec![]);
        match self {
            Task::FirstToken { symbols, distance: range } => {
                let ticks = distance(range, random);
                for _ in 0..batch {
                    let first = random.random_range(0..*symbols);
                    values.extend([first as f32, 0.0]);
                    (1..ticks).for_each(|_| values.extend([random.random_range(0..*symbols) as f32, 1.0]));
                    values.extend([0.0, 2.0]);
                    targets.push(first as u32);
                }
            }
            Task::KeyValue { pairs, values: kinds, distance: range } => {
                let noise = distance(range, random);
                for _ in 0..batch {
                    let mut keys: Vec<usize> = (0..*pairs).collect();
                    keys.shuffle(random);
                    let kept: Vec<usize> = keys.iter().map(|_| random.random_range(0..*kinds)).collect();
                    for (key, value) in keys.iter().zip(&kept) {
                        values.extend([(key + 1) as f32, (value + 1) as f32]);
                    }
                    (0..noise).for_each(|_| values.extend([0.0, random.random_range(1..=*kinds) as f32]));
                    let asked = random.random_range(0..*pairs);
                    values.extend([(keys[asked] + 1) as f32, 0.0]);
                    targets.push(kept[asked] as u32);
                }
            }
            Task::Sorting { symbols, length } => {
                let length = match difficulty {
                    Difficulty::Training => *length,
                    Difficulty::Farthest(times) => length * times,
                };
                for _ in 0..batch {
                    let (sequence, order) = sorting_sequence(*symbols, length, random);
                    values.extend(sequence.iter().flat_map(|symbol| [*symbol as f32, 0.0]));
                    // The question, then every answer but the last.
                    values.extend([0.0, 1.0]);
                    values.extend(order[..symbols - 1].iter().flat_map(|symbol| [*symbol as f32, 2.0]));
                    targets.extend(order.iter().map(|symbol| *symbol as u32));
                }
            }
        }
        let channels = self.inputs().len();
        let ticks = values.len() / channels / batch.max(1);
        Ok(Batch {
            x: Tensor::from_vec(values, (batch, ticks, channels), device)?,
            targets: Tensor::from_vec(targets, (batch, self.answers()), device)?,
        })
    }
}

/// A sequence and its symbols by descending frequency; ties go to the lower symbol.
fn sorting_sequence(symbols: usize, length: usize, random: &mut impl Rng) -> (Vec<usize>, Vec<usize>) {
    let mut distribution = || {
        let weights: Vec<f64> = (0..symbols).map(|_| f64::from(random.random_range(1..=9u8))).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect::<Vec<f64>>()
    };
    let (first, last) = (distribution(), distribution());
    let sequence: Vec<usize> = (0..length)
        .map(|tick| {
            let part = tick as f64 / length as f64;
            let mut left: f64 = random.random_range(0.0..1.0);
            let drawn = (0..symbols).find(|symbol| {
                left -= (1.0 - part) * first[*symbol] + part * last[*symbol];
                left < 0.0
            });
            drawn.unwrap_or(symbols - 1)
        })
        .collect();
    let order = by_frequency(symbols, &sequence);
    (sequence, order)
}

/// The symbols by descending frequency in `sequence`; ties go to the lower symbol.
pub fn by_frequency(symbols: usize, sequence: &[usize]) -> Vec<usize> {
    let mut counts = vec![0usize; symbols];
    sequence.iter().for_each(|symbol| counts[*symbol] += 1);
    let mut order: Vec<usize> = (0..symbols).collect();
    order.sort_by_key(|symbol| std::cmp::Reverse(counts[*symbol]));
    order
}

/// What sorting by exact counts reaches: with the whole sequence, and with the last `window` ticks alone. The answers
/// before are given, so that each answer is the most frequent symbol not yet named.
pub fn sorting_ceilings(
    symbols: usize,
    length: usize,
    window: usize,
    samples: usize,
    random: &mut impl Rng,
) -> [f64; 2] {
    let mut right = [0usize; 2];
    for _ in 0..samples {
        let (sequence, order) = sorting_sequence(symbols, length, random);
        for (right, from) in right.iter_mut().zip([0, length.saturating_sub(window)]) {
            let guess = by_frequency(symbols, &sequence[from..]);
            for place in 0..symbols {
                let named = &order[..place];
                let next = guess.iter().find(|symbol| !named.contains(symbol));
                *right += usize::from(next == Some(&order[place]));
            }
        }
    }
    right.map(|right| right as f64 / (samples * symbols) as f64)
}
