//! What a model is made of: its inputs, its layers, its memory and its heads.

use crate::basis::{Basis, BasisKind};
use crate::channels::{Channel, ChannelGroup, ChannelLayout, Scale};
use crate::density::Measure;
use crate::error::{Error, Result};
use crate::forgetting::{AdaptiveRule, Forgetting};
use serde::{Deserialize, Serialize};

/// The model: a stack of transformer layers with a long-term memory each. Serde and RON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// What an observation is made of: one number a channel, in this order; tokens are whole numbers.
    pub inputs: Vec<Input>,
    /// What comes out at every tick.
    pub heads: Vec<Head>,
    /// d: width of the stream between the layers. 64.
    #[serde(default = "default_width")]
    pub width: usize,
    /// Transformer layers. 2.
    #[serde(default = "default_layers")]
    pub layers: usize,
    /// Attention heads h of each layer; they divide d. 4.
    #[serde(default = "default_attention_heads")]
    pub attention_heads: usize,
    /// Hidden units of each feed-forward part. 256.
    #[serde(default = "default_feed_forward")]
    pub feed_forward: usize,
    /// S: ticks that are always attended to exactly; at least L. 32.
    #[serde(default = "default_short_term")]
    pub short_term: usize,
    /// L: ticks that leave the short-term memory at once. 16.
    #[serde(default = "default_chunk")]
    pub chunk: usize,
    /// The memory beyond the last S to S + L − 1 ticks; `None` is the same transformer with its window alone.
    #[serde(default = "default_long_term")]
    pub long_term: Option<LongTermConfig>,
    /// What is normalised. `Parts`.
    #[serde(default, skip_serializing_if = "Normalisation::is_default")]
    pub normalisation: Normalisation,
    /// Complex units of a linear recurrence beside each layer's attention, for what is to be counted; see
    /// [`LinearRecurrence`](super::LinearRecurrence). 0: there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recurrence: usize,
    /// How what attention and feed-forward part make joins the stream. `Sum`.
    #[serde(default, skip_serializing_if = "Residual::is_default")]
    pub residual: Residual,
}

/// How what a part of a layer makes joins the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Residual {
    /// It is added.
    #[default]
    Sum,
    /// It passes the gate of the GTrXL (Parisotto et al. 2020), made for reinforcement learning: at first the stream goes
    /// through nearly as it is.
    Gate,
}

impl Residual {
    /// What is not written down, as with [`Normalisation`].
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is not written down, as with [`Normalisation`].
fn is_zero(units: &usize) -> bool {
    *units == 0
}

/// Which vectors of a model pass a layer normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Normalisation {
    /// What each part of a layer takes, and what the heads take.
    #[default]
    Parts,
    /// Also the encoded observation, and what is read from either memory before its output matrix: where an observation has
    /// many inputs, or what is read is a mean of many ticks, a readout would else hardly count beside the observation, and
    /// learning to use it takes long.
    Everything,
}

impl Normalisation {
    /// What is not written down, so that configurations from before it was there mean and are the same.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One input of the observation, one or more channels of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Input {
    /// Numbers, each divided by its scale and mapped to the stream by one matrix.
    Continuous {
        /// Name of the group.
        name: String,
        /// Its channels; scales must be given.
        channels: Vec<Channel>,
    },
    /// One channel that holds a whole number from 0 to `vocabulary` − 1, mapped by a table.
    Token {
        /// Name of the group; its channel is `name.token`.
        name: String,
        /// How many different tokens there are.
        vocabulary: usize,
    },
}

/// What a head makes of the last layer's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its name, also that of its weights.
    pub name: String,
    /// What it gives.
    pub kind: HeadKind,
}

/// What a head gives at every tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum HeadKind {
    /// Unnormalised log-probabilities of `classes` classes.
    Logits {
        /// Number of classes.
        classes: usize,
    },
    /// `size` means, then the logarithms of `size` standard deviations, within −5 to 2.
    Gaussian {
        /// Number of variables.
        size: usize,
    },
    /// One number: the expected return.
    Value,
    /// `size` numbers as they are.
    Raw {
        /// How many.
        size: usize,
    },
}

