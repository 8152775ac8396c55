//! Agents for benchmarks: each measurement prepares a tick, which is not timed, and then does it, which is.
#![allow(dead_code)]

pub mod plain;

use infformer::forgetting::AdaptiveRule;
use infformer::{
    AgentStep, AnswerDetail, ChannelGroup, Device, Engine, Forgetting, MemoryConfig, ObservationQueue, Query, Runtime,
    RuntimeConfig, RuntimeMode, Scale,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// N, where nothing else is said.
pub const CAPACITY: usize = 64;
/// L of the linear policies.
pub const CHUNK: usize = 16;
/// S
pub const SHORT_TERM: usize = 16;

/// Which policy remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// `PowerLaw` on cosines.
    Linear,
    /// `Adaptive`.
    Adaptive,
}

/// What each agent sees: a place (2 channels) and features (the rest), d in all.
pub fn config(policy: Policy, capacity: usize, width: usize) -> MemoryConfig {
    let names: Vec<String> = (2..width).map(|channel| format!("f{channel}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let groups = vec![
        ChannelGroup::new("position", &["x", "y"], "m", Scale::Given(1.0)),
        ChannelGroup::new("features", &names, "", Scale::Given(1.0)),
    ];
    let config = match policy {
        Policy::Linear => MemoryConfig { chunk: CHUNK, ..MemoryConfig::trajectory(groups) },
        Policy::Adaptive => {
            let forgetting = Forgetting::Adaptive(AdaptiveRule::default());
            MemoryConfig { forgetting, ..MemoryConfig::events(groups) }
        }
    };
    MemoryConfig { capacity, short_term: SHORT_TERM, ..config }
}

/// `Adaptive` on one group of channels.
pub fn one_group(capacity: usize, width: usize) -> MemoryConfig {
    let names: Vec<String> = (0..width).map(|channel| format!("f{channel}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let groups = vec![ChannelGroup::new("features", &names, "", Scale::Given(1.0))];
    MemoryConfig { capacity, short_term: SHORT_TERM, ..MemoryConfig::events(groups) }
}

/// Observations as a game makes them: a walk through the plane, and features that change now and then.
#[derive(Clone)]
pub struct Walk {
    random: ChaCha8Rng,
    values: Vec<f32>,
}

impl Walk {
    pub fn new(seed: u64, width: usize) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), values: vec![0.0; width] }
    }

    /// The latest observation \[d\].
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The next observation \[d\].
    pub fn step(&mut self) -> &[f32] {
        let Self { random, values } = self;
        for place in &mut values[..2] {
            *place += random.random_range(-0.1..0.1);
        }
        if random.random_bool(0.1) {
            let channel = random.random_range(2..values.len());
            values[channel] = random.random_range(-1.0..1.0);
        }
        values
    }
}

/// Observations for every agent. They never repeat; what is timed is not their making. Every 257th agent sees the same.
pub struct Seen {
    walks: Vec<Walk>,
}

impl Seen {
    pub fn new(agents: usize, width: usize) -> Self {
        let mut walks: Vec<Walk> = (0..agents.min(257)).map(|agent| Walk::new(agent as u64, width)).collect();
        walks.iter_mut().for_each(|walk| _ = walk.step());
        Self { walks }
    }

    /// Everybody goes on.
    pub fn step(&mut self) {
        self.walks.iter_mut().for_each(|walk| _ = walk.step());
    }

    /// What an agent sees now.
    pub fn get(&self, agent: usize) -> &[f32] {
        self.walks[agent % self.walks.len()].values()
    }
}

/// The channel that queries ask about: a coordinate, which is never still.
pub const ASKED: usize = 0;

/// A query for the times at which the agent was there.
pub fn query(round: u64, detail: AnswerDetail) -> Query {
    let mut query = Query::new().with_detail(detail);
    query.constrain(ASKED, target(round));
    query
}

/// What query number `round` looks for.
pub fn target(round: u64) -> f32 {
    ((round % 7) as f32 - 3.0) / 3.0
}

/// An engine full of agents that have lived for a while.
pub struct Crowd {
    pub engine: Engine,
    pub steps: Vec<AgentStep>,
    /// How much answers tell.
    pub detail: AnswerDetail,
    seen: Seen,
    tick: u64,
}

