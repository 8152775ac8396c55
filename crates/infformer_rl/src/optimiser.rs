//! AdamW (Loshchilov and Hutter 2019) with warm-up and clipping, whose whole state can be saved.
//!
//! The tensor library's own optimiser keeps its moments to itself, so that a run could not be resumed.

use crate::error::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use infformer::model::Parameters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How steps are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimiserConfig {
    /// Length of a step. 1e-3.
    pub learning_rate: f64,
    /// Steps over which it rises from 0. 100.
    pub warm_up: u64,
    /// The step at which it has fallen to 0, linearly since the warm-up; `None` keeps it.
    pub decay_until: Option<u64>,
    /// Decay of the weights that are matrices, a step, times the learning rate. .01.
    pub weight_decay: f64,
    /// β₁ = .9 and β₂ = .98 of the running moments.
    pub betas: (f64, f64),
    /// The largest norm of the whole gradient. 1.
    pub clip: f64,
    /// Shares of the learning rate by how weights' names end, as `short_term.query.weight` or `bias`, from one dot to the last; the
    /// longest counts, 0 keeps weights as they are. Whoever is not named has the whole rate. None.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<String, f64>,
}

impl Default for OptimiserConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            warm_up: 100,
            decay_until: None,
            weight_decay: 0.01,
            betas: (0.9, 0.98),
            clip: 1.0,
            shares: BTreeMap::new(),
        }
    }
}

impl OptimiserConfig {
    /// Says what is wrong with a run of `steps` steps, if anything is.
    pub(crate) fn validate(&self, steps: u64) -> std::result::Result<(), String> {
        let Self { learning_rate, weight_decay, betas, clip, .. } = *self;
        if !(learning_rate.is_finite() && learning_rate > 0.0) {
            return Err(format!("optimiser.learning_rate is {learning_rate}: a number above 0"));
        }
        if !(weight_decay.is_finite() && weight_decay >= 0.0) {
            return Err(format!("optimiser.weight_decay is {weight_decay}: a number of 0 or more"));
        }
        if ![betas.0, betas.1].iter().all(|beta| (0.0..1.0).contains(beta)) {
            return Err(format!("optimiser.betas are {betas:?}: both are 0 or more and below 1"));
        }
        if clip.is_nan() || clip <= 0.0 {
            return Err(format!("optimiser.clip is {clip}: a number above 0, inf for no clipping"));
        }
        if let Some((name, share)) = self.shares.iter().find(|(_, share)| !(share.is_finite() && **share >= 0.0)) {
            return Err(format!("optimiser.shares: {name} has {share}, a share is a number of 0 or more"));
        }
        match self.decay_until {
            Some(end) if end <= self.warm_up || end < steps => Err(format!(
                "optimiser.decay_until is {end}: more than warm_up ({}) and at least steps ({steps}), or nothing is learnt",
                self.warm_up
            )),
            _ => Ok(()),
        }
    }

    /// The share of the learning rate that a weight has.
    fn share(&self, name: &str) -> f64 {
        let named = self.shares.iter().filter(|(end, _)| ends_with(name, end));
        named.max_by_key(|(end, _)| end.len()).map_or(1.0, |(_, share)| *share)
    }

    /// The learning rate of step `step`, 1 the first.
    fn rate(&self, step: u64) -> f64 {
        let warm_up = self.warm_up.max(1);
        let rising = step as f64 / warm_up as f64;
        let falling = match self.decay_until {
            Some(end) => end.saturating_sub(step) as f64 / end.saturating_sub(warm_up).max(1) as f64,
            None => 1.0,
        };
        self.learning_rate * rising.min(falling).min(1.0)
    }
}

