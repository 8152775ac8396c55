//! How the past makes room for the present: the policies, and the time axis that each of them bends.
//!
//! Ages count observations: age 0 is the newest moment in the long-term signal, age `written` the oldest.

use crate::basis::BasisKind;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the past makes room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Forgetting {
    /// The past is squeezed by τ at every write (Martins et al. 2022, §3.2): sharp, then nothing. It reaches about
    /// L·ln(N/2)/ln(1/τ) observations back, whatever N is.
    Geometric {
        /// The squeeze τ, between 0 and 1.
        tau: f64,
        /// The functions that carry the signal.
        basis: BasisKind,
        /// How the squeezed past is fitted again.
        #[serde(default)]
        projection: Projection,
    },
    /// The past is shifted along u = 1 − ln(1 + a/a₀)/ln(1 + a_max/a₀): detail falls as age grows, like 1/age.
    PowerLaw {
        /// a₀, in observations: younger moments are kept evenly, older ones ever more coarsely.
        resolution: f64,
        /// a_max, in observations: what is older is forgotten.
        horizon: f64,
        /// The functions that carry the signal.
        #[serde(default = "cosine")]
        basis: BasisKind,
    },
    /// The whole life is kept evenly, on Legendre polynomials: at the n-th write the past is squeezed by n/(n + 1)
    /// (HiPPO-LegS, Gu et al. 2020). Their span is closed under dilation, so the recursion is exact.
    Uniform,
    /// As `Geometric`, but the past is resampled where attention was: through the inverse distribution function of
    /// the histogram of past densities (sticky memories, Martins et al. 2022, §3.3), without random draws.
    Sticky {
        /// The squeeze τ, between 0 and 1.
        tau: f64,
        /// The functions that carry the signal.
        basis: BasisKind,
        /// How the resampled past is fitted again.
        #[serde(default)]
        fit: SampledFit,
        /// Bins D of the histogram.
        #[serde(default = "sticky_bins")]
        bins: usize,
        /// Where in its bin a point is put.
        #[serde(default)]
        placement: Placement,
    },
    /// N blocks of (mean, length): while there are more, the neighbours merge whose merging loses least for their
    /// age. What differs from its surroundings stays; what is alike melts together.
    Adaptive(AdaptiveRule),
}

/// Which neighbours `Adaptive` merges first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptiveRule {
    /// a₀ of the merging cost, in observations.
    pub resolution: f64,
    /// Weight of the length term: how strongly long blocks resist merging.
    pub mix: f64,
    /// Squared distance (in scales, a channel) below which two means count as equal: 0, or 2–3 × the noise variance
    /// when it is known.
    pub tolerance: f64,
}

impl Default for AdaptiveRule {
    fn default() -> Self {
        Self { resolution: 16.0, mix: 0.02, tolerance: 0.0 }
    }
}

impl AdaptiveRule {
    /// What differs stays, however old it is, within a million observations: the rule for a trained model, which makes
    /// alike what it does not need. Discounted for its age, as by default, what a model learns to keep melts all the
    /// same. Two means count as equal where they differ by less than a tenth, squared, a channel: what a layer
    /// remembers is normalised, so that is a third of a standard deviation (`infformer_rl`'s benchmark page has figures
    /// for other values).
    pub fn ageless() -> Self {
        Self { resolution: 1e6, mix: 0.0, tolerance: 0.1 }
    }
}

/// How `Geometric` fits the squeezed past.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Projection {
    /// The L2 projection, from Gram and cross-Gram integrals.
    Exact {
        /// λ relative to the mean of the Gram diagonal.
        ridge: f64,
    },
    /// The paper's way: ridge regression on sampled points.
    Sampled(SampledFit),
}

/// Ridge regression on sampled points, as in the authors' published module.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampledFit {
    /// Points M at which the past is sampled.
    pub points: usize,
    /// λ, absolute.
    pub ridge: f64,
    /// What the fit sees outside \[0, 1\].
    pub padding: Padding,
}

/// What a sampled fit sees outside \[0, 1\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Padding {
    /// Nothing.
    None,
    /// Zeros on \[−½, 0) and (1, 1½\], as the published code.
    Zeros,
}

/// Where in its bin of the attention histogram a sticky sample is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Placement {
    /// At the left edge, as the published code.
    LeftEdge,
    /// In proportion to the mass to its left: the continuous inverse distribution function.
    #[default]
    Interpolated,
}

impl Default for Projection {
    fn default() -> Self {
        Projection::Exact { ridge: 1e-6 }
    }
}

impl Default for SampledFit {
    fn default() -> Self {
        Self { points: 512, ridge: 1e-3, padding: Padding::None }
    }
}

fn cosine() -> BasisKind {
    BasisKind::Cosine
}
fn sticky_bins() -> usize {
    128
}

