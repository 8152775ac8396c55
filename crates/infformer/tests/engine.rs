//! The engine with many agents: same bits, no leaks, no bad input that harms.
#![allow(clippy::unwrap_used, clippy::panic)]

mod agents;

use agents::{Agent, every_policy, group, noise};
use infformer::{AgentStep, Device, Engine, Error, MemoryConfig, ObservationQueue, Query};

fn steps(engine: &mut Engine, agents: usize, queue: usize) -> Vec<AgentStep> {
    (0..agents).map(|_| AgentStep::new(engine.spawn().unwrap(), engine.layout().clone(), queue)).collect()
}

fn bits(answer: &infformer::Answer) -> Vec<u32> {
    let peaks = answer
        .peaks()
        .flat_map(|peak| [peak.age, peak.weight].into_iter().chain(peak.value.iter().copied()).collect::<Vec<_>>());
    answer.value.iter().copied().chain([answer.age, answer.confidence]).chain(peaks).map(f32::to_bits).collect()
}

/// An agent's answers do not depend on who else is in the batch, nor on the order of spawning.
#[test]
fn same_input_same_bits() {
    for mut config in every_policy(3) {
        config.short_term = 4;
        let see = |agent: usize, tick: u64| {
            [noise(agent * 97 + tick as usize), noise(agent + 3 * tick as usize), agent as f32]
        };
        let sees = |agent: usize, tick: u64| agent == 0 || !tick.is_multiple_of(agent as u64 + 1);
        let query = Query::from_masked(&[Some(0.3), None, None]);
        let mut alone = vec![];
        for agent in 0..5 {
            let mut single = Agent::new(&config);
            let seen = (0..200).filter(|tick| sees(agent, *tick));
            seen.for_each(|tick| single.see(tick, &see(agent, tick)));
            alone.push(bits(&single.ask(200, query.clone())));
        }
        let mut engine = Engine::new(&config, &Device::Cpu).unwrap();
        let mut all = steps(&mut engine, 5, 8);
        // Spawned in the other order, and with agents that see nothing at some ticks.
        let order = [4, 2, 0, 3, 1];
        for tick in 0..200 {
            for (step, agent) in all.iter_mut().zip(order) {
                step.tick = tick;
                if sees(agent, tick) {
                    step.observations.push(tick, &see(agent, tick)).unwrap();
                }
            }
            all.rotate_left(1);
            engine.step(&mut all).unwrap();
            all.rotate_right(1);
        }
        for step in &mut all {
            (step.tick, step.queries) = (200, vec![query.clone()]);
        }
        engine.step(&mut all).unwrap();
        for (step, agent) in all.iter().zip(order) {
            assert_eq!(bits(&step.answers[0]), alone[agent], "{:?}", config.forgetting);
        }
    }
}

/// A slot that is used again, and a memory that is reset, know nothing of the past.
#[test]
fn a_new_agent_knows_nothing_of_the_old() {
    for mut config in every_policy(2) {
        config.short_term = 2;
        let mut agent = Agent::new(&config);
        let fresh = agent.engine.save(agent.id()).unwrap();
        (0..150).for_each(|tick| agent.see(tick, &[noise(tick as usize), 1.0]));
        agent.engine.reset(agent.id()).unwrap();
        agent.step.observations.reset();
        assert_eq!(agent.engine.save(agent.id()).unwrap(), fresh, "{:?}", config.forgetting);

        (0..150).for_each(|tick| agent.see(tick, &[noise(tick as usize), 1.0]));
        let old = agent.id();
        agent.engine.remove(old).unwrap();
        let new = agent.engine.spawn().unwrap();
        assert_eq!(old.slot(), new.slot());
        assert_ne!(old, new);
        assert_eq!(agent.engine.coefficients(new).unwrap().iter().map(|value| value.abs()).sum::<f32>(), 0.0);
        assert_eq!(agent.engine.observations(new), Ok(0));
        assert_eq!(agent.engine.observations(old), Err(Error::UnknownAgent { agent: old.to_string() }));
    }
}

#[test]
fn bad_observations_are_refused_where_they_are_pushed() {
    let layout = std::sync::Arc::new(MemoryConfig::events(group(2)).layout().unwrap());
    let mut queue = ObservationQueue::new(layout, 4);
    assert_eq!(queue.push(0, &[1.0]), Err(Error::Width { what: "the observation", expected: 2, found: 1 }));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let error = queue.push(0, &[0.0, bad]).unwrap_err();
        assert!(matches!(&error, Error::NotFinite { channel, .. } if channel == "g.c1"), "{error}");
    }
    queue.push(5, &[1.0, 2.0]).unwrap();
    assert_eq!(queue.push(4, &[1.0, 2.0]), Err(Error::TickOrder { newest: 5, found: 4 }));
    assert_eq!(queue.len(), 1);
}

