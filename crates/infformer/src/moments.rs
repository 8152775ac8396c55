//! An agent's past as a list of cells, newest first: the exact short-term observations, then the long-term signal.
//!
//! Piecewise-constant memories give their blocks (refined by the knots of all groups, so nothing is approximated);
//! the others give a fixed quadrature grid.

use crate::blocks::BlocksPlan;
use crate::grid::GridScratch;
use crate::kernels::{WeightedRow, add_rows, run};
use crate::plan::{Counters, MemoryPlan, Policy};
use crate::query::Constraint;
use pulp::{Simd, WithSimd};
use smallvec::SmallVec;
use std::hint::select_unpredictable;
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
    /// The first of the groups whose knots are listed, and their number G.
    first_group: usize,
    groups: usize,
    /// Blocks of each group.
    count: usize,
    /// Ages in observations of the blocks' older ends, newest first, without the short-term memory, and one end that is
    /// never reached \[G, blocks + 1\].
    block_ends: Vec<u64>,
    /// The row of each block in its group's means \[G, blocks\].
    rows: Vec<u32>,
    /// The block of each group in each long-term cell, with room for as many as there can be \[G, G·blocks\].
    block_of: Vec<u32>,
    /// The number of long-term cells that are newer than each block's older end \[G, blocks\].
    cells_until: Vec<u32>,
    /// Values at the reading grid of the intervals and of the channels asked for \[1 + channels, M\]; or work space.
    values: Vec<f32>,
    /// Work space: their rows of Bᵀ \[1 + channels, N\].
    coefficients: Vec<f32>,
    /// Work space of the reading grid.
    grid: GridScratch,
    /// Work space: a running sum of weights.
    running: Vec<f64>,
    /// Work space: the rows of an expectation.
    weighted: Vec<WeightedRow>,
}

/// Where in a group's blocks the walk through the cells is.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    block: usize,
    /// Its older end.
    end: u64,
}

/// What the walk through the cells reads and fills in, see [`Cells`].
struct Cuts<'a> {
    ends: &'a mut [f64],
    held: f64,
    count: usize,
    block_ends: &'a [u64],
    block_of: &'a mut [u32],
    cells_until: &'a mut [u32],
}

