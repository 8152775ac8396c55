//! Many agents, worker threads, and a caller that never waits unless it asked to.
//!
//! A tick is `receive` (answers to the last tick's queries), then `submit` for each agent, then `flush`. Each worker
//! thread owns the memories of its share of the agents; messages go through bounded channels and come back to be used
//! again, so that after a while nothing is allocated.

use crate::channels::ChannelLayout;
use crate::config::MemoryConfig;
use crate::engine::{AgentId, AgentStep, Engine, LoadedClock};
use crate::error::{Error, Result};
use crate::lane::{Lane, Place, Wait};
use crate::model::Model;
use crate::model_engine::ModelEngine;
use crate::observations::ObservationQueue;
use crate::query::Query;
use crate::view::{MemoryView, ViewRequest};
use crate::worker::{Control, Mind, Outcome, Reply};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Where and when memories are worked on. The same observations at the same ticks give the same numbers in all modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RuntimeMode {
    /// On the caller's thread, inside `flush`: tests, training.
    Inline,
    /// On worker threads; `receive` waits for every reply to the tick before: replays, rollback.
    Lockstep,
    /// On worker threads; nobody waits. A late reply is applied when it comes and says how late it is.
    #[default]
    FreeRunning,
}

/// How the runtime works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeConfig {
    /// Where and when memories are worked on.
    pub mode: RuntimeMode,
    /// Worker threads, 1 to 256; agents are shared out among them. `Inline` has none.
    pub workers: usize,
    /// Batches under way to a worker, 1 to 1,024. Two let it begin the next while a reply waits to be read.
    pub batches: usize,
    /// Observations that wait in an agent's own queue while its worker lags; then the oldest are coalesced.
    pub observations: usize,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { mode: RuntimeMode::default(), workers: 1, batches: 2, observations: 64 }
    }
}

impl RuntimeConfig {
    /// Checks every field; an error names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let fields = [
            ("workers", self.workers, 1..=256),
            ("batches", self.batches, 1..=1_024),
            ("observations", self.observations, 2..=1 << 24),
        ];
        match fields.into_iter().find(|(_, value, range)| !range.contains(value)) {
            None => Ok(()),
            Some((field, value, range)) => Err(Error::Configuration {
                field: format!("runtime.{field}"),
                value: value.to_string(),
                allowed: format!("{} to {}", range.start(), range.end()),
            }),
        }
    }
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// It goes out with the next `flush`.
    Taken,
    /// The worker lags or failed: the observations stay in the agent's queue, to be submitted again.
    Deferred,
}

/// Counters for people and panels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RuntimeDiagnostics {
    /// Living agents.
    pub agents: usize,
    /// Agents in the last batch received.
    pub batch_size: usize,
    /// Batches under way, all workers.
    pub queue_depth: usize,
    /// Time that a worker spent on the last batch received.
    pub step_time: Duration,
    /// Replies that came later than the tick after their submission.
    pub late_replies: u64,
    /// Submissions that were put off because a worker lagged or had failed.
    pub deferred: u64,
    /// Observations that were on their way when a worker failed, and that no memory took.
    pub lost_observations: u64,
    /// Failures of workers.
    pub failures: u64,
}

/// The memories of many agents, and the threads that work on them.
#[derive(Debug)]
pub struct Runtime {
    source: Source,
    config: RuntimeConfig,
    layout: Arc<ChannelLayout>,
    bytes_per_agent: usize,
    lanes: Vec<Lane>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    submission: u64,
    diagnostics: RuntimeDiagnostics,
    failures: Vec<String>,
    views: HashMap<AgentId, Result<Box<MemoryView>>>,
}

/// What each worker's mind is made from.
#[derive(Debug)]
enum Source {
    Memory(Box<MemoryConfig>, Device),
    Model(Arc<Model>),
}

impl Source {
    fn mind(&self, layout: &Arc<ChannelLayout>) -> Result<Mind> {
        Ok(match self {
            Source::Memory(config, device) => Mind::Memory(Box::new(Engine::new(config, device)?.share_layout(layout))),
            Source::Model(model) => Mind::Model(ModelEngine::new(model.clone())),
        })
    }
}

/// What the caller's side knows of one slot.
#[derive(Debug, Clone, Copy)]
struct Slot {
    generation: u32,
    life: Life,
    /// The last submission that its agent was part of: one a flush.
    submitted: u64,
    /// Answers to this submission and earlier ones are of a memory that was reset or replaced since.
    outdated: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Living,
    Gone,
}