impl HeadKind {
    /// Numbers a tick.
    pub fn size(&self) -> usize {
        match *self {
            HeadKind::Logits { classes } => classes,
            HeadKind::Gaussian { size } => size.saturating_mul(2),
            HeadKind::Value => 1,
            HeadKind::Raw { size } => size,
        }
    }
}

/// The long-term memory of each layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LongTermConfig {
    /// How the past makes room. `Adaptive` with [`AdaptiveRule::ageless`].
    pub forgetting: LongTermForgetting,
    /// N: basis functions, or blocks. 64.
    pub capacity: usize,
    /// How a query becomes a density. `Gibbs`.
    pub density: ReadingDensity,
    /// What a stretch of the past counts before any query (under `Gibbs` and `Gaussian`). `Recency { resolution: 16.0 }`.
    pub measure: Measure,
    /// What is let into the memory. `Everything`.
    pub input_mask: InputMask,
    /// The regulariser on densities, if any; training says how much it weighs. It is computed at every reading: a model that
    /// is trained no further can leave it out, and its weights fit all the same. `None`.
    pub regulariser: Option<Regulariser>,
    /// K: gradients flow through up to this many writes into the past; then the graph is cut. With 0 only the
    /// newest chunk learns from a reading, as in the published code. 1,000,000.
    pub gradient_writes: usize,
}

/// How the past of a layer makes room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LongTermForgetting {
    /// One of the policies of this crate. Under `Adaptive` and `Sticky` what is remembered decides how: which
    /// neighbours merge, where the past is sampled. That decision is a constant to the gradient; values carry
    /// gradients, knots do not. A block's mean passes its gradient on to the ticks that it is the mean of, in proportion.
    Signal(Forgetting),
    /// The memory of the compressive transformer (Rae et al. 2020), for comparison: means of `rate` ticks, first in,
    /// first out. The rate divides L or is a multiple of it; then the newest mean grows over several chunks.
    MeanPooled {
        /// Ticks a mean.
        rate: usize,
    },
}

/// How a trained query becomes a density over the long-term memory.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ReadingDensity {
    /// p(t) ∝ exp(q·K(t)/√d_h) × measure: many peaks.
    #[default]
    Gibbs,
    /// p ∝ exp(q·K(t)/√d_h) where every block, mean or cell of the reading grid counts the same, however long it is and
    /// however long ago: one tick is found among a million. Many peaks.
    Softmax,
    /// The normal density with the mean and variance of the Gibbs density: one peak.
    Gaussian,
    /// The paper's: μ = sigmoid(w_μ·s), σ² = softplus(w_σ·s) of the scores s = Kq/√d_h of the coefficients.
    Affine {
        /// Least σ².
        variance_floor: f64,
    },
}

/// What is let into the long-term memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum InputMask {
    /// All of it.
    #[default]
    Everything,
    /// Each value times a sigmoid of a convolution over three ticks of its chunk (the published module's mask).
    Convolution,
}

/// The divergence of densities from one that no query has, to be added to the loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Regulariser {
    /// Of Gaussian densities, from N(μ₀, σ₀²) (Martins et al., 2022).
    Normal {
        /// σ₀
        sigma_0: f64,
        /// μ₀; without it only σ² is pulled: ½(σ²/σ₀² − ln(σ²/σ₀²) − 1).
        #[serde(default)]
        mu_0: Option<f64>,
    },
    /// Of densities over cells, from what each cell counts before it is asked: Σ p ln(p/p₀). Who has no reason to look at
    /// something then looks at nothing in particular.
    Prior,
}

impl Default for LongTermConfig {
    fn default() -> Self {
        Self {
            forgetting: LongTermForgetting::Signal(Forgetting::Adaptive(AdaptiveRule::ageless())),
            capacity: 64,
            density: ReadingDensity::default(),
            measure: Measure::default(),
            input_mask: InputMask::default(),
            regulariser: None,
            gradient_writes: 1_000_000,
        }
    }
}

