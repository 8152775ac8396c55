//! Every memory: a segment and the same ticks one by one give the same; a reset is a fresh beginning for one member and
//! nothing for the others; states can be kept; networks to be compared have as many parameters.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::{DType, Device, Tensor};
use clap::ValueEnum;
use infformer::model::{Input, Normalisation, Reset};
use infformer::{Channel, Scale};
use infformer_rl::distribution::{Choice, choose, log_probability};
use infformer_rl::environment::{Action, ActionSpace, Ending};
use infformer_rl::environments::EnvironmentConfig;
use infformer_rl::memories::MemoryName;
use infformer_rl::memory::MemoryState;
use infformer_rl::policy::{Policy, PolicyConfig, PreviousActionInput, Said, Spaces};
use infformer_rl::rollout::{Discounts, advantages};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const MEMBERS: usize = 3;
/// Beyond the window of every memory: signals are written, blocks merge.
const TICKS: usize = 150;

fn spaces() -> Spaces {
    let channels = vec![Channel::new("x", "", Scale::Given(1.0)), Channel::new("y", "", Scale::Given(1.0))];
    Spaces::with_clock(vec![Input::Continuous { name: "seen".into(), channels }], ActionSpace::Discrete(3), None)
}

/// The named memory, narrow, with heads that say numbers of order 1.
fn policy(name: MemoryName) -> Policy {
    let config = PolicyConfig::new(16, 16, name.config(12));
    let policy = config.init(&spaces(), 3, &Device::Cpu).unwrap();
    for head in ["heads.action.weight", "heads.value.weight"] {
        let weight = &policy.parameters()[head];
        weight.set(&(weight.as_tensor() * 100.0).unwrap()).unwrap();
    }
    policy
}

/// What two orders of the same f32 sums may differ by, numbers of order 1: some hundred products, and the recurrence of a
/// hundred ticks between.
const SUMS: f32 = 2e-5;

fn seen() -> Tensor {
    let row = |at: usize| {
        let phase = at as f32;
        [(phase * 0.37).sin(), (phase * 0.11).cos(), (at % 4) as f32, 0.0]
    };
    let values: Vec<f32> = (0..MEMBERS * TICKS).flat_map(row).collect();
    Tensor::from_vec(values, (MEMBERS, TICKS, 4), &Device::Cpu).unwrap()
}

