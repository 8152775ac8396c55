//! A tick of many agents: what they saw is written, what they ask is answered.

use super::{AgentId, AgentStep, Engine, StepScratch};
use crate::crowd::{CrowdAnswers, CrowdStep, STRETCH};
use crate::error::{Error, Result};
use crate::query::{Answer, AnswerDetail, Query};
use crate::recall::recall;
use rayon::prelude::*;

/// Steps for which the state before a write is kept for an agent that somebody looked at.
const WATCHED_STEPS: u64 = 600;

/// Bytes of all living agents' state from which on it is fetched: less is at hand from the last tick.
const FETCHED_FROM: usize = 1 << 21;

/// Agents whose state is fetched from memory at once, before their turns: a long stream comes faster than many short
/// ones, and this much fits a core's own cache.
const FETCHED: usize = 32;

impl Engine {
    /// Takes every agent's observations, then answers every agent's queries. Each agent appears at most once.
    ///
    /// A step that cannot be taken says why in its `outcome` and changes nothing; the others are not touched by it.
    /// Errors: the tensor library failed.
    pub fn step(&mut self, steps: &mut [AgentStep]) -> Result<()> {
        self.check(steps);
        self.end_watch();
        if self.device.is_some() {
            self.take_on_device(steps)?
        } else if self.arena.is_batched() {
            self.take_batched(steps)?
        } else {
            self.take_each(steps)?
        }
        for step in steps {
            step.observations.clear();
            if step.outcome.is_err() {
                step.answers.clear();
            }
        }
        Ok(())
    }

    /// Takes what each agent of a crowd sees, then answers what all of them ask: [`Engine::step`] on flat arrays, without
    /// peaks.
    ///
    /// Errors refuse the whole step, and nothing has changed then: an unknown agent, agents that are not in the order of
    /// their slots, an array of the wrong length, a value that cannot be remembered, an earlier tick. Where the tensor library
    /// or the device fails, the first agents may have seen what they saw: [`Engine::observations`] tells.
    pub fn step_crowd(&mut self, step: &CrowdStep, answers: &mut CrowdAnswers) -> Result<()> {
        self.check_crowd(step)?;
        self.steps += 1;
        self.end_watch();
        let width = self.layout.width();
        if step.agents.is_empty() {
            answers.start(3 + width);
            return Ok(());
        }
        if let Some(watched) = self.watched.as_ref().map(|watched| watched.slot)
            && self.device.is_some()
            && step.agents.binary_search_by_key(&watched, |agent| agent.slot()).is_ok()
        {
            self.watch_before(watched, 1)?;
        }
        if let Some(device) = &mut self.device {
            return device.tick_crowd(&mut self.plan, step, answers);
        }
        answers.start(3 + width);
        let mut own = AgentStep::new(AgentId { slot: 0, generation: 0 }, self.layout.clone(), 2);
        if !step.channels.is_empty() {
            own.queries.push(Query::new().with_detail(AnswerDetail::Expectation));
        }
        own.tick = step.tick;
        let is_far = self.is_far();
        for (at, agent) in step.agents.iter().enumerate() {
            if is_far && at % FETCHED == 0 {
                let next = step.agents[at..].iter().take(FETCHED);
                self.arena.fetch(&self.plan, next.map(|next| next.slot()));
            }
            own.agent = *agent;
            own.observations.clear();
            own.observations.push(step.tick, &step.observations[at * width..(at + 1) * width])?;
            let targets = step.targets.chunks_exact(step.channels.len().max(1)).nth(at).unwrap_or_default();
            for query in &mut own.queries {
                let constraints = step.channels.iter().zip(targets);
                constraints.for_each(|(channel, target)| query.constrain(*channel, *target));
            }
            if self.arena.is_batched() {
                self.take_batched(std::slice::from_mut(&mut own))?;
            } else {
                self.take(&mut own)?;
            }
            for answer in &own.answers {
                answers.push([answer.age, answer.age_spread, answer.confidence], &answer.value);
            }
        }
        Ok(())
    }

