//! Two ends of a line, a good one and a bad one, of which one is told at first only.
//!
//! The line goes from −1 to 1 in steps of .2; the agent begins at −.4, −.2, 0, .2 or .4. It sees its left end, its
//! position, and its right end: an end is +1 or −1, one of each, and 0 from the third step on. The first two actions do
//! nothing and cost nothing. Later ones go to the left (0) or to the right (1): a step costs .1, but one onto an end
//! gives +1.6 or −1.6 and is the last. After 16 steps the episode is cut off.
//!
//! ProofofMemory-v0 of CleanRL's `ppo_trxl`, after the proof-of-concept environment of Pleines et al.
//! (*TransformerXL as Episodic Memory in Proximal Policy Optimization*, 2023).

use super::after_the_end;
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use infformer::model::Input;
use infformer::{Channel, Scale};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Steps of .2 from the middle to an end.
const HALF: i8 = 5;
/// Farthest beginning from the middle.
const BEGINNING: i8 = 2;
/// Steps at first that show the ends and do not move.
const SHOWN: usize = 2;
const STEPS: usize = 16;
const COST: f32 = 0.1;
const PRIZE: f32 = 1.6;

/// Two ends of a line, one of them good.
#[derive(Debug, Clone)]
pub struct ProofOfMemory {
    /// In steps of .2.
    position: i8,
    left: f32,
    time: usize,
    observation: [f32; 3],
    over: bool,
}

impl ProofOfMemory {
    /// A line on which nobody goes yet.
    pub fn new() -> Self {
        Self { position: 0, left: 1.0, time: 0, observation: [0.0; 3], over: true }
    }

    fn show(&mut self) {
        let left = if self.time <= SHOWN { self.left } else { 0.0 };
        self.observation = [left, f32::from(self.position) / f32::from(HALF), 0.0 - left];
    }
}

impl Default for ProofOfMemory {
    fn default() -> Self {
        Self::new()
    }
}

impl Environment for ProofOfMemory {
    fn observations(&self) -> Vec<Input> {
        let channels = ["left", "position", "right"].map(|name| Channel::new(name, "", Scale::Given(1.0)));
        vec![Input::Continuous { name: "line".into(), channels: channels.into() }]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(2)
    }

    fn returns(&self) -> [f64; 2] {
        // The best begins three steps from the good end; the worst reaches the bad one with the last step.
        let steps = |count: i32| f64::from(COST) * f64::from(count - 1);
        let (shortest, longest) = (i32::from(HALF - BEGINNING), (STEPS - SHOWN) as i32);
        [-f64::from(PRIZE) - steps(longest), f64::from(PRIZE) - steps(shortest)]
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        self.position = random.random_range(-BEGINNING..=BEGINNING);
        self.left = if random.random() { 1.0 } else { -1.0 };
        (self.time, self.over) = (0, false);
        self.show();
        &self.observation
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        if self.over {
            return after_the_end(&self.observation);
        }
        self.time += 1;
        let mut reward = 0.0;
        if self.time > SHOWN {
            self.position += if action.choice(2) == 1 { 1 } else { -1 };
            reward = match self.position.abs() == HALF {
                true => -self.left * f32::from(self.position.signum()) * PRIZE,
                false => -COST,
            };
        }
        self.show();
        let ending = match self.position.abs() == HALF {
            true => Ending::Terminated,
            false if self.time == STEPS => Ending::Truncated,
            false => Ending::Running,
        };
        self.over = ending != Ending::Running;
        Step { observation: &self.observation, reward, ending }
    }
}
