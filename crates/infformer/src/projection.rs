//! The constants of a linear write, built once in f64: one write is B′ = A·B + C·X.
//!
//! The L2 projection of a signal f on the span of ψ has the coefficients (G + λI)⁻¹∫ψf with the Gram matrix
//! G = ∫ψψᵀ. Squeezing the past and appending a chunk are linear in (B, X), so A and C follow from cross-Gram
//! integrals under the warp. nalgebra factorises them (Cholesky): pure Rust, quick to build, and an N of a few hundred
//! is solved once. The paper fits sampled points instead: B = (FᵀF + λI)⁻¹Fᵀ·samples.

use crate::basis::Basis;
use crate::error::{Error, Result};
use crate::forgetting::{Padding, Projection, SampledFit};
use crate::quadrature;
use nalgebra::{DMatrix, DVector};

/// The matrices of a linear write.
#[derive(Debug, Clone, PartialEq)]
pub struct Operator {
    /// What the first chunk of a life becomes: \[N, L\].
    pub first: DMatrix<f64>,
    /// A: what the past becomes, \[N, N\].
    pub past: DMatrix<f64>,
    /// C: what the new chunk becomes, \[N, L\]; column 0 is its oldest observation.
    pub chunk: DMatrix<f64>,
}

/// ψ at the points, \[T, N\].
pub fn design(basis: &Basis, points: &[f64]) -> DMatrix<f64> {
    let mut row = vec![0.0; basis.count()];
    let mut rows = DMatrix::zeros(points.len(), basis.count());
    for (i, t) in points.iter().enumerate() {
        basis.evaluate(*t, &mut row);
        rows.row_mut(i).copy_from_slice(&row);
    }
    rows
}

/// The Gram matrix ∫₀¹ψψᵀdt, \[N, N\].
pub fn gram(basis: &Basis) -> DMatrix<f64> {
    cross_gram(basis, &basis.panel_edges(), |t| t)
}

/// The cross-Gram matrix ∫ψ(t)·ψ(warp(t))ᵀdt over the panels between `edges`, \[N, N\].
pub fn cross_gram(basis: &Basis, edges: &[f64], warp: impl Fn(f64) -> f64) -> DMatrix<f64> {
    let nodes = quadrature::panels(edges);
    let times: Vec<f64> = nodes.iter().map(|(t, _)| *t).collect();
    let warped: Vec<f64> = times.iter().map(|t| warp(*t)).collect();
    let mut now = design(basis, &times);
    let before = design(basis, &warped);
    now.row_iter_mut().zip(&nodes).for_each(|(mut row, (_, weight))| row *= *weight);
    now.tr_mul(&before)
}

/// ∫ψdt over each cell between neighbouring `edges`, \[N, cells\].
pub fn cell_integrals(basis: &Basis, edges: &[f64]) -> DMatrix<f64> {
    let panel_edges = basis.panel_edges();
    let mut integrals = DMatrix::zeros(basis.count(), edges.len() - 1);
    let mut psi = DVector::zeros(basis.count());
    for (cell, edge) in edges.windows(2).enumerate() {
        for (t, weight) in quadrature::panels(&within(&panel_edges, edge[0], edge[1])) {
            basis.evaluate(t, psi.as_mut_slice());
            integrals.column_mut(cell).axpy(weight, &psi, 1.0);
        }
    }
    integrals
}

/// `Geometric`: the past is squeezed to \[0, τ\], the chunk takes (τ, 1\]; the first chunk takes all.
pub fn geometric(basis: &Basis, tau: f64, chunk: usize, projection: Projection) -> Result<Operator> {
    let ridge = match projection {
        Projection::Sampled(fit) => {
            let (first, past, chunk) = sampled(basis, tau, chunk, fit)?;
            let places: Vec<f64> = (1..=fit.points).map(|i| i as f64 / fit.points as f64).collect();
            return Ok(Operator { first, past: past * design(basis, &places), chunk });
        }
        Projection::Exact { ridge } => ridge,
    };
    let solve = Solver::new(gram(basis), ridge)?;
    let own = basis.panel_edges();
    let squeezed = own.iter().map(|edge| edge * tau);
    let edges = within(&merged(&own, squeezed), 0.0, tau);
    Ok(Operator {
        first: solve.coefficients(cell_integrals(basis, &quadrature::even_edges(0.0, 1.0, chunk))),
        past: solve.coefficients(cross_gram(basis, &edges, |t| t / tau)),
        chunk: solve.coefficients(cell_integrals(basis, &quadrature::even_edges(tau, 1.0, chunk))),
    })
}

