//! The inner loops of writing and reading, for the widest vectors that the machine has.
//!
//! Loops here are `for` loops: a closure is a function of its own, compiled without the machine's vectors, and is not
//! always inlined. Every product is fused into its sum where the machine can do that, and the order of a sum depends on nothing but its length (and,
//! for scalar products, on the machine's vectors): a result's bits do not depend on what is computed along with it.

use pulp::{Arch, Simd, WithSimd};

/// Rows of outputs that share each load of a matrix.
const TILE: usize = 6;
/// Columns are padded to whole vectors of any machine.
pub(crate) const LANES: usize = 16;

/// A row-major f32 matrix whose rows are padded with zeros to whole vectors.
#[derive(Debug, Clone)]
pub(crate) struct Padded {
    rows: usize,
    columns: usize,
    stride: usize,
    values: Vec<f32>,
}

impl Padded {
    /// `rows` × `columns` values, given by their place.
    pub(crate) fn new(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let stride = columns.next_multiple_of(LANES);
        let mut values = vec![0.0; rows * stride];
        for row in 0..rows {
            (0..columns).for_each(|column| values[row * stride + column] = value(row, column));
        }
        Self { rows, columns, stride, values }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride..row * self.stride + self.columns]
    }

    /// All rows.
    pub(crate) fn all(&self) -> PaddedRows<'_> {
        self.first(self.rows)
    }

    /// The first rows.
    pub(crate) fn first(&self, rows: usize) -> PaddedRows<'_> {
        let values = &self.values[..rows * self.stride];
        PaddedRows { rows, columns: self.columns, stride: self.stride, values }
    }

    /// All values with their padding.
    pub(crate) fn padded(&self) -> &[f32] {
        &self.values
    }

    /// Where in [`Padded::padded`] a row begins.
    pub(crate) fn start_of(&self, row: usize) -> usize {
        row * self.stride
    }

    /// The values of some rows, row by row, without padding.
    pub(crate) fn values(&self, rows: std::ops::Range<usize>) -> Vec<f32> {
        rows.flat_map(|row| self.row(row)).copied().collect()
    }
}

/// Some rows of a padded matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PaddedRows<'a> {
    rows: usize,
    columns: usize,
    stride: usize,
    values: &'a [f32],
}

/// What becomes of the outputs that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outputs {
    /// They are replaced.
    Replaced,
    /// The products are added to them.
    Kept,
}

/// `outputs` \[rows, columns\] from `inputs` \[rows, k\] · `matrix` \[k, columns\].
pub(crate) fn multiply(inputs: &[f32], matrix: PaddedRows, outputs: &mut [f32], kept: Outputs) {
    Arch::new().dispatch(Multiply { inputs, matrix, outputs, kept });
}

struct Multiply<'a> {
    inputs: &'a [f32],
    matrix: PaddedRows<'a>,
    outputs: &'a mut [f32],
    kept: Outputs,
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { inputs, matrix, outputs, kept } = self;
        let (length, columns) = (matrix.rows, matrix.columns);
        for (inputs, outputs) in inputs.chunks(TILE * length).zip(outputs.chunks_mut(TILE * columns)) {
            multiply_rows(simd, inputs, matrix, outputs, kept);
        }
    }
}

/// At most [`TILE`] rows.
#[inline(always)]
fn multiply_rows<S: Simd>(simd: S, inputs: &[f32], matrix: PaddedRows, outputs: &mut [f32], kept: Outputs) {
    match outputs.len() / matrix.columns {
        1 => multiply_panels::<S, 1>(simd, inputs, matrix, outputs, kept),
        2 => multiply_panels::<S, 2>(simd, inputs, matrix, outputs, kept),
        3 => multiply_panels::<S, 3>(simd, inputs, matrix, outputs, kept),
        4 => multiply_panels::<S, 4>(simd, inputs, matrix, outputs, kept),
        5 => multiply_panels::<S, 5>(simd, inputs, matrix, outputs, kept),
        TILE => multiply_panels::<S, TILE>(simd, inputs, matrix, outputs, kept),
        _ => {}
    }
}

