//! The linear signal X̄(t) = Bᵀψ(t): writing a chunk into it, and the grid on which it is read.
//!
//! An agent's coefficients are kept as Bᵀ \[d + 1, N\]: one row a channel and, last, the *interval*: ticks since the
//! previous observation. A write then moves each channel's row by itself, in place. Ages in ticks are integrals of the
//! interval over the axis, so they stay positive, ordered and exact for regular ticks.

use crate::basis::Basis;
use crate::error::{Error, Result};
use crate::forgetting::{Forgetting, TimeAxis};
use crate::grid::Grid;
use crate::kernels::{Padded, Past, RingRows, fold};
use crate::projection::{self, Operator};
use crate::sticky::{self, StickyPlan};
use std::borrow::Cow;
use std::collections::HashMap;

/// The f32 matrices of one write, transposed: rows of Bᵀ times these.
#[derive(Debug, Clone)]
pub(crate) struct WriteMatrices {
    /// The first chunk of a life \[L, N\].
    pub(crate) first: Padded,
    /// (A − I)ᵀ over Cᵀ \[N + L, N\]: under `Uniform` A nears I as life goes on, and f32 would lose the difference.
    /// Under `Sticky`, the map of the resampled points over Cᵀ \[M + L, N\].
    pub(crate) both: Padded,
}

impl WriteMatrices {
    fn new(mut operator: Operator) -> Self {
        (0..operator.past.nrows()).for_each(|i| operator.past[(i, i)] -= 1.0);
        Self::resampled(&operator)
    }

    fn resampled(operator: &Operator) -> Self {
        let Operator { first, past, chunk } = operator;
        let (count, before) = (chunk.nrows(), past.ncols());
        let both = |row: usize, column: usize| match row.checked_sub(before) {
            None => past[(column, row)],
            Some(l) => chunk[(column, l)],
        };
        Self {
            first: Padded::new(first.ncols(), count, |row, column| first[(column, row)] as f32),
            both: Padded::new(before + chunk.ncols(), count, |row, column| both(row, column) as f32),
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
    /// Where every reading evaluates the signal.
    pub(crate) grid: Grid,
    /// Ages at the ends of the cells, the newest first \[M + 1\]; empty where they change as life goes on.
    constant_ages: Vec<f64>,
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
        let grid = Grid::new(&basis);
        let cells = grid.cells();
        let constant_ages = match axis {
            TimeAxis::PowerLaw { .. } => (0..=cells).map(|end| axis.age(position(end, cells), 0, &[])).collect(),
            _ => vec![],
        };
        let constant =
            if sticky.is_some() { WriteMatrices::resampled(&operator) } else { WriteMatrices::new(operator) };
        Ok(Self { basis, axis, chunk, sticky, constant, by_age: HashMap::new(), grid, constant_ages })
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
            if !self.by_age.contains_key(&chunks) {
                let matrices = self.matrices_after(chunks).into_owned();
                self.by_age.insert(chunks, matrices);
            }
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

    /// One write into an agent's coefficients of the `chunk` that leaves its ring.
    pub(crate) fn write(&self, state: LinearState, chunk: RingRows, scratch: &mut WriteScratch) {
        let LinearState { coefficients, chunks, table, histogram } = state;
        let matrices = self.matrices(chunks);
        let WriteScratch { samples, inputs } = scratch;
        match &self.sticky {
            _ if chunks == 0 => fold(&matrices.first, Past::Nothing, chunk, coefficients, inputs),
            None => fold(&matrices.both, Past::Moved, chunk, coefficients, inputs),
            Some(plan) => {
                sticky::resample(plan, &self.basis, histogram, coefficients, samples);
                fold(&matrices.both, Past::Resampled(samples), chunk, coefficients, inputs);
            }
        }
        if let Some(plan) = &self.sticky {
            sticky::advance(plan, self.chunk, chunks, table, histogram);
        }
    }

    /// Appends the ages in observations at the ends of the grid's cells \[M + 1\] or fewer, the newest (0) first, none
    /// beyond the oldest observation.
    pub(crate) fn ages(&self, written: u64, table: &[f32], ages: &mut Vec<f64>) {
        let (cells, oldest) = (self.grid.cells(), written as f64);
        if !self.constant_ages.is_empty() {
            let younger = self.constant_ages.partition_point(|age| *age < oldest);
            let ends = &self.constant_ages[..=younger.min(cells)];
            ages.extend(ends.iter().map(|age| age.min(oldest)));
            return;
        }
        for end in 0..=cells {
            let age = self.axis.age(position(end, cells), written, table);
            ages.push(age.min(oldest));
            if age >= oldest {
                break;
            }
        }
    }
}

/// Position on the axis of the end number `end` of `cells` even cells, the newest end first.
fn position(end: usize, cells: usize) -> f64 {
    (cells - end) as f64 / cells as f64
}

/// Work space of a write, re-used from one to the next.
#[derive(Debug, Default)]
pub(crate) struct WriteScratch {
    samples: Vec<f32>,
    inputs: Vec<f32>,
}

/// One agent's part of a linear memory.
pub(crate) struct LinearState<'a> {
    /// Bᵀ \[d + 1, N\]
    pub(crate) coefficients: &'a mut [f32],
    /// Chunks written so far.
    pub(crate) chunks: u64,
    /// Ages at evenly spaced positions; empty but for `Sticky`.
    pub(crate) table: &'a mut [f32],
    /// Attention mass a bin; empty but for `Sticky`.
    pub(crate) histogram: &'a mut [f32],
}
