//! Attention over a sliding window of keys as one operation with its own gradient.
//!
//! As tensor operations the scores of all ticks and keys go through memory a dozen times; here they stay in the cache, and
//! the gradient computes them again instead of keeping them (Dao et al. 2022).

use super::contiguous::contiguous;
use crate::kernels::{exp, run};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};

/// Queries \[batch, n, d\], the keys of all members and behind them the values \[2·batch, ages − 1 + n, d\], and the
/// bias \[h, ages\], → \[batch, n, d\]. f32 on the CPU.
#[derive(Debug)]
pub(super) struct WindowAttention {
    pub(super) heads: usize,
    /// How many of the newest keys each tick sees \[batch, n\].
    pub(super) held: Vec<usize>,
}

/// Keys side by side in one vector register or two.
const LANES: usize = 16;

impl WindowAttention {
    /// Whether there is a kernel for heads of this width.
    pub(super) fn takes(head_width: usize) -> bool {
        matches!(head_width, 8 | 16 | 32 | 64)
    }

    fn problem<'a>(&'a self, queries: &'a [f32], seen: &'a [f32], bias: &'a [f32], shape: &[usize]) -> Problem<'a> {
        let (batch, ticks, width) = (shape[0], shape[1], shape[2]);
        let (keys, values) = seen.split_at(seen.len() / 2);
        let ages = bias.len() / self.heads;
        Problem { queries, keys, values, bias, held: &self.held, heads: self.heads, batch, ticks, width, ages }
    }
}

/// What is attended to by whom.
#[derive(Clone, Copy)]
struct Problem<'a> {
    queries: &'a [f32],
    keys: &'a [f32],
    values: &'a [f32],
    bias: &'a [f32],
    held: &'a [usize],
    heads: usize,
    batch: usize,
    ticks: usize,
    width: usize,
    ages: usize,
}

impl<'a> Problem<'a> {
    /// Keys of a member.
    fn rows(&self) -> usize {
        self.ages - 1 + self.ticks
    }

    /// `values` \[rows, d\] of a member.
    fn of_member(&self, values: &'a [f32], member: usize) -> &'a [f32] {
        let size = self.rows() * self.width;
        &values[member * size..(member + 1) * size]
    }

    /// Ages, and some more to fill the last vector.
    fn padded(&self) -> usize {
        self.ages.next_multiple_of(LANES)
    }

    /// The bias of a head, oldest age first.
    fn bias_from_oldest(&self, head: usize, bias: &mut [f32]) {
        let of_head = &self.bias[head * self.ages..(head + 1) * self.ages];
        bias.iter_mut().zip(of_head.iter().rev()).for_each(|(to, from)| *to = *from);
    }
}

/// Columns `first..first + W` of `rows` \[rows, d\], column by column; each column is followed by zeros.
#[inline(always)]
fn columns<const W: usize>(rows: &[f32], width: usize, first: usize, columns: &mut [f32]) {
    let length = columns.len() / W;
    for (number, row) in rows.chunks_exact(width).enumerate() {
        for (column, value) in row[first..first + W].iter().enumerate() {
            columns[column * length + number] = *value;
        }
    }
}

/// `sums` += xᵀ·columns, for the keys from `first` on.
#[inline(always)]
fn add_products<const W: usize>(x: &[f32; W], columns: &[f32], first: usize, sums: &mut [f32]) {
    let length = columns.len() / W;
    for (number, sums) in sums.chunks_exact_mut(LANES).enumerate() {
        let from = first + number * LANES;
        let mut total = [0.0; LANES];
        total.copy_from_slice(sums);
        for (column, x) in x.iter().enumerate() {
            let keys = &columns[column * length + from..][..LANES];
            for (total, key) in total.iter_mut().zip(keys) {
                *total = x.mul_add(*key, *total);
            }
        }
        sums.copy_from_slice(&total);
    }
}

/// `weights` becomes their softmax over the newest `held` of `ages`; 0 elsewhere.
#[inline(always)]
fn softmax(weights: &mut [f32], ages: usize, held: usize) {
    let (hidden, rest) = weights.split_at_mut(ages - held);
    let (seen, padding) = rest.split_at_mut(held);
    let most = seen.iter().fold(f32::NEG_INFINITY, |most, score| if *score > most { *score } else { most });
    seen.iter_mut().for_each(|score| *score = exp(*score - most));
    let whole = 1.0 / seen.iter().sum::<f32>();
    seen.iter_mut().for_each(|weight| *weight *= whole);
    hidden.fill(0.0);
    padding.fill(0.0);
}

#[inline(always)]
fn head<const W: usize>(row: &[f32], first: usize) -> [f32; W] {
    let mut values = [0.0; W];
    values.copy_from_slice(&row[first..first + W]);
    values
}

/// Σ weight·row, of W columns from `first` on of each row.
#[inline(always)]
fn weighted_sum<const W: usize>(weights: &[f32], rows: &[f32], width: usize, first: usize) -> [f32; W] {
    let mut sum = [0.0; W];
    for (weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
        for (sum, value) in sum.iter_mut().zip(&row[first..first + W]) {
            *sum = weight.mul_add(*value, *sum);
        }
    }
    sum
}

/// Each row, W columns of it from `first` on, += its weight·x.
#[inline(always)]
fn spread<const W: usize>(weights: &[f32], x: &[f32; W], rows: &mut [f32], width: usize, first: usize) {
    for (weight, row) in weights.iter().zip(rows.chunks_exact_mut(width)) {
        for (value, x) in row[first..first + W].iter_mut().zip(x) {
            *value = weight.mul_add(*x, *value);
        }
    }
}

struct Forward<'a, const W: usize> {
    problem: Problem<'a>,
    outputs: &'a mut [f32],
}

