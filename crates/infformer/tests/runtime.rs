//! The runtime: modes, back-pressure, failures, endings.
#![allow(clippy::unwrap_used, clippy::panic)]

mod agents;

use agents::{every_policy, group, noise};
use infformer::{
    AgentId, Answer, Device, Error, LoadedClock, MemoryConfig, ObservationQueue, Query, Runtime, RuntimeConfig,
    RuntimeMode, Submitted, ViewRequest,
};

fn runtime(memory: &MemoryConfig, mode: RuntimeMode, workers: usize) -> Runtime {
    let config = RuntimeConfig { mode, workers, observations: 8, ..RuntimeConfig::default() };
    Runtime::new(memory, config, &Device::Cpu).unwrap()
}

/// Some agents in a runtime, fed the same way everywhere.
struct Crowd {
    runtime: Runtime,
    agents: Vec<(AgentId, ObservationQueue, Answer)>,
    tick: u64,
}

impl Crowd {
    fn new(mut runtime: Runtime, agents: usize) -> Self {
        let agents = (0..agents).map(|_| (runtime.spawn(), runtime.observation_queue(), Answer::default())).collect();
        Self { runtime, agents, tick: 0 }
    }

    fn receive(&mut self) -> Vec<Result<(), Error>> {
        let mut outcomes = vec![];
        let agents = &mut self.agents;
        self.runtime.receive(|step, _| {
            outcomes.push(step.outcome.clone());
            if let Some((_, _, answer)) = agents.iter_mut().find(|(id, ..)| *id == step.agent)
                && let Some(new) = step.answers.first()
            {
                *answer = new.clone();
            }
        });
        outcomes
    }

    fn submit(&mut self) -> Vec<Submitted> {
        let query = [Query::from_masked(&[Some(0.2), None])];
        let mut submitted = vec![];
        for (i, (agent, queue, _)) in self.agents.iter_mut().enumerate() {
            queue.push(self.tick, &[noise(i * 31 + self.tick as usize), i as f32]).unwrap();
            submitted.push(self.runtime.submit(*agent, self.tick, queue, &query).unwrap());
        }
        self.runtime.flush();
        self.tick += 1;
        submitted
    }

    fn wait(&mut self) {
        while self.runtime.diagnostics().queue_depth > 0 {
            self.receive();
            std::thread::yield_now();
        }
    }
}

/// The numbers do not depend on the mode or on the number of workers.
#[test]
fn all_modes_give_the_same_bits() {
    for mut memory in every_policy(2) {
        memory.short_term = 2;
        let life = |mode, workers| {
            let mut crowd = Crowd::new(runtime(&memory, mode, workers), 7);
            let mut heard = vec![];
            for _ in 0..60 {
                crowd.receive();
                heard.push(crowd.agents.iter().map(|(.., answer)| answer.age.to_bits()).collect::<Vec<_>>());
                crowd.submit();
            }
            crowd.receive();
            let values: Vec<Vec<u32>> = crowd
                .agents
                .iter()
                .map(|(.., answer)| answer.value.iter().map(|value| value.to_bits()).collect())
                .collect();
            (heard, values)
        };
        let inline = life(RuntimeMode::Inline, 1);
        // Lockstep hears the reply to tick f at tick f + 1, as inline does.
        assert_eq!(life(RuntimeMode::Lockstep, 1), inline, "{:?}", memory.forgetting);
        assert_eq!(life(RuntimeMode::Lockstep, 3), inline, "{:?}", memory.forgetting);
    }
}

/// Free running loses nothing: what a lagging worker cannot take waits, and is counted when it is coalesced.
#[test]
fn free_running_loses_nothing_silently() {
    let memory = MemoryConfig::events(group(2));
    let mut crowd = Crowd::new(runtime(&memory, RuntimeMode::FreeRunning, 2), 4);
    let mut deferred = 0;
    for _ in 0..500 {
        // Replies are never read: after two batches a worker takes no more.
        deferred += crowd.submit().iter().filter(|submitted| **submitted == Submitted::Deferred).count();
    }
    assert_eq!(crowd.runtime.diagnostics().deferred, deferred as u64);
    assert!(deferred >= 4 * 490);
    crowd.wait();
    crowd.submit();
    crowd.wait();
    let coalesced: u64 = crowd.agents.iter().map(|(_, queue, _)| queue.coalesced()).sum();
    let mut views = 0;
    for (agent, queue, _) in &mut crowd.agents {
        crowd.runtime.request_view(*agent, ViewRequest { tick: 501, columns: 8, query: None }).unwrap();
        assert!(queue.is_empty());
    }
    while views < 4 {
        crowd.runtime.poll_views();
        for (agent, queue, _) in &crowd.agents {
            if let Some(view) = crowd.runtime.take_view(*agent) {
                // Every observation is in memory, or was folded into one that is.
                assert_eq!(view.unwrap().observations + queue.coalesced(), 501);
                views += 1;
            }
        }
        std::thread::yield_now();
    }
    assert!(coalesced > 0);
}

