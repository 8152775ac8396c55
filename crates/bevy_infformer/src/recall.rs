//! What an agent asks, and what comes back one tick later.

use bevy::prelude::*;
use infformer::{AgentStep, Answer, DensityCell, Error, ModelAnswer, Query as MemoryQuery};
use smallvec::SmallVec;

/// What an agent asks its memory at every tick, until it is changed.
#[derive(Component, Reflect, Debug, Default, Clone)]
#[reflect(Component, Debug, Default, Clone)]
pub struct Questions {
    queries: Asking,
}

/// Queries, one value to reflection: their type knows nothing of Bevy.
#[derive(Reflect, Debug, Default, Clone)]
#[reflect(opaque, Debug, Default, Clone)]
struct Queries(Vec<MemoryQuery>);

/// What is asked at the next ticks: mostly one query, which lies within the component.
#[derive(Reflect, Debug, Default, Clone)]
#[reflect(opaque, Debug, Default, Clone)]
struct Asking(SmallVec<[MemoryQuery; 1]>);

/// Answers, one value to reflection: their type knows nothing of Bevy.
#[derive(Reflect, Debug, Default, Clone)]
#[reflect(opaque, Debug, Default, Clone)]
struct Answers(Vec<Answer>);

/// A model's outputs, one value to reflection.
#[derive(Reflect, Debug, Default, Clone)]
#[reflect(opaque, Debug, Default, Clone)]
struct Outputs(ModelAnswer);

impl Questions {
    /// Asks this and nothing else.
    pub fn ask(&mut self, query: MemoryQuery) {
        self.queries.0.clear();
        self.queries.0.push(query);
    }

    /// Asks this as well; its answer has the next index.
    pub fn ask_also(&mut self, query: MemoryQuery) {
        self.queries.0.push(query);
    }

    /// Asks nothing: recalling is then free.
    pub fn clear(&mut self) {
        self.queries.0.clear();
    }

    /// What is asked.
    pub fn queries(&self) -> &[MemoryQuery] {
        &self.queries.0
    }
}

/// The answers to the latest questions; a tick without questions leaves them as they are. Changed when answers come.
#[derive(Component, Reflect, Debug, Default)]
#[reflect(Component, Debug, Default)]
#[component(clone_behavior = Ignore)]
pub struct Recall {
    /// The tick that the answers belong to.
    pub tick: u64,
    /// How many ticks later than usual they came.
    pub late: u64,
    /// Why the last submission was refused, if it was; the answers are then those before it.
    pub error: Option<String>,
    answers: Answers,
    asked: Queries,
    outputs: Outputs,
}

impl Recall {
    /// The heads of the agent's model for its newest observation, in the order of the model's configuration; none
    /// before the first reply, and none without a model.
    pub fn heads(&self) -> &[Vec<f32>] {
        &self.outputs.0.heads
    }

    /// What the model's last layer read from its long-term memory \[d\]; empty without a model.
    pub fn readout(&self) -> &[f32] {
        &self.outputs.0.readout
    }

    /// Where the model's last layer looked in its long-term memory, as shares of stretches of the past; empty without a
    /// model.
    pub fn density(&self) -> &[DensityCell] {
        &self.outputs.0.density
    }

    /// The answers, one a question; none before the first reply.
    pub fn answers(&self) -> &[Answer] {
        &self.answers.0
    }

    /// The questions that were answered, in the order of [`Recall::answers`].
    pub fn asked(&self) -> &[MemoryQuery] {
        &self.asked.0
    }

    /// The answer to the first question.
    pub fn answer(&self) -> Option<&Answer> {
        self.answers.0.first()
    }

    /// The expected observation of the first answer \[d\]; empty when nothing is remembered.
    pub fn value(&self) -> &[f32] {
        self.answer().map_or(&[], |answer| &answer.value)
    }

    /// The age of the first answer, in ticks.
    pub fn age(&self) -> f32 {
        self.answer().map_or(0.0, |answer| answer.age)
    }

    /// How well the best moment of the first answer matches: 0 when there is no answer.
    pub fn confidence(&self) -> f32 {
        self.answer().map_or(0.0, |answer| answer.confidence)
    }

    /// Takes over what came of a step; buffers are exchanged, not copied.
    pub(crate) fn take(&mut self, step: &mut AgentStep, late: u64) {
        match &step.outcome {
            Ok(()) if !step.has_answers() => self.error = None,
            Ok(()) => {
                (self.tick, self.late, self.error) = (step.tick, late, None);
                std::mem::swap(&mut self.answers.0, &mut step.answers);
                std::mem::swap(&mut self.asked.0, &mut step.queries);
                std::mem::swap(&mut self.outputs.0, &mut step.model);
            }
            Err(error) => self.refuse(error),
        }
    }

    pub(crate) fn refuse(&mut self, error: &Error) {
        self.error = Some(error.to_string());
    }

    pub(crate) fn clear(&mut self) {
        self.answers.0.clear();
        self.asked.0.clear();
        self.outputs.0.clear();
    }
}