impl<const W: usize> WithSimd for Forward<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { problem, outputs } = self;
        let Problem { heads, ticks, width, ages, .. } = problem;
        let (padded, size) = (problem.padded(), ticks * width);
        let mut keys = vec![0.0; W * (problem.rows() + padded - ages)];
        let [mut bias, mut weights] = [(); 2].map(|()| vec![0.0; padded]);
        for first in (0..heads).map(|head| head * W) {
            problem.bias_from_oldest(first / W, &mut bias);
            for member in 0..problem.batch {
                columns::<W>(problem.of_member(problem.keys, member), width, first, &mut keys);
                let values = problem.of_member(problem.values, member);
                let outputs = &mut outputs[member * size..(member + 1) * size];
                let queries = &problem.queries[member * size..(member + 1) * size];
                let rows = queries.chunks_exact(width).zip(outputs.chunks_exact_mut(width));
                for (tick, (query, output)) in rows.enumerate() {
                    let held = problem.held[member * ticks + tick];
                    let query = head::<W>(query, first).map(|value| value / (W as f32).sqrt());
                    weights.copy_from_slice(&bias);
                    add_products(&query, &keys, tick, &mut weights);
                    softmax(&mut weights, ages, held);
                    let (hidden, oldest) = (ages - held, (tick + ages - held) * width);
                    let sum = weighted_sum::<W>(&weights[hidden..ages], &values[oldest..], width, first);
                    output[first..first + W].copy_from_slice(&sum);
                }
            }
        }
    }
}

/// Gradients by queries, by keys and values, and by the bias.
struct Backward<'a, const W: usize> {
    problem: Problem<'a>,
    gradient: &'a [f32],
    by_queries: &'a mut [f32],
    by_seen: &'a mut [f32],
    by_bias: &'a mut [f32],
}

