//! In the engine a model gives the numbers that it gave in training, whoever else is in the batch.
#![allow(clippy::unwrap_used, clippy::panic)]

mod models;

use candle_core::{DType, Device, Tensor};
use infformer::model::{InputMask, ModelConfig, ReadingDensity, Residual, Wanted};
use infformer::{
    AgentStep, Error, LoadedClock, ModelEngine, ObservationQueue, Query, Runtime, RuntimeConfig, RuntimeMode,
};
use models::{config, gpu, observations, policies};
use std::sync::Arc;

fn row(x: &Tensor, member: usize, tick: usize) -> Vec<f32> {
    x.to_vec3::<f32>().unwrap()[member][tick].clone()
}

#[test]
fn what_was_trained_is_what_runs() {
    // As in the parity tests.
    runs_as_trained(&Device::Cpu, 1e-5);
}

#[test]
fn what_was_trained_is_what_runs_on_a_gpu() {
    if let Some(gpu) = gpu() {
        // As in the test of devices: another batch may have another kernel.
        runs_as_trained(&gpu, 1e-4);
    }
}

fn runs_as_trained(device: &Device, within: f32) {
    for (name, policy) in policies() {
        let config = config(policy, ReadingDensity::Gibbs, InputMask::Convolution);
        let config = ModelConfig { recurrence: 3, residual: Residual::Gate, ..config };
        let model = Arc::new(config.init_seeded(3, DType::F32, device).unwrap());
        let x = observations(3, 50, 1);
        let state = model.empty_state(3).unwrap();
        let (trained, _) = model.forward_segment(&x.to_device(device).unwrap(), &[], Wanted::All, &state).unwrap();
        let heads: Vec<Vec<Vec<Vec<f32>>>> = trained.heads.iter().map(|head| head.to_vec3().unwrap()).collect();
        let readouts = trained.readout.unwrap().to_vec3::<f32>().unwrap();
        let mut engine = ModelEngine::new(model);
        let mut steps: Vec<AgentStep> =
            (0..3).map(|_| AgentStep::new(engine.spawn().unwrap(), engine.layout().clone(), 8)).collect();
        // Agent 1 joins every tick, agent 0 sees two at once every other tick, agent 2 starts late and catches up.
        let mut seen = [0_usize; 3];
        let mut before = seen;
        for tick in 0..50_usize {
            for (agent, step) in steps.iter_mut().enumerate() {
                let until = match agent {
                    0 => (tick + 1) - (tick + 1) % 2,
                    1 => tick + 1,
                    _ => (tick + 1).saturating_sub(7),
                };
                for at in seen[agent]..until {
                    step.observations.push(at as u64, &row(&x, agent, at)).unwrap();
                }
                (before[agent], seen[agent]) = (seen[agent], until);
            }
            engine.step(&mut steps).unwrap();
            for (agent, step) in steps.iter().enumerate() {
                assert_eq!(step.outcome, Ok(()), "{name}");
                if seen[agent] == before[agent] {
                    // Nothing seen, nothing said.
                    assert!(!step.has_answers(), "{name}");
                    continue;
                }
                let at = seen[agent] - 1;
                let expected = heads.iter().map(|head| &head[agent][at]).chain([&readouts[agent][at]]);
                for (found, expected) in step.model.heads.iter().chain([&step.model.readout]).zip(expected) {
                    let close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < within * (1.0 + b.abs()));
                    assert!(close && found.len() == expected.len(), "{name} agent {agent} tick {at}");
                }
            }
        }
    }
}