impl Forgetting {
    /// The policy's name.
    pub fn name(&self) -> &'static str {
        match self {
            Forgetting::Geometric { .. } => "Geometric",
            Forgetting::PowerLaw { .. } => "PowerLaw",
            Forgetting::Uniform => "Uniform",
            Forgetting::Sticky { .. } => "Sticky",
            Forgetting::Adaptive(_) => "Adaptive",
        }
    }

    /// The functions that carry the signal; under `Adaptive` they are bins whose edges move.
    pub fn basis(&self) -> &BasisKind {
        match self {
            Forgetting::Geometric { basis, .. }
            | Forgetting::PowerLaw { basis, .. }
            | Forgetting::Sticky { basis, .. } => basis,
            Forgetting::Uniform => &BasisKind::Legendre,
            Forgetting::Adaptive(_) => &BasisKind::Bins,
        }
    }

    /// Checks every field. Errors name the field, the value and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let check = |field: &str, value: f64, holds: bool, allowed: &str| {
            if holds && value.is_finite() {
                return Ok(());
            }
            let field = format!("forgetting.{field}");
            Err(Error::Configuration { field, value: value.to_string(), allowed: allowed.into() })
        };
        let check_tau = |tau: f64| check("tau", tau, tau > 0.0 && tau < 1.0, "between 0 and 1, both excluded");
        let check_fit = |name: &str, fit: &SampledFit| {
            check(&format!("{name}.points"), fit.points as f64, (2..=65_536).contains(&fit.points), "2 to 65536")?;
            check(&format!("{name}.ridge"), fit.ridge, fit.ridge > 0.0, "a finite number above 0")
        };
        match self {
            Forgetting::Geometric { tau, projection, .. } => {
                check_tau(*tau)?;
                match projection {
                    Projection::Exact { ridge } => {
                        check("projection.ridge", *ridge, *ridge > 0.0, "a finite number above 0")
                    }
                    Projection::Sampled(fit) => check_fit("projection", fit),
                }
            }
            Forgetting::PowerLaw { resolution, horizon, .. } => {
                check("resolution", *resolution, *resolution > 0.0, "a finite number above 0")?;
                check("horizon", *horizon, horizon > resolution, "a finite number above `resolution`")
            }
            Forgetting::Uniform => Ok(()),
            Forgetting::Sticky { tau, fit, bins, .. } => {
                check_tau(*tau)?;
                check_fit("fit", fit)?;
                check("bins", *bins as f64, (2..=65_536).contains(bins), "2 to 65536")
            }
            Forgetting::Adaptive(AdaptiveRule { resolution, mix, tolerance }) => {
                check("resolution", *resolution, *resolution > 0.0, "a finite number above 0")?;
                check("mix", *mix, *mix >= 0.0, "a finite number, 0 or above")?;
                check("tolerance", *tolerance, *tolerance >= 0.0, "a finite number, 0 or above")
            }
        }
    }
}

/// The map between positions t ∈ \[0, 1\] of a linear signal and ages in observations; t = 1 is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimeAxis {
    /// Chunk k back lies between τᵏ⁺¹ and τᵏ; the first chunk of a life fills what is left.
    Geometric {
        /// The squeeze.
        tau: f64,
        /// Observations a chunk, L.
        chunk: usize,
    },
    /// The logarithm of age.
    PowerLaw {
        /// a₀.
        resolution: f64,
        /// a_max.
        horizon: f64,
    },
    /// Linear in age over the whole life.
    Uniform,
    /// Followed write by write, since attention bends it: ages at evenly spaced positions, a part of the state.
    Table,
}

impl TimeAxis {
    /// Age in observations at the position `t`, when `written` observations are in the signal. `table` holds the
    /// ages at evenly spaced positions; only [`TimeAxis::Table`] reads it.
    pub fn age(&self, t: f64, written: u64, table: &[f32]) -> f64 {
        let t = t.clamp(0.0, 1.0);
        match *self {
            TimeAxis::Geometric { tau, chunk } => {
                let chunks = (written / chunk as u64).max(1);
                let back = if t > 0.0 { (t.ln() / tau.ln()).floor() } else { f64::INFINITY };
                let back = back.min((chunks - 1) as f64);
                let newest = tau.powf(back);
                let oldest = if back as u64 == chunks - 1 { 0.0 } else { newest * tau };
                chunk as f64 * (back + (newest - t) / (newest - oldest))
            }
            TimeAxis::PowerLaw { resolution, horizon } => {
                resolution * (((1.0 - t) * (horizon / resolution).ln_1p()).exp_m1())
            }
            TimeAxis::Uniform => written as f64 * (1.0 - t),
            TimeAxis::Table => {
                let last = table.len() - 1;
                let at = t * last as f64;
                let below = (at as usize).min(last - 1);
                let (older, newer) = (f64::from(table[below]), f64::from(table[below + 1]));
                older + (newer - older) * (at - below as f64)
            }
        }
    }

    /// Position of an age: the inverse of [`TimeAxis::age`], clamped to \[0, 1\].
    pub fn position(&self, age: f64, written: u64, table: &[f32]) -> f64 {
        let t = match *self {
            TimeAxis::Geometric { tau, chunk } => {
                let chunks = (written / chunk as u64).max(1);
                let back = (age / chunk as f64).floor().min((chunks - 1) as f64);
                let newest = tau.powf(back);
                let oldest = if back as u64 == chunks - 1 { 0.0 } else { newest * tau };
                newest - (age / chunk as f64 - back) * (newest - oldest)
            }
            TimeAxis::PowerLaw { resolution, horizon } => {
                1.0 - (age / resolution).ln_1p() / (horizon / resolution).ln_1p()
            }
            TimeAxis::Uniform => 1.0 - age / (written as f64).max(1.0),
            TimeAxis::Table => {
                // Ages fall as the index grows.
                let newer = table.partition_point(|&entry| f64::from(entry) > age).clamp(1, table.len() - 1);
                let (older_age, newer_age) = (f64::from(table[newer - 1]), f64::from(table[newer]));
                let part = if older_age > newer_age { (older_age - age) / (older_age - newer_age) } else { 0.0 };
                ((newer - 1) as f64 + part.clamp(0.0, 1.0)) / (table.len() - 1) as f64
            }
        };
        t.clamp(0.0, 1.0)
    }
}
