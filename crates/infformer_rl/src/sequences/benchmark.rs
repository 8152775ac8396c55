//! The comparisons of the benchmark page: the same task, budget and seed for our memory and for what stands beside it.

use crate::error::Result;
use crate::optimiser::OptimiserConfig;
use crate::sequences::learner::{Learner, LearnerConfig, TransformerConfig};
use crate::sequences::task::{Distance, Task, sorting_ceilings};
use crate::sequences::trainer::TrainingConfig;
use candle_core::Device;
use clap::ValueEnum;
use infformer::Forgetting;
use infformer::basis::BasisKind;
use infformer::density::Measure;
use infformer::forgetting::{AdaptiveRule, Projection};
use infformer::model::{InputMask, LongTermConfig, LongTermForgetting};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// S of the recall tasks; L is the same.
pub const WINDOW: usize = 16;
/// S of the sorting task.
pub const SORTING_WINDOW: usize = 64;
/// L of the sorting task.
const SORTING_CHUNK: usize = 32;
/// Different symbols to be sorted, as in the paper.
const SORTING_SYMBOLS: usize = 20;
/// Training distances of the recall tasks, in windows.
pub const TIMES: [usize; 2] = [8, 64];

/// One row of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// Ours: `Adaptive` for recall, `Uniform` for sorting.
    Ours,
    /// The same transformer with its window alone.
    Window,
    /// A gated recurrent unit of the same number of parameters.
    Gru,
    /// A mean-pooled memory of as many coefficients, as long as the training distance.
    MeanPooled,
    /// Ours with the paper's geometric forgetting.
    Geometric,
}

impl Memory {
    /// All rows, in the order of the tables.
    pub const ALL: [Memory; 5] = [Memory::Ours, Memory::Window, Memory::Gru, Memory::MeanPooled, Memory::Geometric];

    /// The row's name in tables and folders.
    pub fn name(self) -> &'static str {
        match self {
            Memory::Ours => "ours",
            Memory::Window => "window",
            Memory::Gru => "gru",
            Memory::MeanPooled => "mean-pooled",
            Memory::Geometric => "geometric",
        }
    }
}

/// A finished row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The task.
    pub task: String,
    /// Ticks of distance (recall) or of the sequence (sorting).
    pub ticks: usize,
    /// Which memory.
    pub memory: Memory,
    /// Trained numbers.
    pub parameters: usize,
    /// Seed of weights and sequences.
    pub seed: u64,
    /// Steps taken.
    pub steps: u64,
    /// Steps allowed.
    pub most_steps: u64,
    /// Sequences a step.
    pub batch: usize,
    /// Seconds of training.
    pub seconds: f64,
    /// Share of right answers at the training distance.
    pub accuracy: f64,
    /// The same at `beyond_times` the distance or length, without retraining.
    pub beyond: f64,
    /// How much farther.
    pub beyond_times: usize,
    /// What exact counts of the window's ticks alone would reach; the sorting task alone.
    pub window_ceiling: Option<f64>,
}

/// The recall tasks: 10 symbols, or 24 keys with one of 10 values each; distances up to `times` windows.
pub fn recall_tasks(times: usize) -> [Task; 2] {
    let distance = Distance { least: WINDOW, most: times * WINDOW };
    [Task::FirstToken { symbols: 10, distance }, Task::KeyValue { pairs: 24, values: 10, distance }]
}

/// The run of one row on a recall task.
pub fn recall_run(task: &Task, times: usize, memory: Memory, steps: u64, seed: u64) -> Result<TrainingConfig> {
    let signal = |forgetting, basis| LongTermConfig {
        forgetting,
        capacity: basis,
        input_mask: InputMask::Convolution,
        ..LongTermConfig::default()
    };
    let ours = signal(LongTermForgetting::Signal(Forgetting::Adaptive(AdaptiveRule::ageless())), 64);
    let sizes = |long_term| TransformerConfig {
        width: 64,
        layers: 1,
        attention_heads: 2,
        feed_forward: 128,
        short_term: WINDOW,
        chunk: WINDOW,
        long_term,
    };
    let learner = learner(task, memory, sizes, ours, times * WINDOW)?;
    Ok(TrainingConfig {
        task: task.clone(),
        learner,
        optimiser: OptimiserConfig { learning_rate: 2e-3, ..OptimiserConfig::default() },
        seed,
        steps,
        batch: 32,
        evaluate_every: 100,
        evaluation_sequences: 256,
        stop_at: Some(0.995),
        patience: None,
        regulariser: 0.0,
    })
}

