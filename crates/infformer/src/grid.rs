//! The quadrature grid on which every linear signal is read: ψ at the middles of M = 2N even cells, the newest first.
//!
//! Cosine and Legendre functions are even or odd about the middle of the axis, ψₙ(1 − t) = (−1)ⁿψₙ(t): half of the
//! grid tells the other half, which saves half of the table and half of the products.

use crate::basis::{Basis, BasisKind};
use crate::kernels::{Outputs, Padded, multiply};
use crate::projection;

/// ψ at the middles of the cells, in the shapes that reading needs.
#[derive(Debug)]
pub(crate) struct Grid {
    /// \[M, N\]
    rows: Padded,
    transposed: Transposed,
}

#[derive(Debug)]
enum Transposed {
    /// \[N, M\]
    Whole(Padded),
    Halves(Box<[Half; 2]>),
}

/// The even or the odd functions on the newer half of the grid.
#[derive(Debug)]
struct Half {
    /// \[M/2, functions\]
    rows: Padded,
    /// \[functions, M/2\]
    transposed: Padded,
}

/// Work space of reading, re-used.
#[derive(Debug, Default)]
pub(crate) struct GridScratch {
    inputs: [Vec<f32>; 2],
    outputs: [Vec<f32>; 2],
}

impl Grid {
    /// The grid of a basis of N functions.
    pub(crate) fn new(basis: &Basis) -> Self {
        let (cells, count) = (2 * basis.count(), basis.count());
        let middles: Vec<f64> = (0..cells).rev().map(|m| (m as f64 + 0.5) / cells as f64).collect();
        let psi = projection::design(basis, &middles);
        let transposed = match basis.kind() {
            BasisKind::Cosine | BasisKind::Legendre => Transposed::Halves(Box::new([0, 1].map(|first| {
                let functions = (count - first).div_ceil(2);
                Half {
                    rows: Padded::new(cells / 2, functions, |cell, n| psi[(cell, first + 2 * n)] as f32),
                    transposed: Padded::new(functions, cells / 2, |n, cell| psi[(cell, first + 2 * n)] as f32),
                }
            }))),
            _ => Transposed::Whole(Padded::new(count, cells, |n, cell| psi[(cell, n)] as f32)),
        };
        Self { rows: Padded::new(cells, count, |cell, n| psi[(cell, n)] as f32), transposed }
    }

    /// M
    pub(crate) fn cells(&self) -> usize {
        self.rows.rows()
    }

    /// How many of them tell all: half, where ψ is even or odd.
    pub(crate) fn columns(&self) -> usize {
        match self.transposed {
            Transposed::Whole(_) => self.cells(),
            Transposed::Halves(_) => self.cells() / 2,
        }
    }

    /// ψ \[N\] in the middle of a cell.
    pub(crate) fn row(&self, cell: usize) -> &[f32] {
        self.rows.row(cell)
    }

    /// `values` \[rows, M\] of some rows of Bᵀ \[rows, N\] at all cells.
    pub(crate) fn evaluate(&self, rows: &[f32], values: &mut [f32], scratch: &mut GridScratch) {
        let halves = match &self.transposed {
            Transposed::Whole(transposed) => return multiply(rows, transposed.all(), values, Outputs::Replaced),
            Transposed::Halves(halves) => halves,
        };
        let (cells, count) = (self.cells(), self.cells() / 2);
        split(rows, count, &mut scratch.inputs);
        for ((half, inputs), output) in halves.iter().zip(&scratch.inputs).zip(&mut scratch.outputs) {
            output.resize(values.len() / 2, 0.0);
            multiply(inputs, half.transposed.all(), output, Outputs::Replaced);
        }
        let [even, odd] = &scratch.outputs;
        let sums = even.chunks_exact(cells / 2).zip(odd.chunks_exact(cells / 2));
        for (values, (even, odd)) in values.chunks_exact_mut(cells).zip(sums) {
            let (newer, older) = values.split_at_mut(cells / 2);
            let mirrored = newer.iter_mut().zip(older.iter_mut().rev());
            for ((newer, older), (even, odd)) in mirrored.zip(even.iter().zip(odd)) {
                (*newer, *older) = (even + odd, even - odd);
            }
        }
    }