    fn check_crowd(&self, step: &CrowdStep) -> Result<()> {
        let (sound, outcome) = rayon::join(|| step.check(&self.layout), || self.check_crowd_agents(step));
        sound.and(outcome)
    }

    fn check_crowd_agents(&self, step: &CrowdStep) -> Result<()> {
        let check = |before: Option<&AgentId>, agent: &AgentId| {
            let counters = self.counters(self.slot(*agent)?);
            if before.is_some_and(|before| before.slot >= agent.slot) {
                return Err(Error::CrowdOrder { agent: agent.to_string() });
            }
            if counters.observations > 0 && step.tick < counters.newest_tick {
                return Err(Error::TickOrder { newest: counters.newest_tick, found: step.tick });
            }
            Ok(())
        };
        step.agents.par_chunks(STRETCH).enumerate().try_for_each(|(stretch, agents)| {
            let first = stretch * STRETCH;
            let before = first.checked_sub(1).map(|at| &step.agents[at]);
            check(before, &agents[0])?;
            agents.windows(2).try_for_each(|pair| check(Some(&pair[0]), &pair[1]))
        })
    }

    fn check(&mut self, steps: &mut [AgentStep]) {
        self.steps += 1;
        for step in steps {
            step.outcome = self.check_step(step);
            if step.outcome.is_ok() {
                self.slots[step.agent.slot()].step = self.steps;
            }
        }
    }

    fn check_step(&self, step: &AgentStep) -> Result<()> {
        let slot = self.slot(step.agent)?;
        if self.slots[slot].step == self.steps {
            return Err(Error::Repeated { agent: step.agent.to_string() });
        }
        self.layout.check_queue(step.observations.layout())?;
        let counters = self.counters(slot);
        if let Some((found, _)) = step.observations.get(0)
            && counters.observations > 0
            && found < counters.newest_tick
        {
            return Err(Error::TickOrder { newest: counters.newest_tick, found });
        }
        step.queries.iter().try_for_each(|query| query.check(&self.layout))
    }

    /// Agent by agent: what it saw, then what it asks, while its state is at hand.
    fn take_each(&mut self, steps: &mut [AgentStep]) -> Result<()> {
        let is_far = self.is_far();
        for at in 0..steps.len() {
            if at % FETCHED == 0 {
                let next = steps[at..].iter().take(FETCHED).filter(|next| next.outcome.is_ok());
                next.clone().for_each(AgentStep::fetch);
                if is_far {
                    self.arena.fetch(&self.plan, next.map(|next| next.agent.slot()));
                }
            }
            if steps[at].outcome.is_ok() {
                self.take(&mut steps[at])?;
            }
        }
        Ok(())
    }

    /// Whether the agents' state is more than stays in a cache from one tick to the next.
    fn is_far(&self) -> bool {
        self.slots.len() * self.plan.bytes_per_agent() > FETCHED_FROM
    }

    /// One agent: what it saw, then what it asks.
    fn take(&mut self, step: &mut AgentStep) -> Result<()> {
        let slot = step.agent.slot();
        // A ring may be full already, where an earlier step failed between filling and writing it.
        if self.arena.is_full(&self.plan, slot) {
            self.write(slot)?;
        }
        for (tick, values) in step.observations.iter() {
            self.arena.observe(&self.plan, slot, tick, values);
            if self.arena.is_full(&self.plan, slot) {
                self.write(slot)?;
            }
        }
        // From here on it is remembered: whatever fails later, it is not lost, nor seen twice.
        step.observations.clear();
        self.answer(std::slice::from_mut(step))
    }

    fn write(&mut self, slot: usize) -> Result<()> {
        self.watch(&[slot])?;
        self.arena.write(&mut self.plan, slot);
        Ok(())
    }

