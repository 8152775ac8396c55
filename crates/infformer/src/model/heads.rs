//! From the stream to what is said of it: one normalisation, then a matrix a head.

use super::config::{Head, HeadKind};
use super::linear::Linear;
use super::normalisation::LayerNorm;
use candle_core::{D, Result, Tensor};
use candle_nn::VarBuilder;

/// Bounds of a Gaussian head's logarithms of standard deviations.
const LEAST_LOG_SPREAD: f64 = -5.0;
const MOST_LOG_SPREAD: f64 = 2.0;

/// The heads of a model.
#[derive(Debug, Clone)]
pub struct Heads {
    norm: LayerNorm,
    heads: Vec<(HeadKind, Linear)>,
}

impl Heads {
    /// `heads` on a stream of the given width: weights `norm` and `heads.NAME`. Errors: `vb` has no such tensors.
    pub fn new(heads: &[Head], width: usize, vb: VarBuilder) -> Result<Self> {
        let head = |head: &Head| {
            let linear = Linear::with_bias(width, head.kind.size(), vb.pp("heads").pp(&head.name))?;
            Ok((head.kind, linear))
        };
        let heads = heads.iter().map(head).collect::<Result<_>>()?;
        Ok(Self { norm: LayerNorm::new(width, vb.pp("norm"))?, heads })
    }

    /// What each head says of a stream \[batch, T, d\]: \[batch, T, size\], in the order of the configuration.
    /// Errors: another width.
    pub fn forward(&self, stream: &Tensor) -> Result<Vec<Tensor>> {
        let stream = self.norm.forward(stream)?;
        let say = |(kind, linear): &(HeadKind, Linear)| {
            let y = linear.forward(&stream)?;
            match *kind {
                HeadKind::Gaussian { size } => {
                    // A smooth way to stay within the bounds.
                    let (middle, half) =
                        ((MOST_LOG_SPREAD + LEAST_LOG_SPREAD) / 2.0, (MOST_LOG_SPREAD - LEAST_LOG_SPREAD) / 2.0);
                    let spread = ((y.narrow(D::Minus1, size, size)?.tanh()? * half)? + middle)?;
                    Tensor::cat(&[&y.narrow(D::Minus1, 0, size)?, &spread], D::Minus1)
                }
                _ => Ok(y),
            }
        };
        self.heads.iter().map(say).collect()
    }
}
