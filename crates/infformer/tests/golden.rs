//! Reference vectors of the published module: `paper()`'s mathematics against numbers that others computed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod golden_file;

use golden_file::{GoldenFile, relative_error};
use infformer::attention::LongTermAttention;
use infformer::basis::{Basis, BasisKind};
use infformer::density::AffineGaussian;
use infformer::forgetting::{Padding, Placement, Projection, SampledFit};
use infformer::projection;
use infformer::{AgentStep, ChannelGroup, Device, Engine, Forgetting, MemoryConfig, Scale, sticky};
use nalgebra::DMatrix;

/// The reference is f64 and exact but for rounding; some of its tensors are stored in f32 (6e-8).
const REFERENCE: f64 = 1e-5;

/// The manifest's figures are rounded to two digits: up to half a unit of the second.
const ROUNDED: f64 = 1.05;

/// Name, and how far the module's own float32 inverse is off: B, context (from the vectors' own manifest).
const FILES: [(&str, f64, f64); 9] = [
    ("s1_N16_L8_e4_h1_t75_M64_pad", 1.5e-6, 1.2e-6),
    ("s2_N16_L8_e4_h2_t50_M64_nopad", 1.6e-6, 4e-6),
    ("s3_N64_L32_e16_h2_t75_M512_pad", 1.3e-3, 2.5e-3),
    ("s4_N64_L32_e16_h2_t50_M64_nopad", 1.5e-4, 1.5e-4),
    ("s6_N512_L1024_e4_h2_t75_M512_pad", 8.9e-2, 1.1e-1),
    ("s7_N64_L8_e300_h6_t75_M512_pad", 1.7e-3, 2.6e-3),
    ("g1_N16_L8_e4_h1_t50_M64_pad_sticky", 2.1e-6, 4.3e-6),
    ("g2_N64_L32_e16_h2_t50_M512_pad_sticky", 2.1e-5, 4.6e-5),
    ("g4_N64_L32_e16_h2_t50_M512_pad_nosticky", 1.9e-5, 4.2e-5),
];

fn fit(file: &GoldenFile) -> SampledFit {
    let padding = if file.text("padding") == "True" { Padding::Zeros } else { Padding::None };
    SampledFit { points: file.number("M") as usize, ridge: file.number("ridge"), padding }
}

fn basis(file: &GoldenFile) -> Basis {
    let widths = file.list("sigmas");
    Basis::new(&BasisKind::GaussianRbf { widths }, file.number("N") as usize).unwrap()
}

fn attention(file: &GoldenFile) -> LongTermAttention {
    LongTermAttention {
        heads: file.number("heads") as usize,
        key: file.weight("key"),
        value: file.weight("value"),
        output: file.weight("out"),
        density: AffineGaussian {
            mean_weights: file.weight("mu"),
            variance_weights: file.weight("sigma"),
            variance_floor: file.number("clamp"),
        },
    }
}

/// Compares `found` with `{kind}.{name}` of the file, if it is stored there.
fn compare(file: &GoldenFile, kind: &str, name: &str, found: &[f64], bound: f64) {
    if let Some(expected) = file.tensor(&format!("{kind}.{name}")) {
        let error = relative_error(found, &expected);
        println!("{} {kind}.{name}: {error:.1e} (bound {bound:.1e})", file.name);
        assert!(error <= bound, "{} {kind}.{name}: {error:e} > {bound:e}", file.name);
    }
}

#[test]
fn the_basis_is_the_published_one() {
    for (name, ..) in FILES {
        let file = GoldenFile::open(name);
        let basis = basis(&file);
        // torch.linspace in f32, stored in f64.
        assert!(relative_error(basis.centres(), &file.tensor("basis.mu").unwrap()) < 1e-7, "{name}");
        assert!(relative_error(basis.widths(), &file.tensor("basis.sigma").unwrap()) < 1e-7, "{name}");
    }
}

