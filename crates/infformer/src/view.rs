//! What an agent remembers, laid out for people: the numbers behind a panel or a log.

use crate::arena::{SlotState, StateArena};
use crate::channels::ChannelLayout;
use crate::error::Result;
use crate::moments::{AgentState, Cells, Knots};
use crate::plan::{MemoryPlan, Policy};
use crate::query::{Answer, AnswerDetail, Query};
use crate::recall::{RecallScratch, recall};
use std::sync::Arc;

/// The most columns that a view has.
pub const MOST_COLUMNS: usize = 4096;

/// What a view is to show.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewRequest {
    /// The present tick.
    pub tick: u64,
    /// Columns of the map: ages, evenly spaced on a logarithmic axis from the newest to the oldest moment;
    /// at least 1, at most [`MOST_COLUMNS`].
    pub columns: usize,
    /// A query to answer along with it, with its whole density.
    pub query: Option<Query>,
}

/// One agent's memory at one moment. It is a copy: looking changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryView {
    /// What an observation is made of.
    pub layout: Arc<ChannelLayout>,
    /// Tick of the newest observation.
    pub newest_tick: u64,
    /// Ticks from the first observation to the newest.
    pub lived: u64,
    /// Ticks from the newest observation to the present; ages count from the present.
    pub since_newest: u64,
    /// Observations ever pushed.
    pub observations: u64,
    /// Bytes of the agent's whole state.
    pub bytes: usize,
    /// Bytes that the whole history would take as f32.
    pub history_bytes: u64,
    /// Age in ticks at the middle of each column \[columns\].
    pub ages: Vec<f32>,
    /// The remembered values \[channels × columns\]; NaN where there is nothing.
    pub values: Vec<f32>,
    /// Ticks over which a column's moment is blurred \[groups × columns\]: the age is resolved no better than this.
    pub resolution: Vec<f32>,
    /// What the last write changed at the moments of the columns \[channels × columns\]; NaN where unknown. Known
    /// from the second look at the same agent on.
    pub change: Vec<f32>,
    /// Ages in ticks of the exact observations, newest first.
    pub short_term_ages: Vec<f32>,
    /// Their values \[observations × channels\].
    pub short_term: Vec<f32>,
    /// The answer to the request's query.
    pub answer: Option<Answer>,
}

impl MemoryView {
    fn empty(layout: Arc<ChannelLayout>) -> Self {
        Self {
            layout,
            newest_tick: 0,
            lived: 0,
            since_newest: 0,
            observations: 0,
            bytes: 0,
            history_bytes: 0,
            ages: vec![],
            values: vec![],
            resolution: vec![],
            change: vec![],
            short_term_ages: vec![],
            short_term: vec![],
            answer: None,
        }
    }
}

/// The agent that was looked at last; its state before its latest write is kept for the next look.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) slot: usize,
    pub(crate) before: Option<SlotState>,
    /// The engine's step of the last look.
    pub(crate) step: u64,
}

