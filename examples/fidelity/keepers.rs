//! What is compared: infformer's policies, a ring buffer and a bank of exponential averages, of the same bytes.

use infformer::basis::BasisKind;
use infformer::forgetting::{AdaptiveRule, Padding, Projection, SampledFit};
use infformer::{AgentStep, ChannelGroup, Device, Engine, Error, Forgetting, MemoryConfig, Query, Scale};
use nalgebra::{DMatrix, DVector};

/// One way of keeping a past.
pub trait Keeper {
    /// Takes observations \[n × channels\].
    fn push(&mut self, values: &[f32]) -> Result<(), Error>;
    /// What is remembered of the observation `age` back (0: the newest), \[channels\]; `None` if nothing.
    fn recall(&mut self, age: usize) -> Result<Option<Vec<f32>>, Error>;
}

/// What is compared, by name.
#[derive(Debug, Clone, PartialEq)]
pub enum KeeperKind {
    /// An engine with this policy; the chunk is 16, or 1 for `Adaptive`.
    Policy(&'static str, Forgetting),
    /// The newest observations, as many as fit.
    Ring,
    /// Exponential averages, as many as fit, time constants spaced evenly in the logarithm from 1 to 100,000.
    ExponentialBank,
}

impl KeeperKind {
    /// The rows of the table for N = `capacity`.
    pub fn all(capacity: usize) -> Vec<KeeperKind> {
        let widths = || BasisKind::GaussianRbf { widths: vec![0.01, 0.05] };
        // The paper's ridge and, for Geometric, its 512 points; Sticky samples anew at every write and takes fewer.
        let fit = |points| SampledFit { points, ridge: 1.0, padding: Padding::None };
        vec![
            KeeperKind::Policy(
                "Geometric (the paper's tau = .75)",
                Forgetting::Geometric { tau: 0.75, basis: widths(), projection: Projection::Sampled(fit(512)) },
            ),
            KeeperKind::Policy(
                "Sticky over Geometric",
                Forgetting::Sticky {
                    tau: 0.75,
                    basis: widths(),
                    fit: fit(2 * capacity),
                    bins: 128,
                    placement: Default::default(),
                },
            ),
            KeeperKind::Policy("PowerLaw, cosine", MemoryConfig::trajectory(vec![]).forgetting),
            KeeperKind::Policy("Uniform, Legendre", Forgetting::Uniform),
            KeeperKind::Policy("Adaptive", Forgetting::Adaptive(AdaptiveRule::default())),
            KeeperKind::Ring,
            KeeperKind::ExponentialBank,
        ]
    }

    /// The same, told the noise: only `Adaptive` can use it.
    pub fn with_tolerance(self, tolerance: f64) -> Self {
        match self {
            KeeperKind::Policy(name, Forgetting::Adaptive(rule)) => {
                KeeperKind::Policy(name, Forgetting::Adaptive(AdaptiveRule { tolerance, ..rule }))
            }
            other => other,
        }
    }

    /// The name in tables.
    pub fn name(&self) -> &'static str {
        match self {
            KeeperKind::Policy(name, _) => name,
            KeeperKind::Ring => "ring buffer",
            KeeperKind::ExponentialBank => "exponential averages",
        }
    }

    /// An empty keeper of N = `capacity` floats a channel.
    pub fn start(&self, capacity: usize, channels: usize) -> Result<Box<dyn Keeper>, Error> {
        // Ring and averages get the bytes of `Adaptive`, bookkeeping included.
        let adaptive = config(&Forgetting::Adaptive(AdaptiveRule::default()), capacity, channels);
        let floats = Engine::new(&adaptive, &Device::Cpu)?.bytes_per_agent() / size_of::<f32>() / channels;
        Ok(match self {
            KeeperKind::Policy(_, forgetting) => Box::new(EngineKeeper::new(forgetting, capacity, channels)?),
            KeeperKind::Ring => Box::new(Ring { capacity: floats, channels, values: vec![] }),
            KeeperKind::ExponentialBank => Box::new(ExponentialBank::new(floats, channels)?),
        })
    }
}

