//! Trains one policy on one environment: checkpoint, metrics, curves and, for our memories, weights out. Or evaluates one
//! that was trained.

use candle_core::Device;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser};
use infformer::model::Model;
use infformer_rl::distribution::Choice;
use infformer_rl::environment_batch::Make;
use infformer_rl::evaluation::{EvaluationConfig, evaluate};
use infformer_rl::memories::MemoryName;
use infformer_rl::policy::{Policy, PolicyConfig, PreviousActionInput, Spaces};
use infformer_rl::ppo::PpoConfig;
use infformer_rl::probe::{Dependence, Dependences, probe};
use infformer_rl::program::{self, DeviceChoice, NormalisationChoice};
use infformer_rl::trainer::{LEARNING_RATE, TrainingConfig, train};
use infformer_rl::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// Trains a policy with a memory by PPO. Ctrl-C stops it; the same command goes on.
#[derive(Debug, Parser)]
struct Arguments {
    /// An environment's name, or a file that ends in .ron with the whole training: only the seed and what is not in it can be given
    /// besides.
    run: String,
    /// What the policy remembers with.
    #[arg(long, value_enum, default_value = "infformer")]
    memory: MemoryName,
    /// Show the policy a clock of the episode with this period in ticks, a power of two, 4 or more.
    #[arg(long)]
    clock: Option<usize>,
    /// Whether the policy sees what it did before.
    #[arg(long, value_enum, default_value = "shown")]
    previous_action: PreviousActionInput,
    /// What of the policy passes a layer normalisation.
    #[arg(long, value_enum, default_value = "everything")]
    normalisation: NormalisationChoice,
    /// Steps of all environments together.
    #[arg(long, default_value_t = 500_000)]
    steps: u64,
    /// Environments side by side.
    #[arg(long, default_value_t = PpoConfig::default().members)]
    members: usize,
    /// Ticks of each between two updates.
    #[arg(long, default_value_t = PpoConfig::default().ticks)]
    ticks: usize,
    /// Times that each rollout is used.
    #[arg(long, default_value_t = PpoConfig::default().epochs)]
    epochs: usize,
    /// Parts that the members are split into, a step of the weights each an epoch; it divides them. If not given, four members a
    /// part.
    #[arg(long)]
    minibatches: Option<usize>,
    /// γ: what a reward is worth one tick later.
    #[arg(long, default_value_t = PpoConfig::default().gamma)]
    gamma: f64,
    /// λ: how far advantages look ahead (generalised advantage estimation).
    #[arg(long, default_value_t = PpoConfig::default().lambda)]
    lambda: f64,
    /// Weight of the entropy: how much trying is worth.
    #[arg(long, default_value_t = PpoConfig::default().entropy)]
    entropy: f64,
    /// Length of a step of the weights; it falls to 0 over the run.
    #[arg(long, default_value_t = LEARNING_RATE)]
    learning_rate: f64,
    /// Seed of weights, episodes and actions. If not given, what the file says, or 0.
    #[arg(long)]
    seed: Option<u64>,
    /// The run ends when the mean return of as many episodes as there are members reaches this; the policy that did so is kept as it is.
    #[arg(long)]
    stop_at: Option<f64>,
    /// Folder for run.ron, checkpoint, metrics.jsonl, TensorBoard events and weights. If not given, target/train/…; of a run.ron the
    /// folder that it lies in (another seed needs another).
    #[arg(long)]
    output: Option<PathBuf>,
    /// Episodes of the evaluation, all with seeds of their own.
    #[arg(long, default_value_t = 256)]
    episodes: usize,
    /// Evaluate on these environments too: the same observations and actions, another length.
    #[arg(long, value_delimiter = ',')]
    also: Vec<String>,
    /// Tell what the last decisions of so many episodes depend on.
    #[arg(long, default_value_t = 0)]
    probe: usize,
    /// Train nothing: evaluate the model in this file, NAME.model.ron with NAME.safetensors beside it. Say the `--clock` and
    /// the `--previous-action` that it was trained with.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["memory", "normalisation", "steps", "members", "epochs", "minibatches",
        "gamma", "lambda", "entropy", "learning_rate", "stop_at", "output"])]
    evaluate: Option<PathBuf>,
    /// Evaluate with drawn actions instead of the most probable ones.
    #[arg(long, value_enum, default_value = "greedy")]
    choice: ChoiceName,
    /// Where to compute.
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceChoice,
    /// Threads of the tensor library, where RAYON_NUM_THREADS does not say.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ChoiceName {
    Greedy,
    Drawn,
}