fn host(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Logits and values of the ticks, one member after the other.
fn of_member(said: &Said, member: usize) -> Vec<f32> {
    [&said.action, &said.value].iter().flat_map(|tensor| host(&tensor.get(member).unwrap())).collect()
}

/// Tick by tick, the state saved and loaded on the way.
fn streamed(policy: &Policy, x: &Tensor, resets: &[Reset]) -> Vec<(Vec<f32>, Vec<f32>)> {
    let mut state = policy.empty_state(MEMBERS).unwrap();
    let mut all = vec![];
    for tick in 0..TICKS {
        let now: Vec<Reset> =
            resets.iter().filter(|reset| reset.tick == tick).map(|reset| Reset { tick: 0, ..*reset }).collect();
        let (said, after) = policy.forward(&x.narrow(1, tick, 1).unwrap(), &now, &state).unwrap();
        state = match tick % 50 {
            20 => policy.load_state(&after.save().unwrap()).unwrap(),
            _ => after,
        };
        all.push((host(&said.action), host(&said.value)));
    }
    all
}

#[test]
fn a_segment_is_its_ticks() {
    let (x, resets) = (seen(), [Reset { member: 1, tick: 70 }, Reset { member: 2, tick: 71 }]);
    for name in MemoryName::value_variants() {
        let policy = policy(*name);
        let (whole, _) = policy.forward(&x, &resets, &policy.empty_state(MEMBERS).unwrap()).unwrap();
        let (action, value) = (whole.action.to_vec3::<f32>().unwrap(), whole.value.to_vec2::<f32>().unwrap());
        for (tick, (by_tick, value_by_tick)) in streamed(&policy, &x, &resets).iter().enumerate() {
            for member in 0..MEMBERS {
                let streamed = by_tick[member * 3..][..3].iter().chain(&value_by_tick[member..=member]);
                for (one, many) in action[member][tick].iter().chain([&value[member][tick]]).zip(streamed) {
                    assert!((one - many).abs() < SUMS, "{name:?} {tick} {member}: {one} {many}");
                }
            }
        }
    }
}

/// Member 1 begins anew in the middle: tick by tick, 0 and 2 do not notice, to the bit.
#[test]
fn a_reset_changes_nothing_in_the_others() {
    let x = seen();
    for name in MemoryName::value_variants() {
        let policy = policy(*name);
        let [without, with] = [&[][..], &[Reset { member: 1, tick: 75 }]].map(|resets| streamed(&policy, &x, resets));
        for (tick, (without, with)) in without.iter().zip(&with).enumerate() {
            for member in [0, 2] {
                let own = member * 3..(member + 1) * 3;
                assert!(without.0[own.clone()] == with.0[own], "{name:?} {tick} {member}");
                assert!(without.1[member] == with.1[member], "{name:?} {tick} {member}");
            }
        }
        // Member 1 itself remembers without the reset, where it can.
        let differs = without[75].0[3..6] != with[75].0[3..6];
        assert_eq!(differs, *name != MemoryName::None, "{name:?}");
    }
}

/// Within a segment, where a reset cuts everybody's ticks into stretches: whose reset it is makes no difference to the
/// third, to the bit; and the one that is reset goes on as one that has just begun.
#[test]
fn a_reset_within_a_segment_is_one_members_own() {
    let x = seen();
    for name in MemoryName::value_variants() {
        let policy = policy(*name);
        let go = |x: &Tensor, resets: &[Reset]| {
            let state = policy.empty_state(x.dim(0).unwrap()).unwrap();
            policy.forward(x, resets, &state).unwrap().0
        };
        let [first, second] = [0, 1].map(|member| go(&x, &[Reset { member, tick: 75 }]));
        assert!(of_member(&first, 2) == of_member(&second, 2), "{name:?}");
        assert!(of_member(&first, 2) == of_member(&go(&x, &[]), 2), "{name:?}: without any reset");
        let fresh = go(&x.narrow(1, 75, TICKS - 75).unwrap().contiguous().unwrap(), &[]);
        let after = second.action.get(1).unwrap().narrow(0, 75, TICKS - 75).unwrap();
        for (fresh, after) in host(&fresh.action.get(1).unwrap()).into_iter().zip(host(&after)) {
            assert!((fresh - after).abs() < SUMS, "{name:?}: {fresh} {after}");
        }
    }
}

/// Members of a batch do not see each other: any selection goes on as it would have.
#[test]
fn selected_members_go_on_alone() {
    let x = seen();
    for name in MemoryName::value_variants() {
        let policy = policy(*name);
        let half = |from, count| x.narrow(1, from, count).unwrap().contiguous().unwrap();
        let halves = [half(0, 75), half(75, TICKS - 75)];
        let (_, state) = policy.forward(&halves[0], &[], &policy.empty_state(MEMBERS).unwrap()).unwrap();
        let (all, _) = policy.forward(&halves[1], &[], &state).unwrap();
        let chosen: MemoryState = state.select(&[2, 0]).unwrap();
        let index = Tensor::new(&[2_u32, 0], &Device::Cpu).unwrap();
        let (some, _) = policy.forward(&halves[1].index_select(&index, 0).unwrap(), &[], &chosen).unwrap();
        for (place, member) in [2, 0].into_iter().enumerate() {
            for (one, other) in of_member(&all, member).into_iter().zip(of_member(&some, place)) {
                assert!((one - other).abs() < SUMS, "{name:?}: {one} {other}");
            }
        }
    }
}

/// What a policy is shown of its actions, by hand.
#[test]
fn actions_are_shown_or_hidden() {
    let name = |input: &Input| match input {
        Input::Token { name, .. } | Input::Continuous { name, .. } => name.clone(),
    };
    let seen = spaces().inputs[..1].to_vec();
    for (actions, action, names, shown) in [
        (ActionSpace::Discrete(3), vec![2.0], vec!["previous_action"], vec![3.0]),
        (
            ActionSpace::MultiDiscrete(&[2, 4]),
            vec![0.0, 3.0],
            vec!["previous_action_0", "previous_action_1"],
            vec![1.0, 4.0],
        ),
        (ActionSpace::Continuous(2), vec![0.3, -7.0], vec!["previous_action"], vec![0.3, -1.0]),
    ] {
        let spaces = Spaces::with_clock(seen.clone(), actions, Some(4));
        let hidden = spaces.clone().with_previous_action(PreviousActionInput::Hidden);
        assert_eq!(hidden, hidden.clone().with_previous_action(PreviousActionInput::Hidden));
        assert_eq!(spaces, spaces.clone().with_previous_action(PreviousActionInput::Shown));
        for (spaces, names, shown) in [(spaces, names, shown), (hidden, vec![], vec![])] {
            let expected: Vec<&str> = ["seen", "clock"].into_iter().chain(names).chain(["first"]).collect();
            assert_eq!(spaces.inputs.iter().map(name).collect::<Vec<_>>(), expected);
            assert_eq!((spaces.channels(), spaces.rest()), (5 + shown.len(), 3 + shown.len()));
            assert!(spaces.is_action(&action) && !spaces.is_action(&[9.0, f32::NAN]) && !spaces.is_action(&[]));
            if actions == ActionSpace::Continuous(2) {
                // Beyond the bounds it is the bound.
                assert_eq!(spaces.action(&action).numbers(), [0.3, -1.0]);
                assert_eq!((spaces.action(&action).numbers::<3>(), Action::Discrete(1).numbers()), ([0.0; 3], [0.0]));
            }
            let mut x = vec![7.0; spaces.channels()];
            // A quarter of the period: sine 1, cosine 0.
            spaces.write(&[0.5, 0.25], 1, Some(&action), &mut x).unwrap();
            assert_eq!((&x[..3], x[3].abs() < 1e-6), (&[0.5, 0.25, 1.0][..], true));
            assert_eq!(x[4..], [&shown[..], &[0.0]].concat());
            spaces.write(&[0.5, 0.25], 0, None, &mut x).unwrap();
            assert_eq!(x[4..], [&vec![0.0; shown.len()][..], &[1.0]].concat());
        }
    }
}

/// Gradients reach every weight that a policy has.
#[test]
fn every_weight_learns() {
    let x = seen();
    for name in MemoryName::value_variants() {
        let policy = policy(*name);
        let (said, _) = policy.forward(&x, &[], &policy.empty_state(MEMBERS).unwrap()).unwrap();
        let loss =
            (said.action.sqr().unwrap().sum_all().unwrap() + said.value.sqr().unwrap().sum_all().unwrap()).unwrap();
        let gradients = loss.backward().unwrap();
        // Without a memory nothing comes of what would go into it.
        let of_nothing = |weight: &str| *name == MemoryName::None && weight.starts_with("memory_norm");
        for (weight, var) in policy.parameters().iter().filter(|(weight, _)| !of_nothing(weight)) {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name:?}: nothing for {weight}"));
            assert!(host(gradient).iter().any(|slope| *slope != 0.0), "{name:?}: {weight}");
            assert!(host(gradient).iter().all(|slope| slope.is_finite()), "{name:?}: {weight}");
        }
    }
}