/// Looks at a slot. `before` is its state before the latest write.
pub(crate) fn look(
    arena: &mut StateArena,
    plan: &MemoryPlan,
    layout: Arc<ChannelLayout>,
    slot: usize,
    request: &ViewRequest,
    before: Option<&SlotState>,
    scratch: &mut RecallScratch,
) -> Result<MemoryView> {
    let mut view = MemoryView::empty(layout);
    arena.read(plan, &[slot], |_, agent, _| {
        let counters = agent.counters;
        view.newest_tick = counters.newest_tick;
        view.lived = counters.lived;
        view.observations = counters.observations;
        view.bytes = plan.bytes_per_agent();
        view.history_bytes = counters.observations * (plan.layout.width() * size_of::<f32>()) as u64;
        let since = request.tick.saturating_sub(counters.newest_tick);
        view.since_newest = since;
        let oldest = (counters.lived + since) as f64;
        let columns = request.columns.clamp(1, MOST_COLUMNS);
        let age = |column: usize| ((column as f64 + 0.5) / columns as f64 * oldest.ln_1p()).exp_m1();
        view.ages = (0..columns).map(|column| age(column) as f32).collect();

        let cells = &mut scratch.cells;
        let mut resolution = vec![];
        let ages: Vec<f32> = view.ages.iter().map(|age| age - since as f32).collect();
        view.values = sample(&agent, &ages, cells, &mut resolution);
        view.resolution = resolution;
        if let Some(before) = before {
            // A copy has its blocks in their order.
            let in_order: Vec<u32> = match &plan.policy {
                Policy::Blocks(blocks) => blocks.in_order().collect(),
                Policy::Linear(_) => vec![],
            };
            let earlier = AgentState {
                plan,
                counters: before.counters,
                short_term: &before.floats[1],
                long_term: &before.floats[0],
                order: &in_order,
                lengths: &before.lengths,
                mean: &before.floats[2],
                variance: &before.floats[3],
                table: &before.floats[5],
            };
            let moved = counters.newest_tick.saturating_sub(before.counters.newest_tick) as f32;
            let ages: Vec<f32> = ages.iter().map(|age| age - moved).collect();
            let was = sample(&earlier, &ages, cells, &mut vec![]);
            view.change = view.values.iter().zip(&was).map(|(is, was)| is - was).collect();
        }

        cells.list(&agent, Knots::All { clock_group: 0 }, std::iter::empty());
        let width = plan.layout.width();
        for cell in 0..counters.held as usize {
            view.short_term_ages.push(cells.ages[cell] as f32 + since as f32);
            view.short_term.extend((0..width).map(|channel| cells.value(&agent, cell, channel)));
        }
        if let Some(query) = &request.query {
            let query = query.clone().with_detail(AnswerDetail::Density);
            let mut answer = Answer::default();
            recall(&agent, &query, request.tick, scratch, &mut answer);
            view.answer = Some(answer);
        }
    })?;
    Ok(view)
}

/// Values \[channels × ages\] at ages in ticks, NaN where there is nothing, and the blur \[groups × ages\].
fn sample(agent: &AgentState, ages: &[f32], cells: &mut Cells, resolution: &mut Vec<f32>) -> Vec<f32> {
    let mut values = vec![f32::NAN; agent.plan.layout.width() * ages.len()];
    for (group, (_, channels)) in agent.plan.layout.groups().iter().enumerate() {
        cells.list(agent, Knots::Only(group), std::iter::empty());
        let mut at = 0;
        for (column, &age) in ages.iter().enumerate() {
            let age = f64::from(age);
            while at + 1 < cells.len() && cells.older_tick(at) <= age {
                at += 1;
            }
            if cells.is_empty() || age < 0.0 || age > cells.older_tick(at) {
                resolution.push(f32::NAN);
                continue;
            }
            // The grid has two cells a basis function.
            let blur = if cells.grid_row(agent, at).is_some() { 2.0 } else { 1.0 };
            resolution.push((blur * (cells.older_tick(at) - cells.ticks[at])) as f32);
            for channel in channels.clone() {
                values[channel * ages.len() + column] = cells.value(agent, at, channel);
            }
        }
    }
    values
}

/// The long-term signal's values \[d\] for the observation `age` back, 0 the newest in it.
pub(crate) fn signal_at(agent: &AgentState, age: f64) -> Option<Vec<f32>> {
    if !(0.0..agent.counters.written as f64).contains(&age) {
        return None;
    }
    let width = agent.plan.layout.width();
    let mut value = vec![0.0; width];
    match &agent.plan.policy {
        Policy::Linear(plan) => {
            let mut psi = vec![0.0; plan.basis.count()];
            // The middle of the observation's own cell.
            let t = plan.axis.position(age + 0.5, agent.counters.written, agent.table);
            plan.basis.evaluate(t, &mut psi);
            for (value, row) in value.iter_mut().zip(agent.long_term.chunks_exact(psi.len())) {
                *value = psi.iter().zip(row).map(|(psi, coefficient)| *psi as f32 * coefficient).sum();
            }
        }
        Policy::Blocks(plan) => {
            for group in 0..plan.groups() {
                let (start, row_width) = plan.rows_of(group);
                let lengths = &agent.lengths[group * (plan.capacity + 1)..(group + 1) * (plan.capacity + 1)];
                let mut block = plan.count(agent.counters.written) - 1;
                let mut older = f64::from(lengths[block]);
                while older <= age && block > 0 {
                    block -= 1;
                    older += f64::from(lengths[block]);
                }
                let place = agent.order[group * (plan.capacity + 1) + block] as usize;
                let row = &agent.long_term[start + place * row_width..start + (place + 1) * row_width - 1];
                value[plan.channels_of(group)].copy_from_slice(row);
            }
        }
    }
    Some(value)
}
