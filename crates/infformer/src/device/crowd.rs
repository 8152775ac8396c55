//! Crowds on a device: flat arrays of many agents, a part of them after another, so that packing, the way there, the
//! kernel, the way back and unpacking go on side by side.

use super::processor::{INPUTS, LANES};
use super::{DeviceArena, TURN, Totals, TurnHead, put_row};
use crate::crowd::{CrowdAnswers, CrowdStep, STRETCH};
use crate::engine::AgentId;
use crate::error::Result;
use crate::plan::{Counters, MemoryPlan, Policy};
use rayon::prelude::*;
use std::ops::Range;

/// Agents of a crowd in one launch: while one part of the crowd is on the device, the host has others in hand.
const PART: usize = if cfg!(test) { 3 } else { 1 << 16 };

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
        let mut launched = 0..0;
        let outcome = self.plan_writes(plan, step);
        let outcome = outcome.and_then(|writes| self.run_parts(plan, step, &writes, answers, &mut launched));
        count(&mut self.counters, plan, step, launched);
        if outcome.is_err() {
            self.processor.drain();
            answers.start(plan.layout.width() + 3);
        }
        outcome
    }

    /// Launches all parts of a crowd, each as soon as a lane is free, and takes their answers. `launched` are the agents
    /// that have seen, whatever comes of it, and are not counted yet.
    fn run_parts(
        &mut self,
        plan: &MemoryPlan,
        step: &CrowdStep,
        writes: &Writes,
        answers: &mut CrowdAnswers,
        launched: &mut Range<usize>,
    ) -> Result<()> {
        let agents = step.agents.len();
        let row = plan.layout.width() + 3;
        let part = |number| agents.min(number * PART)..agents.min((number + 1) * PART);
        let launches = agents.div_ceil(PART);
        // Where memory is short, nothing has been launched yet.
        for number in 0..launches.min(LANES) {
            self.make_room(plan, number, part_totals(step, &part(number), writes), 0)?;
        }
        // The last rounds launch nothing: an empty part.
        for number in 0..launches + LANES {
            let own = part(number);
            let totals = part_totals(step, &own, writes);
            let launch = self.make_room(plan, number, totals, 0)?;
            let over = match number.checked_sub(LANES) {
                Some(over) if !answers.is_empty() => part(over),
                _ => 0..0,
            };
            let (words, inputs) = self.processor.exchange(number, over.len() * row)?;
            let first = step.agents.get(own.start).map_or(self.counters.len(), |agent| agent.slot());
            let (earlier, own_counters) = self.counters.split_at_mut(first);
            // All at once: whoever of the threads is free takes what is left.
            let unpack_and_count = || {
                rayon::join(|| answers.fill(over, words), || count(earlier, plan, step, std::mem::take(launched)));
            };
            rayon::join(unpack_and_count, || pack(plan, step, &own, writes, own_counters, first, inputs));
            if number < launches {
                self.processor.launch(number, &launch)?;
                *launched = own;
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
}

/// Fills in the inputs of the launch of a part of a crowd; `counters` are those from slot number `first` on.
fn pack(
    plan: &MemoryPlan,
    step: &CrowdStep,
    part: &Range<usize>,
    writes: &Writes,
    counters: &[Counters],
    first: usize,
    inputs: [&mut [u32]; INPUTS],
) {
    let [turns, rows, maps, query_starts, channels, targets] = inputs;
    let (agents, constraints) = (&step.agents[part.clone()], step.channels.len());
    let width = plan.layout.width();
    let values = &step.observations[part.start * width..];
    let own_maps = writes.of(part);
    maps[..own_maps.len()].copy_from_slice(own_maps);
    let pack_turn = |at: usize, turn: &mut [u32], row: &mut [u32]| {
        let slot = agents[at].slot();
        let mut before = counters[slot - first];
        let head = TurnHead { slot, observations: 1, queries: constraints.min(1), late: 0, peaks: 0 };
        let writes = writes.of(&(part.start..part.start + at)).len();
        let from = Totals { turns: at, observations: at, writes, queries: at, constraints: 0 };
        turn.copy_from_slice(&head.words(from, &before));
        put_row(row, &values[at * width..(at + 1) * width], before.take(step.tick));
    };
    let turns = turns[..agents.len() * TURN].par_chunks_mut(STRETCH * TURN);
    let turns = turns.zip(rows.par_chunks_mut(STRETCH * (width + 1))).enumerate();
    let pack_turns = || {
        turns.for_each(|(stretch, (turns, rows))| {
            let pairs = turns.chunks_exact_mut(TURN).zip(rows.chunks_exact_mut(width + 1));
            pairs.enumerate().for_each(|(at, (turn, row))| pack_turn(stretch * STRETCH + at, turn, row));
        });
    };
    let queries = agents.len() * constraints.min(1);
    query_starts[queries] = (queries * constraints) as u32;
    // Of no constraints there are no rows, of any width.
    let row = constraints.max(1);
    let starts = query_starts[..queries].par_chunks_mut(STRETCH).zip(channels.par_chunks_mut(STRETCH * row));
    let queries = starts.zip(targets.par_chunks_mut(STRETCH * row)).enumerate();
    let pack_queries = || {
        queries.for_each(|(stretch, ((starts, channels), targets))| {
            let rows = channels.chunks_exact_mut(row).zip(targets.chunks_exact_mut(row));
            for (at, (start, (channels, targets))) in starts.iter_mut().zip(rows).enumerate() {
                let at = stretch * STRETCH + at;
                *start = (at * constraints) as u32;
                channels.iter_mut().zip(step.channels).for_each(|(own, channel)| *own = *channel as u32);
                let asked = &step.targets[(part.start + at) * constraints..];
                targets.iter_mut().zip(asked).for_each(|(own, target)| *own = target.to_bits());
            }
        });
    };
    rayon::join(pack_turns, pack_queries);
}

/// Counts what some agents of a crowd have seen.
fn count(counters: &mut [Counters], plan: &MemoryPlan, step: &CrowdStep, agents: Range<usize>) {
    each_of_crowd(counters, 0, &step.agents[agents], &|counters| {
        counters.take(step.tick);
        while counters.held as usize >= plan.short_term_rows() {
            counters.advance(plan);
        }
    });
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
