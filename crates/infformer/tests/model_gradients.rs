//! Gradients: against central differences in f64, and against the published module's own.
#![allow(clippy::unwrap_used, clippy::panic)]

mod golden_file;
mod models;

use candle_core::{DType, Device, Tensor};
use golden_file::{GoldenFile, relative_error};
use infformer::basis::BasisKind;
use infformer::forgetting::{Padding, Placement, Projection, SampledFit};
use infformer::model::{
    Input, InputMask, LongTermConfig, LongTermForgetting, Model, ModelConfig, ReadingDensity, Regulariser, Reset,
    Residual, Wanted,
};
use infformer::{ChannelGroup, Forgetting, Scale, weights};
use models::{config, densities, observations, policies};
use std::collections::BTreeMap;

/// A scalar of everything that comes out.
fn loss(model: &Model, x: &Tensor, resets: &[Reset]) -> Tensor {
    let state = model.empty_state(x.dim(0).unwrap()).unwrap();
    let (outputs, _) = model.forward_segment(x, resets, Wanted::All, &state).unwrap();
    let mut sum = Tensor::zeros((), DType::F64, &Device::Cpu).unwrap();
    for (number, head) in outputs.heads.iter().enumerate() {
        // Each tick and each number has a weight of its own.
        let count = head.elem_count();
        let weights: Vec<f64> = (0..count).map(|i| (1.3 * i as f64 + number as f64).sin()).collect();
        let weights = Tensor::from_vec(weights, head.dims(), &Device::Cpu).unwrap();
        sum = (sum + (head * weights).unwrap().sum_all().unwrap()).unwrap();
    }
    match outputs.regulariser {
        Some(regulariser) => (sum + (regulariser * 0.1).unwrap()).unwrap(),
        None => sum,
    }
}

/// Central differences with a step of 1e-5: their error is 1e-10 of the third derivative and 1e-16/1e-5 of the loss,
/// whose size is some tens; two orders more are left for sums of some hundred such terms.
const STEP: f64 = 1e-5;
const CLOSE: f64 = 1e-6;

#[test]
fn every_weight_of_every_policy_and_density() {
    let resets = [Reset { member: 1, tick: 11 }];
    let x = observations(2, 22, 7);
    for (name, policy) in policies() {
        for density in densities() {
            let config = config(policy.clone(), density, InputMask::Convolution);
            let mut config = ModelConfig { recurrence: 3, residual: Residual::Gate, ..config };
            // Where attention was is a constant to the gradient but not to a difference: with one layer, these weights
            // do not move it.
            let still = ["value", "output", "feed_forward", "norm", "heads", "recurrence", "gate"];
            let sticky = name == "sticky";
            if sticky {
                config.layers = 1;
            }
            if let Some(long_term) = &mut config.long_term {
                long_term.regulariser = Some(match density {
                    ReadingDensity::Gibbs | ReadingDensity::Softmax => Regulariser::Prior,
                    _ => Regulariser::Normal { sigma_0: 0.1, mu_0: Some(0.5) },
                });
            }
            let model = config.init_seeded(3, DType::F64, &Device::Cpu).unwrap();
            let gradients = loss(&model, &x, &resets).backward().unwrap();
            let moves_attention = |parameter: &str| {
                !still.iter().any(|part| parameter.contains(part)) || parameter.contains("attention_norm")
            };
            for (parameter, var) in model.parameters() {
                if sticky && moves_attention(parameter) {
                    continue;
                }
                let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name} {density:?}: {parameter} has none"));
                let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                let before = var.as_tensor().copy().unwrap();
                let values = before.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                // One entry of each tensor.
                let at = 2 * values.len() / 3;
                let moved = |by: f64| {
                    let mut values = values.clone();
                    values[at] += by;
                    var.set(&Tensor::from_vec(values, before.dims(), &Device::Cpu).unwrap()).unwrap();
                    loss(&model, &x, &resets).to_scalar::<f64>().unwrap()
                };
                let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let off = (difference - gradient[at]).abs() / (1.0 + difference.abs());
                assert!(off < CLOSE, "{name} {density:?} {parameter}[{at}]: {difference} and {}", gradient[at]);
                var.set(&before).unwrap();
            }
        }
    }
}

