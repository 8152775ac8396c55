//! Attention over the short-term memory: the last ticks exactly, with a learned bias by age.

use super::linear::Linear;
use super::product::{product, product_with_transposed};
use candle_core::{D, Tensor};
use candle_nn::{Init, VarBuilder};

/// Multi-head attention of each tick over the ticks that its member's short-term memory holds, itself included.
#[derive(Debug)]
pub(crate) struct ShortTermAttention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) output: Linear,
    /// \[h, S + L\]: age 0 is the tick itself.
    age_bias: Tensor,
    heads: usize,
}

/// The logarithm of no weight at all, that f32 still takes.
const NOTHING: f32 = -1e9;

impl ShortTermAttention {
    pub(crate) fn new(width: usize, heads: usize, ages: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        let linear = |name: &str| Linear::new(width, width, vb.pp(name));
        Ok(Self {
            query: linear("query")?,
            key: linear("key")?,
            value: linear("value")?,
            output: linear("output")?,
            age_bias: vb.get_with_hints((heads, ages), "age_bias", Init::Const(0.0))?,
            heads,
        })
    }

    /// Attends from `queries` \[batch, n, d\] of n ticks in a row. `keys` and `values` \[batch, S + L − 1 + n, d\] begin
    /// S + L − 1 ticks before the first of them; each tick sees the newest `held` \[batch, n\], itself included.
    /// → \[batch, n, d\], before the output matrix.
    pub(crate) fn attend(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        held: &[usize],
    ) -> candle_core::Result<Tensor> {
        let (batch, ticks, width) = queries.dims3()?;
        let (heads, ages) = self.age_bias.dims2()?;
        let head_width = width / heads;
        let split = |x: &Tensor| x.reshape((batch, (), heads, head_width))?.transpose(1, 2)?.contiguous();
        let (queries, keys, values) = (split(&(queries / (head_width as f64).sqrt())?)?, split(keys)?, split(values)?);
        let scores = product_with_transposed(&queries, &keys)?;
        let scores = scores.broadcast_add(&self.bias(ticks, ages)?)?.broadcast_add(&self.mask(ticks, ages, held)?)?;
        let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
        product(&weights, &values)?.transpose(1, 2)?.reshape((batch, ticks, width))
    }

    /// The bias of each query and key \[1, h, n, S + L − 1 + n\], by the age of the key.
    fn bias(&self, ticks: usize, ages: usize) -> candle_core::Result<Tensor> {
        let keys = ages - 1 + ticks;
        let age = |query: usize, key: usize| (ages - 1 + query).saturating_sub(key).min(ages - 1) as u32;
        let index: Vec<u32> = (0..ticks).flat_map(|query| (0..keys).map(move |key| age(query, key))).collect();
        let index = Tensor::from_vec(index, ticks * keys, self.age_bias.device())?;
        self.age_bias.index_select(&index, 1)?.reshape((1, self.heads, ticks, keys))
    }

    /// Nothing where a key is held, hardly any weight elsewhere: \[batch or 1, 1, n, S + L − 1 + n\].
    fn mask(&self, ticks: usize, ages: usize, held: &[usize]) -> candle_core::Result<Tensor> {
        let keys = ages - 1 + ticks;
        let alike = held.chunks_exact(ticks).all(|of_member| *of_member == held[..ticks]);
        let held = if alike { &held[..ticks] } else { held };
        let mut mask = Vec::with_capacity(held.len() * keys);
        for of_member in held.chunks_exact(ticks) {
            for (query, held) in of_member.iter().enumerate() {
                let newest = ages - 1 + query;
                let seen = newest + 1 - (*held).min(newest + 1)..newest + 1;
                mask.extend((0..keys).map(|key| if seen.contains(&key) { 0.0 } else { NOTHING }));
            }
        }
        let shape = (held.len() / ticks, 1, ticks, keys);
        Tensor::from_vec(mask, shape, self.age_bias.device())?.to_dtype(self.age_bias.dtype())
    }
}