/// As many vectors of columns at once as the machine has registers for, then one by one.
#[inline(always)]
fn multiply_panels<S: Simd, const R: usize>(
    simd: S,
    inputs: &[f32],
    matrix: PaddedRows,
    outputs: &mut [f32],
    kept: Outputs,
) {
    let mut column = 0;
    // A sum waits for itself: one row needs many columns at once.
    if R == 1 {
        while column < matrix.columns && column + 8 * S::F32_LANES <= matrix.stride {
            multiply_tile::<S, R, 8>(simd, inputs, matrix, column, outputs, kept);
            column += 8 * S::F32_LANES;
        }
    }
    // Sixteen registers where vectors have eight lanes (AVX2), thirty-two elsewhere: there, four vectors of columns for two
    // rows and two for more; here always four.
    if S::F32_LANES != 8 || R <= 2 {
        while column < matrix.columns && column + 4 * S::F32_LANES <= matrix.stride {
            multiply_tile::<S, R, 4>(simd, inputs, matrix, column, outputs, kept);
            column += 4 * S::F32_LANES;
        }
    }
    while column < matrix.columns && column + 2 * S::F32_LANES <= matrix.stride {
        multiply_tile::<S, R, 2>(simd, inputs, matrix, column, outputs, kept);
        column += 2 * S::F32_LANES;
    }
    while column < matrix.columns {
        multiply_tile::<S, R, 1>(simd, inputs, matrix, column, outputs, kept);
        column += S::F32_LANES;
    }
}

/// R rows by V vectors of columns, kept in registers from the first product to the last.
#[inline(always)]
fn multiply_tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    inputs: &[f32],
    matrix: PaddedRows,
    column: usize,
    outputs: &mut [f32],
    kept: Outputs,
) {
    let length = matrix.rows;
    let mut rows = [inputs; R];
    for (row, input) in rows.iter_mut().zip(inputs.chunks_exact(length)) {
        *row = input;
    }
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (k, factors) in matrix.values.chunks_exact(matrix.stride).enumerate() {
        let (vectors, _) = S::as_simd_f32s(&factors[column..column + V * S::F32_LANES]);
        let vectors = &vectors[..V];
        for row in 0..R {
            let input = simd.splat_f32s(rows[row][k]);
            for v in 0..V {
                sums[row][v] = simd.mul_add_e_f32s(input, vectors[v], sums[row][v]);
            }
        }
    }
    let end = matrix.columns.min(column + V * S::F32_LANES);
    for (sums, output) in sums.into_iter().zip(outputs.chunks_exact_mut(matrix.columns)) {
        let (whole, rest) = S::as_mut_simd_f32s(&mut output[column..end]);
        for (sum, output) in sums.iter().zip(&mut *whole) {
            *output = match kept {
                Outputs::Replaced => *sum,
                Outputs::Kept => simd.add_f32s(*output, *sum),
            };
        }
        if !rest.is_empty() {
            let sum = match kept {
                Outputs::Replaced => sums[whole.len()],
                Outputs::Kept => simd.add_f32s(simd.partial_load_f32s(rest), sums[whole.len()]),
            };
            simd.partial_store_f32s(rest, sum);
        }
    }
}

/// The rows that leave a ring: observation `l` of a chunk is row (head + l) mod rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingRows<'a> {
    /// \[rows, width\]
    pub(crate) values: &'a [f32],
    pub(crate) head: usize,
    pub(crate) width: usize,
    /// How many leave.
    pub(crate) count: usize,
}

impl<'a> RingRows<'a> {
    /// The rows, oldest first.
    pub(crate) fn iter(self) -> impl Iterator<Item = &'a [f32]> {
        let (newer, older) = self.parts();
        older.chunks_exact(self.width).chain(newer.chunks_exact(self.width))
    }

    /// The same rows as they lie in memory: those that begin anew at the top of the ring, and the older ones.
    fn parts(self) -> (&'a [f32], &'a [f32]) {
        let (top, older) = self.values.split_at(self.head * self.width);
        let older = &older[..older.len().min(self.count * self.width)];
        (&top[..self.count * self.width - older.len()], older)
    }
}

/// One column of the rows \[n, width\] into `column` \[n\].
#[inline(always)]
fn copy_column(rows: &[f32], width: usize, place: usize, column: &mut [f32]) {
    for (row, value) in column.iter_mut().enumerate() {
        *value = rows[row * width + place];
    }
}

