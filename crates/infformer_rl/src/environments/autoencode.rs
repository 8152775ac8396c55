//! All suits, recited in reverse.
//!
//! 1, 2 or 3 decks (easy, medium, hard) of n cards are shuffled. An observation is a mode, WATCH (1) or PLAY (0), and a
//! suit. The first card's suit is seen at the beginning and another's after each of n − 1 steps of WATCH, in which
//! actions count nothing; the last card is seen together with PLAY. Then come n steps of PLAY whose actions are to be
//! the suits of all cards, the last first: +1/n for each that is right, else −1/n. After a step of PLAY the suit seen
//! is 0, whatever the cards. An episode has 2n − 1 steps: 103, 207 or 311.
//!
//! Autoencode of POPGym (Morad et al., ICLR 2023).

use super::cards::{Deck, Face};
use super::{Difficulty, after_the_end, token};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use crate::error::Result;
use infformer::model::Input;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const PLAY: f32 = 0.0;
const WATCH: f32 = 1.0;

/// All suits, in reverse.
#[derive(Debug, Clone)]
pub struct Autoencode {
    deck: Deck,
    recited: usize,
    observation: [f32; 2],
    over: bool,
}

impl Autoencode {
    /// A game that was not begun.
    pub fn new(difficulty: Difficulty) -> Self {
        Self { deck: Deck::new(difficulty.among([1, 2, 3])), recited: 0, observation: [WATCH, 0.0], over: true }
    }

    /// Begins an episode with these cards, the first dealt first.
    /// Errors: not as many as the decks have, or one beyond 51; the game is as it was.
    pub fn deal(&mut self, deck: &[u8]) -> Result<&[f32]> {
        self.deck.stack(deck)?;
        Ok(self.begin())
    }

    fn begin(&mut self) -> &[f32] {
        self.show();
        (self.recited, self.over) = (0, false);
        &self.observation
    }

    fn show(&mut self) {
        let suit = f32::from(Face::Suit.of(self.deck.deal()));
        self.observation = [if self.deck.left() > 0 { WATCH } else { PLAY }, suit];
    }
}

impl Environment for Autoencode {
    fn observations(&self) -> Vec<Input> {
        vec![token("mode", 2), token("suit", Face::Suit.classes())]
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
        if self.deck.left() > 0 {
            self.show();
            return Step { observation: &self.observation, reward: 0.0, ending: Ending::Running };
        }
        let cards = self.deck.cards();
        let share = 1.0 / cards.len() as f32;
        let asked = usize::from(Face::Suit.of(cards[cards.len() - 1 - self.recited]));
        let reward = if action.choice(Face::Suit.classes()) == asked { share } else { -share };
        self.recited += 1;
        self.over = self.recited == cards.len();
        self.observation = [PLAY, 0.0];
        let ending = if self.over { Ending::Terminated } else { Ending::Running };
        Step { observation: &self.observation, reward, ending }
    }
}
