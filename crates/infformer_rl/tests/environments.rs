//! The environments keep their published rules: by hand-made decks, by players that remember everything, by random
//! actions whose mean return is known exactly or was published, and by whatever proptest thinks of.
#![allow(clippy::unwrap_used, clippy::panic)]

mod playing;

use infformer::model::Input;
use infformer_rl::environment::{Action, ActionSpace, Ending, Environment};
use infformer_rl::environments::*;
use playing::{act, choices};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;

/// What happened in one episode.
#[derive(Debug, Clone, PartialEq)]
struct Episode {
    /// The first one included.
    observations: Vec<Vec<f32>>,
    rewards: Vec<f32>,
    ending: Ending,
}

impl Episode {
    fn steps(&self) -> usize {
        self.rewards.len()
    }

    fn total(&self) -> f64 {
        self.rewards.iter().map(|reward| f64::from(*reward)).sum()
    }
}

/// Plays an episode that was begun; the player is given everything seen so far.
fn play(environment: &mut dyn Environment, first: Vec<f32>, mut player: impl FnMut(&[Vec<f32>]) -> usize) -> Episode {
    let mut episode = Episode { observations: vec![first], rewards: vec![], ending: Ending::Running };
    while episode.ending == Ending::Running {
        let step = act(environment, player(&episode.observations));
        episode.observations.push(step.observation.to_vec());
        episode.rewards.push(step.reward);
        episode.ending = step.ending;
    }
    episode
}

fn play_from_seed(config: EnvironmentConfig, seed: u64, player: impl FnMut(&[Vec<f32>]) -> usize) -> Episode {
    let mut environment = config.make();
    let first = environment.reset(seed).to_vec();
    play(environment.as_mut(), first, player)
}

/// Plays these actions and gives the rewards.
fn rewards(environment: &mut dyn Environment, actions: &[usize]) -> Vec<f32> {
    actions.iter().map(|action| act(environment, *action).reward).collect()
}

/// Rewards are f32: a thousand of them, none above 1 in size, each off by at most 6e-8 of itself, make less than 1e-5 where they sum to
/// no more than a few.
fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
}

/// Decks of which nobody shuffled any.
fn in_order(decks: usize) -> Vec<u8> {
    (0..decks).flat_map(|_| 0..52).collect()
}

const SEEDS: std::ops::Range<u64> = 0..20;

#[test]
fn repeat_first_asks_for_the_first_suit() {
    let mut game = RepeatFirst::new(Difficulty::Easy);
    let deck: Vec<u8> = (0..52).map(|card| (card + 2) % 52).collect();
    for (answer, total) in [(2, 1.0), (1, -1.0)] {
        let first = game.deal(&deck).unwrap().to_vec();
        let episode = play(&mut game, first, |_| answer);
        assert!(episode.observations.iter().zip(&deck).all(|(seen, card)| *seen == [f32::from(card % 4)]));
        assert_eq!((episode.steps(), episode.ending), (51, Ending::Terminated));
        assert_close(episode.total(), total);
    }
    for (difficulty, steps) in Difficulty::ALL.into_iter().zip([51, 415, 831]) {
        for seed in SEEDS {
            let player = |seen: &[Vec<f32>]| seen[0][0] as usize;
            let episode = play_from_seed(EnvironmentConfig::RepeatFirst(difficulty), seed, player);
            assert_eq!(episode.steps(), steps);
            assert_close(episode.total(), 1.0);
        }
    }
}

#[test]
fn repeat_previous_asks_once_enough_was_seen() {
    let mut game = RepeatPrevious::new(Difficulty::Easy);
    // Suits go 0, 1, 2, 3, 0, …: four cards seen, the one asked for is that of four steps on.
    game.deal(&in_order(1)).unwrap();
    let found = rewards(&mut game, &[0, 0, 0, 0, 1, 0]);
    let share = 1.0 / 48.0;
    assert_eq!(found, [0.0, 0.0, 0.0, share, share, -share]);
    for (difficulty, (steps, k)) in Difficulty::ALL.into_iter().zip([(51, 4), (103, 32), (155, 64)]) {
        for seed in SEEDS {
            let player = |seen: &[Vec<f32>]| seen.len().checked_sub(k).map_or(0, |place| seen[place][0] as usize);
            let episode = play_from_seed(EnvironmentConfig::RepeatPrevious(difficulty), seed, player);
            assert_eq!((episode.steps(), episode.ending), (steps, Ending::Terminated));
            assert!(episode.rewards[..k - 1].iter().all(|reward| *reward == 0.0));
            assert_close(episode.total(), 1.0);
        }
    }
}