impl Runtime {
    /// A runtime without agents, whose agents remember without training. Errors: an invalid configuration, a policy
    /// that the device cannot run, no thread.
    pub fn new(memory: &MemoryConfig, config: RuntimeConfig, device: &Device) -> Result<Self> {
        let engine = Engine::new(memory, device)?;
        let (layout, bytes) = (engine.layout().clone(), engine.bytes_per_agent());
        Self::start(Source::Memory(Box::new(memory.clone()), device.clone()), layout, bytes, config)
    }

    /// A runtime without agents, whose agents all share `model`: each step carries its heads and its readout
    /// ([`AgentStep::model`]), one batch a tick. Errors: an invalid configuration, no thread.
    pub fn with_model(model: Arc<Model>, config: RuntimeConfig) -> Result<Self> {
        let bytes = model.empty_state(1)?.bytes_per_member(model.config());
        Self::start(Source::Model(model.clone()), model.layout().clone(), bytes, config)
    }

    fn start(
        source: Source,
        layout: Arc<ChannelLayout>,
        bytes_per_agent: usize,
        config: RuntimeConfig,
    ) -> Result<Self> {
        config.validate()?;
        let workers = if config.mode == RuntimeMode::Inline { 1 } else { config.workers };
        let config = RuntimeConfig { workers, ..config };
        let mut lanes = vec![];
        for number in 0..config.workers {
            lanes.push(Lane::new(Place::new(source.mind(&layout)?, config.mode, config.batches, number)?));
        }
        Ok(Self {
            source,
            config,
            layout,
            bytes_per_agent,
            lanes,
            slots: vec![],
            free: vec![],
            submission: 0,
            diagnostics: RuntimeDiagnostics::default(),
            failures: vec![],
            views: HashMap::new(),
        })
    }

    /// What the agents remember, and how; `None` where a model remembers.
    pub fn memory(&self) -> Option<&MemoryConfig> {
        match &self.source {
            Source::Memory(config, _) => Some(config),
            Source::Model(_) => None,
        }
    }

    /// The model that all agents share, if there is one.
    pub fn model(&self) -> Option<&Arc<Model>> {
        match &self.source {
            Source::Memory(..) => None,
            Source::Model(model) => Some(model),
        }
    }

    /// Where the memories are, or are moving to.
    pub fn device(&self) -> &Device {
        match &self.source {
            Source::Memory(_, home) => home,
            Source::Model(model) => model.device(),
        }
    }

    /// How the runtime works.
    pub fn config(&self) -> &RuntimeConfig {
        &self.config
    }

    /// What an observation is made of.
    pub fn layout(&self) -> &Arc<ChannelLayout> {
        &self.layout
    }

    /// Bytes of state an agent.
    pub fn bytes_per_agent(&self) -> usize {
        self.bytes_per_agent
    }

    /// An empty queue for one agent, as long as the configuration says.
    pub fn observation_queue(&self) -> ObservationQueue {
        ObservationQueue::new(self.layout.clone(), self.config.observations)
    }

    /// Adds an agent with an empty memory. The worker hears of it with the next `flush`.
    pub fn spawn(&mut self) -> AgentId {
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        let generation = self.slots.get(slot as usize).map_or(0, |old| old.generation.wrapping_add(1));
        let new = Slot { generation, life: Life::Living, submitted: 0, outdated: 0 };
        match self.slots.get_mut(slot as usize) {
            Some(old) => *old = new,
            None => self.slots.push(new),
        }
        let agent = AgentId { slot, generation };
        self.control(agent, Control::Spawn);
        self.diagnostics.agents += 1;
        agent
    }

    /// Removes an agent. Replies that are under way to it are still received.
    pub fn remove(&mut self, agent: AgentId) -> Result<()> {
        self.check(agent)?;
        self.forget_outgoing(agent);
        self.control(agent, Control::Remove);
        self.slots[agent.slot()].life = Life::Gone;
        self.free.push(agent.slot);
        self.views.remove(&agent);
        self.diagnostics.agents -= 1;
        Ok(())
    }

    /// Empties an agent's memory: nothing submitted before is left of it.
    pub fn reset(&mut self, agent: AgentId) -> Result<()> {
        self.check(agent)?;
        self.forget_outgoing(agent);
        self.control(agent, Control::Reset);
        self.begin_anew(agent);
        Ok(())
    }

