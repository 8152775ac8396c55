//! What an agent lives in: it sees, acts, is rewarded, and at some point it is over.

use infformer::model::Input;

/// A world with one agent in it. All that is random comes from the seed of [`reset`](Environment::reset); a step
/// allocates nothing.
pub trait Environment: Send {
    /// What an observation is made of.
    fn observations(&self) -> Vec<Input>;

    /// What an action is.
    fn actions(&self) -> ActionSpace;

    /// The least and the largest return that an episode can have.
    fn returns(&self) -> [f64; 2];

    /// Begins an episode; gives the first observation, one number a channel.
    fn reset(&mut self, seed: u64) -> &[f32];

    /// Acts. After an ending, or before the first reset, nothing more happens: the step says `Terminated`.
    fn step(&mut self, action: Action) -> Step<'_>;

    /// Whether a step is long enough to be worth another thread, as that of a whole game is. If it is, the members of a
    /// batch are stepped side by side.
    fn is_heavy(&self) -> bool {
        false
    }
}

/// What an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionSpace {
    /// One of so many choices.
    Discrete(usize),
    /// So many numbers, each meant to lie within −1 and 1.
    Continuous(usize),
}

/// One action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action<'a> {
    /// A choice, counted from 0. One that does not exist counts as the last.
    Discrete(usize),
    /// Numbers. Those beyond −1 and 1 count as the bound.
    Continuous(&'a [f32]),
}

impl Action<'_> {
    /// The choice among `count`; an action of the other kind, or none of these, is the last.
    pub fn choice(&self, count: usize) -> usize {
        match self {
            Action::Discrete(choice) => (*choice).min(count - 1),
            Action::Continuous(_) => count - 1,
        }
    }
}

/// What came of an action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step<'a> {
    /// What is seen now, one number a channel. With an ending: what was seen last.
    pub observation: &'a [f32],
    /// The reward of the action.
    pub reward: f32,
    /// Whether it is over.
    pub ending: Ending,
}

/// Whether an episode is over, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It goes on.
    Running,
    /// It is over: nothing can follow.
    Terminated,
    /// It was cut off: it would have gone on.
    Truncated,
}
