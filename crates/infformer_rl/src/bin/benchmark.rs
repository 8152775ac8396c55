//! Regenerates the tables of the benchmark page. Every run is kept in its folder: the same command goes on.

use clap::{Args, Parser, Subcommand, ValueEnum};
use infformer_rl::comparison::{self, Options, Results};
use infformer_rl::environments::EnvironmentConfig;
use infformer_rl::memories::MemoryName;
use infformer_rl::program::{self, DeviceChoice};
use infformer_rl::sequences::benchmark::{self, Memory, Row, TIMES, WINDOW};
use infformer_rl::sequences::learner::Learner;
use infformer_rl::sequences::task::{Difficulty, Task};
use infformer_rl::sequences::trainer::{TrainingConfig, evaluate, train};
use infformer_rl::{Error, Result};
use std::path::PathBuf;
use std::process::ExitCode;

/// Trains our memory and what stands beside it on the same task, and prints a table.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    table: Table,
    /// Folder of the runs.
    #[arg(long, default_value = "target/benchmark", global = true)]
    output: PathBuf,
    /// The rows as JSON, too.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "cpu", global = true)]
    device: DeviceChoice,
    /// Threads of the tensor library, where RAYON_NUM_THREADS does not say.
    #[arg(long, default_value_t = 1, global = true)]
    threads: usize,
}

/// What the tables of sequences share.
#[derive(Debug, Args)]
struct Sequences {
    /// Rows wanted, with commas between; all if none is given.
    #[arg(long, value_enum, value_delimiter = ',')]
    memories: Vec<Memory>,
    /// Seed of weights and sequences.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Most steps a run.
    #[arg(long, default_value_t = 3_000)]
    steps: u64,
}

impl Sequences {
    fn memories(&self) -> &[Memory] {
        if self.memories.is_empty() { &Memory::ALL } else { &self.memories }
    }
}

