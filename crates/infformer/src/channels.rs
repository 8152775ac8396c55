//! Named channels in named groups: what one observation is made of.
//!
//! A group is one modality (`position`, `kind`, `threat`). Names let queries and panels speak of `position.x`
//! instead of "channel 7"; scales make distances of metres, degrees and flags comparable.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// In which unit distances along a channel are counted when moments are compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Scale {
    /// A difference of this size counts as one.
    Given(f32),
    /// The channel's running standard deviation, learnt from the observations; part of the memory's state.
    Learnt,
}

/// The largest value that can be remembered: its square, and sums of such squares, are f32 numbers still.
pub const LARGEST_VALUE: f32 = 1e15;

/// Whether a value can be remembered: finite, and not beyond [`LARGEST_VALUE`].
pub(crate) fn is_storable(value: f32) -> bool {
    value.abs() <= LARGEST_VALUE
}

/// Whether all values can be remembered. They are looked at side by side.
pub(crate) fn are_storable(values: &[f32]) -> bool {
    values.iter().fold(true, |all, value| all & is_storable(*value))
}

/// Whether a value is one of the tokens 0 to `vocabulary` − 1.
pub fn is_token(value: f32, vocabulary: usize) -> bool {
    value.fract() == 0.0 && value >= 0.0 && (value as usize) < vocabulary
}

/// One number of an observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Name within the group, for example `x`.
    pub name: String,
    /// Unit for people, for example `m`; may be empty.
    #[serde(default)]
    pub unit: String,
    /// The unit of distances along this channel.
    pub scale: Scale,
}

impl Channel {
    /// A channel with a name, a unit (which may be empty) and a scale.
    pub fn new(name: &str, unit: &str, scale: Scale) -> Self {
        Self { name: name.into(), unit: unit.into(), scale }
    }
}

/// One modality: channels that change together and share their knots under `Adaptive`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelGroup {
    /// Name of the group, for example `position`.
    pub name: String,
    /// The channels, in the order of their values in an observation.
    pub channels: Vec<Channel>,
}

impl ChannelGroup {
    /// A group whose channels share one unit and one scale.
    pub fn new(name: &str, channels: &[&str], unit: &str, scale: Scale) -> Self {
        let channels = channels.iter().map(|name| Channel::new(name, unit, scale)).collect();
        Self { name: name.into(), channels }
    }
}

/// Where each group and channel lies in an observation vector.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelLayout {
    groups: Vec<(String, Range<usize>)>,
    names: Vec<String>,
    units: Vec<String>,
    scales: Vec<Scale>,
    vocabularies: Vec<Option<usize>>,
    /// The channels that hold tokens, and how many each knows.
    tokens: Vec<(usize, usize)>,
}

impl ChannelLayout {
    /// Lays the groups out one after the other. Errors: no channel, an empty or repeated name, a scale out
    /// of 1e-9 to 1e9.
    pub fn new(groups: &[ChannelGroup]) -> Result<Self> {
        let (names, units, scales, vocabularies, tokens) = Default::default();
        let mut layout = Self { groups: vec![], names, units, scales, vocabularies, tokens };
        let refuse = |field: String, value: String, allowed: &str| {
            Err(Error::Configuration { field, value, allowed: allowed.into() })
        };
        for (g, group) in groups.iter().enumerate() {
            let taken = layout.groups.iter().any(|(name, _)| *name == group.name);
            if group.name.is_empty() || group.name.contains('.') || taken {
                return refuse(format!("groups[{g}].name"), format!("{:?}", group.name), "a new name without a dot");
            }
            if group.channels.is_empty() {
                return refuse(format!("groups[{g}].channels"), "[]".into(), "at least one channel");
            }
            let start = layout.names.len();
            for (c, channel) in group.channels.iter().enumerate() {
                let name = format!("{}.{}", group.name, channel.name);
                if channel.name.is_empty() || layout.names.contains(&name) {
                    let field = format!("groups[{g}].channels[{c}].name");
                    return refuse(field, format!("{:?}", channel.name), "a name that is new in its group");
                }
                if let Scale::Given(scale) = channel.scale
                    && !(1e-9..=1e9).contains(&scale)
                {
                    let field = format!("groups[{g}].channels[{c}].scale");
                    return refuse(field, scale.to_string(), "1e-9 to 1e9, or Learnt");
                }
                layout.names.push(name);
                layout.units.push(channel.unit.clone());
                layout.scales.push(channel.scale);
            }
            layout.groups.push((group.name.clone(), start..layout.names.len()));
        }
        if layout.names.is_empty() {
            return refuse("groups".into(), "[]".into(), "at least one group with one channel");
        }
        layout.vocabularies = vec![None; layout.names.len()];
        Ok(layout)
    }

