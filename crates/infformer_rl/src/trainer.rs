//! The training loop of a policy. All that is random follows from the seed and the update's number, and a checkpoint has the
//! episodes under way, so that a run that was stopped and resumed is the same run.

use crate::checkpoint;
use crate::environment_batch::{EnvironmentBatch, Episode, Make};
use crate::error::{Error, Result};
use crate::log::{self, Log};
use crate::memory::MemoryState;
use crate::optimiser::{Optimiser, OptimiserConfig};
use crate::policy::{Policy, PolicyConfig};
use crate::ppo::{PpoConfig, Update};
use crate::rollout::Rollout;
use candle_core::Device;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A whole run. RON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// The environment's name; see [`EnvironmentConfig`](crate::environments::EnvironmentConfig).
    pub environment: String,
    /// What learns.
    pub policy: PolicyConfig,
    /// How it learns.
    #[serde(default)]
    pub ppo: PpoConfig,
    /// How steps of the weights are taken.
    pub optimiser: OptimiserConfig,
    /// Seed of the weights, the episodes and the actions.
    #[serde(default)]
    pub seed: u64,
    /// Steps of all environments together; the last update may go beyond.
    pub steps: u64,
    /// Updates from one checkpoint to the next. 20.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: u64,
    /// The run ends when the mean return of as many episodes as there are members, or more, reaches this; the policy that did so is
    /// kept as it is.
    #[serde(default)]
    pub stop_at: Option<f64>,
}

fn default_checkpoint_every() -> u64 {
    20
}

/// How far a step of the weights moves them, if nothing else is said.
pub const LEARNING_RATE: f64 = 1e-3;

impl TrainingConfig {
    /// A run of a policy with the usual settings: 1e-3 falling to 0 over the run, shares of it as
    /// [`MemoryConfig::shares`](crate::memories::MemoryConfig::shares) has them, gradients of norm .5 at most.
    pub fn new(environment: &str, policy: PolicyConfig, ppo: PpoConfig, steps: u64, seed: u64) -> Self {
        let shares = policy.memory.shares();
        let mut config = Self {
            environment: environment.into(),
            policy,
            ppo,
            optimiser: OptimiserConfig {
                learning_rate: LEARNING_RATE,
                warm_up: 10,
                weight_decay: 0.0,
                betas: (0.9, 0.999),
                clip: 0.5,
                shares,
                ..OptimiserConfig::default()
            },
            seed,
            steps,
            checkpoint_every: default_checkpoint_every(),
            stop_at: None,
        };
        config.optimiser.decay_until = Some(config.optimiser_steps().max(config.optimiser.warm_up + 1));
        config
    }

