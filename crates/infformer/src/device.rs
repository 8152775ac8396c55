//! Memories that live on a device: rings, statistics and signals stay there; a tick moves observations up and answers
//! down, and one kernel (`tick.cu`) does everything between.
//!
//! The host keeps what it needs to say what each agent's turn is: how much it has seen and where its ring begins. What
//! runs the kernel is a [`Processor`]: a CUDA device, or, in tests, an ordinary program that stands in for one.

mod numbers;
mod processor;
mod crowd;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod standin;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use crate::arena::SlotState;
use crate::engine::AgentStep;
use crate::error::Result;
use crate::plan::{Counters, MemoryPlan, Policy};
use crate::query::{Answer, AnswerDetail, Query};
use crate::signal::{LinearPlan, WriteMatrices};
use processor::{Buffer, Launch, Processor};
use std::collections::HashMap;

/// Words of a turn, as `tick.cu` has it.
const TURN: usize = 12;

/// Under `Uniform`, words of matrices that stay on the device from tick to tick: 256 MiB.
const MAP_WORDS: usize = 1 << 26;

/// The state of all agents of one engine, on a device.
#[derive(Debug)]
pub(crate) struct DeviceArena {
    processor: Box<dyn Processor>,
    slots: usize,
    pub(crate) counters: Vec<Counters>,
    /// The numbers of the matrices that are on the device, by age in chunks; 0 is the first write's of a life, and
    /// where they do not change with age, 1 is every later one's.
    maps: HashMap<u64, u32>,
    batch: Batch,
}

/// Turns on their way to the device.
#[derive(Debug, Default)]
struct Batch {
    turns: Vec<Planned>,
    /// The numbers of the maps of all writes, under `Uniform`.
    writes: Vec<u32>,
    totals: Totals,
}

impl Batch {
    fn clear(&mut self) {
        self.turns.clear();
        self.writes.clear();
        self.totals = Totals::default();
    }
}

/// One agent's turn.
#[derive(Debug)]
struct Planned {
    /// Which step it is.
    step: usize,
    /// Where its inputs begin.
    from: Totals,
    /// The agent's counters once it is over.
    after: Counters,
}

/// How much of each input there is.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    turns: usize,
    observations: usize,
    writes: usize,
    queries: usize,
    constraints: usize,
}

impl Totals {
    /// Words of each input, in the order of the buffers, and of the answers, for d channels.
    fn launch(&self, width: usize) -> Launch {
        let Self { turns, observations, writes, queries, constraints } = *self;
        let inputs = [turns * TURN, observations * (width + 1), writes, queries + 1, constraints, constraints];
        Launch { inputs, turns, answers: queries * (width + 3) }
    }
}

/// What a turn says of its agent.
struct TurnHead {
    slot: usize,
    observations: usize,
    queries: usize,
    late: u64,
    peaks: usize,
}

impl TurnHead {
    /// The words of a turn whose inputs begin at `from`, for an agent that has these counters before it.
    fn words(&self, from: Totals, before: &Counters) -> [u32; TURN] {
        [
            self.slot as u32,
            from.observations as u32,
            self.observations as u32,
            from.queries as u32,
            self.queries as u32,
            from.writes as u32,
            before.head,
            before.held,
            countable(before.observations),
            countable(before.written),
            (self.late as f32).to_bits(),
            self.peaks as u32,
        ]
    }
}

impl DeviceArena {
    /// An arena without slots on the processor that `start` makes of the numbers in front of the kernel.
    fn new(plan: &MemoryPlan, threads: usize, start: impl FnOnce(&str) -> Result<Box<dyn Processor>>) -> Result<Self> {
        let processor = start(&numbers::numbers(plan, threads)?)?;
        let (maps, batch) = Default::default();
        let mut arena = Self { processor, slots: 0, counters: vec![], maps, batch };
        let constants = numbers::constants(plan);
        arena.processor.reserve(0, Buffer::Constants, constants.len())?;
        arena.processor.write(Buffer::Constants, 0, &constants)?;
        if let Policy::Linear(linear) = &plan.policy {
            arena.send_map(0, &map_words(linear, linear.matrices(0), Life::First))?;
            if !linear.is_time_varying() {
                arena.send_map(1, &map_words(linear, linear.matrices(1), Life::Later))?;
            }
        }
        Ok(arena)
    }

