//! Worlds that cannot be played well without remembering, each by its published rules.
//!
//! Nine of POPGym (Morad et al., ICLR 2023) in three difficulties each: [`repeat_first`], [`repeat_previous`],
//! [`autoencode`], [`count_recall`], [`concentration`], [`battleship`], [`higher_lower`], [`multiarmed_bandit`] and
//! [`position_only_cart_pole`]. Three more of any length: [`t_maze`], [`memory_chain`] and [`proof_of_memory`]. The
//! first four, [`concentration`] and [`higher_lower`] are played with [`cards`]. [`EnvironmentConfig`] names them all.
//!
//! Neither the previous action nor a flag of the first step is part of an observation: who needs them appends them.

pub mod cards;
pub mod repeat_first;
pub mod repeat_previous;
pub mod autoencode;
pub mod count_recall;
pub mod concentration;
pub mod battleship;
pub mod higher_lower;
pub mod multiarmed_bandit;
pub mod position_only_cart_pole;
pub mod t_maze;
pub mod memory_chain;
pub mod proof_of_memory;

pub use autoencode::Autoencode;
pub use battleship::Battleship;
pub use concentration::Concentration;
pub use count_recall::CountRecall;
pub use higher_lower::HigherLower;
pub use memory_chain::MemoryChain;
pub use multiarmed_bandit::MultiarmedBandit;
pub use position_only_cart_pole::PositionOnlyCartPole;
pub use proof_of_memory::ProofOfMemory;
pub use repeat_first::RepeatFirst;
pub use repeat_previous::RepeatPrevious;
pub use t_maze::{Penalty, TMaze};

use crate::environment::{Ending, Environment, Step};
use infformer::model::Input;

/// Bits of a memory chain, at most: an observation has one number for each.
const MOST_BITS: usize = 1_000;

/// Which environment, and how hard it is. Files hold its [`name`](EnvironmentConfig::name).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EnvironmentConfig {
    /// The suit of the very first card, again and again.
    RepeatFirst(Difficulty),
    /// The suit of the card k before.
    RepeatPrevious(Difficulty),
    /// All suits, in reverse.
    Autoencode(Difficulty),
    /// How often a class was dealt.
    CountRecall(Difficulty),
    /// Pairs of cards that lie face down.
    Concentration(Difficulty),
    /// Ships on a board that is not shown.
    Battleship(Difficulty),
    /// Whether the next card is higher.
    HigherLower(Difficulty),
    /// Which arm pays.
    MultiarmedBandit(Difficulty),
    /// A pole on a cart, without velocities.
    PositionOnlyCartPole(Difficulty),
    /// A sign at one end of a corridor, its meaning at the other.
    TMaze {
        /// Steps from the sign to the junction, 1 or more.
        corridor: usize,
        /// Which moves cost something.
        penalty: Penalty,
    },
    /// The same with a corridor that is drawn for each episode, log-uniformly from 1 on.
    TMazes {
        /// Most steps from the sign to the junction, 1 or more.
        most: usize,
        /// Which moves cost something.
        penalty: Penalty,
    },
    /// A maze with other signs on the way, which mean nothing; the penalty is that of any wrong move.
    DistractingTMaze {
        /// Fewest steps from the sign to the junction, 1 or more.
        least: usize,
        /// Most steps; they are drawn for each episode, log-uniformly.
        most: usize,
    },
    /// Bits shown at first, one of them asked for at last.
    MemoryChain {
        /// Ticks from the bits to the question, 1 or more.
        length: usize,
        /// Bits shown, 1 or more.
        bits: usize,
    },
    /// Two ends of a line, one of them good.
    ProofOfMemory,
}

/// How hard a POPGym environment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difficulty {
    /// Short.
    Easy,
    /// Longer.
    Medium,
    /// Longest.
    Hard,
}

impl Difficulty {
    /// All, the easiest first.
    pub const ALL: [Self; 3] = [Self::Easy, Self::Medium, Self::Hard];

    /// The one of three values that belongs to this difficulty, the easiest first.
    fn among<T: Copy>(self, values: [T; 3]) -> T {
        values[self as usize]
    }
}

