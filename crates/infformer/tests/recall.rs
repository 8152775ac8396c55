//! What a memory answers: places of events, their ages in ticks, peaks, confidence.
#![allow(clippy::unwrap_used, clippy::panic)]

mod agents;

use agents::{Agent, every_policy, group, noise};
use infformer::{AnswerDetail, ChannelGroup, Forgetting, MemoryConfig, Query, Scale};

fn events_config() -> MemoryConfig {
    MemoryConfig::events(vec![
        ChannelGroup::new("position", &["x", "y"], "m", Scale::Given(5.0)),
        ChannelGroup::new("kind", &["berry", "nut"], "", Scale::Given(1.0)),
    ])
}

/// "Kind = berry" is answered with the place and the age of the berry, long after it left the short-term memory.
#[test]
fn an_event_is_found_by_its_content() {
    let config = events_config();
    let mut agent = Agent::new(&config);
    let layout = agent.engine.layout().clone();
    for tick in 0..5_000 {
        let values = if (1_000..1_008).contains(&tick) {
            [12.0, -7.0, 1.0, 0.0]
        } else {
            [0.1 * noise(tick as usize), 0.0, 0.0, 1.0]
        };
        agent.see(tick, &values);
    }
    let answer = agent.ask(5_000, Query::new().where_channel(&layout, "kind.berry", 1.0).unwrap());
    assert!((answer.value[0] - 12.0).abs() < 0.1 && (answer.value[1] + 7.0).abs() < 0.1, "{answer:?}");
    assert!((answer.age - 3_996.5).abs() < 8.0, "age {}", answer.age);
    assert!(answer.confidence > 0.99);
    let peak = answer.peaks().next().unwrap();
    assert!(peak.weight > 0.9 && (peak.value[0] - 12.0).abs() < 0.1);
    // Nothing in memory is like this.
    let nothing = agent.ask(5_000, Query::new().where_group(&layout, "position", &[500.0, 500.0]).unwrap());
    assert!(nothing.confidence < 1e-6);
}

/// An answer without peaks is the same answer, without peaks, whatever the policy.
#[test]
fn an_expectation_is_the_answer_without_its_peaks() {
    for config in every_policy(4) {
        let mut agent = Agent::new(&config);
        for tick in 0..300 {
            let values = [0.1 * noise(tick as usize), 0.0, f32::from(u8::from(tick % 50 < 5)), 1.0];
            agent.see(tick, &values);
        }
        let query = Query::from_masked(&[None, None, Some(1.0), None]);
        let whole = agent.ask(300, query.clone());
        let least = agent.ask(300, query.with_detail(AnswerDetail::Expectation));
        assert!(whole.peaks().len() > 0 && least.peaks().len() == 0);
        assert_eq!((&least.value, least.age, least.age_spread), (&whole.value, whole.age, whole.age_spread));
        assert_eq!(least.confidence, whole.confidence);
    }
}

/// A peak whose mass is below what f32 can divide by is told as it is.
#[test]
fn a_peak_may_weigh_next_to_nothing() {
    let mut config = events_config();
    config.recall.sharpness = 1.0;
    let mut agent = Agent::new(&config);
    // One moment is as asked, one is as unlike as makes exp(−86.9), all others are less like it than can be told.
    let far = 86.9_f32.sqrt();
    for tick in 0..300 {
        let kind = match tick {
            100..110 => 0.0,
            50 => far,
            _ => 20.0,
        };
        agent.see(tick, &[0.0, 0.0, kind, 0.0]);
    }
    let answer = agent.ask(300, Query::from_masked(&[None, None, Some(0.0), None]));
    let peak = answer.peaks().find(|peak| (1.0 / peak.weight).is_infinite()).unwrap();
    assert!(peak.weight > 0.0, "{peak:?}");
    // It is one cell, and all of itself; what is left is the rounding of f32.
    assert!((peak.age - 250.0).abs() < 0.01 && (peak.value[2] - far).abs() < 0.01, "{peak:?}");
}

/// Two sightings of one kind are two peaks, each with its own place and age.
#[test]
fn two_sightings_are_two_peaks() {
    let config = events_config();
    let mut agent = Agent::new(&config);
    for tick in 0..2_000 {
        let values = match tick {
            200..210 => [10.0, 0.0, 1.0, 0.0],
            900..910 => [-10.0, 5.0, 1.0, 0.0],
            _ => [0.0, 0.0, 0.0, 1.0],
        };
        agent.see(tick, &values);
    }
    let answer = agent.ask(2_000, Query::from_masked(&[None, None, Some(1.0), None]));
    let mut found: Vec<(f32, f32)> =
        answer.peaks().filter(|peak| peak.confidence > 0.9).map(|peak| (peak.value[0], peak.age)).collect();
    found.sort_by(|a, b| a.1.total_cmp(&b.1));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!((found[0].0 + 10.0).abs() < 0.1 && (found[0].1 - 1_095.5).abs() < 6.0, "{found:?}");
    assert!((found[1].0 - 10.0).abs() < 0.1 && (found[1].1 - 1_795.5).abs() < 6.0, "{found:?}");
}

