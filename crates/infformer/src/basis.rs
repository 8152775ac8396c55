//! The basis functions ψ(t), t ∈ \[0, 1\], in which the past is written as a continuous signal.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::{PI, SQRT_2};

/// Which family of functions carries the signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum BasisKind {
    /// Normal densities N(t; μ_j, σ_j²) on evenly spaced centres, one for each width at each centre
    /// (Martins et al. 2022, §3.1).
    GaussianRbf {
        /// The widths σ, at least one.
        widths: Vec<f64>,
    },
    /// ψ_0 = 1, ψ_n = √2·cos(πnt): orthonormal.
    Cosine,
    /// ψ_n = √(2n + 1)·P_n(2t − 1): orthonormal; the span is closed under dilation.
    Legendre,
    /// N bins of equal length, each 1 in its own bin.
    Bins,
}

/// N basis functions of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    kind: BasisKind,
    count: usize,
    centres: Vec<f64>,
    widths: Vec<f64>,
}

impl Basis {
    /// N = `count` functions. Errors: no function, a width that is not positive, or a count that is no multiple of
    /// the number of widths.
    pub fn new(kind: &BasisKind, count: usize) -> Result<Self> {
        let refuse = |field: &str, value: String, allowed: String| {
            Err(Error::Configuration { field: field.into(), value, allowed })
        };
        if !(2..=4096).contains(&count) {
            return refuse("capacity", count.to_string(), "2 to 4096".into());
        }
        let mut basis = Self { kind: kind.clone(), count, centres: vec![], widths: vec![] };
        if let BasisKind::GaussianRbf { widths } = kind {
            if widths.is_empty() || widths.iter().any(|width| !(1e-4..=10.0).contains(width)) {
                return refuse(
                    "forgetting.basis.widths",
                    format!("{widths:?}"),
                    "one or more numbers from 1e-4 to 10".into(),
                );
            }
            if !count.is_multiple_of(widths.len()) || count / widths.len() < 2 {
                let allowed =
                    format!("a multiple of {}, at least twice it: each centre carries every width", widths.len());
                return refuse("capacity", count.to_string(), allowed);
            }
            let centres = count / widths.len();
            for centre in 0..centres {
                for &width in widths {
                    basis.centres.push(centre as f64 / (centres - 1) as f64);
                    basis.widths.push(width);
                }
            }
        }
        Ok(basis)
    }

    /// Number of functions N.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The family.
    pub fn kind(&self) -> &BasisKind {
        &self.kind
    }

    /// The centres μ_j of Gaussian functions; empty for the other kinds.
    pub fn centres(&self) -> &[f64] {
        &self.centres
    }

    /// The widths σ_j of Gaussian functions; empty for the other kinds.
    pub fn widths(&self) -> &[f64] {
        &self.widths
    }

    /// Writes ψ(t) into `values` \[N\].
    pub fn evaluate(&self, t: f64, values: &mut [f64]) {
        match self.kind {
            BasisKind::GaussianRbf { .. } => {
                for ((value, centre), width) in values.iter_mut().zip(&self.centres).zip(&self.widths) {
                    *value = normal_density(t - centre, *width);
                }
            }
            BasisKind::Cosine => {
                for (n, value) in values.iter_mut().enumerate() {
                    *value = if n == 0 { 1.0 } else { SQRT_2 * (PI * n as f64 * t).cos() };
                }
            }
            BasisKind::Legendre => {
                let x = 2.0 * t - 1.0;
                let (mut previous, mut current) = (0.0, 1.0);
                for (n, value) in values.iter_mut().enumerate() {
                    let n = n as f64;
                    *value = (2.0 * n + 1.0).sqrt() * current;
                    let next = ((2.0 * n + 1.0) * x * current - n * previous) / (n + 1.0);
                    (previous, current) = (current, next);
                }
            }
            BasisKind::Bins => {
                values.fill(0.0);
                let bin = (t * self.count as f64).floor();
                if (0.0..=self.count as f64).contains(&bin) {
                    values[(bin as usize).min(self.count - 1)] = 1.0;
                }
            }
        }
    }