impl EnvironmentConfig {
    /// Every POPGym environment in every difficulty, and the others in one moderate size.
    pub fn all() -> Vec<Self> {
        let popgym: [fn(Difficulty) -> Self; 9] = [
            Self::RepeatFirst,
            Self::RepeatPrevious,
            Self::Autoencode,
            Self::CountRecall,
            Self::Concentration,
            Self::Battleship,
            Self::HigherLower,
            Self::MultiarmedBandit,
            Self::PositionOnlyCartPole,
        ];
        let mut all: Vec<Self> = popgym.into_iter().flat_map(|kind| Difficulty::ALL.map(kind)).collect();
        all.push(Self::TMaze { corridor: 100, penalty: Penalty::BehindTime });
        all.push(Self::TMaze { corridor: 100, penalty: Penalty::AnyWrongMove });
        all.push(Self::TMazes { most: 100, penalty: Penalty::BehindTime });
        all.push(Self::TMazes { most: 100, penalty: Penalty::AnyWrongMove });
        all.push(Self::DistractingTMaze { least: 100, most: 100 });
        all.push(Self::DistractingTMaze { least: 1, most: 100 });
        all.push(Self::MemoryChain { length: 100, bits: 1 });
        all.push(Self::ProofOfMemory);
        all
    }

    /// The name, as it stands in files and tables: `repeat-first-easy`, `t-maze-500`, `t-maze-500-any-wrong-move`, `t-maze-up-to-500`,
    /// `distracting-t-maze-500`, `distracting-t-maze-up-to-500`, `memory-chain-256`, `memory-chain-256-bits-4`, `proof-of-memory`.
    pub fn name(&self) -> String {
        let (kind, difficulty) = match self {
            Self::RepeatFirst(difficulty) => ("repeat-first", difficulty),
            Self::RepeatPrevious(difficulty) => ("repeat-previous", difficulty),
            Self::Autoencode(difficulty) => ("autoencode", difficulty),
            Self::CountRecall(difficulty) => ("count-recall", difficulty),
            Self::Concentration(difficulty) => ("concentration", difficulty),
            Self::Battleship(difficulty) => ("battleship", difficulty),
            Self::HigherLower(difficulty) => ("higher-lower", difficulty),
            Self::MultiarmedBandit(difficulty) => ("multiarmed-bandit", difficulty),
            Self::PositionOnlyCartPole(difficulty) => ("position-only-cart-pole", difficulty),
            Self::TMaze { corridor, penalty } => return format!("t-maze-{corridor}{}", penalty.suffix()),
            Self::TMazes { most, penalty } => return format!("t-maze-up-to-{most}{}", penalty.suffix()),
            Self::DistractingTMaze { least, most } if least == most => return format!("distracting-t-maze-{most}"),
            Self::DistractingTMaze { most, .. } => return format!("distracting-t-maze-up-to-{most}"),
            Self::MemoryChain { length, bits: 1 } => return format!("memory-chain-{length}"),
            Self::MemoryChain { length, bits } => return format!("memory-chain-{length}-bits-{bits}"),
            Self::ProofOfMemory => return "proof-of-memory".into(),
        };
        format!("{kind}-{}", difficulty.among(["easy", "medium", "hard"]))
    }

    /// The environment of that [`name`](Self::name), if there is one.
    pub fn parse(name: &str) -> Option<Self> {
        let number = |text: &str| text.parse().ok().filter(|number: &usize| *number > 0);
        let found = if let Some(rest) = name.strip_prefix("t-maze-") {
            let (corridor, penalty) = match rest.strip_suffix(Penalty::AnyWrongMove.suffix()) {
                Some(corridor) => (corridor, Penalty::AnyWrongMove),
                None => (rest, Penalty::BehindTime),
            };
            match corridor.strip_prefix("up-to-") {
                Some(most) => Self::TMazes { most: number(most)?, penalty },
                None => Self::TMaze { corridor: number(corridor)?, penalty },
            }
        } else if let Some(rest) = name.strip_prefix("distracting-t-maze-") {
            match rest.strip_prefix("up-to-") {
                Some(most) => Self::DistractingTMaze { least: 1, most: number(most).filter(|most| *most > 1)? },
                None => Self::DistractingTMaze { least: number(rest)?, most: number(rest)? },
            }
        } else if let Some(rest) = name.strip_prefix("memory-chain-") {
            let (length, bits) = rest.split_once("-bits-").unwrap_or((rest, "1"));
            Self::MemoryChain { length: number(length)?, bits: number(bits).filter(|bits| *bits <= MOST_BITS)? }
        } else {
            Self::all().into_iter().find(|config| config.name() == name)?
        };
        // There is one way to write each: not `t-maze-0500`.
        (found.name() == name).then_some(found)
    }

