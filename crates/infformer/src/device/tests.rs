//! The kernel, run by the stand-in, beside the host's own engine: the same streams, the same answers.

use super::DeviceArena;
use super::standin::Standin;
use crate::basis::BasisKind;
use crate::channels::{ChannelGroup, Scale};
use crate::config::MemoryConfig;
use crate::density::{Density, Measure};
use crate::engine::{AgentId, AgentStep, Engine, LoadedClock};
use crate::error::Error;
use crate::forgetting::{AdaptiveRule, Forgetting, Projection};
use crate::plan::{Counters, MemoryPlan};
use crate::query::{Answer, AnswerDetail, Peak, Query};
use crate::view::ViewRequest;
use candle_core::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn groups() -> Vec<ChannelGroup> {
    vec![
        ChannelGroup::new("kind", &["a", "b"], "", Scale::Given(0.5)),
        ChannelGroup::new("place", &["x", "y", "z"], "m", Scale::Learnt),
    ]
}

fn config(forgetting: Forgetting, capacity: usize, chunk: usize, short_term: usize) -> MemoryConfig {
    let base = MemoryConfig::events(groups());
    MemoryConfig { forgetting, capacity, chunk, short_term, ..base }
}

/// An engine on the stand-in, or `None` where there is no C compiler.
fn on_standin(config: &MemoryConfig, threads: usize, checks: &[&str]) -> Option<Engine> {
    let mut missing = false;
    let start = |plan: &MemoryPlan| {
        DeviceArena::new(plan, threads, |numbers| match Standin::start(numbers, checks) {
            Some(standin) => Ok(Box::new(standin)),
            None => {
                missing = true;
                Err(Error::Kernel { message: "no stand-in".into() })
            }
        })
    };
    let engine = Engine::on_device(config, &Device::Cpu, start);
    if missing { None } else { Some(engine.unwrap()) }
}

/// What agents of a stream see and ask: things that stay for a while, two or three kinds of them, places that drift.
struct Stream {
    random: ChaCha8Rng,
    kinds: Vec<[f32; 2]>,
    places: Vec<[f32; 3]>,
}

impl Stream {
    fn new(agents: usize) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(7), kinds: vec![[0.0; 2]; agents], places: vec![[0.0; 3]; agents] }
    }

    /// Fills in the steps of a tick; the same for every engine.
    fn fill(&mut self, tick: u64, engines: &mut [Vec<AgentStep>]) {
        for agent in 0..self.kinds.len() {
            let random = &mut self.random;
            for _ in 0..random.random_range(0..3) {
                if random.random_bool(0.2) {
                    self.kinds[agent] = [0, 1].map(|_| random.random_range(-1.0..1.0));
                }
                self.places[agent] = self.places[agent].map(|at| at * 0.98 + random.random_range(-1.0..1.0));
                let [a, b] = self.kinds[agent].map(|kind| kind + random.random_range(-0.02..0.02));
                let [x, y, z] = self.places[agent];
                engines.iter_mut().for_each(|steps| steps[agent].observations.push(tick, &[a, b, x, y, z]).unwrap());
            }
            let mut queries = vec![];
            for _ in 0..random.random_range(0..3) {
                let mut query = Query::new();
                query.constrain(random.random_range(0..2), random.random_range(-1.0..1.0));
                if random.random_bool(0.2) {
                    let kind = self.kinds[agent];
                    query.constrain(0, kind[0]);
                    query.constrain(1, kind[1]);
                    (0..3).for_each(|axis| query.constrain(2 + axis, self.places[agent][axis]));
                } else if random.random_bool(0.5) {
                    query.constrain(2, self.places[agent][0] + random.random_range(-1.0..1.0));
                }
                queries.push(query);
            }
            for steps in &mut *engines {
                steps[agent].tick = tick + 1;
                steps[agent].queries.clone_from(&queries);
            }
        }
    }
}

/// Differences relative to the size of what is compared: 1 + |value|.
fn off(found: f32, expected: f32) -> f32 {
    (found - expected).abs() / (1.0 + expected.abs())
}

