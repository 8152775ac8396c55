//! Who is written and who begins anew at which tick of a segment.
//!
//! At each tick a member's reset comes first, then the tick joins the short-term memory; when that holds S + L, the
//! oldest L leave it for the long-term memory. Between two such events only a member's short-term memory moves. What
//! follows the r-th event of every member is one round, wherever in the segment it lies: all ticks of a round are worked
//! on at once, and members whose episodes end at different ticks need no more rounds than those that go in step.

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

/// What follows one event of each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Round {
    /// Before the first tick of the round, one a member.
    pub(crate) events: Vec<Event>,
    /// After the events, with the first tick, one a member.
    pub(crate) clocks: Vec<Clock>,
    /// Which ticks of each member follow, up to its next event; none for a member that has no more events.
    pub(crate) ticks: Vec<Range<usize>>,
}

/// The rounds of a segment, and what the short-term memory holds at each tick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub(crate) rounds: Vec<Round>,
    /// Where members begin anew.
    pub(crate) resets: Vec<Reset>,
    /// Ticks in the short-term memory, the tick itself included \[batch, T\].
    pub(crate) held: Vec<usize>,
}

impl Schedule {
    /// What happens in a segment of `ticks` ticks; moves the clocks to its end.
    pub(crate) fn new(clocks: &mut [Clock], resets: &[Reset], ticks: usize, short_term: usize, chunk: usize) -> Self {
        let batch = clocks.len();
        let mut schedule = Self { resets: resets.to_vec(), held: Vec::with_capacity(batch * ticks), ..Self::default() };
        for (member, clock) in clocks.iter_mut().enumerate() {
            let mut round = 0;
            for tick in 0..ticks {
                let mut event = Event::Nothing;
                if resets.iter().any(|reset| reset.member == member && reset.tick == tick) {
                    (*clock, event) = (Clock::default(), Event::Reset);
                }
                clock.held += 1;
                if clock.held == short_term + chunk {
                    clock.held = short_term;
                    event = Event::Write { chunks: clock.chunks };
                    clock.chunks += 1;
                }
                if tick > 0 && event != Event::Nothing {
                    round += 1;
                }
                if round == schedule.rounds.len() {
                    let nothing =
                        (vec![Event::Nothing; batch], vec![Clock::default(); batch], vec![ticks..ticks; batch]);
                    let (events, clocks, ticks) = nothing;
                    schedule.rounds.push(Round { events, clocks, ticks });
                }
                let own = &mut schedule.rounds[round];
                if own.ticks[member].is_empty() {
                    (own.events[member], own.clocks[member], own.ticks[member]) = (event, *clock, tick..tick);
                }
                own.ticks[member].end = tick + 1;
                schedule.held.push(clock.held);
            }
        }
        // A member without more events stays as it is.
        for (member, clock) in clocks.iter().enumerate() {
            let over = schedule.rounds.iter_mut().filter(|round| round.ticks[member].is_empty());
            over.for_each(|round| round.clocks[member] = *clock);
        }
        schedule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_go_by_their_own_events() {
        // S = 3, L = 2: a write when 5 are held.
        let mut clocks = [Clock { held: 4, chunks: 7 }, Clock { held: 2, chunks: 0 }];
        let schedule = Schedule::new(&mut clocks, &[Reset { member: 1, tick: 4 }], 6, 3, 2);
        assert_eq!(schedule.held, [3, 4, 3, 4, 3, 4, 3, 4, 3, 4, 1, 2]);
        assert_eq!(clocks, [Clock { held: 4, chunks: 10 }, Clock { held: 2, chunks: 0 }]);
        let ticks: Vec<Vec<Range<usize>>> = schedule.rounds.iter().map(|round| round.ticks.clone()).collect();
        assert_eq!(ticks, [vec![0..2, 0..2], vec![2..4, 2..4], vec![4..6, 4..6]]);
        let write = |chunks| Event::Write { chunks };
        let events: Vec<Vec<Event>> = schedule.rounds.iter().map(|round| round.events.clone()).collect();
        assert_eq!(events, [vec![write(7), Event::Nothing], vec![write(8), write(0)], vec![write(9), Event::Reset]]);
        let chunks: Vec<Vec<u64>> =
            schedule.rounds.iter().map(|round| round.clocks.iter().map(|clock| clock.chunks).collect()).collect();
        assert_eq!(chunks, [vec![8, 0], vec![9, 1], vec![10, 0]]);
    }

    #[test]
    fn a_member_without_more_events_waits() {
        let mut clocks = [Clock { held: 1, chunks: 0 }, Clock { held: 1, chunks: 0 }];
        let schedule = Schedule::new(&mut clocks, &[Reset { member: 0, tick: 1 }], 3, 4, 2);
        assert_eq!(schedule.rounds.len(), 2);
        assert_eq!(schedule.rounds[0].ticks, [0..1, 0..3]);
        assert_eq!(schedule.rounds[1].ticks, [1..3, 3..3]);
        assert_eq!(schedule.rounds[1].events, [Event::Reset, Event::Nothing]);
        assert_eq!(schedule.rounds[1].clocks, [Clock { held: 1, chunks: 0 }, Clock { held: 4, chunks: 0 }]);
    }
}
