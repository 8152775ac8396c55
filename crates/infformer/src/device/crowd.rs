//! Crowds on a device: flat arrays of many agents, a part of them after another, so that packing, the way there, the
//! kernel, the way back and unpacking go on side by side.

use super::processor::LANES;
use super::{DeviceArena, TURN, Totals, TurnHead, put_row};
use crate::crowd::{CrowdAnswers, CrowdStep};
use crate::engine::AgentId;
use crate::error::Result;
use crate::plan::{Counters, MemoryPlan, Policy};
use rayon::prelude::*;
use std::ops::Range;

/// Agents of a crowd in one launch: while one part of the crowd is on the device, the host has others in hand.
const PART: usize = if cfg!(test) { 2 } else { 1 << 16 };

/// Agents of a crowd that one thread of the host has in hand at a time.
const STRETCH: usize = if cfg!(test) { 1 } else { 1 << 10 };

impl DeviceArena {
    /// Takes what a crowd saw and answers what it asks, a part of it after another. The step is in order.
    pub(crate) fn tick_crowd(
        &mut self,
        plan: &mut MemoryPlan,
        step: &CrowdStep,
        answers: &mut CrowdAnswers,
    ) -> Result<()> {
        let agents = step.agents.len();
        answers.make_room(plan.layout.width() + 3, if step.channels.is_empty() { 0 } else { agents });
        let mut sent = 0;
        let outcome = self.plan_writes(plan, step);
        let outcome = outcome.and_then(|writes| self.run_parts(plan, step, &writes, answers, &mut sent));
        each_of_crowd(&mut self.counters, 0, &step.agents[..sent], &|counters| {
            counters.take(step.tick);
            while counters.held as usize >= plan.short_term_rows() {
                counters.advance(plan);
            }
        });
        if outcome.is_err() {
            self.processor.drain();
            answers.start(plan.layout.width() + 3);
        }
        outcome
    }

    /// Launches all parts of a crowd, each as soon as a lane is free, and takes their answers. `sent` is how many agents
    /// were in those that were launched, whatever came of it.
    fn run_parts(
        &mut self,
        plan: &MemoryPlan,
        step: &CrowdStep,
        writes: &Writes,
        answers: &mut CrowdAnswers,
        sent: &mut usize,
    ) -> Result<()> {
        let agents = step.agents.len();
        let row = plan.layout.width() + 3;
        let part = |number| number * PART..agents.min((number + 1) * PART);
        let launches = agents.div_ceil(PART);
        // Where memory is short, nothing has been launched yet.
        for number in 0..launches.min(LANES) {
            self.make_room(plan, number, part_totals(step, &part(number), writes), 0)?;
        }
        for number in 0..launches + LANES {
            if let Some(over) = number.checked_sub(LANES).filter(|over| *over < launches) {
                let rows = if answers.is_empty() { 0..0 } else { part(over) };
                let words = self.processor.answers(over, rows.len() * row)?;
                answers.fill(rows, words);
            }
            if number < launches {
                self.send(plan, step, number, part(number), writes)?;
                *sent = part(number).end;
            }
        }
        answers.kernel_time = self.processor.kernel_time(launches)?;
        Ok(())
    }

    /// The numbers of the maps of each agent's writes. Only where matrices change with age does the host say which:
    /// that takes a look at every agent.
    fn plan_writes(&mut self, plan: &mut MemoryPlan, step: &CrowdStep) -> Result<Writes> {
        let mut writes = Writes::default();
        if !matches!(&plan.policy, Policy::Linear(linear) if linear.is_time_varying()) {
            return Ok(writes);
        }
        if self.has_many_maps(plan) {
            self.maps.clear();
        }
        for agent in step.agents {
            writes.starts.push(writes.maps.len());
            let mut counters = self.counters[agent.slot()];
            counters.take(step.tick);
            while counters.held as usize >= plan.short_term_rows() {
                writes.maps.extend(self.map_after(plan, counters.written / plan.config.chunk as u64)?);
                counters.advance(plan);
            }
        }
        writes.starts.push(writes.maps.len());
        Ok(writes)
    }

