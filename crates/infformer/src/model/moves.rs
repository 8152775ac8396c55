//! A write that moves coefficients whole: each old coefficient and each tick of the chunk goes to one coefficient, with
//! a share. Blocks and means are written so; as a product with a matrix it would be nearly all zeros.

use super::contiguous::contiguous;
use candle_core::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, WithDType};

/// Where one item goes.
#[derive(Debug, Clone, Copy)]
struct Move {
    /// The coefficient.
    to: u32,
    /// Its part in that coefficient's new value; 0 for what is dropped.
    share: f32,
}

/// One member's write: a move for each of the N coefficients, then for each of the L ticks of the chunk.
#[derive(Debug, Clone)]
pub(crate) struct Moves(Vec<Move>);

impl Moves {
    /// Everything is dropped.
    pub(crate) fn nothing(count: usize, chunk: usize) -> Self {
        Self(vec![Move { to: 0, share: 0.0 }; count + chunk])
    }

    /// Every coefficient stays what it is.
    pub(crate) fn identity(count: usize, chunk: usize) -> Self {
        let mut moves = Self::nothing(count, chunk);
        (0..count).for_each(|at| moves.set(at, at, 1.0));
        moves
    }

    /// Sends item `from` (a coefficient; from N on, a tick) to coefficient `to`.
    pub(crate) fn set(&mut self, from: usize, to: usize, share: f32) {
        self.0[from] = Move { to: to as u32, share };
    }

    /// The same write as matrices: Aᵀ \[N, N\] and Cᵀ \[L, N\], row-major, one after the other.
    fn matrix(&self, count: usize) -> Vec<f32> {
        let mut rows = vec![0.0; self.0.len() * count];
        for (row, at) in rows.chunks_exact_mut(count).zip(&self.0) {
            row[at.to as usize] = at.share;
        }
        rows
    }
}

/// Bᵀ \[batch, d, N\] after each member's moves of it and of `chunk` \[batch, L, d\].
pub(crate) fn apply(coefficients: &Tensor, chunk: &Tensor, moves: Vec<Moves>) -> Result<Tensor> {
    match coefficients.device() {
        Device::Cpu => coefficients.contiguous()?.apply_op2(&chunk.contiguous()?, MoveAll(moves)),
        _ => apply_as_product(coefficients, chunk, &moves),
    }
}

/// The same as products with dense matrices.
fn apply_as_product(coefficients: &Tensor, chunk: &Tensor, moves: &[Moves]) -> Result<Tensor> {
    let (batch, _, count) = coefficients.dims3()?;
    let ticks = chunk.dim(1)?;
    let matrices: Vec<f32> = moves.iter().flat_map(|moves| moves.matrix(count)).collect();
    let matrices = Tensor::from_vec(matrices, (batch, count + ticks, count), coefficients.device())?;
    let items = Tensor::cat(&[&coefficients.contiguous()?, &chunk.transpose(1, 2)?.contiguous()?], 2)?;
    items.matmul(&matrices.to_dtype(coefficients.dtype())?)
}

struct MoveAll(Vec<Moves>);

impl MoveAll {
    fn forward<T: WithDType>(&self, old: &[T], chunk: &[T], width: usize, count: usize) -> Vec<T> {
        let mut new = vec![T::zero(); old.len()];
        let members = new.chunks_exact_mut(width * count).zip(old.chunks_exact(width * count)).zip(&self.0);
        for (member, ((new, old), Moves(moves))) in members.enumerate() {
            let (kept, ticks) = moves.split_at(count);
            for (new, old) in new.chunks_exact_mut(count).zip(old.chunks_exact(count)) {
                for (value, at) in old.iter().zip(kept).filter(|(_, at)| at.share != 0.0) {
                    new[at.to as usize] += *value * T::from_f64(at.share.into());
                }
            }
            let rows = chunk[member * ticks.len() * width..].chunks_exact(width);
            for (row, at) in rows.zip(ticks).filter(|(_, at)| at.share != 0.0) {
                let share = T::from_f64(at.share.into());
                row.iter().enumerate().for_each(|(i, value)| new[i * count + at.to as usize] += *value * share);
            }
        }
        new
    }

