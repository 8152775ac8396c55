//! What a worker does with one message. The same function runs on a worker thread and, in `Inline` mode, on the
//! caller's own.

use crate::engine::{AgentId, AgentStep, Engine, LoadedClock};
use crate::error::{Error, Result};
use crate::model_engine::ModelEngine;
use crate::view::{MemoryView, ViewRequest};
use candle_core::Device;
use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// What changes which agents there are, and questions about one of them; in the order in which they were asked.
#[derive(Debug)]
pub(crate) enum Control {
    Spawn(AgentId),
    Remove(AgentId),
    Reset(AgentId),
    View(AgentId, ViewRequest),
    Save(AgentId),
    Load(AgentId, Vec<u8>, LoadedClock),
    Move(Device),
    Restart,
    Fail,
}

/// One tick's message to a worker. It comes back with the reply, so that its buffers are used again.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Number of the submission.
    pub(crate) submission: u64,
    pub(crate) control: Vec<Control>,
    pub(crate) steps: Steps,
}

/// The steps of a batch. They stay where they are in memory from one use of the batch to the next.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    /// Those in use, then those to be used again.
    all: Vec<AgentStep>,
    used: usize,
}

impl Steps {
    /// One more, made by `new` if there is none to be used again.
    pub(crate) fn add(&mut self, new: impl FnOnce() -> AgentStep) -> &mut AgentStep {
        if self.used == self.all.len() {
            self.all.push(new());
        }
        self.used += 1;
        &mut self.all[self.used - 1]
    }

    /// Takes the step of an agent out of use, if there is one.
    pub(crate) fn forget(&mut self, agent: AgentId) {
        if let Some(at) = self.iter().position(|step| step.agent == agent) {
            self.all[at].observations.reset();
            self.used -= 1;
            self.all.swap(at, self.used);
        }
    }

    /// Takes all out of use.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }
}

impl Deref for Steps {
    type Target = [AgentStep];

    fn deref(&self) -> &[AgentStep] {
        &self.all[..self.used]
    }
}

impl DerefMut for Steps {
    fn deref_mut(&mut self) -> &mut [AgentStep] {
        &mut self.all[..self.used]
    }
}

/// What came of a control message that asks for something.
#[derive(Debug)]
pub(crate) enum Outcome {
    View(AgentId, Result<Box<MemoryView>>),
    Saved(Result<Vec<u8>>),
    Loaded(Result<()>),
    /// The memories did not move.
    Stayed {
        error: Error,
        /// The device that refused.
        refused: Device,
        /// Where they are.
        home: Device,
    },
    Refused(Error),
}

/// The reply to one [`Batch`].
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) batch: Batch,
    pub(crate) outcomes: Vec<Outcome>,
    /// Time spent on the batch.
    pub(crate) duration: Duration,
    /// Observations that no memory took, because the worker failed while they were under way.
    pub(crate) lost: u64,
    /// What went wrong, while the worker waits to be restarted.
    pub(crate) failure: Option<String>,
}

impl Reply {
    /// Takes out the answer to a request to save or load, if it is in this reply.
    pub(crate) fn take_answer(&mut self) -> Option<Outcome> {
        let is_answer = |outcome: &Outcome| matches!(outcome, Outcome::Saved(_) | Outcome::Loaded(_));
        let at = self.outcomes.iter().position(is_answer)?;
        Some(self.outcomes.remove(at))
    }
}

/// What the agents of a worker remember with.
#[derive(Debug)]
pub(crate) enum Mind {
    /// Without training.
    Memory(Box<Engine>),
    /// By a model.
    Model(ModelEngine),
}

impl Mind {
    fn step(&mut self, steps: &mut [AgentStep]) -> Result<()> {
        match self {
            Mind::Memory(engine) => engine.step(steps),
            Mind::Model(engine) => engine.step(steps),
        }
    }

    fn mend(&mut self, steps: &mut [AgentStep]) -> Result<()> {
        match self {
            Mind::Memory(engine) => engine.mend(steps),
            Mind::Model(engine) => engine.mend(steps),
        }
    }

    fn spawn_as(&mut self, agent: AgentId) -> Result<AgentId> {
        match self {
            Mind::Memory(engine) => engine.spawn_as(agent),
            Mind::Model(engine) => engine.spawn_as(agent),
        }
    }

