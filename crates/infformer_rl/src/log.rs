//! What a run tells while it goes on: one JSON line a record, and TensorBoard events.

use crate::error::{Error, Result};
use crate::events::Events;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// What is told at one step.
pub trait Record: Serialize + DeserializeOwned {
    /// The step.
    fn step(&self) -> u64;

    /// The curves' names and values at this step.
    fn scalars(&self) -> Vec<(&'static str, f64)>;
}

/// Appends records to `metrics.jsonl` and to a TensorBoard event file of a folder.
#[derive(Debug)]
pub struct Log {
    lines: File,
    events: Events,
}

impl Log {
    /// Opens the files of `folder`; records after `step` are of a run that was stopped, and go.
    pub fn open<R: Record>(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join("metrics.jsonl");
        // Lines stay as they are: read and written anew, their numbers might differ in the last digit.
        let text = text(&path)?;
        let stays = |line: &&str| serde_json::from_str(line).is_ok_and(|record: R| record.step() <= step);
        let kept: String = text.lines().filter(stays).map(|line| line.to_string() + "\n").collect();
        std::fs::write(&path, kept).map_err(Error::file(&path))?;
        let lines = OpenOptions::new().append(true).open(&path).map_err(Error::file(&path))?;
        Ok(Self { lines, events: Events::create(folder, step)? })
    }

    /// Writes one record.
    pub fn write<R: Record>(&mut self, folder: &Path, record: &R) -> Result<()> {
        let line = serde_json::to_string(record).map_err(|error| Error::Configuration(error.to_string()))?;
        writeln!(self.lines, "{line}").map_err(Error::file(folder))?;
        self.events.scalars(record.step(), &record.scalars()).map_err(Error::file(folder))
    }
}

/// The records of a `metrics.jsonl`, if there is one.
pub fn read<R: Record>(path: &Path) -> Result<Vec<R>> {
    Ok(text(path)?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// What is in the file; nothing, if there is none.
fn text(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(Error::file(path)),
    }
}