    /// The same layout, with tokens in some channels: `vocabularies`, one a channel, says how many there are.
    pub(crate) fn with_tokens(mut self, vocabularies: Vec<Option<usize>>) -> Self {
        let tokens = vocabularies.iter().enumerate().filter_map(|(at, vocabulary)| Some((at, (*vocabulary)?)));
        self.tokens = tokens.collect();
        self.vocabularies = vocabularies;
        self
    }

    /// For each channel how many tokens it knows, 0 the first; `None` where it holds numbers. Two tokens are never
    /// averaged.
    pub fn vocabularies(&self) -> &[Option<usize>] {
        &self.vocabularies
    }

    /// Number of channels d: the width of one observation.
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// The groups in order: name and channel range.
    pub fn groups(&self) -> &[(String, Range<usize>)] {
        &self.groups
    }

    /// The full names `group.channel`, one a channel.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The units, one a channel.
    pub fn units(&self) -> &[String] {
        &self.units
    }

    /// The scales, one a channel.
    pub fn scales(&self) -> &[Scale] {
        &self.scales
    }

    /// Index of the channel `group.channel`.
    pub fn channel(&self, name: &str) -> Result<usize> {
        self.names.iter().position(|known| known == name).ok_or_else(|| self.unknown(name))
    }

    /// Channel range of the group `name`.
    pub fn group(&self, name: &str) -> Result<Range<usize>> {
        let found = self.groups.iter().find(|(known, _)| known == name);
        found.map(|(_, range)| range.clone()).ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> Error {
        Error::UnknownChannel { name: name.into(), known: self.names.join(", ") }
    }

    /// Checks that a queue of layout `queue` can be taken.
    pub(crate) fn check_queue(&self, queue: &ChannelLayout) -> Result<()> {
        // Mostly it is the very same one, and its names need no comparison.
        if std::ptr::eq(queue, self) || queue == self {
            return Ok(());
        }
        Err(Error::Layout { expected: self.names.join(", "), found: queue.names.join(", ") })
    }

    /// Checks some rows of values, one after another; fast where all are in order.
    pub(crate) fn check_rows(&self, what: &'static str, rows: &[f32]) -> Result<()> {
        if self.tokens.is_empty() && are_storable(rows) {
            return Ok(());
        }
        rows.chunks_exact(self.width()).try_for_each(|row| self.check(what, row))
    }

    /// Checks that `values` has one finite number a channel, and a token that is known where there are tokens.
    pub fn check(&self, what: &'static str, values: &[f32]) -> Result<()> {
        if values.len() != self.width() {
            return Err(Error::Width { what, expected: self.width(), found: values.len() });
        }
        if !are_storable(values)
            && let Some(at) = values.iter().position(|value| !is_storable(*value))
        {
            let value = values[at].to_string();
            return Err(Error::NotFinite { what, channel: self.names[at].clone(), value });
        }
        if let Some((at, vocabulary)) = self.tokens.iter().copied().find(|(at, known)| !is_token(values[*at], *known)) {
            let (input, found) = (self.names[at].clone(), values[at].to_string());
            return Err(Error::Token { input, vocabulary, found });
        }
        Ok(())
    }
}
