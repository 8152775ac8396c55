//! The small trained parts that every layer is built from: a matrix, a normalisation.

use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// y = x·Wᵀ + b, with W \[out, in\] as `weight` and b \[out\], if any, as `bias`.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Without a bias.
    pub(crate) fn new(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let weight = vb.get_with_hints((outputs, inputs), "weight", Init::Uniform { lo: -bound, up: bound })?;
        Ok(Self { weight, bias: None })
    }

    /// With a bias, zero at first.
    pub(crate) fn with_bias(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        let bias = Some(vb.get_with_hints(outputs, "bias", Init::Const(0.0))?);
        Ok(Self { bias, ..Self::new(inputs, outputs, vb)? })
    }

    /// x \[.., in\] → \[.., out\]: one product, whatever the leading dimensions.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let inputs = shape.pop().unwrap_or(1);
        shape.push(self.weight.dim(0)?);
        let y = x.reshape(((), inputs))?.matmul(&self.weight.t()?)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        y.reshape(shape)
    }
}

/// (x − mean)/√(variance + 10⁻⁵)·`weight` + `bias`, over the last dimension.
///
/// candle's own fused operation has no gradient.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub(crate) fn new(width: usize, vb: VarBuilder) -> Result<Self> {
        let weight = vb.get_with_hints(width, "weight", Init::Const(1.0))?;
        Ok(Self { weight, bias: vb.get_with_hints(width, "bias", Init::Const(0.0))? })
    }

    /// x \[.., d\] → \[.., d\]
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let variance = x.sqr()?.mean_keepdim(D::Minus1)?;
        let x = x.broadcast_div(&(variance + 1e-5)?.sqrt()?)?;
        x.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}