/// A failed worker says so to everyone, forgets nothing, and works again after a restart.
#[test]
fn a_failed_worker_keeps_its_memories() {
    for mode in [RuntimeMode::Inline, RuntimeMode::Lockstep, RuntimeMode::FreeRunning] {
        let memory = MemoryConfig::events(group(2));
        let mut crowd = Crowd::new(runtime(&memory, mode, 1), 3);
        for _ in 0..30 {
            crowd.submit();
            crowd.wait();
            crowd.receive();
        }
        let agent = crowd.agents[0].0;
        let before = crowd.runtime.save(agent).unwrap();
        crowd.runtime.inject_failure(agent).unwrap();
        crowd.submit();
        let mut outcomes = crowd.receive();
        while crowd.runtime.diagnostics().queue_depth > 0 {
            outcomes.extend(crowd.receive());
        }
        assert_eq!(outcomes.len(), 3);
        assert!(
            outcomes
                .iter()
                .all(|outcome| matches!(outcome, Err(Error::Worker { message }) if message == "asked to fail"))
        );
        assert!(crowd.runtime.has_failed());
        assert_eq!(crowd.runtime.take_failures().collect::<Vec<_>>(), ["asked to fail"]);
        assert_eq!(crowd.runtime.diagnostics().lost_observations, 3);
        // Until the restart everything waits in the queues.
        assert_eq!(crowd.submit(), [Submitted::Deferred; 3]);
        assert_eq!(crowd.agents[0].1.len(), 1);
        assert_eq!(crowd.runtime.restart().unwrap(), 0);
        assert_eq!(crowd.runtime.save(agent).unwrap(), before);
        assert_eq!(crowd.submit(), [Submitted::Taken; 3]);
        crowd.wait();
        assert!(crowd.receive().iter().all(Result::is_ok));
        assert!(!crowd.runtime.has_failed());
        assert_ne!(crowd.runtime.save(agent).unwrap(), before);
    }
}

/// An agent may go while its reply is on its way; whoever gets its slot hears nothing of it.
#[test]
fn an_agent_may_go_while_its_reply_is_under_way() {
    for mode in [RuntimeMode::Inline, RuntimeMode::Lockstep, RuntimeMode::FreeRunning] {
        let mut crowd = Crowd::new(runtime(&MemoryConfig::events(group(2)), mode, 1), 2);
        (0..20).for_each(|_| drop((crowd.submit(), crowd.wait())));
        crowd.submit();
        let old = crowd.agents[0].0;
        crowd.runtime.remove(old).unwrap();
        assert!(matches!(crowd.runtime.remove(old), Err(Error::UnknownAgent { .. })));
        let new = crowd.runtime.spawn();
        assert_eq!((new.slot(), new == old), (old.slot(), false));
        crowd.agents[0] = (new, crowd.runtime.observation_queue(), Answer::default());
        crowd.wait();
        crowd.receive();
        assert_eq!(crowd.agents[0].2, Answer::default());
        crowd.submit();
        crowd.wait();
        crowd.receive();
        // It knows of its own single observation only.
        assert_eq!(crowd.agents[0].2.age, 0.0);
        assert_eq!(crowd.runtime.diagnostics().agents, 2);
    }
}

