//! A rollout over the ends of episodes is what each episode would have been alone: what was seen, what was expected, and
//! the advantages, whether an episode was terminated, truncated, or cut by the end of the rollout.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::{Device, Tensor};
use infformer::model::Input;
use infformer::{Channel, Scale};
use infformer_rl::distribution::log_probability;
use infformer_rl::environment::{Action, ActionSpace, Ending, Environment, Step};
use infformer_rl::environment_batch::{EnvironmentBatch, episode_seed};
use infformer_rl::memories::{MemoryConfig, MemoryName};
use infformer_rl::memory::MemoryState;
use infformer_rl::optimiser::{Optimiser, OptimiserConfig};
use infformer_rl::policy::{Policy, PolicyConfig, Spaces};
use infformer_rl::ppo::{PpoConfig, Update};
use infformer_rl::rollout::{Discounts, Rollout};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Episodes of 2 to 8 ticks, as the seed says; half of them are truncated.
#[derive(Default)]
struct Lengths {
    seed: u64,
    tick: usize,
    seen: [f32; 2],
}

impl Lengths {
    fn length(&self) -> usize {
        2 + (self.seed % 7) as usize
    }

    fn look(&mut self) {
        self.seen = [self.tick as f32 * 0.3 - 1.0, (self.seed % 11) as f32 * 0.2 - 1.0];
    }
}

impl Environment for Lengths {
    fn observations(&self) -> Vec<Input> {
        let channels = ["tick", "seed"].map(|name| Channel::new(name, "", Scale::Given(1.0)));
        vec![Input::Continuous { name: "seen".into(), channels: channels.to_vec() }]
    }

    fn actions(&self) -> ActionSpace {
        ActionSpace::Discrete(3)
    }

    fn reset(&mut self, seed: u64) -> &[f32] {
        *self = Self { seed, ..Self::default() };
        self.look();
        &self.seen
    }

    fn step(&mut self, action: Action) -> Step<'_> {
        let Action::Discrete(choice) = action else { panic!("a choice expected") };
        self.tick += 1;
        self.look();
        let ending = match (self.tick == self.length(), self.seed.is_multiple_of(2)) {
            (false, _) => Ending::Running,
            (true, true) => Ending::Terminated,
            (true, false) => Ending::Truncated,
        };
        Step { observation: &self.seen, reward: choice as f32 + 0.1 * self.tick as f32, ending }
    }
}

/// One member's life alone: its memory and its environment.
struct Alone<'a> {
    policy: &'a Policy,
    environment: Lengths,
    member: usize,
    number: u64,
    tick: usize,
    state: MemoryState,
    x: Vec<f32>,
}

impl<'a> Alone<'a> {
    fn new(policy: &'a Policy, seed: u64, member: usize) -> Self {
        let state = policy.empty_state(1).unwrap();
        let x = vec![0.0; policy.spaces().channels()];
        let mut alone = Self { policy, environment: Lengths::default(), member, number: 0, tick: 0, state, x };
        alone.begin(seed);
        alone
    }

    fn begin(&mut self, seed: u64) {
        let seen = self.environment.reset(episode_seed(seed, self.member, self.number)).to_vec();
        self.policy.spaces().write(&seen, 0, None, &mut self.x).unwrap();
        (self.state, self.tick) = (self.policy.empty_state(1).unwrap(), 0);
    }

    /// The value of what is seen now, and the state after it.
    fn look(&self) -> (f64, MemoryState) {
        let x = Tensor::from_slice(&self.x, (1, 1, self.x.len()), &Device::Cpu).unwrap();
        let (said, state) = self.policy.forward(&x, &[], &self.state).unwrap();
        (f64::from(said.value.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]), state)
    }
}

const SEED: u64 = 5;
const TICKS: usize = 23;

fn make() -> Box<dyn Environment> {
    Box::<Lengths>::default()
}

