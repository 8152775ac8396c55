//! What runs the kernel.

use crate::error::Result;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Arrays of words of four bytes on the device, in the order of the kernel's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffer {
    /// What each agent is to do \[turns, 12\].
    Turns,
    /// Rows of channels and interval \[observations, d + 1\].
    Observations,
    /// The numbers of the maps of the turns' writes.
    Writes,
    /// Where the constraints of each query begin, and where the last one's end \[queries + 1\].
    QueryStarts,
    /// The channel of each constraint.
    Channels,
    /// The value of each constraint.
    Targets,
    /// What is the same for all agents.
    Constants,
    /// The matrices of writes \[maps, N + L, N\].
    Maps,
    /// The floats of every slot: signal, ring, mean, variance, losses.
    States,
    /// The order and the lengths of every slot's blocks.
    Places,
    /// Age, its spread, confidence and value \[queries, 3 + d\].
    Answers,
    /// The first peak of each query, and how many it has \[queries, 2\].
    Found,
    /// How many peaks there are.
    Counter,
    /// Age, weight, confidence and value \[peaks, 3 + d\].
    Peaks,
}

/// How many there are.
pub(super) const BUFFERS: usize = Buffer::Peaks as usize + 1;

/// The first ones are inputs, written anew at every tick.
pub(super) const INPUTS: usize = Buffer::Targets as usize + 1;

/// How many launches can be under way at once: one whose inputs are sent, one that runs, one whose answers are sent
/// back.
pub(super) const LANES: usize = 3;

/// Those that all launches use.
pub(super) const COMMON: RangeInclusive<usize> = Buffer::Constants as usize..=Buffer::Places as usize;

impl Buffer {
    /// Whether all launches use the same one.
    pub(super) fn is_common(self) -> bool {
        COMMON.contains(&(self as usize))
    }
}

/// How much of its buffers a launch uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Launch {
    /// Words of each input.
    pub inputs: [usize; INPUTS],
    pub turns: usize,
    /// Words of the answers.
    pub answers: usize,
}

/// A device that runs `tick.cu` on its buffers. The launches of a tick are numbered from 0. Number n is in lane
/// n modulo [`LANES`], which has inputs and outputs of its own, and must have been received before the next one there
/// begins. What is common to all is changed, and read, when none is under way; no slot is in two of them.
pub(super) trait Processor: fmt::Debug + Send + Sync {
    /// Makes a buffer, a launch's or a common one, at least so long; what is in a common one stays.
    fn reserve(&mut self, number: usize, buffer: Buffer, words: usize) -> Result<()>;
    /// Writes words into a common buffer.
    fn write(&mut self, buffer: Buffer, at: usize, words: &[u32]) -> Result<()>;
    /// Fills a part of a common buffer with zeros.
    fn clear(&mut self, buffer: Buffer, at: usize, words: usize) -> Result<()>;
    /// Reads words of a common buffer.
    fn read(&mut self, buffer: Buffer, at: usize, words: &mut [u32]) -> Result<()>;
    /// Waits for the launch that was in the lane before; gives the first `words` of its answers, and the inputs of the
    /// next one there, as long as they were reserved, to be filled.
    fn exchange(&mut self, number: usize, words: usize) -> Result<(&[u32], [&mut [u32]; INPUTS])>;
    /// Sends the inputs to the device, sets the counter to 0, runs the turns, and sends the answers back; does not wait.
    fn launch(&mut self, number: usize, launch: &Launch) -> Result<()>;
    /// The first words of another output of a launch whose answers have been taken.
    fn receive(&mut self, number: usize, buffer: Buffer, words: usize) -> Result<&[u32]>;
    /// Waits until nothing is under way, whatever became of it: after an error, before anything else is asked.
    fn drain(&mut self);
    /// How long kernels of the tick's launches, all over by now, were running, where the device says so.
    fn kernel_time(&self, launches: usize) -> Result<Option<Duration>>;
}
