//! `Adaptive`: each group of channels keeps at most N blocks of (mean, length), newest last.
//!
//! Every observation is a block. While there are more than N, the neighbours merge that minimise
//! (max(0, l₁l₂/(l₁ + l₂)·|m₁ − m₂|²/d − tolerance) + mix·variance·(l₁ + l₂)) / (mid-age + a₀),
//! distances and variance in units of the channels' scales. A merged mean is the true mean of its span. Means stay
//! where they are in memory; only their order moves.

use crate::channels::ChannelLayout;
use crate::forgetting::AdaptiveRule;
use crate::kernels::{LANES, dot, run, weighted_distance};
use pulp::{Simd, WithSimd};

/// The constants of the merging rule.
#[derive(Debug, Clone)]
pub(crate) struct BlocksPlan {
    /// N
    pub(crate) capacity: usize,
    groups: Vec<std::ops::Range<usize>>,
    pub(crate) resolution: f32,
    pub(crate) mix: f32,
    pub(crate) tolerance: f32,
}

/// One agent's blocks, all groups.
pub(crate) struct BlocksState<'a> {
    /// Means, group by group, each \[N + 1, channels of the group + 1\]; the last column is the interval.
    pub(crate) means: &'a mut [f32],
    /// The row of each block in its group's means, newest last: a permutation \[groups, N + 1\].
    pub(crate) order: &'a mut [u32],
    /// Lengths in observations \[groups, N + 1\].
    pub(crate) lengths: &'a mut [u32],
    /// l₁l₂/(l₁ + l₂)·|m₁ − m₂|²/d of each block with its newer neighbour \[groups, N + 1\].
    pub(crate) losses: &'a mut [f32],
}

impl BlocksPlan {
    /// The rule of `rule`, on the groups of `layout`; `capacity` is N.
    pub(crate) fn new(rule: AdaptiveRule, layout: &ChannelLayout, capacity: usize) -> Self {
        let groups = layout.groups().iter().map(|(_, range)| range.clone()).collect();
        Self {
            capacity,
            groups,
            resolution: rule.resolution as f32,
            mix: rule.mix as f32,
            tolerance: rule.tolerance as f32,
        }
    }

    /// One group of `width` channels.
    pub(crate) fn single(rule: AdaptiveRule, width: usize, capacity: usize) -> Self {
        let AdaptiveRule { resolution, mix, tolerance } = rule;
        let [resolution, mix, tolerance] = [resolution, mix, tolerance].map(|value| value as f32);
        Self { capacity, groups: std::iter::once(0..width).collect(), resolution, mix, tolerance }
    }

    /// Number of groups G.
    pub(crate) fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Floats of means an agent: (N + 1)·(d + G).
    pub(crate) fn means_length(&self) -> usize {
        self.groups.iter().map(|range| (self.capacity + 1) * (range.len() + 1)).sum()
    }

    /// Lengths (or losses) an agent: G·(N + 1).
    pub(crate) fn lengths_length(&self) -> usize {
        self.groups() * (self.capacity + 1)
    }

    /// Where the means of a group begin, and how wide its rows are.
    pub(crate) fn rows_of(&self, group: usize) -> (usize, usize) {
        let range = &self.groups[group];
        ((self.capacity + 1) * (range.start + group), range.len() + 1)
    }

    /// The channels of a group.
    pub(crate) fn channels_of(&self, group: usize) -> std::ops::Range<usize> {
        self.groups[group].clone()
    }

    /// The group of a channel.
    pub(crate) fn group_of(&self, channel: usize) -> usize {
        self.groups.iter().position(|range| range.contains(&channel)).unwrap_or(0)
    }

    /// Blocks a group holds once `written` observations were pushed.
    pub(crate) fn count(&self, written: u64) -> usize {
        written.min(self.capacity as u64) as usize
    }

