//! What the host knows of one member's long-term memory beside B: decisions, that carry no gradient.

use super::config::{LongTermForgetting, ModelConfig};
use super::schedule::Clock;
use crate::blocks::cover;
use crate::forgetting::Forgetting;
use serde::{Deserialize, Serialize};

/// The longest life that a state may claim: ticks that f64 still counts one by one.
const MOST_TICKS: u64 = 1 << 53;

/// The knots of one member in one layer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Knots {
    /// Ticks of each block, oldest first (`Adaptive`).
    pub(crate) lengths: Vec<u32>,
    /// Running statistics of what was written \[d\] (`Adaptive`).
    pub(crate) mean: Vec<f32>,
    pub(crate) variance: Vec<f32>,
    /// Ages at evenly spaced positions, and the mass of past densities a bin (`Sticky`).
    pub(crate) table: Vec<f32>,
    pub(crate) histogram: Vec<f32>,
}

impl Knots {
    /// Whether these can be the knots of a member of such a model that has come so far.
    pub(crate) fn fit(&self, config: &ModelConfig, clock: &Clock) -> bool {
        let written = clock.chunks.checked_mul(config.chunk as u64).filter(|written| *written <= MOST_TICKS);
        let finite = [&self.mean, &self.variance, &self.table, &self.histogram];
        let finite = finite.iter().all(|values| values.iter().all(|value| value.is_finite()));
        let begun = clock.chunks > 0;
        let policy = config.long_term.as_ref().map(|long_term| (&long_term.forgetting, long_term.capacity));
        let fits = match policy {
            Some((LongTermForgetting::Signal(Forgetting::Adaptive(_)), capacity)) => {
                let blocks = written.map(|written| written.min(capacity as u64) as usize);
                let covered = written.is_some_and(|written| cover(&self.lengths, written));
                let whole = covered && self.lengths.iter().all(|length| *length > 0);
                let statistics = if begun { config.width } else { 0 };
                whole
                    && Some(self.lengths.len()) == blocks
                    && [&self.mean, &self.variance].map(Vec::len) == [statistics; 2]
            }
            Some((LongTermForgetting::Signal(Forgetting::Sticky { bins, .. }), _)) => {
                let empty = self.table.is_empty() && !begun;
                let filled = self.table.len() == bins + 1 && self.histogram.len() == *bins;
                (empty && self.histogram.len() <= *bins) || filled
            }
            _ => self.lengths.is_empty() && self.table.is_empty(),
        };
        written.is_some() && finite && fits
    }

    /// The most bytes that the knots of one member of such a layer take.
    pub(crate) fn most_bytes(config: &ModelConfig) -> usize {
        let policy = config.long_term.as_ref().map(|long_term| (&long_term.forgetting, long_term.capacity));
        match policy {
            Some((LongTermForgetting::Signal(Forgetting::Adaptive(_)), capacity)) => 4 * (capacity + 2 * config.width),
            Some((LongTermForgetting::Signal(Forgetting::Sticky { bins, .. }), _)) => 4 * (2 * bins + 1),
            _ => 0,
        }
    }
}