/// Whether a name's last parts, between dots, are these.
fn ends_with(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// AdamW and its moments.
#[derive(Debug, Clone)]
pub struct Optimiser {
    config: OptimiserConfig,
    /// Steps taken.
    pub steps: u64,
    /// Running mean and mean square of each weight's gradient.
    pub moments: BTreeMap<String, (Tensor, Tensor)>,
}

impl Optimiser {
    /// No step taken yet. Errors: a share for a weight that there is not.
    pub fn new(config: &OptimiserConfig, parameters: &Parameters) -> Result<Self> {
        let is_there = |end: &str| !end.is_empty() && parameters.keys().any(|name| ends_with(name, end));
        if let Some(end) = config.shares.keys().find(|end| !is_there(end)) {
            let names = parameters.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("optimiser.shares: no weight's name ends with \"{end}\"; they are {names}");
            return Err(Error::Configuration(message));
        }
        let zeros = |(name, var): (&String, &candle_core::Var)| {
            Ok((name.clone(), (var.as_tensor().zeros_like()?.detach(), var.as_tensor().zeros_like()?.detach())))
        };
        let moments = parameters.iter().map(zeros).collect::<candle_core::Result<_>>()?;
        Ok(Self { config: config.clone(), steps: 0, moments })
    }

    /// Takes one step down `gradients`; gives their norm before clipping.
    pub fn step(&mut self, parameters: &Parameters, gradients: &GradStore) -> Result<f64> {
        let mut squared = 0.0;
        for var in parameters.values() {
            if let Some(gradient) = gradients.get(var) {
                squared += f64::from(gradient.sqr()?.sum_all()?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
            }
        }
        let norm = squared.sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.steps += 1;
        let OptimiserConfig { weight_decay, betas: (beta_1, beta_2), clip, .. } = self.config;
        let scale = if norm > clip { clip / norm } else { 1.0 };
        let rate = self.config.rate(self.steps);
        let steps = self.steps as i32;
        let (correct_1, correct_2) = (1.0 - beta_1.powi(steps), 1.0 - beta_2.powi(steps));
        for (name, var) in parameters {
            let (Some(gradient), Some((mean, square))) = (gradients.get(var), self.moments.get_mut(name)) else {
                continue;
            };
            // A gradient carries the graph that made it; moments must not.
            let gradient = (gradient.detach() * scale)?;
            *mean = ((&*mean * beta_1)? + (&gradient * (1.0 - beta_1))?)?.detach();
            *square = ((&*square * beta_2)? + (gradient.sqr()? * (1.0 - beta_2))?)?.detach();
            let step = ((&*mean / correct_1)? / ((&*square / correct_2)?.sqrt()? + 1e-8)?)?;
            let rate = rate * self.config.share(name);
            let decay = if var.dims().len() > 1 { weight_decay } else { 0.0 };
            let value = var.as_tensor().detach();
            var.set(&((&value * (1.0 - rate * decay))? - (step * rate)?)?.detach())?;
        }
        Ok(norm)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn the_rate_rises_and_falls() {
        let config = OptimiserConfig { learning_rate: 2.0, warm_up: 10, ..OptimiserConfig::default() };
        assert_eq!([1, 10, 500].map(|step| config.rate(step)), [0.2, 2.0, 2.0]);
        let config = OptimiserConfig { decay_until: Some(110), ..config };
        assert_eq!([1, 10, 60, 110].map(|step| config.rate(step)), [0.2, 2.0, 1.0, 0.0]);
        assert!(config.validate(110).is_ok());
        assert!(config.validate(111).is_err());
        assert!(OptimiserConfig { decay_until: Some(10), ..config }.validate(5).is_err());
    }

    #[test]
    fn a_share_of_the_rate_is_a_share_of_the_step() {
        let device = Device::Cpu;
        let var = |value: f32| Var::new(&[value], &device).unwrap();
        let parameters: Parameters =
            [("memory.output.weight", 1.0), ("gate.output.weight", 1.0), ("input.weight", 1.0)]
                .map(|(name, value)| (name.into(), var(value)))
                .into();
        let shares = |end: &str, share| [(end.to_string(), share)].into();
        let config = OptimiserConfig { warm_up: 1, weight_decay: 0.0, ..OptimiserConfig::default() };
        let config = OptimiserConfig {
            shares: [("output.weight".to_string(), 0.25), ("gate.output.weight".to_string(), 0.5)].into(),
            ..config
        };
        let loss =
            parameters.values().try_fold(Tensor::zeros(1, DType::F32, &device).unwrap(), |sum, var| sum + &**var);
        let mut optimiser = Optimiser::new(&config, &parameters).unwrap();
        optimiser.step(&parameters, &loss.unwrap().backward().unwrap()).unwrap();
        let moved = |name: &str| 1.0 - parameters[name].to_vec1::<f32>().unwrap()[0];
        // Adam's first step is as long as the rate; 1 − 1e-3 is rounded to 24 bits.
        assert!((moved("input.weight") - 1e-3).abs() < 1e-6);
        assert!((moved("memory.output.weight") - 0.25e-3).abs() < 1e-6);
        assert!((moved("gate.output.weight") - 0.5e-3).abs() < 1e-6);
        for unknown in ["put.weight", "head.weight", ""] {
            let config = OptimiserConfig { shares: shares(unknown, 0.25), ..config.clone() };
            assert!(Optimiser::new(&config, &parameters).unwrap_err().to_string().contains("gate.output.weight"));
        }
        assert!(OptimiserConfig { shares: shares("output.weight", f64::NAN), ..config }.validate(1).is_err());
    }

    #[test]
    fn steps_that_make_no_sense_are_refused() {
        let usual = OptimiserConfig::default;
        assert!(
            usual().validate(10).is_ok() && OptimiserConfig { clip: f64::INFINITY, ..usual() }.validate(10).is_ok()
        );
        for (wrong, name) in [
            (OptimiserConfig { learning_rate: 0.0, ..usual() }, "learning_rate"),
            (OptimiserConfig { learning_rate: -1e-3, ..usual() }, "learning_rate"),
            (OptimiserConfig { learning_rate: f64::NAN, ..usual() }, "learning_rate"),
            (OptimiserConfig { weight_decay: -0.1, ..usual() }, "weight_decay"),
            (OptimiserConfig { betas: (1.0, 0.9), ..usual() }, "betas"),
            (OptimiserConfig { betas: (0.9, f64::NAN), ..usual() }, "betas"),
            (OptimiserConfig { clip: 0.0, ..usual() }, "clip"),
            (OptimiserConfig { clip: f64::NAN, ..usual() }, "clip"),
            (OptimiserConfig { decay_until: Some(9), warm_up: 1, ..usual() }, "decay_until"),
        ] {
            let refused = wrong.validate(10).unwrap_err();
            assert!(refused.starts_with(&format!("optimiser.{name}")), "{refused}");
        }
    }
}