    /// The permutation of blocks that lie in their order, for all groups.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = u32> {
        (0..self.groups()).flat_map(|_| 0..=self.capacity as u32)
    }

    /// The means with their rows in the blocks' order.
    pub(crate) fn sorted(&self, means: &[f32], order: &[u32]) -> Vec<f32> {
        let mut sorted = Vec::with_capacity(means.len());
        for (group, order) in order.chunks_exact(self.capacity + 1).enumerate() {
            let (start, width) = self.rows_of(group);
            for place in order {
                let row = start + *place as usize * width;
                sorted.extend_from_slice(&means[row..row + width]);
            }
        }
        sorted
    }

    /// Pushes one `row` \[d + 1\] (channels, then interval) after `written` earlier ones. `precision` \[d\] holds
    /// 1/scale², `variance` \[d\] the channels' running variance. Gives the older block of the pair that the last group
    /// merged, if it was full.
    pub(crate) fn push(
        &self,
        state: &mut BlocksState,
        written: u64,
        row: &[f32],
        precision: &[f32],
        variance: &[f32],
    ) -> Option<usize> {
        run(Push { plan: self, state, written, row, precision, variance })
    }

    /// Computes the losses of the first group's `count` blocks from their means.
    pub(crate) fn refresh_losses(&self, state: &mut BlocksState, count: usize, precision: &[f32]) {
        let BlocksState { means, order, lengths, losses } = state;
        let blocks = GroupBlocks { means, order, lengths, losses, precision, width: precision.len() + 1 };
        run(Refresh { blocks, count });
    }

    /// The older block of the pair whose merging costs least; ties go to the oldest. `variance` is the mean of the
    /// channels'.
    #[inline(always)]
    fn cheapest(&self, lengths: &[u32], losses: &[f32], variance: f32) -> usize {
        let (mut lowest, mut places) = ([f32::INFINITY; LANES], [u32::MAX; LANES]);
        let mut age = 0_u64;
        let mut end = lengths.len() - 1;
        // From the newest pairs to the oldest, sixteen at a time: ages are sums, costs are vectors.
        while end >= LANES {
            let start = end - LANES;
            let mut ages = [0.0_f32; LANES];
            for lane in (0..LANES).rev() {
                ages[lane] = age as f32;
                age += u64::from(lengths[start + lane + 1]);
            }
            let (older, newer, losses) = (&lengths[start..end], &lengths[start + 1..=end], &losses[start..end]);
            for lane in 0..LANES {
                let cost = self.cost(older[lane], newer[lane], losses[lane], ages[lane], variance);
                let lower = cost <= lowest[lane];
                lowest[lane] = if lower { cost } else { lowest[lane] };
                places[lane] = if lower { (start + lane) as u32 } else { places[lane] };
            }
            end = start;
        }
        let mut best = (f32::INFINITY, u32::MAX);
        for (cost, place) in lowest.into_iter().zip(places) {
            if cost < best.0 || (cost == best.0 && place < best.1) {
                best = (cost, place);
            }
        }
        for pair in (0..end).rev() {
            let cost = self.cost(lengths[pair], lengths[pair + 1], losses[pair], age as f32, variance);
            age += u64::from(lengths[pair + 1]);
            if cost <= best.0 {
                best = (cost, pair as u32);
            }
        }
        best.1 as usize
    }

    #[inline(always)]
    fn cost(&self, older: u32, newer: u32, loss: f32, age: f32, variance: f32) -> f32 {
        let length = older as f32 + newer as f32;
        let middle = age + 0.5 * length;
        ((loss - self.tolerance).max(0.0) + self.mix * variance * length) / (middle + self.resolution)
    }
}

struct Refresh<'a> {
    blocks: GroupBlocks<'a>,
    count: usize,
}

impl WithSimd for Refresh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for older in 1..self.count {
            self.blocks.losses[older - 1] = self.blocks.loss(simd, older - 1);
        }
    }
}

struct Push<'a, 'b> {
    plan: &'a BlocksPlan,
    state: &'a mut BlocksState<'b>,
    written: u64,
    row: &'a [f32],
    precision: &'a [f32],
    variance: &'a [f32],
}

impl WithSimd for Push<'_, '_> {
    type Output = Option<usize>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Option<usize> {
        let Self { plan, state, written, row, precision, variance } = self;
        let mut merged = None;
        let stride = plan.capacity + 1;
        let count = plan.count(written);
        for (group, channels) in plan.groups.iter().enumerate() {
            let (start, width) = plan.rows_of(group);
            let own = group * stride..(group + 1) * stride;
            let mut blocks = GroupBlocks {
                means: &mut state.means[start..start + stride * width],
                order: &mut state.order[own.clone()],
                lengths: &mut state.lengths[own.clone()],
                losses: &mut state.losses[own],
                precision: &precision[channels.clone()],
                width,
            };
            let place = blocks.order[count] as usize;
            let newest = &mut blocks.means[place * width..(place + 1) * width];
            newest[..width - 1].copy_from_slice(&row[channels.clone()]);
            newest[width - 1] = row[row.len() - 1];
            blocks.lengths[count] = 1;
            if count > 0 {
                blocks.losses[count - 1] = blocks.loss(simd, count - 1);
            }
            if count == plan.capacity {
                let mean_variance = dot(simd, &variance[channels.clone()], blocks.precision) / channels.len() as f32;
                let pair = plan.cheapest(blocks.lengths, blocks.losses, mean_variance);
                // Where no cost is finite, the two oldest.
                let pair = if pair < count { pair } else { 0 };
                blocks.merge(simd, pair);
                merged = Some(pair);
            }
        }
        merged
    }
}

