//! What an agent lives in: it sees, acts, is rewarded, and at some point it is over.

use crate::error::{Error, Result};
use infformer::channels::is_token;
use infformer::model::{Head, HeadKind, Input};
use std::ops::Range;

/// A world with one agent in it. All that is random comes from the seed of [`reset`](Environment::reset); a step
/// allocates nothing.
///
/// ```no_run
/// use infformer::model::Input;
/// use infformer::{Channel, Device, Scale};
/// use infformer_rl::environment::{Action, ActionSpace, Ending, Environment, Step};
/// use infformer_rl::memories::MemoryName;
/// use infformer_rl::policy::{PolicyConfig, Spaces};
/// use infformer_rl::ppo::PpoConfig;
/// use infformer_rl::trainer::{TrainingConfig, train};
///
/// /// A light is red (−1) or green (1) at first, then dark; after 60 ticks the agent says which it was.
/// #[derive(Default)]
/// struct Light {
///     seen: [f32; 1],
///     was: f32,
///     tick: usize,
/// }
///
/// impl Environment for Light {
///     fn observations(&self) -> Vec<Input> {
///         vec![Input::Continuous { name: "light".into(), channels: vec![Channel::new("colour", "", Scale::Given(1.0))] }]
///     }
///     fn actions(&self) -> ActionSpace {
///         ActionSpace::Discrete(2)
///     }
///     fn reset(&mut self, seed: u64) -> &[f32] {
///         // Seeds are well mixed: any bit will do.
///         self.was = if seed & 1 == 0 { -1.0 } else { 1.0 };
///         (self.seen, self.tick) = ([self.was], 0);
///         &self.seen
///     }
///     fn step(&mut self, action: Action) -> Step<'_> {
///         (self.seen, self.tick) = ([0.0], self.tick + 1);
///         if self.tick < 60 {
///             return Step { observation: &self.seen, reward: 0.0, ending: Ending::Running };
///         }
///         let said = if action == Action::Discrete(1) { 1.0 } else { -1.0 };
///         Step { observation: &self.seen, reward: said * self.was, ending: Ending::Terminated }
///     }
/// }
///
/// # fn main() -> infformer_rl::Result<()> {
/// let make = || Box::<Light>::default() as Box<dyn Environment>;
/// let policy = PolicyConfig::named(MemoryName::Infformer, &Spaces::of(&*make(), None))?;
/// let config = TrainingConfig::new("light", policy, PpoConfig { ticks: 60, ..PpoConfig::default() }, 150_000, 0);
/// let stop = std::sync::atomic::AtomicBool::new(false);
/// let trained = train(&config, &make, "target/train/light".as_ref(), &Device::Cpu, &stop)?;
/// println!("best mean return {:?}", trained.progress.best);
/// # Ok(())
/// # }
/// ```
pub trait Environment: Send {
    /// What an observation is made of.
    fn observations(&self) -> Vec<Input>;

    /// What an action is.
    fn actions(&self) -> ActionSpace;

    /// The least and the largest return that an episode can have, as far as they are known.
    fn returns(&self) -> [f64; 2] {
        [f64::NEG_INFINITY, f64::INFINITY]
    }

    /// Begins an episode; gives the first observation, one number a channel.
    fn reset(&mut self, seed: u64) -> &[f32];

    /// Acts. After an ending, or before the first reset, nothing more happens: the step says `Terminated`.
    fn step(&mut self, action: Action) -> Step<'_>;

    /// Says what is wrong, if anything is, by the beginning of an episode: trainings, evaluations and probes begin so.
    fn check(&mut self) -> Result<()> {
        self.actions().validate()?;
        let expected = self.observations().iter().map(Input::channels).sum();
        same_width(self.reset(0).len(), expected)
    }

    /// Whether a step is long enough to be worth another thread, as that of a whole game is. If it is, the members of a
    /// batch are stepped side by side.
    fn is_heavy(&self) -> bool {
        false
    }
}

/// Refuses an observation of `found` numbers where `expected` are said to be shown.
pub(crate) fn same_width(found: usize, expected: usize) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::Observation { found, expected }),
    }
}