/// What a write adds to the coefficients, beside the chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Past<'a> {
    /// Nothing: the first write replaces what is there.
    Nothing,
    /// The coefficients themselves are moved: B + (A − I)·B.
    Moved,
    /// Samples of the signal \[M, width\] are fitted again, and replace it.
    Resampled(&'a [f32]),
}

/// One write into `coefficients` Bᵀ \[width, N\], channel by channel: the past and the chunk, times `map`
/// \[N + L, N\] (\[L, N\] without a past, \[M + L, N\] resampled).
pub(crate) fn fold(map: &Padded, past: Past, chunk: RingRows, coefficients: &mut [f32], scratch: &mut Vec<f32>) {
    scratch.resize(TILE * map.rows, 0.0);
    Arch::new().dispatch(Fold { map, past, chunk, coefficients, inputs: scratch });
}

struct Fold<'a> {
    map: &'a Padded,
    past: Past<'a>,
    chunk: RingRows<'a>,
    coefficients: &'a mut [f32],
    inputs: &'a mut [f32],
}

impl WithSimd for Fold<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { map, past, chunk, coefficients, inputs } = self;
        let (length, count) = (map.rows, map.columns);
        let before = length - chunk.count;
        let kept = if matches!(past, Past::Moved) { Outputs::Kept } else { Outputs::Replaced };
        for (tile, coefficients) in coefficients.chunks_mut(TILE * count).enumerate() {
            let first = tile * TILE;
            let rows = coefficients.len() / count;
            let inputs = &mut inputs[..rows * length];
            match past {
                Past::Nothing => {}
                Past::Moved => {
                    for (input, row) in inputs.chunks_exact_mut(length).zip(coefficients.chunks_exact(count)) {
                        input[..count].copy_from_slice(row);
                    }
                }
                Past::Resampled(samples) => {
                    for (sample, values) in samples.chunks_exact(chunk.width).enumerate() {
                        for (row, value) in values[first..first + rows].iter().enumerate() {
                            inputs[row * length + sample] = *value;
                        }
                    }
                }
            }
            let (newer, older) = chunk.parts();
            for (row, input) in inputs.chunks_exact_mut(length).enumerate() {
                let (first_inputs, last_inputs) = input[before..].split_at_mut(older.len() / chunk.width);
                copy_column(older, chunk.width, first + row, first_inputs);
                copy_column(newer, chunk.width, first + row, last_inputs);
            }
            multiply_rows(simd, inputs, map.all(), coefficients, kept);
        }
    }
}

/// `outputs` \[vectors, rows\]: the products of every vector in `vectors` \[vectors, N\] with every row in `rows`
/// \[rows, N\].
pub(crate) fn dots(vectors: &[f32], rows: &[f32], length: usize, outputs: &mut [f32]) {
    Arch::new().dispatch(Dots { vectors, rows, length, outputs });
}

struct Dots<'a> {
    vectors: &'a [f32],
    rows: &'a [f32],
    length: usize,
    outputs: &'a mut [f32],
}

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { vectors, rows, length, outputs } = self;
        let count = rows.len() / length;
        for (vectors, outputs) in vectors.chunks(4 * length).zip(outputs.chunks_mut(4 * count)) {
            match outputs.len() / count {
                1 => dots_of::<S, 1>(simd, vectors, rows, length, outputs),
                2 => dots_of::<S, 2>(simd, vectors, rows, length, outputs),
                3 => dots_of::<S, 3>(simd, vectors, rows, length, outputs),
                _ => dots_of::<S, 4>(simd, vectors, rows, length, outputs),
            }
        }
    }
}