/// Whether blocks of these lengths can hold `written` observations. A block that is full counts no further.
pub(crate) fn cover(lengths: &[u32], written: u64) -> bool {
    let sum: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    sum == written || (sum < written && lengths.contains(&u32::MAX))
}

/// The blocks of one group while a push is under way.
struct GroupBlocks<'a> {
    means: &'a mut [f32],
    order: &'a mut [u32],
    lengths: &'a mut [u32],
    losses: &'a mut [f32],
    precision: &'a [f32],
    width: usize,
}

impl GroupBlocks<'_> {
    #[inline(always)]
    fn row(&self, block: usize) -> &[f32] {
        let place = self.order[block] as usize;
        &self.means[place * self.width..(place + 1) * self.width]
    }

    #[inline(always)]
    fn loss<S: Simd>(&self, simd: S, older: usize) -> f32 {
        let channels = self.precision.len();
        let (left, right) = (&self.row(older)[..channels], &self.row(older + 1)[..channels]);
        let squared = weighted_distance(simd, left, right, self.precision);
        let (l1, l2) = (self.lengths[older] as f32, self.lengths[older + 1] as f32);
        (l1 * l2 / (l1 + l2) * squared / channels as f32).min(f32::MAX)
    }

    /// Merges the block with its newer neighbour, whose row becomes free: the next observation's.
    #[inline(always)]
    fn merge<S: Simd>(&mut self, simd: S, older: usize) {
        let width = self.width;
        let length = self.lengths[older].saturating_add(self.lengths[older + 1]);
        let part = (f64::from(self.lengths[older + 1]) / f64::from(length)) as f32;
        let (kept, free) = (self.order[older] as usize, self.order[older + 1] as usize);
        let (low, high) = self.means.split_at_mut(kept.max(free) * width);
        let (first, second) = (&mut low[kept.min(free) * width..][..width], &mut high[..width]);
        let (left, right) = if kept < free { (first, second) } else { (second, first) };
        left.iter_mut().zip(right).for_each(|(left, right)| *left += (*right - *left) * part);
        self.lengths[older] = length;
        let last = self.lengths.len() - 1;
        self.order.copy_within(older + 2.., older + 1);
        self.lengths.copy_within(older + 2.., older + 1);
        self.losses.copy_within(older + 1..last, older);
        (self.order[last], self.lengths[last]) = (free as u32, 0);
        if older > 0 {
            self.losses[older - 1] = self.loss(simd, older - 1);
        }
        if older + 1 < last {
            self.losses[older] = self.loss(simd, older);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After two years of ticks a block is as long as can be counted; what it holds goes on.
    #[test]
    fn a_full_block_counts_no_further() {
        let plan = BlocksPlan::single(AdaptiveRule::default(), 1, 2);
        let (mut means, mut order, mut lengths, mut losses) =
            (vec![2.0, 1.0, 2.0, 1.0, 0.0, 0.0], vec![0, 1, 2], vec![u32::MAX, 7, 0], vec![0.0; 3]);
        let written = u64::from(u32::MAX) + 7;
        assert!(cover(&lengths[..2], written));
        let mut state =
            BlocksState { means: &mut means, order: &mut order, lengths: &mut lengths, losses: &mut losses };
        plan.refresh_losses(&mut state, 2, &[1.0]);
        // The new value differs: the two old blocks are alike and merge.
        assert_eq!(plan.push(&mut state, written, &[9.0, 1.0], &[1.0], &[0.0]), Some(0));
        assert_eq!((lengths, order), (vec![u32::MAX, 1, 0], vec![0, 2, 1]));
        assert_eq!((means[0], means[4]), (2.0, 9.0));
        assert!(cover(&[u32::MAX, 1], written + 1));
        assert!(!cover(&[u32::MAX - 1, 1], written + 1) && !cover(&[u32::MAX, 9], written + 1));
    }
}
