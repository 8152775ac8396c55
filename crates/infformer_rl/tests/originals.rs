//! The environments beside POPGym's own, played from the same decks, boards, arms and states with the same actions.
//!
//! Where `python3` has no `popgym` this is skipped, and says so. `pip install popgym` in a virtual environment that
//! comes first in PATH is enough.
#![allow(clippy::unwrap_used, clippy::panic)]

mod playing;

use infformer_rl::environment::{Ending, Environment};
use infformer_rl::environments::*;
use playing::{act, choices};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// An episode as the original played it.
#[derive(Deserialize)]
struct Episode {
    name: String,
    /// Decks in the order of dealing, cards on the table, cells with ships, arms, or a state.
    setup: Vec<Vec<f64>>,
    actions: Vec<usize>,
    /// The first one included.
    observations: Vec<Vec<f64>>,
    rewards: Vec<f64>,
    /// Whether it was terminated, and whether it was truncated.
    endings: Vec<[bool; 2]>,
}

impl Episode {
    fn cards(&self, deck: usize) -> Vec<u8> {
        self.setup[deck].iter().map(|card| *card as u8).collect()
    }
}

/// Our environment, begun in the same way, and its first observation.
fn begin(episode: &Episode) -> (Box<dyn Environment>, Vec<f32>) {
    fn begun<E: Environment + 'static>(
        mut environment: E,
        begin: impl FnOnce(&mut E) -> &[f32],
    ) -> (Box<dyn Environment>, Vec<f32>) {
        let first = begin(&mut environment).to_vec();
        (Box::new(environment), first)
    }
    let numbers = &episode.setup[0];
    match EnvironmentConfig::parse(&episode.name).unwrap() {
        EnvironmentConfig::RepeatFirst(difficulty) => {
            begun(RepeatFirst::new(difficulty), |game| game.deal(&episode.cards(0)).unwrap())
        }
        EnvironmentConfig::RepeatPrevious(difficulty) => {
            begun(RepeatPrevious::new(difficulty), |game| game.deal(&episode.cards(0)).unwrap())
        }
        EnvironmentConfig::Autoencode(difficulty) => {
            begun(Autoencode::new(difficulty), |game| game.deal(&episode.cards(0)).unwrap())
        }
        EnvironmentConfig::CountRecall(difficulty) => {
            begun(CountRecall::new(difficulty), |game| game.deal(&episode.cards(0), &episode.cards(1)).unwrap())
        }
        EnvironmentConfig::Concentration(difficulty) => {
            begun(Concentration::new(difficulty), |game| game.deal(&episode.cards(0)).unwrap())
        }
        EnvironmentConfig::Battleship(difficulty) => begun(Battleship::new(difficulty), |game| {
            game.place(&numbers.iter().map(|ship| *ship == 1.0).collect::<Vec<bool>>()).unwrap()
        }),
        EnvironmentConfig::HigherLower(difficulty) => {
            begun(HigherLower::new(difficulty), |game| game.deal(&episode.cards(0)).unwrap())
        }
        EnvironmentConfig::MultiarmedBandit(difficulty) => begun(MultiarmedBandit::new(difficulty), |game| {
            game.set(&numbers.iter().map(|arm| *arm as f32).collect::<Vec<f32>>(), 0).unwrap()
        }),
        EnvironmentConfig::PositionOnlyCartPole(difficulty) => begun(PositionOnlyCartPole::new(difficulty), |game| {
            game.set([numbers[0], numbers[1], numbers[2], numbers[3]])
        }),
        other => panic!("{other:?} is not of POPGym"),
    }
}

/// Ours are f32: what is below 8 is off by half of 2⁻²¹ at most.
fn assert_same(name: &str, step: usize, found: &[f32], original: &[f64]) {
    let same = |(found, original): (&f32, &f64)| (f64::from(*found) - original).abs() < 2.5e-7;
    let all = found.len() == original.len() && found.iter().zip(original).all(same);
    assert!(all, "{name}, step {step}: {found:?} instead of {original:?}");
}

#[test]
fn every_step_is_that_of_the_original() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/originals.py");
    let output = Command::new("python3").arg(script).output();
    let Some(output) = output.ok().filter(|output| output.status.code() != Some(3)) else {
        // Not through `eprintln`, which a test that passes keeps to itself.
        writeln!(std::io::stderr(), "SKIPPED: no python3 with popgym, nothing was compared with the originals")
            .unwrap();
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut compared = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let episode: Episode = serde_json::from_str(line).unwrap();
        let (mut environment, first) = begin(&episode);
        let actions = choices(environment.as_ref());
        assert!(
            episode.actions.iter().all(|action| *action < actions),
            "{}: more than {actions} actions",
            episode.name
        );
        assert_same(&episode.name, 0, &first, &episode.observations[0]);
        for (at, action) in episode.actions.iter().enumerate() {
            let step = act(environment.as_mut(), *action);
            assert_same(&episode.name, at + 1, step.observation, &episode.observations[at + 1]);
            assert_same(&episode.name, at + 1, &[step.reward], &[episode.rewards[at]]);
            let ending = match episode.endings[at] {
                [false, false] => Ending::Running,
                [true, _] => Ending::Terminated,
                [false, true] => Ending::Truncated,
            };
            assert_eq!(step.ending, ending, "{}, step {}", episode.name, at + 1);
        }
        let (episodes, steps) = compared.entry(episode.name).or_insert((0, 0));
        (*episodes, *steps) = (*episodes + 1, *steps + episode.actions.len());
    }
    let popgym = EnvironmentConfig::all().into_iter().filter(|config| config.random_return().is_some());
    assert!(popgym.map(|config| config.name()).all(|name| compared.contains_key(&name)), "{compared:?}");
    println!("episodes and steps: {compared:#?}");
}
