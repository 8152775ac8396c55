//! Which arm pays?
//!
//! Each of 10, 20 or 30 arms (easy, medium, hard) has a probability of its own, uniform between 0 and 1, that stays for
//! the episode. An action pulls an arm; the observation is 1 if it paid, else 0, also at the beginning. With T = 200,
//! 400 or 600 it is +1/T if it paid, else −1/T. The episode is cut off after T steps. Who knows the best arm gets
//! 1 − 2/(arms + 1) in the mean.
//!
//! MultiarmedBandit of POPGym (Morad et al., ICLR 2023).

use super::{Difficulty, after_the_end, token};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use crate::error::{Error, Result};
use infformer::model::Input;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Which arm pays.
#[derive(Debug, Clone)]
pub struct MultiarmedBandit {
    /// How probably each arm pays.
    arms: Vec<f32>,
    length: usize,
    random: ChaCha8Rng,
    time: usize,
    observation: [f32; 1],
    over: bool,
}

impl MultiarmedBandit {
    /// Arms that were not given probabilities yet.
    pub fn new(difficulty: Difficulty) -> Self {
        let (arms, length) = difficulty.among([(10, 200), (20, 400), (30, 600)]);
        let random = ChaCha8Rng::seed_from_u64(0);
        Self { arms: vec![0.0; arms], length, random, time: 0, observation: [0.0], over: true }
    }

    /// Begins an episode with these probabilities, one an arm; the payouts come from the seed.
    /// Errors: not as many as the arms; the game is as it was.
    pub fn set(&mut self, probabilities: &[f32], seed: u64) -> Result<&[f32]> {
        if probabilities.len() != self.arms.len() {
            let (arms, found) = (self.arms.len(), probabilities.len());
            return Err(Error::Beginning(format!("{arms} probabilities are expected, one an arm: {found} found")));
        }
        self.arms.copy_from_slice(probabilities);
        self.random = ChaCha8Rng::seed_from_u64(seed);
        Ok(self.begin())
    }

    fn begin(&mut self) -> &[f32] {
        (self.time, self.observation, self.over) = (0, [0.0], false);
        &self.observation
    }
}

impl Environment for MultiarmedBandit {
    fn observations(&self) -> Vec<Input> {
        vec![token("paid", 2)]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(self.arms.len())
    }

    fn returns(&self) -> [f64; 2] {
        [-1.0, 1.0]
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        self.random = ChaCha8Rng::seed_from_u64(seed);
        self.arms.iter_mut().for_each(|arm| *arm = self.random.random());
        self.begin()
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        if self.over {
            return after_the_end(&self.observation);
        }
        let paid = self.random.random::<f32>() < self.arms[action.choice(self.arms.len())];
        let share = 1.0 / self.length as f32;
        self.time += 1;
        self.over = self.time == self.length;
        self.observation = [f32::from(u8::from(paid))];
        Step {
            observation: &self.observation,
            reward: if paid { share } else { -share },
            ending: if self.over { Ending::Truncated } else { Ending::Running },
        }
    }
}