    /// An arena on a CUDA device. Errors: a policy or a precision that the kernel does not have, no kernel compiler, a
    /// kernel that needs more shared memory than there is.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_cuda(plan: &MemoryPlan, device: &candle_core::CudaDevice) -> Result<Self> {
        Self::new(plan, cuda::THREADS, |numbers| Ok(Box::new(cuda::Cuda::new(device, numbers)?)))
    }

    /// Makes room for at least `slots` agents; grows by doubling.
    pub(crate) fn reserve(&mut self, plan: &MemoryPlan, slots: usize) -> Result<()> {
        if slots <= self.slots {
            return Ok(());
        }
        let slots = slots.next_power_of_two();
        self.processor.reserve(0, Buffer::States, slots * numbers::state_words(plan))?;
        self.processor.reserve(0, Buffer::Places, slots * numbers::places_words(plan).max(1))?;
        self.counters.resize(slots, Counters::default());
        self.slots = slots;
        Ok(())
    }

    /// Copies a slot to the host; blocks in their order.
    pub(crate) fn save(&mut self, plan: &MemoryPlan, slot: usize) -> Result<SlotState> {
        let (state_words, places_words) = (numbers::state_words(plan), numbers::places_words(plan));
        let (mut words, mut places) = (vec![0; state_words], vec![0; places_words]);
        self.processor.read(Buffer::States, slot * state_words, &mut words)?;
        self.processor.read(Buffer::Places, slot * places_words, &mut places)?;
        let mut rest = words.as_slice();
        let mut floats: Vec<Vec<f32>> = plan
            .float_lengths()
            .iter()
            .map(|length| {
                let (own, others) = rest.split_at(*length);
                rest = others;
                own.iter().map(|word| f32::from_bits(*word)).collect()
            })
            .collect();
        let (order, lengths) = places.split_at(places_words / 2);
        if let Policy::Blocks(blocks) = &plan.policy {
            floats[0] = blocks.sorted(&floats[0], order);
        }
        Ok(SlotState { counters: self.counters[slot], floats, lengths: lengths.to_vec() })
    }

    /// Copies a state into a slot.
    pub(crate) fn restore(&mut self, plan: &MemoryPlan, slot: usize, state: &SlotState) -> Result<()> {
        let (state_words, places_words) = (numbers::state_words(plan), numbers::places_words(plan));
        let mut words: Vec<u32> = state.floats.iter().flatten().map(|value| value.to_bits()).collect();
        words.resize(state_words, 0);
        self.processor.write(Buffer::States, slot * state_words, &words)?;
        if let Policy::Blocks(blocks) = &plan.policy {
            let places: Vec<u32> = blocks.in_order().chain(state.lengths.iter().copied()).collect();
            self.processor.write(Buffer::Places, slot * places_words, &places)?;
        }
        self.counters[slot] = state.counters;
        Ok(())
    }

    /// Empties a slot: nothing of the agent that had it is left.
    pub(crate) fn clear(&mut self, plan: &MemoryPlan, slot: usize) -> Result<()> {
        let (state_words, places_words) = (numbers::state_words(plan), numbers::places_words(plan));
        self.processor.clear(Buffer::States, slot * state_words, state_words)?;
        self.processor.clear(Buffer::Places, slot * places_words, places_words)?;
        if let Policy::Blocks(blocks) = &plan.policy {
            let order: Vec<u32> = blocks.in_order().collect();
            self.processor.write(Buffer::Places, slot * places_words, &order)?;
        }
        self.counters[slot] = Counters::default();
        Ok(())
    }

    fn has_many_maps(&self, plan: &MemoryPlan) -> bool {
        self.maps.len() * (plan.config.capacity + plan.config.chunk) * plan.config.capacity >= MAP_WORDS
    }

    /// Takes what the agents saw and answers what they ask, those whose steps are in order. What was taken leaves the
    /// steps, so that after an error it is known what was not.
    pub(crate) fn tick(&mut self, plan: &mut MemoryPlan, steps: &mut [AgentStep]) -> Result<()> {
        self.batch.clear();
        for at in 0..steps.len() {
            let step = &mut steps[at];
            step.answers.resize_with(step.queries.len(), Answer::default);
            step.answers.iter_mut().for_each(Answer::clear);
            if step.outcome.is_err() || (step.observations.is_empty() && step.queries.is_empty()) {
                continue;
            }
            if self.has_many_maps(plan) {
                self.run(plan, steps)?;
                self.maps.clear();
            }
            self.plan_turn(plan, at, &steps[at])?;
        }
        self.run(plan, steps)
    }

    /// Adds a step to the batch.
    fn plan_turn(&mut self, plan: &mut MemoryPlan, at: usize, step: &AgentStep) -> Result<()> {
        let mut after = self.counters[step.agent.slot()];
        step.observations.iter().for_each(|(tick, _)| {
            after.take(tick);
        });
        let from = self.batch.totals;
        while after.held as usize >= plan.short_term_rows() {
            if let Some(number) = self.map_after(plan, after.written / plan.config.chunk as u64)? {
                self.batch.writes.push(number);
            }
            after.advance(plan);
        }
        let totals = &mut self.batch.totals;
        totals.turns += 1;
        totals.observations += step.observations.len();
        totals.writes = self.batch.writes.len();
        totals.queries += step.queries.len();
        totals.constraints += step.queries.iter().map(|query| query.constraints().len()).sum::<usize>();
        self.batch.turns.push(Planned { step: at, from, after });
        Ok(())
    }

    /// Puts matrices on the device.
    fn send_map(&mut self, number: usize, words: &[u32]) -> Result<()> {
        self.processor.reserve(0, Buffer::Maps, (number + 1).next_power_of_two() * words.len())?;
        self.processor.write(Buffer::Maps, number * words.len(), words)
    }

    /// Under `Uniform`, the number of the matrices of a write that follows `chunks` earlier ones; otherwise the kernel
    /// knows it.
    fn map_after(&mut self, plan: &mut MemoryPlan, chunks: u64) -> Result<Option<u32>> {
        let linear = match &mut plan.policy {
            Policy::Linear(linear) if linear.is_time_varying() => linear,
            _ => return Ok(None),
        };
        if chunks == 0 {
            return Ok(Some(0));
        }
        if let Some(number) = self.maps.get(&chunks) {
            return Ok(Some(*number));
        }
        linear.prepare(std::iter::once(chunks));
        let words = map_words(linear, linear.matrices(chunks), Life::Later);
        let number = self.maps.len() + 1;
        self.send_map(number, &words)?;
        self.maps.insert(chunks, number as u32);
        Ok(Some(number as u32))
    }

    /// Runs the batch and hands out the answers.
    fn run(&mut self, plan: &MemoryPlan, steps: &mut [AgentStep]) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        let outcome = self.run_batch(plan, &batch, steps);
        if outcome.is_err() {
            self.processor.drain();
        }
        batch.clear();
        self.batch = batch;
        outcome
    }

    fn run_batch(&mut self, plan: &MemoryPlan, batch: &Batch, steps: &mut [AgentStep]) -> Result<()> {
        if batch.turns.is_empty() {
            return Ok(());
        }
        let width = plan.row_width();
        let peaks = numbers::most_peaks(plan);
        let launch = self.make_room(plan, 0, batch.totals, peaks)?;
        let (_, inputs) = self.processor.exchange(0, 0)?;
        let [turns, observations, writes, query_starts, channels, targets] = inputs;
        writes[..batch.writes.len()].copy_from_slice(&batch.writes);
        for (turn, planned) in turns.chunks_exact_mut(TURN).zip(&batch.turns) {
            let (step, from) = (&steps[planned.step], planned.from);
            let slot = step.agent.slot();
            let mut counters = self.counters[slot];
            let head = TurnHead {
                slot,
                observations: step.observations.len(),
                queries: step.queries.len(),
                late: step.tick.saturating_sub(planned.after.newest_tick),
                peaks: if step.queries.iter().any(has_peaks) { peaks } else { 0 },
            };
            turn.copy_from_slice(&head.words(from, &counters));
            let rows = observations[from.observations * width..].chunks_exact_mut(width);
            for ((tick, values), row) in step.observations.iter().zip(rows) {
                put_row(row, values, counters.take(tick));
            }
            let mut constraint = from.constraints;
            for (query, start) in step.queries.iter().zip(&mut query_starts[from.queries..]) {
                *start = constraint as u32;
                for own in query.constraints() {
                    channels[constraint] = own.channel as u32;
                    targets[constraint] = own.value.to_bits();
                    constraint += 1;
                }
            }
        }
        query_starts[batch.totals.queries] = batch.totals.constraints as u32;
        self.processor.launch(0, &launch)?;
        for planned in &batch.turns {
            let step = &mut steps[planned.step];
            self.counters[step.agent.slot()] = planned.after;
            step.observations.clear();
        }
        self.hand_out(plan, batch, steps)
    }

    /// Makes the buffers as long as a launch needs.
    fn make_room(&mut self, plan: &MemoryPlan, number: usize, totals: Totals, peaks: usize) -> Result<Launch> {
        use Buffer::*;
        let launch = totals.launch(plan.layout.width());
        let inputs = [Turns, Observations, Writes, QueryStarts, Channels, Targets].into_iter().zip(launch.inputs);
        let outputs = [(Answers, launch.answers), (Found, totals.queries * 2), (Peaks, launch.answers * peaks)];
        for (buffer, words) in inputs.chain(outputs) {
            self.processor.reserve(number, buffer, words)?;
        }
        Ok(launch)
    }

    fn hand_out(&mut self, plan: &MemoryPlan, batch: &Batch, steps: &mut [AgentStep]) -> Result<()> {
        let row = plan.layout.width() + 3;
        // Who has seen nothing was not answered.
        let answered = || batch.turns.iter().filter(|turn| turn.after.observations > 0);
        let (rows, _) = self.processor.exchange(0, batch.totals.queries * row)?;
        for turn in answered() {
            let rows = rows[turn.from.queries * row..].chunks_exact(row);
            for (answer, words) in steps[turn.step].answers.iter_mut().zip(rows) {
                [answer.age, answer.age_spread, answer.confidence] = floats(words);
                answer.value.extend(words[3..].iter().map(|word| f32::from_bits(*word)));
            }
        }
        if !batch.turns.iter().any(|turn| steps[turn.step].queries.iter().any(has_peaks)) {
            return Ok(());
        }
        let count = self.processor.receive(0, Buffer::Counter, 1)?[0] as usize;
        let found = self.processor.receive(0, Buffer::Found, batch.totals.queries * 2)?.to_vec();
        let peaks = self.processor.receive(0, Buffer::Peaks, count * row)?;
        for turn in answered() {
            let found = found[turn.from.queries * 2..].chunks_exact(2);
            let AgentStep { queries, answers, .. } = &mut steps[turn.step];
            let answers = queries.iter().zip(answers).zip(found).filter(|((query, _), _)| has_peaks(query));
            for ((_, answer), found) in answers {
                let (first, count) = (found[0] as usize, found[1] as usize);
                for words in peaks[first * row..(first + count) * row].chunks_exact(row) {
                    let [age, weight, confidence] = floats(words);
                    let value = answer.add_peak(age, weight, confidence);
                    value.iter_mut().zip(&words[3..]).for_each(|(value, word)| *value = f32::from_bits(*word));
                }
            }
        }
        Ok(())
    }
}

