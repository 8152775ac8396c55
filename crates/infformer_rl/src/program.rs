//! How this crate's programs start: with the tensor library's threads set, and a stack that a long recurrence needs.

use crate::error::Result;
use std::process::{Command, ExitCode};

const THREADS: &str = "RAYON_NUM_THREADS";

/// Settings of glibc's allocator, which other systems ignore: keep what is freed. A graph of large tensors is made and
/// dropped at every step; fetching its pages from the system each time took half of a training step.
const KEEP_MEMORY: [(&str, &str); 3] =
    [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", "16000000000")];

/// The gradient of a long recurrence is walked recursively.
const STACK: usize = 1 << 30;

/// Runs `work`; what goes wrong is told on the standard error.
///
/// The tensor library looks at the machine at every product unless `RAYON_NUM_THREADS` was set before the program
/// began; where it was not, the program starts itself once more.
pub fn run(threads: usize, work: impl FnOnce() -> Result<()> + Send + 'static) -> ExitCode {
    if std::env::var_os(THREADS).is_none() {
        return match std::env::current_exe() {
            Ok(program) => {
                let mut command = Command::new(program);
                command.args(std::env::args_os().skip(1)).env(THREADS, threads.to_string()).envs(KEEP_MEMORY);
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
