//! The activation of the feed-forward part: x·Φ(x) by its approximation with tanh (Hendrycks and Gimpel 2016).

use super::contiguous::contiguous;
use crate::kernels::{exp, run};
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};

/// x·(1 + tanh(√(2/π)·(x + .044715·x³)))/2, value by value.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() && x.dtype() == DType::F32 { x.contiguous()?.apply_op1(Gelu) } else { x.gelu() }
}

/// The activation as one operation with its own gradient: as tensor operations that takes a dozen passes.
struct Gelu;

const SLOPE: f32 = 0.797_884_6;
const CUBE: f32 = 0.044_715;

/// (1 + tanh(u))/2 = 1/(1 + e⁻²ᵘ) and u for √(2/π)·(x + .044715·x³).
#[inline(always)]
fn share(x: f32) -> f32 {
    let u = 2.0 * SLOPE * x * (CUBE * x).mul_add(x, 1.0);
    let less = exp(-u.abs());
    let rest = less / (1.0 + less);
    if u > 0.0 { 1.0 - rest } else { rest }
}

struct Forward<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.y.iter_mut().zip(self.x).for_each(|(y, x)| *y = x * share(*x));
    }
}

/// With s the share: dy/dx = s + x·s·(1 − s)·2·√(2/π)·(1 + 3·.044715·x²).
struct Backward<'a> {
    x: &'a [f32],
    gradient: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (gradient, x) in self.gradient.iter_mut().zip(self.x) {
            let share = share(*x);
            let inner = 2.0 * SLOPE * (3.0 * CUBE * x).mul_add(*x, 1.0);
            *gradient *= (x * share * (1.0 - share)).mul_add(inner, share);
        }
    }
}

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous::<f32>(x, layout)?;
        let mut y = vec![0.0; x.len()];
        run(Forward { x, y: &mut y });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let mut slopes = gradient.flatten_all()?.to_vec1::<f32>()?;
        run(Backward { x: &x.flatten_all()?.to_vec1::<f32>()?, gradient: &mut slopes });
        Ok(Some(Tensor::from_vec(slopes, x.shape(), x.device())?))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// One operation and the library's, values and gradients.
    #[test]
    fn the_activation_is_the_librarys() {
        let values: Vec<f32> = (-1_200..=1_200).map(|i| i as f32 * 0.01).collect();
        let x = Var::from_vec(values, 2_401, &Device::Cpu).unwrap();
        let (one, many) = (gelu(&x).unwrap(), x.gelu().unwrap());
        let host = |tensor: &Tensor| tensor.to_vec1::<f32>().unwrap();
        let back = |y: &Tensor| host(y.sum_all().unwrap().backward().unwrap().get(&x).unwrap());
        // Twelve times a rounding of f32; the library's gradient has its constants to six digits, times x³·sech² ≤ 2.
        assert!(host(&one).iter().zip(host(&many)).all(|(one, many)| (one - many).abs() < 3e-6));
        assert!(back(&one).iter().zip(back(&many)).all(|(one, many)| (one - many).abs() < 1e-5));
    }
}
