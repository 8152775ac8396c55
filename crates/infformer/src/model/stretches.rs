//! Which ticks of a segment read the long-term memory, and what it held then: stretches of at most L ticks of one member
//! between two of its events, all of which are read at once.

use super::rows::picked;
use super::writing::CellTable;
use candle_core::{Result, Tensor};
use std::ops::Range;

/// Stretches of the members of a batch.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    /// Whose each stretch is.
    pub(super) members: Vec<usize>,
    /// Its ticks in the segment.
    pub(super) ticks: Vec<Range<usize>>,
    /// The cells of its member's long-term memory.
    pub(super) cells: Vec<CellTable>,
    /// Where its member's coefficients are among those of all rounds.
    places: Vec<usize>,
    /// Bᵀ \[batch, d, N\], round by round.
    rounds: Vec<Tensor>,
}

impl Stretches {
    /// Adds the `ticks` of a member, at most `longest` a stretch, that read from the next round.
    pub(super) fn push(&mut self, member: usize, batch: usize, ticks: Range<usize>, longest: usize, cells: &CellTable) {
        for start in ticks.clone().step_by(longest) {
            self.members.push(member);
            self.ticks.push(start..ticks.end.min(start + longest));
            self.cells.push(cells.clone());
            self.places.push(self.rounds.len() * batch + member);
        }
    }

    /// What is read by the stretches of this round, if there are any: `coefficients` \[batch, d, N\].
    pub(super) fn end_round(&mut self, coefficients: &Tensor) {
        let batch = coefficients.dims()[0];
        if self.places.last().is_some_and(|place| *place >= self.rounds.len() * batch) {
            self.rounds.push(coefficients.clone());
        }
    }

    /// Ticks of the longest stretch.
    pub(super) fn longest(&self) -> usize {
        self.ticks.iter().map(Range::len).max().unwrap_or(0)
    }

    /// The rows of x \[batch, n, d\] of each stretch \[stretches, longest, d\]; what is too short is filled up with its last.
    pub(super) fn rows(&self, x: &Tensor) -> Result<Tensor> {
        let (longest, (_, ticks, width)) = (self.longest(), x.dims3()?);
        let of_stretch = |(member, own): (&usize, &Range<usize>)| {
            let (first, last) = (member * ticks + own.start, member * ticks + own.end - 1);
            (first..first + longest).map(move |row| row.min(last))
        };
        let places: Vec<usize> = self.members.iter().zip(&self.ticks).flat_map(of_stretch).collect();
        picked(&x.flatten(0, 1)?, &places)?.reshape((self.members.len(), longest, width))
    }

    /// Bᵀ that each stretch reads \[stretches, d, N\].
    pub(super) fn coefficients(&self) -> Result<Tensor> {
        match self.rounds.as_slice() {
            [only] => picked(only, &self.places),
            rounds => picked(&Tensor::cat(rounds, 0)?, &self.places),
        }
    }

    /// The values of x \[stretches, longest·h, 1\] that belong to ticks and do not fill up \[readings\].
    pub(super) fn real(&self, x: &Tensor) -> Result<Tensor> {
        let rows = x.dim(1)?;
        let heads = rows / self.longest().max(1);
        let of_stretch = |(stretch, own): (usize, &Range<usize>)| stretch * rows..stretch * rows + own.len() * heads;
        let places: Vec<usize> = self.ticks.iter().enumerate().flat_map(of_stretch).collect();
        picked(&x.flatten_all()?, &places)
    }
}
