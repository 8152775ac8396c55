//! The world as an experiment: the same seeds for every kind of memory, meals counted.

use crate::minds::MindKind;
use crate::world::{Rules, Sighting, TICKS_A_SECOND, World};
use indicatif::{ProgressBar, ProgressStyle};
use infformer::Error;
use serde::Serialize;
use std::path::Path;

/// The figures of one kind of memory.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The memory.
    pub memory: &'static str,
    /// Bytes an agent; `None`: it grows.
    pub bytes: Option<usize>,
    /// Meals a forager and hour, one a seed.
    pub meals_an_hour: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub deviation: f64,
    /// The mean over the oracle's.
    pub of_oracle: f64,
}

/// Runs all memories and prints the table.
pub fn run(ticks: u64, seeds: u64, json: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    let rules = Rules::default();
    let bar = ProgressBar::new(MindKind::ALL.len() as u64 * seeds * ticks);
    bar.set_style(ProgressStyle::with_template("{bar:32} {percent}% {eta} {msg}")?);
    let mut rows = vec![];
    for kind in MindKind::ALL {
        bar.set_message(kind.name());
        let meals = (0..seeds).map(|seed| live(kind, rules, ticks, seed, &bar)).collect::<Result<Vec<f64>, Error>>()?;
        let mean = meals.iter().sum::<f64>() / seeds as f64;
        let squares = meals.iter().map(|meals| (meals - mean).powi(2)).sum::<f64>();
        let deviation = (squares / (seeds as f64 - 1.0).max(1.0)).sqrt();
        let memory = kind.name();
        rows.push(Row { memory, bytes: kind.bytes()?, meals_an_hour: meals, mean, deviation, of_oracle: 0.0 });
    }
    bar.finish_and_clear();
    let oracle = rows.last().map_or(1.0, |row| row.mean);
    rows.iter_mut().for_each(|row| row.of_oracle = row.mean / oracle);
    print(&rows, rules, ticks, seeds);
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
        println!("\nfigures: {}", path.display());
    }
    Ok(())
}

/// One life: meals a forager and hour.
fn live(kind: MindKind, rules: Rules, ticks: u64, seed: u64, bar: &ProgressBar) -> Result<f64, Error> {
    let mut world = World::new(rules, seed);
    let mut minds = kind.start(rules.foragers)?;
    let mut sightings: Vec<Option<Sighting>> = vec![None; rules.foragers];
    let mut wonders = vec![None; rules.foragers];
    let mut answers = vec![vec![]; rules.foragers];
    for tick in 0..ticks {
        for forager in 0..rules.foragers {
            sightings[forager] = world.see(forager);
            wonders[forager] = world.wonders(forager);
        }
        minds.tick(tick, &sightings, &wonders, &mut answers)?;
        for forager in 0..rules.foragers {
            let asked = wonders[forager].map(|_| answers[forager].as_slice());
            world.act(forager, asked);
        }
        world.end_tick();
        if tick % 1_000 == 999 {
            bar.inc(1_000);
        }
    }
    let meals: u32 = world.foragers.iter().map(|forager| forager.meals).sum();
    let hours = ticks as f64 / f64::from(TICKS_A_SECOND) / 3_600.0;
    Ok(f64::from(meals) / hours / rules.foragers as f64)
}

fn print(rows: &[Row], rules: Rules, ticks: u64, seeds: u64) {
    let hours = ticks as f32 / TICKS_A_SECOND / 3_600.0;
    println!("A life of {ticks} ticks ({hours:.1} h), {seeds} seeds. In metres and seconds: {rules:?}.");
    println!("What each rule is: examples/README.md.\n");
    println!("| memory | bytes an agent | meals a forager-hour | standard deviation over seeds | of the oracle |");
    println!("|---|---|---|---|---|");
    for row in rows {
        let bytes = row.bytes.map_or("grows".into(), |bytes| bytes.to_string());
        println!("| {} | {bytes} | {:.1} | {:.1} | {:.2} |", row.memory, row.mean, row.deviation, row.of_oracle);
    }
}
