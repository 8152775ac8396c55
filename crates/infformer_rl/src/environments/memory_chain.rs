//! Bits are shown at first; at last one of them is asked for.
//!
//! The clock t goes from 0 to N, the chain's length. An observation is the time left 1 − t/N, the question, and the
//! bits. The bits are −1 or +1 at t = 0 and 0 after; the question is which bit, counted from 0, at t = N − 1, and 0 at
//! all other times. The action after the question answers it, 0 for −1 and 1 for +1: the reward is +1 if that is the
//! bit, else −1. All other actions do nothing.
//!
//! As in the source the first step shows t = 0 a second time. So the bits are seen twice, at the beginning and after
//! the first step; the question is seen after step N; step N + 1 answers it, sees t = N and ends the episode.
//!
//! MemoryChain of bsuite (Osband et al., *Behaviour Suite for Reinforcement Learning*, ICLR 2020).

use super::{after_the_end, token};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use infformer::model::Input;
use infformer::{Channel, Scale};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Channels before the bits: time and question.
const BEFORE_BITS: usize = 2;

/// Bits shown at first, one of them asked for at last.
#[derive(Debug, Clone)]
pub struct MemoryChain {
    length: usize,
    bits: Vec<bool>,
    asked: usize,
    clock: usize,
    observation: Vec<f32>,
    over: bool,
}

impl MemoryChain {
    /// A chain of length N with so many bits, 1 of each at least.
    pub fn new(length: usize, bits: usize) -> Self {
        let bits = vec![false; bits.max(1)];
        let observation = vec![0.0; BEFORE_BITS + bits.len()];
        Self { length: length.max(1), bits, asked: 0, clock: 0, observation, over: true }
    }

    fn show(&mut self) {
        self.observation[0] = 1.0 - self.clock as f32 / self.length as f32;
        self.observation[1] = if self.clock == self.length - 1 { self.asked as f32 } else { 0.0 };
        for (shown, bit) in self.observation[BEFORE_BITS..].iter_mut().zip(&self.bits) {
            *shown = match (self.clock, bit) {
                (0, true) => 1.0,
                (0, false) => -1.0,
                _ => 0.0,
            };
        }
    }
}

impl Environment for MemoryChain {
    fn observations(&self) -> Vec<Input> {
        let channel = |name: &str| Channel::new(name, "", Scale::Given(1.0));
        let bits = (0..self.bits.len()).map(|bit| channel(&format!("bit_{bit}"))).collect();
        vec![
            Input::Continuous { name: "time".into(), channels: vec![channel("left")] },
            token("question", self.bits.len()),
            Input::Continuous { name: "context".into(), channels: bits },
        ]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(2)
    }

    fn returns(&self) -> [f64; 2] {
        [-1.0, 1.0]
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        self.bits.iter_mut().for_each(|bit| *bit = random.random());
        self.asked = random.random_range(0..self.bits.len());
        (self.clock, self.over) = (0, false);
        self.show();
        &self.observation
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        if self.over {
            return after_the_end(&self.observation);
        }
        self.show();
        self.over = self.clock == self.length;
        self.clock += 1;
        let (reward, ending) = match self.over {
            false => (0.0, Ending::Running),
            true if action.choice(2) == usize::from(self.bits[self.asked]) => (1.0, Ending::Terminated),
            true => (-1.0, Ending::Terminated),
        };
        Step { observation: &self.observation, reward, ending }
    }
}