#[test]
fn compared_memories_have_as_many_parameters() {
    for environment in ["repeat-previous-easy", "concentration-hard", "position-only-cart-pole-easy", "t-maze-100"] {
        let spaces = Spaces::of(&*EnvironmentConfig::parse(environment).unwrap().make(), None);
        let count = |name| {
            PolicyConfig::named(name, &spaces).unwrap().init(&spaces, 0, &Device::Cpu).unwrap().parameter_count()
        };
        let ours = count(MemoryName::Infformer) as f64;
        for name in MemoryName::value_variants() {
            let ratio = count(*name) as f64 / ours;
            assert!((0.9..=1.1).contains(&ratio), "{environment} {name:?}: {ratio}");
        }
    }
}

/// What a window of whole ticks takes, a window and a signal take too.
#[test]
fn transformers_remember_in_as_many_bytes() {
    let spaces = Spaces::of(&*EnvironmentConfig::parse("repeat-previous-easy").unwrap().make(), None);
    let bytes = |name| {
        let policy = PolicyConfig::named(name, &spaces).unwrap().init(&spaces, 0, &Device::Cpu).unwrap();
        policy.empty_state(1).unwrap().save().unwrap().len() as f64
    };
    let window = bytes(MemoryName::Window);
    // Beside its attention ours has 128 complex numbers, 2 % of the window's 69 ticks of 192.
    assert!((bytes(MemoryName::Infformer) / bytes(MemoryName::InfformerAdaptive) - 1.0).abs() < 0.03);
    for name in [
        MemoryName::InfformerAdaptive,
        MemoryName::InfformerPowerLaw,
        MemoryName::InfformerUniform,
        MemoryName::InfformerPaper,
    ] {
        // A tick is 1.4 % of the window's 69; names, knots and clocks of a saved state are not more.
        assert!((bytes(name) / window - 1.0).abs() < 0.03, "{name:?}: {} instead of {window}", bytes(name));
    }
}