/// The largest difference between two answers, or `None` where their peaks are not the same ones.
fn difference(found: &Answer, expected: &Answer) -> Option<f32> {
    assert_eq!(found.value.len(), expected.value.len());
    let mut pairs: Vec<(f32, f32)> = vec![
        (found.age, expected.age),
        // A root is steep at nothing: its square is compared.
        (found.age_spread.powi(2), expected.age_spread.powi(2)),
        (found.confidence, expected.confidence),
    ];
    pairs.extend(found.value.iter().copied().zip(expected.value.iter().copied()));
    let is_finite =
        |peak: Peak| [peak.age, peak.weight, peak.confidence].iter().chain(peak.value).all(|n| n.is_finite());
    assert!(found.peaks().all(is_finite), "{found:?}");
    // What weighs less is within the rounding of what weighs one: which of it is listed is chance.
    let [found, expected] = [found, expected].map(|answer| answer.peaks().filter(|peak| peak.weight > 1e-6));
    let (found, expected) = (found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    if found.len() != expected.len() {
        return None;
    }
    for (found, expected) in found.into_iter().zip(expected) {
        // Peaks of nearly equal mass may have changed places.
        if off(found.age, expected.age) > 0.01 {
            return None;
        }
        pairs.extend([(found.age, expected.age), (found.weight, expected.weight)]);
        pairs.push((found.confidence, expected.confidence));
        pairs.extend(found.value.iter().copied().zip(expected.value.iter().copied()));
    }
    let offs = pairs.into_iter().map(|(found, expected)| off(found, expected));
    Some(offs.fold(0.0, |most, off| if off.is_nan() { f32::INFINITY } else { most.max(off) }))
}

/// Lives the same life on the host and on a device. Distances are at most some twenty squared scales here, and an
/// error of 2⁻²³ of one is multiplied by β = 16 in the exponent: 4e-5, and some for sums of a hundred terms in another
/// order. Which of two nearly equal merges is done, and which of two nearly equal peaks is listed, may differ: of one
/// life, and in one answer of a hundred.
fn lives_alike(config: &MemoryConfig, ticks: u64) {
    if let Some(device) = on_standin(config, 16, &[]) {
        lives_as_on_the_host(config, ticks, device);
    }
}

fn lives_as_on_the_host(config: &MemoryConfig, ticks: u64, device: Engine) {
    const AGENTS: usize = 5;
    let mut engines = [Engine::new(config, &Device::Cpu).unwrap(), device];
    let mut steps = engines.each_mut().map(|engine| {
        let step = |_| AgentStep::new(engine.spawn().unwrap(), engine.layout().clone(), 8);
        (0..AGENTS).map(step).collect::<Vec<_>>()
    });
    let mut stream = Stream::new(AGENTS);
    let (mut answers, mut odd) = (0, [0; AGENTS]);
    let mut most = [0.0_f32; AGENTS];
    for tick in 0..ticks {
        stream.fill(tick, &mut steps);
        for (engine, steps) in engines.iter_mut().zip(&mut steps) {
            engine.step(steps).unwrap();
            if tick == ticks / 3 {
                engine.reset(steps[1].agent).unwrap();
            }
        }
        for agent in 0..AGENTS {
            let [expected, found] = steps.each_ref().map(|steps| &steps[agent]);
            assert!(expected.outcome.is_ok() && found.outcome.is_ok());
            for (found, expected) in found.answers.iter().zip(&expected.answers) {
                answers += 1;
                match difference(found, expected) {
                    Some(difference) => most[agent] = most[agent].max(difference),
                    None => odd[agent] += 1,
                }
            }
        }
    }
    let agents: Vec<AgentId> = steps[0].iter().map(|step| step.agent).collect();
    let alike = |agent: &usize| most[*agent] < 2e-4 && odd[*agent] * 100 * AGENTS <= answers;
    let strange: Vec<usize> = (0..AGENTS).filter(|agent| !alike(agent)).collect();
    let allowed = usize::from(matches!(config.forgetting, Forgetting::Adaptive(_)));
    assert!(answers > 100 && strange.len() <= allowed, "{:?}: {most:?} {odd:?} of {answers}", config.forgetting);
    // What was remembered is the same, and moves from one to the other and back.
    let [host, device] = &mut engines;
    for agent in (0..AGENTS).filter(|agent| !strange.contains(agent)).map(|agent| agents[agent]) {
        let [expected, found] = [&mut *host, &mut *device].map(|engine| engine.coefficients(agent).unwrap());
        assert!(expected.iter().zip(&found).all(|(expected, found)| off(*found, *expected) < 2e-4));
        let saved = device.save(agent).unwrap();
        host.load(agent, &saved, LoadedClock::Kept).unwrap();
        assert_eq!(host.coefficients(agent).unwrap(), found);
        device.load(agent, &host.save(agent).unwrap(), LoadedClock::Kept).unwrap();
        assert_eq!(device.save(agent).unwrap(), saved);
        let request = ViewRequest { tick: ticks, columns: 20, query: None };
        let [left, right] = [&mut *host, &mut *device].map(|engine| engine.view(agent, &request).unwrap());
        assert_eq!(format!("{left:?}"), format!("{right:?}"));
        assert_eq!(host.signal_at(agent, 3.0).unwrap(), device.signal_at(agent, 3.0).unwrap());
    }
}

fn power_law() -> Forgetting {
    Forgetting::PowerLaw { resolution: 8.0, horizon: 2000.0, basis: BasisKind::Cosine }
}

#[test]
fn power_law_is_the_hosts() {
    lives_alike(&config(power_law(), 12, 4, 3), 150);
}

#[test]
fn geometric_is_the_hosts() {
    for basis in [BasisKind::Cosine, BasisKind::GaussianRbf { widths: vec![0.05, 0.1] }] {
        let forgetting = Forgetting::Geometric { tau: 0.75, basis, projection: Projection::default() };
        lives_alike(&config(forgetting, 10, 5, 0), 150);
    }
}

#[test]
fn uniform_is_the_hosts() {
    let mut config = config(Forgetting::Uniform, 9, 4, 2);
    config.recall.measure = Measure::Lifetime;
    lives_alike(&config, 150);
}

#[test]
fn adaptive_is_the_hosts() {
    lives_alike(&config(Forgetting::Adaptive(AdaptiveRule::default()), 12, 1, 3), 250);
    lives_alike(&config(Forgetting::Adaptive(AdaptiveRule::default()), 7, 3, 0), 150);
}

#[test]
fn gaussian_densities_are_the_hosts() {
    for forgetting in [power_law(), Forgetting::Adaptive(AdaptiveRule::default())] {
        let mut config = config(forgetting, 8, 2, 3);
        config.recall.density = Density::Gaussian;
        lives_alike(&config, 100);
    }
}

/// Threads of an agent that touch the same memory have a barrier between them, where rows are shorter than the threads
/// are many and where they are longer.
#[test]
fn threads_do_not_race() {
    for forgetting in [power_law(), Forgetting::Adaptive(AdaptiveRule::default())] {
        for (capacity, threads) in [(6, 16), (20, 8)] {
            let config = config(forgetting.clone(), capacity, 2, 2);
            if let Some(device) = on_standin(&config, threads, &["-fsanitize=thread"]) {
                lives_as_on_the_host(&config, 70, device);
            }
        }
    }
}

/// Constants that a block's memory does not hold are read from afar.
#[test]
fn large_signals_are_the_hosts() {
    let config = config(power_law(), 128, 4, 3);
    if let Some(device) = on_standin(&config, 8, &[]) {
        lives_as_on_the_host(&config, 40, device);
    }
}

/// As many threads as on a GPU, and as many groups and peaks as there may be: one, three, none.
#[test]
fn blocks_are_as_on_a_gpu() {
    let one = vec![ChannelGroup::new("all", &["a", "b", "x", "y", "z"], "", Scale::Given(1.0))];
    let three = vec![
        ChannelGroup::new("kind", &["a", "b"], "", Scale::Given(0.5)),
        ChannelGroup::new("place", &["x", "y"], "m", Scale::Learnt),
        ChannelGroup::new("height", &["z"], "m", Scale::Learnt),
    ];
    for (groups, peaks) in [(one, 0), (three, 8)] {
        let mut config = config(Forgetting::Adaptive(AdaptiveRule::default()), 10, 1, 3);
        (config.groups, config.recall.peaks) = (groups, peaks);
        if let Some(device) = on_standin(&config, 32, &[]) {
            lives_as_on_the_host(&config, 60, device);
        }
    }
    if let Some(device) = on_standin(&config(power_law(), 12, 4, 3), 32, &[]) {
        lives_as_on_the_host(&config(power_law(), 12, 4, 3), 60, device);
    }
}

/// The same on a real device, where there is one.
#[cfg(feature = "cuda")]
#[test]
fn a_gpu_is_the_hosts() {
    let gpu = match Device::new_cuda(0) {
        Ok(gpu) => gpu,
        Err(error) => return eprintln!("SKIPPED: no GPU was tried: {error}"),
    };
    let geometric = Forgetting::Geometric {
        tau: 0.75,
        basis: BasisKind::GaussianRbf { widths: vec![0.05, 0.1] },
        projection: Projection::default(),
    };
    for forgetting in [power_law(), geometric, Forgetting::Uniform, Forgetting::Adaptive(AdaptiveRule::default())] {
        for density in [Density::Gibbs, Density::Gaussian] {
            let mut config = config(forgetting.clone(), 12, 4, 3);
            config.recall.density = density;
            let mut engine = Engine::new(&config, &gpu).unwrap();
            lives_as_on_the_host(&config, 300, engine);
            // On another thread than the one that made it, there and back.
            engine = Engine::new(&config, &Device::Cpu).unwrap();
            engine.move_to(&gpu).unwrap();
            std::thread::scope(|scope| scope.spawn(|| lives_as_on_the_host(&config, 300, engine)).join()).unwrap();
        }
    }
    let large = config(power_law(), 128, 4, 3);
    lives_as_on_the_host(&large, 300, Engine::new(&large, &gpu).unwrap());
}

/// Memories move between the host and a device while they live, and nothing is lost on the way.
#[test]
fn memories_move() {
    let config = config(power_law(), 8, 4, 2);
    let Some(mut device) = on_standin(&config, 8, &[]) else { return };
    let agents: Vec<AgentId> = (0..3).map(|_| device.spawn().unwrap()).collect();
    device.remove(agents[1]).unwrap();
    let live = |engine: &mut Engine, ticks: std::ops::Range<u64>| {
        for tick in ticks {
            let mut step = AgentStep::new(agents[2], engine.layout().clone(), 4);
            step.observations.push(tick, &[0.1, tick as f32, 0.2, 0.3, 0.4]).unwrap();
            engine.step(std::slice::from_mut(&mut step)).unwrap();
            step.outcome.unwrap();
        }
    };
    live(&mut device, 0..50);
    let before = device.save_all().unwrap();
    device.move_to(&Device::Cpu).unwrap();
    assert_eq!(device.save_all().unwrap(), before);
    live(&mut device, 50..60);
    // A slot that was free is free still, and its old name is not given again.
    let new = device.spawn().unwrap();
    assert!(new.slot() == 1 && new != agents[1] && device.observations(agents[1]).is_err());
}

/// A crowd's flat arrays say what steps say, on the host and on the device.
#[test]
fn crowds_are_steps() {
    use crate::crowd::{CrowdAnswers, CrowdStep};
    const AGENTS: usize = 11;
    for forgetting in [power_law(), Forgetting::Uniform, Forgetting::Adaptive(AdaptiveRule::default())] {
        let config = config(forgetting, 8, 2, 3);
        let Some(device) = on_standin(&config, 8, &[]) else { return };
        let mut engines =
            [Engine::new(&config, &Device::Cpu).unwrap(), Engine::new(&config, &Device::Cpu).unwrap(), device];
        let agents: [Vec<AgentId>; 3] =
            engines.each_mut().map(|engine| (0..AGENTS).map(|_| engine.spawn().unwrap()).collect());
        let mut steps: Vec<AgentStep> =
            agents[0].iter().map(|agent| AgentStep::new(*agent, engines[0].layout().clone(), 2)).collect();
        let mut answers = [CrowdAnswers::default(), CrowdAnswers::default()];
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for tick in 0..60 {
            // Some are not there at every tick, so that ages differ.
            let there: Vec<usize> = (0..AGENTS).filter(|agent| tick % (*agent as u64 + 1) == 0).collect();
            let observations: Vec<f32> = (0..there.len() * 5).map(|_| random.random_range(-1.0..1.0)).collect();
            let targets: Vec<f32> = (0..there.len() * 2).map(|_| random.random_range(-1.0..1.0)).collect();
            let mut own: Vec<AgentStep> = there.iter().map(|agent| steps[*agent].clone()).collect();
            for (at, step) in own.iter_mut().enumerate() {
                step.tick = tick;
                step.observations.push(tick, &observations[at * 5..][..5]).unwrap();
                let mut query = Query::new();
                query.constrain(3, targets[at * 2]);
                query.constrain(0, targets[at * 2 + 1]);
                step.queries = vec![query];
            }
            engines[0].step(&mut own).unwrap();
            for (engine, answers) in [1, 2].into_iter().zip(&mut answers) {
                let agents: Vec<AgentId> = there.iter().map(|agent| agents[engine][*agent]).collect();
                let (observations, channels, targets) = (&observations, &[3, 0], &targets);
                let step = CrowdStep { agents: &agents, tick, observations, channels, targets };
                engines[engine].step_crowd(&step, answers).unwrap();
                assert_eq!(answers.len(), there.len());
            }
            for (at, step) in own.iter().enumerate() {
                let (expected, same, near) =
                    (&step.answers[0], answers[0].get(at).unwrap(), answers[1].get(at).unwrap());
                assert_eq!((same.age, same.value), (expected.age, expected.value.as_slice()));
                assert_eq!((same.age_spread, same.confidence), (expected.age_spread, expected.confidence));
                assert!(off(near.age, expected.age) < 2e-4 && off(near.confidence, expected.confidence) < 2e-4);
                assert!(near.value.iter().zip(&expected.value).all(|(near, expected)| off(*near, *expected) < 2e-4));
            }
            there.iter().zip(own).for_each(|(agent, step)| steps[*agent] = step);
        }
        // A crowd that asks nothing is remembered all the same.
        let unasked = [0.25; 5 * AGENTS];
        let saved = [1, 2].map(|engine| {
            let step =
                CrowdStep { agents: &agents[engine], tick: 60, observations: &unasked, channels: &[], targets: &[] };
            engines[engine].step_crowd(&step, &mut answers[engine - 1]).unwrap();
            assert!(answers[engine - 1].is_empty());
            agents[engine].iter().map(|agent| engines[engine].observations(*agent).unwrap()).collect::<Vec<u64>>()
        });
        assert_eq!(saved[0], saved[1]);
        for (host, device) in agents[1].iter().zip(&agents[2]) {
            let expected = engines[1].coefficients(*host).unwrap();
            let found = engines[2].coefficients(*device).unwrap();
            assert!(expected.iter().zip(&found).all(|(expected, found)| off(*found, *expected) < 2e-4));
            let [expected, found] = [(1, host), (2, device)].map(|(engine, agent)| {
                engines[engine].view(*agent, &ViewRequest { tick: 61, columns: 8, query: None })
            });
            assert_eq!(expected.unwrap().short_term, found.unwrap().short_term);
        }
        // What is wrong is refused, and changes nothing.
        for engine in 1..3 {
            let before = engines[engine].save_all().unwrap();
            let own = &agents[engine];
            let (rows, bad) = (vec![0.0; 10], vec![0.0, f32::NAN, 0.0, 0.0, 0.0]);
            let step = |agents, tick, observations, channels, targets| CrowdStep {
                agents,
                tick,
                observations,
                channels,
                targets,
            };
            let swapped = [own[1], own[0]];
            let nobody = step(&[], 70, &[], &[0], &[]);
            engines[engine].step_crowd(&nobody, &mut answers[engine - 1]).unwrap();
            assert!(answers[engine - 1].is_empty());
            let refused = [
                step(&own[..1], 70, &rows[..5], &[0, 0], &[0.0, 1.0]),
                step(&swapped, 70, &rows, &[], &[]),
                step(&own[..1], 3, &rows[..5], &[], &[]),
                step(&own[..1], 70, &rows, &[], &[]),
                step(&own[..1], 70, &bad, &[], &[]),
                step(&own[..1], 70, &rows[..5], &[5], &[0.0]),
                step(&own[..1], 70, &rows[..5], &[0], &[f32::INFINITY]),
            ];
            let mut errors = vec![];
            for step in &refused {
                errors.push(engines[engine].step_crowd(step, &mut answers[engine - 1]).unwrap_err());
            }
            assert!(matches!(
                errors.as_slice(),
                [
                    Error::Configuration { .. },
                    Error::CrowdOrder { .. },
                    Error::TickOrder { found: 3, .. },
                    Error::Width { expected: 5, found: 10, .. },
                    Error::NotFinite { .. },
                    Error::Width { .. },
                    Error::NotFinite { .. }
                ]
            ));
            assert_eq!(engines[engine].save_all().unwrap(), before);
        }
    }
}

/// Observations wider than an agent has threads, and wider than what is written and read at a time, of more groups than
/// are merged at once.
#[test]
fn wide_observations_are_the_hosts() {
    use crate::crowd::{CrowdAnswers, CrowdStep};
    const WIDTH: usize = 35;
    let channels: Vec<String> = (0..WIDTH - 4).map(|channel| format!("c{channel}")).collect();
    let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
    let groups = vec![
        ChannelGroup::new("place", &["x", "y", "z"], "m", Scale::Given(1.0)),
        ChannelGroup::new("features", &channels, "", Scale::Given(1.0)),
        ChannelGroup::new("hunger", &["hunger"], "", Scale::Given(1.0)),
    ];
    for forgetting in [power_law(), Forgetting::Adaptive(AdaptiveRule::default())] {
        let config = MemoryConfig { groups: groups.clone(), ..config(forgetting, 9, 3, 2) };
        let Some(device) = on_standin(&config, 8, &["-fsanitize=thread"]) else { return };
        let mut engines = [Engine::new(&config, &Device::Cpu).unwrap(), device];
        let agents = engines.each_mut().map(|engine| [engine.spawn().unwrap(), engine.spawn().unwrap()]);
        let mut answers = [CrowdAnswers::default(), CrowdAnswers::default()];
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for tick in 0..60 {
            let observations: Vec<f32> = (0..2 * WIDTH).map(|_| random.random_range(-1.0..1.0)).collect();
            let targets: Vec<f32> = (0..4).map(|_| random.random_range(-1.0..1.0)).collect();
            for ((engine, agents), answers) in engines.iter_mut().zip(&agents).zip(&mut answers) {
                let (observations, channels, targets) = (&observations, &[33, 1], &targets);
                engine.step_crowd(&CrowdStep { agents, tick, observations, channels, targets }, answers).unwrap();
            }
            for agent in 0..2 {
                let [expected, found] = answers.each_ref().map(|answers| answers.get(agent).unwrap());
                let values = found.value.iter().copied().zip(expected.value.iter().copied());
                let pairs = [(found.age, expected.age), (found.confidence, expected.confidence)];
                assert!(pairs.into_iter().chain(values).all(|(found, expected)| off(found, expected) < 2e-4));
            }
        }
    }
}

/// Queries for whole densities are answered too, and steps of all kinds in one batch.
#[test]
fn densities_and_refusals() {
    let config = config(power_law(), 8, 4, 2);
    let Some(device) = on_standin(&config, 8, &[]) else { return };
    let mut engines = [Engine::new(&config, &Device::Cpu).unwrap(), device];
    let answers = engines.each_mut().map(|engine| {
        let mut answered = vec![];
        let mut steps: Vec<AgentStep> =
            (0..3).map(|_| AgentStep::new(engine.spawn().unwrap(), engine.layout().clone(), 8)).collect();
        for tick in 0..40 {
            // The second sees nothing, ever; the third is gone from the middle on.
            steps[0].observations.push(tick, &[0.1, tick as f32 * 0.1, 0.0, 1.0, 2.0]).unwrap();
            steps[2].observations.push(tick, &[0.0; 5]).unwrap();
            for (agent, step) in steps.iter_mut().enumerate() {
                step.tick = tick;
                let query = Query::from_masked(&[None, Some(1.0)]);
                let [whole, least] =
                    [AnswerDetail::Density, AnswerDetail::Expectation].map(|detail| query.clone().with_detail(detail));
                // Some steps ask for no peaks at all.
                step.queries =
                    if (tick + agent as u64).is_multiple_of(2) { vec![least] } else { vec![whole, query, least] };
            }
            if tick == 20 {
                engine.remove(steps[2].agent).unwrap();
            }
            engine.step(&mut steps).unwrap();
            assert_eq!(steps[2].outcome.is_err(), tick >= 20);
            answered.extend(steps.iter().flat_map(|step| step.answers.clone()));
        }
        assert!(steps[1].answers.iter().all(|answer| answer.value.is_empty()));
        assert!(steps[2].answers.is_empty());
        answered
    });
    let [expected, found] = &answers;
    // Of the first two 40 ticks, of the third 20: of every other one answer, of the rest three.
    assert_eq!((found.len(), expected.len()), (200, 200));
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.density.len(), expected.density.len());
        assert_eq!(found.peaks().len() > 0, expected.peaks().len() > 0);
    }
    for (found, expected) in found.iter().zip(expected) {
        assert!(difference(found, expected).is_some_and(|difference| difference < 2e-4));
    }
}

