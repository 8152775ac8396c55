//! What a configuration is to the kernel: the numbers in front of it, and the constants that it reads.

use crate::channels::Scale;
use crate::config::StatePrecision;
use crate::density::{Density, Measure};
use crate::error::{Error, Result};
use crate::forgetting::TimeAxis;
use crate::plan::{MemoryPlan, Policy, STATISTICS_MEMORY};
use crate::recall::{NEAR, VALLEY};
use std::fmt::Write;

/// Slots begin where the device's wide reads do.
const ALIGNMENT: usize = 32;

/// Words of a slot's floats.
pub(super) fn state_words(plan: &MemoryPlan) -> usize {
    let ring = plan.short_term_rows() * plan.row_width();
    let words = plan.long_term_length() + ring + 2 * plan.layout.width() + plan.lengths_length();
    words.next_multiple_of(ALIGNMENT)
}

/// Words of a slot's order and lengths.
pub(super) fn places_words(plan: &MemoryPlan) -> usize {
    2 * plan.lengths_length()
}

/// The most peaks that an answer lists: as many as asked, and no more than there can be. Between two is a valley.
pub(super) fn most_peaks(plan: &MemoryPlan) -> usize {
    let long_term = match &plan.policy {
        Policy::Linear(linear) => linear.grid.cells(),
        Policy::Blocks(blocks) => blocks.groups() * blocks.capacity,
    };
    plan.config.recall.peaks.min((plan.short_term_rows() + long_term) / 2 + 1)
}

/// Words from one row of ψ to the next: an odd number.
fn pitch(columns: usize) -> usize {
    columns | 1
}

/// The `#define`s of a configuration. Errors: what the kernel does not have.
pub(super) fn numbers(plan: &MemoryPlan, threads: usize) -> Result<String> {
    let refuse = |policy: &'static str| Err(Error::Device { policy, device: "a CUDA device".into() });
    if plan.config.state == StatePrecision::Half {
        return refuse("a state of half precision");
    }
    let recall = &plan.config.recall;
    let (recency, measure_resolution) = match recall.measure {
        Measure::Recency { resolution } => (1, resolution),
        Measure::Lifetime => (0, 1.0),
    };
    let mut defines: Vec<(&str, String)> = vec![
        ("THREADS", threads.to_string()),
        ("D", plan.layout.width().to_string()),
        ("N", plan.config.capacity.to_string()),
        ("L", plan.config.chunk.to_string()),
        ("RING", plan.short_term_rows().to_string()),
        ("STATE", state_words(plan).to_string()),
        ("PLACES", places_words(plan).to_string()),
        ("PEAKS", most_peaks(plan).to_string()),
        ("SHARPNESS", float(recall.sharpness)),
        ("VALLEY", float(VALLEY)),
        ("NEAR", float(NEAR)),
        ("STATISTICS_MEMORY", STATISTICS_MEMORY.to_string()),
        ("RECENCY", recency.to_string()),
        ("MEASURE_RESOLUTION", float(measure_resolution as f32)),
        ("GAUSSIAN", u8::from(recall.density == Density::Gaussian).to_string()),
    ];
    match &plan.policy {
        Policy::Linear(linear) => {
            let (axis, tau) = match linear.axis {
                TimeAxis::PowerLaw { .. } => ("POWER_LAW", 1.0),
                TimeAxis::Uniform => ("UNIFORM", 1.0),
                TimeAxis::Geometric { tau, .. } => ("GEOMETRIC", tau),
                TimeAxis::Table => return refuse("Sticky"),
            };
            let cells = linear.grid.cells();
            defines.extend([
                ("LINEAR", "1".into()),
                ("CELLS", cells.to_string()),
                ("HALVES", u8::from(linear.grid.columns() < cells).to_string()),
                ("COLUMNS", linear.grid.columns().to_string()),
                ("PITCH", pitch(linear.grid.columns()).to_string()),
                ("POWER_LAW", "0".into()),
                ("UNIFORM", "1".into()),
                ("GEOMETRIC", "2".into()),
                ("AXIS", axis.into()),
                ("LN_TAU", float(tau.ln() as f32)),
                ("ONE_LESS_TAU", float((1.0 - tau) as f32)),
            ]);
        }
        Policy::Blocks(blocks) => {
            let starts = (0..blocks.groups()).map(|group| blocks.channels_of(group).start);
            let starts: Vec<String> = starts.chain([plan.layout.width()]).map(|start| start.to_string()).collect();
            defines.extend([
                ("LINEAR", "0".into()),
                ("G", blocks.groups().to_string()),
                ("GROUP_STARTS", starts.join(", ")),
                ("RESOLUTION", float(blocks.resolution)),
                ("MIX", float(blocks.mix)),
                ("TOLERANCE", float(blocks.tolerance)),
            ]);
        }
    }
    let mut text = String::new();
    for (name, value) in defines {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "#define {name} {value}");
    }
    Ok(text)
}

/// 1/scale² \[d\], 0 where it is learnt; of a linear signal also ages at the cells' ends \[M + 1\] and ψ \[N, columns\],
/// whose rows are [`pitch`] words apart.
pub(super) fn constants(plan: &MemoryPlan) -> Vec<u32> {
    let precision = plan.layout.scales().iter().map(|scale| match scale {
        Scale::Given(scale) => 1.0 / (scale * scale),
        Scale::Learnt => 0.0,
    });
    let mut constants: Vec<f32> = precision.collect();
    if let Policy::Linear(linear) = &plan.policy {
        let (grid, cells) = (&linear.grid, linear.grid.cells());
        let mut ages = vec![];
        if matches!(linear.axis, TimeAxis::PowerLaw { .. }) {
            linear.ages(u64::MAX, &[], &mut ages);
        }
        ages.resize(cells + 1, 0.0);
        constants.extend(ages.iter().map(|age| *age as f32));
        let columns = grid.columns();
        for n in 0..linear.basis.count() {
            constants.extend((0..columns).map(|cell| grid.row(cell)[n]));
            constants.extend(std::iter::repeat_n(0.0, pitch(columns) - columns));
        }
    }
    constants.into_iter().map(f32::to_bits).collect()
}

fn float(value: f32) -> String {
    format!("{value:e}f")
}
