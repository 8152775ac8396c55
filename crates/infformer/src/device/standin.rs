//! A stand-in for a device: `tick.cu` as an ordinary program, compiled with `cc`. It has as many threads as an agent has,
//! and the compiler's race detector looks on where there is one.
#![allow(clippy::unwrap_used)]

use super::processor::{BUFFERS, Buffer, INPUTS, LANES, Launch, Processor};
use crate::error::{Error, Result};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Standin {
    child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
    lengths: [usize; LANES * BUFFERS],
    inputs: [[Vec<u32>; INPUTS]; LANES],
    /// Of each lane, how many words of answers are under way, which nobody took.
    under_way: [Option<usize>; LANES],
    received: Vec<u32>,
    program: PathBuf,
}

impl Standin {
    /// Compiles and starts the program; `None`, with a word, where there is no C compiler, or none of its `checks`.
    pub(super) fn start(numbers: &str, checks: &[&str]) -> Option<Self> {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir();
        let name = format!("infformer-standin-{}-{number}", std::process::id());
        let (header, program) = (folder.join(format!("{name}.h")), folder.join(&name));
        std::fs::write(&header, numbers).unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/device/standin.c");
        let mut compile = Command::new("cc");
        compile.args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-unused-function"]).args(checks);
        compile.arg("-include").arg(&header).arg(source).args(["-pthread", "-lm", "-o"]).arg(&program);
        let compiled = compile.output();
        let _ = std::fs::remove_file(&header);
        let Ok(compiled) = compiled else {
            eprintln!("SKIPPED: the kernel was not run: there is no C compiler `cc`");
            return None;
        };
        let complaints = String::from_utf8_lossy(&compiled.stderr);
        if !compiled.status.success() && complaints.contains("cannot find") {
            eprintln!("SKIPPED: the kernel was not run with {checks:?}: {complaints}");
            return None;
        }
        assert!(compiled.status.success(), "{complaints}");
        let mut child = Command::new(&program)
            .env("TSAN_OPTIONS", "halt_on_error=1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let input = BufWriter::new(child.stdin.take().unwrap());
        let output = BufReader::new(child.stdout.take().unwrap());
        let (lengths, (inputs, under_way, received)) = ([0; LANES * BUFFERS], Default::default());
        let mut started = Self { child, input, output, lengths, inputs, under_way, received, program };
        // A race detector does not start on every system.
        let answers = started.reserve(0, Buffer::Maps, 1).and_then(|()| started.read(Buffer::Maps, 0, &mut [0]));
        if let Err(error) = answers {
            assert!(!checks.is_empty(), "the stand-in does not answer: {error}");
            eprintln!("SKIPPED: the kernel was not run with {checks:?}: it does not start here");
            return None;
        }
        Some(started)
    }

    /// Copies words of a buffer to the host.
    fn fetch(&mut self, place: usize, at: usize, words: &mut [u32]) -> Result<()> {
        assert!(at + words.len() <= self.lengths[place], "buffer {place} is too short");
        self.say(&[2, place as u32, at as u32, words.len() as u32])?;
        self.input.flush().map_err(failed)?;
        let mut bytes = vec![0; 4 * words.len()];
        self.output.read_exact(&mut bytes).map_err(failed)?;
        let read = bytes.as_chunks::<4>().0;
        words.iter_mut().zip(read).for_each(|(word, bytes)| *word = u32::from_ne_bytes(*bytes));
        Ok(())
    }

    /// What is common to all launches may change now.
    fn assert_idle(&self) {
        assert_eq!(self.under_way, [None; LANES], "a launch was not received");
    }

    fn say(&mut self, words: &[u32]) -> Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.input.write_all(&bytes).map_err(failed)
    }
}

/// The number of a launch's or a common buffer.
fn place(number: usize, buffer: Buffer) -> usize {
    let lane = if buffer.is_common() { 0 } else { number % LANES };
    lane * BUFFERS + buffer as usize
}

fn failed(error: std::io::Error) -> Error {
    Error::Kernel { message: error.to_string() }
}

impl Drop for Standin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.program);
    }
}

impl Processor for Standin {
    fn reserve(&mut self, number: usize, buffer: Buffer, words: usize) -> Result<()> {
        let place = place(number, buffer);
        let length = &mut self.lengths[place];
        if words <= *length {
            return Ok(());
        }
        *length = words;
        if let Some(input) = self.inputs[number % LANES].get_mut(buffer as usize) {
            input.resize(words, 0);
        }
        self.say(&[0, place as u32, words as u32])
    }

    fn write(&mut self, buffer: Buffer, at: usize, words: &[u32]) -> Result<()> {
        self.assert_idle();
        assert!(at + words.len() <= self.lengths[buffer as usize], "{buffer:?} is too short");
        self.say(&[1, buffer as u32, at as u32, words.len() as u32])?;
        self.say(words)
    }

    fn clear(&mut self, buffer: Buffer, at: usize, words: usize) -> Result<()> {
        self.write(buffer, at, &vec![0; words])
    }

    fn read(&mut self, buffer: Buffer, at: usize, words: &mut [u32]) -> Result<()> {
        self.assert_idle();
        self.fetch(buffer as usize, at, words)
    }

    fn exchange(&mut self, number: usize, words: usize) -> Result<(&[u32], [&mut [u32]; INPUTS])> {
        let lane = number % LANES;
        assert_eq!(self.under_way[lane].take().unwrap_or(0), words, "the answers of lane {lane}");
        self.receive(number, Buffer::Answers, words)?;
        Ok((&self.received, self.inputs[lane].each_mut().map(Vec::as_mut_slice)))
    }

    fn launch(&mut self, number: usize, launch: &Launch) -> Result<()> {
        let lane = number % LANES;
        assert_eq!(self.under_way[lane], None, "launch {number} would overtake another");
        self.under_way[lane] = Some(launch.answers);
        for (input, words) in launch.inputs.into_iter().enumerate() {
            self.say(&[1, (lane * BUFFERS + input) as u32, 0, words as u32])?;
            let own = std::mem::take(&mut self.inputs[lane][input]);
            self.say(&own[..words])?;
            self.inputs[lane][input] = own;
        }
        self.reserve(number, Buffer::Counter, 1)?;
        self.say(&[1, place(number, Buffer::Counter) as u32, 0, 1, 0])?;
        self.say(&[3, lane as u32, launch.turns as u32])
    }

    fn receive(&mut self, number: usize, buffer: Buffer, words: usize) -> Result<&[u32]> {
        let mut received = std::mem::take(&mut self.received);
        received.resize(words, 0);
        self.fetch(place(number, buffer), 0, &mut received)?;
        self.received = received;
        Ok(&self.received)
    }

    fn drain(&mut self) {
        self.under_way = [None; LANES];
    }

    fn kernel_time(&self, _launches: usize) -> Result<Option<Duration>> {
        self.assert_idle();
        Ok(None)
    }
}