impl LongTermConfig {
    /// The functions that carry the signal; blocks and means are bins whose edges move.
    pub(crate) fn basis(&self) -> Result<Basis> {
        match &self.forgetting {
            LongTermForgetting::Signal(forgetting) => Basis::new(forgetting.basis(), self.capacity),
            LongTermForgetting::MeanPooled { .. } => Basis::new(&BasisKind::Bins, self.capacity),
        }
    }
}

fn default_width() -> usize {
    64
}
fn default_layers() -> usize {
    2
}
fn default_attention_heads() -> usize {
    4
}
fn default_feed_forward() -> usize {
    256
}
fn default_short_term() -> usize {
    32
}
fn default_chunk() -> usize {
    16
}
fn default_long_term() -> Option<LongTermConfig> {
    Some(LongTermConfig::default())
}

impl Input {
    /// Channels of the observation that this input takes.
    pub fn channels(&self) -> usize {
        match self {
            Input::Continuous { channels, .. } => channels.len(),
            Input::Token { .. } => 1,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Input::Continuous { name, .. } | Input::Token { name, .. } => name,
        }
    }

    pub(crate) fn group(&self) -> ChannelGroup {
        match self {
            Input::Continuous { name, channels } => ChannelGroup { name: name.clone(), channels: channels.clone() },
            Input::Token { name, .. } => ChannelGroup::new(name, &["token"], "", Scale::Given(1.0)),
        }
    }
}

