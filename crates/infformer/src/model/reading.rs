//! A query becomes a density over the past, the density a mean of the past: E_p\[ψ\]ᵀB, differentiable.
//!
//! Closed forms are composed of tensor operations, which have exact gradients on every device. The moment differences
//! of the published code (wrong in f32 for narrow densities) appear nowhere.

use super::config::{LongTermConfig, ReadingDensity, Regulariser};
use super::contiguous::contiguous;
use super::knots::Knots;
use super::product::{Rows, product, product_with_transposed};
use super::softmax::softmax;
use super::writing::{CellTable, NOTHING};
use crate::basis::{Basis, BasisKind};
use crate::error::Result;
use crate::sticky;
use candle_core::{CpuStorage, CustomOp2, D, DType, Device, Layout, Shape, Tensor};
use candle_nn::{Init, VarBuilder};
use std::f64::consts::{PI, SQRT_2};

/// Masses below count as this in a divergence.
const SMALLEST_MASS: f64 = 1e-30;

/// How the queries of one layer read.
#[derive(Debug)]
pub(crate) struct Reader {
    density: Density,
    expectation: Expectation,
    /// ψ at the middles of even cells \[M, N\]; `None` where the cells are the coefficients' own.
    grid: Option<Tensor>,
    regulariser: Option<Regulariser>,
}

#[derive(Debug)]
enum Density {
    Gibbs,
    Softmax,
    Gaussian,
    Affine {
        /// w_μ and w_σ \[1, N\]
        mean: Tensor,
        variance: Tensor,
        floor: f64,
    },
}

/// E\[ψ\] under a normal density.
#[derive(Debug)]
enum Expectation {
    /// μ_j and σ_j² \[N\]
    GaussianRbf {
        centres: Tensor,
        variances: Tensor,
    },
    /// πn and the amplitudes \[N\]
    Cosine {
        frequencies: Tensor,
        amplitudes: Tensor,
    },
    /// Even bins: their ends \[N\].
    Bins {
        start: Tensor,
        end: Tensor,
    },
    /// Blocks and means: each member's cells are its bins.
    Cells,
    Legendre(Basis),
}

/// The cells of all members \[batch, 1, cells\].
#[derive(Debug, Clone)]
pub(crate) struct Cells {
    log_mass: Tensor,
    start: Tensor,
    end: Tensor,
}

impl Cells {
    pub(crate) fn new(tables: &[CellTable], dtype: DType, device: &Device) -> candle_core::Result<Self> {
        let cells = tables.first().map_or(0, |table| table.log_mass.len());
        let tensor = |field: fn(&CellTable) -> &Vec<f32>| {
            let values: Vec<f32> = tables.iter().flat_map(|table| field(table).iter().copied()).collect();
            Tensor::from_vec(values, (tables.len(), 1, cells), device)?.to_dtype(dtype)
        };
        Ok(Self { log_mass: tensor(|t| &t.log_mass)?, start: tensor(|t| &t.start)?, end: tensor(|t| &t.end)? })
    }
}

impl Cells {
    /// 0 for a cell that has a past, hardly any weight for one that has none.
    fn present(&self) -> candle_core::Result<Tensor> {
        let absent = self.log_mass.le(f64::from(NOTHING))?.to_dtype(self.log_mass.dtype())?;
        absent * f64::from(NOTHING)
    }
}

/// What queries read.
pub(crate) struct Reading {
    /// E\[X̄\] \[batch, queries, d\]
    pub(crate) moment: Tensor,
    /// Where they looked.
    pub(crate) looked: Looked,
    /// Divergence of each density \[batch, queries, 1\], if there is a regulariser.
    pub(crate) divergence: Option<Tensor>,
}

pub(crate) enum Looked {
    /// Mass of each cell \[batch, queries, cells\].
    Cells(Tensor),
    /// μ and σ² \[batch, queries, 1\].
    Normal(Tensor, Tensor),
}

