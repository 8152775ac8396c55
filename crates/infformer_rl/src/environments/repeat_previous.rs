//! Which suit did the card have that was seen some steps before?
//!
//! 1, 2 or 3 decks (easy, medium, hard) of n cards are shuffled; k is 4, 32 or 64. One card's suit is seen at first and
//! another with every step. Every action is a suit. Once k cards were seen, it is +1/(n − k) if it is that of the card
//! k − 1 before the one seen now, else −1/(n − k); before that it counts nothing. The episode ends with the last card,
//! after n − 1 steps: 51, 103 or 155.
//!
//! RepeatPrevious of POPGym (Morad et al., ICLR 2023).

use super::cards::{Deck, Face};
use super::{Difficulty, after_the_end, token};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use crate::error::Result;
use infformer::model::Input;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The suit of the card k − 1 before.
#[derive(Debug, Clone)]
pub struct RepeatPrevious {
    deck: Deck,
    k: usize,
    observation: [f32; 1],
    over: bool,
}

impl RepeatPrevious {
    /// A game that was not begun.
    pub fn new(difficulty: Difficulty) -> Self {
        let (decks, k) = difficulty.among([(1, 4), (2, 32), (3, 64)]);
        Self { deck: Deck::new(decks), k, observation: [0.0], over: true }
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

impl Environment for RepeatPrevious {
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
        let share = 1.0 / (self.deck.cards().len() - self.k) as f32;
        let asked = self.deck.dealt().iter().rev().nth(self.k - 1).map(|card| usize::from(Face::Suit.of(*card)));
        let reward = match asked {
            None => 0.0,
            Some(suit) if suit == action.choice(Face::Suit.classes()) => share,
            Some(_) => -share,
        };
        self.show();
        self.over = self.deck.left() == 0;
        Step {
            observation: &self.observation,
            reward,
            ending: if self.over { Ending::Terminated } else { Ending::Running },
        }
    }
}
