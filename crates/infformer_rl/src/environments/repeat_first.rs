//! Which suit did the very first card have?
//!
//! 1, 8 or 16 decks (easy, medium, hard) of n cards are shuffled. The first card's suit is seen, then with every step
//! another's. Every action is a suit: +1/(n − 1) if it is that of the first card, else −1/(n − 1). The episode ends
//! with the last card, after n − 1 steps: 51, 415 or 831.
//!
//! RepeatFirst of POPGym (Morad et al., *POPGym: Benchmarking Partially Observable Reinforcement Learning*, ICLR 2023).

use super::cards::{Deck, Face};
use super::{Difficulty, after_the_end, token};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use crate::error::Result;
use infformer::model::Input;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The suit of the very first card, again and again.
#[derive(Debug, Clone)]
pub struct RepeatFirst {
    deck: Deck,
    observation: [f32; 1],
    over: bool,
}

impl RepeatFirst {
    /// A game that was not begun.
    pub fn new(difficulty: Difficulty) -> Self {
        Self { deck: Deck::new(difficulty.among([1, 8, 16])), observation: [0.0], over: true }
    }

    /// Begins an episode with these cards, the first dealt first.
    /// Errors: not as many as the decks have, or one beyond 51; the game is as it was.
    pub fn deal(&mut self, deck: &[u8]) -> Result<&[f32]> {
        self.deck.stack(deck)?;
        Ok(self.begin())
    }

    fn begin(&mut self) -> &[f32] {
        self.show();
        self.over = false;
        &self.observation
    }

    fn show(&mut self) {
        self.observation = [f32::from(Face::Suit.of(self.deck.deal()))];
    }
}

impl Environment for RepeatFirst {
    fn observations(&self) -> Vec<Input> {
        vec![token("suit", Face::Suit.classes())]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(Face::Suit.classes())
    }

    fn returns(&self) -> [f64; 2] {
        [-1.0, 1.0]
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        self.deck.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        self.begin()
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        if self.over {
            return after_the_end(&self.observation);
        }
        let first = usize::from(Face::Suit.of(self.deck.cards()[0]));
        let sign = if action.choice(Face::Suit.classes()) == first { 1.0 } else { -1.0 };
        self.show();
        self.over = self.deck.left() == 0;
        Step {
            observation: &self.observation,
            reward: sign / (self.deck.cards().len() - 1) as f32,
            ending: if self.over { Ending::Terminated } else { Ending::Running },
        }
    }
}