/// Ages are told in ticks however many observations a tick brought, under every policy.
#[test]
fn the_clock_rides_through_every_policy() {
    for mut config in every_policy(1) {
        config.capacity = 32;
        config.short_term = 2;
        let mut agent = Agent::new(&config);
        // An observation every third tick, then three a tick; the value is the tick.
        let mut ticks: Vec<u64> = (0..60).map(|i| 3 * i).collect();
        ticks.extend((0..60).map(|i| 180 + i / 3));
        let now = *ticks.last().unwrap();
        ticks.iter().for_each(|tick| agent.see(*tick, &[*tick as f32 / 50.0]));
        let geometric = matches!(config.forgetting, Forgetting::Geometric { .. } | Forgetting::Sticky { .. });
        // A geometric memory reaches back no further than L·ln(N/2)/ln(1/τ) observations, sharply over half of that.
        let wanted: &[u64] = if geometric { &[195, 190] } else { &[190, 150, 120] };
        for &wanted in wanted {
            let answer = agent.ask(now + 10, Query::from_masked(&[Some(wanted as f32 / 50.0)]));
            let peak = answer.peaks().next().unwrap();
            let expected = (now + 10 - wanted) as f32;
            // To within a cell of the reading grid or two: 1/32 of the axis.
            let tolerance = 0.15 * expected + 6.0;
            assert!((peak.age - expected).abs() < tolerance, "{:?}: {} for {expected}", config.forgetting, peak.age);
        }
    }
}

/// The exact newest observations answer together with the signal.
#[test]
fn the_short_term_memory_is_exact() {
    for mut config in every_policy(1) {
        config.short_term = 8;
        config.recall.sharpness = 1e6;
        let mut agent = Agent::new(&config);
        (0..100).for_each(|tick| agent.see(tick, &[noise(tick as usize)]));
        for age in 0..8_u64 {
            let value = noise(99 - age as usize);
            let answer = agent.ask(99, Query::from_masked(&[Some(value)]));
            assert!((answer.peaks().next().unwrap().value[0] - value).abs() < 1e-3);
            assert_eq!(answer.confidence, 1.0, "{:?}", config.forgetting);
        }
    }
}

/// Sticky memories keep more of where attention was.
#[test]
fn attention_makes_a_memory_stick() {
    let config =
        every_policy(1).into_iter().find(|config| matches!(config.forgetting, Forgetting::Sticky { .. })).unwrap();
    let error_at_event = |attend: bool| {
        let mut agent = Agent::new(&config);
        for tick in 0..160 {
            let value = if (20..24).contains(&tick) { 1.0 } else { 0.0 };
            agent.see(tick, &[value]);
            if attend && tick >= 24 {
                agent.ask(tick, Query::from_masked(&[Some(1.0)]));
            }
        }
        let answer = agent.ask(160, Query::from_masked(&[Some(1.0)]));
        1.0 - answer.peaks().map(|peak| peak.value[0]).fold(0.0, f32::max)
    };
    assert!(error_at_event(true) < error_at_event(false));
}

/// A memory that has seen nothing says so.
#[test]
fn an_empty_memory_answers_nothing() {
    for config in every_policy(1) {
        let mut agent = Agent::new(&config);
        let answer = agent.ask(0, Query::from_masked(&[Some(1.0)]));
        assert!(answer.value.is_empty() && answer.confidence == 0.0 && answer.peaks().len() == 0);
    }
}

/// Learnt scales make channels of any unit comparable.
#[test]
fn learnt_scales_follow_the_channels() {
    let groups = vec![
        ChannelGroup::new("small", &["x"], "", Scale::Learnt),
        ChannelGroup::new("large", &["x"], "", Scale::Learnt),
    ];
    let mut agent = Agent::new(&MemoryConfig::events(groups));
    let mut plain = Agent::new(&MemoryConfig::events(group(2)));
    for tick in 0..500 {
        let value = noise(tick as usize / 20);
        agent.see(tick, &[1e-3 * value, 1e3 * value]);
        plain.see(tick, &[value, value]);
    }
    // One standard deviation off is one, in either unit.
    let deviation = (500.0_f32 / 3.0 / 500.0).sqrt();
    let small = agent.ask(500, Query::from_masked(&[Some(1e-3 * (1.2 + deviation)), None])).confidence;
    let large = agent.ask(500, Query::from_masked(&[None, Some(1e3 * (1.2 + deviation))])).confidence;
    assert!((small - large).abs() < 1e-3, "{small} {large}");
}