/// What was submitted before a reset is gone with it, even when it was not sent yet.
#[test]
fn a_reset_reaches_what_was_not_sent_yet() {
    let mut crowd = Crowd::new(runtime(&MemoryConfig::events(group(2)), RuntimeMode::Lockstep, 1), 1);
    crowd.submit();
    crowd.receive();
    let (agent, queue, _) = &mut crowd.agents[0];
    let fresh = runtime(&MemoryConfig::events(group(2)), RuntimeMode::Inline, 1);
    let mut fresh = Crowd::new(fresh, 1);
    let empty = fresh.runtime.save(fresh.agents[0].0).unwrap();
    queue.push(1, &[5.0, 5.0]).unwrap();
    crowd.runtime.submit(*agent, 1, queue, &[]).unwrap();
    crowd.runtime.reset(*agent).unwrap();
    let agent = *agent;
    assert_eq!(crowd.runtime.save(agent).unwrap(), empty);
}

/// Saved bytes move from one runtime to another; a refused one leaves the memory alone.
#[test]
fn memories_are_saved_and_loaded() {
    let memory = MemoryConfig::trajectory(group(2));
    let mut crowd = Crowd::new(runtime(&memory, RuntimeMode::FreeRunning, 2), 3);
    (0..100).for_each(|_| drop((crowd.submit(), crowd.wait())));
    let agents: Vec<AgentId> = crowd.agents.iter().map(|(agent, ..)| *agent).collect();
    let saved = crowd.runtime.save(agents[0]).unwrap();
    let mut other = Crowd::new(runtime(&memory, RuntimeMode::Inline, 1), 1);
    let new = other.agents[0].0;
    other.runtime.load(new, saved.clone(), LoadedClock::Kept).unwrap();
    let again = other.runtime.save(new).unwrap();
    assert_eq!(again, saved);
    assert!(matches!(other.runtime.load(new, vec![1, 2, 3], LoadedClock::Kept), Err(Error::Snapshot(_))));
    assert_eq!(other.runtime.save(new).unwrap(), again);
}

/// Dropping a runtime ends its threads, whatever is under way.
#[test]
fn dropping_is_a_clean_end() {
    let mut crowd = Crowd::new(runtime(&MemoryConfig::lifetime(group(2)), RuntimeMode::FreeRunning, 4), 64);
    (0..5).for_each(|_| drop(crowd.submit()));
    drop(crowd);
}

/// A queue of another memory, a query that does not fit, a second submission: refused or put off, and nothing is lost.
#[test]
fn a_submission_that_does_not_fit_is_not_taken() {
    let mut crowd = Crowd::new(runtime(&MemoryConfig::events(group(2)), RuntimeMode::Inline, 1), 1);
    let (agent, queue, _) = &mut crowd.agents[0];
    let mut foreign = runtime(&MemoryConfig::events(group(1)), RuntimeMode::Inline, 1).observation_queue();
    foreign.push(0, &[1.0]).unwrap();
    assert!(matches!(crowd.runtime.submit(*agent, 0, &mut foreign, &[]), Err(Error::Layout { .. })));
    queue.push(0, &[1.0, 2.0]).unwrap();
    assert_eq!(crowd.runtime.submit(*agent, 0, queue, &[Query::new()]), Err(Error::EmptyQuery));
    assert_eq!((foreign.len(), queue.len()), (1, 1));
    assert_eq!(crowd.runtime.submit(*agent, 0, queue, &[]), Ok(Submitted::Taken));
    queue.push(1, &[1.0, 2.0]).unwrap();
    assert_eq!(crowd.runtime.submit(*agent, 1, queue, &[]), Ok(Submitted::Deferred));
    assert_eq!(queue.len(), 1);
    let refuse = |config| Runtime::new(&MemoryConfig::events(group(2)), config, &Device::Cpu).map(drop);
    let error = refuse(RuntimeConfig { workers: 0, ..RuntimeConfig::default() }).unwrap_err();
    assert!(error.to_string().contains("`runtime.workers` is 0"), "{error}");
}

/// To be told to go where one is changes nothing.
#[test]
fn memories_that_are_there_already_stay() {
    let memory = MemoryConfig::events(group(1));
    let mut runtime = Runtime::new(&memory, RuntimeConfig::default(), &Device::Cpu).unwrap();
    let (agent, mut seen) = (runtime.spawn(), runtime.observation_queue());
    seen.push(0, &[0.5]).unwrap();
    runtime.submit(agent, 0, &mut seen, &[]).unwrap();
    runtime.flush();
    let before = runtime.save(agent).unwrap();
    runtime.move_to(&Device::Cpu).unwrap();
    runtime.flush();
    assert_eq!(runtime.save(agent).unwrap(), before);
    assert!(runtime.device().is_cpu() && runtime.take_failures().next().is_none());
}
