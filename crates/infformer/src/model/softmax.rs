//! The softmax of scores and of what each choice counts beforehand, as one operation with its own gradient.

use super::contiguous::contiguous;
use crate::kernels::{exp, run};
use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};

/// softmax(`scores` + `log_mass`) over the last dimension, of scores \[batch, n, cells\] and \[batch, 1, cells\]. No gradient
/// flows to the latter.
pub(super) fn softmax(scores: &Tensor, log_mass: &Tensor) -> Result<Tensor> {
    if scores.device().is_cpu() && scores.dtype() == DType::F32 {
        return scores.contiguous()?.apply_op2(&log_mass.contiguous()?, Softmax);
    }
    candle_nn::ops::softmax(&scores.broadcast_add(log_mass)?, D::Minus1)
}

struct Softmax;

struct Forward<'a> {
    scores: &'a [f32],
    log_mass: &'a [f32],
    cells: usize,
    rows: usize,
    weights: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { scores, log_mass, cells, rows, weights } = self;
        for (number, (weights, scores)) in weights.chunks_exact_mut(cells).zip(scores.chunks_exact(cells)).enumerate() {
            let member = number / rows;
            let log_mass = &log_mass[member * cells..(member + 1) * cells];
            weights.iter_mut().zip(scores).zip(log_mass).for_each(|((sum, score), mass)| *sum = score + mass);
            let most = weights.iter().fold(f32::NEG_INFINITY, |most, sum| if *sum > most { *sum } else { most });
            weights.iter_mut().for_each(|sum| *sum = exp(*sum - most));
            let whole = 1.0 / weights.iter().sum::<f32>();
            weights.iter_mut().for_each(|weight| *weight *= whole);
        }
    }
}

/// dscore = weight·(g − Σ weight·g).
struct Backward<'a> {
    weights: &'a [f32],
    cells: usize,
    gradient: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { weights, cells, gradient } = self;
        for (gradient, weights) in gradient.chunks_exact_mut(cells).zip(weights.chunks_exact(cells)) {
            let mean: f32 = gradient.iter().zip(weights).map(|(slope, weight)| slope * weight).sum();
            gradient.iter_mut().zip(weights).for_each(|(slope, weight)| *slope = weight * (*slope - mean));
        }
    }
}

impl CustomOp2 for Softmax {
    fn name(&self) -> &'static str {
        "softmax-of-cells"
    }

    fn cpu_fwd(
        &self,
        scores: &CpuStorage,
        scores_layout: &Layout,
        log_mass: &CpuStorage,
        log_mass_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (scores, log_mass) = (contiguous::<f32>(scores, scores_layout)?, contiguous(log_mass, log_mass_layout)?);
        let (_, rows, cells) = scores_layout.shape().dims3()?;
        let mut weights = vec![0.0; scores.len()];
        run(Forward { scores, log_mass, cells, rows, weights: &mut weights });
        Ok((CpuStorage::F32(weights), scores_layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, weights: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut gradient = g.flatten_all()?.to_vec1::<f32>()?;
        let cells = weights.dim(D::Minus1)?;
        run(Backward { weights: &weights.flatten_all()?.to_vec1::<f32>()?, cells, gradient: &mut gradient });
        Ok((Some(Tensor::from_vec(gradient, weights.shape(), weights.device())?), None))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// One operation and many, values and gradients; some cells have no past.
    #[test]
    fn the_softmax_is_what_its_operations_are() {
        let device = Device::Cpu;
        let draw = |count: usize, step: f32| (0..count).map(|i| (i as f32 * step).sin() * 4.0).collect::<Vec<f32>>();
        let scores = Var::from_vec(draw(2 * 5 * 7, 1.7), (2, 5, 7), &device).unwrap();
        let mut masses = draw(2 * 7, 0.3);
        masses[3] = -1e9;
        let log_mass = Tensor::from_vec(masses, (2, 1, 7), &device).unwrap();
        let slopes = Tensor::from_vec(draw(2 * 5 * 7, 2.9), (2, 5, 7), &device).unwrap();
        let one = softmax(&scores, &log_mass).unwrap();
        let many = candle_nn::ops::softmax(&scores.broadcast_add(&log_mass).unwrap(), D::Minus1).unwrap();
        let host = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let back = |y: &Tensor| {
            let gradients = (y * &slopes).unwrap().sum_all().unwrap().backward().unwrap();
            host(gradients.get(&scores).unwrap())
        };
        // Weights are at most 1 and slopes at most 4, each with some roundings of f32.
        assert!(host(&one).iter().zip(host(&many)).all(|(one, many)| (one - many).abs() < 2e-6));
        assert!(back(&one).iter().zip(back(&many)).all(|(one, many)| (one - many).abs() < 1e-5));
    }
}
