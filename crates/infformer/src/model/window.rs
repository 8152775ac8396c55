//! Attention over the short-term memory: the last ticks exactly, with a bias by age.
//!
//! The bias of head i of h is −a·4⁻ⁱ (ALiBi, Press et al. 2022, with our slopes) and, on top of it, one trained number an
//! age: the first heads begin with the newest ticks, the last ones with all alike.

use super::linear::Linear;
use super::product::{Rows, product, product_with_transposed};
use super::window_attention::WindowAttention;
use candle_core::{D, DType, Tensor};
use candle_nn::{Init, VarBuilder};

/// Multi-head attention of each tick over the ticks that its member's short-term memory holds, itself included.
#[derive(Debug)]
pub(crate) struct ShortTermAttention {
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) output: Linear,
    /// \[h, S + L\]: age 0 is the tick itself.
    bias_by_age: Tensor,
    /// What the bias is before training \[h, S + L\].
    slopes: Tensor,
    heads: usize,
    chunk: usize,
}

/// The logarithm of no weight at all, that f32 still takes.
const NOTHING: f32 = -1e9;

/// A bias is this times its weight: an optimiser that moves every weight by about its learning rate a step, as Adam
/// does, could else not single out one age of dozens within some hundred steps.
const BIAS_SCALE: f64 = 8.0;