    fn remove(&mut self, agent: AgentId) -> Result<()> {
        match self {
            Mind::Memory(engine) => engine.remove(agent),
            Mind::Model(engine) => engine.remove(agent),
        }
    }

    fn reset(&mut self, agent: AgentId) -> Result<()> {
        match self {
            Mind::Memory(engine) => engine.reset(agent),
            Mind::Model(engine) => engine.reset(agent),
        }
    }

    fn view(&mut self, agent: AgentId, request: &ViewRequest) -> Result<MemoryView> {
        match self {
            Mind::Memory(engine) => engine.view(agent, request),
            Mind::Model(_) => Err(Error::QueryOfModel),
        }
    }

    fn save(&mut self, agent: AgentId) -> Result<Vec<u8>> {
        match self {
            Mind::Memory(engine) => engine.save(agent),
            Mind::Model(engine) => engine.save(agent),
        }
    }

    fn load(&mut self, agent: AgentId, bytes: &[u8], clock: LoadedClock) -> Result<()> {
        match self {
            Mind::Memory(engine) => engine.load(agent, bytes, clock),
            Mind::Model(engine) => engine.load(agent, bytes, clock),
        }
    }
}

/// A mind and, once it failed, why.
#[derive(Debug)]
pub(crate) struct Worker {
    mind: Mind,
    failure: Option<String>,
}

impl Worker {
    pub(crate) fn new(mind: Mind) -> Self {
        Self { mind, failure: None }
    }

    /// Does all that a batch asks. A panic on the way is caught: from then on every step is refused with the reason,
    /// until [`Control::Restart`]; agents come and go all the same.
    pub(crate) fn process(&mut self, mut batch: Batch) -> Reply {
        let begun = Instant::now();
        let mut outcomes = vec![];
        let mut control = std::mem::take(&mut batch.control).into_iter();
        // A control message that panics is left behind; those after it are still obeyed.
        while let Err(panic) =
            catch_unwind(AssertUnwindSafe(|| control.by_ref().for_each(|c| self.obey(c, &mut outcomes))))
        {
            self.failure = Some(panic_message(panic.as_ref()));
        }
        if self.failure.is_none() {
            self.failure = match catch_unwind(AssertUnwindSafe(|| self.mind.step(&mut batch.steps))) {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(panic) => Some(panic_message(panic.as_ref())),
            };
        }
        let mut lost = 0;
        if let Some(message) = &self.failure {
            for step in batch.steps.iter_mut() {
                lost += step.observations.len() as u64;
                step.observations.clear();
                step.answers.clear();
                step.model.clear();
                step.outcome = Err(Error::Worker { message: message.clone() });
            }
            if let Err(error) = self.mind.mend(&mut batch.steps) {
                outcomes.push(Outcome::Refused(error));
            }
        }
        Reply { batch, outcomes, duration: begun.elapsed(), lost, failure: self.failure.clone() }
    }

    fn obey(&mut self, control: Control, outcomes: &mut Vec<Outcome>) {
        let mind = &mut self.mind;
        let outcome = match control {
            Control::Spawn(agent) => mind.spawn_as(agent).err().map(Outcome::Refused),
            Control::Remove(agent) => mind.remove(agent).err().map(Outcome::Refused),
            Control::Reset(agent) => mind.reset(agent).err().map(Outcome::Refused),
            Control::View(agent, request) => Some(Outcome::View(agent, mind.view(agent, &request).map(Box::new))),
            Control::Save(agent) => Some(Outcome::Saved(mind.save(agent))),
            Control::Load(agent, bytes, clock) => Some(Outcome::Loaded(mind.load(agent, &bytes, clock))),
            Control::Move(device) => match mind {
                Mind::Memory(engine) => {
                    let moved = engine.move_to(&device);
                    moved.err().map(|error| Outcome::Stayed { error, refused: device, home: engine.device().clone() })
                }
                Mind::Model(_) => Some(Outcome::Refused(Error::ModelDevice)),
            },
            Control::Restart => {
                self.failure = None;
                None
            }
            Control::Fail => fail_on_purpose(),
        };
        outcomes.extend(outcome);
    }
}

/// The one panic of this crate: what `Runtime::inject_failure` asks for.
#[expect(clippy::panic, reason = "it stands for a bug, and is caught like one")]
fn fail_on_purpose() -> ! {
    panic!("asked to fail")
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".into())
}