#[test]
fn autoencode_shows_all_and_asks_for_all_in_reverse() {
    let mut game = Autoencode::new(Difficulty::Easy);
    let first = game.deal(&in_order(1)).unwrap().to_vec();
    assert_eq!(first, [1.0, 0.0]);
    // The last suits are 3, 2, 1, 0, 3, …, which is the suit of 51 − place.
    let episode = play(&mut game, first, |seen| (103 - seen.len()) % 4);
    assert_eq!(episode.observations[50], [1.0, 2.0]);
    assert_eq!(episode.observations[51], [0.0, 3.0], "the last card comes with PLAY");
    assert!(episode.observations[52..].iter().all(|seen| *seen == [0.0, 0.0]));
    assert!(episode.rewards[..51].iter().all(|reward| *reward == 0.0));
    assert_close(episode.total(), 1.0);
    for (difficulty, cards) in Difficulty::ALL.into_iter().zip([52, 104, 156]) {
        for seed in SEEDS {
            // Before PLAY any answer will do.
            let player = |seen: &[Vec<f32>]| seen[(2 * cards - 1 - seen.len()).min(seen.len() - 1)][1] as usize;
            let episode = play_from_seed(EnvironmentConfig::Autoencode(difficulty), seed, player);
            assert_eq!((episode.steps(), episode.ending), (2 * cards - 1, Ending::Terminated));
            assert_close(episode.total(), 1.0);
        }
    }
}

/// How often the class asked for was dealt.
fn count(seen: &[Vec<f32>]) -> usize {
    let question = seen[seen.len() - 1][1];
    seen.iter().filter(|seen| seen[0] == question).count()
}

#[test]
fn count_recall_asks_how_often() {
    let mut game = CountRecall::new(Difficulty::Easy);
    // Dealt: 0, 1, 0, 1, …; asked: 0, 1, 0, 1, …
    game.deal(&in_order(1), &in_order(1)).unwrap();
    let share = 1.0 / 51.0;
    assert_eq!(rewards(&mut game, &[1, 1, 2, 2, 2]), [share, share, share, share, -share]);
    // Asked for the colour that is not dealt at all until the 27th card: 0 each time, then 1, 2, …
    let (black, red): (Vec<u8>, Vec<u8>) = in_order(1).into_iter().partition(|card| card % 2 == 0);
    let dealt: Vec<u8> = black.iter().chain(&red).copied().collect();
    let asked: Vec<u8> = red.iter().chain(&black).copied().collect();
    let first = game.deal(&dealt, &asked).unwrap().to_vec();
    assert_eq!(first, [0.0, 1.0]);
    let episode = play(&mut game, first, |_| 0);
    assert!(episode.rewards[..26].iter().all(|reward| *reward > 0.0));
    for (difficulty, (steps, most)) in Difficulty::ALL.into_iter().zip([(51, 26), (103, 26), (207, 16)]) {
        assert_eq!(choices(&CountRecall::new(difficulty)), most);
        for seed in SEEDS {
            let mut unanswerable = 0;
            let player = |seen: &[Vec<f32>]| {
                unanswerable += usize::from(count(seen) == most);
                count(seen)
            };
            let episode = play_from_seed(EnvironmentConfig::CountRecall(difficulty), seed, player);
            assert_eq!((episode.steps(), episode.ending), (steps, Ending::Terminated));
            assert_close(episode.total(), 1.0 - 2.0 * unanswerable as f64 / steps as f64);
        }
    }
    // A pair of piles without a question that cannot be answered reaches the bound.
    let asked: Vec<u8> = (1..53).map(|card| card % 52).collect();
    let first = game.deal(&in_order(1), &asked).unwrap().to_vec();
    assert_close(play(&mut game, first, count).total(), 1.0);
}

#[test]
fn concentration_keeps_pairs_and_punishes_the_rest() {
    let mut game = Concentration::new(Difficulty::Hard);
    // Places 0 to 3 have rank 0, places 4 to 7 rank 1, …
    assert!(game.deal(&in_order(1)).unwrap().iter().all(|seen| *seen == 13.0));
    let (pair, fault) = (1.0 / 26.0, 1.0 / 104.0);
    let script = [
        (0, 0.0, vec![(0, 0.0)]),
        (1, pair, vec![(0, 0.0), (1, 0.0)]),
        (0, -fault, vec![(0, 0.0), (1, 0.0)]),
        (4, 0.0, vec![(0, 0.0), (1, 0.0), (4, 1.0)]),
        (0, -2.0 * fault, vec![(0, 0.0), (1, 0.0), (4, 1.0)]),
        (4, 0.0, vec![(0, 0.0), (1, 0.0), (4, 1.0)]),
        (4, -2.0 * fault, vec![(0, 0.0), (1, 0.0), (4, 1.0)]),
        (51, 0.0, vec![(0, 0.0), (1, 0.0), (51, 12.0)]),
        (4, -2.0 * fault, vec![(0, 0.0), (1, 0.0), (4, 1.0), (51, 12.0)]),
        (5, 0.0, vec![(0, 0.0), (1, 0.0), (5, 1.0)]),
    ];
    for (card, reward, seen) in script {
        let step = game.step(Action::Discrete(card));
        assert_eq!(step.reward, reward);
        let face_up = (0..52).filter(|place| step.observation[*place] != 13.0);
        assert!(face_up.map(|place| (place, step.observation[place])).eq(seen));
    }
    for (difficulty, steps) in Difficulty::ALL.into_iter().zip([104, 208, 104]) {
        let mut game = Concentration::new(difficulty);
        let cards = choices(&game);
        // Neighbours by colour, or by rank.
        let mut deck = in_order(cards / 52);
        deck.sort_by_key(|card| if difficulty == Difficulty::Hard { card / 4 } else { card % 2 });
        let first = game.deal(&deck).unwrap().to_vec();
        let episode = play(&mut game, first.clone(), |seen| seen.len() - 1);
        assert_eq!((episode.steps(), episode.ending), (cards, Ending::Terminated));
        assert_close(episode.total(), 1.0);
        game.deal(&deck).unwrap();
        let episode = play(&mut game, first, |_| 0);
        assert_eq!((episode.steps(), episode.ending), (steps, Ending::Truncated));
        assert_close(episode.total(), -1.0);
    }
}

