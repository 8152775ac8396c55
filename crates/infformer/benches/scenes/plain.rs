//! `Adaptive` as one writes it first: scalar loops, f32, blocks moved when two merge.

use infformer::forgetting::AdaptiveRule;

/// N blocks of one group whose scales are 1.
pub struct Blocks {
    rule: AdaptiveRule,
    capacity: usize,
    width: usize,
    means: Vec<f32>,
    lengths: Vec<f32>,
    losses: Vec<f32>,
}

impl Blocks {
    pub fn new(capacity: usize, width: usize) -> Self {
        Self { rule: AdaptiveRule::default(), capacity, width, means: vec![], lengths: vec![], losses: vec![] }
    }

    fn loss(&self, older: usize) -> f32 {
        let (left, right) = (&self.means[older * self.width..], &self.means[(older + 1) * self.width..]);
        let mut squared = 0.0;
        for channel in 0..self.width {
            squared += (left[channel] - right[channel]).powi(2);
        }
        let (l1, l2) = (self.lengths[older], self.lengths[older + 1]);
        l1 * l2 / (l1 + l2) * squared / self.width as f32
    }

    /// One observation \[d\].
    pub fn push(&mut self, values: &[f32]) {
        self.means.extend_from_slice(values);
        self.lengths.push(1.0);
        let last = self.lengths.len() - 1;
        if last > 0 {
            self.losses.push(self.loss(last - 1));
        }
        if self.lengths.len() <= self.capacity {
            return;
        }
        let (mut best, mut best_cost, mut age) = (0, f32::INFINITY, 0.0);
        for pair in (0..last).rev() {
            let length = self.lengths[pair] + self.lengths[pair + 1];
            let middle = age + 0.5 * length;
            let cost = ((self.losses[pair] - self.rule.tolerance as f32).max(0.0)
                + self.rule.mix as f32 * 0.3 * length)
                / (middle + self.rule.resolution as f32);
            if cost <= best_cost {
                (best, best_cost) = (pair, cost);
            }
            age += self.lengths[pair + 1];
        }
        let (l1, l2) = (self.lengths[best], self.lengths[best + 1]);
        for channel in 0..self.width {
            let (left, right) = (best * self.width + channel, (best + 1) * self.width + channel);
            self.means[left] += (self.means[right] - self.means[left]) * (l2 / (l1 + l2));
        }
        self.lengths[best] = l1 + l2;
        self.means.drain((best + 1) * self.width..(best + 2) * self.width);
        self.lengths.remove(best + 1);
        self.losses.remove(best);
        if best > 0 {
            self.losses[best - 1] = self.loss(best - 1);
        }
        if best < self.losses.len() {
            self.losses[best] = self.loss(best);
        }
    }
}
