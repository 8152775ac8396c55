//! How often was this class of card dealt?
//!
//! Two piles of 1, 2 or 4 decks (easy, medium, hard) of n cards are shuffled; of a card its colour, suit or rank
//! counts. At the beginning and with every step a card of each pile is dealt. The observation is the class of the first
//! pile's card and the class of the other's, which is the question: how often was that class dealt from the first pile,
//! this time included? The action that follows answers: +1/(n − 1) if it is right, else −1/(n − 1). The episode ends
//! with the last card, after n − 1 steps: 51, 103 or 207.
//!
//! Actions are the counts from 0 to one below the largest: 26, 26 or 16 of them, so that a question after the last card
//! of a class cannot be answered. This is how POPGym was until version 1.0.7 (June 2026), which added the largest
//! count; the published results were got before.
//!
//! CountRecall of POPGym (Morad et al., ICLR 2023).

use super::cards::{Deck, Face};
use super::{Difficulty, after_the_end, token};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use crate::error::Result;
use infformer::model::Input;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// How often a class was dealt.
#[derive(Debug, Clone)]
pub struct CountRecall {
    dealt: Deck,
    questions: Deck,
    face: Face,
    /// How often each class was dealt.
    counts: Vec<usize>,
    observation: [f32; 2],
    over: bool,
}

impl CountRecall {
    /// A game that was not begun.
    pub fn new(difficulty: Difficulty) -> Self {
        let (decks, face) = difficulty.among([(1, Face::Colour), (2, Face::Suit), (4, Face::Rank)]);
        let (dealt, questions, counts) = (Deck::new(decks), Deck::new(decks), vec![0; face.classes()]);
        Self { dealt, questions, face, counts, observation: [0.0; 2], over: true }
    }

    /// Begins an episode with these two piles, the first card of each dealt first.
    /// Errors: not as many as the decks have, or one beyond 51; the game is as it was.
    pub fn deal(&mut self, dealt: &[u8], questions: &[u8]) -> Result<&[f32]> {
        let mut pile = self.dealt.clone();
        pile.stack(dealt)?;
        self.questions.stack(questions)?;
        self.dealt = pile;
        Ok(self.begin())
    }

    fn begin(&mut self) -> &[f32] {
        self.counts.fill(0);
        self.show();
        self.over = false;
        &self.observation
    }

    fn show(&mut self) {
        let [dealt, question] = [self.dealt.deal(), self.questions.deal()].map(|card| self.face.of(card));
        self.counts[usize::from(dealt)] += 1;
        self.observation = [dealt, question].map(f32::from);
    }

    fn choices(&self) -> usize {
        self.dealt.cards().len() / self.face.classes()
    }
}

impl Environment for CountRecall {
    fn observations(&self) -> Vec<Input> {
        vec![token("dealt", self.face.classes()), token("question", self.face.classes())]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(self.choices())
    }

    fn returns(&self) -> [f64; 2] {
        [-1.0, 1.0]
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        self.dealt.shuffle(&mut random);
        self.questions.shuffle(&mut random);
        self.begin()
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        if self.over {
            return after_the_end(&self.observation);
        }
        let question = self.observation[1] as usize;
        let sign = if action.choice(self.choices()) == self.counts[question] { 1.0 } else { -1.0 };
        self.show();
        self.over = self.dealt.left() == 0;
        Step {
            observation: &self.observation,
            reward: sign / (self.dealt.cards().len() - 1) as f32,
            ending: if self.over { Ending::Terminated } else { Ending::Running },
        }
    }
}