/// A policy whose values and probabilities differ from tick to tick by much more than the tolerances.
fn decided(name: MemoryName) -> Policy {
    let mut memory = name.config(16);
    // Episodes that are longer than the window: signals are written, and begin anew.
    if let MemoryConfig::Transformer { short_term, chunk, .. } = &mut memory {
        (*short_term, *chunk) = (2, 2);
    }
    let config = PolicyConfig { clock: Some(4), ..PolicyConfig::new(16, 16, memory) };
    let policy = config.init(&Spaces::of(&*make(), Some(4)), 1, &Device::Cpu).unwrap();
    for head in ["heads.value.weight", "heads.action.weight"] {
        let head = &policy.parameters()[head];
        head.set(&(head.as_tensor() * 100.0).unwrap()).unwrap();
    }
    policy
}

#[test]
fn a_rollout_is_the_episodes_in_it() {
    const MEMBERS: usize = 3;
    let by = Discounts { gamma: 0.9, lambda: 0.8 };
    for name in [MemoryName::Gru, MemoryName::InfformerAdaptive] {
        let policy = decided(name);
        let spaces = policy.spaces().clone();
        let mut batch = EnvironmentBatch::new(&make, spaces.clone(), MEMBERS, SEED).unwrap();
        let mut state = policy.empty_state(MEMBERS).unwrap();
        let mut random = ChaCha8Rng::seed_from_u64(0);
        let mut alone: Vec<Alone> = (0..MEMBERS).map(|member| Alone::new(&policy, SEED, member)).collect();
        let (mut truncated, mut terminated, mut cut) = (0, 0, 0);
        // The second begins in the middle of episodes.
        for _ in 0..2 {
            let rollout =
                Rollout::collect(&policy, &mut batch, &mut state, TICKS, by, &mut random, &Device::Cpu).unwrap();
            let values = rollout.values.iter();
            let [most, least] = [f32::max, f32::min].map(|of| values.clone().copied().reduce(of).unwrap());
            assert!(most - least > 0.1, "{name:?}: values {least} to {most}");
            for (member, alone) in alone.iter_mut().enumerate() {
                let mut surprises = vec![];
                let mut endings = vec![];
                for tick in 0..TICKS {
                    let row = member * TICKS + tick;
                    let seen = &rollout.x[row * spaces.channels()..(row + 1) * spaces.channels()];
                    assert_eq!(seen, alone.x, "{name:?} member {member} tick {tick}");
                    let begins = rollout.resets.iter().any(|reset| (reset.member, reset.tick) == (member, tick));
                    assert_eq!(begins, alone.tick == 0);
                    let (value, after) = alone.look();
                    // Sums of f32 in another order, of three members instead of one.
                    assert!((value - f64::from(rollout.values[row])).abs() < 1e-4, "{name:?} {value}");
                    alone.state = after;
                    let action = &rollout.actions[row..=row];
                    let step = alone.environment.step(spaces.action(action));
                    let (reward, ending) = (f64::from(step.reward), step.ending);
                    spaces.write(step.observation, alone.tick + 1, Some(action), &mut alone.x).unwrap();
                    let worth = if ending == Ending::Terminated { 0.0 } else { alone.look().0 };
                    surprises.push(reward + by.gamma * worth - value);
                    endings.push(ending);
                    alone.tick += 1;
                    if ending != Ending::Running {
                        alone.number += 1;
                        alone.begin(SEED);
                    }
                }
                for tick in 0..TICKS {
                    let last = (tick..TICKS).find(|tick| endings[*tick] != Ending::Running).unwrap_or(TICKS - 1);
                    let expected: f64 =
                        (tick..=last).map(|at| (by.gamma * by.lambda).powi((at - tick) as i32) * surprises[at]).sum();
                    let found = f64::from(rollout.advantages[member * TICKS + tick]);
                    // At most eight surprises, each off by two values.
                    assert!(
                        (found - expected).abs() < 2e-3,
                        "{name:?} member {member} tick {tick}: {found} {expected}"
                    );
                }
                let count = |ending| endings.iter().filter(|own| **own == ending).count();
                truncated += count(Ending::Truncated);
                terminated += count(Ending::Terminated);
                cut += usize::from(endings[TICKS - 1] == Ending::Running);
            }
        }
        assert!(truncated > 5 && terminated > 5 && cut > 1, "{truncated} {terminated} {cut}");
    }
}