/// After two years of ticks, when counts no longer fit a word, statistics go on.
#[test]
fn statistics_outlive_their_count() {
    let config = config(power_law(), 8, 4, 2);
    let mut plan = MemoryPlan::new(&config).unwrap();
    let Some(standin) = Standin::start(&super::numbers::numbers(&plan, 8).unwrap(), &[]) else { return };
    let mut arena = DeviceArena::new(&plan, 8, |_| Ok(Box::new(standin))).unwrap();
    arena.reserve(&plan, 1).unwrap();
    arena.clear(&plan, 0).unwrap();
    arena.counters[0] = Counters { observations: 1 << 40, written: 1 << 40, newest_tick: 9, ..Counters::default() };
    let layout = std::sync::Arc::new(plan.layout.clone());
    let mut step = AgentStep::new(AgentId { slot: 0, generation: 0 }, layout, 2);
    step.observations.push(10, &[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    arena.tick(&mut plan, std::slice::from_mut(&mut step)).unwrap();
    let state = arena.save(&plan, 0).unwrap();
    assert_eq!(state.counters.observations, (1 << 40) + 1);
    // Each counts as one of the latest 65,536.
    let expected = [1.0, 2.0, 3.0, 4.0, 5.0].map(|value: f32| value / 65_536.0);
    assert!(state.floats[2].iter().zip(expected).all(|(mean, expected)| off(*mean, expected) < 1e-6));
    assert!(state.floats[3].iter().all(|variance| variance.is_finite()));
}

/// What the kernel does not have is refused with a word.
#[test]
fn what_the_kernel_lacks_is_refused() {
    let mut half = config(power_law(), 8, 4, 2);
    half.state = crate::config::StatePrecision::Half;
    let start = |plan: &MemoryPlan| DeviceArena::new(plan, 8, |_| unreachable!());
    let refused = Engine::on_device(&half, &Device::Cpu, start);
    assert!(matches!(refused, Err(Error::Device { policy: "a state of half precision", .. })));
}
