//! An agent's past as a list of cells, newest first: the exact short-term observations, then the long-term signal.
//!
//! Piecewise-constant memories give their blocks (refined by the knots of all groups, so nothing is approximated);
//! the others give a fixed quadrature grid.

use crate::blocks::BlocksPlan;
use crate::plan::{Counters, MemoryPlan, Policy};

/// One agent's state, to be read.
#[derive(Clone, Copy)]
pub(crate) struct AgentState<'a> {
    pub(crate) plan: &'a MemoryPlan,
    pub(crate) counters: Counters,
    pub(crate) short_term: &'a [f32],
    /// B, or the means of the blocks.
    pub(crate) long_term: &'a [f32],
    pub(crate) lengths: &'a [u32],
    pub(crate) mean: &'a [f32],
    pub(crate) variance: &'a [f32],
    pub(crate) table: &'a [f32],
}

/// A stretch of the past in which every channel counts as constant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    /// Ages in observations of its two ends; the newest observation covers 0 to 1.
    pub(crate) newer: f64,
    pub(crate) older: f64,
    /// Age in ticks of the newer end, counted from the newest observation.
    pub(crate) tick: f64,
    /// Ticks an observation.
    pub(crate) interval: f64,
    source: Source,
}

#[derive(Debug, Clone, Copy)]
enum Source {
    /// Row of the short-term ring.
    ShortTerm(usize),
    /// Row of the reading grid.
    Grid(usize),
    /// Where its blocks, one a group, begin in `Cells::blocks`.
    Blocks(usize),
}

impl Cell {
    /// Mean age in ticks of the observations in the cell, counted from the newest observation.
    pub(crate) fn age(&self) -> f64 {
        self.tick + 0.5 * (self.older - self.newer - 1.0).max(0.0) * self.interval
    }

    /// Age in ticks of the older end.
    pub(crate) fn older_tick(&self) -> f64 {
        self.tick + (self.older - self.newer) * self.interval
    }
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

/// The cells of one agent; buffers are re-used from one agent to the next.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    pub(crate) cells: Vec<Cell>,
    /// For each cell the row of its block in the means of each listed group, the first of which is `first_group`.
    blocks: Vec<u32>,
    first_group: usize,
    /// The signal at the reading grid of a linear memory [M, d + 1].
    grid: Vec<f32>,
    /// Work space of the refinement: the block under way and its older end, a group.
    pointers: Vec<(usize, u64)>,
}

impl Cells {
    /// Lists the agent's cells.
    pub(crate) fn list(&mut self, agent: &AgentState, knots: Knots) {
        self.cells.clear();
        self.blocks.clear();
        self.grid.clear();
        let (held, mut tick) = (agent.counters.held as usize, 0.0);
        let rows = agent.plan.short_term_rows();
        for age in 0..held {
            let row = (agent.counters.head as usize + held - 1 - age) % rows;
            let interval = f64::from(agent.interval(row));
            let (newer, older) = (age as f64, (age + 1) as f64);
            self.cells.push(Cell { newer, older, tick, interval, source: Source::ShortTerm(row) });
            tick += interval;
        }
        if agent.counters.written == 0 {
            return;
        }
        match &agent.plan.policy {
            Policy::Linear(plan) => {
                let width = agent.plan.row_width();
                // The whole grid at once, [M, width]: the coefficients are read row by row.
                self.grid.resize(plan.grid.rows() * width, 0.0);
                plan.grid.multiply_add(agent.long_term, width, &mut self.grid);
                for (newer, older, row) in plan.cells(agent.counters.written, agent.table) {
                    let interval = f64::from(self.grid[(row + 1) * width - 1]).max(0.0);
                    let (newer, older) = (newer + held as f64, older + held as f64);
                    self.cells.push(Cell { newer, older, tick, interval, source: Source::Grid(row) });
                    tick += (older - newer) * interval;
                }
            }
            Policy::Blocks(plan) => self.list_blocks(agent, plan, knots, tick),
        }
    }