impl<const W: usize> WithSimd for Backward<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { problem, gradient, by_queries, by_seen, by_bias } = self;
        let Problem { heads, ticks, width, ages, .. } = problem;
        let (padded, size, seen) = (problem.padded(), ticks * width, problem.rows() * width);
        let (by_keys, by_values) = by_seen.split_at_mut(by_seen.len() / 2);
        let scale = 1.0 / (W as f32).sqrt();
        let [mut keys, mut values] = [(); 2].map(|()| vec![0.0; W * (problem.rows() + padded - ages)]);
        let [mut bias, mut weights, mut slopes, mut by_age] = [(); 4].map(|()| vec![0.0; padded]);
        for first in (0..heads).map(|head| head * W) {
            problem.bias_from_oldest(first / W, &mut bias);
            by_age.fill(0.0);
            for member in 0..problem.batch {
                let key_rows = problem.of_member(problem.keys, member);
                columns::<W>(key_rows, width, first, &mut keys);
                columns::<W>(problem.of_member(problem.values, member), width, first, &mut values);
                let by_keys = &mut by_keys[member * seen..(member + 1) * seen];
                let by_values = &mut by_values[member * seen..(member + 1) * seen];
                for tick in 0..ticks {
                    let held = problem.held[member * ticks + tick];
                    let row = member * size + tick * width;
                    let query = head::<W>(&problem.queries[row..row + width], first).map(|value| value * scale);
                    let gradient = head::<W>(&gradient[row..row + width], first);
                    weights.copy_from_slice(&bias);
                    add_products(&query, &keys, tick, &mut weights);
                    softmax(&mut weights, ages, held);
                    slopes.fill(0.0);
                    add_products(&gradient, &values, tick, &mut slopes);
                    let mean: f32 = weights.iter().zip(&slopes).map(|(weight, slope)| weight * slope).sum();
                    for ((slope, weight), sum) in slopes.iter_mut().zip(&weights).zip(&mut by_age) {
                        *slope = weight * (*slope - mean);
                        *sum += *slope;
                    }
                    let (hidden, oldest) = (ages - held, (tick + ages - held) * width);
                    let (weights, slopes) = (&weights[hidden..ages], &slopes[hidden..ages]);
                    let by_query = weighted_sum::<W>(slopes, &key_rows[oldest..], width, first);
                    let by_query = by_query.map(|value| value * scale);
                    by_queries[row + first..row + first + W].copy_from_slice(&by_query);
                    spread(slopes, &query, &mut by_keys[oldest..], width, first);
                    spread(weights, &gradient, &mut by_values[oldest..], width, first);
                }
            }
            let of_head = &mut by_bias[first / W * ages..(first / W + 1) * ages];
            of_head.iter_mut().rev().zip(&by_age).for_each(|(to, from)| *to = *from);
        }
    }
}

impl CustomOp3 for WindowAttention {
    fn name(&self) -> &'static str {
        "window-attention"
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        queries_layout: &Layout,
        seen: &CpuStorage,
        seen_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (queries, seen) = (contiguous(queries, queries_layout)?, contiguous(seen, seen_layout)?);
        let problem = self.problem(queries, seen, contiguous(bias, bias_layout)?, queries_layout.dims());
        let mut values = vec![0.0; queries.len()];
        let outputs = &mut values;
        match problem.width / problem.heads {
            8 => run(Forward::<8> { problem, outputs }),
            16 => run(Forward::<16> { problem, outputs }),
            32 => run(Forward::<32> { problem, outputs }),
            64 => run(Forward::<64> { problem, outputs }),
            width => candle_core::bail!("no kernel for heads of width {width}"),
        }
        Ok((CpuStorage::F32(values), queries_layout.shape().clone()))
    }

    fn bwd(
        &self,
        queries: &Tensor,
        seen: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let host = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let [by_queries, by_seen, by_bias] = {
            let (queries_host, seen_host, bias_host) = (host(queries)?, host(seen)?, host(bias)?);
            let gradient = &host(gradient)?;
            let problem = self.problem(&queries_host, &seen_host, &bias_host, queries.dims());
            let mut all = [&queries_host, &seen_host, &bias_host].map(|like| vec![0.0; like.len()]);
            let [by_queries, by_seen, by_bias] = &mut all;
            match problem.width / problem.heads {
                8 => run(Backward::<8> { problem, gradient, by_queries, by_seen, by_bias }),
                16 => run(Backward::<16> { problem, gradient, by_queries, by_seen, by_bias }),
                32 => run(Backward::<32> { problem, gradient, by_queries, by_seen, by_bias }),
                64 => run(Backward::<64> { problem, gradient, by_queries, by_seen, by_bias }),
                width => candle_core::bail!("no kernel for heads of width {width}"),
            }
            all
        };
        let like = |values: Vec<f32>, tensor: &Tensor| Tensor::from_vec(values, tensor.shape(), tensor.device());
        Ok((Some(like(by_queries, queries)?), Some(like(by_seen, seen)?), Some(like(by_bias, bias)?)))
    }
}