    /// Answers and looks that are under way tell of a memory that is no more.
    fn begin_anew(&mut self, agent: AgentId) {
        self.slots[agent.slot()].outdated = self.submission;
        self.views.remove(&agent);
    }

    /// Takes an agent's tick along, once a flush: its observations (which leave the queue) and its queries. When it is
    /// [`Submitted::Deferred`], observations and queries are the caller's still, to be submitted again.
    ///
    /// Errors: an unknown agent, a queue of another layout, a query that does not fit; nothing is taken then.
    pub fn submit(
        &mut self,
        agent: AgentId,
        tick: u64,
        observations: &mut ObservationQueue,
        queries: &[Query],
    ) -> Result<Submitted> {
        self.check(agent)?;
        self.layout.check_queue(observations.layout())?;
        if self.model().is_some() && !queries.is_empty() {
            return Err(Error::QueryOfModel);
        }
        queries.iter().try_for_each(|query| query.check(&self.layout))?;
        if self.slots[agent.slot()].submitted == self.submission + 1 {
            return Ok(Submitted::Deferred);
        }
        let local = self.local(agent);
        let (layout, length) = (&self.layout, self.config.observations);
        let lane = &mut self.lanes[agent.slot as usize % self.config.workers];
        if lane.failed || lane.in_flight + lane.arrived.len() >= self.config.batches {
            self.diagnostics.deferred += 1;
            return Ok(Submitted::Deferred);
        }
        let step = lane.outgoing.steps.add(|| AgentStep::new(local, layout.clone(), length));
        (step.agent, step.tick, step.outcome) = (local, tick, Ok(()));
        observations.move_into(&mut step.observations);
        step.queries.resize_with(queries.len(), Query::default);
        step.queries.iter_mut().zip(queries).for_each(|(own, query)| own.copy_from(query));
        self.slots[agent.slot()].submitted = self.submission + 1;
        Ok(Submitted::Taken)
    }

    /// Sends what was submitted since the last `flush`. Never waits.
    pub fn flush(&mut self) {
        self.submission += 1;
        for lane in &mut self.lanes {
            lane.send(self.submission, self.config.batches);
        }
        self.diagnostics.queue_depth = self.lanes.iter().map(|lane| lane.in_flight).sum();
    }

    /// Hands each reply to `apply`, with how many ticks late it is (0: the tick after its submission).
    ///
    /// `Lockstep` waits until all replies are there; the other modes take what has come.
    pub fn receive(&mut self, mut apply: impl FnMut(&mut AgentStep, u64)) {
        for number in 0..self.lanes.len() {
            let wait = if self.config.mode == RuntimeMode::Lockstep { Wait::ForReply } else { Wait::Never };
            loop {
                let reply = match self.lanes[number].arrived.pop_front() {
                    Some(reply) => reply,
                    None => match self.lanes[number].next(wait) {
                        Ok(Some(reply)) => reply,
                        Ok(None) => break,
                        Err(message) => {
                            self.report(number, message);
                            break;
                        }
                    },
                };
                self.apply(number, reply, &mut apply);
            }
        }
        self.diagnostics.queue_depth = self.lanes.iter().map(|lane| lane.in_flight).sum();
    }

    fn apply(&mut self, number: usize, mut reply: Reply, apply: &mut impl FnMut(&mut AgentStep, u64)) {
        self.settle(number, &mut reply);
        let submission = reply.batch.submission;
        let late = self.submission.saturating_sub(submission);
        if !reply.batch.steps.is_empty() {
            self.diagnostics.batch_size = reply.batch.steps.len();
            self.diagnostics.step_time = reply.duration;
            self.diagnostics.late_replies += u64::from(late > 0) * reply.batch.steps.len() as u64;
        }
        let workers = self.config.workers as u32;
        let lane = &mut self.lanes[number];
        for step in reply.batch.steps.iter_mut() {
            step.agent.slot = step.agent.slot * workers + number as u32;
            // An agent that is gone, or whose memory began anew since, has no use for its answers.
            let slot = self.slots.get(step.agent.slot()).filter(|slot| slot.generation == step.agent.generation);
            if slot.is_some_and(|slot| submission > slot.outdated) {
                apply(step, late);
            }
        }
        reply.batch.steps.clear();
        lane.idle_batches.push(reply.batch);
    }

