//! Sticky memories (Martins et al. 2022, §3.3): the past is resampled where attention was.
//!
//! The attention histogram holds the mass of the densities of the last readings in D equal bins of \[0, 1\]. Samples
//! lie at the inverse of its distribution function at (i + ½)/M: deterministic and sorted, where the published code
//! draws at random.

use crate::basis::{Basis, normal_cumulative};
use crate::forgetting::Placement;

/// The constants of a sticky memory.
#[derive(Debug, Clone)]
pub(crate) struct StickyPlan {
    pub(crate) tau: f64,
    /// M
    pub(crate) points: usize,
    /// D
    pub(crate) bins: usize,
    pub(crate) placement: Placement,
}

/// Mass of Gaussian densities (mean, variance) in each of `bins` equal bins of \[0, 1\], normalised to one.
pub fn gaussian_histogram(densities: &[(f64, f64)], bins: usize) -> Vec<f64> {
    let mut histogram = vec![0.0; bins];
    densities.iter().for_each(|(mean, variance)| add_gaussian(&mut histogram, *mean, *variance));
    let total: f64 = histogram.iter().sum();
    if total > 0.0 {
        histogram.iter_mut().for_each(|mass| *mass /= total);
    }
    histogram
}

/// Adds the mass of one Gaussian density in each bin.
pub(crate) fn add_gaussian(histogram: &mut [f64], mean: f64, variance: f64) {
    let bins = histogram.len();
    let edge = |bin: usize| match bin {
        0 => -1e-6,
        bin if bin == bins => 1.0 + 1e-6,
        bin => bin as f64 / bins as f64,
    };
    let below = |bin: usize| normal_cumulative((edge(bin) - mean) / variance.sqrt());
    for (bin, mass) in histogram.iter_mut().enumerate() {
        *mass += below(bin + 1) - below(bin);
    }
}

/// Places t of M = `points` samples: the inverse distribution function of `histogram` at (i + ½)/M.
/// An empty histogram counts as an even one.
pub fn sample_places(histogram: &[f64], points: usize, placement: Placement) -> Vec<f64> {
    let bins = histogram.len();
    let total: f64 = histogram.iter().sum();
    let mass = |bin: usize| if total > 0.0 { histogram[bin] / total } else { 1.0 / bins as f64 };
    let (mut bin, mut below) = (0, 0.0);
    let place = |i: usize| {
        let target = (i as f64 + 0.5) / points as f64;
        while bin + 1 < bins && below + mass(bin) < target {
            below += mass(bin);
            bin += 1;
        }
        let part = match placement {
            Placement::LeftEdge => 0.0,
            Placement::Interpolated => ((target - below) / mass(bin).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0),
        };
        (bin as f64 + part) / bins as f64
    };
    (0..points).map(place).collect()
}

/// The signal \[M, width\] at the sample places, from Bᵀ \[width, N\].
pub(crate) fn resample(
    plan: &StickyPlan,
    basis: &Basis,
    histogram: &[f32],
    coefficients: &[f32],
    samples: &mut Vec<f32>,
) {
    let histogram: Vec<f64> = histogram.iter().map(|mass| f64::from(*mass)).collect();
    let mut psi = vec![0.0; basis.count()];
    samples.clear();
    for place in sample_places(&histogram, plan.points, plan.placement) {
        basis.evaluate(place, &mut psi);
        let rows = coefficients.chunks_exact(psi.len());
        samples.extend(rows.map(|row| psi.iter().zip(row).map(|(psi, b)| *psi as f32 * b).sum::<f32>()));
    }
}

/// Moves the table of ages through the write that resampling just made, and empties the histogram.
///
/// The new position s ≤ τ shows the old position at the quantile s/τ; (τ, 1] is the chunk.
pub(crate) fn advance(plan: &StickyPlan, chunk: usize, chunks: u64, table: &mut [f32], histogram: &mut [f32]) {
    let last = (table.len() - 1) as f64;
    let length = chunk as f64;
    if chunks == 0 {
        table.iter_mut().enumerate().for_each(|(i, age)| *age = (length * (1.0 - i as f64 / last)) as f32);
        histogram.fill(0.0);
        return;
    }
    let masses: Vec<f64> = histogram.iter().map(|mass| f64::from(*mass)).collect();
    let axis = crate::forgetting::TimeAxis::Table;
    let old = table.to_vec();
    // Quantiles of the table's own entries: the inverse distribution function at evenly spaced points.
    let fine = 16 * table.len();
    let places = sample_places(&masses, fine, Placement::Interpolated);
    for (i, age) in table.iter_mut().enumerate() {
        let position = i as f64 / last;
        *age = if position <= plan.tau {
            let at = (position / plan.tau * fine as f64 - 0.5).clamp(0.0, (fine - 1) as f64);
            let below = (at as usize).min(fine - 2);
            let place = places[below] + (places[below + 1] - places[below]) * (at - below as f64);
            (length + axis.age(place, 0, &old)) as f32
        } else {
            (length * (1.0 - position) / (1.0 - plan.tau)) as f32
        };
    }
    histogram.fill(0.0);
}
