//! The slow, obvious versions of the formulas. Tests hold the fast ones against these; nothing else uses them.

use crate::basis::Basis;
use crate::config::MemoryConfig;
use crate::density::Measure;
use crate::error::Result;
use crate::forgetting::{AdaptiveRule, Forgetting, TimeAxis};
use crate::projection::{self, Operator};
use nalgebra::DVector;

/// Points of the midpoint rule that stands for every integral here.
const POINTS: usize = 20_000;

/// The coefficients whose signal is nearest to `signal` on \[0, 1\] in the mean square: dense normal equations on
/// 20,000 midpoints, solved by LU. `ridge` is relative to the mean of the Gram diagonal.
pub fn fit(basis: &Basis, ridge: f64, signal: impl Fn(f64) -> f64) -> Option<DVector<f64>> {
    let midpoints: Vec<f64> = (0..POINTS).map(|i| (i as f64 + 0.5) / POINTS as f64).collect();
    let design = projection::design(basis, &midpoints);
    let values = DVector::from_iterator(POINTS, midpoints.iter().map(|t| signal(*t)));
    let mut gram = design.tr_mul(&design) / POINTS as f64;
    let lambda = ridge * gram.trace() / basis.count() as f64;
    (0..basis.count()).for_each(|i| gram[(i, i)] += lambda);
    gram.lu().solve(&(design.tr_mul(&values) / POINTS as f64))
}

/// The signal Bᵀψ(t) of one channel.
pub fn evaluate(basis: &Basis, coefficients: &[f64], t: f64) -> f64 {
    let mut psi = vec![0.0; basis.count()];
    basis.evaluate(t, &mut psi);
    psi.iter().zip(coefficients).map(|(psi, coefficient)| psi * coefficient).sum()
}

/// What a write means: the signal that the coefficients after it are fitted to. `chunk` \[L\] has its oldest
/// observation first; `past` is the signal before; `written` counts the observations before.
pub fn signal_after_write<'a>(
    axis: TimeAxis,
    past: impl Fn(f64) -> f64 + 'a,
    chunk: &'a [f64],
    written: u64,
) -> impl Fn(f64) -> f64 + 'a {
    let length = chunk.len();
    move |t| {
        let age = axis.age(t, written + length as u64, &[]);
        if age < length as f64 {
            chunk[length - 1 - age as usize]
        } else {
            past(axis.position(age - length as f64, written, &[]))
        }
    }
}

/// E\[ψ\] under N(mean, variance) by the midpoint rule over ten standard deviations.
pub fn expectation(basis: &Basis, mean: f64, variance: f64) -> Vec<f64> {
    let spread = variance.sqrt();
    let mut sum = vec![0.0; basis.count()];
    let mut psi = vec![0.0; basis.count()];
    for i in 0..POINTS {
        let z = -10.0 + 20.0 * (i as f64 + 0.5) / POINTS as f64;
        let weight = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt() * 20.0 / POINTS as f64;
        basis.evaluate(mean + spread * z, &mut psi);
        sum.iter_mut().zip(&psi).for_each(|(sum, psi)| *sum += weight * psi);
    }
    sum
}

/// One channel of a linear memory in f64, write by write.
#[derive(Debug, Clone)]
pub struct LinearMemory {
    basis: Basis,
    operator: Operator,
    coefficients: DVector<f64>,
    chunks: u64,
    chunk: usize,
    time_varying: bool,
}

impl LinearMemory {
    /// `None` for the policies that are not linear (`Sticky`, `Adaptive`).
    pub fn new(config: &MemoryConfig) -> Result<Option<Self>> {
        let basis = Basis::new(config.forgetting.basis(), config.capacity)?;
        let operator = match &config.forgetting {
            Forgetting::Geometric { tau, projection, .. } => {
                projection::geometric(&basis, *tau, config.chunk, *projection)?
            }
            Forgetting::PowerLaw { resolution, horizon, .. } => {
                projection::power_law(&basis, *resolution, *horizon, config.chunk)?
            }
            Forgetting::Uniform => projection::uniform(&basis, 0, config.chunk),
            Forgetting::Sticky { .. } | Forgetting::Adaptive(_) => return Ok(None),
        };
        let time_varying = config.forgetting == Forgetting::Uniform;
        let coefficients = DVector::zeros(basis.count());
        Ok(Some(Self { basis, operator, coefficients, chunks: 0, chunk: config.chunk, time_varying }))
    }

    /// Writes one chunk \[L\].
    pub fn write(&mut self, chunk: &[f64]) {
        if self.time_varying {
            self.operator = projection::uniform(&self.basis, self.chunks, self.chunk);
        }
        let chunk = DVector::from_column_slice(chunk);
        self.coefficients = if self.chunks == 0 {
            &self.operator.first * chunk
        } else {
            &self.operator.past * &self.coefficients + &self.operator.chunk * chunk
        };
        self.chunks += 1;
    }