    /// Writes E\[ψ(t)\] for t ~ N(`mean`, `variance`) into `values` \[N\].
    ///
    /// Closed forms on the whole line: N(μ; μ_j, σ² + σ_j²) for Gaussian functions,
    /// √2·exp(−π²n²σ²/2)·cos(πnμ) for cosines, differences of Φ for bins. Legendre polynomials explode outside
    /// \[0, 1\], so there the density is cut to that interval and integrated by Gauss–Legendre quadrature.
    pub fn expectation(&self, mean: f64, variance: f64, values: &mut [f64]) {
        match self.kind {
            BasisKind::GaussianRbf { .. } => {
                for ((value, centre), width) in values.iter_mut().zip(&self.centres).zip(&self.widths) {
                    *value = normal_density(mean - centre, (variance + width * width).sqrt());
                }
            }
            BasisKind::Cosine => {
                for (n, value) in values.iter_mut().enumerate() {
                    let frequency = PI * n as f64;
                    let amplitude = if n == 0 { 1.0 } else { SQRT_2 * (-0.5 * frequency * frequency * variance).exp() };
                    *value = amplitude * (frequency * mean).cos();
                }
            }
            BasisKind::Bins => {
                let spread = variance.sqrt();
                let below = |edge: usize| normal_cumulative((edge as f64 / self.count as f64 - mean) / spread);
                for (j, value) in values.iter_mut().enumerate() {
                    *value = below(j + 1) - below(j);
                }
            }
            BasisKind::Legendre => {
                values.fill(0.0);
                let mut at = vec![0.0; self.count];
                for (t, weight) in self.cut_density(mean, variance) {
                    self.evaluate(t, &mut at);
                    values.iter_mut().zip(&at).for_each(|(value, psi)| *value += weight * psi);
                }
            }
        }
    }

    /// Nodes and normalised weights of N(`mean`, `variance`) cut to \[0, 1\]; none where it has no mass there.
    pub(crate) fn cut_density(&self, mean: f64, variance: f64) -> Vec<(f64, f64)> {
        let spread = variance.sqrt();
        let (start, end) = ((mean - 8.0 * spread).max(0.0), (mean + 8.0 * spread).min(1.0));
        let own = self.panel_edges().into_iter().chain(crate::quadrature::even_edges(start, end, 16));
        let mut edges: Vec<f64> = own.filter(|edge| (start..=end).contains(edge)).collect();
        edges.sort_by(f64::total_cmp);
        let mut nodes = crate::quadrature::panels(&edges);
        nodes.iter_mut().for_each(|(t, weight)| *weight *= normal_density(*t - mean, spread));
        let mass: f64 = nodes.iter().map(|(_, weight)| weight).sum();
        if mass > 0.0 {
            nodes.iter_mut().for_each(|(_, weight)| *weight /= mass);
        }
        nodes
    }

    /// Edges of intervals inside which every function is smooth and well resolved by 16-point quadrature.
    pub fn panel_edges(&self) -> Vec<f64> {
        let panels = match self.kind {
            BasisKind::GaussianRbf { .. } => {
                let finest = self.widths.iter().copied().fold(f64::INFINITY, f64::min);
                ((2.0 / finest).ceil() as usize).max(self.count)
            }
            BasisKind::Cosine | BasisKind::Legendre => self.count.div_ceil(2),
            BasisKind::Bins => self.count,
        };
        let edges = crate::quadrature::even_edges(0.0, 1.0, panels);
        match self.kind {
            // Legendre polynomials oscillate evenly in the angle: ever faster towards the ends.
            BasisKind::Legendre => edges.iter().map(|edge| 0.5 - 0.5 * (PI * edge).cos()).collect(),
            _ => edges,
        }
    }
}

/// N(x; 0, σ²).
pub(crate) fn normal_density(x: f64, sigma: f64) -> f64 {
    let z = x / sigma;
    (-0.5 * z * z).exp() / (sigma * (2.0 * PI).sqrt())
}

/// Φ(z), the standard normal distribution function.
pub(crate) fn normal_cumulative(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}