#[test]
fn battleship_counts_first_hits() {
    let mut game = Battleship::new(Difficulty::Easy);
    let cells = [0, 1, 8, 9, 10, 16, 17, 18, 24, 25, 26, 27];
    let mut ships = [false; 64];
    cells.iter().for_each(|cell| ships[*cell] = true);
    let first = game.place(&ships).unwrap().to_vec();
    let episode = play(&mut game, first.clone(), |seen| cells[seen.len() - 1]);
    assert_eq!((episode.steps(), episode.ending), (12, Ending::Terminated));
    assert!(episode.observations[1..].iter().all(|seen| *seen == [1.0]));
    assert_close(episode.total(), 1.0);
    game.place(&ships).unwrap();
    let episode = play(&mut game, first, |_| 63);
    assert_eq!((episode.steps(), episode.ending), (64, Ending::Truncated));
    assert_close(episode.total(), -64.0 / 52.0);
    game.place(&ships).unwrap();
    let (hit, miss) = (1.0 / 12.0, -1.0 / 52.0);
    assert_eq!(rewards(&mut game, &[0, 0, 2, 1]), [hit, miss, miss, hit]);
    assert_eq!(game.actions(), ActionSpace::MultiDiscrete(&[8, 8]));
    // A row or a column that does not exist is the last, and so are those of an action of another kind.
    ships = [false; 64];
    [7, 15, 23, 31, 39, 56, 57, 58, 59, 60, 61, 63].iter().for_each(|cell| ships[*cell] = true);
    for (action, hits) in [
        (Action::MultiDiscrete(&[0.0, 9.0]), true),
        (Action::MultiDiscrete(&[8.0, 0.0]), true),
        (Action::MultiDiscrete(&[0.0, 0.0]), false),
        (Action::MultiDiscrete(&[0.0, f32::NAN]), true),
        (Action::MultiDiscrete(&[-1.0, 0.0]), true),
        (Action::MultiDiscrete(&[0.0]), true),
        (Action::MultiDiscrete(&[0.0; 3]), true),
        (Action::Discrete(0), true),
    ] {
        game.place(&ships).unwrap();
        assert_eq!(game.step(action).observation, [f32::from(u8::from(hits))], "{action:?}");
    }
    for (difficulty, cells) in Difficulty::ALL.into_iter().zip([64, 100, 144]) {
        for seed in SEEDS {
            let episode = play_from_seed(EnvironmentConfig::Battleship(difficulty), seed, |seen| seen.len() - 1);
            let misses = episode.observations[1..].iter().filter(|seen| seen[0] == 0.0).count();
            assert_eq!(episode.steps(), misses + 12);
            let mut board: Vec<bool> = episode.observations[1..].iter().map(|seen| seen[0] == 1.0).collect();
            board.resize(cells, false);
            assert!(is_fleet(&mut board, cells.isqrt(), &[2, 3, 3, 4]), "{difficulty:?} {seed}");
            assert_close(episode.total(), 1.0 - misses as f64 / (cells - 12) as f64);
        }
    }
}

/// Whether a board is made of straight ships of these sizes, and of nothing else.
fn is_fleet(board: &mut [bool], side: usize, sizes: &[usize]) -> bool {
    let Some(first) = board.iter().position(|ship| *ship) else { return sizes.is_empty() };
    sizes.iter().enumerate().any(|(number, size)| {
        [(1, side - first % side), (side, side - first / side)].into_iter().any(|(step, room)| {
            let own = (0..*size).map(|part| first + part * step);
            if *size > room || !own.clone().all(|cell| board[cell]) {
                return false;
            }
            own.clone().for_each(|cell| board[cell] = false);
            let mut others = sizes.to_vec();
            others.remove(number);
            let found = is_fleet(board, side, &others);
            own.for_each(|cell| board[cell] = true);
            found
        })
    })
}

