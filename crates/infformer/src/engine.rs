//! The engine: takes what many agents saw and asked at one tick, writes and answers in one batch.

mod agent_step;
mod tick;
mod saving;

pub use agent_step::{AgentId, AgentStep};
pub use saving::LoadedClock;

use crate::arena::{Execution, SlotState, StateArena};
use crate::blocks::cover;
use crate::channels::ChannelLayout;
use crate::config::MemoryConfig;
use crate::device::DeviceArena;
use crate::error::{Error, Result};
use crate::plan::{Counters, MemoryPlan};
use crate::recall::RecallScratch;
use crate::view::{self, MemoryView, ViewRequest};
use candle_core::Device;
use std::sync::Arc;

/// The memories of many agents of one kind.
#[derive(Debug)]
pub struct Engine {
    plan: MemoryPlan,
    layout: Arc<ChannelLayout>,
    fingerprint: u64,
    /// All state, or, where it lives on a device, the one slot that somebody looks at.
    arena: StateArena,
    device: Option<DeviceArena>,
    /// Where the state is.
    home: Device,
    slots: Vec<SlotUse>,
    free: Vec<u32>,
    scratch: StepScratch,
    watched: Option<view::Watched>,
    /// Steps so far.
    steps: u64,
}

#[derive(Debug, Clone, Copy)]
struct SlotUse {
    generation: u32,
    living: bool,
    /// Number of the last step that the agent was part of.
    step: u64,
}

/// Buffers of a step, kept from one to the next.
#[derive(Debug, Default)]
struct StepScratch {
    taken: Vec<usize>,
    due: Vec<usize>,
    chunks: Vec<f32>,
    slots: Vec<usize>,
    askers: Vec<usize>,
    recall: RecallScratch,
}