/// V vectors, which share each load of a row. Each sum is that of [`dot`], to the bit.
#[inline(always)]
fn dots_of<S: Simd, const V: usize>(simd: S, vectors: &[f32], rows: &[f32], length: usize, outputs: &mut [f32]) {
    let count = rows.len() / length;
    let whole = length / S::F32_LANES;
    let mut split = [S::as_simd_f32s(&vectors[..length]); V];
    for (split, vector) in split.iter_mut().zip(vectors.chunks_exact(length)) {
        *split = S::as_simd_f32s(vector);
    }
    for (place, row) in rows.chunks_exact(length).enumerate() {
        let (row, row_rest) = S::as_simd_f32s(row);
        let mut sums = [[simd.splat_f32s(0.0); 2]; V];
        for k in (0..whole).step_by(2) {
            for v in 0..V {
                sums[v][0] = simd.mul_add_e_f32s(split[v].0[k], row[k], sums[v][0]);
            }
            if k + 1 < whole {
                for v in 0..V {
                    sums[v][1] = simd.mul_add_e_f32s(split[v].0[k + 1], row[k + 1], sums[v][1]);
                }
            }
        }
        if !row_rest.is_empty() {
            let rest = simd.partial_load_f32s(row_rest);
            for v in 0..V {
                sums[v][1] = simd.mul_add_e_f32s(simd.partial_load_f32s(split[v].1), rest, sums[v][1]);
            }
        }
        for v in 0..V {
            outputs[v * count + place] = simd.reduce_sum_f32s(simd.add_f32s(sums[v][0], sums[v][1]));
        }
    }
}

/// The scalar product of two vectors of equal length.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, left: &[f32], right: &[f32]) -> f32 {
    let ((left, left_rest), (right, right_rest)) = (S::as_simd_f32s(left), S::as_simd_f32s(right));
    let mut sums = [simd.splat_f32s(0.0); 2];
    for (left, right) in left.chunks(2).zip(right.chunks(2)) {
        sums[0] = simd.mul_add_e_f32s(left[0], right[0], sums[0]);
        if left.len() == 2 {
            sums[1] = simd.mul_add_e_f32s(left[1], right[1], sums[1]);
        }
    }
    if !left_rest.is_empty() {
        let (left, right) = (simd.partial_load_f32s(left_rest), simd.partial_load_f32s(right_rest));
        sums[1] = simd.mul_add_e_f32s(left, right, sums[1]);
    }
    simd.reduce_sum_f32s(simd.add_f32s(sums[0], sums[1]))
}

/// Σ (left − right)²·weight of three vectors of equal length.
#[inline(always)]
pub(crate) fn weighted_distance<S: Simd>(simd: S, left: &[f32], right: &[f32], weights: &[f32]) -> f32 {
    let ((left, left_rest), (right, right_rest)) = (S::as_simd_f32s(left), S::as_simd_f32s(right));
    let (weights, weights_rest) = S::as_simd_f32s(weights);
    let mut sum = simd.splat_f32s(0.0);
    for ((left, right), weight) in left.iter().zip(right).zip(weights) {
        let difference = simd.sub_f32s(*left, *right);
        sum = simd.mul_add_e_f32s(simd.mul_f32s(difference, difference), *weight, sum);
    }
    if !left_rest.is_empty() {
        let (left, right) = (simd.partial_load_f32s(left_rest), simd.partial_load_f32s(right_rest));
        let difference = simd.sub_f32s(left, right);
        let weight = simd.partial_load_f32s(weights_rest);
        sum = simd.mul_add_e_f32s(simd.mul_f32s(difference, difference), weight, sum);
    }
    simd.reduce_sum_f32s(sum)
}

/// A row of some matrix, by where its values begin, and what it weighs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightedRow {
    pub(crate) start: usize,
    pub(crate) weight: f32,
}

/// `sum` += Σ weight·row, for rows as long as `sum` that begin in `values` where `rows` says.
pub(crate) fn add_rows(values: &[f32], rows: &[WeightedRow], sum: &mut [f32]) {
    Arch::new().dispatch(AddRows { values, rows, sum });
}

struct AddRows<'a> {
    values: &'a [f32],
    rows: &'a [WeightedRow],
    sum: &'a mut [f32],
}

impl WithSimd for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { values, rows, sum } = self;
        for (number, sum) in sum.chunks_mut(4 * S::F32_LANES).enumerate() {
            let first = number * 4 * S::F32_LANES;
            match sum.len().div_ceil(S::F32_LANES) {
                1 => add_panel::<S, 1>(simd, values, rows, first, sum),
                2 => add_panel::<S, 2>(simd, values, rows, first, sum),
                3 => add_panel::<S, 3>(simd, values, rows, first, sum),
                _ => add_panel::<S, 4>(simd, values, rows, first, sum),
            }
        }
    }
}

