//! Many agents under one model: their states in one arena, their ticks in one batch.

use crate::channels::ChannelLayout;
use crate::engine::{AgentId, AgentStep, LoadedClock};
use crate::error::{Error, Result};
use crate::model::product::MOST_ROWS;
use crate::model::{Model, ModelState};
use crate::query::DensityCell;
use candle_core::{DType, Tensor};
use std::sync::Arc;

/// Agents whose states are copied out and back at once on the CPU: they stay in a core's own cache meanwhile. Fewer where
/// they have many heads, so that every product stays a small one, whose bits do not depend on who else is there.
const TOGETHER: usize = 32;

/// What a model made of an agent's newest observation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelAnswer {
    /// One vector a head, in the order of the configuration; empty where nothing was observed.
    pub heads: Vec<Vec<f32>>,
    /// What the last layer read from its long-term memory \[d\]; empty without one.
    pub readout: Vec<f32>,
    /// Where the last layer looked in its long-term memory, the mean over its heads; empty before anything is in it, and
    /// where the density is not one of cells.
    pub density: Vec<DensityCell>,
}

impl ModelAnswer {
    /// Empties the answer.
    pub fn clear(&mut self) {
        self.heads.clear();
        self.readout.clear();
        self.density.clear();
    }
}

/// The states of many agents that share a model.
#[derive(Debug)]
pub struct ModelEngine {
    model: Arc<Model>,
    /// A member a slot; `None` while there is no slot.
    states: Option<ModelState>,
    slots: Vec<Slot>,
    /// Steps so far.
    steps: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    generation: u32,
    living: bool,
    newest_tick: u64,
    /// Number of the last step that the agent was part of.
    step: u64,
}

impl ModelEngine {
    /// An engine without agents.
    pub fn new(model: Arc<Model>) -> Self {
        Self { model, states: None, slots: vec![], steps: 0 }
    }

    /// The model that all agents share.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What an observation is made of.
    pub fn layout(&self) -> &Arc<ChannelLayout> {
        self.model.layout()
    }

    /// Adds an agent that has seen nothing.
    pub fn spawn(&mut self) -> Result<AgentId> {
        let free = self.slots.iter().position(|slot| !slot.living);
        let slot = free.unwrap_or(self.slots.len());
        let generation = self.slots.get(slot).map_or(0, |slot| slot.generation + 1);
        self.spawn_as(AgentId { slot: slot as u32, generation })
    }