#[test]
fn agents_come_and_go_and_are_saved() {
    let (_, policy) = policies().swap_remove(0);
    let model = config(policy, ReadingDensity::Gibbs, InputMask::Everything).init(&Device::Cpu).unwrap();
    let mut engine = ModelEngine::new(Arc::new(model));
    let x = observations(1, 60, 2);
    let layout = engine.layout().clone();
    let live = |engine: &mut ModelEngine, step: &mut AgentStep, ticks: std::ops::Range<usize>| {
        for tick in ticks {
            step.observations.push(tick as u64, &row(&x, 0, tick)).unwrap();
            engine.step(std::slice::from_mut(step)).unwrap();
            assert_eq!(step.outcome, Ok(()));
        }
        step.model.clone()
    };
    let mut first = AgentStep::new(engine.spawn().unwrap(), layout.clone(), 8);
    live(&mut engine, &mut first, 0..40);
    let saved = engine.save(first.agent).unwrap();
    let expected = live(&mut engine, &mut first, 40..60);
    // A new agent in a slot that was used, with the saved state, goes on alike.
    engine.remove(first.agent).unwrap();
    assert!(matches!(engine.save(first.agent), Err(Error::UnknownAgent { .. })));
    let mut second = AgentStep::new(engine.spawn().unwrap(), layout.clone(), 8);
    assert_eq!(second.agent.slot(), first.agent.slot());
    engine.load(second.agent, &saved, LoadedClock::Kept).unwrap();
    assert_eq!(live(&mut engine, &mut second, 40..60), expected);
    // Its ticks go on where they were saved, or where the loader says.
    engine.load(second.agent, &saved, LoadedClock::Kept).unwrap();
    second.observations.reset();
    second.observations.push(38, &row(&x, 0, 40)).unwrap();
    engine.step(std::slice::from_mut(&mut second)).unwrap();
    assert_eq!(second.outcome, Err(Error::TickOrder { newest: 39, found: 38 }));
    engine.load(second.agent, &saved, LoadedClock::NewestAt(0)).unwrap();
    second.observations.reset();
    assert_eq!(live(&mut engine, &mut second, 40..60), expected);
    // Without it, and after a reset, it begins anew.
    engine.reset(second.agent).unwrap();
    second.observations.reset();
    let anew = live(&mut engine, &mut second, 0..20);
    let mut third = AgentStep::new(engine.spawn().unwrap(), layout, 8);
    assert_eq!(live(&mut engine, &mut third, 0..20), anew);
    // What cannot be taken changes nothing.
    let before = engine.save(third.agent).unwrap();
    assert!(matches!(third.observations.push(20, &[0.0, 0.0, 7.0]), Err(Error::Token { .. })));
    let other =
        infformer::ChannelLayout::new(&[infformer::ChannelGroup::new("x", &["x"], "", infformer::Scale::Given(1.0))]);
    let mut stranger = AgentStep::new(third.agent, Arc::new(other.unwrap()), 8);
    engine.step(std::slice::from_mut(&mut stranger)).unwrap();
    assert!(matches!(stranger.outcome, Err(Error::Layout { .. })), "{:?}", stranger.outcome);
    third.queries.push(Query::from_masked(&[Some(1.0), None, None]));
    engine.step(std::slice::from_mut(&mut third)).unwrap();
    assert_eq!(third.outcome, Err(Error::QueryOfModel));
    assert_eq!(engine.save(third.agent).unwrap(), before);
    assert!(matches!(engine.load(third.agent, b"nothing", LoadedClock::Kept), Err(Error::State(_))));
}

/// Numbers are averaged when a queue is full; of two tokens there is no mean.
#[test]
fn a_full_queue_keeps_tokens_whole() {
    let (_, policy) = policies().swap_remove(0);
    let model = config(policy, ReadingDensity::Gibbs, InputMask::Everything).init(&Device::Cpu).unwrap();
    let mut queue = ObservationQueue::new(model.layout().clone(), 2);
    for (tick, token) in [2.0, 4.0, 1.0].into_iter().enumerate() {
        queue.push(tick as u64, &[tick as f32, 0.0, token]).unwrap();
    }
    let waiting: Vec<(u64, Vec<f32>)> = queue.iter().map(|(tick, values)| (tick, values.to_vec())).collect();
    assert_eq!(waiting, [(1, vec![0.5, 0.0, 4.0]), (2, vec![2.0, 0.0, 1.0])]);
}

#[test]
fn a_runtime_runs_it_in_every_mode() {
    let (_, policy) = policies().swap_remove(0);
    let model = Arc::new(config(policy, ReadingDensity::Gibbs, InputMask::Convolution).init(&Device::Cpu).unwrap());
    let x = observations(5, 30, 3);
    let state = model.empty_state(5).unwrap();
    let (trained, _) = model.forward_segment(&x, &[], Wanted::All, &state).unwrap();
    let expected = trained.heads[0].to_vec3::<f32>().unwrap();
    for (mode, workers) in [(RuntimeMode::Inline, 1), (RuntimeMode::Lockstep, 1), (RuntimeMode::Lockstep, 3)] {
        let config = RuntimeConfig { mode, workers, ..RuntimeConfig::default() };
        let mut runtime = Runtime::with_model(model.clone(), config).unwrap();
        let agents: Vec<_> = (0..5).map(|_| runtime.spawn()).collect();
        let mut queues: Vec<_> = agents.iter().map(|_| runtime.observation_queue()).collect();
        let mut heard = 0;
        for tick in 0..=30_usize {
            runtime.receive(|step, _| {
                let agent = agents.iter().position(|agent| *agent == step.agent).unwrap();
                assert_eq!(step.outcome, Ok(()));
                let found = &step.model.heads[0];
                let close =
                    found.iter().zip(&expected[agent][tick - 1]).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs()));
                assert!(close, "{mode:?} agent {agent} tick {tick}");
                heard += 1;
            });
            if tick == 30 {
                break;
            }
            for (member, (agent, queue)) in agents.iter().zip(&mut queues).enumerate() {
                queue.push(tick as u64, &row(&x, member, tick)).unwrap();
                runtime.submit(*agent, tick as u64, queue, &[]).unwrap();
            }
            runtime.flush();
        }
        assert_eq!(heard, 5 * 30);
        // It answers no queries, and survives a failure with its states.
        let query = Query::from_masked(&[Some(1.0), None, None]);
        assert_eq!(runtime.submit(agents[0], 31, &mut queues[0], &[query]), Err(Error::QueryOfModel));
        let before = runtime.save(agents[0]).unwrap();
        runtime.inject_failure(agents[0]).unwrap();
        runtime.flush();
        runtime.receive(|_, _| {});
        assert!(runtime.has_failed());
        runtime.restart().unwrap();
        assert_eq!(runtime.save(agents[0]).unwrap(), before);
    }
}
