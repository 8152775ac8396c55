//! Cards lie face down; who turns two alike keeps them face up.
//!
//! 1, 2 or 1 decks (easy, medium, hard) of n cards lie in a random order; two are alike if they have the same colour,
//! colour or rank. An action turns one card. The observation shows the class of each card that lies face up or was
//! turned in this attempt, and another token for all that lie face down. With T = 104, 208 or 104 steps at most:
//!
//! - The first card of an attempt counts nothing.
//! - A second one like it: +1/(n/2), and both stay face up.
//! - A second one unlike it, or the same card again: −2/T, and both are turned down at the next step.
//! - A card that lies face up already: −1/T as the first, −2/T as the second, and the attempt is over.
//!
//! The episode ends when all cards lie face up, and is cut off after T steps.
//!
//! Concentration of POPGym (Morad et al., ICLR 2023).

use super::cards::{Deck, Face};
use super::{Difficulty, after_the_end, token};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use crate::error::Result;
use infformer::model::Input;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Pairs of cards that lie face down.
#[derive(Debug, Clone)]
pub struct Concentration {
    deck: Deck,
    face: Face,
    face_up: Vec<bool>,
    /// The first card of the attempt.
    first: Option<usize>,
    time: usize,
    observation: Vec<f32>,
    over: bool,
}

impl Concentration {
    /// A game that was not begun.
    pub fn new(difficulty: Difficulty) -> Self {
        let (decks, face) = difficulty.among([(1, Face::Colour), (2, Face::Colour), (1, Face::Rank)]);
        let deck = Deck::new(decks);
        let cards = deck.cards().len();
        let observation = vec![face.classes() as f32; cards];
        Self { deck, face, face_up: vec![false; cards], first: None, time: 0, observation, over: true }
    }

    /// Begins an episode with these cards on the table, in this order.
    /// Errors: not as many as the decks have, or one beyond 51; the game is as it was.
    pub fn deal(&mut self, deck: &[u8]) -> Result<&[f32]> {
        self.deck.stack(deck)?;
        Ok(self.begin())
    }

    fn begin(&mut self) -> &[f32] {
        self.face_up.fill(false);
        self.observation.fill(self.face.classes() as f32);
        (self.first, self.time, self.over) = (None, 0, false);
        &self.observation
    }

    /// T: ⌈2n − n/(2n − 1)⌉ in the source, which is twice the cards.
    fn most_steps(&self) -> usize {
        2 * self.face_up.len()
    }

    fn class(&self, place: usize) -> u8 {
        self.face.of(self.deck.cards()[place])
    }

    fn show(&mut self, turned: [Option<usize>; 2]) {
        for place in 0..self.face_up.len() {
            let seen = self.face_up[place] || turned.contains(&Some(place));
            self.observation[place] = if seen { f32::from(self.class(place)) } else { self.face.classes() as f32 };
        }
    }
}

impl Environment for Concentration {
    fn observations(&self) -> Vec<Input> {
        (0..self.face_up.len()).map(|place| token(&format!("card_{place}"), self.face.classes() + 1)).collect()
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(self.face_up.len())
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
        let turned = action.choice(self.face_up.len());
        let first = self.first.take();
        self.show([first, Some(turned)]);
        let share = 1.0 / self.most_steps() as f32;
        let reward = match first {
            None if self.face_up[turned] => -share,
            None => {
                self.first = Some(turned);
                0.0
            }
            Some(first) if !self.face_up[turned] && first != turned && self.class(first) == self.class(turned) => {
                (self.face_up[first], self.face_up[turned]) = (true, true);
                1.0 / (self.face_up.len() / 2) as f32
            }
            Some(_) => -2.0 * share,
        };
        self.time += 1;
        let ending = if self.face_up.iter().all(|up| *up) {
            Ending::Terminated
        } else if self.time == self.most_steps() {
            Ending::Truncated
        } else {
            Ending::Running
        };
        self.over = ending != Ending::Running;
        Step { observation: &self.observation, reward, ending }
    }
}