impl Reader {
    pub(crate) fn new(config: &LongTermConfig, grid: Option<Tensor>, vb: VarBuilder) -> Result<Self> {
        let (dtype, device, count) = (vb.dtype(), vb.device(), config.capacity);
        let row = |values: Vec<f64>| Tensor::from_vec(values, (1, 1, count), device)?.to_dtype(dtype);
        let basis = config.basis()?;
        let expectation = match basis.kind() {
            _ if grid.is_none() => Expectation::Cells,
            BasisKind::GaussianRbf { .. } => Expectation::GaussianRbf {
                centres: row(basis.centres().to_vec())?,
                variances: row(basis.widths().iter().map(|width| width * width).collect())?,
            },
            BasisKind::Cosine => Expectation::Cosine {
                frequencies: row((0..count).map(|n| PI * n as f64).collect())?,
                amplitudes: row((0..count).map(|n| if n == 0 { 1.0 } else { SQRT_2 }).collect())?,
            },
            BasisKind::Bins => Expectation::Bins {
                start: row((0..count).map(|n| n as f64 / count as f64).collect())?,
                end: row((1..=count).map(|n| n as f64 / count as f64).collect())?,
            },
            BasisKind::Legendre => Expectation::Legendre(basis),
        };
        let density = match config.density {
            ReadingDensity::Gibbs => Density::Gibbs,
            ReadingDensity::Softmax => Density::Softmax,
            ReadingDensity::Gaussian => Density::Gaussian,
            ReadingDensity::Affine { variance_floor } => {
                let bound = 1.0 / (count as f64).sqrt();
                let init = Init::Uniform { lo: -bound, up: bound };
                Density::Affine {
                    mean: vb.pp("mean").get_with_hints((1, count), "weight", init)?,
                    variance: vb.pp("variance").get_with_hints((1, count), "weight", init)?,
                    floor: variance_floor,
                }
            }
        };
        Ok(Self { density, expectation, grid, regulariser: config.regulariser })
    }

    /// `queries` \[batch, queries, d\], already folded with the key matrix and scaled; `coefficients` Bᵀ
    /// \[batch, d, N\]. Queries are some of as many `rows`.
    pub(crate) fn read(
        &self,
        queries: &Tensor,
        coefficients: &Tensor,
        cells: &Cells,
        rows: Rows,
    ) -> candle_core::Result<Reading> {
        let scores = product(rows, queries, &coefficients.contiguous()?)?;
        let (expectation, looked) = match &self.density {
            Density::Gibbs | Density::Softmax => {
                let mass = self.softmax(&scores, &self.prior(cells)?, rows)?;
                let expectation = match &self.grid {
                    Some(grid) => multiply_shared(&mass, grid, rows)?,
                    None => mass.clone(),
                };
                (expectation, Looked::Cells(mass))
            }
            Density::Gaussian => {
                let mass = self.softmax(&scores, &cells.log_mass, rows)?;
                let centre = ((&cells.start + &cells.end)? * 0.5)?;
                let mean = mass.broadcast_mul(&centre)?.sum_keepdim(D::Minus1)?;
                let within = ((&cells.end - &cells.start)?.sqr()? * (1.0 / 12.0))?;
                let from_mean = centre.broadcast_sub(&mean)?.sqr()?.broadcast_add(&within)?;
                // A cell may be too narrow for its ends to differ in f32.
                let variance = (mass * from_mean)?.sum_keepdim(D::Minus1)?.maximum(1e-12)?;
                (self.expectation(&mean, &variance, cells)?, Looked::Normal(mean, variance))
            }
            Density::Affine { mean, variance, floor } => {
                let mean = candle_nn::ops::sigmoid(&multiply_shared(&scores, &mean.t()?, rows)?)?;
                let variance = softplus(&multiply_shared(&scores, &variance.t()?, rows)?)?.maximum(*floor)?;
                (self.expectation(&mean, &variance, cells)?, Looked::Normal(mean, variance))
            }
        };
        let divergence = match (&self.regulariser, &looked) {
            (Some(Regulariser::Normal { sigma_0, mu_0 }), Looked::Normal(mean, variance)) => {
                Some(divergence_from_normal(mean, variance, *sigma_0, *mu_0)?)
            }
            (Some(Regulariser::Prior), Looked::Cells(mass)) => Some(divergence_from_prior(mass, &self.prior(cells)?)?),
            _ => None,
        };
        let moment = product_with_transposed(rows, &expectation, coefficients)?;
        Ok(Reading { moment, looked, divergence })
    }