    /// Reads RON text and validates it.
    pub fn from_ron(text: &str) -> Result<Self> {
        let config: Self = ron::from_str(text).map_err(|error| Error::Configuration(error.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// The run as RON text that people can edit.
    pub fn to_ron(&self) -> Result<String> {
        let pretty = ron::ser::PrettyConfig::default();
        ron::ser::to_string_pretty(self, pretty).map_err(|error| Error::Configuration(error.to_string()))
    }

    /// Says what is wrong, if anything is.
    pub fn validate(&self) -> Result<()> {
        self.ppo.validate()?;
        self.policy.validate()?;
        self.optimiser.validate(self.optimiser_steps()).map_err(Error::Configuration)?;
        if self.steps == 0 || self.checkpoint_every == 0 {
            return Err(Error::Configuration("steps and checkpoint_every are 1 or more".into()));
        }
        Ok(())
    }

    /// Steps of all environments in one update.
    fn steps_an_update(&self) -> u64 {
        (self.ppo.members * self.ppo.ticks) as u64
    }

    /// Steps of the weights over the whole run.
    fn optimiser_steps(&self) -> u64 {
        let updates = self.steps.div_ceil(self.steps_an_update().max(1));
        updates * (self.ppo.epochs * self.ppo.minibatches) as u64
    }
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Updates so far, one that was not needed included.
    pub updates: u64,
    /// Steps of all environments so far.
    pub steps: u64,
    /// The latest mean return, of as many episodes as there are members or more.
    pub mean_return: f64,
    /// The best mean return (the maximum mean episodic return) of an update, or of so many updates that as many episodes ended as
    /// there are members: those of a few would be the short ones.
    pub best: Option<f64>,
    /// The steps at the best.
    pub best_steps: u64,
    /// Returns of the episodes that ended since the latest mean.
    #[serde(default)]
    pub ended: Vec<f64>,
    /// Seconds of work so far.
    pub seconds: f64,
    /// Whether the run ended by itself.
    pub finished: bool,
    /// The episodes under way.
    pub episodes: Vec<Episode>,
}

impl Progress {
    /// Takes note of episodes that ended; their mean return and that of those before, once they are `members` or more.
    fn pool(&mut self, returns: impl Iterator<Item = f64>, members: usize) -> Option<f64> {
        self.ended.extend(returns);
        if self.ended.is_empty() || self.ended.len() < members {
            return None;
        }
        self.mean_return = self.ended.iter().sum::<f64>() / self.ended.len() as f64;
        self.ended.clear();
        Some(self.mean_return)
    }
}

/// One update, or the rollout after which none was needed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Steps of all environments so far.
    pub steps: u64,
    /// Mean return of the episodes that ended; none where none did.
    pub mean_return: Option<f64>,
    /// How many ended.
    pub episodes: usize,
    /// Their mean length in ticks.
    pub mean_length: Option<f64>,
    /// What the update told; none where the run had reached what it was to reach.
    pub update: Option<Update>,
    /// Seconds since the run began, pauses not counted.
    pub seconds: f64,
    /// Of this update: living through it.
    pub collecting_seconds: f64,
    /// Of this update: learning from it.
    pub learning_seconds: f64,
}

impl log::Record for Record {
    fn step(&self) -> u64 {
        self.steps
    }

    fn scalars(&self) -> Vec<(&'static str, f64)> {
        let mut scalars = vec![];
        if let Some(Update { policy_loss, value_loss, entropy, divergence, clipped, gradient_norm }) = self.update {
            scalars.extend([
                ("policy_loss", policy_loss),
                ("value_loss", value_loss),
                ("entropy", entropy),
                ("divergence", divergence),
                ("clipped", clipped),
                ("gradient_norm", gradient_norm),
            ]);
        }
        scalars.extend(self.mean_return.map(|mean| ("mean_return", mean)));
        scalars.extend(self.mean_length.map(|mean| ("mean_length", mean)));
        scalars
    }
}

/// How a call of [`train`] ended.
#[derive(Debug)]
pub struct Trained {
    /// The policy as it is now.
    pub policy: Policy,
    /// How far it is.
    pub progress: Progress,
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Living,
    Learning,
}

fn random(seed: u64, stream: Stream, update: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(2 * update + stream as u64);
    random
}

/// Trains on the environments that `make` makes, or goes on where the checkpoint in `folder` stopped; `stop` ends it after
/// the update under way. Writes `run.ron` (the configuration), `checkpoint.safetensors`, `metrics.jsonl` and TensorBoard events into
/// `folder`, and shows its progress on the standard error.
///
/// `steps`, `stop_at` and the optimiser's `decay_until` may be changed between two calls. Errors: a configuration that
/// makes no sense, an environment that [`check`](crate::environment::Environment::check) refuses or that shows more or less later, a
/// checkpoint of another configuration, files that cannot be read or written, a loss that is no number any more
/// (the last checkpoint stays).
///
/// A program that trains begins with [`program::run`](crate::program::run): it sets the allocator, without which a training step
/// takes up to twice as long, the threads, and a stack that long recurrences need.
pub fn train(
    config: &TrainingConfig,
    make: Make,
    folder: &Path,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Trained> {
    config.validate()?;
    std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
    let PpoConfig { members, ticks, .. } = config.ppo;
    let spaces = {
        let mut one = make();
        one.check()?;
        config.policy.spaces(&*one)
    };
    let policy = config.policy.init(&spaces, config.seed, device)?;
    let mut optimiser = Optimiser::new(&config.optimiser, policy.parameters())?;
    let mut endless = TrainingConfig { steps: 0, stop_at: None, ..config.clone() };
    endless.optimiser.decay_until = None;
    let configuration = ron::to_string(&endless).map_err(|error| Error::Configuration(error.to_string()))?;
    let file = folder.join("checkpoint.safetensors");
    let mut environments = EnvironmentBatch::new(make, spaces, members, config.seed)?;
    let mut state = policy.empty_state(members)?;
    let mut progress = Progress::default();
    if file.exists() {
        let bytes;
        (progress, bytes) = checkpoint::load(&file, &configuration, policy.parameters(), &mut optimiser)?;
        environments.resume(&progress.episodes)?;
        state = policy.load_state(&bytes)?;
    }
    // A lower aim than before may have been passed by a policy that has been improved since: it shows so at once.
    let reached = config.stop_at.is_some_and(|enough| progress.best.is_some() && progress.mean_return >= enough);
    progress.finished = progress.steps >= config.steps || progress.finished && reached;
    if progress.finished {
        return Ok(Trained { policy, progress });
    }
    if progress.steps > 0 {
        eprintln!("going on from step {}", progress.steps);
    }
    // Only now: a folder of another training was refused, and its configuration stays.
    let run = folder.join("run.ron");
    std::fs::write(&run, config.to_ron()?).map_err(Error::file(&run))?;
    let mut log = Log::open::<Record>(folder, progress.steps)?;
    let bar = ProgressBar::new(config.steps).with_position(progress.steps);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg} {eta} left") {
        bar.set_style(style);
    }
    let (begun, before) = (Instant::now(), progress.seconds);
    let save = |progress: &mut Progress, optimiser: &Optimiser, lived: &EnvironmentBatch, state: &MemoryState| {
        progress.episodes = lived.episodes();
        checkpoint::save(&file, &configuration, policy.parameters(), optimiser, progress, &state.save()?)
    };
    let mut saved = progress.updates;
    while !progress.finished && !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        let mut living = random(config.seed, Stream::Living, progress.updates);
        let by = config.ppo.discounts();
        let rollout = Rollout::collect(&policy, &mut environments, &mut state, ticks, by, &mut living, device)?;
        let collecting_seconds = started.elapsed().as_secs_f64();
        let episodes = rollout.finished.len();
        let mean = |sum: f64| (episodes > 0).then(|| sum / episodes as f64);
        let mean_return = mean(rollout.finished.iter().map(|(total, _)| total).sum());
        let pooled = progress.pool(rollout.finished.iter().map(|(total, _)| *total), config.ppo.members);
        // What is good enough is kept as it is.
        let enough = pooled.zip(config.stop_at).is_some_and(|(mean, enough)| mean >= enough);
        let mut learning = random(config.seed, Stream::Learning, progress.updates);
        let update = match enough {
            true => None,
            false => Some(config.ppo.update(&policy, &rollout, &mut optimiser, &mut learning, device)?),
        };
        let spent = started.elapsed().as_secs_f64();
        progress.updates += 1;
        progress.steps += config.steps_an_update();
        progress.seconds = before + begun.elapsed().as_secs_f64();
        let record = Record {
            steps: progress.steps,
            mean_return,
            episodes,
            mean_length: mean(rollout.finished.iter().map(|(_, length)| *length as f64).sum()),
            update,
            seconds: progress.seconds,
            collecting_seconds,
            learning_seconds: spent - collecting_seconds,
        };
        if let Some(mean) = pooled
            && progress.best.is_none_or(|best| mean > best)
        {
            (progress.best, progress.best_steps) = (Some(mean), progress.steps);
        }
        log.write(folder, &record)?;
        let speed = config.steps_an_update() as f64 / spent;
        let told = format!("return {:.3} {speed:.0} steps/s", progress.mean_return);
        if bar.is_hidden() && progress.updates.is_multiple_of(config.checkpoint_every) {
            eprintln!("step {} of {}: {told}", progress.steps, config.steps);
        }
        bar.set_message(told);
        bar.set_position(progress.steps);
        progress.finished = enough || progress.steps >= config.steps;
        if progress.finished || progress.updates >= saved + config.checkpoint_every {
            saved = progress.updates;
            save(&mut progress, &optimiser, &environments, &state)?;
        }
    }
    if progress.updates > saved {
        save(&mut progress, &optimiser, &environments, &state)?;
    }
    bar.finish_and_clear();
    Ok(Trained { policy, progress })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two that were won early are no mean of four members; with what ends later they are.
    #[test]
    fn a_few_short_episodes_are_no_mean_yet() {
        let mut progress = Progress::default();
        assert_eq!(progress.pool([1.0, 1.0].into_iter(), 4), None);
        assert_eq!(progress.pool(std::iter::empty(), 4), None);
        assert_eq!(progress.pool([-1.0, -1.0, -1.0].into_iter(), 4), Some(-0.2));
        assert_eq!((progress.mean_return, progress.ended.len()), (-0.2, 0));
        assert_eq!(progress.pool([0.5; 4].into_iter(), 4), Some(0.5));
    }
}
