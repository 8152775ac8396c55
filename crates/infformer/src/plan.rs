//! What a configuration becomes once, for all its agents: layout, matrices, and the sizes of one agent's state.

use crate::basis::Basis;
use crate::blocks::BlocksPlan;
use crate::channels::{ChannelLayout, Scale};
use crate::config::{MemoryConfig, StatePrecision};
use crate::error::Result;
use crate::forgetting::Forgetting;
use crate::kernels::run;
use crate::signal::LinearPlan;
use pulp::{Simd, WithSimd};

/// Observations after which running statistics begin to forget, so that they follow a drift.
pub(crate) const STATISTICS_MEMORY: u64 = 1 << 16;

#[derive(Debug)]
pub(crate) enum Policy {
    Linear(Box<LinearPlan>),
    Blocks(BlocksPlan),
}

#[derive(Debug)]
pub(crate) struct MemoryPlan {
    pub(crate) config: MemoryConfig,
    pub(crate) layout: ChannelLayout,
    pub(crate) policy: Policy,
}

impl MemoryPlan {
    pub(crate) fn new(config: &MemoryConfig) -> Result<Self> {
        config.validate()?;
        let layout = config.layout()?;
        let policy = match &config.forgetting {
            Forgetting::Adaptive(rule) => Policy::Blocks(BlocksPlan::new(*rule, &layout, config.capacity)),
            forgetting => {
                let basis = Basis::new(forgetting.basis(), config.capacity)?;
                Policy::Linear(Box::new(LinearPlan::new(forgetting, basis, config.chunk)?))
            }
        };
        Ok(Self { config: config.clone(), layout, policy })
    }

    /// Width of a stored row: the channels and the interval.
    pub(crate) fn row_width(&self) -> usize {
        self.layout.width() + 1
    }

    /// Rows of the short-term ring: the newest S, and a chunk on its way out.
    pub(crate) fn short_term_rows(&self) -> usize {
        self.config.short_term + self.config.chunk
    }

    /// Floats of long-term state an agent: B, or the means of the blocks.
    pub(crate) fn long_term_length(&self) -> usize {
        match &self.policy {
            Policy::Linear(plan) => plan.basis.count() * self.row_width(),
            Policy::Blocks(plan) => plan.means_length(),
        }
    }

    /// The long-term floats as they are told and saved: B \[N, d + 1\], where they are kept as Bᵀ; means as they are.
    pub(crate) fn row_by_row(&self, long_term: &[f32]) -> Vec<f32> {
        match &self.policy {
            Policy::Linear(plan) => transposed(long_term, plan.basis.count()),
            Policy::Blocks(_) => long_term.to_vec(),
        }
    }

    /// The inverse of [`MemoryPlan::row_by_row`].
    pub(crate) fn as_kept(&self, rows: &[f32]) -> Vec<f32> {
        match &self.policy {
            Policy::Linear(_) => transposed(rows, self.row_width()),
            Policy::Blocks(_) => rows.to_vec(),
        }
    }

    /// Lengths (and losses) an agent.
    pub(crate) fn lengths_length(&self) -> usize {
        match &self.policy {
            Policy::Linear(_) => 0,
            Policy::Blocks(plan) => plan.lengths_length(),
        }
    }

    /// Entries of the age table and of the attention histogram an agent.
    pub(crate) fn sticky_lengths(&self) -> (usize, usize) {
        match &self.policy {
            Policy::Linear(plan) => plan.sticky.as_ref().map_or((0, 0), |sticky| (sticky.bins + 1, sticky.bins)),
            Policy::Blocks(_) => (0, 0),
        }
    }

    /// Floats of each array of an agent, in the order of [`SlotState::floats`](crate::arena::SlotState).
    pub(crate) fn float_lengths(&self) -> [usize; 7] {
        let (table, histogram) = self.sticky_lengths();
        let width = self.layout.width();
        let ring = self.short_term_rows() * self.row_width();
        [self.long_term_length(), ring, width, width, self.lengths_length(), table, histogram]
    }

    /// Bytes of state an agent, short-term memory and bookkeeping included.
    pub(crate) fn bytes_per_agent(&self) -> usize {
        let (table, histogram) = self.sticky_lengths();
        let long_term = match self.config.state {
            StatePrecision::Single => size_of::<f32>(),
            StatePrecision::Half => size_of::<half::f16>(),
        };
        let floats = 3 * self.lengths_length()
            + self.short_term_rows() * self.row_width()
            + 2 * self.layout.width()
            + table
            + histogram;
        self.long_term_length() * long_term + floats * size_of::<f32>() + size_of::<Counters>()
    }

    /// Fills `precision` with 1/scale² a channel.
    pub(crate) fn precision(&self, mean: &[f32], variance: &[f32], precision: &mut Vec<f32>) {
        precision.clear();
        precision.extend((0..self.layout.width()).map(|channel| self.precision_of(channel, mean, variance)));
    }

    /// 1/scale² of a channel.
    #[inline(always)]
    pub(crate) fn precision_of(&self, channel: usize, mean: &[f32], variance: &[f32]) -> f32 {
        match self.layout.scales()[channel] {
            Scale::Given(scale) => 1.0 / (scale * scale),
            // A channel that never moved yet: differences below its rounding do not count.
            Scale::Learnt => {
                1.0 / variance[channel].max(1e-12 * mean[channel] * mean[channel]).max(f32::MIN_POSITIVE.sqrt())
            }
        }
    }
}

/// The transpose of a row-major matrix of so many columns.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}

/// Takes an observation into the running mean and variance of each channel.
pub(crate) fn observe(statistics: Statistics, observations: u64, values: &[f32]) {
    run(Observe { statistics, observations, values });
}

struct Observe<'a> {
    statistics: Statistics<'a>,
    observations: u64,
    values: &'a [f32],
}

impl WithSimd for Observe<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let share = 1.0 / (self.observations + 1).min(STATISTICS_MEMORY) as f32;
        let Statistics { mean, variance } = self.statistics;
        for ((mean, variance), value) in mean.iter_mut().zip(variance).zip(self.values) {
            let before = value - *mean;
            *mean += before * share;
            *variance += (before * (value - *mean) - *variance) * share;
        }
    }
}

/// Running statistics of an agent's channels.
pub(crate) struct Statistics<'a> {
    pub(crate) mean: &'a mut [f32],
    pub(crate) variance: &'a mut [f32],
}

/// How much an agent has seen, and where its ring begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Observations ever pushed.
    pub(crate) observations: u64,
    /// Of these, in the long-term signal.
    pub(crate) written: u64,
    /// Tick of the newest.
    pub(crate) newest_tick: u64,
    /// Ticks from the first to the newest.
    pub(crate) lived: u64,
    /// Row of the oldest observation in the ring.
    pub(crate) head: u32,
    /// Observations in the ring.
    pub(crate) held: u32,
}

impl Counters {
    /// An observation of this tick is in the ring now; gives the ticks since the one before.
    pub(crate) fn take(&mut self, tick: u64) -> u64 {
        let interval = if self.observations == 0 { 0 } else { tick - self.newest_tick };
        self.observations += 1;
        self.held += 1;
        self.newest_tick = tick;
        self.lived += interval;
        interval
    }

    /// The oldest chunk of the ring is in the signal now.
    pub(crate) fn advance(&mut self, plan: &MemoryPlan) {
        let chunk = plan.config.chunk as u32;
        self.head = (self.head + chunk) % plan.short_term_rows() as u32;
        self.held -= chunk;
        self.written += u64::from(chunk);
    }
}
