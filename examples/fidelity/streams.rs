//! The streams that a memory is asked to keep, all of unit variance.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::f64::consts::TAU;

/// A kind of stream; its channels are independent sample paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// A critically damped second-order process; its two equal time constants of 30 to 60 steps, one draw a channel,
    /// correlate it over 60 to 120 steps.
    Smooth,
    /// The sum of four Ornstein–Uhlenbeck processes of 30, 300, 3,000 and 30,000 steps.
    Multi,
    /// Constant pieces of 100 steps on average (geometric), each with new normal values in all channels at once.
    Piece,
}

impl Stream {
    /// All kinds.
    pub const ALL: [Stream; 3] = [Stream::Smooth, Stream::Multi, Stream::Piece];

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Smooth => "smooth",
            Stream::Multi => "multi",
            Stream::Piece => "piece",
        }
    }

    /// `channels` sample paths of `steps` values, step by step: \[steps × channels\].
    pub fn sample(self, steps: usize, channels: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let mut paths: Vec<Path> = (0..channels).map(|_| Path::new(self, rng)).collect();
        let mut values = Vec::with_capacity(steps * channels);
        for _ in 0..steps {
            // The pieces of all channels end together: they are one modality.
            let piece_ends = rng.random_bool(0.01);
            values.extend(paths.iter_mut().map(|path| path.next(piece_ends, rng) as f32));
        }
        values
    }
}

/// One sample path under way.
enum Path {
    Smooth { keep: f64, gain: f64, first: f64, second: f64 },
    Multi { keeps: [f64; 4], states: [f64; 4] },
    Piece { value: f64 },
}

impl Path {
    fn new(stream: Stream, rng: &mut ChaCha8Rng) -> Self {
        match stream {
            Stream::Smooth => {
                let keep = (-1.0 / rng.random_range(30.0..60.0_f64)).exp();
                // Stationary variance of two equal first-order filters in a row, driven by unit noise.
                let squared = keep * keep;
                let variance = (1.0 + squared) / (1.0 - squared).powi(3);
                let mut path = Path::Smooth { keep, gain: 1.0 / variance.sqrt(), first: 0.0, second: 0.0 };
                for _ in 0..2_000 {
                    path.next(false, rng);
                }
                path
            }
            Stream::Multi => {
                let keeps = [30.0, 300.0, 3_000.0, 30_000.0].map(|steps: f64| (-1.0 / steps).exp());
                Path::Multi { keeps, states: [(); 4].map(|()| 0.5 * normal(rng)) }
            }
            Stream::Piece => Path::Piece { value: normal(rng) },
        }
    }

    fn next(&mut self, piece_ends: bool, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Path::Smooth { keep, gain, first, second } => {
                *first = *keep * *first + normal(rng);
                *second = *keep * *second + *first;
                *second * *gain
            }
            Path::Multi { keeps, states } => {
                for (state, keep) in states.iter_mut().zip(keeps) {
                    *state = *keep * *state + 0.5 * (1.0 - *keep * *keep).sqrt() * normal(rng);
                }
                states.iter().sum()
            }
            Path::Piece { value } => {
                if piece_ends {
                    *value = normal(rng);
                }
                *value
            }
        }
    }
}

/// A standard normal number (Box–Muller).
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
}

/// Steps an event lasts.
pub const EVENT_STEPS: usize = 8;
/// Noise a dimension of the event stream, as a standard deviation.
pub const EVENT_NOISE: f64 = 0.1;
/// Different keys.
pub const EVENT_KEYS: usize = 32;
/// Dimensions of a key.
pub const EVENT_WIDTH: usize = 32;

/// Now and then one of 32 unit keys is shown for 8 steps, every 200 steps or so; the rest is noise.
pub struct EventStream {
    /// The keys \[32 × 32\], of unit length.
    pub keys: Vec<Vec<f32>>,
    /// The observations \[steps × 32\].
    pub values: Vec<f32>,
    /// First step and key of each event.
    pub events: Vec<(usize, usize)>,
}

impl EventStream {
    /// A stream of `steps` observations.
    pub fn sample(steps: usize, rng: &mut ChaCha8Rng) -> Self {
        let keys: Vec<Vec<f32>> = (0..EVENT_KEYS)
            .map(|_| {
                let key: Vec<f64> = (0..EVENT_WIDTH).map(|_| normal(rng)).collect();
                let length = key.iter().map(|value| value * value).sum::<f64>().sqrt();
                key.iter().map(|value| (value / length) as f32).collect()
            })
            .collect();
        let mut values: Vec<f32> = (0..steps * EVENT_WIDTH).map(|_| (EVENT_NOISE * normal(rng)) as f32).collect();
        let mut events = vec![];
        let mut at = rng.random_range(0..200);
        while at + EVENT_STEPS <= steps {
            let key = rng.random_range(0..EVENT_KEYS);
            for row in values[at * EVENT_WIDTH..(at + EVENT_STEPS) * EVENT_WIDTH].chunks_exact_mut(EVENT_WIDTH) {
                row.iter_mut().zip(&keys[key]).for_each(|(value, key)| *value += key);
            }
            events.push((at, key));
            at += EVENT_STEPS + rng.random_range(92..292);
        }
        Self { keys, values, events }
    }
}