    /// What each cell counts before any query, as a logarithm \[batch, 1, cells\].
    fn prior(&self, cells: &Cells) -> candle_core::Result<Tensor> {
        if matches!(self.density, Density::Softmax) { cells.present() } else { Ok(cells.log_mass.clone()) }
    }

    /// Mass of each cell: a softmax of the scores and of what each cell counts before any query \[batch, 1, cells\].
    fn softmax(&self, scores: &Tensor, log_mass: &Tensor, rows: Rows) -> candle_core::Result<Tensor> {
        let scores = match &self.grid {
            Some(grid) => multiply_shared(scores, &grid.t()?, rows)?,
            None => scores.clone(),
        };
        softmax(&scores, log_mass)
    }

    fn expectation(&self, mean: &Tensor, variance: &Tensor, cells: &Cells) -> candle_core::Result<Tensor> {
        match &self.expectation {
            Expectation::GaussianRbf { centres, variances } => {
                let variance = variance.broadcast_add(variances)?;
                let distance = mean.broadcast_sub(centres)?;
                let exponent = (distance.sqr()? / &variance)?;
                (exponent * -0.5)?.exp()? / (variance * (2.0 * PI))?.sqrt()?
            }
            Expectation::Cosine { frequencies, amplitudes } => {
                let damping = (variance.broadcast_mul(&frequencies.sqr()?)? * -0.5)?.exp()?;
                let wave = mean.broadcast_mul(frequencies)?.cos()?;
                (damping * wave)?.broadcast_mul(amplitudes)
            }
            Expectation::Bins { start, end } => bin_masses(mean, variance, start, end),
            Expectation::Cells => bin_masses(mean, variance, &cells.start, &cells.end),
            Expectation::Legendre(basis) => {
                let on_host = |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.contiguous();
                let cut = on_host(mean)?.apply_op2(&on_host(variance)?, CutExpectation(basis.clone()))?;
                cut.to_device(mean.device())
            }
        }
    }
}

/// x \[batch, queries, a\]·W \[a, b\] as one product.
fn multiply_shared(x: &Tensor, matrix: &Tensor, rows: Rows) -> candle_core::Result<Tensor> {
    let (batch, queries, inputs) = x.dims3()?;
    product(rows, &x.reshape((batch * queries, inputs))?, matrix)?.reshape((batch, queries, ()))
}

/// ln(1 + eˣ), without overflow.
fn softplus(x: &Tensor) -> candle_core::Result<Tensor> {
    let tail = (x.abs()?.neg()?.exp()? + 1.0)?.log()?;
    x.relu()? + tail
}

/// Φ at the end of each bin less Φ at its start.
fn bin_masses(mean: &Tensor, variance: &Tensor, start: &Tensor, end: &Tensor) -> candle_core::Result<Tensor> {
    let spread = (variance * 2.0)?.sqrt()?;
    let below = |edge: &Tensor| edge.broadcast_sub(mean)?.broadcast_div(&spread)?.erf();
    (below(end)? - below(start)?)? * 0.5
}

fn divergence_from_normal(
    mean: &Tensor,
    variance: &Tensor,
    sigma_0: f64,
    mu_0: Option<f64>,
) -> candle_core::Result<Tensor> {
    let ratio = (variance / (sigma_0 * sigma_0))?;
    let width = ((&ratio - ratio.log()?)? - 1.0)?;
    let sum = match mu_0 {
        Some(mu_0) => (width + ((mean - mu_0)? / sigma_0)?.sqr()?)?,
        None => width,
    };
    sum * 0.5
}

