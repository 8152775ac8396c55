//! Training-free recall: a query is answered by the density p ∝ exp(−β·squared distance) × measure over the past.
//!
//! The squared distance of a moment to the query is taken on the constrained channels, in units of their scales; a
//! dot product would favour large values over like ones.

use crate::basis::normal_cumulative;
use crate::density::Density;
use crate::moments::{AgentState, Cell, Cells, Knots};
use crate::plan::Policy;
use crate::query::{Answer, AnswerDetail, DensityCell, Query};

/// Two neighbouring maxima are two peaks when the valley between them is below this share of each.
const VALLEY: f64 = 0.5;
/// Moments of at least this share of a peak's similarity are of the peak.
const NEAR: f64 = 0.5;

/// Work space of recall, re-used from one query to the next.
#[derive(Debug, Default)]
pub(crate) struct RecallScratch {
    pub(crate) cells: Cells,
    precision: Vec<f32>,
    /// exp(−β(D − D_min)) a cell.
    similarity: Vec<f64>,
    mass: Vec<f32>,
    peaks: Vec<PeakRange>,
}

#[derive(Debug, Clone, Copy)]
struct PeakRange {
    start: usize,
    end: usize,
    height: f64,
    mass: f32,
}

impl RecallScratch {
    /// Adds the last density over the reading grid to an attention histogram, if there is one (sticky memories).
    pub(crate) fn add_to_histogram(&self, agent: &AgentState, histogram: &mut [f32]) {
        let Policy::Linear(plan) = &agent.plan.policy else { return };
        let bins_a_row = histogram.len() as f64 / plan.grid.rows() as f64;
        for (cell, mass) in self.cells.cells.iter().zip(&self.mass) {
            let Some(row) = Cells::grid_row(cell) else { continue };
            let (from, to) = (row as f64 * bins_a_row, (row + 1) as f64 * bins_a_row);
            for bin in from as usize..(to.ceil() as usize).min(histogram.len()) {
                let overlap = (to.min((bin + 1) as f64) - from.max(bin as f64)).max(0.0);
                histogram[bin] += mass * (overlap / bins_a_row) as f32;
            }
        }
    }
}

/// Answers `query` for an agent at `tick`. An agent that has seen nothing gives an empty answer of confidence 0.
pub(crate) fn recall(agent: &AgentState, query: &Query, tick: u64, scratch: &mut RecallScratch, answer: &mut Answer) {
    answer.clear();
    let config = &agent.plan.config.recall;
    let Some(first) = query.constraints().first() else { return };
    let clock_group = match &agent.plan.policy {
        Policy::Blocks(plan) => plan.group_of(first.channel),
        Policy::Linear(_) => 0,
    };
    let RecallScratch { cells, precision, similarity, mass, peaks } = scratch;
    cells.list(agent, Knots::All { clock_group });
    if cells.cells.is_empty() {
        return;
    }
    precision.clear();
    agent.plan.precision(agent.mean, agent.variance, precision);

    let distance = |cell| -> f64 {
        let squared =
            |value: f32, target: f32, channel: usize| f64::from(value - target).powi(2) * f64::from(precision[channel]);
        let constraints = query.constraints().iter();
        constraints.map(|c| squared(cells.value(agent, cell, c.channel), c.value, c.channel)).sum()
    };
    similarity.clear();
    similarity.extend(cells.cells.iter().map(distance));
    let nearest = similarity.iter().copied().fold(f64::INFINITY, f64::min);
    let sharpness = f64::from(config.sharpness);
    similarity.iter_mut().for_each(|value| *value = (-sharpness * (*value - nearest)).exp());

    let measure_of = |age: f64| config.measure.coordinate(age);
    weigh(cells, similarity, measure_of, config.density, mass);

    let late = tick.saturating_sub(agent.counters.newest_tick) as f64;
    let mean_age: f64 = cells.cells.iter().zip(&*mass).map(|(cell, mass)| cell.age() * f64::from(*mass)).sum();
    let spread = |cell: &Cell| {
        let within = (cell.older_tick() - cell.tick).powi(2) / 12.0;
        (cell.age() - mean_age).powi(2) + if cell.older - cell.newer > 1.0 { within } else { 0.0 }
    };
    let variance: f64 = cells.cells.iter().zip(&*mass).map(|(cell, mass)| spread(cell) * f64::from(*mass)).sum();
    answer.age = (mean_age + late) as f32;
    answer.age_spread = variance.sqrt() as f32;
    let best = (-sharpness * nearest).exp();
    answer.confidence = best as f32;
    answer.value.resize(agent.plan.layout.width(), 0.0);
    cells.add_expected(agent, mass.iter().copied().enumerate(), &mut answer.value);

    find_peaks(similarity, mass, config.peaks, peaks);
    for peak in peaks.iter() {
        let range = peak.start..peak.end;
        let near = |&cell: &usize| similarity[cell] >= NEAR * peak.height;
        let share = |cell: usize| if peak.mass > 0.0 { mass[cell] / peak.mass } else { 0.0 };
        let age: f64 = range.clone().filter(near).map(|cell| cells.cells[cell].age() * f64::from(share(cell))).sum();
        let value = answer.add_peak((age + late) as f32, peak.mass, (best * peak.height) as f32);
        cells.add_expected(agent, range.filter(near).map(|cell| (cell, share(cell))), value);
    }
    if query.detail() == AnswerDetail::Density {
        answer.density.extend(cells.cells.iter().zip(&*mass).map(|(cell, mass)| DensityCell {
            newer: (cell.tick + late) as f32,
            older: (cell.older_tick() + late) as f32,
            mass: *mass,
        }));
    }
}