/// What tells a fleet from twelve cells.
#[test]
fn a_fleet_is_straight_ships() {
    let board = |cells: &[usize]| (0..64).map(|cell| cells.contains(&cell)).collect::<Vec<bool>>();
    let sizes = [2, 3, 3, 4];
    // 4 and 3 in a row, 3 in a column, 2 in a row beside it.
    assert!(is_fleet(&mut board(&[0, 1, 2, 3, 4, 5, 6, 8, 16, 24, 17, 18]), 8, &sizes));
    // A ship around the end of a row; one cell by itself; a ship of five.
    assert!(!is_fleet(&mut board(&[0, 1, 2, 3, 22, 23, 24, 40, 41, 42, 60, 61]), 8, &sizes));
    assert!(!is_fleet(&mut board(&[0, 2, 4, 5, 6, 8, 16, 24, 32, 34, 35, 36]), 8, &sizes));
    assert!(!is_fleet(&mut board(&[0, 1, 2, 3, 4, 16, 17, 18, 32, 33, 48, 50]), 8, &sizes));
}

#[test]
fn higher_lower_compares_ranks() {
    let mut game = HigherLower::new(Difficulty::Easy);
    // Four of each rank: ties, and one step up after every fourth.
    game.deal(&in_order(1)).unwrap();
    let share = 1.0 / 52.0;
    assert_eq!(rewards(&mut game, &[0, 1, 0, 0, 0, 1, 0, 1]), [0.0, 0.0, 0.0, share, 0.0, 0.0, 0.0, -share]);
    for (difficulty, decks) in Difficulty::ALL.into_iter().zip([1, 2, 3]) {
        let mut game = HigherLower::new(difficulty);
        // 0, 1, …, 12, 0, …: no ties.
        let deck: Vec<u8> = (0..52 * decks).map(|place| (place % 13 * 4) as u8).collect();
        for (turn, bound) in [(0, 1), (1, 0)] {
            let first = game.deal(&deck).unwrap().to_vec();
            let player = |seen: &[Vec<f32>]| usize::from(seen[seen.len() - 1][0] == 12.0) ^ turn;
            let episode = play(&mut game, first, player);
            assert_eq!((episode.steps(), episode.ending), (52 * decks - 1, Ending::Terminated));
            assert_close(episode.total(), game.returns()[bound]);
        }
        let mut mean = 0.0;
        for seed in 0..2_000 {
            let player = |seen: &[Vec<f32>]| usize::from(seen[seen.len() - 1][0] > 6.0);
            mean += play_from_seed(EnvironmentConfig::HigherLower(difficulty), seed, player).total() / 2_000.0;
        }
        // Of 13 ranks, rank r has 4 (12 − r) cards of each deck above it and 4 r below: without memory the difference is won. A step is
        // off by less than 1, so the mean of 2,000 episodes of 51 steps or more by a standard error below .0032: four of them.
        let others = (52 * decks - 1) as f64;
        let expected =
            (0..13).map(|rank: i32| f64::from((12 - 2 * rank).abs()) / 13.0).sum::<f64>() * (4 * decks) as f64 / others;
        assert!((mean - expected).abs() < 0.013, "{mean} instead of {expected}");
    }
}

#[test]
fn bandits_pay_by_their_probabilities() {
    for (difficulty, (arms, steps)) in Difficulty::ALL.into_iter().zip([(10, 200), (20, 400), (30, 600)]) {
        let mut game = MultiarmedBandit::new(difficulty);
        assert_eq!(choices(&game), arms);
        let mut probabilities = vec![0.0; arms];
        (probabilities[3], probabilities[4]) = (1.0, 0.3);
        for (arm, paid) in [(3, 1.0), (0, 0.0)] {
            let first = game.set(&probabilities, 0).unwrap().to_vec();
            assert_eq!(first, [0.0]);
            let episode = play(&mut game, first, |_| arm);
            assert_eq!((episode.steps(), episode.ending), (steps, Ending::Truncated));
            assert!(episode.observations[1..].iter().all(|seen| *seen == [paid]));
            assert_close(episode.total(), f64::from(2.0 * paid - 1.0));
        }
        let mut mean = 0.0;
        for seed in 0..100 {
            let first = game.set(&probabilities, seed).unwrap().to_vec();
            mean += play(&mut game, first, |_| 4).total() / 100.0;
        }
        // 2 √(.3 · .7 / 200) = .065 an episode of 200 steps, .0065 for the mean of 100: four standard errors.
        assert!((mean - -0.4).abs() < 0.026, "{mean}");
    }
}

