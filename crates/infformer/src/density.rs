//! Densities over the past: where a query looks.

use crate::basis::Basis;
use serde::{Deserialize, Serialize};

/// The shape of the density that a training-free query gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Density {
    /// p ∝ exp(−β·squared distance) × measure: many peaks, exact for each cell of the past.
    #[default]
    Gibbs,
    /// The Gaussian with the mean and the variance of the Gibbs density on the axis of the measure: one peak.
    Gaussian,
}

/// What the same density is taken of: how much a stretch of the past counts before any query.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Measure {
    /// A moment of age a counts as 1/(a + a₀): the axis is ln(1 + a/a₀).
    Recency {
        /// a₀ in observations.
        resolution: f64,
    },
    /// Every observation counts the same: the axis is a.
    Lifetime,
}

impl Default for Measure {
    fn default() -> Self {
        Measure::Recency { resolution: 16.0 }
    }
}

impl Measure {
    /// The age's coordinate on the axis of the measure; differences are masses.
    pub fn coordinate(&self, age: f64) -> f64 {
        match self {
            Measure::Recency { resolution } => (age / resolution).ln_1p(),
            Measure::Lifetime => age,
        }
    }
}

/// A normal density on the axis of a signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaussianDensity {
    /// μ
    pub mean: f64,
    /// σ²
    pub variance: f64,
}

impl GaussianDensity {
    /// E\[ψ\] \[N\], in closed form where the basis has one.
    pub fn expectation(&self, basis: &Basis) -> Vec<f64> {
        let mut values = vec![0.0; basis.count()];
        basis.expectation(self.mean, self.variance, &mut values);
        values
    }

    /// The paper's regulariser ½(σ²/σ₀² − ln(σ²/σ₀²) − 1): the divergence from N(μ, σ₀²).
    pub fn regulariser(&self, sigma_0: f64) -> f64 {
        self.divergence(self.mean, sigma_0)
    }

    /// The Kullback–Leibler divergence from N(μ₀, σ₀²), the regulariser of the published language model.
    pub fn divergence(&self, mean_0: f64, sigma_0: f64) -> f64 {
        let ratio = self.variance / (sigma_0 * sigma_0);
        0.5 * (ratio - ratio.ln() - 1.0 + ((self.mean - mean_0) / sigma_0).powi(2))
    }
}

/// The paper's density (equations 7–9): μ = sigmoid(w_μ·s), σ² = softplus(w_σ·s) of the scores s = Kq/√d.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineGaussian {
    /// w_μ \[N\]
    pub mean_weights: Vec<f64>,
    /// w_σ \[N\]
    pub variance_weights: Vec<f64>,
    /// Least σ².
    pub variance_floor: f64,
}

impl AffineGaussian {
    /// The density for the scores \[N\].
    pub fn density(&self, scores: &[f64]) -> GaussianDensity {
        let dot = |weights: &[f64]| weights.iter().zip(scores).map(|(w, s)| w * s).sum::<f64>();
        let mean = 1.0 / (1.0 + (-dot(&self.mean_weights)).exp());
        let score = dot(&self.variance_weights);
        let softplus = score.max(0.0) + (-score.abs()).exp().ln_1p();
        GaussianDensity { mean, variance: softplus.max(self.variance_floor) }
    }
}