/// What a file has itself.
const OF_THE_RUN: [&str; 14] = [
    "memory",
    "clock",
    "previous_action",
    "normalisation",
    "steps",
    "members",
    "ticks",
    "epochs",
    "minibatches",
    "gamma",
    "lambda",
    "entropy",
    "learning_rate",
    "stop_at",
];

fn main() -> ExitCode {
    let matches = Arguments::command().get_matches();
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let given = |name: &&&str| matches.value_source(name) == Some(ValueSource::CommandLine);
    if let Some(name) = OF_THE_RUN.iter().find(given).filter(|_| arguments.run.ends_with(".ron")) {
        let message = format!("--{} is in {}: change it there", name.replace('_', "-"), arguments.run);
        Arguments::command().bin_name("train").error(ErrorKind::ArgumentConflict, message).exit();
    }
    program::run(arguments.threads, move || run(&arguments))
}

fn configure(arguments: &Arguments) -> Result<TrainingConfig> {
    if arguments.run.ends_with(".ron") {
        let path = PathBuf::from(&arguments.run);
        let text = std::fs::read_to_string(&path).map_err(|error| Error::File { path, error })?;
        let config = TrainingConfig::from_ron(&text).map_err(|error| match error {
            Error::Configuration(message) => Error::Configuration(format!("{}: {message}", arguments.run)),
            other => other,
        })?;
        return Ok(TrainingConfig { seed: arguments.seed.unwrap_or(config.seed), ..config });
    }
    let environment = program::environment(&arguments.run)?;
    let spaces = Spaces::of(&*environment.make(), arguments.clock).with_previous_action(arguments.previous_action);
    let normalisation = arguments.normalisation.into();
    let policy = PolicyConfig { normalisation, ..PolicyConfig::named(arguments.memory, &spaces)? };
    let ppo = PpoConfig {
        members: arguments.members,
        ticks: arguments.ticks,
        epochs: arguments.epochs,
        minibatches: arguments.minibatches.unwrap_or_else(|| {
            let most = (arguments.members / 4).max(1);
            (1..=most).rev().find(|parts| arguments.members.is_multiple_of(*parts)).unwrap_or(1)
        }),
        gamma: arguments.gamma,
        lambda: arguments.lambda,
        entropy: arguments.entropy,
        ..PpoConfig::default()
    };
    ppo.validate()?;
    let mut config = TrainingConfig::new(&arguments.run, policy, ppo, arguments.steps, arguments.seed.unwrap_or(0));
    config.optimiser.learning_rate = arguments.learning_rate;
    config.stop_at = arguments.stop_at;
    Ok(config)
}

