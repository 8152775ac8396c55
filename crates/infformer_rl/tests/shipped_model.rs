//! The models in `assets/models`: the one of `key-value`, streamed by the runtime, recalls tick by tick what was learnt in
//! segments; the one of `hallway` turns by a sign farther back than any that it was trained on.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::{Device, Tensor};
use infformer::{DensityCell, Runtime, RuntimeConfig, RuntimeMode, weights};
use infformer_rl::distribution::Choice;
use infformer_rl::environment::{Action, Ending};
use infformer_rl::environments::EnvironmentConfig;
use infformer_rl::evaluation::{EvaluationConfig, evaluate};
use infformer_rl::policy::{Policy, Spaces};
use infformer_rl::sequences::task::{Difficulty, Distance, Task};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[test]
fn it_recalls_in_the_runtime() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/key-value");
    let model = weights::load(&folder, "key-value", &Device::Cpu).unwrap();
    let task = Task::KeyValue { pairs: 24, values: 10, distance: Distance { least: 256, most: 256 } };
    let mut random = ChaCha8Rng::seed_from_u64(99);
    let batch = task.sample(64, Difficulty::Farthest(1), &mut random, &Device::Cpu).unwrap();
    let (x, targets) = (batch.x.to_vec3::<f32>().unwrap(), batch.targets.to_vec2::<u32>().unwrap());
    let config = RuntimeConfig { mode: RuntimeMode::Inline, ..RuntimeConfig::default() };
    let mut runtime = Runtime::with_model(Arc::new(model), config).unwrap();
    let agents: Vec<_> = x.iter().map(|_| runtime.spawn()).collect();
    let mut queues: Vec<_> = x.iter().map(|_| runtime.observation_queue()).collect();
    let mut answers = vec![0; x.len()];
    for tick in 0..x[0].len() {
        for ((agent, queue), sequence) in agents.iter().zip(&mut queues).zip(&x) {
            queue.push(tick as u64, &sequence[tick]).unwrap();
            runtime.submit(*agent, tick as u64, queue, &[]).unwrap();
        }
        runtime.flush();
        runtime.receive(|step, _| {
            assert_eq!(step.outcome, Ok(()));
            let logits = &step.model.heads[0];
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
            answers[step.agent.slot()] = best;
        });
    }
    let right = answers.iter().zip(&targets).filter(|(answer, target)| **answer == target[0] as usize).count();
    // Chance is 6 of 64; the window holds 31 of the 281 ticks, and no pair.
    assert!(right >= 61, "{right} of 64");
}

/// By chance all of 16 turn the right way once in 65,536 times.
#[test]
fn it_turns_by_the_sign() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/hallway");
    let load = || weights::load(&folder, "hallway", &Device::Cpu).unwrap();
    let maze = EnvironmentConfig::parse("distracting-t-maze-400").unwrap();
    let policy = Policy::from_model(load(), &Spaces::of(&*maze.make(), None)).unwrap();
    let wanted = EvaluationConfig { episodes: 16, seed: 5 };
    let stop = AtomicBool::new(false);
    let found = evaluate(&policy, &move || maze.make(), wanted, Choice::Greedy, &Device::Cpu, &stop).unwrap();
    assert_eq!((found.successes(), found.mean()), (1.0, 1.0));
    let other = EnvironmentConfig::parse("memory-chain-8").unwrap();
    let refused = Policy::from_model(load(), &Spaces::of(&*other.make(), None)).err().unwrap().to_string();
    assert!(refused.contains("its input 0 is") && refused.contains("junction"), "{refused}");
}

/// On the way the look is the same everywhere, to twice as much; at the junction it jumps to the sign, of which one block
/// is left, and which then has more than ten times the look of any other.
#[test]
fn it_looks_back_at_the_junction() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/hallway");
    let maze = EnvironmentConfig::parse("distracting-t-maze-400").unwrap();
    let mut environment = maze.make();
    let spaces = Spaces::of(&*environment, None);
    let policy = Policy::from_model(weights::load(&folder, "hallway", &Device::Cpu).unwrap(), &spaces).unwrap();
    for seed in 0..4 {
        let mut x = vec![0.0; spaces.channels()];
        spaces.write(environment.reset(seed), 0, None, &mut x).unwrap();
        let mut state = policy.empty_state(1).unwrap();
        for tick in 0..=400 {
            let now = Tensor::from_slice(&x, (1, 1, spaces.channels()), &Device::Cpu).unwrap();
            let (said, after) = policy.forward(&now, &[], &state).unwrap();
            state = after;
            let density = policy.density(&said, &state, 0).unwrap();
            // Every block is there, and the sign is none of the window's.
            if tick >= 120 {
                let (sign, others): (Vec<&DensityCell>, Vec<&DensityCell>) =
                    density.iter().partition(|cell| cell.older > tick as f32 + 0.5);
                let [sign] = sign[..] else { panic!("{seed} {tick} {sign:?}") };
                let most = others.iter().fold(0.0, |most: f32, cell| most.max(cell.mass));
                assert_eq!((sign.older - sign.newer, others.len()), (1.0, 63), "{seed} {tick}");
                if tick < 400 {
                    assert!(most.max(sign.mass) < 2.0 / 64.0, "{seed} {tick} {} {most}", sign.mass);
                } else {
                    assert!(sign.mass > 10.0 * most, "{seed} {} {most}", sign.mass);
                }
            }
            let logits = said.action.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let likely = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
            let step = environment.step(Action::Discrete(likely));
            assert_eq!(step.ending != Ending::Running, tick == 400);
            spaces.write(step.observation, tick + 1, Some(&[likely as f32]), &mut x).unwrap();
        }
    }
}
