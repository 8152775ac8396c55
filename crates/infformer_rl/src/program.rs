//! How this crate's programs start: with the tensor library's threads and the allocator set, and a stack that a long
//! recurrence needs; and what they share in their arguments.

use crate::environments::EnvironmentConfig;
use crate::error::{Error, Result};
use candle_core::Device;
use clap::ValueEnum;
use infformer::model::Normalisation;
use std::env;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set where the program has started itself.
const STARTED: &str = "INFFORMER_RL_STARTED";
const THREADS: &str = "RAYON_NUM_THREADS";

/// Settings of glibc's allocator, which other systems ignore: keep what is freed. A graph of large tensors is made and
/// dropped at every step; fetching its pages from the system each time took half of a training step.
const KEEP_MEMORY: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", "16000000000")];

/// The gradient of a long recurrence is walked recursively.
const STACK: usize = 1 << 30;

/// Where to compute.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DeviceChoice {
    /// The processor.
    Cpu,
    /// The first CUDA device; needs the feature `cuda`.
    Cuda,
}

impl DeviceChoice {
    /// The device. Errors: it is not there, or the program was built without it.
    pub fn open(self) -> Result<Device> {
        Ok(match self {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda if !candle_core::utils::cuda_is_available() => {
                let message =
                    "this program was built without CUDA: `cargo run --release --features cuda -p infformer_rl …`";
                return Err(Error::Configuration(message.into()));
            }
            DeviceChoice::Cuda => Device::new_cuda(0)?,
        })
    }
}

/// What of a policy passes a layer normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NormalisationChoice {
    /// Also the encoded observation and what is read.
    Everything,
    /// What each part of a layer takes, and what the heads take.
    Parts,
}

impl From<NormalisationChoice> for Normalisation {
    fn from(choice: NormalisationChoice) -> Self {
        match choice {
            NormalisationChoice::Everything => Normalisation::Everything,
            NormalisationChoice::Parts => Normalisation::Parts,
        }
    }
}

/// Runs `work`; what goes wrong is told on the standard error.
///
/// The tensor library looks at the machine at every product unless `RAYON_NUM_THREADS` was set before the program
/// began, and the allocator is set in the same way: the program starts itself once more with both. What the
/// environment says already is left as it is.
pub fn run(threads: usize, work: impl FnOnce() -> Result<()> + Send + 'static) -> ExitCode {
    if env::var_os(STARTED).is_none() {
        return match env::current_exe() {
            Ok(program) => {
                let threads = threads.to_string();
                let wanted = KEEP_MEMORY.into_iter().chain([(THREADS, threads.as_str())]);
                let unset = wanted.filter(|(name, _)| env::var_os(name).is_none());
                let mut command = Command::new(program);
                command.args(env::args_os().skip(1)).envs(unset).env(STARTED, "1");
                replace(command)
            }
            Err(error) => report(&format!("this program could not find itself: {error}")),
        };
    }
    match std::thread::Builder::new().stack_size(STACK).spawn(work).map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => ExitCode::SUCCESS,
        Ok(Ok(Err(error))) => report(&error.to_string()),
        Ok(Err(_)) => report("the work panicked"),
        Err(error) => report(&error.to_string()),
    }
}

/// The environment of that name. Errors: there is none; all names are told.
pub fn environment(name: &str) -> Result<EnvironmentConfig> {
    EnvironmentConfig::parse(name).ok_or_else(|| {
        let all: Vec<String> = EnvironmentConfig::all().iter().map(EnvironmentConfig::name).collect();
        Error::Configuration(format!(
            "no environment {name:?}; there are (of any length where there is a number) {}",
            all.join(", ")
        ))
    })
}

/// A flag that Ctrl-C sets: long work looks at it and ends by itself.
pub fn stop_on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    if let Err(error) = ctrlc::set_handler(move || asked.store(true, Ordering::Relaxed)) {
        eprintln!("Ctrl-C will end the program at once: {error}");
    }
    stop
}

fn report(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::FAILURE
}

/// Goes on as `command`, in the same process, so that Ctrl-C reaches it alone.
#[cfg(unix)]
fn replace(mut command: Command) -> ExitCode {
    let error = std::os::unix::process::CommandExt::exec(&mut command);
    report(&format!("this program could not start itself: {error}"))
}

/// Waits for `command`.
#[cfg(not(unix))]
fn replace(mut command: Command) -> ExitCode {
    match command.status() {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)),
        Err(error) => report(&format!("this program could not start itself: {error}")),
    }
}