    /// The environment itself.
    pub fn make(&self) -> Box<dyn Environment> {
        match *self {
            Self::RepeatFirst(difficulty) => Box::new(RepeatFirst::new(difficulty)),
            Self::RepeatPrevious(difficulty) => Box::new(RepeatPrevious::new(difficulty)),
            Self::Autoencode(difficulty) => Box::new(Autoencode::new(difficulty)),
            Self::CountRecall(difficulty) => Box::new(CountRecall::new(difficulty)),
            Self::Concentration(difficulty) => Box::new(Concentration::new(difficulty)),
            Self::Battleship(difficulty) => Box::new(Battleship::new(difficulty)),
            Self::HigherLower(difficulty) => Box::new(HigherLower::new(difficulty)),
            Self::MultiarmedBandit(difficulty) => Box::new(MultiarmedBandit::new(difficulty)),
            Self::PositionOnlyCartPole(difficulty) => Box::new(PositionOnlyCartPole::new(difficulty)),
            Self::TMaze { corridor, penalty } => Box::new(TMaze::new(corridor, penalty)),
            Self::TMazes { most, penalty } => Box::new(TMaze::drawn(1, most, penalty)),
            Self::DistractingTMaze { least, most } => {
                Box::new(TMaze::drawn(least, most, Penalty::AnyWrongMove).distracting())
            }
            Self::MemoryChain { length, bits } => Box::new(MemoryChain::new(length, bits)),
            Self::ProofOfMemory => Box::new(ProofOfMemory::new()),
        }
    }

    /// The mean return of random actions, to two decimals, as published for POPGym's environments in RATE (Cherepanov
    /// et al., arXiv 2306.09459, table 9). The table's rows of medium and hard are exchanged; here each stands where
    /// it belongs. They were estimated from few episodes: the exact means, where they are known, differ by up to .02.
    pub fn random_return(&self) -> Option<f64> {
        self.published().map(|[random, _]| random)
    }

    /// The best mean return of a GRU trained by PPO for 15 million steps, from the same table.
    pub fn published_return(&self) -> Option<f64> {
        self.published().map(|[_, gru]| gru)
    }

    /// The published returns of random actions and of a GRU.
    fn published(&self) -> Option<[f64; 2]> {
        let (difficulty, published) = match self {
            Self::RepeatFirst(difficulty) => (difficulty, [[-0.49, 1.00], [-0.50, 1.00], [-0.50, 0.99]]),
            Self::RepeatPrevious(difficulty) => (difficulty, [[-0.49, 1.00], [-0.50, -0.39], [-0.51, -0.48]]),
            Self::Autoencode(difficulty) => (difficulty, [[-0.50, -0.26], [-0.50, -0.43], [-0.50, -0.48]]),
            Self::CountRecall(difficulty) => (difficulty, [[-0.93, 0.22], [-0.93, -0.55], [-0.88, -0.48]]),
            Self::Concentration(difficulty) => (difficulty, [[-0.19, -0.12], [-0.19, -0.44], [-0.84, -0.87]]),
            Self::Battleship(difficulty) => (difficulty, [[-0.46, -0.35], [-0.41, -0.40], [-0.39, -0.43]]),
            Self::HigherLower(difficulty) => (difficulty, [[0.00, 0.51], [0.01, 0.49], [-0.01, 0.49]]),
            Self::MultiarmedBandit(difficulty) => (difficulty, [[0.02, 0.62], [0.01, 0.59], [0.01, 0.43]]),
            Self::PositionOnlyCartPole(difficulty) => (difficulty, [[0.12, 1.00], [0.05, 1.00], [0.04, 1.00]]),
            _ => return None,
        };
        Some(difficulty.among(published))
    }
}

/// An input that is one of so many tokens.
fn token(name: &str, vocabulary: usize) -> Input {
    Input::Token { name: name.into(), vocabulary }
}

/// What a step gives when the episode was over before.
fn after_the_end(observation: &[f32]) -> Step<'_> {
    Step { observation, reward: 0.0, ending: Ending::Terminated }
}