/// What an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionSpace {
    /// One of so many choices.
    Discrete(usize),
    /// Several choices at once, one of so many in each place: where to go and what to say. A policy draws them
    /// independently of each other.
    MultiDiscrete(&'static [usize]),
    /// So many numbers, each meant to lie within −1 and 1.
    Continuous(usize),
}

/// One action.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action<'a> {
    /// A choice, counted from 0. One that does not exist counts as the last.
    Discrete(usize),
    /// The choice in each place, a whole number counted from 0. One that does not exist counts as the last.
    MultiDiscrete(&'a [f32]),
    /// Numbers, as they were drawn. Those beyond −1 and 1 count as the bound: see [`numbers`](Action::numbers).
    Continuous(&'a [f32]),
}

impl ActionSpace {
    /// Of how many one is chosen in each place; empty if none is.
    pub fn choices(&self) -> &[usize] {
        match self {
            ActionSpace::Discrete(choices) => std::slice::from_ref(choices),
            ActionSpace::MultiDiscrete(choices) => choices,
            ActionSpace::Continuous(_) => &[],
        }
    }

    /// Numbers of one action: a choice is one.
    pub fn size(&self) -> usize {
        match self {
            ActionSpace::Continuous(size) => *size,
            _ => self.choices().len(),
        }
    }

    /// The heads that say an action: one of logits, one a place, or one of means and logarithms of standard deviations.
    pub fn heads(&self) -> Vec<Head> {
        let head = |name: String, kind| Head { name, kind };
        match *self {
            ActionSpace::Discrete(classes) => vec![head("action".into(), HeadKind::Logits { classes })],
            ActionSpace::MultiDiscrete(choices) => {
                let places = choices.iter().enumerate();
                places
                    .map(|(place, classes)| head(format!("action_{place}"), HeadKind::Logits { classes: *classes }))
                    .collect()
            }
            ActionSpace::Continuous(size) => vec![head("action".into(), HeadKind::Gaussian { size })],
        }
    }

    /// Where the logits of each place lie among all; nowhere if nothing is chosen.
    pub fn places(&self) -> impl Iterator<Item = Range<usize>> {
        self.choices().iter().scan(0, |from, choices| {
            let start = *from;
            *from += choices;
            Some(start..*from)
        })
    }

    /// Says what is wrong, if anything is.
    pub fn validate(&self) -> Result<()> {
        match self.size() > 0 && !self.choices().contains(&0) {
            true => Ok(()),
            false => Err(Error::Configuration(format!(
                "{self:?}: an action is 1 choice or number, or more, and each choice of 1 or more"
            ))),
        }
    }
}

impl Action<'_> {
    /// The choice among `count`; an action of another kind, or none of these, is the last.
    pub fn choice(&self, count: usize) -> usize {
        match self {
            Action::Discrete(choice) => (*choice).min(count.saturating_sub(1)),
            _ => count.saturating_sub(1),
        }
    }

    /// The choice among `counts` in each place; an action of another kind, or of another number of choices, is the last
    /// of each.
    pub fn choices<const PLACES: usize>(&self, counts: [usize; PLACES]) -> [usize; PLACES] {
        let mut chosen = counts.map(|count| count.saturating_sub(1));
        if let Action::MultiDiscrete(choices) = self
            && choices.len() == PLACES
        {
            for ((chosen, count), choice) in chosen.iter_mut().zip(counts).zip(*choices) {
                if is_token(*choice, count) {
                    *chosen = *choice as usize;
                }
            }
        }
        chosen
    }

    /// The numbers, those beyond −1 and 1 as the bound; an action of another kind, or of another size, is 0 in each.
    pub fn numbers<const SIZE: usize>(&self) -> [f32; SIZE] {
        match self {
            Action::Continuous(numbers) if numbers.len() == SIZE => {
                std::array::from_fn(|place| numbers[place].clamp(-1.0, 1.0))
            }
            _ => [0.0; SIZE],
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