/// Updates the policy at this rate; at 0 it only tells.
fn told(ppo: PpoConfig, learning_rate: f64, policy: &Policy, rollout: &Rollout) -> Update {
    let config = OptimiserConfig { learning_rate, warm_up: 0, ..OptimiserConfig::default() };
    let mut optimiser = Optimiser::new(&config, policy.parameters()).unwrap();
    ppo.update(policy, rollout, &mut optimiser, &mut ChaCha8Rng::seed_from_u64(0), &Device::Cpu).unwrap()
}

#[test]
fn an_update_runs_the_same_segments_again() {
    const MEMBERS: usize = 6;
    let ppo = PpoConfig { members: MEMBERS, ticks: TICKS, epochs: 1, minibatches: 3, ..PpoConfig::default() };
    for name in [MemoryName::Gru, MemoryName::InfformerAdaptive] {
        let policy = decided(name);
        let spaces = policy.spaces().clone();
        let mut batch = EnvironmentBatch::new(&make, spaces.clone(), MEMBERS, SEED).unwrap();
        let (mut state, mut random) = (policy.empty_state(MEMBERS).unwrap(), ChaCha8Rng::seed_from_u64(0));
        let by = ppo.discounts();
        let mut collect = || Rollout::collect(&policy, &mut batch, &mut state, TICKS, by, &mut random, &Device::Cpu);
        // The second begins in the middle of episodes, with memories that hold something.
        collect().unwrap();
        let mut rollout = collect().unwrap();
        assert!(rollout.resets.len() > MEMBERS);

        // With a rate of 0 the policy is the one that lived through it. Probabilities are of f32, of two members instead of six:
        // their logarithms are off by less than 1e-4, which the divergence squares, and a ratio by 6e-8.
        let still = told(ppo, 0.0, &policy, &rollout);
        assert!(still.divergence.abs() < 1e-7 && still.clipped == 0.0, "{name:?} {still:?}");
        assert!(still.policy_loss.abs() < 1e-5, "normalised advantages have the mean 0: {still:?}");
        let advantages = rollout.advantages.iter().map(|advantage| f64::from(*advantage).powi(2));
        let squares = advantages.sum::<f64>() / rollout.advantages.len() as f64;
        assert!((still.value_loss / squares - 1.0).abs() < 1e-3, "{still:?} {squares}");
        let tensor =
            |values: &[f32]| Tensor::from_slice(values, (MEMBERS, TICKS, values.len() / MEMBERS / TICKS), &Device::Cpu);
        let said = policy.forward(&tensor(&rollout.x).unwrap(), &rollout.resets, &rollout.start).unwrap().0;
        let (_, entropies) = log_probability(spaces.actions, &said.action, &tensor(&rollout.actions).unwrap()).unwrap();
        let entropy = f64::from(entropies.mean_all().unwrap().to_scalar::<f32>().unwrap());
        assert!((still.entropy - entropy).abs() < 1e-4, "{still:?} {entropy}");

        // Each part of the loss pulls to its own side.
        let alone = PpoConfig { value: 0.0, entropy: 0.0, epochs: 4, ..ppo };
        for (config, what) in [
            (alone, "policy"),
            (PpoConfig { value: 1.0, ..alone }, "value"),
            (PpoConfig { entropy: 10.0, ..alone }, "entropy"),
        ] {
            let policy = decided(name);
            told(config, 1e-3, &policy, &rollout);
            let after = told(ppo, 0.0, &policy, &rollout);
            assert!(after.divergence > 1e-5, "{what}: {after:?}");
            match what {
                "policy" => assert!(after.policy_loss < still.policy_loss - 1e-3, "{after:?}"),
                "value" => assert!(after.value_loss < 0.99 * still.value_loss, "{after:?}"),
                _ => assert!(after.entropy > still.entropy + 1e-3, "{after:?}"),
            }
        }

        // Were the episodes' beginnings lost, or memories another member's, it would be seen.
        let others = rollout.start.select(&[1, 2, 3, 4, 5, 0]).unwrap();
        let own = std::mem::replace(&mut rollout.start, others);
        let confused = told(ppo, 0.0, &policy, &rollout);
        assert!(confused.divergence > 1e-6, "{name:?} {confused:?}");
        rollout.start = own;
        rollout.resets.clear();
        let confused = told(ppo, 0.0, &policy, &rollout);
        assert!(confused.divergence > 1e-6, "{name:?} {confused:?}");
    }
}