    /// Round by round: every agent pushes until its ring is full, then all full rings are written in one product.
    fn take_batched(&mut self, steps: &mut [AgentStep]) -> Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let StepScratch { taken, due, chunks, .. } = &mut scratch;
        taken.clear();
        taken.resize(steps.len(), 0);
        loop {
            due.clear();
            for (step, taken) in steps.iter().zip(taken.iter_mut()).filter(|(step, _)| step.outcome.is_ok()) {
                let slot = step.agent.slot();
                while !self.arena.is_full(&self.plan, slot) {
                    let Some((tick, values)) = step.observations.get(*taken) else { break };
                    self.arena.observe(&self.plan, slot, tick, values);
                    *taken += 1;
                }
                if self.arena.is_full(&self.plan, slot) {
                    due.push(slot);
                }
            }
            if due.is_empty() {
                break;
            }
            self.watch(due)?;
            self.arena.write_batch(&mut self.plan, due, chunks)?;
        }
        self.scratch = scratch;
        self.answer(steps)
    }

    /// All agents at once, on the device where their state is.
    fn take_on_device(&mut self, steps: &mut [AgentStep]) -> Result<()> {
        let watched = self.watched.as_ref().map(|watched| watched.slot);
        let own = steps.iter().find(|step| step.outcome.is_ok() && Some(step.agent.slot()) == watched);
        if let Some((slot, seen)) = own.map(|step| (step.agent.slot(), step.observations.len())) {
            self.watch_before(slot, seen)?;
        }
        if let Some(device) = &mut self.device {
            device.tick(&mut self.plan, steps)?;
        }
        // Whole densities are for people to see, and few: they are answered from a copy.
        for step in steps.iter_mut().filter(|step| step.outcome.is_ok()) {
            let whole = |query: &Query| query.detail() == AnswerDetail::Density;
            if !step.queries.iter().any(whole) {
                continue;
            }
            let slot = self.at_hand(step.agent.slot())?;
            let scratch = &mut self.scratch.recall;
            self.arena.read(&self.plan, &[slot], |_, agent, _| {
                for (query, answer) in step.queries.iter().zip(&mut step.answers).filter(|(query, _)| whole(query)) {
                    recall(&agent, query, step.tick, scratch, answer);
                }
            })?;
        }
        Ok(())
    }

    /// Nobody looks any more: watching ends.
    fn end_watch(&mut self) {
        self.watched = self.watched.take().filter(|watched| self.steps - watched.step < WATCHED_STEPS);
    }

    /// Keeps the state of a watched slot, if so many observations more will be written.
    fn watch_before(&mut self, slot: usize, seen: usize) -> Result<()> {
        if self.counters(slot).held as usize + seen >= self.plan.short_term_rows() {
            self.watch(&[slot])?;
        }
        Ok(())
    }

    /// Keeps the state before a write, if somebody looks at the agent.
    fn watch(&mut self, due: &[usize]) -> Result<()> {
        let watched = self.watched.as_ref().map(|watched| watched.slot).filter(|slot| due.contains(slot));
        if let Some(slot) = watched {
            let before = self.save_slot(slot)?;
            if let Some(watched) = &mut self.watched {
                watched.before = Some(before);
            }
        }
        Ok(())
    }

    fn answer(&mut self, steps: &mut [AgentStep]) -> Result<()> {
        let StepScratch { slots, askers, recall: scratch, .. } = &mut self.scratch;
        slots.clear();
        askers.clear();
        for (i, step) in steps.iter_mut().enumerate() {
            step.answers.resize_with(step.queries.len(), Answer::default);
            if !step.queries.is_empty() && step.outcome.is_ok() {
                slots.push(step.agent.slot());
                askers.push(i);
            }
        }
        if slots.is_empty() {
            return Ok(());
        }
        self.arena.read(&self.plan, slots, |position, agent, histogram| {
            let step = &mut steps[askers[position]];
            for (query, answer) in step.queries.iter().zip(&mut step.answers) {
                recall(&agent, query, step.tick, scratch, answer);
                scratch.add_to_histogram(&agent, histogram);
            }
        })
    }
}
