//! Training-free recall: a query is answered by the density p ∝ exp(−β·squared distance) × measure over the past.
//!
//! The squared distance of a moment to the query is taken on the constrained channels, in units of their scales; a
//! dot product would favour large values over like ones.

use crate::basis::normal_cumulative;
use crate::density::{Density, Measure};
use crate::kernels::{dots, exp, ln_1p, run};
use crate::moments::{AgentState, Cells, Knots};
use crate::plan::Policy;
use crate::query::{Answer, AnswerDetail, DensityCell, Query};
use pulp::{Simd, WithSimd};

/// Two neighbouring maxima are two peaks when the valley between them is below this share of each.
pub(crate) const VALLEY: f32 = 0.5;
/// Moments of at least this share of a peak's similarity are of the peak.
pub(crate) const NEAR: f32 = 0.5;

/// Work space of recall, re-used from one query to the next.
#[derive(Debug, Default)]
pub(crate) struct RecallScratch {
    pub(crate) cells: Cells,
    /// Squared distance to the query a cell.
    distances: Vec<f64>,
    /// exp(−β(D − D_min)) a cell.
    similarity: Vec<f32>,
    mass: Vec<f32>,
    /// Ends of the cells on the axis of the measure, and the normal distribution there.
    coordinates: Vec<f64>,
    peaks: Vec<PeakRange>,
    /// Weights of one peak's cells.
    weights: Vec<f32>,
    /// E\[ψ\] of the whole density and of each peak \[1 + peaks, N\].
    expectations: Vec<f32>,
    /// Their products with Bᵀ \[1 + peaks, d\].
    products: Vec<f32>,
}

#[derive(Debug, Clone, Copy)]
struct PeakRange {
    start: usize,
    end: usize,
    height: f32,
    mass: f32,
}

impl RecallScratch {
    /// Adds the last density over the reading grid to an attention histogram, if there is one (sticky memories).
    pub(crate) fn add_to_histogram(&self, agent: &AgentState, histogram: &mut [f32]) {
        let Policy::Linear(plan) = &agent.plan.policy else { return };
        if histogram.is_empty() {
            return;
        }
        let bins_a_row = histogram.len() as f64 / plan.grid.cells() as f64;
        for (cell, mass) in self.mass.iter().enumerate() {
            let Some(row) = self.cells.grid_row(agent, cell) else { continue };
            let (from, to) = (row as f64 * bins_a_row, (row + 1) as f64 * bins_a_row);
            for bin in from as usize..(to.ceil() as usize).min(histogram.len()) {
                let overlap = (to.min((bin + 1) as f64) - from.max(bin as f64)).max(0.0);
                histogram[bin] += mass * (overlap / bins_a_row) as f32;
            }
        }
    }
}