/// With K writes, a reading teaches the newest K + 1 chunks and no older one (the first cut falls where K says).
#[test]
fn gradients_end_where_they_are_cut() {
    let reach = |gradient_writes: usize| {
        let policy = LongTermForgetting::MeanPooled { rate: 1 };
        let mut config = config(policy, ReadingDensity::Gibbs, InputMask::Everything);
        config.layers = 1;
        config.long_term =
            config.long_term.map(|long_term| LongTermConfig { gradient_writes, capacity: 64, ..long_term });
        let model = config.init_seeded(1, DType::F64, &Device::Cpu).unwrap();
        let x = candle_core::Var::from_tensor(&observations(1, 45, 8).to_dtype(DType::F64).unwrap()).unwrap();
        let state = model.empty_state(1).unwrap();
        let (outputs, _) = model.forward_segment(x.as_tensor(), &[], Wanted::Last(1), &state).unwrap();
        let gradients = outputs.readout.unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
        // Tokens carry none: look at the numbers.
        let gradient = gradients.get(&x).unwrap().narrow(2, 0, 2).unwrap().abs().unwrap().sum(2).unwrap();
        let gradient = gradient.squeeze(0).unwrap().to_vec1::<f64>().unwrap();
        gradient.iter().position(|size| *size > 0.0).unwrap()
    };
    // Ticks 0..36 are written in nine chunks of four: S = 5 stay, with what has come since.
    assert_eq!(reach(1_000), 0);
    assert_eq!(reach(0), 36);
    assert!(reach(3) < 36 && reach(3) > 0);
}

const FILES: [&str; 9] = [
    "s1_N16_L8_e4_h1_t75_M64_pad",
    "s2_N16_L8_e4_h2_t50_M64_nopad",
    "s3_N64_L32_e16_h2_t75_M512_pad",
    "s4_N64_L32_e16_h2_t50_M64_nopad",
    "s6_N512_L1024_e4_h2_t75_M512_pad",
    "g4_N64_L32_e16_h2_t50_M512_pad_nosticky",
    "s7_N64_L8_e300_h6_t75_M512_pad",
    "g1_N16_L8_e4_h1_t50_M64_pad_sticky",
    "g2_N64_L32_e16_h2_t50_M512_pad_sticky",
];

