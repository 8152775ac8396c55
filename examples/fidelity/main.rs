//! How faithful is the memory? Error by age for every policy, beside a ring buffer and exponential averages of the
//! same bytes.
//!
//! `cargo run --release --example fidelity -- --help`

mod keepers;
mod measure;
mod plot;
mod streams;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use keepers::KeeperKind;
use measure::{CHANNELS, ErrorCurve, RETRIEVAL_AGES};
use rayon::prelude::*;
use serde::Serialize;
use std::error::Error;
use std::path::PathBuf;
use streams::{EVENT_NOISE, Stream};

/// Measures how well each forgetting policy remembers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Observations a stream, at least 1,000.
    #[arg(long, default_value_t = 100_000, value_parser = parse_steps)]
    steps: usize,
    /// Streams a cell of the table.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Floats a channel, N.
    #[arg(long, value_delimiter = ',', default_values_t = [32, 64, 128, 256])]
    capacities: Vec<usize>,
    /// Observations before f32 is compared with f64; 0 skips it.
    #[arg(long, default_value_t = 1_000_000)]
    rounding_steps: usize,
    /// Where the plot of error by age goes.
    #[arg(long, default_value = "fidelity.svg")]
    plot: PathBuf,
    /// Writes all figures as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn parse_steps(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(steps) if steps >= 1_000 => Ok(steps),
        _ => Err("at least 1000 observations are needed".into()),
    }
}

/// All figures of one keeper at one N.
#[derive(Debug, Serialize)]
struct Row {
    keeper: &'static str,
    capacity: usize,
    curves: Vec<(&'static str, ErrorCurve)>,
    retrieval: [f64; 3],
}

#[derive(Debug, Serialize)]
struct Report {
    steps: usize,
    seeds: u64,
    rows: Vec<Row>,
    rounding: Vec<(&'static str, f64)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let cells = arguments.capacities.len() * KeeperKind::all(64).len() * (Stream::ALL.len() + 1);
    let bar =
        ProgressBar::new(cells as u64).with_style(ProgressStyle::with_template("{bar:32} {pos}/{len} {eta} {msg}")?);
    let mut report = Report { steps: arguments.steps, seeds: arguments.seeds, rows: vec![], rounding: vec![] };
    let keepers =
        arguments.capacities.iter().flat_map(|capacity| KeeperKind::all(*capacity).into_iter().map(|k| (*capacity, k)));
    let keepers: Vec<(usize, KeeperKind)> = keepers.collect();
    report.rows = keepers
        .par_iter()
        .map(|(capacity, keeper)| {
            let row = measure_row(keeper, *capacity, &arguments, &bar);
            bar.println(format!("N = {capacity}: {}", keeper.name()));
            row
        })
        .collect::<Result<Vec<Row>, infformer::Error>>()?;
    bar.finish_and_clear();
    print_half_ages(&report);
    print_retrieval(&report);
    print_targets(&report);
    if arguments.rounding_steps > 0 {
        print_rounding(&mut report, arguments.rounding_steps)?;
    }
    let drawn: Vec<_> = report.rows.iter().filter(|row| row.capacity == middle(&arguments.capacities)).collect();
    plot::draw(&arguments.plot, &drawn)?;
    println!("\nerror by age: {}", arguments.plot.display());
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)?;
        println!("figures: {}", path.display());
    }
    Ok(())
}

fn measure_row(
    keeper: &KeeperKind,
    capacity: usize,
    arguments: &Arguments,
    bar: &ProgressBar,
) -> Result<Row, infformer::Error> {
    let mut curves = vec![];
    for stream in Stream::ALL {
        curves.push((stream.name(), measure::error_curve(keeper, stream, capacity, arguments.steps, arguments.seeds)?));
        bar.inc(1);
    }
    // The noise of this stream is known: two means of it differ by its variance.
    let told = keeper.clone().with_tolerance(2.0 * EVENT_NOISE * EVENT_NOISE);
    let retrieval = measure::retrieval(&told, capacity, arguments.steps, arguments.seeds)?;
    bar.inc(1);
    Ok(Row { keeper: keeper.name(), capacity, curves, retrieval })
}

