//! How long a thing takes: the best of many rounds, since what else the machine does only ever adds.

use std::time::{Duration, Instant};

/// Seconds that rounds of one measurement may take together.
const BUDGET: f64 = 0.6;

/// Seconds of the quickest of many rounds. `prepare` is not timed, `work` is.
pub fn best<T>(subject: &mut T, mut prepare: impl FnMut(&mut T), mut work: impl FnMut(&mut T)) -> f64 {
    let (begun, mut best) = (Instant::now(), f64::INFINITY);
    for round in 0.. {
        prepare(subject);
        let started = Instant::now();
        work(subject);
        best = best.min(started.elapsed().as_secs_f64());
        if round >= 2 && begun.elapsed().as_secs_f64() > BUDGET {
            break;
        }
    }
    best
}

/// The middle of some durations, and the one that 99 in 100 do not exceed, in milliseconds.
pub fn percentiles(durations: &mut [Duration]) -> (f64, f64) {
    durations.sort();
    let at = |share: f64| {
        let place = (durations.len().saturating_sub(1) as f64 * share) as usize;
        durations.get(place).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e3)
    };
    (at(0.5), at(0.99))
}
