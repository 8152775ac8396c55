//! The paper's trained reading of a signal: multi-head attention with one affine Gaussian a head and query.
//!
//! Projections are folded into the query: the scores are B·(W_Kᵀq), and W_V is applied after E\[ψ\]ᵀB, so that the
//! coefficients themselves are never projected.

use crate::basis::Basis;
use crate::density::{AffineGaussian, GaussianDensity};

/// Weights of one layer's long-term attention; matrices are row-major \[out, in\], as `torch.nn.Linear` stores them.
#[derive(Debug, Clone, PartialEq)]
pub struct LongTermAttention {
    /// Heads h; the width e is a multiple of h.
    pub heads: usize,
    /// W_K \[e, e\]
    pub key: Vec<f64>,
    /// W_V \[e, e\]
    pub value: Vec<f64>,
    /// W_O \[e, e\]
    pub output: Vec<f64>,
    /// How scores become a density.
    pub density: AffineGaussian,
}

/// What one query read.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The context \[e\].
    pub context: Vec<f64>,
    /// One density a head.
    pub densities: Vec<GaussianDensity>,
    /// E\[ψ\] \[N\], one a head.
    pub expectations: Vec<Vec<f64>>,
}

impl LongTermAttention {
    /// Reads the signal with `coefficients` \[N, e\] (row-major) for one `query` \[e\].
    pub fn read(&self, basis: &Basis, coefficients: &[f64], query: &[f64]) -> Reading {
        let width = query.len();
        let head_width = width / self.heads;
        let mut mixed = Vec::with_capacity(width);
        let mut reading = Reading { context: vec![], densities: vec![], expectations: vec![] };
        for head in 0..self.heads {
            let rows = head * head_width..(head + 1) * head_width;
            let mut folded = vec![0.0; width];
            for row in rows.clone() {
                let factor = query[row] / (head_width as f64).sqrt();
                add_scaled(&mut folded, factor, &self.key[row * width..(row + 1) * width]);
            }
            let scores: Vec<f64> = coefficients.chunks_exact(width).map(|row| dot(row, &folded)).collect();
            let density = self.density.density(&scores);
            let expectation = density.expectation(basis);
            let mut moment = vec![0.0; width];
            for (weight, row) in expectation.iter().zip(coefficients.chunks_exact(width)) {
                add_scaled(&mut moment, *weight, row);
            }
            mixed.extend(rows.map(|row| dot(&self.value[row * width..(row + 1) * width], &moment)));
            reading.densities.push(density);
            reading.expectations.push(expectation);
        }
        reading.context = self.output.chunks_exact(width).map(|row| dot(row, &mixed)).collect();
        reading
    }
}

fn dot(left: &[f64], right: &[f64]) -> f64 {
    left.iter().zip(right).map(|(left, right)| left * right).sum()
}

fn add_scaled(sum: &mut [f64], factor: f64, values: &[f64]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
}