    /// Launches a part of a crowd.
    fn send(
        &mut self,
        plan: &MemoryPlan,
        step: &CrowdStep,
        number: usize,
        part: Range<usize>,
        writes: &Writes,
    ) -> Result<()> {
        let (width, constraints) = (plan.layout.width(), step.channels.len());
        let (agents, maps) = (&step.agents[part.clone()], writes.of(&part));
        let totals = part_totals(step, &part, writes);
        let queries = totals.queries;
        let launch = self.make_room(plan, number, totals, 0)?;
        let [turns, observations, own_maps, query_starts, channels, targets] = self.processor.inputs(number)?;
        own_maps[..maps.len()].copy_from_slice(maps);
        let counters = &self.counters;
        let values = &step.observations[part.start * width..part.end * width];
        let pack_turn = |at: usize, turn: &mut [u32], row: &mut [u32]| {
            let slot = agents[at].slot();
            let mut before = counters[slot];
            let head = TurnHead { slot, observations: 1, queries: queries.min(1), late: 0, peaks: 0 };
            let writes = writes.of(&(part.start..part.start + at)).len();
            let from = Totals { turns: at, observations: at, writes, queries: at, constraints: 0 };
            turn.copy_from_slice(&head.words(from, &before));
            put_row(row, &values[at * width..(at + 1) * width], before.take(step.tick));
        };
        let turns = turns[..agents.len() * TURN].par_chunks_mut(STRETCH * TURN);
        let stretches = turns.zip(observations.par_chunks_mut(STRETCH * (width + 1))).enumerate();
        let pack_turns = || {
            stretches.for_each(|(stretch, (turns, rows))| {
                let pairs = turns.chunks_exact_mut(TURN).zip(rows.chunks_exact_mut(width + 1));
                pairs.enumerate().for_each(|(at, (turn, row))| pack_turn(stretch * STRETCH + at, turn, row));
            });
        };
        let pack_queries = || {
            for (at, start) in query_starts[..=queries].iter_mut().enumerate() {
                *start = (at * constraints) as u32;
            }
            for (own, channel) in channels[..totals.constraints].iter_mut().zip(step.channels.iter().cycle()) {
                *own = *channel as u32;
            }
            let asked = &step.targets[part.start * constraints..];
            targets[..totals.constraints].iter_mut().zip(asked).for_each(|(own, target)| *own = target.to_bits());
        };
        rayon::join(pack_turns, pack_queries);
        self.processor.launch(number, &launch)
    }
}

/// How much of each input a part of a crowd has.
fn part_totals(step: &CrowdStep, part: &Range<usize>, writes: &Writes) -> Totals {
    let (agents, constraints) = (part.len(), step.channels.len());
    let queries = if constraints > 0 { agents } else { 0 };
    let writes = writes.of(part).len();
    Totals { turns: agents, observations: agents, writes, queries, constraints: constraints * queries }
}

/// The numbers of the maps of a crowd's writes; nothing where the kernel knows them.
#[derive(Debug, Default)]
struct Writes {
    maps: Vec<u32>,
    /// Where those of each agent begin, and the last one's end.
    starts: Vec<usize>,
}

impl Writes {
    /// Those of some agents.
    fn of(&self, agents: &Range<usize>) -> &[u32] {
        match (self.starts.get(agents.start), self.starts.get(agents.end)) {
            (Some(start), Some(end)) => &self.maps[*start..*end],
            _ => &[],
        }
    }
}

/// Does something to the counters of agents that are in the order of their slots, side by side; `counters` are those
/// from slot number `first` on.
fn each_of_crowd(counters: &mut [Counters], first: usize, agents: &[AgentId], act: &(impl Fn(&mut Counters) + Sync)) {
    if agents.len() <= STRETCH {
        agents.iter().for_each(|agent| act(&mut counters[agent.slot() - first]));
        return;
    }
    let (lower, upper) = agents.split_at(agents.len() / 2);
    let middle = upper[0].slot();
    let (below, above) = counters.split_at_mut(middle - first);
    rayon::join(|| each_of_crowd(below, first, lower, act), || each_of_crowd(above, middle, upper, act));
}
