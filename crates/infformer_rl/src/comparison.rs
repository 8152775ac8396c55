//! The same environments, budget and seeds for our memories and for what stands beside them, as a table.

use crate::distribution::Choice;
use crate::environments::EnvironmentConfig;
use crate::error::{Error, Result};
use crate::evaluation::{EvaluationConfig, evaluate};
use crate::log;
use crate::memories::MemoryName;
use crate::policy::{PolicyConfig, PreviousActionInput, Spaces};
use crate::ppo::PpoConfig;
use crate::program::NormalisationChoice;
use crate::trainer::{LEARNING_RATE, Record, TrainingConfig, train};
use candle_core::Device;
use clap::Args;
use infformer::model::Normalisation;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// How all policies of a table are trained.
#[derive(Debug, Clone, Copy, PartialEq, Args)]
pub struct Options {
    /// Weight of the policy's entropy: how much trying is worth.
    #[arg(long, default_value_t = PpoConfig::default().entropy)]
    pub entropy: f64,
    /// γ: what a reward is worth one tick later.
    #[arg(long, default_value_t = PpoConfig::default().gamma)]
    pub gamma: f64,
    /// Parts that the members are split into, a step of the weights each an epoch; it divides 64.
    #[arg(long, default_value_t = PpoConfig::default().minibatches)]
    pub minibatches: usize,
    /// Length of a step of the weights; it falls to 0 over the run.
    #[arg(long, default_value_t = LEARNING_RATE)]
    pub learning_rate: f64,
    /// What of each policy passes a layer normalisation.
    #[arg(long, value_enum, default_value = "everything")]
    pub normalisation: NormalisationChoice,
    /// Whether policies see what they did before.
    #[arg(long, value_enum, default_value = "shown")]
    pub previous_action: PreviousActionInput,
}

/// One finished run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The environment's name.
    pub environment: String,
    /// Which memory.
    pub memory: MemoryName,
    /// Of weights, episodes and actions.
    pub seed: u64,
    /// Trained numbers.
    pub parameters: usize,
    /// Steps of all environments together.
    pub steps: u64,
    /// What was not as usual, as in the table; empty if all was.
    pub options: String,
    /// Seconds of training.
    pub seconds: f64,
    /// The best mean return of as many episodes as there are members, or more: the published measure (MMER). `None` if not so many
    /// ended.
    pub best: Option<f64>,
    /// [`late_return`] of its records.
    pub late: Option<f64>,
    /// Mean return of greedy evaluation episodes after training.
    pub evaluation: f64,
}

/// One row of the table: all seeds of an environment and a memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The environment's name.
    pub environment: String,
    /// Which memory.
    pub memory: MemoryName,
    /// How many seeds.
    pub seeds: usize,
    /// Trained numbers.
    pub parameters: usize,
    /// Steps of all environments together.
    pub steps: u64,
    /// What was not as usual; empty if all was.
    pub options: String,
    /// Seconds of training, a seed.
    pub seconds: f64,
    /// Interquartile mean over the seeds of the best mean returns, of those that have one.
    pub best: Option<f64>,
    /// Its 95 % interval, by the bootstrap.
    pub interval: Option<[f64; 2]>,
    /// Interquartile mean of the mean returns of the last tenth, of those that have one.
    pub late: Option<f64>,
    /// Interquartile mean of the evaluations' mean returns.
    pub evaluation: f64,
    /// What was published of a GRU after 15 million steps, where it was.
    pub published: Option<f64>,
}

/// A table and the runs that it is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// One an environment and memory.
    pub rows: Vec<Row>,
    /// One a seed.
    pub cells: Vec<Cell>,
}

/// Ticks of the clock that all policies of a table see.
const CLOCK: usize = 256;

/// Episodes of a cell's evaluation.
const EPISODES: usize = 128;