/// A refused step changes nothing, in its agent or in the others.
#[test]
fn a_refused_step_changes_nothing() {
    for config in every_policy(2) {
        let mut engine = Engine::new(&config, &Device::Cpu).unwrap();
        let mut all = steps(&mut engine, 3, 64);
        for tick in 0..40 {
            all.iter_mut().for_each(|step| step.observations.push(tick, &[noise(tick as usize), 0.5]).unwrap());
            engine.step(&mut all).unwrap();
        }
        let before: Vec<_> = all.iter().map(|step| engine.save(step.agent).unwrap()).collect();
        // A tick of the past, through a queue that did not know better; a query on a channel that is not there; nobody.
        all[0].observations.reset();
        all[0].observations.push(3, &[9.0, 9.0]).unwrap();
        all[1].observations.push(41, &[9.0, 9.0]).unwrap();
        all[1].queries = vec![Query::from_masked(&[None, None, Some(1.0)])];
        let gone = engine.spawn().unwrap();
        engine.remove(gone).unwrap();
        all.push(AgentStep::new(gone, engine.layout().clone(), 4));
        engine.step(&mut all).unwrap();
        assert_eq!(all[0].outcome, Err(Error::TickOrder { newest: 39, found: 3 }));
        assert_eq!(all[1].outcome, Err(Error::Width { what: "the query", expected: 2, found: 3 }));
        assert_eq!(all[2].outcome, Ok(()));
        assert_eq!(all[3].outcome, Err(Error::UnknownAgent { agent: gone.to_string() }));
        for (step, before) in all.iter().zip(&before) {
            assert_eq!(&engine.save(step.agent).unwrap(), before);
        }
        all[1].queries = vec![Query::new()];
        engine.step(&mut all[..2]).unwrap();
        assert_eq!(all[1].outcome, Err(Error::EmptyQuery));
    }
}

#[test]
fn no_agent_one_agent_ten_thousand_agents() {
    let mut config = MemoryConfig::events(group(2));
    (config.capacity, config.short_term) = (4, 2);
    let mut engine = Engine::new(&config, &Device::Cpu).unwrap();
    engine.step(&mut []).unwrap();
    let mut all = steps(&mut engine, 10_000, 1);
    for tick in 0..12 {
        for (agent, step) in all.iter_mut().enumerate() {
            step.tick = tick;
            step.observations.push(tick, &[agent as f32, tick as f32]).unwrap();
            step.queries = vec![Query::from_masked(&[None, Some(0.0)])];
        }
        engine.step(&mut all).unwrap();
    }
    assert_eq!(engine.agents(), 10_000);
    for (agent, step) in all.iter().enumerate() {
        assert_eq!(step.outcome, Ok(()));
        assert_eq!(step.answers[0].value[0], agent as f32);
    }
}

/// A million observations in one go are as many steps of one.
#[test]
fn a_million_observations_in_one_go() {
    for mut config in [MemoryConfig::events(group(1)), MemoryConfig::trajectory(group(1))] {
        config.capacity = 8;
        let mut at_once = Agent::new(&config);
        at_once.step.observations = ObservationQueue::new(at_once.engine.layout().clone(), 1_000_000);
        for tick in 0..1_000_000 {
            at_once.step.observations.push(tick, &[noise(tick as usize / 1_000)]).unwrap();
        }
        assert_eq!(at_once.step.observations.coalesced(), 0);
        at_once.engine.step(std::slice::from_mut(&mut at_once.step)).unwrap();
        assert_eq!(at_once.engine.observations(at_once.id()), Ok(1_000_000));
        let mut one_by_one = Agent::new(&config);
        (0..1_000_000).for_each(|tick| one_by_one.see(tick, &[noise(tick as usize / 1_000)]));
        let saved = |agent: &mut Agent| agent.engine.save(agent.id()).unwrap();
        assert_eq!(saved(&mut at_once), saved(&mut one_by_one));
    }
}

/// A queue that is full folds its two oldest, and says so.
#[test]
fn a_full_queue_coalesces_its_oldest() {
    let layout = std::sync::Arc::new(MemoryConfig::events(group(1)).layout().unwrap());
    let mut queue = ObservationQueue::new(layout, 3);
    (0..6).for_each(|tick| queue.push(tick, &[tick as f32]).unwrap());
    let waiting: Vec<(u64, f32)> = queue.iter().map(|(tick, values)| (tick, values[0])).collect();
    assert_eq!(waiting, [(3, 1.5), (4, 4.0), (5, 5.0)]);
    assert_eq!(queue.coalesced(), 3);
    let mut other = queue.clone();
    queue.move_into(&mut other);
    assert!(queue.is_empty());
    assert_eq!(other.len(), 3);
    assert_eq!(queue.push(4, &[0.0]), Err(Error::TickOrder { newest: 5, found: 4 }));
}