    fn list_blocks(&mut self, agent: &AgentState, plan: &BlocksPlan, knots: Knots, mut tick: f64) {
        let (groups, clock_group) = match knots {
            Knots::All { clock_group } => (0..plan.groups(), clock_group),
            Knots::Only(group) => (group..group + 1, group),
        };
        self.first_group = groups.start;
        let stride = plan.capacity + 1;
        let newest = plan.count(agent.counters.written) - 1;
        let length_of = |group: usize, block: usize| u64::from(agent.lengths[group * stride + block]);
        self.pointers.clear();
        self.pointers.extend(groups.map(|group| (newest, length_of(group, newest))));
        let held = u64::from(agent.counters.held);
        let (clock_start, clock_width) = plan.rows_of(clock_group);
        let mut newer = 0;
        while newer < agent.counters.written {
            let older = self.pointers.iter().map(|(_, older)| *older).min().unwrap_or(agent.counters.written);
            let source = Source::Blocks(self.blocks.len());
            self.blocks.extend(self.pointers.iter().map(|(block, _)| *block as u32));
            let clock_block = self.pointers[clock_group - self.first_group].0;
            let interval = f64::from(agent.long_term[clock_start + (clock_block + 1) * clock_width - 1]);
            let (from, to) = ((newer + held) as f64, (older + held) as f64);
            self.cells.push(Cell { newer: from, older: to, tick, interval, source });
            tick += (older - newer) as f64 * interval;
            for (at, (block, end)) in self.pointers.iter_mut().enumerate() {
                if *end == older && *block > 0 {
                    *block -= 1;
                    *end += length_of(self.first_group + at, *block);
                }
            }
            newer = older;
        }
    }

    /// The value of `channel` in a cell.
    pub(crate) fn value(&self, agent: &AgentState, cell: &Cell, channel: usize) -> f32 {
        match cell.source {
            Source::ShortTerm(row) => agent.row(row)[channel],
            Source::Grid(row) => self.grid[row * agent.plan.row_width() + channel],
            Source::Blocks(at) => match &agent.plan.policy {
                Policy::Blocks(plan) => {
                    let group = plan.group_of(channel);
                    let (start, width) = plan.rows_of(group);
                    let block = self.blocks[at + group - self.first_group] as usize;
                    agent.long_term[start + block * width + channel - plan.channels_of(group).start]
                }
                Policy::Linear(_) => 0.0,
            },
        }
    }

    /// Adds Σ mass·value of all channels to `sum` \[d\]. `masses` are pairs of a cell's index and its mass.
    pub(crate) fn add_expected(&self, agent: &AgentState, masses: impl Iterator<Item = (usize, f32)>, sum: &mut [f32]) {
        for (cell, mass) in masses {
            match (self.cells[cell].source, &agent.plan.policy) {
                (Source::ShortTerm(row), _) => add_scaled(sum, mass, agent.row(row)),
                (Source::Grid(row), _) => {
                    let width = agent.plan.row_width();
                    add_scaled(sum, mass, &self.grid[row * width..(row + 1) * width]);
                }
                (Source::Blocks(at), Policy::Blocks(plan)) => {
                    for group in self.first_group..plan.groups() {
                        let (start, width) = plan.rows_of(group);
                        let row = start + self.blocks[at + group - self.first_group] as usize * width;
                        add_scaled(&mut sum[plan.channels_of(group)], mass, &agent.long_term[row..row + width - 1]);
                    }
                }
                _ => {}
            }
        }
    }

    /// The reading-grid row of a cell of a linear signal.
    pub(crate) fn grid_row(cell: &Cell) -> Option<usize> {
        match cell.source {
            Source::Grid(row) => Some(row),
            _ => None,
        }
    }
}

impl<'a> AgentState<'a> {
    /// A row of the short-term ring \[d + 1\].
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        let width = self.plan.row_width();
        &self.short_term[row * width..(row + 1) * width]
    }

    fn interval(&self, row: usize) -> f32 {
        self.row(row)[self.plan.row_width() - 1]
    }
}

fn add_scaled(sum: &mut [f32], factor: f32, values: &[f32]) {
    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += factor * value);
}