impl Cuts<'_> {
    /// Gives the number of cells. `places` are one a group.
    #[inline(always)]
    fn refine(self, places: &mut [Place]) -> usize {
        let Self { ends, held, count, block_ends, block_of, cells_until } = self;
        let most = ends.len();
        // A full block counts no further: the blocks of one group may end before those of another.
        let mut oldest = u64::MAX;
        for (place, ends) in places.iter_mut().zip(block_ends.chunks_exact(count + 1)) {
            place.end = ends[0];
            oldest = oldest.min(ends[count - 1]);
        }
        for (cell, cell_end) in ends.iter_mut().enumerate() {
            let mut end = u64::MAX;
            for place in &*places {
                end = end.min(place.end);
            }
            *cell_end = end as i64 as f64 + held;
            // Which group's block ends is as good as random; its next end is at hand.
            for (group, place) in places.iter_mut().enumerate() {
                block_of[group * most + cell] = place.block as u32;
                cells_until[group * count + place.block] = cell as u32 + 1;
                let next = block_ends[group * (count + 1) + place.block + 1];
                let ends_here = place.end == end;
                place.end = select_unpredictable(ends_here, next, place.end);
                place.block += usize::from(ends_here);
            }
            if end == oldest {
                return cell + 1;
            }
        }
        most
    }
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

    /// Lists the agent's cells. Distances will be asked for on `channels`.
    pub(crate) fn list(&mut self, agent: &AgentState, knots: Knots, channels: impl Iterator<Item = usize>) {
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
                    let count = plan.basis.count();
                    // The intervals and all channels at once: one pass over the grid.
                    self.coefficients.clear();
                    for row in std::iter::once(agent.plan.layout.width()).chain(channels) {
                        self.coefficients.extend_from_slice(&agent.long_term[row * count..(row + 1) * count]);
                    }
                    self.values.resize(self.coefficients.len() / count * plan.grid.cells(), 0.0);
                    plan.grid.evaluate(&self.coefficients, &mut self.values, &mut self.grid);
                    self.intervals.extend(self.values[..cells].iter().map(|interval| f64::from(interval.max(0.0))));
                }
                Policy::Blocks(plan) => self.list_blocks(agent, plan, knots),
            }
        }
        let cells = self.intervals.len();
        self.ticks.resize(cells, 0.0);
        self.ages.resize(cells, 0.0);
        let Self { ends, intervals, ticks, ages, .. } = self;
        run(Ages { ends, intervals, ticks, ages });
    }

    fn list_blocks(&mut self, agent: &AgentState, plan: &BlocksPlan, knots: Knots) {
        let (groups, clock_group) = match knots {
            Knots::All { clock_group } => (0..plan.groups(), clock_group),
            Knots::Only(group) => (group..group + 1, group),
        };
        let stride = plan.capacity + 1;
        let count = plan.count(agent.counters.written);
        (self.first_group, self.groups, self.count) = (groups.start, groups.len(), count);
        self.block_ends.clear();
        self.rows.clear();
        for group in groups {
            let (lengths, order) = (&agent.lengths[group * stride..][..count], &agent.order[group * stride..][..count]);
            let mut end = 0;
            self.block_ends.extend(lengths.iter().rev().map(|length| {
                end += u64::from(*length);
                end
            }));
            self.block_ends.push(u64::MAX);
            self.rows.extend(order.iter().rev());
        }
        self.refine();
        let (start, width) = plan.rows_of(clock_group);
        let rows = &self.rows[self.blocks_of(clock_group)];
        self.intervals.extend(self.block_of[self.cells_of(clock_group)].iter().map(|block| {
            let row = start + (rows[*block as usize] as usize + 1) * width;
            f64::from(agent.long_term[row - 1])
        }));
    }

    /// Cuts the past at the knots of all listed groups.
    fn refine(&mut self) {
        let Self { ends, held, groups, count, block_ends, block_of, cells_until, .. } = self;
        let (held, groups, count) = (*held, *groups, *count);
        let most = groups * count;
        ends.resize(held + 1 + most, 0.0);
        block_of.resize(block_of.len().max(groups * most), 0);
        // No cell is newer than the end of a block that the walk does not reach.
        cells_until.clear();
        cells_until.resize(most, 0);
        let cuts = Cuts {
            ends: &mut ends[held + 1..],
            held: held as f64,
            count,
            block_ends,
            block_of: &mut block_of[..groups * most],
            cells_until,
        };
        // Where their number is known to the compiler, the places stay in registers.
        let cells = match groups {
            1 => cuts.refine(&mut [Place::default(); 1]),
            2 => cuts.refine(&mut [Place::default(); 2]),
            3 => cuts.refine(&mut [Place::default(); 3]),
            groups => cuts.refine(&mut SmallVec::<[Place; 16]>::from_elem(Place::default(), groups)),
        };
        ends.truncate(held + 1 + cells);
    }

    /// Where the long-term cells' blocks of a group are among those of all listed groups.
    fn cells_of(&self, group: usize) -> Range<usize> {
        let start = (group - self.first_group) * self.groups * self.count;
        start..start + self.ends.len() - 1 - self.held
    }

    /// Where the blocks of a group are among those of all listed groups.
    fn blocks_of(&self, group: usize) -> Range<usize> {
        let group = group - self.first_group;
        group * self.count..(group + 1) * self.count
    }

    /// Adds precision·(value − target)² to the squared distance of every cell \[cells\], for constraint `number` of those
    /// on whose channels the cells were listed.
    pub(crate) fn add_distances(
        &mut self,
        agent: &AgentState,
        number: usize,
        constraint: &Constraint,
        distances: &mut [f64],
    ) {
        let (channel, target) = (constraint.channel, constraint.value);
        let precision = f64::from(agent.plan.precision_of(channel, agent.mean, agent.variance));
        let (short_term, long_term) = distances.split_at_mut(self.held);
        for (age, distance) in short_term.iter_mut().enumerate() {
            *distance += squared(agent.row(agent.ring_row(age))[channel], target, precision);
        }
        if long_term.is_empty() {
            return;
        }
        match &agent.plan.policy {
            Policy::Linear(plan) => {
                let values = &self.values[(number + 1) * plan.grid.cells()..];
                run(Distances { values, target, precision, distances: long_term });
            }
            Policy::Blocks(plan) => {
                let group = plan.group_of(channel);
                let (start, width) = plan.rows_of(group);
                let column = start + channel - plan.channels_of(group).start;
                let rows = &self.rows[self.blocks_of(group)];
                self.values.clear();
                self.values.extend(rows.iter().map(|row| agent.long_term[column + *row as usize * width]));
                for (distance, block) in long_term.iter_mut().zip(&self.block_of[self.cells_of(group)]) {
                    *distance += squared(self.values[*block as usize], target, precision);
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
                let block = self.block_of[self.cells_of(group)][cell] as usize;
                let row = self.rows[self.blocks_of(group)][block] as usize;
                agent.long_term[start + row * width + channel - plan.channels_of(group).start]
            }
        }
    }

    /// Adds Σ weight·value of all channels to `sum` \[d\], for the `weights` of all cells. What a linear signal adds is
    /// not yet in it: `expectation` \[N\] is E\[ψ\] of these weights, to be multiplied with Bᵀ.
    pub(crate) fn add_expected(
        &mut self,
        agent: &AgentState,
        weights: &[f32],
        sum: &mut [f32],
        expectation: &mut [f32],
    ) {
        let (short_term, long_term) = weights.split_at(self.held);
        self.add_observations(agent, (0..self.held).zip(short_term), sum);
        if long_term.is_empty() {
            return;
        }
        match &agent.plan.policy {
            Policy::Linear(plan) => plan.grid.expect(long_term, expectation, &mut self.grid),
            Policy::Blocks(plan) => {
                // A block's weight is what its cells have together: the difference of a running sum.
                self.running.clear();
                let mut sum_until = 0.0;
                self.running.push(sum_until);
                self.running.extend(long_term.iter().map(|weight| {
                    sum_until += f64::from(*weight);
                    sum_until
                }));
                for group in self.first_group..self.first_group + self.groups {
                    let (start, width) = plan.rows_of(group);
                    let own = self.blocks_of(group);
                    let mut before = 0.0;
                    self.weighted.clear();
                    for (row, until) in self.rows[own.clone()].iter().zip(&self.cells_until[own]) {
                        let until = self.running[*until as usize];
                        if until > before {
                            let weight = (until - before) as f32;
                            self.weighted.push(WeightedRow { start: start + *row as usize * width, weight });
                        }
                        before = until;
                    }
                    add_rows(agent.long_term, &self.weighted, &mut sum[plan.channels_of(group)]);
                }
            }
        }
    }

    /// [`Cells::add_expected`] of some cells, newest first, and their `weights`: for few it is less work. It adds to
    /// `expectation` \[N\].
    pub(crate) fn add_expected_of(
        &mut self,
        agent: &AgentState,
        cells: &[u32],
        weights: &[f32],
        sum: &mut [f32],
        expectation: &mut [f32],
    ) {
        let held = self.held;
        let observed = cells.partition_point(|cell| (*cell as usize) < held);
        let mut weighted = cells.iter().map(|cell| *cell as usize).zip(weights);
        self.add_observations(agent, weighted.by_ref().take(observed), sum);
        if observed == cells.len() {
            return;
        }
        let long_term = weighted.map(|(cell, weight)| (cell - held, *weight));
        match &agent.plan.policy {
            Policy::Linear(plan) => {
                self.weighted.clear();
                self.weighted
                    .extend(long_term.map(|(cell, weight)| WeightedRow { start: plan.grid.psi_at(cell), weight }));
                add_rows(plan.grid.psi(), &self.weighted, expectation);
            }
            Policy::Blocks(plan) => {
                for group in self.first_group..self.first_group + self.groups {
                    let (start, width) = plan.rows_of(group);
                    let (rows, block_of) = (&self.rows[self.blocks_of(group)], &self.block_of[self.cells_of(group)]);
                    self.weighted.clear();
                    for (cell, weight) in long_term.clone() {
                        let start = start + rows[block_of[cell] as usize] as usize * width;
                        match self.weighted.last_mut() {
                            Some(last) if last.start == start => last.weight += weight,
                            _ => self.weighted.push(WeightedRow { start, weight }),
                        }
                    }
                    add_rows(agent.long_term, &self.weighted, &mut sum[plan.channels_of(group)]);
                }
            }
        }
    }

    /// Adds Σ weight·value of some observations of the short-term memory, given by their ages, to `sum` \[d\].
    fn add_observations<'a>(
        &mut self,
        agent: &AgentState,
        weights: impl Iterator<Item = (usize, &'a f32)>,
        sum: &mut [f32],
    ) {
        let width = agent.plan.row_width();
        self.weighted.clear();
        for (age, &weight) in weights.filter(|(_, weight)| **weight != 0.0) {
            self.weighted.push(WeightedRow { start: agent.ring_row(age) * width, weight });
        }
        add_rows(agent.short_term, &self.weighted, sum);
    }

    /// The row of the reading grid, counted from the oldest, that is a cell of a linear signal.
    pub(crate) fn grid_row(&self, agent: &AgentState, cell: usize) -> Option<usize> {
        match &agent.plan.policy {
            Policy::Linear(plan) => Some(plan.grid.cells() - 1 - cell.checked_sub(self.held)?),
            Policy::Blocks(_) => None,
        }
    }
}

