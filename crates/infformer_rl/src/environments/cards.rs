//! Decks of cards, shuffled and dealt.
//!
//! A card is a number from 0 to 51, as in POPGym: four suits after one another make a rank, so that card c has suit
//! c mod 4, colour c mod 2 and rank ⌊c/4⌋.

use crate::error::{Error, Result};
use rand::Rng;
use rand::seq::SliceRandom;

/// Cards of one deck.
pub const DECK: usize = 52;

/// What of a card counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Black or red.
    Colour,
    /// One of four.
    Suit,
    /// One of thirteen, the ace the lowest.
    Rank,
}

impl Face {
    /// How many different ones there are.
    pub fn classes(self) -> usize {
        match self {
            Face::Colour => 2,
            Face::Suit => 4,
            Face::Rank => 13,
        }
    }

    /// Which one a card has.
    pub fn of(self, card: u8) -> u8 {
        match self {
            Face::Colour => card % 2,
            Face::Suit => card % 4,
            Face::Rank => card / 4,
        }
    }
}

/// One or more decks in one pile, in the order in which they are dealt.
#[derive(Debug, Clone)]
pub struct Deck {
    cards: Vec<u8>,
    dealt: usize,
}

impl Deck {
    /// So many decks, in order.
    pub fn new(decks: usize) -> Self {
        Self { cards: (0..decks).flat_map(|_| 0..DECK as u8).collect(), dealt: 0 }
    }

    /// Takes all cards back and shuffles them. The order before does not matter.
    pub fn shuffle(&mut self, random: &mut impl Rng) {
        self.cards.iter_mut().enumerate().for_each(|(place, card)| *card = (place % DECK) as u8);
        self.cards.shuffle(random);
        self.dealt = 0;
    }

    /// Puts these cards in place of all, the first to be dealt first.
    /// Errors: not as many, or one beyond 51; the pile is as it was.
    pub fn stack(&mut self, cards: &[u8]) -> Result<()> {
        if cards.len() != self.cards.len() {
            let (expected, found) = (self.cards.len(), cards.len());
            return Err(Error::Beginning(format!("{expected} cards are expected: {found} found")));
        }
        if let Some(card) = cards.iter().find(|card| usize::from(**card) >= DECK) {
            return Err(Error::Beginning(format!("a card is a number from 0 to 51: {card} found")));
        }
        self.cards.copy_from_slice(cards);
        self.dealt = 0;
        Ok(())
    }

    /// The next card.
    ///
    /// # Panics
    /// If none is left.
    pub fn deal(&mut self) -> u8 {
        self.dealt += 1;
        self.cards[self.dealt - 1]
    }

    /// All cards, dealt or not.
    pub fn cards(&self) -> &[u8] {
        &self.cards
    }

    /// The cards that were dealt, the newest last.
    pub fn dealt(&self) -> &[u8] {
        &self.cards[..self.dealt]
    }

    /// How many were not dealt.
    pub fn left(&self) -> usize {
        self.cards.len() - self.dealt
    }
}