/// Answers `query` for an agent at `tick`. An agent that has seen nothing gives an empty answer of confidence 0.
pub(crate) fn recall(agent: &AgentState, query: &Query, tick: u64, scratch: &mut RecallScratch, answer: &mut Answer) {
    answer.clear();
    let config = &agent.plan.config.recall;
    answer.reserve(config.peaks, agent.plan.layout.width());
    let Some(first) = query.constraints().first() else { return };
    let clock_group = match &agent.plan.policy {
        Policy::Blocks(plan) => plan.group_of(first.channel),
        Policy::Linear(_) => 0,
    };
    let RecallScratch { cells, distances, similarity, mass, coordinates, peaks, weights, expectations, products } =
        scratch;
    mass.clear();
    cells.list(agent, Knots::All { clock_group }, query.constraints().iter().map(|constraint| constraint.channel));
    if cells.is_empty() {
        return;
    }
    distances.clear();
    distances.resize(cells.len(), 0.0);
    for (number, constraint) in query.constraints().iter().enumerate() {
        cells.add_distances(agent, number, constraint, distances);
    }
    let sharpness = f64::from(config.sharpness);
    similarity.resize(cells.len(), 0.0);
    mass.resize(cells.len(), 0.0);
    let nearest = run(Gibbs { cells, distances, sharpness, measure: config.measure, similarity, mass });
    if config.density == Density::Gaussian {
        spread_as_gaussian(cells, config.measure, mass, coordinates);
    }

    let late = tick.saturating_sub(agent.counters.newest_tick) as f64;
    let (mean_age, variance) = run(AgeMoments { cells, mass, squares: distances });
    answer.age = (mean_age + late) as f32;
    answer.age_spread = variance.sqrt() as f32;
    let best = (-sharpness * nearest).exp();
    answer.confidence = best as f32;

    peaks.clear();
    if query.detail() != AnswerDetail::Expectation {
        find_peaks(similarity, mass, config.peaks, peaks);
    }
    let width = agent.plan.layout.width();
    let count = match &agent.plan.policy {
        Policy::Linear(plan) if agent.counters.written > 0 => plan.basis.count(),
        _ => 0,
    };
    expectations.clear();
    expectations.resize((1 + peaks.len()) * count, 0.0);
    let (expectation, mut rest) = expectations.split_at_mut(count);
    answer.value.resize(width, 0.0);
    cells.add_expected(agent, 0..cells.len(), mass, &mut answer.value, expectation);
    for peak in peaks.iter() {
        let range = peak.start..peak.end;
        weights.clear();
        weights.extend(range.clone().map(|cell| {
            let near = similarity[cell] >= NEAR * peak.height;
            if near && peak.mass > 0.0 { mass[cell] / peak.mass } else { 0.0 }
        }));
        // The peak proper: the others of its basin weigh nothing.
        let near = |weight: &f32| *weight != 0.0;
        let skipped = weights.iter().position(near).unwrap_or(0);
        let kept = weights.iter().rposition(near).map_or(0, |last| last + 1).max(skipped);
        let range = range.start + skipped..range.start + kept;
        let weights = &weights[skipped..kept];
        let age: f64 = range.clone().zip(weights).map(|(cell, weight)| cells.ages[cell] * f64::from(*weight)).sum();
        let value = answer.add_peak((age + late) as f32, peak.mass, (best * f64::from(peak.height)) as f32);
        let (expectation, others) = std::mem::take(&mut rest).split_at_mut(count);
        cells.add_expected(agent, range, weights, value, expectation);
        rest = others;
    }
    if count > 0 {
        products.clear();
        products.resize((1 + peaks.len()) * width, 0.0);
        dots(expectations, &agent.long_term[..width * count], count, products);
        answer.add_to_values(products);
    }
    if query.detail() == AnswerDetail::Density {
        answer.density.extend(mass.iter().enumerate().map(|(cell, mass)| DensityCell {
            newer: (cells.ticks[cell] + late) as f32,
            older: (cells.older_tick(cell) + late) as f32,
            mass: *mass,
        }));
    }
}

/// Fills in the similarity and the normalised Gibbs density of each cell; gives the least distance.
struct Gibbs<'a> {
    cells: &'a Cells,
    distances: &'a mut [f64],
    sharpness: f64,
    measure: Measure,
    similarity: &'a mut [f32],
    mass: &'a mut [f32],
}

impl WithSimd for Gibbs<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let Self { cells, distances, sharpness, measure, similarity, mass } = self;
        let ends = cells.ends.iter().zip(&cells.ends[1..]);
        match measure {
            // ln(1 + older/a₀) − ln(1 + newer/a₀), without taking large numbers from each other.
            Measure::Recency { resolution } => {
                for (mass, (newer, older)) in mass.iter_mut().zip(ends) {
                    *mass = ln_1p((older - newer) as f32 / (newer + resolution) as f32);
                }
            }
            Measure::Lifetime => {
                for (mass, (newer, older)) in mass.iter_mut().zip(ends) {
                    *mass = (older - newer) as f32;
                }
            }
        }
        // Where attention bends the axis, a cell may have no length: it says nothing of what is nearest.
        let nearest = least(distances, mass);
        for ((similarity, mass), distance) in similarity.iter_mut().zip(mass.iter_mut()).zip(&*distances) {
            *similarity = exp((-sharpness * (*distance - nearest).max(0.0)) as f32);
            *mass *= *similarity;
        }
        let share = (1.0 / sum(mass)) as f32;
        for mass in mass {
            *mass *= share;
        }
        nearest
    }
}

/// Mean and variance of the age in ticks.
struct AgeMoments<'a> {
    cells: &'a Cells,
    mass: &'a [f32],
    /// Work space \[cells\].
    squares: &'a mut [f64],
}

impl WithSimd for AgeMoments<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (f64, f64) {
        let Self { cells, mass, squares } = self;
        let mean = weighted_sum(&cells.ages, mass);
        let ends = cells.ends.iter().zip(&cells.ends[1..]);
        for (((square, age), (newer, older)), interval) in
            squares.iter_mut().zip(&cells.ages).zip(ends).zip(&cells.intervals)
        {
            let length = older - newer;
            // The variance of so many evenly spaced observations; one is exactly as old as it is.
            let within = (length * length - 1.0).max(0.0) * interval * interval;
            *square = (age - mean) * (age - mean) + within * (1.0 / 12.0);
        }
        (mean, weighted_sum(squares, mass))
    }
}

