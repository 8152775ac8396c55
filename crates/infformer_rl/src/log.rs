//! What a run tells while it goes on: one JSON line an evaluation, and TensorBoard events.

use crate::checkpoint::{Progress, Sums};
use crate::error::{Error, Result};
use crate::events::Events;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

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

/// Appends records to `metrics.jsonl` and to a TensorBoard event file of a folder.
#[derive(Debug)]
pub struct Log {
    lines: File,
    events: Events,
}

impl Log {
    /// Opens the files of `folder`; records after `step` are of a run that was stopped, and go.
    pub fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join("metrics.jsonl");
        let kept: Vec<Record> = read(&path)?.into_iter().filter(|record| record.step <= step).collect();
        let lines: String =
            kept.iter().filter_map(|record| serde_json::to_string(record).ok()).map(|l| l + "\n").collect();
        std::fs::write(&path, lines).map_err(Error::file(&path))?;
        let lines = OpenOptions::new().append(true).open(&path).map_err(Error::file(&path))?;
        Ok(Self { lines, events: Events::create(folder)? })
    }

    /// Writes one record.
    pub fn write(&mut self, folder: &Path, record: &Record) -> Result<()> {
        let line = serde_json::to_string(record).map_err(|error| Error::Configuration(error.to_string()))?;
        writeln!(self.lines, "{line}").map_err(Error::file(folder))?;
        let scalars = [("loss", record.loss), ("accuracy", record.accuracy), ("gradient_norm", record.gradient_norm)];
        self.events.scalars(record.step, &scalars).map_err(Error::file(folder))
    }
}

/// The records of a `metrics.jsonl`, if there is one.
pub fn read(path: &Path) -> Result<Vec<Record>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(Error::file(path)(error)),
    }
}
