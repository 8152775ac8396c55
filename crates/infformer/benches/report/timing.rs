//! How long a thing takes: the middle of many rounds.

use std::time::{Duration, Instant};

/// Seconds that rounds of one measurement may take together.
const BUDGET: f64 = 0.6;

/// Seconds of the middle one of many rounds. `prepare` is not timed, `work` is.
pub fn middle<T>(subject: &mut T, mut prepare: impl FnMut(&mut T), mut work: impl FnMut(&mut T)) -> f64 {
    let (begun, mut rounds) = (Instant::now(), vec![]);
    while rounds.len() < 5 || begun.elapsed().as_secs_f64() < BUDGET {
        prepare(subject);
        let started = Instant::now();
        work(subject);
        rounds.push(started.elapsed().as_secs_f64());
    }
    middle_of(rounds)
}

/// The middle one of some numbers.
pub fn middle_of(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
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