/// Fills in where the cells lie in ticks.
struct Ages<'a> {
    ends: &'a [f64],
    intervals: &'a [f64],
    ticks: &'a mut [f64],
    ages: &'a mut [f64],
}

impl WithSimd for Ages<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        /// Stretches that are summed side by side: each sum waits for the one before it.
        const STRETCHES: usize = 8;
        let Self { ends, intervals, ticks, ages } = self;
        let ends = ends.iter().zip(&ends[1..]);
        for (((ticks, age), (newer, older)), interval) in ticks.iter_mut().zip(ages.iter_mut()).zip(ends).zip(intervals)
        {
            let length = older - newer;
            *ticks = length * interval;
            *age = 0.5 * (length - 1.0).max(0.0) * interval;
        }
        let length = ticks.len() / STRETCHES;
        let mut sums = [0.0; STRETCHES];
        for at in 0..length {
            for (stretch, sum) in sums.iter_mut().enumerate() {
                let ticks = &mut ticks[stretch * length + at];
                (*ticks, *sum) = (*sum, *sum + *ticks);
            }
        }
        let mut before = 0.0;
        for (stretch, sum) in sums.into_iter().enumerate() {
            for tick in &mut ticks[stretch * length..(stretch + 1) * length] {
                *tick += before;
            }
            before += sum;
        }
        for tick in &mut ticks[STRETCHES * length..] {
            (*tick, before) = (before, before + *tick);
        }
        for (age, tick) in ages.iter_mut().zip(ticks) {
            *age += *tick;
        }
    }
}

/// precision·(value − target)²
#[inline(always)]
fn squared(value: f32, target: f32, precision: f64) -> f64 {
    let difference = f64::from(value - target);
    difference * difference * precision
}

/// Adds [`squared`] to each squared distance.
struct Distances<'a> {
    values: &'a [f32],
    target: f32,
    precision: f64,
    distances: &'a mut [f64],
}

impl WithSimd for Distances<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (distance, value) in self.distances.iter_mut().zip(self.values) {
            *distance += squared(*value, self.target, self.precision);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A block that is full counts no further, so that another group's blocks may end later: no cell is theirs, whatever
    /// the work space held.
    #[test]
    fn blocks_beyond_the_oldest_cell_have_none() {
        let block_ends = vec![1, 2, 3, u64::MAX, 1, 9, 12, u64::MAX];
        let mut cells = Cells { ends: vec![0.0], groups: 2, count: 3, block_ends, ..Cells::default() };
        cells.cells_until = vec![99; 6];
        cells.refine();
        assert_eq!(cells.ends, [0.0, 1.0, 2.0, 3.0]);
        assert_eq!(cells.cells_until, [1, 2, 3, 1, 3, 0]);
    }
}