/// The run of one row on the sorting task with 20 symbols.
pub fn sorting_run(length: usize, memory: Memory, steps: u64, seed: u64) -> Result<TrainingConfig> {
    let task = Task::Sorting { symbols: SORTING_SYMBOLS, length };
    let ours = LongTermConfig {
        forgetting: LongTermForgetting::Signal(Forgetting::Uniform),
        capacity: 32,
        measure: Measure::Lifetime,
        ..LongTermConfig::default()
    };
    let sizes = |long_term| TransformerConfig {
        width: 64,
        layers: 1,
        attention_heads: 4,
        feed_forward: 256,
        short_term: SORTING_WINDOW,
        chunk: SORTING_CHUNK,
        long_term,
    };
    Ok(TrainingConfig {
        learner: learner(&task, memory, sizes, ours, length)?,
        task,
        optimiser: OptimiserConfig {
            learning_rate: 3e-3,
            warm_up: (steps / 2).min(100),
            decay_until: Some(steps),
            ..OptimiserConfig::default()
        },
        seed,
        steps,
        batch: 32,
        evaluate_every: 100,
        evaluation_sequences: 64,
        stop_at: None,
        patience: None,
        regulariser: 0.0,
    })
}

fn learner(
    task: &Task,
    memory: Memory,
    sizes: impl Fn(Option<LongTermConfig>) -> TransformerConfig,
    ours: LongTermConfig,
    ticks: usize,
) -> Result<LearnerConfig> {
    // So long that N means reach over all ticks; a power of two, as L is.
    let rate = ticks.div_ceil(ours.capacity).next_power_of_two();
    let basis = BasisKind::GaussianRbf { widths: vec![0.01, 0.05] };
    let geometric = Forgetting::Geometric { tau: 0.75, basis, projection: Projection::default() };
    let long_term = match memory {
        Memory::Ours => Some(ours),
        Memory::Window => None,
        Memory::MeanPooled => Some(LongTermConfig { forgetting: LongTermForgetting::MeanPooled { rate }, ..ours }),
        Memory::Geometric => Some(LongTermConfig { forgetting: LongTermForgetting::Signal(geometric), ..ours }),
        Memory::Gru => {
            let most = parameters(&LearnerConfig::Transformer(sizes(Some(ours))), task)?;
            let width = sizes(None).width;
            let mut hidden = 1;
            while parameters(&LearnerConfig::Gru { width, hidden: hidden + 1 }, task)? <= most {
                hidden += 1;
            }
            return Ok(LearnerConfig::Gru { width, hidden });
        }
    };
    Ok(LearnerConfig::Transformer(sizes(long_term)))
}

fn parameters(learner: &LearnerConfig, task: &Task) -> Result<usize> {
    let learner: Learner = learner.init(task, 0, &Device::Cpu)?;
    Ok(learner.parameter_count())
}

/// The most ticks of a sequence of `length` that the window holds at any of the questions; it holds the questions too.
pub fn sorting_window(length: usize) -> usize {
    let held = |answer: usize| {
        let ticks = length + 1 + answer;
        let chunks = ticks.saturating_sub(SORTING_WINDOW) / SORTING_CHUNK;
        (ticks - chunks * SORTING_CHUNK).saturating_sub(1 + answer)
    };
    (0..SORTING_SYMBOLS).map(held).max().unwrap_or(0)
}

/// Accuracy on the sorting task by exact counts: of the whole sequence, and of what the window holds.
pub fn ceilings(length: usize) -> [f64; 2] {
    let random = &mut ChaCha8Rng::seed_from_u64(1);
    sorting_ceilings(SORTING_SYMBOLS, length, sorting_window(length), 400, random)
}

/// Rows as a table; what the window's counts would reach is a column where there is something to be counted.
pub fn table(rows: &[Row]) -> String {
    let counted = rows.iter().any(|row| row.window_ceiling.is_some());
    let last = |cell: &str| if counted { format!(" {cell} |") } else { String::new() };
    let mut text = format!(
        "| task | ticks | memory | parameters | seed | steps | seconds | accuracy | farther |{}\n\
         |---|---|---|---|---|---|---|---|---|{}\n",
        last("window's counts"),
        if counted { "---|" } else { "" },
    );
    for row in rows {
        let Row { task, ticks, parameters, seed, steps, most_steps, seconds, accuracy, beyond, beyond_times, .. } = row;
        let (memory, window) = (row.memory.name(), row.window_ceiling.unwrap_or(f64::NAN));
        text += &format!(
            "| {task} | {ticks} | {memory} | {parameters} | {seed} | {steps} of {most_steps} | {seconds:.0} | {accuracy:.3} | \
             {beyond:.3} ({beyond_times} x) |{}\n",
            last(&format!("{window:.3}"))
        );
    }
    text
}