    /// B of this channel \[N\].
    pub fn coefficients(&self) -> &[f64] {
        self.coefficients.as_slice()
    }

    /// The signal at t.
    pub fn evaluate(&self, t: f64) -> f64 {
        evaluate(&self.basis, self.coefficients.as_slice(), t)
    }

    /// The signal at t that other coefficients have on the same basis.
    pub fn evaluate_with(&self, coefficients: &[f64], t: f64) -> f64 {
        evaluate(&self.basis, coefficients, t)
    }
}

/// `Adaptive` for one group, every cost from scratch at every observation. Scales are 1.
#[derive(Debug, Clone)]
pub struct Blocks {
    rule: AdaptiveRule,
    capacity: usize,
    /// Sums and lengths, oldest first.
    blocks: Vec<(Vec<f64>, f64)>,
}

impl Blocks {
    /// No block yet; `capacity` is N.
    pub fn new(rule: AdaptiveRule, capacity: usize) -> Self {
        Self { rule, capacity, blocks: vec![] }
    }

    /// Adds an observation; `variance` is the group's mean variance. Of merges that cost the same the oldest is done. What is no
    /// number changes nothing.
    pub fn push(&mut self, values: &[f64], variance: f64) {
        if let Some(after) = self.clone().after(values, variance, 0.0).into_iter().next() {
            *self = after;
        }
    }

    /// What an observation may make of the blocks where arithmetic is not exact. Usually that is one thing. But merges can
    /// cost the same (equal losses below the tolerance, at ages in the same ratio), and then rounding decides: given are,
    /// the oldest first, all merges that are dearer than the cheapest by at most `slack` times the numbers that a cost is
    /// made of.
    pub fn after(mut self, values: &[f64], variance: f64, slack: f64) -> Vec<Self> {
        self.blocks.push((values.to_vec(), 1.0));
        if self.blocks.len() <= self.capacity {
            return vec![self];
        }
        let costs: Vec<_> = (0..self.blocks.len() - 1).map(|pair| self.cost(pair, variance)).collect();
        let dearest = costs.iter().map(|(cost, size)| cost + slack * size).fold(f64::INFINITY, f64::min);
        let possible = costs.iter().enumerate().filter(|(_, (cost, size))| cost - slack * size <= dearest);
        possible.map(|(pair, _)| self.merged(pair)).collect()
    }

    fn merged(&self, pair: usize) -> Self {
        let mut blocks = self.blocks.clone();
        let (sum, length) = blocks.remove(pair + 1);
        blocks[pair].0.iter_mut().zip(&sum).for_each(|(left, right)| *left += right);
        blocks[pair].1 += length;
        Self { rule: self.rule, capacity: self.capacity, blocks }
    }

    /// What it costs to merge a pair, and the size of the numbers whose sums and differences that is.
    fn cost(&self, pair: usize, variance: f64) -> (f64, f64) {
        let ((left, l1), (right, l2)) = (&self.blocks[pair], &self.blocks[pair + 1]);
        let means = left.iter().zip(right).map(|(a, b)| (a / l1, b / l2));
        let weight = l1 * l2 / (l1 + l2) / left.len() as f64;
        let loss = weight * means.clone().map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        let size = weight * means.map(|(a, b)| (a.abs() + b.abs()).powi(2)).sum::<f64>();
        let younger: f64 = self.blocks[pair + 2..].iter().map(|(_, length)| length).sum();
        let near = younger + 0.5 * (l1 + l2) + self.rule.resolution;
        let mix = self.rule.mix * variance * (l1 + l2);
        (((loss - self.rule.tolerance).max(0.0) + mix) / near, (size + self.rule.tolerance + mix) / near)
    }

    /// The blocks, oldest first: mean and length.
    pub fn blocks(&self) -> impl Iterator<Item = (Vec<f64>, f64)> {
        self.blocks.iter().map(|(sum, length)| (sum.iter().map(|value| value / length).collect(), *length))
    }
}

/// Recall over a history that was kept whole: the Gibbs density of each observation, newest first, and the expected
/// observation under it.
pub fn recall(
    history: &[Vec<f64>],
    constraints: &[(usize, f64)],
    sharpness: f64,
    measure: Measure,
) -> (Vec<f64>, Vec<f64>) {
    let weight = |(age, values): (usize, &Vec<f64>)| {
        let distance: f64 = constraints.iter().map(|(channel, value)| (values[*channel] - value).powi(2)).sum();
        let age = age as f64;
        (-sharpness * distance).exp() * (measure.coordinate(age + 1.0) - measure.coordinate(age))
    };
    let weights: Vec<f64> = history.iter().rev().enumerate().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let density: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
    let width = history.first().map_or(0, Vec::len);
    let mean = |channel: usize| density.iter().zip(history.iter().rev()).map(|(p, values)| p * values[channel]).sum();
    let expected = (0..width).map(mean).collect();
    (density, expected)
}