#[test]
fn the_pole_falls_by_its_physics() {
    let mut game = PositionOnlyCartPole::new(Difficulty::Easy);
    assert_eq!(game.set([0.0; 4]), [0.0, 0.0]);
    game.step(Action::Discrete(1));
    let step = game.step(Action::Discrete(1));
    // By hand: 10 N give 400/41 m/s² and −600/41 rad/s²; Euler moves by them after two steps.
    assert_close(f64::from(step.observation[0]), 0.0004 * 400.0 / 41.0);
    assert_close(f64::from(step.observation[1]), 0.0004 * -600.0 / 41.0);
    assert_close(f64::from(step.reward), 1.0 / 200.0);
    for (difficulty, steps) in Difficulty::ALL.into_iter().zip([200, 400, 600]) {
        // The angle and what it will soon be, from two observations.
        let player = |seen: &[Vec<f32>]| {
            let (now, before) = (&seen[seen.len() - 1], &seen[seen.len().saturating_sub(2)]);
            let (angle, turning) = (now[1], (now[1] - before[1]) / 0.02);
            let (x, velocity) = (now[0], (now[0] - before[0]) / 0.02);
            usize::from(angle + 0.3 * turning + 0.03 * x + 0.06 * velocity > 0.0)
        };
        for seed in SEEDS {
            let episode = play_from_seed(EnvironmentConfig::PositionOnlyCartPole(difficulty), seed, player);
            assert_eq!((episode.steps(), episode.ending), (steps, Ending::Truncated));
            assert_close(episode.total(), 1.0);
        }
    }
    // The corners of all first states fall in 8 steps at the soonest.
    let corners = (0..16).map(|corner| [0, 1, 2, 3].map(|bit| if corner >> bit & 1 == 1 { 0.05 } else { -0.05 }));
    let fewest = corners.flat_map(|state| [0, 1].map(|action| (state, action))).map(|(state, action)| {
        let first = game.set(state).to_vec();
        play(&mut game, first, |_| action).total()
    });
    assert_close(fewest.fold(1.0, f64::min), PositionOnlyCartPole::new(Difficulty::Easy).returns()[0]);
}

#[test]
fn the_maze_rewards_the_turn_that_was_shown() {
    for penalty in [Penalty::BehindTime, Penalty::AnyWrongMove] {
        for (corridor, seed) in [1, 2, 5, 500].into_iter().flat_map(|corridor| SEEDS.map(move |seed| (corridor, seed)))
        {
            let config = EnvironmentConfig::TMaze { corridor, penalty };
            let towards = |sign: f32| {
                move |seen: &[Vec<f32>]| match seen[seen.len() - 1][0] == 1.0 {
                    true if sign * seen[0][1] > 0.0 => 1,
                    true => 3,
                    false => 0,
                }
            };
            let episode = play_from_seed(config, seed, towards(1.0));
            assert_eq!((episode.steps(), episode.ending), (corridor + 1, Ending::Terminated));
            assert!(episode.observations[1..corridor].iter().all(|seen| *seen == [0.0, 0.0]));
            assert_eq!(episode.observations[corridor], [1.0, 0.0]);
            assert_eq!(episode.observations[corridor + 1], [1.0, episode.observations[0][1]]);
            assert_close(episode.total(), 1.0);
            assert_close(play_from_seed(config, seed, towards(-1.0)).total(), 0.0);
            assert_close(play_from_seed(config, seed, |_| 2).total(), -1.0);
            // One step late: behind time ever after, or one wrong move; and no turn either way.
            let late = play_from_seed(config, seed, |seen| if seen.len() == 1 { 2 } else { 0 });
            assert_eq!(late.observations[1], [0.0, 0.0], "the sign is not shown again");
            assert_close(late.total(), if penalty == Penalty::BehindTime { -1.0 } else { -1.0 / corridor as f64 });
        }
    }
    // Of the distractions none tells the side, and about one tick in eight is one.
    let (mut sides, mut with_the_goal) = (0, 0);
    for seed in 0..100 {
        let config = EnvironmentConfig::DistractingTMaze { least: 200, most: 200 };
        let episode = play_from_seed(config, seed, |_| 0);
        let shown = episode.observations[1..200].iter().map(|seen| seen[1] * episode.observations[0][1]);
        let shown: Vec<f32> = shown.filter(|side| *side != 0.0).collect();
        sides += shown.len();
        with_the_goal += shown.iter().filter(|side| **side == 1.0).count();
        assert_close(episode.total(), 0.0);
    }
    // Five standard deviations of 19,900 draws and of their halves.
    assert!((sides as f64 - 19_900.0 / 8.0).abs() < 5.0 * (19_900.0 * 7.0 / 64.0f64).sqrt(), "{sides}");
    assert!((with_the_goal as f64 - sides as f64 / 2.0).abs() < 2.5 * (sides as f64).sqrt(), "{with_the_goal}");
    let far = EnvironmentConfig::TMaze { corridor: 1_000_000, penalty: Penalty::BehindTime };
    let mut maze = far.make();
    let up = maze.reset(3)[1] > 0.0;
    assert!((0..1_000_000).all(|_| maze.step(Action::Discrete(0)).ending == Ending::Running));
    let step = maze.step(Action::Discrete(if up { 1 } else { 3 }));
    assert_eq!((step.reward, step.ending), (1.0, Ending::Terminated));
    assert!(size_of::<TMaze>() < 100, "no longer for a longer corridor");
}