    pub(crate) fn spawn_as(&mut self, agent: AgentId) -> Result<AgentId> {
        let slot = agent.slot();
        let had = self.states.as_ref().map_or(0, ModelState::batch);
        if slot >= had {
            let more = self.model.empty_state((slot + 1).next_power_of_two() - had)?;
            self.states = Some(match &self.states {
                // Tensors of their own: slots are written in place.
                Some(states) => states.join(&more)?,
                None => more.owned()?,
            });
        } else {
            self.empty(slot)?;
        }
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, Slot { generation: 0, living: false, newest_tick: 0, step: 0 });
        }
        self.slots[slot] = Slot { generation: agent.generation, living: true, newest_tick: 0, step: 0 };
        Ok(agent)
    }

    /// Removes an agent; its slot is emptied before anyone else gets it.
    pub fn remove(&mut self, agent: AgentId) -> Result<()> {
        let slot = self.slot(agent)?;
        self.slots[slot].living = false;
        Ok(())
    }

    /// Begins an agent's episode anew.
    pub fn reset(&mut self, agent: AgentId) -> Result<()> {
        let slot = self.slot(agent)?;
        self.slots[slot].newest_tick = 0;
        self.empty(slot)
    }

    fn empty(&mut self, slot: usize) -> Result<()> {
        let empty = self.model.empty_state(1)?;
        match &mut self.states {
            Some(states) => states.put(&[slot], &empty),
            None => Ok(()),
        }
    }

    /// Takes every agent's observations, in the order of their ticks, and fills in what the model makes of the newest.
    ///
    /// A step that cannot be taken says why in its `outcome` and changes nothing. Errors: the tensor library failed;
    /// where that was before the new states were put back, all states are as before.
    pub fn step(&mut self, steps: &mut [AgentStep]) -> Result<()> {
        self.steps += 1;
        for step in steps.iter_mut() {
            step.model.clear();
            step.answers.clear();
            step.outcome = self.check(step);
            if step.outcome.is_ok() {
                self.slots[step.agent.slot()].step = self.steps;
            }
        }
        let seeing = |step: &&mut AgentStep| step.outcome.is_ok() && !step.observations.is_empty();
        let mut seeing: Vec<&mut AgentStep> = steps.iter_mut().filter(seeing).collect();
        let together = self.together();
        seeing.chunks_mut(together).try_for_each(|steps| self.advance(steps))?;
        steps.iter_mut().for_each(|step| step.observations.clear());
        Ok(())
    }

    fn together(&self) -> usize {
        let heads = self.model.config().attention_heads.max(1);
        if self.model.device().is_cpu() { TOGETHER.min(MOST_ROWS / heads).max(1) } else { usize::MAX }
    }

    /// Takes what some agents saw, in one batch. If that fails, none of them has seen it.
    fn advance(&mut self, steps: &mut [&mut AgentStep]) -> Result<()> {
        let Some(states) = &mut self.states else { return Ok(()) };
        let places: Vec<usize> = steps.iter().map(|step| step.agent.slot()).collect();
        let after = advance(&self.model, states.select(&places)?, steps);
        if let Err(error) = after.and_then(|after| states.put(&places, &after)) {
            steps.iter_mut().for_each(|step| step.model.clear());
            return Err(error);
        }
        for step in steps {
            if let Some((tick, _)) = step.observations.iter().last() {
                self.slots[step.agent.slot()].newest_tick = tick;
            }
            step.observations.clear();
        }
        Ok(())
    }

    fn check(&self, step: &AgentStep) -> Result<()> {
        let slot = self.slot(step.agent)?;
        self.model.layout().check_queue(step.observations.layout())?;
        if self.slots[slot].step == self.steps {
            return Err(Error::Repeated { agent: step.agent.to_string() });
        }
        if !step.queries.is_empty() {
            return Err(Error::QueryOfModel);
        }
        if let Some((found, _)) = step.observations.get(0)
            && found < self.slots[slot].newest_tick
        {
            return Err(Error::TickOrder { newest: self.slots[slot].newest_tick, found });
        }
        Ok(())
    }

    /// Checks the agents of a step that failed half-way and empties those whose state is no number any more.
    pub(crate) fn mend(&mut self, steps: &mut [AgentStep]) -> Result<()> {
        for step in steps {
            let (Ok(slot), Some(states)) = (self.slot(step.agent), &self.states) else { continue };
            if !states.select(&[slot])?.is_finite()? {
                self.empty(slot)?;
                step.outcome = Err(Error::Damaged { agent: step.agent.to_string() });
            }
        }
        Ok(())
    }

    /// One agent's state as bytes.
    pub fn save(&self, agent: AgentId) -> Result<Vec<u8>> {
        let slot = self.slot(agent)?;
        match &self.states {
            Some(states) => states.select(&[slot])?.encode(Some(self.slots[slot].newest_tick)),
            None => Err(Error::UnknownAgent { agent: agent.to_string() }),
        }
    }

    /// Puts a saved state in place of an agent's own. Errors say why bytes are refused; the state is then as before.
    pub fn load(&mut self, agent: AgentId, bytes: &[u8], clock: LoadedClock) -> Result<()> {
        let slot = self.slot(agent)?;
        let (loaded, saved_tick) = ModelState::decode(bytes, &self.model)?;
        loaded.check_batch(1)?;
        match &mut self.states {
            Some(states) => states.put(&[slot], &loaded)?,
            None => return Err(Error::UnknownAgent { agent: agent.to_string() }),
        }
        self.slots[slot].newest_tick = match clock {
            // A state of training knows no ticks: any may follow.
            LoadedClock::Kept => saved_tick.unwrap_or(0),
            LoadedClock::NewestAt(tick) => tick,
        };
        Ok(())
    }

    fn slot(&self, agent: AgentId) -> Result<usize> {
        match self.slots.get(agent.slot()) {
            Some(slot) if slot.living && slot.generation == agent.generation => Ok(agent.slot()),
            _ => Err(Error::UnknownAgent { agent: agent.to_string() }),
        }
    }
}

/// The states of `steps`, one a member, after all their observations; each step gets what the model makes of its newest.
///
/// The tensors of `states` are nobody else's: members that take more rounds than others are written in place.
fn advance(model: &Model, mut states: ModelState, steps: &mut [&mut AgentStep]) -> Result<ModelState> {
    let host = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.to_vec2::<f32>();
    for round in 0.. {
        let due: Vec<usize> = (0..steps.len()).filter(|at| round < steps[*at].observations.len()).collect();
        if due.is_empty() {
            break;
        }
        let seen = due.iter().filter_map(|at| steps[*at].observations.get(round));
        let seen: Vec<f32> = seen.flat_map(|(_, values)| values.iter().copied()).collect();
        let x = Tensor::from_vec(seen, (due.len(), model.layout().width()), model.device())?;
        let all = due.len() == steps.len();
        let (outputs, after) = if all { model.step(&x, &states)? } else { model.step(&x, &states.select(&due)?)? };
        let looked = outputs.looked.as_ref().map(host).transpose()?;
        let densities: Vec<Vec<DensityCell>> =
            looked.iter().flatten().enumerate().map(|(row, looked)| model.density(looked, &after, row)).collect();
        if all {
            states = after.detach();
        } else {
            states.put(&due, &after.detach())?;
        }
        let mut densities = densities.into_iter();
        let heads = outputs.heads.iter().map(host).collect::<candle_core::Result<Vec<_>>>()?;
        let readout = outputs.readout.as_ref().map(host).transpose()?;
        for (row, at) in due.iter().enumerate() {
            let answer = &mut steps[*at].model;
            answer.clear();
            answer.heads.extend(heads.iter().map(|head| head[row].clone()));
            answer.density = densities.next().unwrap_or_default();
            answer.readout = readout.as_ref().map_or_else(Vec::new, |readout| readout[row].clone());
        }
    }
    Ok(states)
}
