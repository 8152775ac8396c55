//! An agent's past as a list of cells, newest first: the exact short-term observations, then the long-term signal.
//!
//! Piecewise-constant memories give their blocks (refined by the knots of all groups, so nothing is approximated);
//! the others give a fixed quadrature grid.

use crate::blocks::BlocksPlan;
use crate::kernels::{Outputs, WeightedRow, add_rows, multiply};
use crate::plan::{Counters, MemoryPlan, Policy};
use std::ops::Range;

/// One agent's state, to be read.
#[derive(Clone, Copy)]
pub(crate) struct AgentState<'a> {
    pub(crate) plan: &'a MemoryPlan,
    pub(crate) counters: Counters,
    pub(crate) short_term: &'a [f32],
    /// Bᵀ, or the means of the blocks.
    pub(crate) long_term: &'a [f32],
    /// The row of each block.
    pub(crate) order: &'a [u32],
    pub(crate) lengths: &'a [u32],
    pub(crate) mean: &'a [f32],
    pub(crate) variance: &'a [f32],
    pub(crate) table: &'a [f32],
}

/// At which knots the past of an `Adaptive` memory is cut into cells; the other policies have one grid.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Knots {
    /// Those of all groups. Ages in ticks are those of `clock_group`, exact at its own knots.
    All {
        /// The group whose intervals count.
        clock_group: usize,
    },
    /// Those of one group: only its channels can be read.
    Only(usize),
}

/// The cells of one agent: stretches of the past in which every channel counts as constant. Buffers are re-used from
/// one agent to the next.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    /// Ages in observations at the ends of the cells \[cells + 1\]; the newest observation covers 0 to 1.
    pub(crate) ends: Vec<f64>,
    /// Age in ticks at each cell's newer end \[cells\], counted from the newest observation.
    pub(crate) ticks: Vec<f64>,
    /// Mean age in ticks of the observations in each cell \[cells\], counted from the newest observation.
    pub(crate) ages: Vec<f64>,
    /// Ticks an observation in each cell \[cells\].
    pub(crate) intervals: Vec<f64>,
    /// Cells that are observations of the short-term memory: the first ones.
    held: usize,
    /// The first of the groups whose knots are listed.
    first_group: usize,
    /// The blocks of each listed group.
    groups: Vec<ListedBlocks>,
    /// Work space: values at the reading grid \[M\], or of something at each block.
    values: Vec<f32>,
    /// Work space: a running sum of weights.
    running: Vec<f64>,
    /// Work space: the rows of an expectation.
    weighted: Vec<WeightedRow>,
}

/// The blocks of one group, newest first, and how they lie in the cells.
#[derive(Debug, Default)]
struct ListedBlocks {
    /// Ages in observations of the blocks' older ends, without the short-term memory \[blocks\].
    ends: Vec<u64>,
    /// The row of each block in the group's means \[blocks\].
    rows: Vec<u32>,
    /// The block of each long-term cell \[cells − held\].
    block_of: Vec<u32>,
    /// The number of long-term cells that are newer than the block's older end \[blocks\].
    cells_until: Vec<u32>,
}

