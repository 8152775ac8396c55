//! One tick of many agents in flat arrays: each of them sees one thing, and all ask about the same channels. What a
//! vectorised simulation has, and the way to a device for a million agents.

use crate::channels::{ChannelLayout, are_storable, is_storable};
use crate::engine::AgentId;
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;
use std::time::Duration;

/// Agents of a crowd that one thread has in hand at a time.
pub(crate) const STRETCH: usize = if cfg!(test) { 2 } else { 1 << 10 };

/// What a crowd sees and asks at one tick, for [`Engine::step_crowd`](crate::Engine::step_crowd).
#[derive(Debug, Clone, Copy)]
pub struct CrowdStep<'a> {
    /// The agents, by ascending slot, as [`Engine::living`](crate::Engine::living) gives them.
    pub agents: &'a [AgentId],
    /// The tick of all observations, and the present for all answers.
    pub tick: u64,
    /// What each agent sees \[agents, d\].
    pub observations: &'a [f32],
    /// The channels that all queries constrain \[C\], each once; none: nobody asks.
    pub channels: &'a [usize],
    /// What each agent looks for on these channels \[agents, C\].
    pub targets: &'a [f32],
}

/// What a crowd was answered. Meant to be used again and again.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CrowdAnswers {
    /// 3 + d
    row: usize,
    /// Age, its spread, confidence and value of each agent \[agents, 3 + d\].
    rows: Vec<f32>,
    pub(crate) kernel_time: Option<Duration>,
}

/// One agent's answer, without the peaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrowdAnswer<'a> {
    /// Expected age in ticks.
    pub age: f32,
    /// Standard deviation of the age in ticks.
    pub age_spread: f32,
    /// exp(−β·squared distance) of the best moment.
    pub confidence: f32,
    /// The expected observation \[d\].
    pub value: &'a [f32],
}

impl CrowdAnswers {
    /// How many were answered: all agents of the step, or none if nobody asked.
    pub fn len(&self) -> usize {
        self.rows.len() / self.row.max(1)
    }

    /// Whether nobody asked.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The answer to agent number `at` of the step; `None` beyond the last one.
    pub fn get(&self, at: usize) -> Option<CrowdAnswer<'_>> {
        let row = self.rows.chunks_exact(self.row.max(1)).nth(at)?;
        Some(CrowdAnswer { age: row[0], age_spread: row[1], confidence: row[2], value: &row[3..] })
    }

    /// How long the kernel took on the device, without the way there and back; nothing where the host did the work.
    pub fn kernel_time(&self) -> Option<Duration> {
        self.kernel_time
    }

    /// Empties the answers, for rows of so many values.
    pub(crate) fn start(&mut self, row: usize) {
        self.row = row;
        self.rows.clear();
        self.kernel_time = None;
    }

    /// Adds one row.
    pub(crate) fn push(&mut self, [age, age_spread, confidence]: [f32; 3], value: &[f32]) {
        self.rows.extend([age, age_spread, confidence]);
        self.rows.extend_from_slice(value);
    }

    /// Makes place for so many rows, which are filled later.
    pub(crate) fn make_room(&mut self, row: usize, rows: usize) {
        self.row = row;
        self.rows.resize(rows * row, 0.0);
        self.kernel_time = None;
    }

    /// Replaces some rows by these, given in words.
    pub(crate) fn fill(&mut self, rows: Range<usize>, words: &[u32]) {
        let rows = &mut self.rows[rows.start * self.row..rows.end * self.row];
        let rows = rows.par_chunks_mut(1 << 14).zip(words.par_chunks(1 << 14));
        rows.for_each(|(rows, words)| rows.iter_mut().zip(words).for_each(|(row, word)| *row = f32::from_bits(*word)));
    }
}

impl CrowdStep<'_> {
    /// Checks everything but the agents. Errors: an array of the wrong length, a value that is not finite, a token that
    /// is not known, a channel out of range.
    pub(crate) fn check(&self, layout: &ChannelLayout) -> Result<()> {
        let (agents, width, constraints) = (self.agents.len(), layout.width(), self.channels.len());
        let length = |what, expected, found| match expected == found {
            true => Ok(()),
            false => Err(Error::Width { what, expected, found }),
        };
        length("the array of the crowd's observations", agents * width, self.observations.len())?;
        length("the array of the crowd's targets", agents * constraints, self.targets.len())?;
        if let Some(channel) = self.channels.iter().find(|channel| **channel >= width) {
            return Err(Error::Width { what: "the crowd's query", expected: width, found: channel + 1 });
        }
        if let Some(repeated) = (1..constraints).find(|at| self.channels[..*at].contains(&self.channels[*at])) {
            let name = layout.names()[self.channels[repeated]].clone();
            let (field, allowed) = ("CrowdStep::channels".into(), "each channel once".into());
            return Err(Error::Configuration { field, value: name, allowed });
        }
        let stretches = self.observations.par_chunks(STRETCH * width);
        stretches.try_for_each(|rows| layout.check_rows("the crowd's observation", rows))?;
        if self.targets.par_chunks(STRETCH * constraints.max(1)).all(are_storable) {
            return Ok(());
        }
        let mut targets = self.targets.iter().zip(self.channels.iter().cycle());
        match targets.find(|(value, _)| !is_storable(**value)) {
            None => Ok(()),
            Some((value, channel)) => {
                let channel = layout.names()[*channel].clone();
                Err(Error::NotFinite { what: "the crowd's query", channel, value: value.to_string() })
            }
        }
    }
}
