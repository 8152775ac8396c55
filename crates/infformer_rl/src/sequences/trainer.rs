//! The training loop: every step's sequences follow from the seed and the step's number, so that a run that was
//! stopped and resumed is the same run.

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::log::{self, Log};
use crate::optimiser::{Optimiser, OptimiserConfig};
use crate::sequences::learner::{Learner, LearnerConfig};
use crate::sequences::task::{Batch, Difficulty, Task};
use candle_core::{D, DType, Device, Tensor};
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
    /// What is to be learnt.
    pub task: Task,
    /// By what.
    pub learner: LearnerConfig,
    /// How steps are taken.
    #[serde(default)]
    pub optimiser: OptimiserConfig,
    /// Seed of the weights and of all sequences.
    #[serde(default)]
    pub seed: u64,
    /// Most steps.
    pub steps: u64,
    /// Sequences a step. 32.
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// Steps from one evaluation and checkpoint to the next. 100.
    #[serde(default = "default_evaluate_every")]
    pub evaluate_every: u64,
    /// Sequences an evaluation. 256.
    #[serde(default = "default_evaluation_sequences")]
    pub evaluation_sequences: usize,
    /// The run ends when an evaluation reaches this accuracy.
    #[serde(default)]
    pub stop_at: Option<f64>,
    /// The run ends when so many evaluations in a row were no better than the best.
    #[serde(default)]
    pub patience: Option<u64>,
    /// Weight of the memory's regulariser in the loss.
    #[serde(default)]
    pub regulariser: f64,
}

fn default_batch() -> usize {
    32
}
fn default_evaluate_every() -> u64 {
    100
}
fn default_evaluation_sequences() -> usize {
    256
}

impl TrainingConfig {
    /// Reads RON text and validates it.
    pub fn from_ron(text: &str) -> Result<Self> {
        let config: Self = ron::from_str(text).map_err(|error| Error::Configuration(error.to_string()))?;
        config.validate()?;
        Ok(config)
    }

    /// Says what is wrong, if anything is.
    pub fn validate(&self) -> Result<()> {
        self.task.validate().map_err(Error::Configuration)?;
        self.optimiser.validate(self.steps).map_err(Error::Configuration)?;
        self.learner.validate(&self.task)?;
        if self.steps == 0 || self.batch == 0 || self.evaluate_every == 0 || self.evaluation_sequences == 0 {
            let message = "steps, batch, evaluate_every and evaluation_sequences are 1 or more";
            return Err(Error::Configuration(message.into()));
        }
        Ok(())
    }
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Accuracy of the last evaluation.
    pub accuracy: f64,
    /// Best accuracy seen in an evaluation, and at which step.
    pub best: f64,
    /// The step of the best accuracy.
    pub best_step: u64,
    /// Seconds of work so far.
    pub seconds: f64,
    /// Whether the run ended by itself.
    pub finished: bool,
    /// What the next record is made of.
    pub sums: Sums,
}

/// Sums over the steps since the last evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// How many steps.
    pub steps: f64,
    /// Training losses.
    pub loss: f64,
    /// Norms of the gradients before clipping.
    pub norm: f64,
    /// Seconds of making sequences.
    pub data: f64,
    /// Seconds of forward passes.
    pub forward: f64,
    /// Seconds of backward passes.
    pub backward: f64,
    /// Seconds of the optimiser.
    pub optimiser: f64,
}

/// One evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Steps taken.
    pub step: u64,
    /// Mean training loss since the last record, in nats.
    pub loss: f64,
    /// Share of right answers at the farthest distance, on sequences that training never draws.
    pub accuracy: f64,
    /// Mean norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Seconds since the run began, pauses not counted.
    pub seconds: f64,
    /// Of the seconds since the last record: making sequences.
    pub data_seconds: f64,
    /// Forward passes of training.
    pub forward_seconds: f64,
    /// Backward passes.
    pub backward_seconds: f64,
    /// The optimiser.
    pub optimiser_seconds: f64,
}

impl Record {
    /// The record of an evaluation and of the steps since the one before.
    pub(crate) fn new(progress: &Progress) -> Self {
        let Sums { steps, loss, norm, data, forward, backward, optimiser } = progress.sums;
        Self {
            step: progress.step,
            loss: loss / steps,
            accuracy: progress.accuracy,
            gradient_norm: norm / steps,
            seconds: progress.seconds,
            data_seconds: data,
            forward_seconds: forward,
            backward_seconds: backward,
            optimiser_seconds: optimiser,
        }
    }
}

impl log::Record for Record {
    fn step(&self) -> u64 {
        self.step
    }

    fn scalars(&self) -> Vec<(&'static str, f64)> {
        vec![("loss", self.loss), ("accuracy", self.accuracy), ("gradient_norm", self.gradient_norm)]
    }
}

/// How a call of [`train`] ended.
#[derive(Debug)]
pub struct Trained {
    /// The network as it is now.
    pub learner: Learner,
    /// How far it is.
    pub progress: Progress,
}

/// Sequences of training and of evaluation never come from the same stream.
#[derive(Debug, Clone, Copy)]
enum Stream {
    Training,
    Evaluation,
}

fn random(seed: u64, stream: Stream, number: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(2 * number + stream as u64);
    random
}