    /// E\[ψ\] \[N\] of the `weights` of the cells that there are: the newest, one or more.
    pub(crate) fn expect(&self, weights: &[f32], expectation: &mut [f32], scratch: &mut GridScratch) {
        let half_cells = self.cells() / 2;
        let halves = match &self.transposed {
            Transposed::Halves(halves) if weights.len() > half_cells => halves,
            _ => return multiply(weights, self.rows.first(weights.len()), expectation, Outputs::Replaced),
        };
        let (newer, older) = weights.split_at(half_cells);
        for (number, (half, output)) in halves.iter().zip(&mut scratch.outputs).enumerate() {
            let inputs = &mut scratch.inputs[0];
            inputs.clear();
            inputs.extend_from_slice(newer);
            let mirrored = inputs.iter_mut().rev().zip(older);
            match number {
                0 => mirrored.for_each(|(input, weight)| *input += weight),
                _ => mirrored.for_each(|(input, weight)| *input -= weight),
            }
            let functions = (expectation.len() - number).div_ceil(2);
            output.resize(functions, 0.0);
            multiply(inputs, half.rows.all(), output, Outputs::Replaced);
            let own = expectation[number..].iter_mut().step_by(2);
            own.zip(output).for_each(|(expectation, value)| *expectation = *value);
        }
    }

    /// Where in [`Grid::psi`] a cell's ψ \[N\] begins.
    pub(crate) fn psi_at(&self, cell: usize) -> usize {
        self.rows.start_of(cell)
    }

    /// ψ of all cells, padded.
    pub(crate) fn psi(&self) -> &[f32] {
        self.rows.padded()
    }
}

/// The coefficients of the even and of the odd functions of some rows \[rows, count\].
fn split(rows: &[f32], count: usize, parts: &mut [Vec<f32>; 2]) {
    let [even, odd] = parts;
    let [evens, odds] = [count.div_ceil(2), count / 2];
    even.resize(rows.len() / count * evens, 0.0);
    odd.resize(rows.len() / count * odds, 0.0);
    for ((row, even), odd) in rows.chunks_exact(count).zip(even.chunks_exact_mut(evens)).zip(odd.chunks_exact_mut(odds))
    {
        let (pairs, last) = row.as_chunks::<2>();
        for ((pair, even), odd) in pairs.iter().zip(even.iter_mut()).zip(odd) {
            (*even, *odd) = (pair[0], pair[1]);
        }
        if let [last] = last {
            even[evens - 1] = *last;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Halves or not: values are ψ·B, expectations are Σ weight·ψ.
        #[test]
        fn reading_is_a_product_with_psi(
            kind in 0_usize..3,
            count in 2_usize..40,
            share in 0.0_f64..=1.0,
            values in proptest::collection::vec(-1.0_f32..1.0, 80),
        ) {
            let kind = [BasisKind::Cosine, BasisKind::Legendre, BasisKind::Bins][kind].clone();
            let grid = Grid::new(&Basis::new(&kind, count).unwrap());
            let cells = grid.cells();
            // Sums of at most 80 products, each no larger than the largest |ψ|, in two orders.
            let largest = (0..cells).flat_map(|cell| grid.row(cell)).fold(1.0_f32, |most, psi| most.max(psi.abs()));
            let tolerance = 80.0 * largest * 2.0 * f32::EPSILON;
            let mut scratch = GridScratch::default();
            let rows = &values[..2 * count];
            let mut found = vec![0.0; 2 * cells];
            grid.evaluate(rows, &mut found, &mut scratch);
            for (at, found) in found.iter().enumerate() {
                let (row, cell) = (&rows[at / cells * count..][..count], at % cells);
                let expected: f32 = row.iter().zip(grid.row(cell)).map(|(b, psi)| b * psi).sum();
                prop_assert!((found - expected).abs() < tolerance, "{kind:?} {count} {cell}: {found} {expected}");
            }
            let weights = &values[..((share * cells as f64) as usize).max(1)];
            let mut found = vec![0.0; count];
            grid.expect(weights, &mut found, &mut scratch);
            for (n, found) in found.iter().enumerate() {
                let expected: f32 = weights.iter().enumerate().map(|(at, weight)| weight * grid.row(at)[n]).sum();
                prop_assert!((found - expected).abs() < tolerance, "{kind:?} {count} {n}: {found} {expected}");
            }
        }
    }
}