/// V vectors of columns from `first` on, kept in registers from the first row to the last.
#[inline(always)]
fn add_panel<S: Simd, const V: usize>(simd: S, values: &[f32], rows: &[WeightedRow], first: usize, sum: &mut [f32]) {
    let mut totals = [simd.splat_f32s(0.0); V];
    for (total, sum) in totals.iter_mut().zip(sum.chunks(S::F32_LANES)) {
        *total = simd.partial_load_f32s(sum);
    }
    for WeightedRow { start, weight } in rows {
        let (from, weight) = (start + first, simd.splat_f32s(*weight));
        // Whole vectors are quicker to load than parts; what is beyond the row is not stored.
        if let Some(whole) = values.get(from..from + V * S::F32_LANES) {
            let row = S::as_simd_f32s(whole).0;
            for v in 0..V {
                totals[v] = simd.mul_add_e_f32s(weight, row[v], totals[v]);
            }
        } else {
            for (total, row) in totals.iter_mut().zip(values[from..from + sum.len()].chunks(S::F32_LANES)) {
                *total = simd.mul_add_e_f32s(weight, simd.partial_load_f32s(row), *total);
            }
        }
    }
    for (total, sum) in totals.into_iter().zip(sum.chunks_mut(S::F32_LANES)) {
        simd.partial_store_f32s(sum, total);
    }
}

/// Runs a loop over plain slices with the machine's widest vectors.
pub(crate) fn run<L: WithSimd>(work: L) -> L::Output {
    Arch::new().dispatch(work)
}

/// eˣ for x ≤ 0, to 3e-7 of its value (0 below −87); no branches, so that loops over it become vectors.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -87.0 { -87.0 } else { x };
    let rounded = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2_LOW, n.mul_add(-LN_2_HIGH, clamped));
    // The Taylor polynomial on |r| ≤ ln 2/2: what is left out is below r⁷/7!, 1.7e-7 of the value; the rest is rounding.
    let mut sum = 1.0 / 720.0;
    for factor in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = r.mul_add(sum, factor);
    }
    let scale = f32::from_bits(rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { sum * scale }
}