#[test]
fn drawn_actions_have_the_probabilities_that_are_told() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for (space, said, greedy) in [
        (ActionSpace::Discrete(3), vec![0.3_f32, -1.0, 1.2], vec![2.0]),
        (
            ActionSpace::MultiDiscrete(&[2, 4, 3]),
            vec![0.2, 0.1, 0.3, -1.0, 1.2, 0.0, -0.4, 0.5, 0.9],
            vec![0.0, 2.0, 2.0],
        ),
        (ActionSpace::Continuous(2), vec![0.3, -1.0, -0.7, 0.4], vec![0.3, -1.0]),
    ] {
        let size = space.size();
        assert_eq!(space.heads().iter().map(|head| head.kind.size()).sum::<usize>(), said.len());
        let mut action = vec![0.0; size];
        let count = 4_000;
        let (mut actions, mut told) = (vec![], vec![]);
        for _ in 0..count {
            told.push(choose(space, &said, Choice::Drawn, &mut random, &mut action));
            actions.extend_from_slice(&action);
        }
        let repeated: Vec<f32> = (0..count).flat_map(|_| said.clone()).collect();
        let said_of_all = Tensor::from_vec(repeated, (1, count, said.len()), &Device::Cpu).unwrap();
        let actions = Tensor::from_vec(actions, (1, count, size), &Device::Cpu).unwrap();
        let (found, entropy) = log_probability(space, &said_of_all, &actions).unwrap();
        for (told, found) in told.iter().zip(host(&found)) {
            assert!((told - found).abs() < 1e-4, "{told} {found}");
        }
        // The entropy is what −ln p is on average: its deviation is below 1.5 nats, four standard errors.
        let mean = -told.iter().map(|p| f64::from(*p)).sum::<f64>() / f64::from(count as u32);
        assert!((mean - f64::from(host(&entropy)[0])).abs() < 4.0 * 1.5 / f64::from(count as u32).sqrt());
        choose(space, &said, Choice::Greedy, &mut random, &mut action);
        assert_eq!(action, greedy);
    }
}

proptest! {
    /// Σ (γλ)^k · surprise, summed forward to the episode's end, tick by tick.
    #[test]
    fn advantages_are_discounted_surprises(
        values in proptest::collection::vec((-1.0_f32..1.0, -1.0_f32..1.0, -1.0_f32..1.0, 0_usize..8), 1..30),
    ) {
        let ending = |kind| [Ending::Terminated, Ending::Truncated].get(kind).copied().unwrap_or(Ending::Running);
        let rewards: Vec<f32> = values.iter().map(|row| row.0).collect();
        let worth: Vec<f32> = values.iter().map(|row| row.1).collect();
        let next: Vec<f32> = values.iter().map(|row| row.2).collect();
        let endings: Vec<Ending> = values.iter().map(|row| ending(row.3)).collect();
        let by = Discounts { gamma: 0.9, lambda: 0.8 };
        let found = advantages(&rewards, &worth, &next, &endings, by);
        for (tick, found) in found.iter().enumerate() {
            let (mut sum, mut weight) = (0.0, 1.0);
            for later in tick..values.len() {
                let after = if endings[later] == Ending::Terminated { 0.0 } else { f64::from(next[later]) };
                sum += weight * (f64::from(rewards[later]) + 0.9 * after - f64::from(worth[later]));
                weight *= 0.9 * 0.8;
                if endings[later] != Ending::Running {
                    break;
                }
            }
            prop_assert!((sum - f64::from(*found)).abs() < 1e-5, "{tick}: {sum} {found}");
        }
    }
}

