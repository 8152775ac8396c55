//! The model against itself written down slowly: one member, every tick by loops over plain vectors, the whole history
//! kept, the memory made anew at every tick.
#![allow(clippy::unwrap_used, clippy::panic)]

mod models;

use candle_core::{DType, Device};
use infformer::basis::{Basis, BasisKind};
use infformer::forgetting::{AdaptiveRule, Projection};
use infformer::model::{
    HeadKind, InputMask, LongTermForgetting, Model, ModelConfig, Normalisation, ReadingDensity, Residual, Wanted,
};
use infformer::reference::{self, Blocks, LinearMemory};
use infformer::{ChannelGroup, Forgetting, MemoryConfig, Scale};
use models::{config, observations};

type Vector = Vec<f64>;

/// A model and its weights as plain numbers.
struct Slow<'a>(&'a Model);

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn add(a: &[f64], b: &[f64]) -> Vector {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// Σ wᵢvᵢ/Σ wᵢ
fn mean(weights: &[f64], values: &[Vector], width: usize) -> Vector {
    let total: f64 = weights.iter().sum();
    (0..width).map(|i| weights.iter().zip(values).map(|(w, v)| w * v[i]).sum::<f64>() / total).collect()
}

impl Slow<'_> {
    fn weight(&self, name: &str) -> Vector {
        self.0.parameters()[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    fn matrix(&self, name: &str, x: &[f64]) -> Vector {
        self.weight(&format!("{name}.weight")).chunks_exact(x.len()).map(|row| dot(row, x)).collect()
    }

    fn affine(&self, name: &str, x: &[f64]) -> Vector {
        add(&self.matrix(name, x), &self.weight(&format!("{name}.bias")))
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vector {
        let count = x.len() as f64;
        let mean = x.iter().sum::<f64>() / count;
        let variance = x.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
        let normal: Vector = x.iter().map(|value| (value - mean) / (variance + 1e-5).sqrt()).collect();
        let scaled: Vector =
            normal.iter().zip(self.weight(&format!("{name}.weight"))).map(|(value, weight)| value * weight).collect();
        add(&scaled, &self.weight(&format!("{name}.bias")))
    }

    /// The heads of each tick.
    fn run(&self, observations: &[Vec<f32>]) -> Vec<Vec<Vector>> {
        let config = self.0.config();
        let tokens = self.weight("encoder.tokens.kind");
        let mut stream: Vec<Vector> = observations
            .iter()
            .map(|seen| {
                // The scale of the numbers is 2.
                let numbers = [f64::from(seen[0]) / 2.0, f64::from(seen[1]) / 2.0];
                let row = seen[2] as usize * config.width;
                let seen = add(&self.affine("encoder.continuous", &numbers), &tokens[row..row + config.width]);
                match config.normalisation {
                    Normalisation::Parts => seen,
                    Normalisation::Everything => self.norm("encoder.norm", &seen),
                }
            })
            .collect();
        for layer in 0..config.layers {
            stream = self.layer(&format!("layers.{layer}"), &stream);
        }
        let heads = |x: &Vector| {
            let x = self.norm("norm", x);
            let head = |head: &infformer::model::Head| {
                let mut y = self.affine(&format!("heads.{}", head.name), &x);
                if let HeadKind::Gaussian { size } = head.kind {
                    y[size..].iter_mut().for_each(|spread| *spread = 3.5 * spread.tanh() - 1.5);
                }
                y
            };
            config.heads.iter().map(head).collect()
        };
        stream.iter().map(heads).collect()
    }

    fn layer(&self, name: &str, stream: &[Vector]) -> Vec<Vector> {
        let config = self.0.config();
        let seen: Vec<Vector> = stream.iter().map(|x| self.norm(&format!("{name}.attention_norm"), x)).collect();
        let remembered = self.sums(&format!("{name}.recurrence"), &seen);
        let step = |tick: usize| {
            // The oldest L leave once S + L ticks are there.
            let chunks = (tick + 1).saturating_sub(config.short_term) / config.chunk;
            let window = &seen[chunks * config.chunk..=tick];
            let past = &seen[..chunks * config.chunk];
            let near = self.attend(&format!("{name}.short_term"), &seen[tick], window);
            let far = self.recall(&format!("{name}.long_term"), &seen[tick], past);
            let made = add(&add(&near, &far), &remembered[tick]);
            let x = self.join(&format!("{name}.gate"), &stream[tick], &made);
            let hidden = self.norm(&format!("{name}.feed_forward_norm"), &x);
            let hidden = self.affine(&format!("{name}.feed_forward.up"), &hidden);
            let root = (2.0 / std::f64::consts::PI).sqrt();
            let hidden: Vector =
                hidden.iter().map(|x| 0.5 * x * (1.0 + (root * (x + 0.044715 * x.powi(3))).tanh())).collect();
            let made = self.affine(&format!("{name}.feed_forward.down"), &hidden);
            self.join(&format!("{name}.feed_forward.gate"), &x, &made)
        };
        (0..stream.len()).map(step).collect()
    }

    /// What a part of a layer made joins the stream.
    fn join(&self, name: &str, stream: &[f64], made: &[f64]) -> Vector {
        if self.0.config().residual == Residual::Sum {
            return add(stream, made);
        }
        let made: Vector = made.iter().map(|y| y.max(0.0)).collect();
        let width = stream.len();
        let (w, u) = (self.matrix(&format!("{name}.made"), &made), self.matrix(&format!("{name}.stream"), stream));
        let kept: Vector = (0..width).map(|i| sigmoid(w[i] + u[i]) * stream[i]).collect();
        let (new, bias) = (self.matrix(&format!("{name}.kept"), &kept), self.weight(&format!("{name}.bias")));
        let value = |i: usize| {
            let open = sigmoid(w[width + i] + u[width + i] - bias[i]);
            (1.0 - open) * stream[i] + open * (w[2 * width + i] + new[i]).tanh()
        };
        (0..width).map(value).collect()
    }

    /// What the linear recurrence makes of every tick.
    fn sums(&self, name: &str, seen: &[Vector]) -> Vec<Vector> {
        let units = self.0.config().recurrence;
        if units == 0 {
            return vec![vec![0.0; self.0.config().width]; seen.len()];
        }
        let (decay, phase) = (self.weight(&format!("{name}.decay")), self.weight(&format!("{name}.phase")));
        let mut state = vec![0.0; 2 * units];
        let step = |x: &Vector| {
            let input = self.matrix(&format!("{name}.input"), x);
            for unit in 0..units {
                let length = (-decay[unit].exp()).exp();
                let (turn, lift) = (length * phase[unit].cos(), length * phase[unit].sin());
                let scale = (1.0 - length * length).sqrt();
                let (real, imaginary) = (state[unit], state[units + unit]);
                state[unit] = turn * real - lift * imaginary + scale * input[unit];
                state[units + unit] = turn * imaginary + lift * real + scale * input[units + unit];
            }
            self.affine(&format!("{name}.output"), &state)
        };
        seen.iter().map(step).collect()
    }

    fn attend(&self, name: &str, now: &[f64], window: &[Vector]) -> Vector {
        let config = self.0.config();
        let heads = config.attention_heads;
        let size = config.width / heads;
        let map = |what: &str, x: &[f64]| self.matrix(&format!("{name}.{what}"), x);
        let (query, bias) = (map("query", now), self.weight(&format!("{name}.bias_by_age")));
        let keys: Vec<Vector> = window.iter().map(|x| map("key", x)).collect();
        let values: Vec<Vector> = window.iter().map(|x| map("value", x)).collect();
        let mut joined = vec![];
        for head in 0..heads {
            let own = head * size..(head + 1) * size;
            let ages = bias.len() / heads;
            let weight = |(at, key): (usize, &Vector)| {
                let age = window.len() - 1 - at;
                let bias = 8.0 * bias[head * ages + age] - age as f64 * 0.25f64.powi(head as i32);
                (dot(&query[own.clone()], &key[own.clone()]) / (size as f64).sqrt() + bias).exp()
            };
            let weights: Vector = keys.iter().enumerate().map(weight).collect();
            joined.extend_from_slice(&mean(&weights, &values, config.width)[own]);
        }
        self.readout(name, &joined)
    }

    fn recall(&self, name: &str, now: &[f64], past: &[Vector]) -> Vector {
        let config = self.0.config();
        let long_term = config.long_term.as_ref().unwrap();
        let size = config.width / config.attention_heads;
        if past.is_empty() {
            return self.readout(name, &vec![0.0; config.width]);
        }
        let past: Vec<Vector> = past.chunks_exact(config.chunk).flat_map(|chunk| self.masked(name, chunk)).collect();
        let (coefficients, lengths, basis) = self.memory(&past);
        let query = self.matrix(&format!("{name}.query"), now);
        let (keys, values) = (self.weight(&format!("{name}.key.weight")), self.weight(&format!("{name}.value.weight")));
        let mut joined = vec![];
        for head in 0..config.attention_heads {
            let rows = |matrix: &'_ [f64], x: &[f64]| -> Vector {
                let rows = matrix.chunks_exact(config.width).skip(head * size).take(size);
                rows.map(|row| dot(row, x)).collect()
            };
            let own = &query[head * size..(head + 1) * size];
            let score = |coefficient: &Vector| dot(own, &rows(&keys, coefficient)) / (size as f64).sqrt();
            let scores: Vector = coefficients.iter().map(score).collect();
            let moment = match long_term.density {
                ReadingDensity::Affine { variance_floor } => {
                    let centre = sigmoid(dot(&self.weight(&format!("{name}.mean.weight")), &scores));
                    let spread = dot(&self.weight(&format!("{name}.variance.weight")), &scores).exp().ln_1p();
                    let psi = reference::expectation(&basis, centre, spread.max(variance_floor));
                    (0..config.width).map(|i| psi.iter().zip(&coefficients).map(|(p, b)| p * b[i]).sum()).collect()
                }
                ReadingDensity::Gaussian => panic!("not written down slowly"),
                ReadingDensity::Softmax => {
                    let weights: Vector = scores.iter().map(|score| score.exp()).collect();
                    mean(&weights, &coefficients, config.width)
                }
                ReadingDensity::Gibbs => {
                    let mut age = lengths.iter().sum::<f64>();
                    let weight = |(score, length): (&f64, &f64)| {
                        let older = long_term.measure.coordinate(age);
                        age -= length;
                        score.exp() * (older - long_term.measure.coordinate(age))
                    };
                    let weights: Vector = scores.iter().zip(&lengths).map(weight).collect();
                    mean(&weights, &coefficients, config.width)
                }
            };
            joined.extend(rows(&values, &moment));
        }
        self.readout(name, &joined)
    }

    fn readout(&self, name: &str, read: &[f64]) -> Vector {
        match self.0.config().normalisation {
            Normalisation::Parts => self.matrix(&format!("{name}.output"), read),
            Normalisation::Everything => {
                self.matrix(&format!("{name}.output"), &self.norm(&format!("{name}.norm"), read))
            }
        }
    }

    /// The convolutional mask on one chunk.
    fn masked(&self, name: &str, chunk: &[Vector]) -> Vec<Vector> {
        let (weight, bias) = (self.weight(&format!("{name}.mask.weight")), self.weight(&format!("{name}.mask.bias")));
        let width = bias.len();
        let value = |tick: usize, i: usize| {
            let mut logit = bias[i];
            for place in 0..3 {
                if let Some(neighbour) = (tick + place).checked_sub(1).and_then(|at| chunk.get(at)) {
                    logit += (0..width).map(|j| weight[(i * width + j) * 3 + place] * neighbour[j]).sum::<f64>();
                }
            }
            chunk[tick][i] * sigmoid(logit)
        };
        (0..chunk.len()).map(|tick| (0..width).map(|i| value(tick, i)).collect()).collect()
    }

    /// Coefficients of the past, oldest first, with the ticks of each where they are blocks.
    fn memory(&self, past: &[Vector]) -> (Vec<Vector>, Vector, Basis) {
        let config = self.0.config();
        let long_term = config.long_term.as_ref().unwrap();
        let capacity = long_term.capacity;
        let bins = Basis::new(&BasisKind::Bins, capacity).unwrap();
        match &long_term.forgetting {
            LongTermForgetting::MeanPooled { rate } => {
                // The newest may not be full yet.
                let mean = |run: &[Vector]| (mean(&vec![1.0; run.len()], run, config.width), run.len() as f64);
                let (mut means, mut lengths): (Vec<Vector>, Vector) = past.chunks(*rate).map(mean).unzip();
                let dropped = means.len().saturating_sub(capacity);
                (means.split_off(dropped), lengths.split_off(dropped), bins)
            }
            LongTermForgetting::Signal(Forgetting::Adaptive(rule)) => {
                assert_eq!(rule.mix, 0.0, "the running variance is not followed here");
                let mut blocks = Blocks::new(*rule, capacity);
                for x in past {
                    blocks.push(x, 0.0);
                }
                let (means, lengths) = blocks.blocks().unzip();
                (means, lengths, bins)
            }
            LongTermForgetting::Signal(forgetting) => {
                let group = ChannelGroup::new("x", &["x"], "", Scale::Given(1.0));
                let memory = MemoryConfig {
                    forgetting: forgetting.clone(),
                    capacity,
                    chunk: config.chunk,
                    ..MemoryConfig::events(vec![group])
                };
                let basis = Basis::new(forgetting.basis(), capacity).unwrap();
                let mut coefficients = vec![vec![]; capacity];
                for channel in 0..config.width {
                    let mut memory = LinearMemory::new(&memory).unwrap().unwrap();
                    let values: Vector = past.iter().map(|x| x[channel]).collect();
                    values.chunks_exact(config.chunk).for_each(|chunk| memory.write(chunk));
                    let written = coefficients.iter_mut().zip(memory.coefficients());
                    written.for_each(|(row, value): (&mut Vector, &f64)| row.push(*value));
                }
                (coefficients, vec![], basis)
            }
        }
    }
}

#[test]
fn the_fast_model_is_the_slow_one() {
    let rule = AdaptiveRule { mix: 0.0, ..AdaptiveRule::default() };
    let rbf = BasisKind::GaussianRbf { widths: vec![0.05, 0.1] };
    let affine = ReadingDensity::Affine { variance_floor: 1e-4 };
    let cosine = Forgetting::PowerLaw { resolution: 8.0, horizon: 500.0, basis: BasisKind::Cosine };
    let paper = Forgetting::Geometric { tau: 0.75, basis: rbf, projection: Projection::default() };
    let signal = LongTermForgetting::Signal;
    let variants = [
        (Normalisation::Parts, 0, Residual::Sum),
        (Normalisation::Everything, 3, Residual::Sum),
        (Normalisation::Parts, 3, Residual::Gate),
    ];
    let policies = [
        (signal(Forgetting::Adaptive(rule)), ReadingDensity::Gibbs),
        (signal(Forgetting::Adaptive(rule)), ReadingDensity::Softmax),
        (LongTermForgetting::MeanPooled { rate: 2 }, ReadingDensity::Gibbs),
        (LongTermForgetting::MeanPooled { rate: 12 }, ReadingDensity::Gibbs),
        (signal(cosine), affine),
        (signal(paper), affine),
    ];
    for ((policy, density), (normalisation, recurrence, residual)) in policies.iter().zip(variants.into_iter().cycle())
    {
        let name = format!("{policy:?}");
        let config = config(policy.clone(), *density, InputMask::Convolution);
        let config = ModelConfig { normalisation, recurrence, residual, ..config };
        let model = config.init_seeded(5, DType::F64, &Device::Cpu).unwrap();
        // Weights that start at 0 or 1 would hide a mistake.
        for (name, var) in model.parameters() {
            if name.contains("bias") || name.contains("norm") {
                let values: Vector = (0..var.elem_count()).map(|i| 1.0 + 0.5 * (1.7 * i as f64).sin()).collect();
                var.set(&candle_core::Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
            }
        }
        let x = observations(1, 110, 4);
        let (outputs, _) = model.forward_segment(&x, &[], Wanted::All, &model.empty_state(1).unwrap()).unwrap();
        let slow = Slow(&model).run(&x.to_vec3::<f32>().unwrap()[0]);
        for (number, head) in outputs.heads.iter().enumerate() {
            let fast = head.to_vec3::<f64>().unwrap();
            for (tick, (fast, slow)) in fast[0].iter().zip(&slow).enumerate() {
                for (fast, slow) in fast.iter().zip(&slow[number]) {
                    // Matrices and shares are f32: some dozen writes of 6e-8 of values of order 1, through two layers.
                    assert!((fast - slow).abs() < 1e-5, "{name}, head {number}, tick {tick}: {fast} and {slow}");
                }
            }
        }
    }
}