    /// Takes note of all that has arrived; only replies with steps wait on, for `receive`.
    fn settle_arrived(&mut self, number: usize) {
        let mut arrived = std::mem::take(&mut self.lanes[number].arrived);
        arrived.iter_mut().for_each(|reply| self.settle(number, reply));
        arrived.retain(|reply| !reply.batch.steps.is_empty());
        self.lanes[number].arrived = arrived;
    }

    /// Takes note of a reply's outcomes and of a failure.
    fn settle(&mut self, number: usize, reply: &mut Reply) {
        self.diagnostics.lost_observations += std::mem::take(&mut reply.lost);
        let lane = &self.lanes[number];
        if let Some(message) = reply.failure.take()
            && !lane.failed
            && reply.batch.submission > lane.restarted
        {
            self.report(number, message);
        }
        let workers = self.config.workers as u32;
        for outcome in reply.outcomes.drain(..) {
            match outcome {
                Outcome::View(local, view) => {
                    let agent = AgentId { slot: local.slot * workers + number as u32, ..local };
                    if self.check(agent).is_ok() && reply.batch.submission >= self.slots[agent.slot()].outdated {
                        self.views.insert(agent, view);
                    }
                }
                Outcome::Refused(error) => self.failures.push(error.to_string()),
                Outcome::Stayed { error, refused, home } => {
                    if let Source::Memory(_, device) = &mut self.source
                        && device.same_device(&refused)
                    {
                        *device = home;
                    }
                    self.failures.push(error.to_string());
                }
                // Their caller waits for them in `ask`.
                Outcome::Saved(_) | Outcome::Loaded(_) => {}
            }
        }
    }

    fn report(&mut self, number: usize, message: String) {
        self.lanes[number].failed = true;
        let lane = &mut self.lanes[number];
        if matches!(lane.place, Place::Dead) {
            lane.in_flight = 0;
            self.diagnostics.lost_observations += lane.on_their_way.drain(..).sum::<u64>();
        }
        self.diagnostics.failures += 1;
        self.failures.push(message);
    }

