//! The linear signal X̄(t) = Bᵀψ(t): writing a chunk into it and reading moments out of it.
//!
//! A row of B has one value a channel and, last, the *interval*: ticks since the previous observation. Ages in ticks
//! are integrals of the interval over the axis, so they stay positive, ordered and exact for regular ticks.

use crate::basis::Basis;
use crate::error::{Error, Result};
use crate::forgetting::{Forgetting, TimeAxis};
use crate::projection::{self, Operator};
use crate::sticky::{self, StickyPlan};
use nalgebra::DMatrix;
use std::borrow::Cow;
use std::collections::HashMap;

/// A row-major f32 matrix.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn from_f64(matrix: &DMatrix<f64>) -> Self {
        Self { columns: matrix.ncols(), values: matrix.transpose().iter().map(|value| *value as f32).collect() }
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// The values of the transpose, row-major.
    pub(crate) fn transposed(&self) -> Vec<f32> {
        (0..self.columns).flat_map(|column| self.values.iter().skip(column).step_by(self.columns).copied()).collect()
    }

    pub(crate) fn to_f64(&self) -> DMatrix<f64> {
        DMatrix::from_fn(self.rows(), self.columns, |row, column| f64::from(self.values[row * self.columns + column]))
    }

    /// `output` += self · `input`, with `width` columns; the order of the sums depends on nothing else.
    pub(crate) fn multiply_add(&self, input: &[f32], width: usize, output: &mut [f32]) {
        for (factors, output) in self.values.chunks_exact(self.columns).zip(output.chunks_exact_mut(width)) {
            for (factor, input) in factors.iter().zip(input.chunks_exact(width)) {
                output.iter_mut().zip(input).for_each(|(output, input)| *output += factor * input);
            }
        }
    }
}

/// The f32 matrices of one write.
#[derive(Debug, Clone)]
pub(crate) struct WriteMatrices {
    /// \[N, L\]
    pub(crate) first: Matrix,
    /// A − I \[N, N\]: under `Uniform` A nears I as life goes on, and f32 would lose the difference. Under `Sticky`,
    /// the map of the resampled points \[N, M\].
    pub(crate) past: Matrix,
    /// C \[N, L\]
    pub(crate) chunk: Matrix,
}

impl WriteMatrices {
    fn new(mut operator: Operator) -> Self {
        (0..operator.past.nrows()).for_each(|i| operator.past[(i, i)] -= 1.0);
        Self::resampled(&operator)
    }

    fn resampled(operator: &Operator) -> Self {
        Self {
            first: Matrix::from_f64(&operator.first),
            past: Matrix::from_f64(&operator.past),
            chunk: Matrix::from_f64(&operator.chunk),
        }
    }
}

/// Everything about a linear policy that is the same for all agents.
#[derive(Debug)]
pub(crate) struct LinearPlan {
    pub(crate) basis: Basis,
    pub(crate) axis: TimeAxis,
    /// L
    pub(crate) chunk: usize,
    pub(crate) sticky: Option<StickyPlan>,
    constant: WriteMatrices,
    /// `Uniform` has its own A and C at every write; the latest are kept.
    by_age: HashMap<u64, WriteMatrices>,
    /// ψ at the middles of evenly spaced cells \[M, N\]: the quadrature grid of every reading.
    pub(crate) grid: Matrix,
}

/// How many of `Uniform`'s matrices are kept from write to write; agents spawned together share them.
pub(crate) const KEPT_BY_AGE: usize = 256;

impl LinearPlan {
    /// Builds A and C. `count` is N, `chunk` L. Errors: a basis that cannot be fitted.
    pub(crate) fn new(forgetting: &Forgetting, basis: Basis, chunk: usize) -> Result<Self> {
        let mut sticky = None;
        let (axis, operator) = match forgetting {
            Forgetting::Geometric { tau, projection, .. } => {
                let axis = TimeAxis::Geometric { tau: *tau, chunk };
                (axis, projection::geometric(&basis, *tau, chunk, *projection)?)
            }
            Forgetting::PowerLaw { resolution, horizon, .. } => {
                let axis = TimeAxis::PowerLaw { resolution: *resolution, horizon: *horizon };
                (axis, projection::power_law(&basis, *resolution, *horizon, chunk)?)
            }
            Forgetting::Sticky { tau, fit, bins, placement, .. } => {
                let (first, past, chunk) = projection::sampled(&basis, *tau, chunk, *fit)?;
                sticky = Some(StickyPlan { tau: *tau, points: fit.points, bins: *bins, placement: *placement });
                (TimeAxis::Table, Operator { first, past, chunk })
            }
            Forgetting::Uniform => (TimeAxis::Uniform, projection::uniform(&basis, 0, chunk)),
            Forgetting::Adaptive(_) => {
                let (field, value) = ("forgetting".into(), forgetting.name().into());
                return Err(Error::Configuration { field, value, allowed: "a linear policy".into() });
            }
        };
        let cells = 2 * basis.count();
        let middles: Vec<f64> = (0..cells).map(|m| (m as f64 + 0.5) / cells as f64).collect();
        let grid = projection::design(&basis, &middles);
        let grid = Matrix::from_f64(&grid);
        let constant =
            if sticky.is_some() { WriteMatrices::resampled(&operator) } else { WriteMatrices::new(operator) };
        Ok(Self { basis, axis, chunk, sticky, constant, by_age: HashMap::new(), grid })
    }

