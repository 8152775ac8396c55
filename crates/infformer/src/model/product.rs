//! Products of matrices that cost a streaming agent no more than their arithmetic.
//!
//! At every product candle asks the system how many threads there may be, which takes longer than the small product
//! itself. Small ones are therefore done here, on the caller's own thread; large ones, those of training, are worth
//! candle's threads.

use super::contiguous::contiguous;
use crate::kernels::{WeightedRow, add_rows, dots};
use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor};

/// Products with more rows than this, those of all members of a batch together, are candle's.
pub(crate) const MOST_ROWS: usize = 128;

/// How many rows the left matrices of a product have, all together. Whoever has some of the rows of a batch alone says how
/// many the batch can have: the bits of a member's numbers then do not depend on what others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    Few,
    Many,
}

impl Rows {
    pub(crate) fn of(count: usize) -> Self {
        if count <= MOST_ROWS { Rows::Few } else { Rows::Many }
    }
}

/// left \[.., m, k\]·right \[.., k, n\], of equal leading dimensions.
pub(super) fn product(rows: Rows, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    if rows == Rows::Few && is_ours(left) {
        left.contiguous()?.apply_op2(&right.contiguous()?, Product::Plain)
    } else {
        laid_out(left)?.matmul(&laid_out(right)?)
    }
}

/// left \[.., m, k\]·rightᵀ, of right \[.., n, k\] and equal leading dimensions.
pub(super) fn product_with_transposed(rows: Rows, left: &Tensor, right: &Tensor) -> Result<Tensor> {
    if rows == Rows::Few && is_ours(left) {
        return left.contiguous()?.apply_op2(&right.contiguous()?, Product::WithTransposed);
    }
    let transposed = laid_out(right)?.transpose(D::Minus2, D::Minus1)?;
    let transposed = if right.rank() == 2 { transposed } else { transposed.contiguous()? };
    laid_out(left)?.matmul(&transposed)
}

/// CUDA's products take no rows that lie apart from each other.
fn laid_out(matrix: &Tensor) -> Result<Tensor> {
    if matrix.device().is_cpu() { Ok(matrix.clone()) } else { matrix.contiguous() }
}

fn is_ours(left: &Tensor) -> bool {
    left.device().is_cpu() && left.dtype() == DType::F32 && left.elem_count() > 0
}

/// The last two dimensions, and the shape with the last one replaced.
fn dimensions(layout: &Layout, columns: usize) -> Result<(usize, usize, Shape)> {
    let mut shape = layout.dims().to_vec();
    match shape.as_mut_slice() {
        [.., rows, last] => {
            let found = (*rows, *last);
            *last = columns;
            Ok((found.0, found.1, shape.into()))
        }
        _ => candle_core::bail!("a matrix expected, {layout:?} found"),
    }
}

/// How the right matrix lies in memory.
#[derive(Debug, Clone, Copy)]
enum Product {
    /// \[.., k, n\]
    Plain,
    /// \[.., n, k\]
    WithTransposed,
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "small-product"
    }

    fn cpu_fwd(
        &self,
        left: &CpuStorage,
        left_layout: &Layout,
        right: &CpuStorage,
        right_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let columns = match self {
            Product::Plain => right_layout.shape().dim(D::Minus1)?,
            Product::WithTransposed => right_layout.shape().dim(D::Minus2)?,
        };
        let (rows, length, shape) = dimensions(left_layout, columns)?;
        let (left, right) = (contiguous::<f32>(left, left_layout)?, contiguous::<f32>(right, right_layout)?);
        let mut outputs = vec![0.0; shape.elem_count()];
        let mut weighted = Vec::with_capacity(length);
        let members = outputs.chunks_exact_mut(rows * columns).zip(left.chunks_exact(rows * length));
        for ((outputs, left), right) in members.zip(right.chunks_exact(columns * length)) {
            match self {
                Product::WithTransposed => dots(left, right, length, outputs),
                Product::Plain => {
                    for (output, left) in outputs.chunks_exact_mut(columns).zip(left.chunks_exact(length)) {
                        weighted.clear();
                        let starts = (0..).step_by(columns);
                        weighted.extend(starts.zip(left).map(|(start, weight)| WeightedRow { start, weight: *weight }));
                        add_rows(right, &weighted, output);
                    }
                }
            }
        }
        Ok((CpuStorage::F32(outputs), shape))
    }

    fn bwd(
        &self,
        left: &Tensor,
        right: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let turned = |tensor: &Tensor| tensor.transpose(D::Minus2, D::Minus1)?.contiguous();
        let few = Rows::Few;
        let (to_left, to_right) = match self {
            Product::Plain => (product_with_transposed(few, gradient, right)?, product(few, &turned(left)?, gradient)?),
            Product::WithTransposed => (product(few, gradient, right)?, product(few, &turned(gradient)?, left)?),
        };
        Ok((Some(to_left), Some(to_right)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// Values and gradients against candle's own, for matrices and for stacks of them.
    #[test]
    fn products_are_candles() {
        for (leading, m, k, n) in [(vec![], 1, 64, 64), (vec![], 7, 5, 33), (vec![3, 2], 1, 8, 17), (vec![4], 6, 70, 3)]
        {
            let shape = |rows, columns| [leading.clone(), vec![rows, columns]].concat();
            let left = Var::randn(0_f32, 1.0, shape(m, k), &Device::Cpu).unwrap();
            let right = Var::randn(0_f32, 1.0, shape(k, n), &Device::Cpu).unwrap();
            let flipped = Var::from_tensor(&right.t().unwrap().contiguous().unwrap()).unwrap();
            let expected = left.matmul(&right).unwrap();
            let found = product(Rows::Few, &left, &right).unwrap();
            let turned = product_with_transposed(Rows::Few, &left, &flipped).unwrap();
            // Sums of k products of unit variance, in another order.
            let close = |a: &Tensor, b: &Tensor| {
                assert_eq!(a.dims(), b.dims());
                let off = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(off < k.max(n).max(m) as f32 * 16.0 * f32::EPSILON, "{off}");
            };
            close(&found, &expected);
            close(&turned, &expected);
            let wanted = expected.sqr().unwrap().backward().unwrap();
            let own = found.sqr().unwrap().backward().unwrap();
            let turned = turned.sqr().unwrap().backward().unwrap();
            let scale = 2.0 * k as f64;
            let close = |a: &Tensor, b: &Tensor| close(&(a / scale).unwrap(), &(b / scale).unwrap());
            close(own.get(&left).unwrap(), wanted.get(&left).unwrap());
            close(own.get(&right).unwrap(), wanted.get(&right).unwrap());
            close(turned.get(&left).unwrap(), wanted.get(&left).unwrap());
            close(&turned.get(&flipped).unwrap().t().unwrap().contiguous().unwrap(), wanted.get(&right).unwrap());
        }
    }
}
