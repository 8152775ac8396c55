//! What runs the kernel.

use crate::error::Result;
use std::fmt;
use std::time::Duration;

/// Arrays of words of four bytes on the device, in the order of the kernel's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffer {
    /// What each block of threads is to do \[turns, 12\].
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

/// A device that runs `tick.cu` on its buffers. Calls take effect in their order.
pub(super) trait Processor: fmt::Debug + Send + Sync {
    /// Makes a buffer at least so long; what is in it stays.
    fn reserve(&mut self, buffer: Buffer, words: usize) -> Result<()>;
    /// Writes words into a buffer.
    fn write(&mut self, buffer: Buffer, at: usize, words: &[u32]) -> Result<()>;
    /// Fills a part of a buffer with zeros.
    fn clear(&mut self, buffer: Buffer, at: usize, words: usize) -> Result<()>;
    /// Reads words of a buffer.
    fn read(&mut self, buffer: Buffer, at: usize, words: &mut [u32]) -> Result<()>;
    /// The host's side of the inputs, as long as they were reserved, to be filled.
    fn inputs(&mut self) -> Result<[&mut [u32]; INPUTS]>;
    /// Sends the first words of each input to the device and runs so many turns.
    fn launch(&mut self, inputs: [usize; INPUTS], turns: usize) -> Result<()>;
    /// The first words of a buffer, on the host's side.
    fn receive(&mut self, buffer: Buffer, words: usize) -> Result<&[u32]>;
    /// How long the last launch's kernel took on the device, where the device says so.
    fn kernel_time(&self) -> Result<Option<Duration>>;
}