    /// What went wrong since the last call, in words.
    pub fn take_failures(&mut self) -> std::vec::Drain<'_, String> {
        self.failures.drain(..)
    }

    /// Whether a worker has failed and waits for [`Runtime::restart`].
    pub fn has_failed(&self) -> bool {
        self.lanes.iter().any(|lane| lane.failed)
    }

    /// Lets failed workers work again, with every memory whole: those whose turn in the failing step was over remember it,
    /// the others are as before it. Only where a thread died with its memories do its agents begin anew; returned is how
    /// many did.
    pub fn restart(&mut self) -> Result<usize> {
        let mut emptied = 0;
        for number in 0..self.lanes.len() {
            if !self.lanes[number].failed {
                continue;
            }
            if matches!(self.lanes[number].place, Place::Dead) {
                self.lanes[number].place =
                    Place::new(self.source.mind(&self.layout)?, self.config.mode, self.config.batches, number)?;
                self.lanes[number].in_flight = 0;
                let living = self.slots.iter().enumerate().filter(|(_, slot)| slot.life == Life::Living);
                let own = living.filter(|(slot, _)| slot % self.config.workers == number);
                let agents: Vec<AgentId> =
                    own.map(|(at, slot)| AgentId { slot: at as u32, generation: slot.generation }).collect();
                self.lanes[number].outgoing.control.clear();
                for agent in agents {
                    self.control(agent, Control::Spawn);
                    emptied += 1;
                }
            }
            let lane = &mut self.lanes[number];
            lane.outgoing.control.push(Control::Restart);
            (lane.failed, lane.restarted) = (false, self.submission);
        }
        Ok(emptied)
    }

    /// Moves all memories to another device, each worker its own, between two of its ticks; nobody waits. A device that
    /// refuses shows in [`Runtime::take_failures`], and the memories stay where they are. Errors: the agents have a model.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        match &mut self.source {
            Source::Memory(_, home) => *home = device.clone(),
            Source::Model(_) => return Err(Error::ModelDevice),
        }
        self.lanes.iter_mut().for_each(|lane| lane.outgoing.control.push(Control::Move(device.clone())));
        Ok(())
    }

    /// Makes the worker of an agent fail, to see how a program takes it.
    pub fn inject_failure(&mut self, agent: AgentId) -> Result<()> {
        self.check(agent)?;
        self.control(agent, |_| Control::Fail);
        Ok(())
    }

    /// Asks for a look at an agent; [`Runtime::take_view`] gives it once it has come.
    pub fn request_view(&mut self, agent: AgentId, request: ViewRequest) -> Result<()> {
        self.check(agent)?;
        self.control(agent, |local| Control::View(local, request));
        Ok(())
    }

    /// Moves requests for looks and their results between ticks, for a game that is paused. The replies to a tick wait
    /// for `receive`. Never waits.
    pub fn poll_views(&mut self) {
        for number in 0..self.lanes.len() {
            let lane = &mut self.lanes[number];
            if lane.outgoing.steps.is_empty() {
                lane.send(self.submission, self.config.batches);
            }
            // A worker that is gone shows at the next `receive`.
            while let Ok(Some(reply)) = self.lanes[number].next(Wait::Never) {
                self.lanes[number].arrived.push_back(reply);
            }
            self.settle_arrived(number);
        }
    }

    /// The latest look at an agent, if one has come since the last call.
    pub fn take_view(&mut self, agent: AgentId) -> Option<Result<Box<MemoryView>>> {
        self.views.remove(&agent)
    }

    /// One agent's memory as bytes. Waits for the worker: for saved games, not for every frame.
    pub fn save(&mut self, agent: AgentId) -> Result<Vec<u8>> {
        self.check(agent)?;
        match self.ask(agent, Control::Save)? {
            Outcome::Saved(saved) => saved,
            _ => Err(Error::Worker { message: "it did not answer a request to save".into() }),
        }
    }

    /// Puts a saved memory in place of an agent's own. Waits for the worker. Errors say why bytes are refused; the
    /// memory is then as before.
    pub fn load(&mut self, agent: AgentId, bytes: Vec<u8>, clock: LoadedClock) -> Result<()> {
        self.check(agent)?;
        match self.ask(agent, |local| Control::Load(local, bytes, clock))? {
            Outcome::Loaded(Ok(())) => {
                self.begin_anew(agent);
                Ok(())
            }
            Outcome::Loaded(refused) => refused,
            _ => Err(Error::Worker { message: "it did not answer a request to load".into() }),
        }
    }

    /// Counters for people and panels.
    pub fn diagnostics(&self) -> &RuntimeDiagnostics {
        &self.diagnostics
    }

    /// Sends a question and waits for its answer; other replies that come meanwhile wait for `receive`.
    fn ask(&mut self, agent: AgentId, question: impl FnOnce(AgentId) -> Control) -> Result<Outcome> {
        let mut question = Some(question);
        let number = agent.slot as usize % self.config.workers;
        let dead = |message| Error::Worker { message };
        // What was submitted goes first, as with the next flush; the question is a batch of its own.
        for _ in 0..2 {
            while self.lanes[number].in_flight >= self.config.batches {
                match self.lanes[number].next(Wait::ForReply).map_err(dead)? {
                    Some(reply) => self.lanes[number].arrived.push_back(reply),
                    None => break,
                }
            }
            self.lanes[number].send(self.submission + 1, self.config.batches);
            if let Some(question) = question.take() {
                self.control(agent, question);
            }
        }
        self.lanes[number].send(self.submission + 1, self.config.batches);
        loop {
            let lane = &mut self.lanes[number];
            if let Some(answer) = lane.arrived.iter_mut().find_map(Reply::take_answer) {
                self.settle_arrived(number);
                return Ok(answer);
            }
            match lane.next(Wait::ForReply).map_err(dead)? {
                Some(reply) => lane.arrived.push_back(reply),
                None => return Err(dead("it stopped before it answered".into())),
            }
        }
    }

    fn control(&mut self, agent: AgentId, control: impl FnOnce(AgentId) -> Control) {
        let local = self.local(agent);
        self.lanes[agent.slot as usize % self.config.workers].outgoing.control.push(control(local));
    }

    /// Agents are dealt to the workers in turn; each worker counts its own slots.
    fn local(&self, agent: AgentId) -> AgentId {
        AgentId { slot: agent.slot / self.config.workers as u32, ..agent }
    }

    /// Drops what was submitted for an agent and not yet sent.
    fn forget_outgoing(&mut self, agent: AgentId) {
        let local = self.local(agent);
        let lane = &mut self.lanes[agent.slot as usize % self.config.workers];
        lane.outgoing.steps.forget(local);
    }

    fn check(&self, agent: AgentId) -> Result<()> {
        match self.slots.get(agent.slot as usize) {
            Some(slot) if slot.life == Life::Living && slot.generation == agent.generation => Ok(()),
            _ => Err(Error::UnknownAgent { agent: agent.to_string() }),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.place.stop());
    }
}