impl ModelConfig {
    /// A model with every default.
    pub fn new(inputs: Vec<Input>, heads: Vec<Head>) -> Self {
        Self {
            inputs,
            heads,
            width: default_width(),
            layers: default_layers(),
            attention_heads: default_attention_heads(),
            feed_forward: default_feed_forward(),
            short_term: default_short_term(),
            chunk: default_chunk(),
            long_term: default_long_term(),
            normalisation: Normalisation::default(),
            recurrence: 0,
            residual: Residual::default(),
        }
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

    /// Where each input lies in an observation.
    pub fn layout(&self) -> Result<ChannelLayout> {
        let groups: Vec<ChannelGroup> = self.inputs.iter().map(Input::group).collect();
        let vocabularies = self.inputs.iter().flat_map(|input| match input {
            Input::Token { vocabulary, .. } => vec![Some(*vocabulary)],
            Input::Continuous { channels, .. } => vec![None; channels.len()],
        });
        let layout = ChannelLayout::new(&groups).map_err(|error| match error {
            Error::Configuration { field, value, allowed } => {
                Error::Configuration { field: field.replacen("groups", "inputs", 1), value, allowed }
            }
            other => other,
        })?;
        Ok(layout.with_tokens(vocabularies.collect()))
    }

    /// Most ticks that the short-term memory holds: S + L − 1.
    pub(crate) fn ring(&self) -> usize {
        self.short_term + self.chunk - 1
    }

    /// A number that two configurations share only if weights and states mean the same in both.
    pub fn fingerprint(&self) -> Result<u64> {
        let mut canonical = self.clone();
        if let Some(long_term) = &mut canonical.long_term {
            // How it is trained does not change what it is.
            (long_term.gradient_writes, long_term.regulariser) = (0, None);
        }
        let text = ron::to_string(&canonical).map_err(|error| Error::Parse(error.to_string()))?;
        Ok(xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }

    /// Checks every field; an error names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let check = |field: &str, value: usize, holds: bool, allowed: &str| {
            if holds {
                Ok(())
            } else {
                Err(Error::Configuration { field: field.into(), value: value.to_string(), allowed: allowed.into() })
            }
        };
        let refuse = |field: String, value: String, allowed: &str| {
            Err(Error::Configuration { field, value, allowed: allowed.into() })
        };
        self.layout()?;
        for (i, input) in self.inputs.iter().enumerate() {
            match input {
                Input::Token { vocabulary, .. } => {
                    let field = format!("inputs[{i}].vocabulary");
                    check(&field, *vocabulary, (1..=1 << 20).contains(vocabulary), "1 to 1048576")?;
                }
                Input::Continuous { channels, .. } => {
                    if let Some(at) = channels.iter().position(|channel| channel.scale == Scale::Learnt) {
                        let field = format!("inputs[{i}].channels[{at}].scale");
                        return refuse(field, "Learnt".into(), "Given(scale): a model learns the rest by training");
                    }
                }
            }
        }
        for (i, head) in self.heads.iter().enumerate() {
            if head.name.is_empty() || self.heads[..i].iter().any(|other| other.name == head.name) {
                return refuse(format!("heads[{i}].name"), format!("{:?}", head.name), "a new name");
            }
            let size = head.kind.size();
            check(&format!("heads[{i}].kind"), size, (1..=65_536).contains(&size), "1 to 65536 numbers")?;
        }
        let range = |field: &str, value: usize, most: usize| {
            check(field, value, (1..=most).contains(&value), &format!("1 to {most}"))
        };
        range("width", self.width, 8_192)?;
        range("layers", self.layers, 256)?;
        range("feed_forward", self.feed_forward, 65_536)?;
        range("chunk", self.chunk, 65_536)?;
        let (heads, divides) = (self.attention_heads, "a divisor of `width`");
        check("attention_heads", heads, heads > 0 && self.width.is_multiple_of(heads.max(1)), divides)?;
        let short_term = self.short_term;
        check("recurrence", self.recurrence, self.recurrence <= 8_192, "0 to 8192")?;
        check("short_term", short_term, (self.chunk..=65_536).contains(&short_term), "`chunk` to 65536")?;
        let Some(long_term) = &self.long_term else { return Ok(()) };
        match &long_term.forgetting {
            LongTermForgetting::Signal(forgetting) => forgetting.validate()?,
            LongTermForgetting::MeanPooled { rate } => {
                // Ticks of a mean are counted in f32 and u32.
                let fits = (1..=1 << 24).contains(rate)
                    && (self.chunk.is_multiple_of(*rate) || rate.is_multiple_of(self.chunk));
                let allowed = "a divisor or a multiple of `chunk`, up to 16777216";
                check("long_term.forgetting.rate", *rate, fits, allowed)?;
                let slots = self.chunk / rate;
                check(
                    "long_term.capacity",
                    long_term.capacity,
                    long_term.capacity >= slots,
                    "at least `chunk`/`rate`",
                )?;
            }
        }
        long_term.basis()?;
        let number = |field: &str, value: f64, holds: bool, allowed: &str| {
            if holds { Ok(()) } else { refuse(format!("long_term.{field}"), value.to_string(), allowed) }
        };
        if let Measure::Recency { resolution } = long_term.measure {
            let holds = resolution.is_finite() && resolution > 0.0;
            number("measure.resolution", resolution, holds, "a finite number above 0")?;
        }
        if let ReadingDensity::Affine { variance_floor } = long_term.density {
            number("density.variance_floor", variance_floor, (1e-9..=1.0).contains(&variance_floor), "1e-9 to 1")?;
        }
        let is_over_cells = matches!(long_term.density, ReadingDensity::Gibbs | ReadingDensity::Softmax);
        match long_term.regulariser {
            Some(Regulariser::Normal { sigma_0, mu_0 }) => {
                number("regulariser.sigma_0", sigma_0, (1e-6..=1e3).contains(&sigma_0), "1e-6 to 1000")?;
                let mu_0 = mu_0.unwrap_or(0.0);
                number("regulariser.mu_0", mu_0, mu_0.is_finite(), "a finite number")?;
                if is_over_cells {
                    let allowed = "None or Prior: only Gaussian densities have a width";
                    return refuse("long_term.regulariser".into(), "Normal".into(), allowed);
                }
            }
            Some(Regulariser::Prior) if !is_over_cells => {
                let allowed = "None or Normal: Gaussian densities are not over cells";
                return refuse("long_term.regulariser".into(), "Prior".into(), allowed);
            }
            _ => {}
        }
        Ok(())
    }
}
