//! Layer normalisation (Ba, Kiros and Hinton 2016).

use super::contiguous::contiguous;
use candle_core::{CpuStorage, CustomOp3, D, DType, Device, Layout, Result, Shape, Tensor, WithDType};
use candle_nn::{Init, VarBuilder};

/// (x − mean)/√(variance + 10⁻⁵)·`weight` + `bias`, over the last dimension.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

const LEAST_VARIANCE: f64 = 1e-5;

impl LayerNorm {
    /// A new one: weights 1, biases 0.
    pub fn new(width: usize, vb: VarBuilder) -> Result<Self> {
        let weight = vb.get_with_hints(width, "weight", Init::Const(1.0))?;
        Ok(Self { weight, bias: vb.get_with_hints(width, "bias", Init::Const(0.0))? })
    }

    /// x \[.., d\] → \[.., d\]
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match x.device() {
            Device::Cpu => x.contiguous()?.apply_op3(&self.weight, &self.bias, Normalisation),
            _ => self.forward_by_operations(x),
        }
    }

    /// The same, operation by operation.
    fn forward_by_operations(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
        let x = x.broadcast_div(&(variance + LEAST_VARIANCE)?.sqrt()?)?;
        x.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

/// The normalisation of rows as one operation with its own gradient; candle's own has none.
///
/// With y = (x − mean)/σ and g the gradient of the result times `weight`: dx = (g − mean(g) − y·mean(g·y))/σ.
struct Normalisation;

/// Mean and 1/σ of a row.
fn moments<T: WithDType>(row: &[T]) -> (f64, f64) {
    let count = row.len() as f64;
    let mean = row.iter().map(|value| value.to_f64()).sum::<f64>() / count;
    let variance = row.iter().map(|value| (value.to_f64() - mean).powi(2)).sum::<f64>() / count;
    (mean, 1.0 / (variance + LEAST_VARIANCE).sqrt())
}

fn normalise<T: WithDType>(x: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(weight.len()) {
        let (mean, precision) = moments(row);
        y.extend(row.iter().zip(weight).zip(bias).map(|((value, weight), bias)| {
            T::from_f64((value.to_f64() - mean) * precision * weight.to_f64() + bias.to_f64())
        }));
    }
    y
}

/// Gradients of x, `weight` and `bias`.
fn normalise_back<T: WithDType>(x: &[T], weight: &[T], gradient: &[T]) -> [Vec<T>; 3] {
    let width = weight.len();
    let mut by_x = Vec::with_capacity(x.len());
    let [mut by_weight, mut by_bias, mut y, mut g] = [(); 4].map(|()| vec![0.0; width]);
    for (row, gradient) in x.chunks_exact(width).zip(gradient.chunks_exact(width)) {
        let (mean, precision) = moments(row);
        let (mut sum, mut product) = (0.0, 0.0);
        for i in 0..width {
            let slope = gradient[i].to_f64();
            (y[i], g[i]) = ((row[i].to_f64() - mean) * precision, slope * weight[i].to_f64());
            by_weight[i] += slope * y[i];
            by_bias[i] += slope;
            sum += g[i];
            product += g[i] * y[i];
        }
        let (sum, product) = (sum / width as f64, product / width as f64);
        by_x.extend(g.iter().zip(&y).map(|(g, y)| T::from_f64((g - sum - y * product) * precision)));
    }
    let cast = |values: Vec<f64>| values.into_iter().map(T::from_f64).collect();
    [by_x, cast(by_weight), cast(by_bias)]
}

impl CustomOp3 for Normalisation {
    fn name(&self) -> &'static str {
        "layer-normalisation"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(parts: [(&CpuStorage, &Layout); 3]) -> Result<CpuStorage> {
            let [x, weight, bias] = parts.map(|(storage, layout)| contiguous::<T>(storage, layout));
            Ok(T::to_cpu_storage_owned(normalise(x?, weight?, bias?)))
        }
        let parts = [(x, x_layout), (weight, weight_layout), (bias, bias_layout)];
        let y = match x {
            CpuStorage::F64(_) => run::<f64>(parts)?,
            _ => run::<f32>(parts)?,
        };
        Ok((y, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn run<T: WithDType>(x: &Tensor, weight: &Tensor, gradient: &Tensor) -> Result<[Tensor; 3]> {
            let host = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<T>();
            let [by_x, by_weight, by_bias] = normalise_back(&host(x)?, &host(weight)?, &host(gradient)?);
            Ok([
                Tensor::from_vec(by_x, x.shape(), x.device())?,
                Tensor::from_vec(by_weight, weight.shape(), x.device())?,
                Tensor::from_vec(by_bias, weight.shape(), x.device())?,
            ])
        }
        let [by_x, by_weight, by_bias] = match x.dtype() {
            DType::F64 => run::<f64>(x, weight, gradient)?,
            _ => run::<f32>(x, weight, gradient)?,
        };
        Ok((Some(by_x), Some(by_weight), Some(by_bias)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::Var;

    /// One operation and many, values and gradients, on rows of which one is constant.
    #[test]
    fn normalisation_is_what_its_operations_are() {
        let device = Device::Cpu;
        let draw = |count: usize, step: f64| (0..count).map(|i| (i as f64 * step).sin()).collect::<Vec<f64>>();
        let mut values = draw(3 * 5 * 8, 1.7);
        values[..8].fill(2.0);
        let x = Var::from_vec(values, (3, 5, 8), &device).unwrap();
        let weight = Var::from_vec(draw(8, 0.9), 8, &device).unwrap();
        let bias = Var::from_vec(draw(8, 0.4), 8, &device).unwrap();
        let norm = LayerNorm { weight: weight.as_tensor().clone(), bias: bias.as_tensor().clone() };
        let slopes = Tensor::from_vec(draw(3 * 5 * 8, 2.3), (3, 5, 8), &device).unwrap();
        let (one, many) = (norm.forward(&x).unwrap(), norm.forward_by_operations(&x).unwrap());
        let back = |y: &Tensor| (y * &slopes).unwrap().sum_all().unwrap().backward().unwrap();
        let (one_back, many_back) = (back(&one), back(&many));
        let host = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let mut pairs = vec![(host(&one), host(&many))];
        for var in [&x, &weight, &bias] {
            pairs.push((host(one_back.get(var).unwrap()), host(many_back.get(var).unwrap())));
        }
        for (one, many) in pairs {
            // The constant row is divided by √10⁻⁵; f64 leaves twelve places of that.
            assert!(one.iter().zip(&many).all(|(one, many)| (one - many).abs() < 1e-10), "{one:?} {many:?}");
        }
    }
}