/// Σ p (ln p − ln p₀) of masses \[batch, queries, cells\], where p₀ is the softmax of `prior` \[batch, 1, cells\].
fn divergence_from_prior(mass: &Tensor, prior: &Tensor) -> candle_core::Result<Tensor> {
    // What is next to nothing has no logarithm, and what is absent no mass.
    let prior = prior.maximum(SMALLEST_MASS.ln())?;
    let gain = mass.maximum(SMALLEST_MASS)?.log()?.broadcast_sub(&prior)?;
    (mass * gain)?.sum_keepdim(D::Minus1)?.broadcast_add(&prior.log_sum_exp(D::Minus1)?.unsqueeze(D::Minus1)?)
}

/// Adds what some rows of queries looked at to their members' histograms, for the next sticky write: of each row, whose it
/// is and how many of its queries count.
pub(crate) fn add_to_histograms(
    looked: &Looked,
    bins: usize,
    rows: &[[usize; 2]],
    knots: &mut [Knots],
) -> candle_core::Result<()> {
    let host = |tensor: &Tensor| tensor.detach().to_dtype(DType::F64)?.to_vec3::<f64>();
    let mut histogram = vec![0.0; bins];
    let mut add = |member: usize, fill: &dyn Fn(&mut [f64])| {
        histogram.fill(0.0);
        fill(&mut histogram);
        let sums = &mut knots[member].histogram;
        sums.resize(bins, 0.0);
        sums.iter_mut().zip(&histogram).for_each(|(sum, mass)| *sum += *mass as f32);
    };
    match looked {
        Looked::Normal(mean, variance) => {
            for ((mean, variance), [member, count]) in host(mean)?.into_iter().zip(host(variance)?).zip(rows) {
                add(*member, &|histogram| {
                    let densities = mean[..*count].iter().flatten().zip(variance[..*count].iter().flatten());
                    densities.for_each(|(mean, variance)| sticky::add_gaussian(histogram, *mean, *variance));
                });
            }
        }
        Looked::Cells(mass) => {
            for (mass, [member, count]) in host(mass)?.iter().zip(rows) {
                add(*member, &|histogram| {
                    for density in &mass[..*count] {
                        spread_cells(density, histogram);
                    }
                });
            }
        }
    }
    Ok(())
}

/// Adds the mass of even cells to even bins, in proportion to what they share.
fn spread_cells(mass: &[f64], histogram: &mut [f64]) {
    let (cells, bins) = (mass.len() as f64, histogram.len() as f64);
    for (bin, sum) in histogram.iter_mut().enumerate() {
        let (start, end) = (bin as f64 / bins * cells, (bin + 1) as f64 / bins * cells);
        let last = (end.ceil() as usize).min(mass.len());
        for (cell, mass) in mass.iter().enumerate().take(last).skip(start as usize) {
            let shared = end.min((cell + 1) as f64) - start.max(cell as f64);
            *sum += mass * shared.max(0.0);
        }
    }
}

/// E\[ψ\] for Legendre polynomials, which need the density cut to \[0, 1\] and have no closed form there; computed by the
/// processor whatever the device.
///
/// With the cut density p and its score, dE\[ψ\]/dμ = Cov_p(ψ, (t − μ)/σ²) and dE\[ψ\]/dσ² = ½Cov_p(ψ, (t − μ)²/σ⁴).
struct CutExpectation(Basis);

/// E\[ψ\] and its two derivatives, each \[N\].
pub(crate) fn cut_expectation(basis: &Basis, mean: f64, variance: f64) -> [Vec<f64>; 3] {
    let count = basis.count();
    let [mut value, mut by_mean, mut by_variance] = [(); 3].map(|()| vec![0.0; count]);
    let mut at = vec![0.0; count];
    let (mut first, mut second) = (0.0, 0.0);
    for (t, weight) in basis.cut_density(mean, variance) {
        basis.evaluate(t, &mut at);
        let score = (t - mean) / variance;
        first += weight * score;
        second += weight * score * score;
        for n in 0..count {
            value[n] += weight * at[n];
            by_mean[n] += weight * at[n] * score;
            by_variance[n] += weight * at[n] * score * score;
        }
    }
    for n in 0..count {
        by_mean[n] -= value[n] * first;
        by_variance[n] = 0.5 * (by_variance[n] - value[n] * second);
    }
    [value, by_mean, by_variance]
}