#[test]
fn the_memory_chain_asks_for_one_bit() {
    let config = EnvironmentConfig::MemoryChain { length: 3, bits: 2 };
    for seed in SEEDS {
        let bit = |seen: &[Vec<f32>]| usize::from(seen[0][2 + seen[seen.len() - 1][1] as usize] > 0.0);
        let episode = play_from_seed(config, seed, bit);
        assert_eq!((episode.steps(), episode.ending), (4, Ending::Terminated));
        assert_eq!(episode.rewards, [0.0, 0.0, 0.0, 1.0]);
        let seen = &episode.observations;
        assert_eq!(seen[0][..2], [1.0, 0.0]);
        assert!(seen[0][2..].iter().all(|bit| bit.abs() == 1.0));
        assert_eq!(seen[1], seen[0], "as in the source, the bits are shown twice");
        assert_eq!(seen[2], [1.0 - 1.0 / 3.0, 0.0, 0.0, 0.0]);
        assert_eq!((seen[3][0], &seen[3][2..]), (1.0 - 2.0 / 3.0, &[0.0, 0.0][..]));
        assert_eq!(seen[4], [0.0, 0.0, 0.0, 0.0]);
        assert_close(play_from_seed(config, seed, |seen| 1 - bit(seen)).total(), -1.0);
        for length in [1, 256] {
            let episode = play_from_seed(EnvironmentConfig::MemoryChain { length, bits: 5 }, seed, bit);
            assert_eq!(episode.steps(), length + 1);
            assert_close(episode.total(), 1.0);
        }
    }
    let asked = |seed| play_from_seed(config, seed, |_| 0).observations[3][1];
    assert!(SEEDS.map(asked).any(|bit| bit == 0.0) && SEEDS.map(asked).any(|bit| bit == 1.0));
}

#[test]
fn the_proof_of_memory_is_the_walk_to_the_good_end() {
    let bounds = ProofOfMemory::new().returns();
    let mut totals = vec![];
    for seed in 0..100 {
        let best = |seen: &[Vec<f32>]| usize::from(seen[0][2] > 0.0);
        let episode = play_from_seed(EnvironmentConfig::ProofOfMemory, seed, best);
        let first = &episode.observations[0];
        assert!([-0.4, -0.2, 0.0, 0.2, 0.4].contains(&first[1]) && first[0] == -first[2]);
        assert!(episode.observations[1..3].iter().all(|seen| seen == first), "two steps that do not move");
        assert!(episode.observations[3..].iter().all(|seen| seen[0] == 0.0 && seen[2] == 0.0));
        let way = ((first[2] - first[1]).abs() * 5.0).round() as usize;
        assert_eq!((episode.steps(), episode.ending), (way + 2, Ending::Terminated));
        assert_close(episode.total(), 1.6 - 0.1 * (way - 1) as f64);
        totals.push(episode.total());
        // To and fro until there is just time for the bad end.
        let worst = |seen: &[Vec<f32>]| {
            let [bad, now] = [-seen[0][2], seen[seen.len() - 1][1]];
            let way = ((bad - now).abs() * 5.0).round() as usize;
            let towards = usize::from(bad > 0.0);
            if way + 2 <= 17 - seen.len() && seen.len() > 2 { 1 - towards } else { towards }
        };
        let episode = play_from_seed(EnvironmentConfig::ProofOfMemory, seed, worst);
        totals.push(episode.total());
        // Never an end.
        let episode =
            play_from_seed(EnvironmentConfig::ProofOfMemory, seed, |seen| usize::from(seen[seen.len() - 1][1] < 0.0));
        assert_eq!((episode.steps(), episode.ending), (16, Ending::Truncated));
        assert_close(episode.total(), -1.4);
    }
    assert_close(totals.iter().copied().fold(0.0, f64::min), bounds[0]);
    assert_close(totals.iter().copied().fold(0.0, f64::max), bounds[1]);
}

#[test]
fn names_are_inverted() {
    let mut all = EnvironmentConfig::all();
    all.push(EnvironmentConfig::TMaze { corridor: 1_000_000, penalty: Penalty::AnyWrongMove });
    all.push(EnvironmentConfig::MemoryChain { length: 256, bits: 4 });
    for config in &all {
        assert_eq!(EnvironmentConfig::parse(&config.name()), Some(*config));
    }
    let named = |name: &str| EnvironmentConfig::parse(name);
    assert_eq!(named("repeat-first-easy"), Some(EnvironmentConfig::RepeatFirst(Difficulty::Easy)));
    assert_eq!(named("memory-chain-256"), Some(EnvironmentConfig::MemoryChain { length: 256, bits: 1 }));
    let maze = |penalty| Some(EnvironmentConfig::TMaze { corridor: 500, penalty });
    assert_eq!(named("t-maze-500"), maze(Penalty::BehindTime));
    assert_eq!(named("t-maze-500-any-wrong-move"), maze(Penalty::AnyWrongMove));
    for name in ["", "repeat-first", "t-maze-", "t-maze-0", "t-maze-0500", "memory-chain--1"] {
        assert_eq!(named(name), None, "{name}");
    }
    for bits in ["1", "1001", "999999999999999"] {
        assert_eq!(named(&format!("memory-chain-5-bits-{bits}")), None, "{bits}");
    }
}