/// The configuration under test: the long-term signal alone, without a short-term memory in front of it, and all
/// channels in one group, so that under `Adaptive` they share their knots.
pub fn config(forgetting: &Forgetting, capacity: usize, channels: usize) -> MemoryConfig {
    let names: Vec<String> = (0..channels).map(|channel| format!("c{channel}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let groups = vec![ChannelGroup::new("all", &names, "", Scale::Given(1.0))];
    let mut config = MemoryConfig::trajectory(groups);
    config.forgetting = forgetting.clone();
    config.capacity = capacity;
    config.short_term = 0;
    config.chunk = if matches!(forgetting, Forgetting::Adaptive(_)) { 1 } else { 16 };
    config
}

struct EngineKeeper {
    engine: Engine,
    step: AgentStep,
    tick: u64,
    channels: usize,
}

impl EngineKeeper {
    fn new(forgetting: &Forgetting, capacity: usize, channels: usize) -> Result<Self, Error> {
        let mut engine = Engine::new(&config(forgetting, capacity, channels), &Device::Cpu)?;
        let agent = engine.spawn()?;
        let mut step = AgentStep::new(agent, engine.layout().clone(), 16);
        if matches!(forgetting, Forgetting::Sticky { .. }) {
            // Attention for the histogram: "when was it as it is now?"
            step.queries.push(Query::default());
        }
        Ok(Self { engine, step, tick: 0, channels })
    }
}

impl Keeper for EngineKeeper {
    fn push(&mut self, values: &[f32]) -> Result<(), Error> {
        for rows in values.chunks(16 * self.channels) {
            for row in rows.chunks_exact(self.channels) {
                self.step.observations.push(self.tick, row)?;
                self.tick += 1;
                if let Some(query) = self.step.queries.first_mut() {
                    row.iter().enumerate().for_each(|(channel, value)| query.constrain(channel, *value));
                }
            }
            self.step.tick = self.tick;
            self.engine.step(std::slice::from_mut(&mut self.step))?;
            self.step.outcome.clone()?;
        }
        Ok(())
    }

    fn recall(&mut self, age: usize) -> Result<Option<Vec<f32>>, Error> {
        self.engine.signal_at(self.step.agent, age as f64)
    }
}

struct Ring {
    capacity: usize,
    channels: usize,
    values: Vec<f32>,
}

impl Keeper for Ring {
    fn push(&mut self, values: &[f32]) -> Result<(), Error> {
        self.values.extend(values);
        let excess = self.values.len().saturating_sub(self.capacity * self.channels);
        self.values.drain(..excess);
        Ok(())
    }

    fn recall(&mut self, age: usize) -> Result<Option<Vec<f32>>, Error> {
        Ok(self.values.rchunks_exact(self.channels).nth(age).map(<[f32]>::to_vec))
    }
}

/// The averages are decoded by ridge regression: the past is taken as independent cells, evenly spaced in log age.
struct ExponentialBank {
    keeps: Vec<f32>,
    averages: DMatrix<f32>,
    channels: usize,
    /// Maps the averages to the cells of the past \[cells × N\].
    decode: DMatrix<f64>,
    edges: Vec<f64>,
}

impl ExponentialBank {
    fn new(capacity: usize, channels: usize) -> Result<Self, Error> {
        let spaced = |i: usize, count: usize| (1e5_f64.ln() * i as f64 / (count - 1) as f64).exp();
        let keeps: Vec<f64> = (0..capacity).map(|i| (-1.0 / spaced(i, capacity)).exp()).collect();
        let cells = 4 * capacity;
        let edges: Vec<f64> = (0..=cells).map(|i| spaced(i, cells + 1) - 1.0).collect();
        // Share of a cell in an average: the sum of (1 − keep)·keepᵃ over its ages.
        let response =
            DMatrix::from_fn(capacity, cells, |i, cell| keeps[i].powf(edges[cell]) - keeps[i].powf(edges[cell + 1]));
        let mut normal = &response * response.transpose();
        (0..capacity).for_each(|i| normal[(i, i)] += 1e-8);
        let singular = || Error::Tensor("the averages cannot be decoded: their responses are singular".into());
        let decode = normal.cholesky().ok_or_else(singular)?.solve(&response).transpose();
        let keeps = keeps.iter().map(|keep| *keep as f32).collect();
        Ok(Self { keeps, averages: DMatrix::zeros(capacity, channels), channels, decode, edges })
    }
}

impl Keeper for ExponentialBank {
    fn push(&mut self, values: &[f32]) -> Result<(), Error> {
        for row in values.chunks_exact(self.channels) {
            for (channel, value) in row.iter().enumerate() {
                for (average, keep) in self.averages.column_mut(channel).iter_mut().zip(&self.keeps) {
                    *average += (1.0 - keep) * (value - *average);
                }
            }
        }
        Ok(())
    }

    fn recall(&mut self, age: usize) -> Result<Option<Vec<f32>>, Error> {
        let cell = self.edges.partition_point(|edge| *edge <= age as f64).saturating_sub(1);
        if cell >= self.decode.nrows() {
            return Ok(None);
        }
        let value: DVector<f64> = self.averages.map(f64::from).tr_mul(&self.decode.row(cell).transpose());
        Ok(Some(value.iter().map(|value| *value as f32).collect()))
    }
}
