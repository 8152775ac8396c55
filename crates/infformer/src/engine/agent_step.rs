//! One agent's part of a step: whose it is, what goes in, what comes out.

use crate::arena::CACHE_LINE;
use crate::channels::ChannelLayout;
use crate::error::Result;
use crate::model_engine::ModelAnswer;
use crate::observations::ObservationQueue;
use crate::query::{Answer, Query};
use std::fmt;
use std::sync::Arc;

/// Names one agent. An id is never given twice: a slot that is used again has a new generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl AgentId {
    /// The slot: living agents of one memory have different ones, and they stay small.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}v{}", self.slot, self.generation)
    }
}

/// One agent's tick: what goes in and, after [`Engine::step`](crate::Engine::step), what came out. Meant to be used again and again.
#[derive(Debug, Clone)]
pub struct AgentStep {
    /// Whose tick it is.
    pub agent: AgentId,
    /// The present; ages are counted from it.
    pub tick: u64,
    /// What was seen, emptied by the step.
    pub observations: ObservationQueue,
    /// What is asked.
    pub queries: Vec<Query>,
    /// The answers, one a query.
    pub answers: Vec<Answer>,
    /// What the model made of the newest observation of this step, where the agent has a model
    /// ([`ModelEngine`](crate::ModelEngine)) and saw something.
    pub model: ModelAnswer,
    /// Why this step was refused, if it was; the agent's memory is then as before.
    pub outcome: Result<()>,
}

impl AgentStep {
    /// An empty step, with room for `queue` observations.
    pub fn new(agent: AgentId, layout: Arc<ChannelLayout>, queue: usize) -> Self {
        let observations = ObservationQueue::new(layout, queue);
        Self {
            agent,
            tick: 0,
            observations,
            queries: vec![],
            answers: vec![],
            model: ModelAnswer::default(),
            outcome: Ok(()),
        }
    }

    /// Reads a little of every cache line that the step will touch: they come all at once, not each when it is needed.
    /// Another core wrote them.
    pub(super) fn fetch(&self) {
        let bits =
            |values: &[f32]| values.iter().step_by(CACHE_LINE / size_of::<f32>()).fold(0, |x, v| x ^ v.to_bits());
        let seen = self.observations.rows_in_use();
        let asked = self.queries.iter().filter_map(|query| query.constraints().first());
        let asked = asked.fold(0, |bits, constraint| bits ^ constraint.value.to_bits());
        let answered = self.answers.iter().fold(0, |all, answer| all ^ answer.words(bits));
        std::hint::black_box(bits(seen) ^ asked ^ answered);
    }

    /// Whether anything was asked of this step, or a model said something.
    pub fn has_answers(&self) -> bool {
        !self.queries.is_empty() || !self.model.heads.is_empty() || !self.model.readout.is_empty()
    }
}