/// What is seen passes a normalisation or not, whatever remembers it; what is not said means that it does.
#[test]
fn what_is_seen_is_normalised_or_not() {
    for name in [MemoryName::Gru, MemoryName::Infformer] {
        let normed = PolicyConfig::named(name, &spaces()).unwrap();
        let plain = PolicyConfig { normalisation: Normalisation::Parts, ..normed.clone() };
        let policies = [&normed, &plain].map(|config| config.init(&spaces(), 0, &Device::Cpu).unwrap());
        let has_norm = policies.each_ref().map(|policy| policy.parameters().get("encoder.norm.weight").is_some());
        assert_eq!(has_norm, [true, false]);
        let x = Tensor::ones((1, 1, spaces().channels()), DType::F32, &Device::Cpu).unwrap();
        let [normed_x, plain_x] =
            policies.map(|policy| policy.encode(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        assert!(mean(&normed_x).abs() < 1e-5 && mean(&plain_x).abs() > 1e-3);
        let texts = [&normed, &plain].map(|config| ron::to_string(config).unwrap());
        assert!(!texts[0].contains("normalisation") && texts[1].contains("normalisation:Parts"));
        assert_eq!(ron::from_str::<PolicyConfig>(&texts[0]).unwrap(), normed);
        assert_eq!(ron::from_str::<PolicyConfig>(&texts[1]).unwrap(), plain);
    }
}

/// What is no number is refused by the name of its channel, whatever remembers; so are segments that do not fit.
#[test]
fn what_does_not_fit_is_refused() {
    let x = seen();
    let mut values = host(&x);
    values[spaces().channels() + 1] = f32::NAN;
    let bad = Tensor::from_vec(values, x.shape(), &Device::Cpu).unwrap();
    let none = x.narrow(1, 0, 0).unwrap();
    for name in MemoryName::value_variants() {
        let policy = policy(*name);
        let refused = |x: &Tensor, resets: &[Reset], members: usize| {
            policy.forward(x, resets, &policy.empty_state(members).unwrap()).unwrap_err().to_string()
        };
        assert!(refused(&bad, &[], MEMBERS).contains("seen.y"), "{name:?}");
        assert!(refused(&none, &[], MEMBERS).contains("0 ticks"), "{name:?}");
        for reset in [Reset { member: MEMBERS, tick: 0 }, Reset { member: 0, tick: TICKS }] {
            assert!(refused(&x, &[reset], MEMBERS).contains("a reset of member"), "{name:?} {reset:?}");
        }
        // Who has no state has none of any number of members.
        if *name != MemoryName::None {
            assert!(refused(&x, &[], 1).contains("the state of a memory is"), "{name:?}");
        }
    }
}

/// A state goes to the memory that made it, and to none of another kind or size.
#[test]
fn the_state_of_another_memory_is_refused() {
    let x = seen();
    let wide = |name: MemoryName| {
        let memory = name.config(13);
        let config = PolicyConfig::new(24, 16, memory);
        config.init(&spaces(), 3, &Device::Cpu).unwrap()
    };
    for name in MemoryName::value_variants() {
        let policy = policy(*name);
        for other in MemoryName::value_variants().iter().filter(|other| **other != MemoryName::None || *name != **other)
        {
            let state = wide(*other).empty_state(MEMBERS).unwrap();
            assert!(policy.forward(&x, &[], &state).is_err(), "{name:?} took the state of {other:?}");
            let bytes = state.save().unwrap();
            assert!(policy.load_state(&bytes).is_err(), "{name:?} read the state of {other:?}");
        }
    }
}

/// What is no action is refused before there are weights.
#[test]
fn spaces_without_an_action_are_refused() {
    let seen = spaces().inputs[..1].to_vec();
    for actions in [
        ActionSpace::Discrete(0),
        ActionSpace::MultiDiscrete(&[]),
        ActionSpace::MultiDiscrete(&[3, 0]),
        ActionSpace::Continuous(0),
    ] {
        for input in [PreviousActionInput::Shown, PreviousActionInput::Hidden] {
            let spaces = Spaces::with_clock(seen.clone(), actions, None).with_previous_action(input);
            assert_eq!(spaces.inputs[0], seen[0]);
            for name in MemoryName::value_variants() {
                let told = PolicyConfig::named(*name, &spaces).unwrap_err().to_string();
                assert!(told.contains("1 choice or number"), "{name:?}: {told}");
            }
        }
    }
}

/// A continuous action's deviation stays within e⁻⁵ and e², whatever remembers and however far training drives it.
#[test]
fn deviations_are_bounded() {
    let spaces = Spaces::with_clock(spaces().inputs[..1].to_vec(), ActionSpace::Continuous(1), None);
    for name in MemoryName::value_variants() {
        let policy = PolicyConfig::named(*name, &spaces).unwrap().init(&spaces, 0, &Device::Cpu).unwrap();
        let x = Tensor::zeros((1, 1, spaces.channels()), DType::F32, &Device::Cpu).unwrap();
        for (drive, bound) in [(100.0_f32, 2.0_f32), (-100.0, -5.0)] {
            policy.parameters()["heads.action.bias"].set(&Tensor::new(&[0.0, drive], &Device::Cpu).unwrap()).unwrap();
            let (said, _) = policy.forward(&x, &[], &policy.empty_state(1).unwrap()).unwrap();
            // tanh of 100 is 1 in f32.
            assert!((host(&said.action)[1] - bound).abs() < 1e-5, "{name:?}: {:?}", host(&said.action));
        }
    }
}
