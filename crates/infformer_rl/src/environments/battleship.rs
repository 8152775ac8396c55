//! Ships on a board that is not shown.
//!
//! On a board of n × n cells, n = 8, 10 or 12 (easy, medium, hard), four ships of 2, 3, 3 and 4 cells lie in rows or
//! columns, where they may touch but not overlap: 12 cells. Each is placed from a random cell in one of four random
//! directions until it fits. An action is a row and a column. The observation is 1 after
//! the first shot at a ship's cell, else 0, also at the beginning. Such a hit is +1/12; all else, an old hit again
//! too, −1/(n² − 12). The episode ends with the twelfth hit and is cut off after n² steps: the least return is
//! −n²/(n² − 12), and who shoots at every cell once gets 0 at least.
//!
//! Battleship of POPGym (Morad et al., ICLR 2023).

use super::{Difficulty, after_the_end, token};
use crate::environment::{Action, ActionSpace, Ending, Environment, Step};
use crate::error::{Error, Result};
use infformer::model::Input;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SHIPS: [usize; 4] = [2, 3, 3, 4];
const SHIP_CELLS: usize = 12;

/// Ships on a board that is not shown.
#[derive(Debug, Clone)]
pub struct Battleship {
    /// Rows and columns.
    board: &'static [usize; 2],
    side: usize,
    ships: Vec<bool>,
    shot_at: Vec<bool>,
    hits: usize,
    time: usize,
    observation: [f32; 1],
    over: bool,
}

impl Battleship {
    /// A game that was not begun.
    pub fn new(difficulty: Difficulty) -> Self {
        let board = difficulty.among([&[8, 8], &[10, 10], &[12, 12]]);
        let side = board[0];
        let empty = vec![false; side * side];
        Self { board, side, ships: empty.clone(), shot_at: empty, hits: 0, time: 0, observation: [0.0], over: true }
    }

    /// Begins an episode with ships in these cells, row by row.
    /// Errors: not n² cells, 12 of them with a ship; the game is as it was.
    pub fn place(&mut self, ships: &[bool]) -> Result<&[f32]> {
        let found = (ships.len(), ships.iter().filter(|ship| **ship).count());
        let expected = (self.ships.len(), SHIP_CELLS);
        if found != expected {
            let ((cells, ships), (all, with_ships)) = (found, expected);
            let message =
                format!("{all} cells, {with_ships} of them with a ship, are expected: {cells} and {ships} found");
            return Err(Error::Beginning(message));
        }
        self.ships.copy_from_slice(ships);
        Ok(self.begin())
    }

    fn begin(&mut self) -> &[f32] {
        self.shot_at.fill(false);
        (self.hits, self.time, self.observation, self.over) = (0, 0, [0.0], false);
        &self.observation
    }

    /// Puts one ship where it fits.
    fn place_at_random(&mut self, size: usize, random: &mut impl Rng) {
        loop {
            let [row, column] = [(); 2].map(|()| random.random_range(0..self.side));
            let (along_rows, forwards): (bool, bool) = random.random();
            let along = if along_rows { row } else { column };
            let fits = if forwards { along + size <= self.side } else { along + 1 >= size };
            let step = if along_rows { self.side } else { 1 };
            let back = if forwards { 0 } else { (size - 1) * step };
            let start = row * self.side + column;
            if fits && (0..size).all(|part| !self.ships[start + part * step - back]) {
                (0..size).for_each(|part| self.ships[start + part * step - back] = true);
                return;
            }
        }
    }
}

impl Environment for Battleship {
    fn observations(&self) -> Vec<Input> {
        vec![token("hit", 2)]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::MultiDiscrete(self.board)
    }

    fn returns(&self) -> [f64; 2] {
        let cells = self.ships.len() as f64;
        [-cells / (cells - SHIP_CELLS as f64), 1.0]
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        self.ships.fill(false);
        SHIPS.into_iter().for_each(|size| self.place_at_random(size, &mut random));
        self.begin()
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        if self.over {
            return after_the_end(&self.observation);
        }
        let [row, column] = action.choices([self.side; 2]);
        let cell = row * self.side + column;
        let hit = self.ships[cell] && !self.shot_at[cell];
        self.shot_at[cell] = true;
        self.hits += usize::from(hit);
        self.time += 1;
        self.observation = [f32::from(u8::from(hit))];
        let ending = if self.hits == SHIP_CELLS {
            Ending::Terminated
        } else if self.time == self.ships.len() {
            Ending::Truncated
        } else {
            Ending::Running
        };
        self.over = ending != Ending::Running;
        let reward = if hit { 1.0 / SHIP_CELLS as f32 } else { -1.0 / (self.ships.len() - SHIP_CELLS) as f32 };
        Step { observation: &self.observation, reward, ending }
    }
}