#[test]
fn writes_and_readings_match() {
    for (name, b_bound, context_bound) in FILES {
        let file = GoldenFile::open(name);
        let basis = basis(&file);
        let tau = file.number("tau");
        let (chunk, width) = (file.number("L") as usize, file.number("e") as usize);
        let fit = fit(&file);
        let operator = projection::geometric(&basis, tau, chunk, Projection::Sampled(fit)).unwrap();
        if file.text("sticky") == "False" {
            compare(&file, "reference", "A", &row_major(&operator.past), REFERENCE);
        }
        compare(&file, "reference", "C", &row_major(&operator.chunk), REFERENCE);
        let attention = attention(&file);
        let agents = file.number("agents") as usize;
        let queries = file.number("queries") as usize;
        let (x, q) = (file.tensor("input.X").unwrap(), file.tensor("input.q").unwrap());
        let stride = file.number("B_channel_stride") as usize;

        let mut coefficients: Vec<Option<DMatrix<f64>>> = vec![None; agents];
        let mut densities = vec![vec![]; agents];
        for write in 0..3 {
            let mut found = Found::default();
            for agent in 0..agents {
                let at = (write * agents + agent) * chunk * width;
                let new = DMatrix::from_row_slice(chunk, width, &x[at..at + chunk * width]);
                let next = match &coefficients[agent] {
                    None => &operator.first * new,
                    Some(past) if file.text("sticky") == "True" => {
                        let histogram = sticky::gaussian_histogram(&densities[agent], 128);
                        compare_sticky(&file, write, agent, agents, &histogram, fit.points);
                        let places = sticky::sample_places(&histogram, fit.points, Placement::LeftEdge);
                        let (_, samples, chunk) = projection::sampled(&basis, tau, chunk, fit).unwrap();
                        samples * (projection::design(&basis, &places) * past) + chunk * new
                    }
                    Some(past) => &operator.past * past + &operator.chunk * new,
                };
                densities[agent].clear();
                let flat = row_major(&next);
                found.b.extend(flat.iter().step_by(stride));
                let readings: Vec<_> = (0..queries)
                    .map(|query| {
                        let at = ((write * agents + agent) * queries + query) * width;
                        attention.read(&basis, &flat, &q[at..at + width])
                    })
                    .collect();
                for head in 0..attention.heads {
                    for reading in &readings {
                        let density = reading.densities[head];
                        found.mean.push(density.mean);
                        found.variance.push(density.variance);
                        // The language model's code pulls the mean towards −1.
                        found.regulariser.push(match file.text("variant") {
                            "gpt2" => density.divergence(-1.0, 0.05),
                            _ => density.regulariser(0.05),
                        });
                        found.expectation.extend(&reading.expectations[head]);
                        densities[agent].push((density.mean, density.variance));
                    }
                }
                readings.iter().for_each(|reading| found.context.extend(&reading.context));
                coefficients[agent] = Some(next);
            }
            for (kind, b, context) in
                [("reference", REFERENCE, REFERENCE), ("official", b_bound * ROUNDED, context_bound * ROUNDED)]
            {
                compare(&file, kind, &format!("B.{write}"), &found.b, b);
                compare(&file, kind, &format!("mu.{write}"), &found.mean, context);
                compare(&file, kind, &format!("sigma_sq.{write}"), &found.variance, context);
                compare(&file, kind, &format!("r.{write}"), &found.expectation, context);
                compare(&file, kind, &format!("kl.{write}"), &found.regulariser, context);
                compare(&file, kind, &format!("context.{write}"), &found.context, context);
            }
        }
    }
}

#[derive(Default)]
struct Found {
    b: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
    regulariser: Vec<f64>,
    expectation: Vec<f64>,
    context: Vec<f64>,
}

fn compare_sticky(file: &GoldenFile, write: usize, agent: usize, agents: usize, histogram: &[f64], points: usize) {
    let expected = file.tensor(&format!("reference.sticky_p.{write}")).unwrap();
    let bins = expected.len() / agents;
    let expected = &expected[agent * bins..(agent + 1) * bins];
    assert!(relative_error(histogram, expected) < REFERENCE, "{} histogram {write}", file.name);
    let places = sticky::sample_places(histogram, points, Placement::LeftEdge);
    let expected = file.tensor(&format!("reference.sticky_ts.{write}.{agent}")).unwrap();
    assert!(relative_error(&places, &expected) < 1e-12, "{} points {write}", file.name);
}

fn row_major(matrix: &DMatrix<f64>) -> Vec<f64> {
    matrix.transpose().as_slice().to_vec()
}

/// The whole engine in f32, with the published configuration, agent by agent and chunk by chunk.
#[test]
fn the_engine_writes_what_the_reference_writes() {
    for (name, ..) in FILES.iter().filter(|(name, ..)| !name.ends_with("_sticky")) {
        let file = GoldenFile::open(name);
        let (chunk, width) = (file.number("L") as usize, file.number("e") as usize);
        let channels: Vec<String> = (0..width).map(|channel| channel.to_string()).collect();
        let channels: Vec<&str> = channels.iter().map(String::as_str).collect();
        let mut config = MemoryConfig::paper(vec![ChannelGroup::new("x", &channels, "", Scale::Given(1.0))]);
        let basis = BasisKind::GaussianRbf { widths: file.list("sigmas") };
        let projection = Projection::Sampled(fit(&file));
        config.forgetting = Forgetting::Geometric { tau: file.number("tau"), basis, projection };
        config.capacity = file.number("N") as usize;
        config.chunk = chunk;
        config.short_term = 0;
        let mut engine = Engine::new(&config, &Device::Cpu).unwrap();
        let agents = file.number("agents") as usize;
        let x = file.tensor("input.X").unwrap();
        let stride = file.number("B_channel_stride") as usize;
        let mut steps: Vec<AgentStep> =
            (0..agents).map(|_| AgentStep::new(engine.spawn().unwrap(), engine.layout().clone(), chunk)).collect();
        for write in 0..3 {
            for (agent, step) in steps.iter_mut().enumerate() {
                for i in 0..chunk {
                    let at = ((write * agents + agent) * chunk + i) * width;
                    let row: Vec<f32> = x[at..at + width].iter().map(|value| *value as f32).collect();
                    step.observations.push((write * chunk + i) as u64, &row).unwrap();
                }
            }
            engine.step(&mut steps).unwrap();
            let mut found = vec![];
            for step in &steps {
                assert_eq!(step.outcome, Ok(()));
                let b = engine.coefficients(step.agent).unwrap();
                for row in b.chunks_exact(width + 1) {
                    found.extend(row[..width].iter().step_by(stride).map(|value| f64::from(*value)));
                }
            }
            compare(&file, "reference", &format!("B.{write}"), &found, REFERENCE);
        }
    }
}

/// The preset is the configuration that the vectors of the sorting experiment were made with.
#[test]
fn the_preset_is_the_published_configuration() {
    let file = GoldenFile::open("s3_N64_L32_e16_h2_t75_M512_pad");
    let config = MemoryConfig::paper(vec![ChannelGroup::new("x", &["x"], "", Scale::Given(1.0))]);
    let basis = BasisKind::GaussianRbf { widths: file.list("sigmas") };
    let projection = Projection::Sampled(fit(&file));
    assert_eq!(config.forgetting, Forgetting::Geometric { tau: file.number("tau"), basis, projection });
}
