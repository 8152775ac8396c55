//! What a kind of agent remembers, and how: the configuration, its presets and its checks.

use crate::basis::{Basis, BasisKind};
use crate::channels::{ChannelGroup, ChannelLayout};
use crate::density::{Density, Measure};
use crate::error::{Error, Result};
use crate::forgetting::{AdaptiveRule, Forgetting, Padding, Projection, SampledFit};
use serde::{Deserialize, Serialize};

/// The memory of one kind of agent. Serde and RON; [`MemoryConfig::validate`] names what is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryConfig {
    /// What an observation is made of.
    pub groups: Vec<ChannelGroup>,
    /// How the past makes room.
    pub forgetting: Forgetting,
    /// N: basis functions of the signal, or blocks a group under `Adaptive`.
    #[serde(default = "default_capacity")]
    pub capacity: usize,
    /// S: the newest observations that are kept exactly.
    #[serde(default = "default_short_term")]
    pub short_term: usize,
    /// L: observations that leave the short-term memory at once. One write into a linear signal costs N·(N + L)·d.
    #[serde(default = "default_chunk")]
    pub chunk: usize,
    /// Seconds from one tick to the next, for ages told in seconds.
    #[serde(default = "default_seconds_per_tick")]
    pub seconds_per_tick: f32,
    /// How queries are answered.
    #[serde(default)]
    pub recall: RecallConfig,
    /// How exactly the long-term signal is kept.
    #[serde(default)]
    pub state: StatePrecision,
}

/// How exactly the long-term signal is kept. Snapshots of either can be loaded into the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StatePrecision {
    /// As f32.
    #[default]
    Single,
    /// As f16: about one and a half times the agents for the same bytes. Values, and ticks between two observations, beyond
    /// 65,504 cannot be kept; every write rounds to 11 bits. Not for `Uniform`, whose writes change less and less.
    Half,
}

/// How training-free queries are answered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecallConfig {
    /// β: how sharply a moment's weight falls with its squared distance to the query, counted in scales. At 16, one
    /// moment just as asked outweighs a million moments that are one scale off.
    pub sharpness: f32,
    /// The shape of the density.
    pub density: Density,
    /// What a stretch of the past counts before any query.
    pub measure: Measure,
    /// The most peaks an answer tells.
    pub peaks: usize,
}

impl Default for RecallConfig {
    fn default() -> Self {
        Self { sharpness: 16.0, density: Density::Gibbs, measure: Measure::default(), peaks: 8 }
    }
}

fn default_capacity() -> usize {
    64
}
fn default_short_term() -> usize {
    16
}
fn default_chunk() -> usize {
    16
}
fn default_seconds_per_tick() -> f32 {
    1.0 / 60.0
}

impl MemoryConfig {
    fn with(groups: Vec<ChannelGroup>, forgetting: Forgetting, chunk: usize) -> Self {
        Self {
            groups,
            forgetting,
            capacity: default_capacity(),
            short_term: default_short_term(),
            chunk,
            seconds_per_tick: default_seconds_per_tick(),
            recall: RecallConfig::default(),
            state: StatePrecision::default(),
        }
    }

    /// For things that happen: what differs from its surroundings stays (`Adaptive`, 64 blocks a group).
    pub fn events(groups: Vec<ChannelGroup>) -> Self {
        Self::with(groups, Forgetting::Adaptive(AdaptiveRule::default()), 1)
    }

    /// For where one has been: detail falls like 1/age, over 100,000 observations (`PowerLaw` on cosines).
    pub fn trajectory(groups: Vec<ChannelGroup>) -> Self {
        let forgetting = Forgetting::PowerLaw { resolution: 128.0, horizon: 100_000.0, basis: BasisKind::Cosine };
        Self::with(groups, forgetting, default_chunk())
    }

    /// For habits and averages: the whole life evenly (`Uniform` on Legendre polynomials).
    pub fn lifetime(groups: Vec<ChannelGroup>) -> Self {
        let mut config = Self::with(groups, Forgetting::Uniform, default_chunk());
        config.recall.measure = Measure::Lifetime;
        config
    }

    /// The published module of Martins et al. (2022) as its sorting experiment configures it: τ = ¾, two widths,
    /// λ = 1, 512 samples, zero padding.
    pub fn paper(groups: Vec<ChannelGroup>) -> Self {
        let fit = SampledFit { points: 512, ridge: 1.0, padding: Padding::Zeros };
        let basis = BasisKind::GaussianRbf { widths: vec![0.01, 0.05] };
        Self::with(
            groups,
            Forgetting::Geometric { tau: 0.75, basis, projection: Projection::Sampled(fit) },
            default_chunk(),
        )
    }

    /// An age in ticks as seconds.
    pub fn seconds(&self, ticks: f32) -> f32 {
        ticks * self.seconds_per_tick
    }

    /// Reads RON text and validates it.
    pub fn from_ron(text: &str) -> Result<Self> {
        let config: Self = ron::from_str(text).map_err(|error| Error::Parse(error.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// The configuration as RON text that people can edit.
    pub fn to_ron(&self) -> Result<String> {
        let pretty = ron::ser::PrettyConfig::default();
        ron::ser::to_string_pretty(self, pretty).map_err(|error| Error::Parse(error.to_string()))
    }

    /// Checks every field; an error names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let check = |field: &str, value: String, holds: bool, allowed: &str| {
            if holds {
                Ok(())
            } else {
                Err(Error::Configuration { field: field.into(), value, allowed: allowed.into() })
            }
        };
        self.layout()?;
        self.forgetting.validate()?;
        Basis::new(self.forgetting.basis(), self.capacity)?;
        check("chunk", self.chunk.to_string(), (1..=65_536).contains(&self.chunk), "1 to 65536")?;
        check("short_term", self.short_term.to_string(), self.short_term <= 65_536, "0 to 65536")?;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let seconds = self.seconds_per_tick;
        check("seconds_per_tick", seconds.to_string(), positive(f64::from(seconds)), "a finite number above 0")?;
        let sharpness = self.recall.sharpness;
        check("recall.sharpness", sharpness.to_string(), positive(f64::from(sharpness)), "a finite number above 0")?;
        check("recall.peaks", self.recall.peaks.to_string(), self.recall.peaks <= 1024, "0 to 1024")?;
        if self.state == StatePrecision::Half && matches!(self.forgetting, Forgetting::Uniform) {
            check(
                "state",
                "Half".into(),
                false,
                "Single under Uniform: its late writes are smaller than f16 can tell",
            )?;
        }
        if let Measure::Recency { resolution } = self.recall.measure {
            let field = "recall.measure.resolution";
            check(field, resolution.to_string(), positive(resolution), "a finite number above 0")?;
        }
        Ok(())
    }

    /// Where each group and channel lies.
    pub fn layout(&self) -> Result<ChannelLayout> {
        ChannelLayout::new(&self.groups)
    }

    /// A number that two configurations share only if an agent's state means the same in both; snapshots carry it.
    /// How queries are answered and how long a tick is may differ.
    pub fn fingerprint(&self) -> Result<u64> {
        let shape = (&self.groups, &self.forgetting, self.capacity, self.short_term, self.chunk);
        let text = ron::to_string(&shape).map_err(|error| Error::Parse(error.to_string()))?;
        Ok(xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }
}