/// The run of one cell.
pub fn cell_run(
    environment: &EnvironmentConfig,
    memory: MemoryName,
    seed: u64,
    steps: u64,
    options: Options,
) -> Result<TrainingConfig> {
    let Options { entropy, gamma, minibatches, learning_rate, normalisation, previous_action } = options;
    let spaces = Spaces::of(&*environment.make(), Some(CLOCK)).with_previous_action(previous_action);
    let policy = PolicyConfig { normalisation: normalisation.into(), ..PolicyConfig::named(memory, &spaces)? };
    let ppo = PpoConfig { entropy, gamma, minibatches, ..PpoConfig::default() };
    let mut config = TrainingConfig::new(&environment.name(), policy, ppo, steps, seed);
    config.optimiser.learning_rate = learning_rate;
    config.validate()?;
    Ok(config)
}

/// What of [`Options`] is not as usual, with commas between.
fn unusual(config: &TrainingConfig) -> String {
    let (own, usual) = (&config.ppo, PpoConfig::default());
    let mut told: Vec<String> = vec![];
    for (name, own, usual) in [
        ("entropy", own.entropy, usual.entropy),
        ("gamma", own.gamma, usual.gamma),
        ("minibatches", own.minibatches as f64, usual.minibatches as f64),
        ("learning-rate", config.optimiser.learning_rate, LEARNING_RATE),
    ] {
        if own != usual {
            told.push(format!("{name} {own}"));
        }
    }
    if config.policy.normalisation == Normalisation::Parts {
        told.push("normalisation parts".into());
    }
    if config.policy.previous_action == PreviousActionInput::Hidden {
        told.push("previous-action hidden".into());
    }
    told.join(", ")
}