/// `PowerLaw`: the past moves L observations along the logarithmic axis. Before its first observation a life is
/// taken to have looked like that observation, so that its start is no step in the signal.
pub fn power_law(basis: &Basis, resolution: f64, horizon: f64, chunk: usize) -> Result<Operator> {
    let axis = crate::forgetting::TimeAxis::PowerLaw { resolution, horizon };
    let position = |age: f64| axis.position(age, 0, &[]);
    let length = chunk as f64;
    // The oldest observation comes first.
    let cells: Vec<f64> = (0..=chunk).rev().map(|age| position(age as f64)).collect();
    let own = basis.panel_edges();
    let moved = own.iter().map(|&edge| position(axis.age(edge, 0, &[]) + length));
    let edges = within(&merged(&own, moved), 0.0, position(length));
    let solve = Solver::new(gram(basis), 1e-10)?;
    let past = solve.coefficients(cross_gram(basis, &edges, |t| position((axis.age(t, 0, &[]) - length).max(0.0))));
    let chunk = solve.coefficients(cell_integrals(basis, &cells));
    let constant = solve.coefficients(cell_integrals(basis, &[0.0, 1.0]));
    let mut first = chunk.clone();
    let before: DVector<f64> = &past * constant.column(0);
    first.column_mut(0).axpy(1.0, &before, 1.0);
    Ok(Operator { first, past, chunk })
}

/// `Uniform`, for the write after `chunks` chunks: the past is squeezed by ρ = n/(n + 1), exactly.
///
/// With ψ_j(ρs) = Σ_k M_jk ψ_k(s), A = ρM: M is lower triangular and follows from the three-term recurrence of the
/// Legendre polynomials in O(N²).
pub fn uniform(basis: &Basis, chunks: u64, chunk: usize) -> Operator {
    let count = basis.count();
    let rho = chunks as f64 / (chunks as f64 + 1.0);
    let norm = |n: usize| (2.0 * n as f64 + 1.0).sqrt();
    // Row j holds the Legendre coefficients of P_j(ρx + ρ − 1).
    let mut dilated = DMatrix::<f64>::zeros(count, count);
    dilated[(0, 0)] = 1.0;
    for j in 0..count - 1 {
        let (jf, next) = (j as f64, j as f64 + 1.0);
        for k in 0..=j + 1 {
            // x·P_k = ((k + 1)·P_{k+1} + k·P_{k−1}) / (2k + 1)
            let kf = k as f64;
            let from_below = if k > 0 { kf / (2.0 * kf - 1.0) * dilated[(j, k - 1)] } else { 0.0 };
            let from_above = if k < j { (kf + 1.0) / (2.0 * kf + 3.0) * dilated[(j, k + 1)] } else { 0.0 };
            let times_x = from_below + from_above;
            let older = if j > 0 { dilated[(j - 1, k)] } else { 0.0 };
            let value = (2.0 * jf + 1.0) * (rho * times_x + (rho - 1.0) * dilated[(j, k)]) - jf * older;
            dilated[(j + 1, k)] = value / next;
        }
    }
    let past = DMatrix::from_fn(count, count, |j, k| rho * dilated[(j, k)] * norm(j) / norm(k));
    let integrals = |edges: Vec<f64>| legendre_integrals(count, &edges);
    Operator {
        first: integrals(quadrature::even_edges(0.0, 1.0, chunk)),
        past,
        chunk: integrals(quadrature::even_edges(rho, 1.0, chunk)),
    }
}

/// ∫ψ over cells, for Legendre: ∫P_n dx = (P_{n+1} − P_{n−1})/(2n + 1).
fn legendre_integrals(count: usize, edges: &[f64]) -> DMatrix<f64> {
    let antiderivative = |t: f64| -> Vec<f64> {
        let x = 2.0 * t - 1.0;
        let mut polynomials = vec![1.0, x];
        for n in 1..=count {
            let nf = n as f64;
            polynomials.push(((2.0 * nf + 1.0) * x * polynomials[n] - nf * polynomials[n - 1]) / (nf + 1.0));
        }
        let integral = |n: usize| {
            let below = if n > 0 { polynomials[n - 1] } else { -1.0 };
            (polynomials[n + 1] - below) / (2.0 * (2.0 * n as f64 + 1.0).sqrt())
        };
        (0..count).map(integral).collect()
    };
    let at: Vec<Vec<f64>> = edges.iter().map(|&edge| antiderivative(edge)).collect();
    DMatrix::from_fn(count, edges.len() - 1, |n, cell| at[cell + 1][n] - at[cell][n])
}