/// Trains, or goes on where the checkpoint in `folder` stopped; `stop` ends it after the step under way. Writes
/// `checkpoint.safetensors`, `metrics.jsonl` and TensorBoard events into `folder`, and shows its progress on the
/// standard error.
///
/// `steps`, `stop_at` and `patience` may be changed between two calls. Errors: a configuration that makes no sense, a
/// checkpoint of another one, files that cannot be read or written, a loss that is no number any more.
pub fn train(config: &TrainingConfig, folder: &Path, device: &Device, stop: &AtomicBool) -> Result<Trained> {
    config.validate()?;
    std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
    let learner = config.learner.init(&config.task, config.seed, device)?;
    let mut optimiser = Optimiser::new(&config.optimiser, learner.parameters())?;
    let endless = TrainingConfig { steps: 0, stop_at: None, patience: None, ..config.clone() };
    let configuration = ron::to_string(&endless).map_err(|error| Error::Configuration(error.to_string()))?;
    let file = folder.join("checkpoint.safetensors");
    let mut progress = match file.exists() {
        true => checkpoint::load(&file, &configuration, learner.parameters(), &mut optimiser)?.0,
        false => Progress::default(),
    };
    progress.finished = has_ended(config, &progress);
    if progress.finished {
        return Ok(Trained { learner, progress });
    }
    if progress.step > 0 {
        eprintln!("going on from step {}", progress.step);
    }
    let mut log = Log::open::<Record>(folder, progress.step)?;
    let bar = ProgressBar::new(config.steps).with_position(progress.step);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} step {pos}/{len} {msg} {eta} left") {
        bar.set_style(style);
    }
    let begun = Instant::now();
    let before = progress.seconds;
    while !progress.finished && !stop.load(Ordering::Relaxed) {
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
        let sums = &mut progress.sums;
        let mut random = random(config.seed, Stream::Training, progress.step);
        let Batch { x, targets } = config.task.sample(config.batch, Difficulty::Training, &mut random, device)?;
        sums.data += lap();
        let (logits, regulariser) = learner.forward(&x, config.task.answers())?;
        let mut loss = cross_entropy(&logits, &targets)?;
        let found = loss.to_scalar::<f32>()?;
        sums.forward += lap();
        if let Some(regulariser) = regulariser.filter(|_| config.regulariser > 0.0) {
            loss = (loss + (regulariser * config.regulariser)?)?;
        }
        let gradients = loss.backward()?;
        sums.backward += lap();
        let norm = optimiser.step(learner.parameters(), &gradients)?;
        sums.optimiser += lap();
        if !found.is_finite() || !norm.is_finite() {
            return Err(Error::Diverged { step: progress.step, loss: f64::from(found), norm });
        }
        progress.step += 1;
        (sums.loss, sums.norm, sums.steps) = (sums.loss + f64::from(found), sums.norm + norm, sums.steps + 1.0);
        bar.set_position(progress.step);
        if progress.step.is_multiple_of(config.evaluate_every) || progress.step == config.steps {
            let accuracy = evaluate(config, &learner, Difficulty::Farthest(1), config.evaluation_sequences, device)?;
            (progress.accuracy, progress.seconds) = (accuracy, before + begun.elapsed().as_secs_f64());
            let record = Record::new(&progress);
            log.write(folder, &record)?;
            progress.sums = Sums::default();
            let told = format!("loss {:.3} accuracy {accuracy:.3}", record.loss);
            if bar.is_hidden() {
                eprintln!("step {} of {}: {told}", progress.step, config.steps);
            }
            bar.set_message(told);
            if accuracy > progress.best || progress.best_step == 0 {
                (progress.best, progress.best_step) = (accuracy, progress.step);
            }
            progress.finished = has_ended(config, &progress);
            checkpoint::save(&file, &configuration, learner.parameters(), &optimiser, &progress, &[])?;
        }
    }
    bar.finish_and_clear();
    if !progress.finished {
        progress.seconds = before + begun.elapsed().as_secs_f64();
        checkpoint::save(&file, &configuration, learner.parameters(), &optimiser, &progress, &[])?;
    }
    Ok(Trained { learner, progress })
}

/// Whether a run that is so far goes no further.
fn has_ended(config: &TrainingConfig, progress: &Progress) -> bool {
    let evaluated = progress.best_step > 0;
    let waited = (progress.step - progress.best_step) / config.evaluate_every;
    progress.step >= config.steps
        || (evaluated && config.stop_at.is_some_and(|enough| progress.accuracy >= enough))
        || (evaluated && config.patience.is_some_and(|patience| waited >= patience))
}

/// Mean of −ln p(right class) over logits \[batch, n, classes\] and targets \[batch, n\].
fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let log_masses = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    Ok(log_masses.gather(&targets.unsqueeze(2)?, 2)?.mean_all()?.neg()?)
}

/// The share of right answers on `sequences` that training never draws.
pub fn evaluate(
    config: &TrainingConfig,
    learner: &Learner,
    difficulty: Difficulty,
    sequences: usize,
    device: &Device,
) -> Result<f64> {
    let (mut right, mut asked) = (0.0, 0.0);
    let mut done = 0;
    while done < sequences {
        let batch = config.batch.min(sequences - done);
        let mut random = random(config.seed, Stream::Evaluation, done as u64);
        let Batch { x, targets } = config.task.sample(batch, difficulty, &mut random, device)?;
        let (logits, _) = learner.forward(&x, config.task.answers())?;
        let hits = logits.argmax(D::Minus1)?.eq(&targets)?.to_dtype(DType::F32)?;
        right += f64::from(hits.sum_all()?.to_scalar::<f32>()?);
        asked += hits.elem_count() as f64;
        done += batch;
    }
    Ok(right / asked)
}