/// Trains and evaluates one cell in its own folder, or goes on where it was stopped; `None` if `stop` ended it.
pub fn cell(
    environment: &EnvironmentConfig,
    memory: MemoryName,
    config: &TrainingConfig,
    output: &Path,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Option<Cell>> {
    let (seed, options) = (config.seed, unusual(config));
    let how = [config.steps.to_string(), options.replace(", ", "-").replace(' ', "-"), seed.to_string()];
    let how = how.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
    let folder = output.join(format!("{}-{}-{how}", config.environment, memory.name()));
    let file = folder.join("cell.json");
    // A cell of another configuration is trained again, which refuses its checkpoint.
    let configuration = config.to_ron()?;
    if let Some(done) = read(&file)?.filter(|done| done.configuration == configuration) {
        return Ok(Some(done.cell));
    }
    let make = || environment.make();
    let trained = train(config, &make, &folder, device, stop)?;
    if !trained.progress.finished {
        return Ok(None);
    }
    let wanted = EvaluationConfig { episodes: EPISODES, seed };
    let found = evaluate(&trained.policy, &make, wanted, Choice::Greedy, device, stop)?;
    if stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let cell = Cell {
        environment: config.environment.clone(),
        memory,
        seed,
        parameters: trained.policy.parameter_count(),
        steps: trained.progress.steps,
        options,
        seconds: trained.progress.seconds,
        best: trained.progress.best,
        late: late_return(&log::read::<Record>(&folder.join("metrics.jsonl"))?),
        evaluation: found.mean(),
    };
    let finished = Finished { configuration, cell };
    let text = serde_json::to_string_pretty(&finished).map_err(|error| Error::Configuration(error.to_string()))?;
    std::fs::write(&file, text).map_err(Error::file(&file))?;
    Ok(Some(finished.cell))
}

/// The mean return of the episodes that ended in the last tenth of the steps, drawn actions; `None` if none did. Unlike the best
/// of many means it does not grow with their spread. Where that tenth is no longer than some episodes, short ones count for more.
pub fn late_return(records: &[Record]) -> Option<f64> {
    let whole = records.last()?.steps;
    let late = records.iter().filter(|record| 10 * record.steps > 9 * whole);
    let sums = late.filter_map(|record| Some((record.mean_return? * record.episodes as f64, record.episodes)));
    let (sum, episodes) = sums.fold((0.0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    (episodes > 0).then(|| sum / episodes as f64)
}

/// What a cell's folder keeps of it, once it is finished.
#[derive(Serialize, Deserialize)]
struct Finished {
    /// The run's, as RON.
    configuration: String,
    cell: Cell,
}

fn read(path: &Path) -> Result<Option<Finished>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(serde_json::from_str(&text).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file(path)(error)),
    }
}

/// The mean of the middle half (Agarwal et al. 2021): the lowest and the highest quarter are left out, a value that
/// lies across the border in part.
pub fn interquartile_mean(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let (from, to) = (0.25 * count, 0.75 * count);
    let weight = |place: usize| ((place + 1) as f64).min(to) - (place as f64).max(from);
    let weighted = sorted.iter().enumerate().map(|(place, value)| (weight(place).max(0.0), value));
    weighted.clone().map(|(weight, value)| weight * value).sum::<f64>()
        / weighted.map(|(weight, _)| weight).sum::<f64>()
}

/// The 95 % interval of the interquartile mean: values are drawn again with replacement, 2,000 times, from a fixed seed.
pub fn interval(values: &[f64]) -> [f64; 2] {
    const TIMES: usize = 2_000;
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut means: Vec<f64> = (0..TIMES)
        .map(|_| {
            let drawn: Vec<f64> = values.iter().map(|_| values[random.random_range(0..values.len())]).collect();
            interquartile_mean(&drawn)
        })
        .collect();
    means.sort_by(f64::total_cmp);
    [means[TIMES / 40], means[TIMES - 1 - TIMES / 40]]
}

/// One row an environment and memory, in the order of the cells.
pub fn rows(cells: &[Cell]) -> Vec<Row> {
    let mut rows: Vec<Row> = vec![];
    for cell in cells {
        let same = |row: &Row| row.environment == cell.environment && row.memory == cell.memory;
        if rows.iter().any(same) {
            continue;
        }
        let own: Vec<&Cell> =
            cells.iter().filter(|other| other.environment == cell.environment && other.memory == cell.memory).collect();
        let [best, late] = [|cell: &Cell| cell.best, |cell: &Cell| cell.late]
            .map(|of| own.iter().filter_map(|cell| of(cell)).collect::<Vec<f64>>());
        let of = |value: fn(&Cell) -> f64| own.iter().map(|cell| value(cell)).collect::<Vec<f64>>();
        rows.push(Row {
            environment: cell.environment.clone(),
            memory: cell.memory,
            seeds: own.len(),
            parameters: cell.parameters,
            steps: cell.steps,
            options: cell.options.clone(),
            seconds: of(|cell| cell.seconds).iter().sum::<f64>() / own.len() as f64,
            best: (!best.is_empty()).then(|| interquartile_mean(&best)),
            interval: (!best.is_empty()).then(|| interval(&best)),
            late: (!late.is_empty()).then(|| interquartile_mean(&late)),
            evaluation: interquartile_mean(&of(|cell| cell.evaluation)),
            published: EnvironmentConfig::parse(&cell.environment).and_then(|known| known.published_return()),
        });
    }
    rows
}

/// Rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut text =
        "| environment | memory | parameters | steps | options | seeds | s a seed | best mean return | 95 % | \
                    last tenth | greedy | published GRU, 15 M steps |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
            .to_string();
    for row in rows {
        let Row { environment, parameters, steps, options, seeds, seconds, evaluation, .. } = row;
        let memory = row.memory.name();
        let published = row.published.map_or(String::new(), |published| format!("{published:.2}"));
        let best = row.best.map_or(String::new(), |best| format!("{best:.3}"));
        let late = row.late.map_or(String::new(), |late| format!("{late:.3}"));
        let interval = row.interval.map_or(String::new(), |[low, high]| format!("{low:.3} to {high:.3}"));
        text += &format!(
            "| {environment} | {memory} | {parameters} | {steps} | {options} | {seeds} | \
             {seconds:.0} | {best} | {interval} | {late} | {evaluation:.3} | {published} |\n"
        );
    }
    text
}
