//! Will the next card be higher or lower?
//!
//! 1, 2 or 3 decks (easy, medium, hard) of n cards are shuffled, and the first card's rank is seen, 0 (the ace) to 12.
//! An action says that the next card is higher (0) or lower (1); then that card is seen. +1/n if it was right, −1/n if
//! it was wrong, 0 if the ranks are the same. The episode ends with the last card, after n − 1 steps: 51, 103 or 155.
//! Higher below the middle rank and lower above gives about .5; counting cards gives a little more.
//!
//! HigherLower of POPGym (Morad et al., ICLR 2023).

use super::cards::{Deck, Face};
use super::{Difficulty, after_the_end, token};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use crate::error::Result;
use infformer::model::Input;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::cmp::Ordering;

const HIGHER: usize = 0;
const ACTIONS: usize = 2;

/// Whether the next card is higher.
#[derive(Debug, Clone)]
pub struct HigherLower {
    deck: Deck,
    observation: [f32; 1],
    over: bool,
}

impl HigherLower {
    /// A game that was not begun.
    pub fn new(difficulty: Difficulty) -> Self {
        Self { deck: Deck::new(difficulty.among([1, 2, 3])), observation: [0.0], over: true }
    }

    /// Begins an episode with these cards, the first dealt first.
    /// Errors: not as many as the decks have, or one beyond 51; the game is as it was.
    pub fn deal(&mut self, deck: &[u8]) -> Result<&[f32]> {
        self.deck.stack(deck)?;
        Ok(self.begin())
    }

    fn begin(&mut self) -> &[f32] {
        self.observation = [f32::from(Face::Rank.of(self.deck.deal()))];
        self.over = false;
        &self.observation
    }
}

impl Environment for HigherLower {
    fn observations(&self) -> Vec<Input> {
        vec![token("rank", Face::Rank.classes())]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(ACTIONS)
    }

    fn returns(&self) -> [f64; 2] {
        // A deck can be shuffled so that no two ranks in a row are the same.
        let cards = self.deck.cards().len() as f64;
        [-(cards - 1.0) / cards, (cards - 1.0) / cards]
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        self.deck.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        self.begin()
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        if self.over {
            return after_the_end(&self.observation);
        }
        let next = f32::from(Face::Rank.of(self.deck.deal()));
        let guess = if action.choice(ACTIONS) == HIGHER { Ordering::Greater } else { Ordering::Less };
        let share = 1.0 / self.deck.cards().len() as f32;
        let reward = match next.total_cmp(&self.observation[0]) {
            Ordering::Equal => 0.0,
            found if found == guess => share,
            _ => -share,
        };
        self.observation = [next];
        self.over = self.deck.left() == 0;
        let ending = if self.over { Ending::Terminated } else { Ending::Running };
        Step { observation: &self.observation, reward, ending }
    }
}