/// ln(1 + x) for x ≥ 0, to 3e-7 of its value however small x is; no branches.
#[inline(always)]
pub(crate) fn ln_1p(x: f32) -> f32 {
    // 1 + x = 2ᵏ·(1 + y) with 1 + y between √½ and √2; y is x itself where k = 0.
    let one_more = 1.0 + x;
    let exponent = (one_more.to_bits().wrapping_sub(0x3F35_04F3) as i32) >> 23;
    let shrunk = f32::from_bits(one_more.to_bits().wrapping_sub((exponent << 23) as u32)) - 1.0;
    let y = if exponent == 0 { x } else { shrunk };
    // ln(1 + y) = 2·artanh(y/(2 + y)); the quotient is at most .172, so the series is over after five terms.
    let s = y / (2.0 + y);
    let square = s * s;
    let mut series = 1.0 / 9.0;
    for factor in [1.0 / 7.0, 0.2, 1.0 / 3.0, 1.0] {
        series = square.mul_add(series, factor);
    }
    (exponent as f32).mul_add(std::f32::consts::LN_2, 2.0 * s * series)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u64, length: usize) -> Vec<f32> {
        use rand::{RngExt, SeedableRng};
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..length).map(|_| random.random_range(-1.0..1.0)).collect()
    }

    proptest! {
        /// What runs where there are no vectors: the same sums, not fused.
        #[test]
        fn products_need_no_vectors(rows in 1_usize..9, length in 1_usize..40, columns in 1_usize..50, seed: u64) {
            let (inputs, values) = (noise(seed, rows * length), noise(seed ^ 1, length * columns));
            let matrix = Padded::new(length, columns, |row, column| values[row * columns + column]);
            let (mut vectors, mut scalars) = (vec![0.0; rows * columns], vec![0.0; rows * columns]);
            multiply(&inputs, matrix.all(), &mut vectors, Outputs::Replaced);
            let scalar =
                Multiply { inputs: &inputs, matrix: matrix.all(), outputs: &mut scalars, kept: Outputs::Replaced };
            scalar.with_simd(pulp::Scalar::new());
            for (vector, scalar) in vectors.iter().zip(&scalars) {
                // Sums of at most 40 products below 1.
                prop_assert!((vector - scalar).abs() < 40.0 * f32::EPSILON);
            }
        }

        /// The tiles against the definition, whatever does not divide what.
        #[test]
        fn products_are_sums(rows in 1_usize..15, length in 1_usize..40, columns in 1_usize..150, seed: u64) {
            let inputs = noise(seed, rows * length);
            let values = noise(seed ^ 1, length * columns);
            let matrix = Padded::new(length, columns, |row, column| values[row * columns + column]);
            let before = noise(seed ^ 2, rows * columns);
            let (mut replaced, mut kept) = (before.clone(), before.clone());
            multiply(&inputs, matrix.all(), &mut replaced, Outputs::Replaced);
            multiply(&inputs, matrix.all(), &mut kept, Outputs::Kept);
            for row in 0..rows {
                for column in 0..columns {
                    let at = row * columns + column;
                    let factors = (0..length).map(|k| (inputs[row * length + k], values[k * columns + column]));
                    // The same fused sums in the same order: equal to the bit.
                    let sum = factors.fold(0.0_f32, |sum, (left, right)| left.mul_add(right, sum));
                    prop_assert_eq!(replaced[at], sum);
                    prop_assert_eq!(kept[at], before[at] + sum);
                }
            }
        }

        #[test]
        fn dots_are_sums(vectors in 1_usize..10, rows in 1_usize..5, length in 1_usize..70, seed: u64) {
            let (left, right) = (noise(seed, vectors * length), noise(seed ^ 1, rows * length));
            let mut outputs = vec![0.0; vectors * rows];
            dots(&left, &right, length, &mut outputs);
            let mut scalars = outputs.clone();
            Dots { vectors: &left, rows: &right, length, outputs: &mut scalars }.with_simd(pulp::Scalar::new());
            for (vector, left) in left.chunks_exact(length).enumerate() {
                // Alone it has the same bits.
                let mut alone = vec![0.0; rows];
                dots(left, &right, length, &mut alone);
                prop_assert_eq!(&alone, &outputs[vector * rows..(vector + 1) * rows]);
                for (row, right) in right.chunks_exact(length).enumerate() {
                    let sum: f64 = left.iter().zip(right).map(|(l, r)| f64::from(*l) * f64::from(*r)).sum();
                    // Sums of at most 70 products below 1.
                    for found in [&outputs, &scalars] {
                        let found = f64::from(found[vector * rows + row]);
                        prop_assert!((found - sum).abs() < 70.0 * f64::from(f32::EPSILON));
                    }
                }
            }
        }

        #[test]
        fn rows_are_added(width in 1_usize..150, rows in 0_usize..5, seed: u64) {
            let values = noise(seed, width * 6);
            let weights = noise(seed ^ 1, rows);
            let before = noise(seed ^ 2, width);
            let listed: Vec<WeightedRow> =
                weights.iter().enumerate().map(|(row, weight)| WeightedRow { start: row * width, weight: *weight }).collect();
            let mut sum = before.clone();
            add_rows(&values, &listed, &mut sum);
            for column in 0..width {
                let add = |sum: f32, row: &WeightedRow| row.weight.mul_add(values[row.start + column], sum);
                prop_assert_eq!(sum[column], listed.iter().fold(before[column], add));
            }
        }

        #[test]
        fn exp_is_exp(x in -100.0_f32..0.0) {
            let expected = f64::from(x).exp();
            let found = f64::from(exp(x));
            prop_assert!((found - expected).abs() <= 3e-7 * expected || (x < -87.0 && found == 0.0), "{x}: {found}");
        }

        #[test]
        fn ln_1p_is_ln_1p(logarithm in -40.0_f64..25.0) {
            let x = logarithm.exp() as f32;
            let expected = f64::from(x).ln_1p();
            prop_assert!((f64::from(ln_1p(x)) - expected).abs() <= 3e-7 * expected, "{x}");
        }
    }

    #[test]
    fn the_ends_of_exp_and_ln() {
        assert_eq!((exp(0.0), exp(f32::NEG_INFINITY), ln_1p(0.0)), (1.0, 0.0, 0.0));
    }
}