/// The capacity that is plotted: 64 when it is there.
fn middle(capacities: &[usize]) -> usize {
    if capacities.contains(&64) { 64 } else { capacities[capacities.len() / 2] }
}

fn print_half_ages(report: &Report) {
    let Report { steps, seeds, .. } = report;
    println!("H50: age in steps at which the squared error, over the variance, first crosses one half.");
    println!(
        "{seeds} streams of {steps} steps x {CHANNELS} channels in one group; N floats a channel. >= : never crossed.\n"
    );
    println!("| N | memory | smooth | multi | piece | newest 16 on smooth, signal alone |");
    println!("|---|---|---|---|---|---|");
    for row in &report.rows {
        let half = |curve: &ErrorCurve| match curve.half_age {
            Some(age) => format!("{age:.0}"),
            None => format!(">= {steps}"),
        };
        let halves: Vec<String> = row.curves.iter().map(|(_, curve)| half(curve)).collect();
        let newest = row.curves[0].1.newest_error;
        println!("| {} | {} | {} | {newest:.5} |", row.capacity, row.keeper, halves.join(" | "));
    }
}

fn print_retrieval(report: &Report) {
    println!("\nevent: share of keys (1 of 32) told right from what is remembered of their time, by age in steps.\n");
    let ages: Vec<String> = RETRIEVAL_AGES.iter().map(|(from, to)| format!("{from}-{to}")).collect();
    println!("| N | memory | {} |", ages.join(" | "));
    println!("|---|---|---|---|---|");
    for row in &report.rows {
        let [young, middle, old] = row.retrieval;
        println!("| {} | {} | {young:.2} | {middle:.2} | {old:.2} |", row.capacity, row.keeper);
    }
}

/// What the library promises at N = 64 over 100,000 observations: H50 on smooth, multi and piece.
const TARGETS: [(&str, [f64; 3]); 2] =
    [("PowerLaw, cosine", [2_800.0, 6_500.0, 1_900.0]), ("Adaptive", [5_000.0, 9_000.0, 7_000.0])];

/// The squared error of the newest 16 observations of smooth. The exact short-term memory of every preset makes it 0;
/// here the signal is measured without one.
const NEWEST_TARGET: f64 = 0.005;

fn print_targets(report: &Report) {
    if report.steps != 100_000 {
        return;
    }
    println!();
    for row in report.rows.iter().filter(|row| row.capacity == 64) {
        let Some((_, least)) = TARGETS.iter().find(|(name, _)| *name == row.keeper) else { continue };
        let reached =
            row.curves.iter().zip(least).all(|((_, curve), least)| curve.half_age.is_none_or(|age| age >= *least));
        let word = |reached: bool| if reached { "reached" } else { "MISSED" };
        println!("{}: H50 of at least {least:?} at N = 64: {}", row.keeper, word(reached));
        let newest = row.curves[0].1.newest_error;
        let alone = word(newest <= NEWEST_TARGET);
        println!("{}: newest 16 on smooth within {NEWEST_TARGET}, signal alone: {newest:.5}, {alone}", row.keeper);
    }
}

fn print_rounding(report: &mut Report, steps: usize) -> Result<(), Box<dyn Error>> {
    println!(
        "\nf32 against f64 after {steps} observations of smooth, N = 64: norm of the difference over norm of the signal.\n"
    );
    let bar = ProgressBar::new(steps as u64);
    for keeper in &KeeperKind::all(64) {
        let KeeperKind::Policy(name, forgetting) = keeper else { continue };
        if let Some(error) = measure::rounding(forgetting, 64, steps, &mut |done| bar.set_position(done as u64))? {
            bar.suspend(|| println!("| {name} | {error:.1e} |"));
            report.rounding.push((name, error));
        }
    }
    bar.finish_and_clear();
    Ok(())
}