/// Mean and standard error of the return of random actions.
fn random_play(config: EnvironmentConfig, episodes: u64) -> [f64; 2] {
    let mut environment = config.make();
    let choices = choices(environment.as_ref());
    let mut random = ChaCha8Rng::seed_from_u64(77);
    let (mut sum, mut squares) = (0.0, 0.0);
    for seed in 0..episodes {
        environment.reset(seed);
        let mut total = 0.0;
        loop {
            let step = act(environment.as_mut(), random.random_range(0..choices));
            total += f64::from(step.reward);
            if step.ending != Ending::Running {
                break;
            }
        }
        sum += total;
        squares += total * total;
    }
    let count = episodes as f64;
    let mean = sum / count;
    [mean, ((squares / count - mean * mean) / count).sqrt()]
}

/// A class counts `most` cards among `cards`. After t of them were dealt all of that class were, with probability
/// C(cards − most, t − most)/C(cards, t); then no answer is right, else one of `most`.
fn count_recall_by_chance(cards: usize, most: usize) -> f64 {
    let complete =
        |t: usize| (0..most).map(|card| t.saturating_sub(card) as f64 / (cards - card) as f64).product::<f64>();
    let answerable: f64 = (1..cards).map(|t| 1.0 - complete(t)).sum::<f64>() / (cards - 1) as f64;
    -1.0 + 2.0 / most as f64 * answerable
}

/// By the number of hits so far, from the last step to the first.
fn battleship_by_chance(cells: usize) -> f64 {
    let (hit, miss) = (1.0 / 12.0, -1.0 / (cells - 12) as f64);
    let mut value = [0.0; 13];
    for _ in 0..cells {
        for hits in 0..12 {
            let chance = (12 - hits) as f64 / cells as f64;
            value[hits] = chance * (hit + value[hits + 1]) + (1.0 - chance) * (miss + value[hits]);
        }
    }
    value[0]
}

/// What is still to come with `left` steps: `down` tells how many cards of each class lie face down, and `first` how
/// many of the class of the first card of the attempt.
fn concentration_by_chance(
    cards: usize,
    left: usize,
    down: &[usize],
    first: Option<usize>,
    known: &mut HashMap<(usize, Vec<usize>, Option<usize>), f64>,
) -> f64 {
    let all_down: usize = down.iter().sum();
    if left == 0 || all_down == 0 {
        return 0.0;
    }
    let key = (left, down.to_vec(), first);
    if let Some(value) = known.get(&key) {
        return *value;
    }
    let fault = 1.0 / (2 * cards) as f64;
    let chance = |count: usize| count as f64 / cards as f64;
    let again = concentration_by_chance(cards, left - 1, down, None, known);
    let value = match first {
        None => {
            let turned: f64 = down
                .iter()
                .filter(|class| **class > 0)
                .map(|class| chance(*class) * concentration_by_chance(cards, left - 1, down, Some(*class), known))
                .sum();
            turned + chance(cards - all_down) * (again - fault)
        }
        Some(class) => {
            let place = down.iter().position(|count| *count == class).unwrap();
            let mut fewer = down.to_vec();
            fewer[place] -= 2;
            fewer.sort_unstable();
            let found = chance(class - 1);
            let pair = 2.0 / cards as f64 + concentration_by_chance(cards, left - 1, &fewer, None, known);
            found * pair + (1.0 - found) * (again - 2.0 * fault)
        }
    };
    known.insert(key, value);
    value
}

/// The exact mean return of random actions, where it can be told.
fn by_chance(config: EnvironmentConfig) -> Option<f64> {
    use EnvironmentConfig::*;
    let of = |difficulty: Difficulty, values: [f64; 3]| values[difficulty as usize];
    Some(match config {
        // One suit of four is right.
        RepeatFirst(_) | RepeatPrevious(_) | Autoencode(_) => -0.5,
        CountRecall(difficulty) => {
            of(difficulty, [(52, 26), (104, 26), (208, 16)].map(|(cards, most)| count_recall_by_chance(cards, most)))
        }
        Concentration(difficulty) => {
            let games = [(52, vec![26; 2]), (104, vec![52; 2]), (52, vec![4; 13])];
            let (cards, down) = &games[difficulty as usize];
            concentration_by_chance(*cards, 2 * cards, down, None, &mut HashMap::new())
        }
        Battleship(difficulty) => of(difficulty, [64, 100, 144].map(battleship_by_chance)),
        HigherLower(_) | MultiarmedBandit(_) => 0.0,
        MemoryChain { .. } => 0.0,
        PositionOnlyCartPole(_) | TMaze { .. } | TMazes { .. } | DistractingTMaze { .. } | ProofOfMemory => {
            return None;
        }
    })
}

/// Whose published mean lies farther from the exact one, or from ours where none is known, than rounding explains.
/// All of them are what a mean of 100 episodes may be.
const ESTIMATED: [&str; 10] = [
    "repeat-first-easy",
    "repeat-previous-easy",
    "repeat-previous-hard",
    "battleship-easy",
    "battleship-hard",
    "higher-lower-medium",
    "higher-lower-hard",
    "multiarmed-bandit-easy",
    "multiarmed-bandit-hard",
    "position-only-cart-pole-easy",
];