impl CustomOp2 for CutExpectation {
    fn name(&self) -> &'static str {
        "expectation-of-cut-normal"
    }

    fn cpu_fwd(
        &self,
        mean: &CpuStorage,
        mean_layout: &Layout,
        variance: &CpuStorage,
        variance_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let read = |storage: &CpuStorage, layout: &Layout| -> candle_core::Result<Vec<f64>> {
            match storage {
                CpuStorage::F64(_) => Ok(contiguous::<f64>(storage, layout)?.to_vec()),
                _ => Ok(contiguous::<f32>(storage, layout)?.iter().map(|value| f64::from(*value)).collect()),
            }
        };
        let (means, variances) = (read(mean, mean_layout)?, read(variance, variance_layout)?);
        let rows = means.iter().zip(&variances);
        let values: Vec<f64> =
            rows.flat_map(|(mean, variance)| cut_expectation(&self.0, *mean, *variance)[0].clone()).collect();
        let (batch, queries, _) = mean_layout.shape().dims3()?;
        let storage = match mean {
            CpuStorage::F64(_) => CpuStorage::F64(values),
            _ => CpuStorage::F32(values.iter().map(|value| *value as f32).collect()),
        };
        Ok((storage, Shape::from((batch, queries, self.0.count()))))
    }

    fn bwd(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let host = |tensor: &Tensor| tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let (means, variances, gradients) = (host(mean)?, host(variance)?, host(gradient)?);
        let (mut by_mean, mut by_variance) = (vec![], vec![]);
        let rows = means.iter().zip(&variances).zip(gradients.chunks_exact(self.0.count()));
        for ((mean, variance), gradient) in rows {
            let [_, mean_slope, variance_slope] = cut_expectation(&self.0, *mean, *variance);
            let dot = |slope: &[f64]| slope.iter().zip(gradient).map(|(slope, gradient)| slope * gradient).sum::<f64>();
            by_mean.push(dot(&mean_slope));
            by_variance.push(dot(&variance_slope));
        }
        let tensor = |values: Vec<f64>| Tensor::from_vec(values, mean.shape(), mean.device())?.to_dtype(mean.dtype());
        Ok((Some(tensor(by_mean)?), Some(tensor(by_variance)?)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Beside the sum itself; nothing where nobody looks anywhere in particular, also beside cells that have no past.
    #[test]
    fn the_divergence_is_that_from_the_prior() {
        let prior = [0.5_f64, -1.0, f64::from(NOTHING), 2.0];
        let tensor = |values: &[f64]| Tensor::from_slice(values, (1, 1, values.len()), &Device::Cpu).unwrap();
        let softmax = |scores: &[f64]| {
            let masses: Vec<f64> = scores.iter().zip(prior).map(|(score, prior)| (score + prior).exp()).collect();
            let whole: f64 = masses.iter().sum();
            masses.iter().map(|mass| mass / whole).collect::<Vec<f64>>()
        };
        let unasked = softmax(&[0.0; 4]);
        for scores in [[0.0; 4], [3.0, -2.0, 5.0, 1.0], [400.0, 0.0, 0.0, 0.0]] {
            let mass = softmax(&scores);
            let terms = mass.iter().zip(&unasked).filter(|(mass, _)| **mass > 0.0);
            let expected: f64 = terms.map(|(mass, unasked)| mass * (mass / unasked).ln()).sum();
            let found = divergence_from_prior(&tensor(&mass), &tensor(&prior)).unwrap();
            let found = found.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            // Sums of four such numbers in f64.
            assert!((found[0] - expected).abs() < 1e-12, "{found:?} {expected}");
        }
    }
}