    /// Makes the matrices of the writes that follow the given numbers of earlier ones.
    pub(crate) fn prepare(&mut self, chunks: impl Iterator<Item = u64>) {
        if !self.is_time_varying() {
            return;
        }
        if self.by_age.len() >= KEPT_BY_AGE {
            self.by_age.clear();
        }
        for chunks in chunks.filter(|chunks| *chunks > 0) {
            let matrices = self.matrices_after(chunks).into_owned();
            self.by_age.entry(chunks).or_insert(matrices);
        }
    }

    /// Whether A and C depend on how much was written before.
    pub(crate) fn is_time_varying(&self) -> bool {
        self.axis == TimeAxis::Uniform
    }

    /// The matrices of a write that follows `chunks` earlier ones, made anew where they change with age.
    pub(crate) fn matrices_after(&self, chunks: u64) -> Cow<'_, WriteMatrices> {
        if self.is_time_varying() && chunks > 0 {
            Cow::Owned(WriteMatrices::new(projection::uniform(&self.basis, chunks, self.chunk)))
        } else {
            Cow::Borrowed(&self.constant)
        }
    }

    /// The matrices of a write that follows `chunks` earlier ones; [`LinearPlan::prepare`] made them.
    pub(crate) fn matrices(&self, chunks: u64) -> &WriteMatrices {
        self.by_age.get(&chunks).unwrap_or(&self.constant)
    }

    /// One write into `coefficients` \[N, width\] of a `chunk` \[L, width\], oldest observation first.
    ///
    pub(crate) fn write(&self, state: LinearState, chunk: &[f32], width: usize, scratch: &mut Vec<f32>) {
        let LinearState { coefficients, chunks, table, histogram } = state;
        let matrices = self.matrices(chunks);
        let resampled = self.sticky.as_ref().map_or(0, |plan| plan.points * width);
        scratch.clear();
        scratch.resize(coefficients.len() + resampled, 0.0);
        let (change, samples) = scratch.split_at_mut(coefficients.len());
        if chunks == 0 {
            matrices.first.multiply_add(chunk, width, change);
            coefficients.fill(0.0);
        } else {
            matrices.chunk.multiply_add(chunk, width, change);
            if let Some(plan) = &self.sticky {
                sticky::resample(plan, &self.basis, histogram, coefficients, width, samples);
                matrices.past.multiply_add(samples, width, change);
                coefficients.fill(0.0);
            } else {
                matrices.past.multiply_add(coefficients, width, change);
            }
        }
        if let Some(plan) = &self.sticky {
            sticky::advance(plan, self.chunk, chunks, table, histogram);
        }
        coefficients.iter_mut().zip(change).for_each(|(coefficient, change)| *coefficient += *change);
    }

    /// Cells of the reading grid, newest first: (newer age, older age, grid row), in observations.
    pub(crate) fn cells(&self, written: u64, table: &[f32]) -> impl Iterator<Item = (f64, f64, usize)> {
        let count = self.grid.rows();
        let oldest = written as f64;
        let edge = move |i: usize| self.axis.age(i as f64 / count as f64, written, table).min(oldest);
        let cells = (0..count).rev().map(move |row| (edge(row + 1), edge(row), row));
        cells.filter(|(newer, older, _)| older > newer)
    }
}

/// One agent's part of a linear memory.
pub(crate) struct LinearState<'a> {
    /// B \[N, width\]
    pub(crate) coefficients: &'a mut [f32],
    /// Chunks written so far.
    pub(crate) chunks: u64,
    /// Ages at evenly spaced positions; empty but for `Sticky`.
    pub(crate) table: &'a mut [f32],
    /// Attention mass a bin; empty but for `Sticky`.
    pub(crate) histogram: &'a mut [f32],
}