/// The published names, imported into a layer; three writes and readings, and the gradients of the last.
#[test]
fn the_published_module_imported() {
    for name in FILES {
        let file = GoldenFile::open(name);
        let [count, chunk, width, heads] = ["N", "L", "e", "heads"].map(|field| file.number(field) as usize);
        let padding = if file.text("padding") == "True" { Padding::Zeros } else { Padding::None };
        let fit = SampledFit { points: file.number("M") as usize, ridge: file.number("ridge"), padding };
        let basis = BasisKind::GaussianRbf { widths: file.list("sigmas") };
        let tau = file.number("tau");
        let forgetting = match file.text("sticky") == "True" {
            true => Forgetting::Sticky { tau, basis, fit, bins: 128, placement: Placement::LeftEdge },
            false => Forgetting::Geometric { tau, basis, projection: Projection::Sampled(fit) },
        };
        let long_term = LongTermConfig {
            forgetting: LongTermForgetting::Signal(forgetting),
            capacity: count,
            density: ReadingDensity::Affine { variance_floor: file.number("clamp") },
            gradient_writes: 0,
            ..LongTermConfig::default()
        };
        let names: Vec<String> = (0..width).map(|channel| channel.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let channels = ChannelGroup::new("x", &names, "", Scale::Given(1.0)).channels;
        let config = ModelConfig {
            width,
            layers: 1,
            attention_heads: heads,
            feed_forward: 1,
            short_term: chunk,
            chunk,
            long_term: Some(long_term),
            ..ModelConfig::new(vec![Input::Continuous { name: "x".into(), channels }], vec![])
        };
        // The module projects its queries elsewhere: here by the identity.
        let f64_tensor = |values: Vec<f64>, shape: &[usize]| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        let mut published = BTreeMap::new();
        let mut put = |name: &str, values: Vec<f64>, shape: &[usize]| {
            published.insert(format!("long_term_attention.{name}.weight"), f64_tensor(values, shape));
        };
        put("proj_key", file.weight("key"), &[width, width]);
        put("proj_value", file.weight("value"), &[width, width]);
        put("attn_out", file.weight("out"), &[width, width]);
        put("mu", file.weight("mu"), &[1, count]);
        put("sigma", file.weight("sigma"), &[1, count]);
        let identity: Vec<f64> = (0..width * width).map(|at| f64::from(u8::from(at / width == at % width))).collect();
        put("proj_query", identity, &[width, width]);
        let imported = weights::import_published(&published, "long_term_attention.", 0).unwrap();
        let fresh = config.init_seeded(0, DType::F64, &Device::Cpu).unwrap();
        let mut all: BTreeMap<String, Tensor> =
            fresh.parameters().iter().map(|(name, var)| (name.clone(), var.as_tensor().copy().unwrap())).collect();
        all.extend(imported);
        let model = weights::from_tensors(&config, all, &Device::Cpu).unwrap();

        let (agents, queries) = (file.number("agents") as usize, file.number("queries") as usize);
        let (x, q) = (file.tensor("input.X").unwrap(), file.tensor("input.q").unwrap());
        let part = |values: &[f64], write: usize, rows: usize| {
            let length = agents * rows * width;
            f64_tensor(values[write * length..(write + 1) * length].to_vec(), &[agents, rows, width])
        };
        let mut memory = model.layer_memory(0, agents).unwrap();
        for write in 0..3 {
            let last_x = candle_core::Var::from_tensor(&part(&x, write, chunk)).unwrap();
            let last_q = candle_core::Var::from_tensor(&part(&q, write, queries)).unwrap();
            memory.write(&last_x).unwrap();
            let context = memory.read(&last_q).unwrap();
            // What the vectors' own notes ask for.
            let bound = 1e-5;
            let compare = |found: &Tensor, name: &str| {
                let expected = file.tensor(&format!("reference.{name}")).unwrap();
                let mut found = found.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                // Of large gradients the file has the first rows, and the norm of all.
                let norm = name.strip_prefix("grad.").map(|name| format!("reference.grad_norm.{name}"));
                if let Some(norm) = norm.and_then(|norm| file.tensor(&norm)) {
                    let own = found.iter().map(|value| value * value).sum::<f64>().sqrt();
                    assert!((own - norm[0]).abs() < bound * norm[0], "{} {name}: {own} and {norm:?}", file.name);
                    found.truncate(expected.len());
                }
                let error = relative_error(&found, &expected);
                println!("{} {name}: {error:.1e}", file.name);
                assert!(error < bound, "{} {name}: {error:e}", file.name);
            };
            compare(&context, &format!("context.{write}"));
            if write == 2 {
                let towards = f64_tensor(file.tensor("input.R").unwrap(), &[agents, queries, width]);
                let gradients = (context * towards).unwrap().sum_all().unwrap().backward().unwrap();
                compare(gradients.get(&last_x).unwrap(), "grad.x");
                compare(gradients.get(&last_q).unwrap(), "grad.q");
                for (theirs, ours) in
                    [("key", "key"), ("value", "value"), ("out", "output"), ("mu", "mean"), ("sigma", "variance")]
                {
                    let var = &model.parameters()[&format!("layers.0.long_term.{ours}.weight")];
                    compare(gradients.get(var).unwrap(), &format!("grad.{theirs}"));
                }
            }
        }
    }
}