impl Cells {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ticks.len()
    }

    /// Whether the agent has seen nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.ticks.is_empty()
    }

    /// Age in ticks of a cell's older end.
    pub(crate) fn older_tick(&self, cell: usize) -> f64 {
        self.ticks[cell] + (self.ends[cell + 1] - self.ends[cell]) * self.intervals[cell]
    }

    /// Lists the agent's cells.
    pub(crate) fn list(&mut self, agent: &AgentState, knots: Knots) {
        self.ends.clear();
        self.ends.push(0.0);
        self.intervals.clear();
        self.held = agent.counters.held as usize;
        for age in 0..self.held {
            self.ends.push((age + 1) as f64);
            self.intervals.push(f64::from(agent.interval(agent.ring_row(age))));
        }
        if agent.counters.written > 0 {
            match &agent.plan.policy {
                Policy::Linear(plan) => {
                    self.ends.pop();
                    plan.ages(agent.counters.written, agent.table, &mut self.ends);
                    let held = self.held as f64;
                    self.ends[self.held..].iter_mut().for_each(|end| *end += held);
                    let cells = self.ends.len() - 1 - self.held;
                    self.evaluate(agent, agent.plan.layout.width());
                    self.intervals.extend(self.values[..cells].iter().map(|interval| f64::from(interval.max(0.0))));
                }
                Policy::Blocks(plan) => self.list_blocks(agent, plan, knots),
            }
        }
        let cells = self.intervals.len();
        self.ticks.resize(cells, 0.0);
        self.ages.resize(cells, 0.0);
        let mut tick = 0.0;
        let places = self.ticks.iter_mut().zip(&mut self.ages);
        let ends = self.ends.iter().zip(&self.ends[1..]);
        for (((own_tick, age), (newer, older)), interval) in places.zip(ends).zip(&self.intervals) {
            let length = older - newer;
            *own_tick = tick;
            *age = tick + 0.5 * (length - 1.0).max(0.0) * interval;
            tick += length * interval;
        }
    }

    /// Evaluates one row of Bᵀ at the whole reading grid.
    fn evaluate(&mut self, agent: &AgentState, channel: usize) {
        let Policy::Linear(plan) = &agent.plan.policy else { return };
        let count = plan.basis.count();
        self.values.resize(plan.grid.rows(), 0.0);
        let row = &agent.long_term[channel * count..(channel + 1) * count];
        multiply(row, plan.grid_transposed.all(), &mut self.values, Outputs::Replaced);
    }

    fn list_blocks(&mut self, agent: &AgentState, plan: &BlocksPlan, knots: Knots) {
        let (groups, clock_group) = match knots {
            Knots::All { clock_group } => (0..plan.groups(), clock_group),
            Knots::Only(group) => (group..group + 1, group),
        };
        self.first_group = groups.start;
        let stride = plan.capacity + 1;
        let count = plan.count(agent.counters.written);
        self.groups.resize_with(groups.len(), ListedBlocks::default);
        for (listed, group) in self.groups.iter_mut().zip(groups) {
            let (lengths, order) = (&agent.lengths[group * stride..][..count], &agent.order[group * stride..][..count]);
            let mut end = 0;
            listed.ends.clear();
            listed.ends.extend(lengths.iter().rev().map(|length| {
                end += u64::from(*length);
                end
            }));
            listed.rows.clear();
            listed.rows.extend(order.iter().rev());
        }
        let held = agent.counters.held as f64;
        // With their number known to the compiler, the places stay in registers.
        match self.groups.as_mut_slice() {
            [_] => refine([0], &mut self.groups, held, &mut self.ends),
            [_, _] => refine([0; 2], &mut self.groups, held, &mut self.ends),
            groups => refine(vec![0; groups.len()], groups, held, &mut self.ends),
        }
        let (start, width) = plan.rows_of(clock_group);
        let clock = &self.groups[clock_group - self.first_group];
        self.intervals.extend(clock.block_of.iter().map(|block| {
            let row = start + (clock.rows[*block as usize] as usize + 1) * width;
            f64::from(agent.long_term[row - 1])
        }));
    }

    /// Adds precision·(value − target)² of one channel to the squared distance of every cell \[cells\].
    pub(crate) fn add_distances(
        &mut self,
        agent: &AgentState,
        channel: usize,
        target: f32,
        precision: f32,
        distances: &mut [f64],
    ) {
        let squared = |value: f32| {
            let difference = f64::from(value - target);
            difference * difference * f64::from(precision)
        };
        let (short_term, long_term) = distances.split_at_mut(self.held);
        for (age, distance) in short_term.iter_mut().enumerate() {
            *distance += squared(agent.row(agent.ring_row(age))[channel]);
        }
        if long_term.is_empty() {
            return;
        }
        match &agent.plan.policy {
            Policy::Linear(_) => {
                self.evaluate(agent, channel);
                long_term.iter_mut().zip(&self.values).for_each(|(distance, value)| *distance += squared(*value));
            }
            Policy::Blocks(plan) => {
                let group = plan.group_of(channel);
                let (start, width) = plan.rows_of(group);
                let column = start + channel - plan.channels_of(group).start;
                let listed = &self.groups[group - self.first_group];
                self.values.clear();
                self.values.extend(listed.rows.iter().map(|row| agent.long_term[column + *row as usize * width]));
                for (distance, block) in long_term.iter_mut().zip(&listed.block_of) {
                    *distance += squared(self.values[*block as usize]);
                }
            }
        }
    }

    /// The value of `channel` in a cell.
    pub(crate) fn value(&self, agent: &AgentState, cell: usize, channel: usize) -> f32 {
        let Some(cell) = cell.checked_sub(self.held) else { return agent.row(agent.ring_row(cell))[channel] };
        match &agent.plan.policy {
            Policy::Linear(plan) => {
                let row = agent.long_term[channel * plan.basis.count()..].iter();
                row.zip(plan.grid.row(cell)).map(|(coefficient, psi)| coefficient * psi).sum()
            }
            Policy::Blocks(plan) => {
                let group = plan.group_of(channel);
                let (start, width) = plan.rows_of(group);
                let listed = &self.groups[group - self.first_group];
                let row = listed.rows[listed.block_of[cell] as usize] as usize;
                agent.long_term[start + row * width + channel - plan.channels_of(group).start]
            }
        }
    }

    /// Adds Σ weight·value of all channels to `sum` \[d\], for the cells of `range` and their `weights`. What a linear
    /// signal adds is not yet in it: `expectation` \[N\] is E\[ψ\] of these weights, to be multiplied with Bᵀ.
    pub(crate) fn add_expected(
        &mut self,
        agent: &AgentState,
        range: Range<usize>,
        weights: &[f32],
        sum: &mut [f32],
        expectation: &mut [f32],
    ) {
        let (short_term, long_term) = weights.split_at(self.held.clamp(range.start, range.end) - range.start);
        let width = agent.plan.row_width();
        self.weighted.clear();
        for (age, &weight) in (range.start..).zip(short_term).filter(|(_, weight)| **weight != 0.0) {
            self.weighted.push(WeightedRow { start: agent.ring_row(age) * width, weight });
        }
        add_rows(agent.short_term, &self.weighted, sum);
        if long_term.is_empty() {
            return;
        }
        let first = range.end - self.held - long_term.len();
        match &agent.plan.policy {
            Policy::Linear(plan) => {
                let rows = plan.grid.some(first..first + long_term.len());
                multiply(long_term, rows, expectation, Outputs::Replaced);
            }
            Policy::Blocks(plan) => {
                // A block's weight is what its cells have together: the difference of a running sum.
                self.running.clear();
                let mut sum_until = 0.0;
                self.running.push(sum_until);
                self.running.extend(long_term.iter().map(|weight| {
                    sum_until += f64::from(*weight);
                    sum_until
                }));
                let last = first + long_term.len() - 1;
                for (listed, group) in self.groups.iter().zip(self.first_group..) {
                    let (start, width) = plan.rows_of(group);
                    let blocks = listed.block_of[first] as usize..=listed.block_of[last] as usize;
                    self.weighted.clear();
                    let mut before = 0.0;
                    for (row, until) in listed.rows[blocks.clone()].iter().zip(&listed.cells_until[blocks]) {
                        let until = self.running[(*until as usize - first).min(long_term.len())];
                        let weight = (until - before) as f32;
                        before = until;
                        self.weighted.push(WeightedRow { start: start + *row as usize * width, weight });
                    }
                    self.weighted.retain(|row| row.weight != 0.0);
                    add_rows(agent.long_term, &self.weighted, &mut sum[plan.channels_of(group)]);
                }
            }
        }
    }

    /// The row of the reading grid, counted from the oldest, that is a cell of a linear signal.
    pub(crate) fn grid_row(&self, agent: &AgentState, cell: usize) -> Option<usize> {
        match &agent.plan.policy {
            Policy::Linear(plan) => Some(plan.grid.rows() - 1 - cell.checked_sub(self.held)?),
            Policy::Blocks(_) => None,
        }
    }
}