fn run(arguments: &Arguments) -> Result<()> {
    if arguments.episodes == 0 {
        return Err(Error::Configuration("--episodes 0: an evaluation has 1 or more".into()));
    }
    let config = configure(arguments)?;
    let environment = program::environment(&config.environment)?;
    let make = move || environment.make();
    let also = arguments.also.iter().map(|name| program::environment(name)).collect::<Result<Vec<_>>>()?;
    let spaces = config.policy.spaces(&*make());
    if let Some(other) = also.iter().find(|other| config.policy.spaces(&*other.make()) != spaces) {
        let message = format!("--also {}: it has other observations or actions", other.name());
        return Err(Error::Configuration(message));
    }
    let device = arguments.device.open()?;
    let stop = program::stop_on_interrupt();
    let policy = match &arguments.evaluate {
        Some(file) => Policy::from_model(model(file, &device)?, &spaces)?,
        None => match trained(arguments, &config, &make, &device, &stop)? {
            Some(policy) => policy,
            None => return Ok(()),
        },
    };
    let choice = match arguments.choice {
        ChoiceName::Greedy => Choice::Greedy,
        ChoiceName::Drawn => Choice::Drawn,
    };
    if arguments.probe > 0 {
        let Dependences { by_age, recurrence } =
            probe(&policy, &make, arguments.probe, config.ppo.ticks, config.seed, &device, &stop)?;
        println!(
            "the last decision, by ages: how far it moves when what was seen then is exchanged (nats); how much of it"
        );
        println!(
            "the memory still holds (1: all); what share of the look into the long-term memory and of the gradient is there"
        );
        println!("{:>15}  {:>6}  {:>6}  {:>6}  {:>8}  episodes", "ticks before", "nats", "held", "looked", "gradient");
        for Dependence { ages, divergence, held, looked, gradient, episodes } in by_age {
            let ages = format!("{} to {}", ages.start(), ages.end());
            let held = held.map_or("-".into(), |held| format!("{held:.3}"));
            println!("{ages:>15}  {divergence:>6.3}  {held:>6}  {looked:>6.3}  {gradient:>8.3}  {episodes:>8}");
        }
        if let Some(nats) = recurrence {
            println!("without what the recurrence has summed up: {nats:.3} nats");
        }
    }
    for environment in std::iter::once(environment).chain(also) {
        let wanted = EvaluationConfig { episodes: arguments.episodes, seed: config.seed };
        let found = evaluate(&policy, &move || environment.make(), wanted, choice, &device, &stop)?;
        if stop.load(Ordering::Relaxed) {
            println!("stopped; the same command evaluates again");
            return Ok(());
        }
        println!(
            "{}: return {:.3} ± {:.3}, last reward above 0 in {:.4} of {} episodes",
            environment.name(),
            found.mean(),
            found.standard_error(),
            found.successes(),
            found.returns.len(),
        );
    }
    Ok(())
}

/// The model in a file that training wrote.
fn model(file: &Path, device: &Device) -> Result<Model> {
    let name = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".model.ron"));
    let Some(name) = name else {
        let message = format!("--evaluate {}: the name of a model's file ends in .model.ron", file.display());
        return Err(Error::Configuration(message));
    };
    Ok(infformer::weights::load(file.parent().unwrap_or(Path::new("")), name, device)?)
}

/// Trains, or goes on with it, and writes what can be shipped; `None` where it was stopped.
fn trained(
    arguments: &Arguments,
    config: &TrainingConfig,
    make: Make,
    device: &Device,
    stop: &AtomicBool,
) -> Result<Option<Policy>> {
    let run = Path::new(&arguments.run);
    let folder = match (&arguments.output, run.file_name(), run.parent()) {
        (Some(folder), ..) => folder.clone(),
        // What a training wrote belongs to its folder.
        (None, Some(name), Some(folder)) if name == "run.ron" => folder.to_path_buf(),
        (None, Some(name), _) if arguments.run.ends_with(".ron") => {
            let mut name = Path::new(name).with_extension("");
            if let Some(seed) = arguments.seed {
                name.as_mut_os_string().push(format!("-{seed}"));
            }
            Path::new("target/train").join(name)
        }
        _ => {
            let name = format!("{}-{}-{}", config.environment, arguments.memory.name(), config.seed);
            Path::new("target/train").join(name)
        }
    };
    let trained = train(config, make, &folder, device, stop)?;
    let progress = &trained.progress;
    if !progress.finished {
        println!("stopped at step {}; the same command goes on from there", progress.steps);
        return Ok(None);
    }
    let speed = progress.steps as f64 / progress.seconds;
    let best = match progress.best {
        Some(best) => format!("best mean return {best:.3} at step {}", progress.best_steps),
        None => "fewer episodes ended than there are members, which is no mean return".into(),
    };
    println!(
        "{} parameters, {} steps, {:.0} s, {speed:.0} steps/s; {best}",
        trained.policy.parameter_count(),
        progress.steps,
        progress.seconds,
    );
    if let Some(model) = trained.policy.model() {
        infformer::weights::save(model, &folder, &config.environment)?;
        println!("{0}.model.ron and {0}.safetensors are in {1}", config.environment, folder.display());
    } else {
        println!("this memory is there to compare with: only a model of infformer can be put into a game");
    }
    Ok(Some(trained.policy))
}
