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
use std::hint::select_unpredictable;
use std::ops::Range;

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
    peaks: Vec<PeakCells>,
    /// The cells that are near their peaks, to be found by `peaks`; the others are left over.
    near: Vec<u32>,
    /// Weights of one peak's cells.
    weights: Vec<f32>,
    /// E\[ψ\] of the whole density and of each peak \[1 + peaks, N\].
    expectations: Vec<f32>,
    /// Their products with Bᵀ \[1 + peaks, d\].
    products: Vec<f32>,
}

/// A peak: where its cells are among those that are near, its similarity and what they weigh together.
#[derive(Debug, Clone, Copy)]
struct PeakCells {
    first: usize,
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
    let RecallScratch { cells, distances, similarity, mass, coordinates, peaks, near, weights, expectations, products } =
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
        find_peaks(similarity, mass, config.peaks, near, peaks);
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
    cells.add_expected(agent, mass, &mut answer.value, expectation);
    for peak in peaks.iter() {
        let near = &near[peak.first..peak.end];
        let weight = |cell: &u32| if peak.mass > 0.0 { mass[*cell as usize] / peak.mass } else { 0.0 };
        weights.clear();
        weights.extend(near.iter().map(weight));
        let aged = near.iter().zip(&*weights).map(|(cell, weight)| cells.ages[*cell as usize] * f64::from(*weight));
        let age: f64 = aged.sum();
        let value = answer.add_peak((age + late) as f32, peak.mass, (best * f64::from(peak.height)) as f32);
        let (expectation, others) = std::mem::take(&mut rest).split_at_mut(count);
        cells.add_expected_of(agent, near, weights, value, expectation);
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
/// heaviest first. `near` becomes the cells that are near their peaks, basin by basin, and what is left over.
fn find_peaks(similarity: &[f32], mass: &[f32], most: usize, near: &mut Vec<u32>, peaks: &mut Vec<PeakCells>) {
    near.resize(similarity.len(), 0);
    let mut listed = 0;
    let mut keep = |cells: Range<usize>, height: f32| {
        let first = listed;
        // Whether a cell is near is as good as random: each is listed, and the next takes its place if it is not.
        for (cell, similarity) in cells.clone().zip(&similarity[cells]) {
            near[listed] = cell as u32;
            listed += usize::from(*similarity >= NEAR * height);
        }
        let mass = near[first..listed].iter().map(|cell| mass[*cell as usize]).sum();
        let place = peaks.partition_point(|kept| kept.mass >= mass);
        if place < most {
            peaks.truncate(most - 1);
            peaks.insert(place, PeakCells { first, end: listed, height, mass });
        }
    };
    // No similarity is negative, so their bits are in the same order as they, and sooner compared.
    let (mut start, mut height) = (0, similarity[0].to_bits());
    let (mut valley, mut valley_at) = (height, 0);
    for (cell, similarity) in similarity.iter().enumerate().skip(1) {
        let value = similarity.to_bits();
        if f32::from_bits(valley) < VALLEY * f32::from_bits(value.min(height)) {
            keep(start..valley_at, f32::from_bits(height));
            (start, height, valley, valley_at) = (valley_at, value, value, cell);
        } else {
            let moves = (value <= valley) | (value > height);
            height = height.max(value);
            valley = select_unpredictable(moves, value, valley);
            valley_at = select_unpredictable(moves, cell, valley_at);
        }
    }
    keep(start..similarity.len(), f32::from_bits(height));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What [`find_peaks`] does, said plainly: height, mass and cells of each peak.
    fn peaks_of(similarity: &[f32], mass: &[f32], most: usize) -> Vec<(f32, f32, Vec<u32>)> {
        let (mut basins, mut start, mut top, mut valley) = (vec![], 0, 0, 0);
        for cell in 1..similarity.len() {
            let low = similarity[valley];
            if low < VALLEY * similarity[cell] && low < VALLEY * similarity[top] {
                basins.push((start..valley, top));
                (start, top, valley) = (valley, cell, cell);
            } else if similarity[cell] > similarity[top] {
                (top, valley) = (cell, cell);
            } else if similarity[cell] <= low {
                valley = cell;
            }
        }
        basins.push((start..similarity.len(), top));
        let mut peaks: Vec<_> = basins
            .into_iter()
            .map(|(cells, top)| {
                let near: Vec<usize> = cells.filter(|cell| similarity[*cell] >= NEAR * similarity[top]).collect();
                let heavy: f32 = near.iter().map(|cell| mass[*cell]).sum();
                (similarity[top], heavy, near.into_iter().map(|cell| cell as u32).collect())
            })
            .collect();
        peaks.sort_by(|(_, left, _), (_, right, _)| right.total_cmp(left));
        peaks.truncate(most);
        peaks
    }

    const SIMILARITIES: [f32; 8] = [0.0, 1e-40, 0.1, 0.19, 0.2, 0.5, 0.7, 1.0];

    proptest! {
        /// Few similarities, so that some neighbours are equal.
        #[test]
        fn peaks_are_the_heaviest_basins(
            levels in proptest::collection::vec((0_usize..8, 0.0_f32..1.0), 1..60),
            most in 1_usize..9,
        ) {
            let similarity: Vec<f32> = levels.iter().map(|(level, _)| SIMILARITIES[*level]).collect();
            let mass: Vec<f32> = levels.iter().map(|(_, mass)| *mass).collect();
            let (mut near, mut peaks) = (vec![9; 7], vec![]);
            find_peaks(&similarity, &mass, most, &mut near, &mut peaks);
            let found: Vec<_> =
                peaks.iter().map(|peak| (peak.height, peak.mass, near[peak.first..peak.end].to_vec())).collect();
            prop_assert_eq!(found, peaks_of(&similarity, &mass, most));
        }
    }
}
