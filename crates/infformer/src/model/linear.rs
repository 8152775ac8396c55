//! A trained matrix.

use super::product::{Rows, product_with_transposed};
use candle_core::{D, Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// y = x·Wᵀ + b, with W \[out, in\] as `weight` and b \[out\], if any, as `bias`.
#[derive(Debug, Clone)]
pub struct Linear {
    pub(crate) weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Without a bias.
    pub fn new(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let weight = vb.get_with_hints((outputs, inputs), "weight", Init::Uniform { lo: -bound, up: bound })?;
        Ok(Self { weight, bias: None })
    }

    /// With a bias, zero at first.
    pub fn with_bias(inputs: usize, outputs: usize, vb: VarBuilder) -> Result<Self> {
        let bias = Some(vb.get_with_hints(outputs, "bias", Init::Const(0.0))?);
        Ok(Self { bias, ..Self::new(inputs, outputs, vb)? })
    }

    /// x \[.., in\] → \[.., out\]: one product, whatever the leading dimensions.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_some(x, Rows::of(x.elem_count() / x.dim(D::Minus1)?.max(1)))
    }

    /// The same, of some of the rows that there can be.
    pub(crate) fn forward_some(&self, x: &Tensor, rows: Rows) -> Result<Tensor> {
        let mut shape = x.dims().to_vec();
        let inputs = shape.pop().unwrap_or(1);
        shape.push(self.weight.dim(0)?);
        let y = product_with_transposed(rows, &x.reshape(((), inputs))?, &self.weight)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        y.reshape(shape)
    }
}