impl Engine {
    /// An engine without agents. Errors: an invalid configuration, a policy or a precision that the device cannot run, a
    /// device that has no compiler for the kernel or too little memory for it.
    ///
    /// What a device remembers is lost with the device: a fault on a GPU ends all that the program has there.
    pub fn new(config: &MemoryConfig, device: &Device) -> Result<Self> {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => Self::on_device(config, device, |plan| DeviceArena::on_cuda(plan, cuda)),
            Device::Cpu => Self::with_execution(config, device, Execution::Host),
            _ => Self::with_execution(config, device, Execution::Tensors),
        }
    }

    /// An engine whose state lives where `start` puts it.
    #[cfg(any(feature = "cuda", test))]
    pub(crate) fn on_device(
        config: &MemoryConfig,
        device: &Device,
        start: impl FnOnce(&MemoryPlan) -> Result<DeviceArena>,
    ) -> Result<Self> {
        let mut engine = Self::with_execution(config, &Device::Cpu, Execution::Host)?;
        engine.home = device.clone();
        engine.arena.reserve(&engine.plan, 1)?;
        engine.device = Some(start(&engine.plan)?);
        Ok(engine)
    }

    pub(crate) fn with_execution(config: &MemoryConfig, device: &Device, execution: Execution) -> Result<Self> {
        let plan = MemoryPlan::new(config)?;
        let arena = StateArena::new(&plan, device, execution)?;
        Ok(Self {
            home: device.clone(),
            device: None,
            layout: Arc::new(plan.layout.clone()),
            fingerprint: config.fingerprint()?,
            plan,
            arena,
            slots: vec![],
            free: vec![],
            scratch: StepScratch::default(),
            watched: None,
            steps: 0,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &MemoryConfig {
        &self.plan.config
    }

    /// What an observation is made of.
    pub fn layout(&self) -> &Arc<ChannelLayout> {
        &self.layout
    }

    /// Takes the very layout that queues from elsewhere have, an equal one: it is then compared at a glance.
    pub(crate) fn share_layout(mut self, layout: &Arc<ChannelLayout>) -> Self {
        self.layout = layout.clone();
        self
    }

    /// Where the signals are kept.
    pub fn device(&self) -> &Device {
        &self.home
    }

    /// Moves every memory to another device; agents keep their ids. Errors: as [`Engine::new`]; nothing has moved then.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        if self.home.same_device(device) {
            return Ok(());
        }
        let mut there = Self::new(&self.plan.config, device)?;
        let living: Vec<AgentId> = self.living().collect();
        // Room for all at once, not by doubling.
        if let Some(last) = living.last() {
            there.reserve(last.slot() + 1)?;
        }
        for agent in living {
            let state = self.save_slot(agent.slot())?;
            there.restore_slot(agent.slot(), &state)?;
        }
        (there.slots, there.free) = (std::mem::take(&mut self.slots), std::mem::take(&mut self.free));
        there.steps = self.steps;
        there.layout = self.layout.clone();
        *self = there;
        Ok(())
    }

    /// Bytes of state an agent, all of it. It does not grow with history.
    pub fn bytes_per_agent(&self) -> usize {
        self.plan.bytes_per_agent()
    }

    /// Living agents.
    pub fn agents(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Adds an agent with an empty memory.
    pub fn spawn(&mut self) -> Result<AgentId> {
        let slot = self.free.last().copied().unwrap_or(self.slots.len() as u32);
        let generation = self.slots.get(slot as usize).map_or(0, |slot| slot.generation + 1);
        self.spawn_as(AgentId { slot, generation })
    }

    /// Adds an agent under an id that the caller chose: a slot that is free, or the next one.
    pub(crate) fn spawn_as(&mut self, agent: AgentId) -> Result<AgentId> {
        let slot = agent.slot as usize;
        self.reserve(slot + 1)?;
        self.forget_watched(slot);
        self.clear_slot(slot)?;
        while self.slots.len() <= slot {
            self.free.push(self.slots.len() as u32);
            self.slots.push(SlotUse { generation: 0, living: false, step: 0 });
        }
        self.free.retain(|free| *free != agent.slot);
        self.slots[slot] = SlotUse { generation: agent.generation, living: true, step: 0 };
        Ok(agent)
    }

    /// Removes an agent; its slot is emptied before anyone else gets it.
    pub fn remove(&mut self, agent: AgentId) -> Result<()> {
        let slot = self.slot(agent)?;
        self.slots[slot].living = false;
        self.free.push(agent.slot);
        Ok(())
    }

    /// Empties an agent's memory.
    pub fn reset(&mut self, agent: AgentId) -> Result<()> {
        let slot = self.slot(agent)?;
        self.forget_watched(slot);
        self.clear_slot(slot)
    }

    /// A look at a slot must not tell of what was in it before.
    fn forget_watched(&mut self, slot: usize) {
        self.watched = self.watched.take().filter(|watched| watched.slot != slot);
    }

    /// Observations ever pushed by an agent.
    pub fn observations(&self, agent: AgentId) -> Result<u64> {
        Ok(self.counters(self.slot(agent)?).observations)
    }

    fn reserve(&mut self, slots: usize) -> Result<()> {
        match &mut self.device {
            Some(device) => device.reserve(&self.plan, slots),
            None => self.arena.reserve(&self.plan, slots),
        }
    }

    fn counters(&self, slot: usize) -> &Counters {
        match &self.device {
            Some(device) => &device.counters[slot],
            None => &self.arena.counters[slot],
        }
    }

    fn save_slot(&mut self, slot: usize) -> Result<SlotState> {
        match &mut self.device {
            Some(device) => device.save(&self.plan, slot),
            None => self.arena.save(&self.plan, slot),
        }
    }

    fn restore_slot(&mut self, slot: usize, state: &SlotState) -> Result<()> {
        match &mut self.device {
            Some(device) => device.restore(&self.plan, slot, state),
            None => self.arena.restore(&self.plan, slot, state),
        }
    }

    fn clear_slot(&mut self, slot: usize) -> Result<()> {
        match &mut self.device {
            Some(device) => device.clear(&self.plan, slot),
            None => self.arena.restore(&self.plan, slot, &SlotState::empty(&self.plan)),
        }
    }

    /// The slot of the host's arena that holds the state of a slot, which is copied there if it lives on a device.
    fn at_hand(&mut self, slot: usize) -> Result<usize> {
        if let Some(device) = &mut self.device {
            let state = device.save(&self.plan, slot)?;
            self.arena.restore(&self.plan, 0, &state)?;
            return Ok(0);
        }
        Ok(slot)
    }

    /// What an agent remembers, laid out for people to see. Errors: an unknown agent, an invalid query.
    pub fn view(&mut self, agent: AgentId, request: &ViewRequest) -> Result<MemoryView> {
        let slot = self.slot(agent)?;
        if let Some(query) = &request.query {
            query.check(&self.layout)?;
        }
        let watched = self.watched.take().filter(|watched| watched.slot == slot);
        let before = watched.and_then(|watched| watched.before);
        let at_hand = self.at_hand(slot)?;
        let view = view::look(
            &mut self.arena,
            &self.plan,
            self.layout.clone(),
            at_hand,
            request,
            before.as_ref(),
            &mut self.scratch.recall,
        )?;
        self.watched = Some(view::Watched { slot, before, step: self.steps });
        Ok(view)
    }

    /// The signal's values \[d\] for an observation `age` (0: the newest) of the *long-term* signal, `None` where
    /// there is nothing that old.
    pub fn signal_at(&mut self, agent: AgentId, age: f64) -> Result<Option<Vec<f32>>> {
        let slot = self.slot(agent)?;
        let slot = self.at_hand(slot)?;
        let mut value = None;
        self.arena.read(&self.plan, &[slot], |_, agent, _| value = view::signal_at(&agent, age))?;
        Ok(value)
    }

    /// The long-term state of an agent as stored: B \[N, d + 1\] row by row, its last column the interval (ticks an
    /// observation); under `Adaptive` the blocks' means, group by group.
    pub fn coefficients(&mut self, agent: AgentId) -> Result<Vec<f32>> {
        let slot = self.slot(agent)?;
        let state = self.save_slot(slot)?;
        Ok(self.plan.row_by_row(&state.floats[0]))
    }

    /// The living agents, by slot.
    pub fn living(&self) -> impl Iterator<Item = AgentId> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.living);
        slots.map(|(at, slot)| AgentId { slot: at as u32, generation: slot.generation })
    }

    /// Checks the agents of a step that failed half-way and empties those whose state makes no sense any more.
    pub(crate) fn mend(&mut self, steps: &mut [AgentStep]) -> Result<()> {
        for step in steps {
            let Ok(slot) = self.slot(step.agent) else { continue };
            let state = self.save_slot(slot)?;
            let finite = state.floats.iter().flatten().all(|value| value.is_finite());
            let whole = |lengths: &[u32]| cover(lengths, state.counters.written);
            if !finite || !state.lengths.chunks_exact(self.plan.config.capacity + 1).all(whole) {
                self.clear_slot(slot)?;
                step.outcome = Err(Error::Damaged { agent: step.agent.to_string() });
            }
        }
        Ok(())
    }

    fn slot(&self, agent: AgentId) -> Result<usize> {
        match self.slots.get(agent.slot as usize) {
            Some(slot) if slot.living && slot.generation == agent.generation => Ok(agent.slot as usize),
            _ => Err(Error::UnknownAgent { agent: agent.to_string() }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::basis::BasisKind;
    use crate::channels::{ChannelGroup, Scale};
    use crate::crowd::{CrowdAnswers, CrowdStep};
    use crate::forgetting::{Forgetting, Projection};
    use crate::query::Query;

    /// What a GPU would run, here on the CPU: one product over all full chunks, beside the kernels of the host.
    #[test]
    fn tensor_operations_write_what_the_kernels_write() {
        let groups = vec![ChannelGroup::new("g", &["x", "y"], "", Scale::Given(1.0))];
        let geometric =
            Forgetting::Geometric { tau: 0.75, basis: BasisKind::Cosine, projection: Projection::default() };
        for forgetting in [geometric, MemoryConfig::trajectory(vec![]).forgetting, Forgetting::Uniform] {
            let config =
                MemoryConfig { forgetting, capacity: 12, chunk: 5, ..MemoryConfig::trajectory(groups.clone()) };
            let mut engines = [Execution::Host, Execution::Tensors]
                .map(|execution| Engine::with_execution(&config, &Device::Cpu, execution).unwrap());
            let mut heard = vec![];
            for engine in &mut engines {
                let mut steps: Vec<AgentStep> =
                    (0..6).map(|_| AgentStep::new(engine.spawn().unwrap(), engine.layout().clone(), 8)).collect();
                for tick in 0..120_u64 {
                    for (agent, step) in steps.iter_mut().enumerate() {
                        step.tick = tick;
                        // Chunks fill at different ticks, so that batches differ in their members and in their age.
                        if tick % (agent as u64 + 1) == 0 {
                            let seen = [(tick as f32 * 0.1 + agent as f32).sin(), agent as f32];
                            step.observations.push(tick, &seen).unwrap();
                        }
                        step.queries = vec![Query::from_masked(&[Some(0.5), None])];
                    }
                    engine.step(&mut steps).unwrap();
                }
                let agents: Vec<AgentId> = engine.living().collect();
                let signals = agents.into_iter().flat_map(|agent| engine.coefficients(agent).unwrap());
                heard.push((signals.collect::<Vec<f32>>(), steps[2].answers[0].value.clone()));
            }
            // Sums of 17 products in another order, over 24 writes.
            let close = |a: &[f32], b: &[f32]| {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + a.abs()))
            };
            assert!(close(&heard[0].0, &heard[1].0) && close(&heard[0].1, &heard[1].1), "{:?}", config.forgetting);
        }
        let adaptive = Engine::with_execution(&MemoryConfig::events(groups), &Device::Cpu, Execution::Tensors);
        assert!(matches!(adaptive, Err(Error::Device { policy: "Adaptive", .. })));
    }

    /// A crowd on a device without kernels of its own, here by tensor operations: as on the host.
    #[test]
    fn tensor_operations_take_crowds() {
        let groups = vec![ChannelGroup::new("g", &["x", "y"], "", Scale::Given(1.0))];
        let config = MemoryConfig { capacity: 8, chunk: 3, ..MemoryConfig::trajectory(groups) };
        let heard = [Execution::Host, Execution::Tensors].map(|execution| {
            let mut engine = Engine::with_execution(&config, &Device::Cpu, execution).unwrap();
            let agents: Vec<AgentId> = (0..3).map(|_| engine.spawn().unwrap()).collect();
            let mut answers = CrowdAnswers::default();
            for tick in 0..40 {
                let observations: Vec<f32> = (0..6).map(|i| (tick as f32 * 0.2 + i as f32).sin()).collect();
                let (channels, targets) = (&[1], &[0.1, 0.2, 0.3]);
                let step = CrowdStep { agents: &agents, tick, observations: &observations, channels, targets };
                engine.step_crowd(&step, &mut answers).unwrap();
            }
            let signals = agents.iter().flat_map(|agent| engine.coefficients(*agent).unwrap()).collect::<Vec<f32>>();
            (signals, answers.get(2).unwrap().value.to_vec())
        });
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + a.abs()));
        // Sums of 11 products in another order, over some ten writes.
        assert!(close(&heard[0].0, &heard[1].0) && close(&heard[0].1, &heard[1].1), "{heard:?}");
        assert!(heard[0].0.iter().any(|coefficient| coefficient.abs() > 0.01));
    }

    /// A step that fails between filling a ring and writing it: after it the memory is as if nothing had happened.
    #[test]
    fn a_ring_left_full_is_written_with_the_next_step() {
        let groups = vec![ChannelGroup::new("g", &["x"], "", Scale::Given(1.0))];
        for config in [MemoryConfig::events(groups.clone()), MemoryConfig::trajectory(groups.clone())] {
            let life = |fails_at: Option<u64>| {
                let mut engine = Engine::new(&config, &Device::Cpu).unwrap();
                let mut step = AgentStep::new(engine.spawn().unwrap(), engine.layout().clone(), 8);
                for tick in 0..100 {
                    let full = engine.arena.counters[0].held as usize + 1 == engine.plan.short_term_rows();
                    if fails_at.is_some_and(|at| tick >= at) && full {
                        // What a failing step leaves behind: observed, not written.
                        engine.arena.observe(&engine.plan, 0, tick, &[tick as f32]);
                        engine.mend(std::slice::from_mut(&mut step)).unwrap();
                        continue;
                    }
                    step.observations.push(tick, &[tick as f32]).unwrap();
                    engine.step(std::slice::from_mut(&mut step)).unwrap();
                }
                engine.step(std::slice::from_mut(&mut step)).unwrap();
                engine.save(step.agent).unwrap()
            };
            assert_eq!(life(Some(40)), life(None));
        }
    }
}