/// The least of the values that weigh anything, eight at a time.
#[inline(always)]
fn least(values: &[f64], weights: &[f32]) -> f64 {
    let mut least = [f64::INFINITY; 8];
    let ((chunks, rest), (weight_chunks, rest_weights)) = (values.as_chunks::<8>(), weights.as_chunks::<8>());
    for (values, weights) in chunks.iter().zip(weight_chunks) {
        for lane in 0..8 {
            let value = if weights[lane] > 0.0 { values[lane] } else { f64::INFINITY };
            least[lane] = if value < least[lane] { value } else { least[lane] };
        }
    }
    let mut all = f64::INFINITY;
    for value in least {
        all = all.min(value);
    }
    for (value, weight) in rest.iter().zip(rest_weights) {
        all = if *weight > 0.0 { all.min(*value) } else { all };
    }
    all
}

/// Σ weight: eight sums side by side, then one.
#[inline(always)]
fn sum(weights: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let (chunks, rest) = weights.as_chunks::<8>();
    for weights in chunks {
        for lane in 0..8 {
            sums[lane] += f64::from(weights[lane]);
        }
    }
    let mut all = 0.0;
    for weight in rest {
        all += f64::from(*weight);
    }
    for sum in sums {
        all += sum;
    }
    all
}

/// Σ value·weight, in the same way.
#[inline(always)]
fn weighted_sum(values: &[f64], weights: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let ((chunks, rest), (weight_chunks, rest_weights)) = (values.as_chunks::<8>(), weights.as_chunks::<8>());
    for (values, weights) in chunks.iter().zip(weight_chunks) {
        for lane in 0..8 {
            sums[lane] += values[lane] * f64::from(weights[lane]);
        }
    }
    let mut all = 0.0;
    for (value, weight) in rest.iter().zip(rest_weights) {
        all += value * f64::from(*weight);
    }
    for sum in sums {
        all += sum;
    }
    all
}

/// Replaces a Gibbs density by the Gaussian with its mean and variance on the axis of the measure. `coordinates` is work
/// space.
fn spread_as_gaussian(cells: &Cells, measure: Measure, mass: &mut [f32], coordinates: &mut Vec<f64>) {
    coordinates.clear();
    coordinates.extend(cells.ends.iter().map(|age| measure.coordinate(*age)));
    let middle = |ends: &[f64]| 0.5 * (ends[0] + ends[1]);
    let weighted = || coordinates.windows(2).zip(mass.iter().map(|mass| f64::from(*mass)));
    let mean: f64 = weighted().map(|(ends, mass)| mass * middle(ends)).sum();
    let spread = |ends: &[f64]| (middle(ends) - mean).powi(2) + (ends[1] - ends[0]).powi(2) / 12.0;
    let variance: f64 = weighted().map(|(ends, mass)| mass * spread(ends)).sum();
    let deviation = variance.sqrt().max(f64::MIN_POSITIVE);
    coordinates.iter_mut().for_each(|end| *end = normal_cumulative((*end - mean) / deviation));
    let total = coordinates[coordinates.len() - 1] - coordinates[0];
    let shares = coordinates.windows(2).map(|below| ((below[1] - below[0]) / total) as f32);
    mass.iter_mut().zip(shares).for_each(|(mass, share)| *mass = share);
}

/// Splits the cells into basins around the maxima of `similarity` and keeps the `most` whose peaks are heaviest,
/// heaviest first.
fn find_peaks(similarity: &[f32], mass: &[f32], most: usize, peaks: &mut Vec<PeakRange>) {
    let mut keep = |start: usize, end: usize, height: f32| {
        let near = |cell: &usize| similarity[*cell] >= NEAR * height;
        let peak = PeakRange { start, end, height, mass: (start..end).filter(near).map(|cell| mass[cell]).sum() };
        let place = peaks.partition_point(|kept| kept.mass >= peak.mass);
        if place < most {
            peaks.truncate(most - 1);
            peaks.insert(place, peak);
        }
    };
    let (mut start, mut height) = (0, similarity[0]);
    let (mut valley, mut valley_at) = (similarity[0], 0);
    for (cell, &value) in similarity.iter().enumerate().skip(1) {
        if value <= valley {
            (valley, valley_at) = (value, cell);
        } else if valley < VALLEY * value && valley < VALLEY * height {
            keep(start, valley_at.max(start + 1), height);
            start = valley_at.max(start + 1);
            (height, valley, valley_at) = (value, value, cell);
        } else if value > height {
            (height, valley, valley_at) = (value, value, cell);
        }
    }
    keep(start, similarity.len(), height);
}