/// Whether the answer is to tell the peaks.
fn has_peaks(query: &Query) -> bool {
    query.detail() != AnswerDetail::Expectation
}

/// Which write of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    First,
    Later,
}

/// (A − I)ᵀ over Cᵀ \[N + L, N\]; the first write of a life has no past.
fn map_words(linear: &LinearPlan, matrices: &WriteMatrices, life: Life) -> Vec<u32> {
    let count = linear.basis.count();
    let (before, rows) = match life {
        Life::First => (count * count, &matrices.first),
        Life::Later => (0, &matrices.both),
    };
    let values = rows.values(0..rows.rows());
    std::iter::repeat_n(0, before).chain(values.into_iter().map(f32::to_bits)).collect()
}

/// As much of a count as a word holds.
fn countable(count: u64) -> u32 {
    count.min(u64::from(u32::MAX)) as u32
}

/// The first three of some words.
fn floats(words: &[u32]) -> [f32; 3] {
    [words[0], words[1], words[2]].map(f32::from_bits)
}

/// A row of observations: the channels and the interval.
fn put_row(row: &mut [u32], values: &[f32], interval: u64) {
    let (channels, last) = row.split_at_mut(values.len());
    channels.iter_mut().zip(values).for_each(|(word, value)| *word = value.to_bits());
    last[0] = (interval as f32).to_bits();
}