    /// The gradients of old coefficients and chunk: each item gets its share of where it went.
    fn backward<T: WithDType>(&self, gradient: &[T], width: usize, count: usize) -> [Vec<T>; 2] {
        let mut old = Vec::with_capacity(gradient.len());
        let mut chunk = vec![];
        for (gradient, Moves(moves)) in gradient.chunks_exact(width * count).zip(&self.0) {
            let (kept, ticks) = moves.split_at(count);
            for row in gradient.chunks_exact(count) {
                old.extend(kept.iter().map(|at| row[at.to as usize] * T::from_f64(at.share.into())));
            }
            for at in ticks {
                let share = T::from_f64(at.share.into());
                chunk.extend((0..width).map(|i| gradient[i * count + at.to as usize] * share));
            }
        }
        [old, chunk]
    }
}

impl CustomOp2 for MoveAll {
    fn name(&self) -> &'static str {
        "move-coefficients"
    }

    fn cpu_fwd(
        &self,
        old: &CpuStorage,
        old_layout: &Layout,
        chunk: &CpuStorage,
        chunk_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, width, count) = old_layout.shape().dims3()?;
        let new = match old {
            CpuStorage::F64(_) => CpuStorage::F64(self.forward(
                contiguous(old, old_layout)?,
                contiguous(chunk, chunk_layout)?,
                width,
                count,
            )),
            _ => CpuStorage::F32(self.forward(
                contiguous(old, old_layout)?,
                contiguous(chunk, chunk_layout)?,
                width,
                count,
            )),
        };
        Ok((new, old_layout.shape().clone()))
    }

    fn bwd(
        &self,
        old: &Tensor,
        chunk: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn run<T: WithDType>(op: &MoveAll, old: &Tensor, chunk: &Tensor, gradient: &Tensor) -> Result<[Tensor; 2]> {
            let (_, width, count) = old.dims3()?;
            let [by_old, by_chunk] = op.backward(&gradient.flatten_all()?.to_vec1::<T>()?, width, count);
            Ok([
                Tensor::from_vec(by_old, old.shape(), old.device())?,
                Tensor::from_vec(by_chunk, chunk.shape(), chunk.device())?,
            ])
        }
        let [by_old, by_chunk] = match old.dtype() {
            DType::F64 => run::<f64>(self, old, chunk, gradient)?,
            _ => run::<f32>(self, old, chunk, gradient)?,
        };
        Ok((Some(by_old), Some(by_chunk)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::Var;

    /// Moves and dense products, values and gradients.
    #[test]
    fn moves_are_their_products() {
        let device = Device::Cpu;
        let draw = |count: usize, step: f64| (0..count).map(|i| (i as f64 * step).sin()).collect::<Vec<f64>>();
        let old = Var::from_vec(draw(2 * 3 * 4, 1.1), (2, 3, 4), &device).unwrap();
        let chunk = Var::from_vec(draw(2 * 5 * 3, 0.7), (2, 5, 3), &device).unwrap();
        let slopes = Tensor::from_vec(draw(2 * 3 * 4, 2.9), (2, 3, 4), &device).unwrap();
        let mut merging = Moves::nothing(4, 5);
        for (from, to, share) in [(0, 0, 0.25), (1, 0, 0.75), (3, 2, 1.0), (4, 3, 0.5), (6, 3, 0.5)] {
            merging.set(from, to, share);
        }
        let moves = vec![merging, Moves::identity(4, 5)];
        let one = apply(&old, &chunk, moves.clone()).unwrap();
        let many = apply_as_product(&old, &chunk, &moves).unwrap();
        let host = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let back = |y: &Tensor| (y * &slopes).unwrap().sum_all().unwrap().backward().unwrap();
        let (one_back, many_back) = (back(&one), back(&many));
        let mut pairs = vec![(host(&one), host(&many))];
        for var in [&old, &chunk] {
            pairs.push((host(one_back.get(var).unwrap()), host(many_back.get(var).unwrap())));
        }
        for (one, many) in pairs {
            // Sums of at most two products of order 1, in f64.
            assert!(one.iter().zip(&many).all(|(one, many)| (one - many).abs() < 1e-15), "{one:?} {many:?}");
        }
        // What stays is the same bits.
        assert_eq!(host(&one)[12..], host(&old)[12..]);
    }
}