/// The published code's regression. Gives `first` \[N, L\], the map of M samples of the past \[N, M\] and C \[N, L\].
///
/// Its positions: the first chunk sits mid-cell, later chunks and the resampled points on right edges; with zero
/// padding the fit also sees points outside \[0, 1\] whose values are zero.
pub fn sampled(
    basis: &Basis,
    tau: f64,
    chunk: usize,
    fit: SampledFit,
) -> Result<(DMatrix<f64>, DMatrix<f64>, DMatrix<f64>)> {
    // The published code spaces its padded positions 1/L apart too and takes the middle L for the chunk.
    let before = match fit.padding {
        Padding::None => 0,
        Padding::Zeros => chunk / 2,
    };
    let mid_cell = |i: isize| (2 * i + 1) as f64 / (2 * chunk) as f64;
    let (before, length) = (before as isize, chunk as isize);
    let first_places: Vec<f64> = (0..length).map(mid_cell).collect();
    let first_padding: Vec<f64> = (-before..0).chain(length..length + before).map(mid_cell).collect();
    let first = regression(basis, &first_places, &first_padding, fit.ridge)?;

    let past = (1..=fit.points).map(|i| tau * i as f64 / fit.points as f64);
    let new = (1..=chunk).map(|i| tau + (1.0 - tau) * i as f64 / chunk as f64);
    let places: Vec<f64> = past.chain(new).collect();
    let padding = match fit.padding {
        Padding::None => vec![],
        Padding::Zeros => {
            let total = chunk + fit.points;
            let shift = 1.0 / (2 * chunk + fit.points) as f64;
            let step = (2.0 - 2.0 * shift) / (2 * total - 1) as f64;
            let all = (0..2 * total).map(|i| shift - 0.5 + step * i as f64);
            all.filter(|place| !(0.0..=1.0).contains(place)).collect()
        }
    };
    let both = regression(basis, &places, &padding, fit.ridge)?;
    let past = both.columns(0, fit.points).into_owned();
    let chunk = both.columns(fit.points, chunk).into_owned();
    Ok((first, past, chunk))
}

/// (FᵀF + λI)⁻¹Fᵀ restricted to `places`, where F also has rows at the `padding` places: \[N, places\].
fn regression(basis: &Basis, places: &[f64], padding: &[f64], ridge: f64) -> Result<DMatrix<f64>> {
    let design_places = design(basis, places);
    let design_padding = design(basis, padding);
    let mut normal = design_places.tr_mul(&design_places) + design_padding.tr_mul(&design_padding);
    (0..basis.count()).for_each(|i| normal[(i, i)] += ridge);
    Ok(Solver::factorised(normal)?.coefficients(design_places.transpose()))
}

/// The factorised (G + λI).
struct Solver(nalgebra::Cholesky<f64, nalgebra::Dyn>);

impl Solver {
    /// λ = `ridge` × the mean of the diagonal.
    fn new(mut gram: DMatrix<f64>, ridge: f64) -> Result<Self> {
        let lambda = ridge * gram.trace() / gram.nrows() as f64;
        (0..gram.nrows()).for_each(|i| gram[(i, i)] += lambda);
        Self::factorised(gram)
    }

    fn factorised(matrix: DMatrix<f64>) -> Result<Self> {
        nalgebra::Cholesky::new(matrix).map(Self).ok_or_else(|| Error::Configuration {
            field: "forgetting.basis".into(),
            value: "not separable".into(),
            allowed: "functions that differ by more than rounding: narrower widths, fewer functions or a larger ridge"
                .into(),
        })
    }

    fn coefficients(&self, integrals: DMatrix<f64>) -> DMatrix<f64> {
        self.0.solve(&integrals)
    }
}

/// `edges` and `more`, sorted together.
fn merged(edges: &[f64], more: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = edges.iter().copied().chain(more).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The part of sorted `edges` inside \[start, end\], with both ends.
fn within(edges: &[f64], start: f64, end: f64) -> Vec<f64> {
    let inside = edges.iter().copied().filter(|edge| *edge > start && *edge < end);
    std::iter::once(start).chain(inside).chain(std::iter::once(end)).collect()
}