#[test]
fn a_bad_configuration_names_the_field() {
    let field = |change: &dyn Fn(&mut MemoryConfig)| {
        let mut config = MemoryConfig::trajectory(group(1));
        change(&mut config);
        match config.validate() {
            Err(Error::Configuration { field, allowed, .. }) if !allowed.is_empty() => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(field(&|c| c.capacity = 1), "capacity");
    assert_eq!(field(&|c| c.chunk = 0), "chunk");
    assert_eq!(field(&|c| c.seconds_per_tick = f32::NAN), "seconds_per_tick");
    assert_eq!(field(&|c| c.recall.sharpness = 0.0), "recall.sharpness");
    assert_eq!(field(&|c| c.groups.clear()), "groups");
    assert_eq!(field(&|c| c.groups.push(c.groups[0].clone())), "groups[1].name");
    assert_eq!(
        field(&|c| c.groups[0].channels[0].scale = infformer::Scale::Given(-1.0)),
        "groups[0].channels[0].scale"
    );
    let power_law = |horizon| infformer::Forgetting::PowerLaw {
        resolution: 10.0,
        horizon,
        basis: infformer::basis::BasisKind::Cosine,
    };
    assert_eq!(field(&|c| c.forgetting = power_law(5.0)), "forgetting.horizon");
    assert!(matches!(MemoryConfig::from_ron("(groups: 3)"), Err(Error::Parse(_))));
}

#[test]
fn a_configuration_survives_ron() {
    let presets = [MemoryConfig::events, MemoryConfig::trajectory, MemoryConfig::lifetime, MemoryConfig::paper];
    for config in presets.map(|preset| preset(group(2))).into_iter().chain(every_policy(2)) {
        let text = config.to_ron().unwrap();
        assert_eq!(MemoryConfig::from_ron(&text).unwrap(), config, "{text}");
    }
}

/// Numbers beyond what f32 can square and sum are refused; the largest that are not, are remembered and saved.
#[test]
fn huge_numbers_do_no_harm() {
    for config in every_policy(1) {
        let mut agent = Agent::new(&config);
        for bad in [f32::MAX, 2e15, -1e20] {
            let error = agent.step.observations.push(0, &[bad]).unwrap_err();
            assert!(matches!(error, Error::NotFinite { .. }), "{error}");
        }
        for tick in 0..200 {
            agent.see(tick, &[if tick % 2 == 0 { 1e15 } else { -1e15 }]);
        }
        let answer = agent.ask(200, Query::from_masked(&[Some(1e15)]));
        assert!(
            answer.value[0].is_finite() && answer.age.is_finite() && (0.0..=1.0).contains(&answer.confidence),
            "{answer:?}"
        );
        let bytes = agent.engine.save(agent.id()).unwrap();
        agent.engine.load(agent.id(), &bytes, infformer::LoadedClock::Kept).unwrap();
    }
}

/// One agent twice in a step would write over itself: the second time is refused.
#[test]
fn an_agent_is_in_a_step_once() {
    let mut agent = Agent::new(&MemoryConfig::events(group(1)));
    let mut twice = [agent.step.clone(), agent.step.clone()];
    twice.iter_mut().for_each(|step| step.observations.push(0, &[1.0]).unwrap());
    agent.engine.step(&mut twice).unwrap();
    assert_eq!(twice[0].outcome, Ok(()));
    assert_eq!(twice[1].outcome, Err(Error::Repeated { agent: agent.id().to_string() }));
    assert_eq!(agent.engine.observations(agent.id()), Ok(1));
}

/// A look tells nothing of what was in the slot before.
#[test]
fn a_look_forgets_with_the_memory() {
    let mut agent = Agent::new(&MemoryConfig::events(group(1)));
    let request = infformer::ViewRequest { tick: 100, columns: 8, query: None };
    for tick in 0..100 {
        agent.see(tick, &[noise(tick as usize)]);
        agent.engine.view(agent.id(), &request).unwrap();
    }
    assert!(!agent.engine.view(agent.id(), &request).unwrap().change.is_empty());
    agent.engine.reset(agent.id()).unwrap();
    assert!(agent.engine.view(agent.id(), &request).unwrap().change.is_empty());
}
