//! What is asked of a memory, and what it answers.

use crate::channels::{ChannelLayout, is_storable};
use crate::error::{Error, Result};

/// "When and where was it like this?": values for some channels, the rest free.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    constraints: Vec<Constraint>,
    detail: AnswerDetail,
}

/// One channel that a query fixes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constraint {
    /// Index of the channel.
    pub channel: usize,
    /// The value looked for.
    pub value: f32,
}

/// How much an answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AnswerDetail {
    /// The expected observation, its age and the confidence, without peaks, which are a third of the cost.
    Expectation,
    /// The expected observation, its age, the confidence and the peaks.
    #[default]
    Peaks,
    /// The whole density over age as well.
    Density,
}

impl Query {
    /// A query that constrains nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A query from a whole observation \[d\] and a mask: the channels whose mask is `Some` are constrained.
    pub fn from_masked(values: &[Option<f32>]) -> Self {
        let constraints = values.iter().enumerate();
        let constraints = constraints.filter_map(|(channel, value)| value.map(|value| Constraint { channel, value }));
        Self { constraints: constraints.collect(), detail: AnswerDetail::default() }
    }

    /// Constrains the channel `group.channel`. Errors: an unknown name.
    pub fn where_channel(mut self, layout: &ChannelLayout, name: &str, value: f32) -> Result<Self> {
        self.constrain(layout.channel(name)?, value);
        Ok(self)
    }

    /// Constrains every channel of a group. Errors: an unknown name, or not one value a channel of the group.
    pub fn where_group(mut self, layout: &ChannelLayout, name: &str, values: &[f32]) -> Result<Self> {
        let range = layout.group(name)?;
        if range.len() != values.len() {
            return Err(Error::Width { what: "the query's group", expected: range.len(), found: values.len() });
        }
        range.zip(values).for_each(|(channel, value)| self.constrain(channel, *value));
        Ok(self)
    }

    /// How much the answer is to tell.
    pub fn with_detail(mut self, detail: AnswerDetail) -> Self {
        self.detail = detail;
        self
    }

    /// Constrains the channel at `channel`, replacing an earlier constraint.
    pub fn constrain(&mut self, channel: usize, value: f32) {
        match self.constraints.iter_mut().find(|constraint| constraint.channel == channel) {
            Some(constraint) => constraint.value = value,
            None => self.constraints.push(Constraint { channel, value }),
        }
    }

    /// The constraints so far.
    pub fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// How much the answer is to tell.
    pub fn detail(&self) -> AnswerDetail {
        self.detail
    }

    /// Makes this query equal to `other`, keeping its buffers.
    pub fn copy_from(&mut self, other: &Query) {
        self.constraints.clear();
        self.constraints.extend_from_slice(&other.constraints);
        self.detail = other.detail;
    }

    /// Checks the query against a layout. Errors: no constraint, a channel out of range, a value that is not finite.
    pub fn check(&self, layout: &ChannelLayout) -> Result<()> {
        if self.constraints.is_empty() {
            return Err(Error::EmptyQuery);
        }
        for constraint in &self.constraints {
            let Some(name) = layout.names().get(constraint.channel) else {
                let found = constraint.channel + 1;
                return Err(Error::Width { what: "the query", expected: layout.width(), found });
            };
            if !is_storable(constraint.value) {
                let value = constraint.value.to_string();
                return Err(Error::NotFinite { what: "the query", channel: name.clone(), value });
            }
        }
        Ok(())
    }
}

/// What a memory answers to a [`Query`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The expected observation under the density \[d\]; empty while nothing was observed.
    pub value: Vec<f32>,
    /// Expected age in ticks.
    pub age: f32,
    /// Standard deviation of the age in ticks.
    pub age_spread: f32,
    /// exp(−β·squared distance) of the best moment: 1 when something in memory is just as asked, near 0 when nothing
    /// resembles it.
    pub confidence: f32,
    peaks: Vec<PeakSummary>,
    peak_values: Vec<f32>,
    /// The density over age, newest first; filled only for [`AnswerDetail::Density`].
    pub density: Vec<DensityCell>,
}

/// A stretch of the past and the mass of the density in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DensityCell {
    /// Age in ticks of the newer end.
    pub newer: f32,
    /// Age in ticks of the older end.
    pub older: f32,
    /// Mass in it; all cells together have 1.
    pub mass: f32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct PeakSummary {
    age: f32,
    weight: f32,
    confidence: f32,
}

/// One of the moments that a density points at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak<'a> {
    /// Age in ticks.
    pub age: f32,
    /// Mass of the density in the moments of the peak: those at least half as similar to the query as its best.
    pub weight: f32,
    /// exp(−β·squared distance) at the peak.
    pub confidence: f32,
    /// The observation there \[d\].
    pub value: &'a [f32],
}

impl Answer {
    /// The peaks, heaviest first; none with [`AnswerDetail::Expectation`].
    pub fn peaks(&self) -> impl ExactSizeIterator<Item = Peak<'_>> {
        let width = self.value.len().max(1);
        self.peaks.iter().zip(self.peak_values.chunks_exact(width)).map(|(peak, value)| Peak {
            age: peak.age,
            weight: peak.weight,
            confidence: peak.confidence,
            value,
        })
    }

    /// Empties the answer, keeping its buffers.
    pub fn clear(&mut self) {
        self.value.clear();
        (self.age, self.age_spread, self.confidence) = (0.0, 0.0, 0.0);
        self.peaks.clear();
        self.peak_values.clear();
        self.density.clear();
    }

    /// Makes room for answers of so many peaks of so many channels, so that none has to make room later.
    pub(crate) fn reserve(&mut self, peaks: usize, width: usize) {
        self.value.reserve(width);
        self.peaks.reserve(peaks);
        self.peak_values.reserve(peaks * width);
    }

    /// What `bits` makes of the latest answer's values, to have them at hand.
    pub(crate) fn words(&self, bits: impl Fn(&[f32]) -> u32) -> u32 {
        let first = self.peaks.first().map_or(0, |peak| peak.age.to_bits());
        first ^ bits(&self.value) ^ bits(&self.peak_values)
    }

    /// Adds to the value and to the peaks' values \[1 + peaks, d\].
    pub(crate) fn add_to_values(&mut self, values: &[f32]) {
        let own = self.value.iter_mut().chain(&mut self.peak_values);
        own.zip(values).for_each(|(own, value)| *own += value);
    }

    /// Adds a peak and gives its value \[d\], all zero, to be filled.
    pub(crate) fn add_peak(&mut self, age: f32, weight: f32, confidence: f32) -> &mut [f32] {
        self.peaks.push(PeakSummary { age, weight, confidence });
        let start = self.peak_values.len();
        self.peak_values.resize(start + self.value.len(), 0.0);
        &mut self.peak_values[start..]
    }
}
