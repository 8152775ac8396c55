//! Who is written and who begins anew at which tick of a segment.
//!
//! At each tick a member's reset comes first, then the tick joins the short-term memory; when that holds S + L, the
//! oldest L leave it for the long-term memory. A segment falls into stretches in which only the short-term memory
//! moves: all ticks of a stretch are worked on at once.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The episode of batch member `member` begins anew at `tick` of the segment: what came before is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reset {
    /// Index in the batch.
    pub member: usize,
    /// Tick in the segment, 0 the first.
    pub tick: usize,
}

/// How far a batch member has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clock {
    /// Ticks in the short-term memory, 0 to S + L − 1.
    pub held: usize,
    /// Chunks that left it for the long-term memory.
    pub chunks: u64,
}

/// What happens to a member's long-term memory before the first tick of a stretch is attended to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Nothing,
    Reset,
    /// A write that follows so many earlier ones.
    Write {
        chunks: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) ticks: Range<usize>,
    /// One a member.
    pub(crate) events: Vec<Event>,
    /// After the events, with the first tick.
    pub(crate) clocks: Vec<Clock>,
}

/// Cuts `ticks` of a segment into stretches and moves the clocks to its end.
pub(crate) fn stretches(
    clocks: &mut [Clock],
    resets: &[Reset],
    ticks: Range<usize>,
    short_term: usize,
    chunk: usize,
) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = vec![];
    for tick in ticks {
        let mut events = vec![Event::Nothing; clocks.len()];
        for reset in resets.iter().filter(|reset| reset.tick == tick) {
            if let Some(clock) = clocks.get_mut(reset.member) {
                (*clock, events[reset.member]) = (Clock::default(), Event::Reset);
            }
        }
        for (clock, event) in clocks.iter_mut().zip(&mut events) {
            clock.held += 1;
            if clock.held == short_term + chunk {
                clock.held = short_term;
                *event = Event::Write { chunks: clock.chunks };
                clock.chunks += 1;
            }
        }
        match stretches.last_mut() {
            Some(last) if events.iter().all(|event| *event == Event::Nothing) => last.ticks.end = tick + 1,
            _ => stretches.push(Stretch { ticks: tick..tick + 1, events, clocks: clocks.to_vec() }),
        }
    }
    stretches
}
