//! A sign at one end of a corridor says which way to turn at the other.
//!
//! The agent begins at x = 0 and sees (0, goal), the goal being +1 (up) or −1 (down). It sees the goal this once. In
//! the corridor, and at x = 0 later, it sees (0, 0); at the junction x = T and on the two fields beside it, (1, y).
//! Actions: 0 right, 1 up, 2 left, 3 down; a move into a wall leaves it where it is. An episode has exactly T + 1
//! steps. Its last gives 1 if y is the goal, else 0. Of the steps before it some cost 1/T each, as a [`Penalty`] says,
//! so that the worst return is −1 at any length (descriptions of it have .1 a step). The best is 1: T times right, then
//! the turn.
//!
//! A maze whose corridor is drawn anew for every episode, log-uniformly, is for training: the junction is met early, and
//! what is learnt does not count steps.
//!
//! In a distracting maze one tick in eight of the corridor shows a side too, drawn anew and meaning nothing: only the first
//! sign counts.
//!
//! The passive T-maze of Ni et al. (*When Do Transformers Shine in RL?*, NeurIPS 2023), after Bakker (2001); the second
//! penalty is that of AMAGO (Grigsby et al., ICLR 2024). Distractions are ours.

use super::after_the_end;
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use infformer::model::Input;
use infformer::{Channel, Scale};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const RIGHT: usize = 0;
const UP: usize = 1;
const LEFT: usize = 2;
const ACTIONS: usize = 4;

/// Which steps before the last cost 1/T.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Penalty {
    /// Every step at whose end x is less than the number of steps, as published: one wrong move costs at every step
    /// that follows.
    BehindTime,
    /// Every step that is not to the right. The same best play, but far easier to learn.
    AnyWrongMove,
}

impl Penalty {
    /// What stands behind the name of a maze.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::BehindTime => "",
            Self::AnyWrongMove => "-any-wrong-move",
        }
    }
}

/// What is seen in the corridor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signs {
    /// The first sign alone.
    One,
    /// Others that mean nothing.
    Distracting,
}

/// A corridor of any length, in a few numbers.
#[derive(Debug, Clone)]
pub struct TMaze {
    least: usize,
    most: usize,
    corridor: usize,
    penalty: Penalty,
    signs: Signs,
    /// Of the episode.
    seed: u64,
    x: usize,
    y: i8,
    goal: i8,
    time: usize,
    observation: [f32; 2],
    over: bool,
}

impl TMaze {
    /// A maze with so many steps from the sign to the junction, 1 at least.
    pub fn new(corridor: usize, penalty: Penalty) -> Self {
        Self::drawn(corridor, corridor, penalty)
    }

    /// A maze whose steps to the junction are drawn for each episode: `least`, 1 at least, to `most`.
    pub fn drawn(least: usize, most: usize, penalty: Penalty) -> Self {
        let least = least.max(1);
        let most = most.max(least);
        let observation = [0.0; 2];
        let signs = Signs::One;
        Self {
            least,
            most,
            corridor: most,
            penalty,
            signs,
            seed: 0,
            x: 0,
            y: 0,
            goal: 1,
            time: 0,
            observation,
            over: true,
        }
    }

    /// The same maze with signs on the way that mean nothing.
    pub fn distracting(self) -> Self {
        Self { signs: Signs::Distracting, ..self }
    }

    /// Where the agent is: steps from the sign, and −1, 0 or 1 beside the junction.
    pub fn place(&self) -> (usize, i8) {
        (self.x, self.y)
    }

    /// The side that the sign tells: 1 or −1.
    pub fn goal(&self) -> i8 {
        self.goal
    }

    /// What a field of the corridor shows at this time: 1 or −1 for a side that means nothing.
    fn shown(&self) -> f32 {
        if self.signs == Signs::One {
            return 0.0;
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(self.time as u64);
        match random.random_range(0..16) {
            0 => 1.0,
            1 => -1.0,
            _ => 0.0,
        }
    }

    /// The junction is reached with the last step but one at the soonest, so that nobody comes back from a turn.
    fn walk(&mut self, action: usize) {
        let junction = self.x == self.corridor;
        match action {
            RIGHT => self.x += usize::from(!junction),
            LEFT => self.x = self.x.saturating_sub(1),
            UP => self.y = i8::from(junction),
            _ => self.y = -i8::from(junction),
        }
    }
}

impl Environment for TMaze {
    fn observations(&self) -> Vec<Input> {
        let channel = |name| Channel::new(name, "", Scale::Given(1.0));
        vec![Input::Continuous { name: "seen".into(), channels: vec![channel("junction"), channel("side")] }]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(ACTIONS)
    }

    fn returns(&self) -> [f64; 2] {
        [-1.0, 1.0]
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let up: bool = random.random();
        if self.least < self.most {
            let (least, most) = (self.least as f64, self.most as f64);
            let drawn = least * (most / least).powf(random.random_range(0.0..1.0));
            self.corridor = (drawn.round() as usize).clamp(self.least, self.most);
        }
        (self.goal, self.seed) = (if up { 1 } else { -1 }, seed);
        (self.x, self.y, self.time, self.over) = (0, 0, 0, false);
        self.observation = [0.0, f32::from(self.goal)];
        &self.observation
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        if self.over {
            return after_the_end(&self.observation);
        }
        let action = action.choice(ACTIONS);
        self.walk(action);
        self.time += 1;
        self.observation = if self.x == self.corridor { [1.0, f32::from(self.y)] } else { [0.0, self.shown()] };
        self.over = self.time > self.corridor;
        let wrong = match self.penalty {
            Penalty::BehindTime => self.x < self.time,
            Penalty::AnyWrongMove => action != RIGHT,
        };
        let (reward, ending) = if self.over {
            (if self.y == self.goal { 1.0 } else { 0.0 }, Ending::Terminated)
        } else {
            (if wrong { -1.0 / self.corridor as f32 } else { 0.0 }, Ending::Running)
        };
        Step { observation: &self.observation, reward, ending }
    }
}