#[derive(Debug, Subcommand)]
enum Table {
    /// Policies trained by PPO: environments × memories × seeds.
    Agents {
        /// Environments by name, with commas between; all of POPGym if none is given.
        #[arg(long, value_delimiter = ',')]
        environments: Vec<String>,
        /// Memories, with commas between; all if none is given.
        #[arg(long, value_enum, value_delimiter = ',')]
        memories: Vec<MemoryName>,
        /// Seeds.
        #[arg(long, value_delimiter = ',', default_value = "0,1,2")]
        seeds: Vec<u64>,
        /// Steps of all environments together, a run.
        #[arg(long, default_value_t = 1_000_000)]
        steps: u64,
        #[command(flatten)]
        options: Options,
    },
    /// First-token and key-value recall.
    Recall {
        #[command(flatten)]
        sequences: Sequences,
        /// Distances wanted, in windows; 8 and 64 if none is given.
        #[arg(long, value_delimiter = ',')]
        times: Vec<usize>,
        /// Tasks wanted, with commas between; both if none is given.
        #[arg(long, value_enum, value_delimiter = ',')]
        tasks: Vec<RecallTask>,
    },
    /// The paper's sorting task.
    Sorting {
        #[command(flatten)]
        sequences: Sequences,
        /// Lengths wanted.
        #[arg(long, value_delimiter = ',', default_values_t = [1_000, 4_000])]
        lengths: Vec<usize>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RecallTask {
    FirstToken,
    KeyValue,
}

impl RecallTask {
    fn is(self, task: &Task) -> bool {
        match self {
            RecallTask::FirstToken => matches!(task, Task::FirstToken { .. }),
            RecallTask::KeyValue => matches!(task, Task::KeyValue { .. }),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::run(arguments.threads, move || run(&arguments))
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut runs: Vec<(TrainingConfig, usize, Memory, Option<f64>)> = vec![];
    match &arguments.table {
        Table::Agents { environments, memories, seeds, steps, options } => {
            return agents(arguments, environments, memories, seeds, *steps, *options);
        }
        Table::Recall { sequences, times, tasks } => {
            for times in if times.is_empty() { &TIMES[..] } else { times } {
                let wanted = |task: &&Task| tasks.is_empty() || tasks.iter().any(|name| name.is(task));
                for task in benchmark::recall_tasks(*times).iter().filter(wanted) {
                    for memory in sequences.memories() {
                        let config = benchmark::recall_run(task, *times, *memory, sequences.steps, sequences.seed)?;
                        runs.push((config, times * WINDOW, *memory, None));
                    }
                }
            }
        }
        Table::Sorting { sequences, lengths } => {
            for length in lengths {
                let [whole, window] = benchmark::ceilings(*length);
                println!("sorting {length}: by all counts {whole:.3}, by the window's counts alone {window:.3}");
                for memory in sequences.memories() {
                    let config = benchmark::sorting_run(*length, *memory, sequences.steps, sequences.seed)?;
                    runs.push((config, *length, *memory, Some(window)));
                }
            }
        }
    }
    let device = arguments.device.open()?;
    runs.iter().try_for_each(|(config, ..)| config.validate())?;
    let stop = program::stop_on_interrupt();
    let mut rows = vec![];
    for (config, ticks, memory, window_ceiling) in &runs {
        let name = format!("{}-{ticks}-{}-{}", config.task.name(), memory.name(), config.seed);
        eprintln!("{name}");
        let folder = arguments.output.join(name);
        let trained = train(config, &folder, &device, &stop)?;
        if !trained.progress.finished {
            eprintln!("stopped at step {}; the same command goes on from there", trained.progress.step);
            break;
        }
        if let Learner::Transformer(model) = &trained.learner {
            infformer::weights::save(model, &folder, config.task.name())?;
        }
        let at = |difficulty, sequences| evaluate(config, &trained.learner, difficulty, sequences, &device);
        let beyond_times = if matches!(config.task, Task::Sorting { .. }) { 4 } else { 16 };
        rows.push(Row {
            task: config.task.name().into(),
            ticks: *ticks,
            memory: *memory,
            parameters: Learner::parameter_count(&trained.learner),
            seed: config.seed,
            steps: trained.progress.step,
            most_steps: config.steps,
            batch: config.batch,
            seconds: trained.progress.seconds,
            accuracy: at(Difficulty::Farthest(1), 1_024)?,
            beyond: at(Difficulty::Farthest(beyond_times), 128)?,
            beyond_times,
            window_ceiling: *window_ceiling,
        });
        write(&arguments.json, &rows)?;
    }
    print!("{}", benchmark::table(&rows));
    Ok(())
}

/// Environments × memories × seeds, one after the other; what is finished is not trained again.
fn agents(
    arguments: &Arguments,
    environments: &[String],
    memories: &[MemoryName],
    seeds: &[u64],
    steps: u64,
    options: Options,
) -> Result<()> {
    let environments = match environments.is_empty() {
        true => EnvironmentConfig::all().into_iter().filter(|config| config.random_return().is_some()).collect(),
        false => environments.iter().map(|name| program::environment(name)).collect::<Result<Vec<_>>>()?,
    };
    let memories = if memories.is_empty() { MemoryName::value_variants() } else { memories };
    let device = arguments.device.open()?;
    let stop = program::stop_on_interrupt();
    let mut cells = vec![];
    'all: for environment in &environments {
        for memory in memories {
            for seed in seeds {
                eprintln!("{} {} {seed}", environment.name(), memory.name());
                let config = comparison::cell_run(environment, *memory, *seed, steps, options)?;
                match comparison::cell(environment, *memory, &config, &arguments.output, &device, &stop)? {
                    Some(cell) => cells.push(cell),
                    None => {
                        eprintln!("stopped; the same command goes on from there");
                        break 'all;
                    }
                }
                write(&arguments.json, &Results { rows: comparison::rows(&cells), cells: cells.clone() })?;
            }
        }
    }
    print!("{}", comparison::table(&comparison::rows(&cells)));
    Ok(())
}

fn write(path: &Option<PathBuf>, rows: &impl serde::Serialize) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = serde_json::to_string_pretty(rows).map_err(|error| Error::Configuration(error.to_string()))?;
    std::fs::write(path, text).map_err(|error| Error::File { path: path.clone(), error })
}