/// Cuts the past at the knots of all `groups`; `places` are zeros, one a group. Appends the cells' older ends to `ends`.
#[inline(always)]
fn refine(mut places: impl AsMut<[usize]>, groups: &mut [ListedBlocks], held: f64, ends: &mut Vec<f64>) {
    let places = places.as_mut();
    let most: usize = groups.iter().map(|listed| listed.ends.len()).sum();
    for listed in groups.iter_mut() {
        listed.block_of.resize(most, 0);
        listed.cells_until.resize(listed.ends.len(), 0);
    }
    let oldest = groups.iter().filter_map(|listed| listed.ends.last()).fold(u64::MAX, |least, end| least.min(*end));
    for cell in 0..most {
        let mut end = u64::MAX;
        for (listed, place) in groups.iter().zip(&*places) {
            end = end.min(listed.ends[*place]);
        }
        ends.push(end as f64 + held);
        // Without a branch on which group's block ends: that is as good as random.
        for (listed, place) in groups.iter_mut().zip(&mut *places) {
            listed.block_of[cell] = *place as u32;
            listed.cells_until[*place] = cell as u32 + 1;
            *place += usize::from(listed.ends[*place] == end);
        }
        if end == oldest {
            groups.iter_mut().for_each(|listed| listed.block_of.truncate(cell + 1));
            return;
        }
    }
}

impl<'a> AgentState<'a> {
    /// A row of the short-term ring \[d + 1\].
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        let width = self.plan.row_width();
        &self.short_term[row * width..(row + 1) * width]
    }

    /// Where in the ring the observation is that is `age` observations old.
    #[inline(always)]
    pub(crate) fn ring_row(&self, age: usize) -> usize {
        let row = self.counters.head as usize + self.counters.held as usize - 1 - age;
        let rows = self.plan.short_term_rows();
        if row < rows { row } else { row - rows }
    }

    fn interval(&self, row: usize) -> f32 {
        self.row(row)[self.plan.row_width() - 1]
    }
}