/// Fills `mass` with the normalised density of each cell.
fn weigh(cells: &Cells, similarity: &[f64], coordinate: impl Fn(f64) -> f64, density: Density, mass: &mut Vec<f32>) {
    let ends = |cell: &Cell| (coordinate(cell.newer), coordinate(cell.older));
    let gibbs = |(cell, similarity): (&Cell, &f64)| {
        let (newer, older) = ends(cell);
        similarity * (older - newer)
    };
    let pairs = || cells.cells.iter().zip(similarity);
    let total: f64 = pairs().map(gibbs).sum();
    mass.clear();
    match density {
        Density::Gibbs => mass.extend(pairs().map(|pair| (gibbs(pair) / total) as f32)),
        Density::Gaussian => {
            let moment = |cell: &Cell| {
                let (newer, older) = ends(cell);
                (0.5 * (newer + older), (older - newer).powi(2) / 12.0)
            };
            let mean: f64 = pairs().map(|pair| gibbs(pair) / total * moment(pair.0).0).sum();
            let variance: f64 = pairs()
                .map(|pair| {
                    let (middle, within) = moment(pair.0);
                    gibbs(pair) / total * ((middle - mean).powi(2) + within)
                })
                .sum();
            let below = |end: f64| normal_cumulative((end - mean) / variance.sqrt().max(f64::MIN_POSITIVE));
            let inside = |cell: &Cell| {
                let (newer, older) = ends(cell);
                below(older) - below(newer)
            };
            let total: f64 = cells.cells.iter().map(inside).sum();
            mass.extend(cells.cells.iter().map(|cell| (inside(cell) / total) as f32));
        }
    }
}

/// Splits the cells into basins around the maxima of `similarity` and keeps the `most` whose peaks are heaviest,
/// heaviest first.
fn find_peaks(similarity: &[f64], mass: &[f32], most: usize, peaks: &mut Vec<PeakRange>) {
    peaks.clear();
    let mut keep = |start: usize, end: usize, height: f64| {
        let near = |cell: &usize| similarity[*cell] >= NEAR * height;
        let peak = PeakRange { start, end, height, mass: (start..end).filter(near).map(|cell| mass[cell]).sum() };
        let place = peaks.partition_point(|kept| kept.mass >= peak.mass);
        if place < most {
            peaks.truncate(most - 1);
            peaks.insert(place, peak);
        }
    };
    let (mut start, mut height) = (0, similarity[0]);
    let (mut valley, mut valley_at) = (similarity[0], 0);
    for (cell, &value) in similarity.iter().enumerate().skip(1) {
        if value <= valley {
            (valley, valley_at) = (value, cell);
        } else if valley < VALLEY * value && valley < VALLEY * height {
            keep(start, valley_at.max(start + 1), height);
            start = valley_at.max(start + 1);
            (height, valley, valley_at) = (value, value, cell);
        } else if value > height {
            (height, valley, valley_at) = (value, value, cell);
        }
    }
    keep(start, similarity.len(), height);
}