#[test]
fn random_play_returns_what_chance_gives_and_what_was_published() {
    println!("| environment | ours | standard error | exact | published |");
    let mut unfit = vec![];
    for config in EnvironmentConfig::all() {
        let name = config.name();
        let [mean, error] = random_play(config, 10_000);
        let (exact, published) = (by_chance(config), config.random_return());
        let text = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.4}"));
        println!("| {name} | {mean:.4} | {error:.4} | {} | {} |", text(exact), text(published));
        if exact.is_some_and(|exact| (mean - exact).abs() > 4.0 * error) {
            unfit.push(format!("{name}: not what chance gives"));
        }
        // From 100 episodes the standard error is ten times that from 10,000.
        let theirs = if ESTIMATED.contains(&name.as_str()) { 10.0 * error } else { 0.0 };
        if published.is_some_and(|published| (mean - published).abs() > 0.005 + 3.0 * error.max(theirs)) {
            unfit.push(format!("{name}: not what was published"));
        }
    }
    assert!(unfit.is_empty(), "{unfit:#?}");
}

/// A wrong pile, board or arm is refused with what was expected, and the game goes on.
#[test]
fn wrong_beginnings_are_refused() {
    let mut game = CountRecall::new(Difficulty::Easy);
    let first = game.deal(&in_order(1), &in_order(1)).unwrap().to_vec();
    for (dealt, questions) in [(vec![0; 51], in_order(1)), (in_order(1), vec![52; 52])] {
        let told = game.deal(&dealt, &questions).unwrap_err().to_string();
        assert!(told.contains("51") && (told.contains("52")), "{told}");
    }
    let mut same = CountRecall::new(Difficulty::Easy);
    assert_eq!(same.deal(&in_order(1), &in_order(1)).unwrap(), first);
    for answer in 0..51 {
        let (found, expected) = (game.step(Action::Discrete(answer % 3)), same.step(Action::Discrete(answer % 3)));
        assert_eq!((found.observation, found.reward), (expected.observation, expected.reward));
    }
    let mut game = Battleship::new(Difficulty::Easy);
    assert!(game.place(&[true; 64]).unwrap_err().to_string().contains("64 and 64 found"));
    let mut game = MultiarmedBandit::new(Difficulty::Easy);
    assert!(game.set(&[0.5; 3], 0).unwrap_err().to_string().contains("3 found"));
}

fn any_config() -> impl Strategy<Value = EnvironmentConfig> {
    let penalty = prop_oneof![Just(Penalty::BehindTime), Just(Penalty::AnyWrongMove)];
    prop_oneof![
        3 => prop::sample::select(EnvironmentConfig::all()),
        1 => (1..40usize, penalty.clone()).prop_map(|(corridor, penalty)| EnvironmentConfig::TMaze { corridor, penalty }),
        1 => (1..40usize, penalty).prop_map(|(most, penalty)| EnvironmentConfig::TMazes { most, penalty }),
        1 => (1..40usize).prop_map(|most| EnvironmentConfig::DistractingTMaze { least: most, most }),
        1 => (1..40usize, 1..6usize).prop_map(|(length, bits)| EnvironmentConfig::MemoryChain { length, bits }),
    ]
}

/// Each observation is made of what the environment says it is made of.
fn check_observation(inputs: &[Input], observation: &[f32]) {
    let mut rest = observation;
    for input in inputs {
        let (own, others) = rest.split_at(input.channels());
        if let Input::Token { vocabulary, .. } = input {
            assert!(own[0].fract() == 0.0 && own[0] >= 0.0 && own[0] < *vocabulary as f32, "{own:?} in {input:?}");
        }
        assert!(own.iter().all(|value| value.is_finite()));
        rest = others;
    }
    assert!(rest.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_play_keeps_the_promises(
        config in any_config(),
        seed: u64,
        acting: u64,
        constant in prop::option::of(0..150usize),
    ) {
        let mut environment = config.make();
        let (inputs, bounds) = (environment.observations(), environment.returns());
        let choices = choices(environment.as_ref());
        // Also choices that do not exist.
        let player = || {
            let mut random = ChaCha8Rng::seed_from_u64(acting);
            move |_: &[Vec<f32>]| constant.unwrap_or_else(|| random.random_range(0..choices + 2))
        };
        prop_assert_eq!(act(environment.as_mut(), 0).ending, Ending::Terminated);
        let mut episodes = vec![];
        for _ in 0..2 {
            let first = environment.reset(seed).to_vec();
            let episode = play(environment.as_mut(), first, player());
            let last = episode.observations.last().unwrap();
            for _ in 0..3 {
                let step = act(environment.as_mut(), 0);
                prop_assert_eq!((step.observation, step.reward, step.ending), (&last[..], 0.0, Ending::Terminated));
            }
            episodes.push(episode);
        }
        prop_assert_eq!(&episodes[0], &episodes[1]);
        prop_assert_eq!(&episodes[0], &play_from_seed(config, seed, player()));
        episodes[0].observations.iter().for_each(|observation| check_observation(&inputs, observation));
        let total = episodes[0].total();
        prop_assert!(bounds[0] - 1e-5 <= total && total <= bounds[1] + 1e-5, "{} beyond {:?}", total, bounds);
    }
}