impl ShortTermAttention {
    pub(crate) fn new(
        width: usize,
        heads: usize,
        [short_term, chunk]: [usize; 2],
        vb: VarBuilder,
    ) -> candle_core::Result<Self> {
        let linear = |name: &str| Linear::new(width, width, vb.pp(name));
        let ages = short_term + chunk;
        let slope = |head: usize, age: usize| -(age as f32) * 0.25f32.powi(head as i32);
        let slopes: Vec<f32> = (0..heads).flat_map(|head| (0..ages).map(move |age| slope(head, age))).collect();
        Ok(Self {
            query: linear("query")?,
            key: linear("key")?,
            value: linear("value")?,
            output: linear("output")?,
            bias_by_age: vb.get_with_hints((heads, ages), "bias_by_age", Init::Const(0.0))?,
            slopes: Tensor::from_vec(slopes, (heads, ages), vb.device())?.to_dtype(vb.dtype())?,
            heads,
            chunk,
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
        let bias = ((&self.bias_by_age * BIAS_SCALE)? + &self.slopes)?;
        let head_width = queries.dim(2)? / self.heads;
        if queries.device().is_cpu() && queries.dtype() == DType::F32 && WindowAttention::takes(head_width) {
            let seen = Tensor::cat(&[keys, values], 0)?;
            let attention = WindowAttention { heads: self.heads, held: held.to_vec() };
            return queries.contiguous()?.apply_op3(&seen, &bias, attention);
        }
        self.attend_by_operations(queries, keys, values, &bias, held)
    }

    /// The same on any device, some ticks at a time, so that there are no more scores than needed.
    fn attend_by_operations(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        bias: &Tensor,
        held: &[usize],
    ) -> candle_core::Result<Tensor> {
        let (ticks, ages) = (queries.dim(1)?, bias.dim(1)?);
        let mut attended = vec![];
        for from in (0..ticks).step_by(self.chunk) {
            let count = self.chunk.min(ticks - from);
            let seen = |x: &Tensor| x.narrow(1, from, ages - 1 + count);
            let held: Vec<usize> =
                held.chunks_exact(ticks).flat_map(|held| &held[from..from + count]).copied().collect();
            attended.push(self.attend_piece(
                &queries.narrow(1, from, count)?,
                &seen(keys)?,
                &seen(values)?,
                bias,
                &held,
            )?);
        }
        Tensor::cat(&attended, 1)
    }

    fn attend_piece(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        bias: &Tensor,
        held: &[usize],
    ) -> candle_core::Result<Tensor> {
        let (batch, ticks, width) = queries.dims3()?;
        let (heads, ages) = bias.dims2()?;
        let head_width = width / heads;
        let split = |x: &Tensor| x.reshape((batch, (), heads, head_width))?.transpose(1, 2)?.contiguous();
        let (queries, keys, values) = (split(&(queries / (head_width as f64).sqrt())?)?, split(keys)?, split(values)?);
        let rows = Rows::of(batch * heads * ticks);
        let scores = product_with_transposed(rows, &queries, &keys)?;
        let scores = scores.broadcast_add(&by_age(bias, ticks)?)?.broadcast_add(&mask(bias, ticks, ages, held)?)?;
        let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
        product(rows, &weights, &values)?.transpose(1, 2)?.reshape((batch, ticks, width))
    }
}

/// The bias of each query and key \[1, h, n, S + L − 1 + n\], by the age of the key.
fn by_age(bias: &Tensor, ticks: usize) -> candle_core::Result<Tensor> {
    let (heads, ages) = bias.dims2()?;
    let keys = ages - 1 + ticks;
    let age = |query: usize, key: usize| (ages - 1 + query).saturating_sub(key).min(ages - 1) as u32;
    let index: Vec<u32> = (0..ticks).flat_map(|query| (0..keys).map(move |key| age(query, key))).collect();
    let index = Tensor::from_vec(index, ticks * keys, bias.device())?;
    bias.index_select(&index, 1)?.reshape((1, heads, ticks, keys))
}

/// Nothing where a key is held, hardly any weight elsewhere: \[batch or 1, 1, n, S + L − 1 + n\].
fn mask(like: &Tensor, ticks: usize, ages: usize, held: &[usize]) -> candle_core::Result<Tensor> {
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
    Tensor::from_vec(mask, (held.len() / ticks, 1, ticks, keys), like.device())?.to_dtype(like.dtype())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    /// One operation and many, values and gradients, for members that hold more and less than they could.
    #[test]
    fn attention_is_what_its_operations_are() {
        let (batch, ticks, [short_term, chunk]) = (3, 21, [5, 4]);
        let ages = short_term + chunk;
        let mut held: Vec<usize> = (0..batch * ticks).map(|i| 1 + (i * 7) % ages).collect();
        held[..ticks].fill(ages);
        for (width, heads) in [(16, 2), (32, 2), (64, 2), (64, 1)] {
            let device = Device::Cpu;
            let draw = |shape: (usize, usize, usize), step: f32| {
                let count = shape.0 * shape.1 * shape.2;
                let values: Vec<f32> = (0..count).map(|i| (i as f32 * step).sin() * 2.0).collect();
                Var::from_vec(values, shape, &device).unwrap()
            };
            let queries = draw((batch, ticks, width), 1.7);
            let (keys, values) =
                (draw((batch, ages - 1 + ticks, width), 0.9), draw((batch, ages - 1 + ticks, width), 2.3));
            let bias = draw((1, heads, ages), 0.4);
            let vb = VarBuilder::zeros(DType::F32, &device);
            let mut attention = ShortTermAttention::new(width, heads, [short_term, chunk], vb).unwrap();
            attention.bias_by_age = bias.squeeze(0).unwrap();
            let scaled = ((&attention.bias_by_age * BIAS_SCALE).unwrap() + &attention.slopes).unwrap();
            let one = attention.attend(&queries, &keys, &values, &held).unwrap();
            let many = attention.attend_by_operations(&queries, &keys, &values, &scaled, &held).unwrap();
            let slopes = draw((batch, ticks, width), 3.1);
            let back = |y: &Tensor| (y * slopes.as_tensor()).unwrap().sum_all().unwrap().backward().unwrap();
            let (one_back, many_back) = (back(&one), back(&many));
            let host = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let mut pairs = vec![(host(&one), host(&many))];
            for var in [&queries, &keys, &values, &bias] {
                pairs.push((host(one_back.get(var).unwrap()), host(many_back.get(var).unwrap())));
            }
            for (one, many) in pairs {
                // Sums of some hundred f32 products of size ten at most, in another order.
                let most = many.iter().fold(1.0f32, |most, value| most.max(value.abs()));
                let off = one.iter().zip(&many).fold(0.0f32, |off, (one, many)| off.max((one - many).abs()));
                assert!(off < 2e-5 * most, "width {width}, {heads} heads: {off} of {most}");
            }
        }
    }
}
