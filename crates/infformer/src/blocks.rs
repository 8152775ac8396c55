//! `Adaptive`: each group of channels keeps at most N blocks of (mean, length), newest last.
//!
//! Every observation is a block. While there are more than N, the neighbours merge that minimise
//! (max(0, l₁l₂/(l₁ + l₂)·|m₁ − m₂|²/d − tolerance) + mix·variance·(l₁ + l₂)) / (mid-age + a₀),
//! distances and variance in units of the channels' scales. A merged mean is the true mean of its span.

use crate::channels::ChannelLayout;
use crate::forgetting::AdaptiveRule;

/// The constants of the merging rule.
#[derive(Debug, Clone)]
pub(crate) struct BlocksPlan {
    /// N
    pub(crate) capacity: usize,
    groups: Vec<std::ops::Range<usize>>,
    resolution: f32,
    mix: f32,
    tolerance: f32,
}

/// One agent's blocks, all groups.
pub(crate) struct BlocksState<'a> {
    /// Means, group by group, each \[N + 1, channels of the group + 1\]; the last column is the interval.
    pub(crate) means: &'a mut [f32],
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
        let mut merged = None;
        let stride = self.capacity + 1;
        let count = self.count(written);
        for (group, channels) in self.groups.iter().enumerate() {
            let (start, width) = self.rows_of(group);
            let mut blocks = GroupBlocks {
                means: &mut state.means[start..start + stride * width],
                lengths: &mut state.lengths[group * stride..(group + 1) * stride],
                losses: &mut state.losses[group * stride..(group + 1) * stride],
                precision: &precision[channels.clone()],
                width,
            };
            let newest = &mut blocks.means[count * width..(count + 1) * width];
            newest[..width - 1].copy_from_slice(&row[channels.clone()]);
            newest[width - 1] = row[row.len() - 1];
            blocks.lengths[count] = 1;
            if count > 0 {
                blocks.losses[count - 1] = blocks.loss(count - 1);
            }
            if count == self.capacity {
                let scaled = variance[channels.clone()].iter().zip(blocks.precision).map(|(v, p)| v * p);
                let mean_variance = scaled.sum::<f32>() / channels.len() as f32;
                let pair = self.cheapest(blocks.lengths, blocks.losses, mean_variance);
                blocks.merge(pair);
                merged = Some(pair);
            }
        }
        merged
    }

    /// Computes the losses of the first group's `count` blocks from their means.
    pub(crate) fn refresh_losses(&self, state: &mut BlocksState, count: usize, precision: &[f32]) {
        let BlocksState { means, lengths, losses } = state;
        let blocks = GroupBlocks { means, lengths, losses, precision, width: precision.len() + 1 };
        (1..count).for_each(|newer| blocks.losses[newer - 1] = blocks.loss(newer - 1));
    }

    /// The older block of the pair whose merging costs least; ties go to the oldest.
    fn cheapest(&self, lengths: &[u32], losses: &[f32], variance: f32) -> usize {
        let (mut best, mut best_cost) = (0, f32::INFINITY);
        let mut age = 0.0_f32;
        for pair in (0..lengths.len() - 1).rev() {
            let (older, newer) = (lengths[pair] as f32, lengths[pair + 1] as f32);
            let length = older + newer;
            let middle = age + 0.5 * length;
            let cost =
                ((losses[pair] - self.tolerance).max(0.0) + self.mix * variance * length) / (middle + self.resolution);
            if cost <= best_cost {
                (best, best_cost) = (pair, cost);
            }
            age += newer;
        }
        best
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
    lengths: &'a mut [u32],
    losses: &'a mut [f32],
    precision: &'a [f32],
    width: usize,
}

impl GroupBlocks<'_> {
    fn loss(&self, older: usize) -> f32 {
        let (left, right) = self.means[older * self.width..(older + 2) * self.width].split_at(self.width);
        let channels = self.precision.len();
        let squared: f32 = left
            .iter()
            .zip(right)
            .zip(self.precision)
            .map(|((left, right), precision)| (left - right).powi(2) * precision)
            .sum();
        let (l1, l2) = (self.lengths[older] as f32, self.lengths[older + 1] as f32);
        (l1 * l2 / (l1 + l2) * squared / channels as f32).min(f32::MAX)
    }

    /// Merges the block with its newer neighbour and moves the newer ones down.
    fn merge(&mut self, older: usize) {
        let width = self.width;
        let length = self.lengths[older].saturating_add(self.lengths[older + 1]);
        let part = (f64::from(self.lengths[older + 1]) / f64::from(length)) as f32;
        let (left, right) = self.means[older * width..(older + 2) * width].split_at_mut(width);
        left.iter_mut().zip(right).for_each(|(left, right)| *left += (*right - *left) * part);
        self.lengths[older] = length;
        let last = self.lengths.len() - 1;
        self.means.copy_within((older + 2) * width.., (older + 1) * width);
        self.lengths.copy_within(older + 2.., older + 1);
        self.losses.copy_within(older + 1..last, older);
        self.lengths[last] = 0;
        if older > 0 {
            self.losses[older - 1] = self.loss(older - 1);
        }
        if older + 1 < last {
            self.losses[older] = self.loss(older);
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
        let (mut means, mut lengths, mut losses) =
            (vec![2.0, 1.0, 2.0, 1.0, 0.0, 0.0], vec![u32::MAX, 7, 0], vec![0.0; 3]);
        let written = u64::from(u32::MAX) + 7;
        assert!(cover(&lengths[..2], written));
        let mut state = BlocksState { means: &mut means, lengths: &mut lengths, losses: &mut losses };
        plan.refresh_losses(&mut state, 2, &[1.0]);
        // The new value differs: the two old blocks are alike and merge.
        assert_eq!(plan.push(&mut state, written, &[9.0, 1.0], &[1.0], &[0.0]), Some(0));
        assert_eq!((lengths, means[0], means[2]), (vec![u32::MAX, 1, 0], 2.0, 9.0));
        assert!(cover(&[u32::MAX, 1], written + 1));
        assert!(!cover(&[u32::MAX - 1, 1], written + 1) && !cover(&[u32::MAX, 9], written + 1));
    }
}