impl Crowd {
    /// `agents` agents with `history` observations each. Agents are spawned over L ticks, so that their chunks fill at
    /// different ticks, as in a game.
    pub fn new(config: &MemoryConfig, agents: usize, history: u64) -> Self {
        let engine = Engine::new(config, &Device::Cpu).unwrap();
        let width = config.layout().unwrap().width();
        let seen = Seen::new(agents, width);
        let mut crowd = Self { engine, steps: vec![], detail: AnswerDetail::default(), seen, tick: 0 };
        for _ in 0..agents {
            let agent = crowd.engine.spawn().unwrap();
            crowd.steps.push(AgentStep::new(agent, crowd.engine.layout().clone(), 32));
        }
        for round in 0..history {
            let phase = move |agent: usize| agent as u64 % config.chunk as u64;
            crowd.observe(1, |agent| round >= phase(agent));
            crowd.run();
        }
        crowd
    }

    /// Lets the agents live through so many observations more.
    pub fn live(&mut self, observations: u64) {
        self.ask(0);
        for _ in 0..observations {
            self.observe(1, |_| true);
            self.run();
        }
    }

    /// Lets every agent that `sees` push `count` observations, one a tick.
    pub fn observe(&mut self, count: usize, sees: impl Fn(usize) -> bool) {
        for _ in 0..count {
            for (agent, step) in self.steps.iter_mut().enumerate().filter(|(agent, _)| sees(*agent)) {
                step.observations.push(self.tick, self.seen.get(agent)).unwrap();
            }
            self.seen.step();
            self.tick += 1;
        }
        self.steps.iter_mut().for_each(|step| step.tick = self.tick);
    }

    /// Lets every agent ask, or nobody.
    pub fn ask(&mut self, queries: usize) {
        for (agent, step) in self.steps.iter_mut().enumerate() {
            step.queries.clear();
            let rounds = (0..queries).map(|i| self.tick + (agent + i) as u64);
            step.queries.extend(rounds.map(|round| query(round, self.detail)));
        }
    }

    /// Peaks an answer of the latest tick, on average.
    pub fn peaks(&self) -> f64 {
        let answers = self.steps.iter().flat_map(|step| &step.answers);
        let (count, peaks) = answers.fold((0, 0), |(count, peaks), answer| (count + 1, peaks + answer.peaks().len()));
        peaks as f64 / f64::from(count.max(1))
    }

    /// The timed part: everything that was observed and asked.
    pub fn run(&mut self) {
        self.engine.step(&mut self.steps).unwrap();
    }
}

/// A runtime full of agents, as a game has it.
pub struct Game {
    pub runtime: Runtime,
    agents: Vec<infformer::AgentId>,
    queues: Vec<ObservationQueue>,
    queries: Vec<[Query; 1]>,
    answers: Vec<Vec<infformer::Answer>>,
    seen: Seen,
    tick: u64,
    unanswered: usize,
}

impl Game {
    pub fn new(config: &MemoryConfig, agents: usize, workers: usize, detail: AnswerDetail) -> Self {
        let runtime = RuntimeConfig { mode: RuntimeMode::FreeRunning, workers, ..RuntimeConfig::default() };
        let mut runtime = Runtime::new(config, runtime, &Device::Cpu).unwrap();
        let width = runtime.layout().width();
        Self {
            agents: (0..agents).map(|_| runtime.spawn()).collect(),
            queues: (0..agents).map(|_| runtime.observation_queue()).collect(),
            queries: (0..agents).map(|agent| [query(agent as u64, detail)]).collect(),
            answers: vec![vec![]; agents],
            seen: Seen::new(agents, width),
            tick: 0,
            unanswered: 0,
            runtime,
        }
    }

    /// What the game does: its agents see.
    pub fn look(&mut self) {
        for (agent, queue) in self.queues.iter_mut().enumerate() {
            queue.push(self.tick, self.seen.get(agent)).unwrap();
        }
        self.seen.step();
    }

    /// The memory's share of the game's thread, first half: replies.
    pub fn receive(&mut self) -> usize {
        let mut received = 0;
        let Self { runtime, answers, .. } = self;
        runtime.receive(|step, _| {
            received += 1;
            std::mem::swap(&mut answers[step.agent.slot()], &mut step.answers);
        });
        self.unanswered -= received;
        received
    }

    /// Whether every submission was answered.
    pub fn is_answered(&self) -> bool {
        self.unanswered == 0
    }

    /// Second half: what was seen and asked leaves.
    pub fn submit(&mut self) {
        for ((agent, queue), queries) in self.agents.iter().zip(&mut self.queues).zip(&self.queries) {
            self.runtime.submit(*agent, self.tick, queue, queries).unwrap();
        }
        self.unanswered += self.agents.len();
        self.runtime.flush();
        self.tick += 1;
    }
}
