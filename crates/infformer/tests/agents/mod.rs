//! Agents for tests: one group of channels, one engine, observations tick by tick.
#![allow(dead_code)]

use infformer::basis::BasisKind;
use infformer::forgetting::{Padding, Placement, Projection, SampledFit};
use infformer::{AgentId, AgentStep, ChannelGroup, Device, Engine, Forgetting, MemoryConfig, Query, Scale};

/// `channels` channels of scale 1 in one group.
pub fn group(channels: usize) -> Vec<ChannelGroup> {
    let names: Vec<String> = (0..channels).map(|channel| format!("c{channel}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    vec![ChannelGroup::new("g", &names, "", Scale::Given(1.0))]
}

/// Every policy on `channels` channels, N = 16, no short-term memory in front of the signal. L = 4, but 32 where a fit
/// sees points: with fewer points than functions the first fit is free between them.
pub fn every_policy(channels: usize) -> Vec<MemoryConfig> {
    let widths = || BasisKind::GaussianRbf { widths: vec![0.05, 0.1] };
    let fit = SampledFit { points: 64, ridge: 1e-6, padding: Padding::None };
    let sticky = |placement| Forgetting::Sticky { tau: 0.75, basis: widths(), fit, bins: 32, placement };
    let power_law = |basis| Forgetting::PowerLaw { resolution: 16.0, horizon: 2_000.0, basis };
    let policies = [
        (Forgetting::Geometric { tau: 0.75, basis: widths(), projection: Projection::default() }, 4),
        (Forgetting::Geometric { tau: 0.75, basis: BasisKind::Cosine, projection: Projection::default() }, 4),
        (Forgetting::Geometric { tau: 0.75, basis: widths(), projection: Projection::Sampled(fit) }, 32),
        (power_law(BasisKind::Cosine), 4),
        (power_law(BasisKind::Legendre), 4),
        (power_law(BasisKind::Bins), 4),
        (Forgetting::Uniform, 4),
        (sticky(Placement::Interpolated), 32),
        (sticky(Placement::LeftEdge), 32),
        (Forgetting::Adaptive(Default::default()), 1),
    ];
    let configure = |(forgetting, chunk)| {
        let mut config = MemoryConfig::trajectory(group(channels));
        (config.forgetting, config.chunk, config.capacity, config.short_term) = (forgetting, chunk, 16, 0);
        config
    };
    policies.map(configure).to_vec()
}

/// One agent in an engine of its own.
pub struct Agent {
    /// The engine.
    pub engine: Engine,
    /// The agent's step.
    pub step: AgentStep,
}

impl Agent {
    /// An agent with an empty memory.
    pub fn new(config: &MemoryConfig) -> Self {
        let mut engine = Engine::new(config, &Device::Cpu).unwrap();
        let agent = engine.spawn().unwrap();
        let step = AgentStep::new(agent, engine.layout().clone(), 1024);
        Self { engine, step }
    }

    /// Its name.
    pub fn id(&self) -> AgentId {
        self.step.agent
    }

    /// Sees `values` at `tick`.
    pub fn see(&mut self, tick: u64, values: &[f32]) {
        self.step.observations.push(tick, values).unwrap();
        self.step.tick = tick;
        self.engine.step(std::slice::from_mut(&mut self.step)).unwrap();
        assert_eq!(self.step.outcome, Ok(()));
    }

    /// Asks at `tick`.
    pub fn ask(&mut self, tick: u64, query: Query) -> infformer::Answer {
        self.step.tick = tick;
        self.step.queries = vec![query];
        self.engine.step(std::slice::from_mut(&mut self.step)).unwrap();
        assert_eq!(self.step.outcome, Ok(()));
        self.step.queries.clear();
        self.step.answers[0].clone()
    }
}

/// Numbers that look random and are the same everywhere.
pub fn noise(i: usize) -> f32 {
    let mut x = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((x >> 40) as f32 / (1_u64 << 24) as f32) * 2.0 - 1.0
}
