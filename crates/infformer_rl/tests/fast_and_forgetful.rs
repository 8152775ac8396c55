//! Fast and forgetful memory against itself written down slowly.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use infformer::model::Reset;
use infformer::model::parameters::{Parameters, seeded};
use infformer_rl::memories::FastAndForgetful;
use infformer_rl::memory::Memory;

const WIDTH: usize = 3;
const TRACES: usize = 5;
const CONTEXTS: usize = 4;

fn weight(parameters: &Parameters, name: &str) -> Vec<f64> {
    parameters[name].flatten_all().unwrap().to_vec1().unwrap()
}

fn affine(parameters: &Parameters, name: &str, x: &[f64]) -> Vec<f64> {
    let (matrix, bias) = (weight(parameters, &format!("{name}.weight")), weight(parameters, &format!("{name}.bias")));
    let row = |(row, bias): (&[f64], f64)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias;
    matrix.chunks_exact(x.len()).zip(bias).map(row).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// What comes out at each tick.
fn slow(parameters: &Parameters, x: &[Vec<f64>], reset: Option<usize>) -> Vec<Vec<f64>> {
    let evenly =
        |first: f64, last: f64, at: usize, count: usize| first + (last - first) * at as f64 / (count - 1) as f64;
    let (decays, frequencies) = (weight(parameters, "decay"), weight(parameters, "frequency"));
    let mut sums = vec![(0.0, 0.0); TRACES * CONTEXTS];
    let mut all = vec![];
    for (tick, x) in x.iter().enumerate() {
        if reset == Some(tick) {
            sums.fill((0.0, 0.0));
        }
        let (added, gates) = (affine(parameters, "added", x), affine(parameters, "input_gate", x));
        for (at, (real, imaginary)) in sums.iter_mut().enumerate() {
            let (trace, context) = (at / CONTEXTS, at % CONTEXTS);
            let length = (evenly(-0.6732, -0.0045, trace, TRACES) + decays[trace]).min(-1e-8).exp();
            let period = evenly(1.0, 1_024.0, context, CONTEXTS);
            let angle = std::f64::consts::TAU / period + frequencies[context];
            (*real, *imaginary) = (
                length * (*real * angle.cos() - *imaginary * angle.sin()) + added[trace] * sigmoid(gates[trace]),
                length * (*imaginary * angle.cos() + *real * angle.sin()),
            );
        }
        let parts: Vec<f64> = sums.iter().map(|sum| sum.0).chain(sums.iter().map(|sum| sum.1)).collect();
        let mixed = affine(parameters, "mix", &parts);
        let mean = mixed.iter().sum::<f64>() / WIDTH as f64;
        let variance = mixed.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / WIDTH as f64;
        let (open, through) = (affine(parameters, "output_gate", x), affine(parameters, "through", x));
        let value = |i: usize| {
            let open = sigmoid(open[i]);
            (mixed[i] - mean) / (variance + 1e-5).sqrt() * open + through[i] * (1.0 - open)
        };
        all.push((0..WIDTH).map(value).collect());
    }
    all
}

#[test]
fn the_fast_memory_is_the_slow_one() {
    let made = seeded(7, DType::F64, &Device::Cpu, |vb| Ok(FastAndForgetful::new(WIDTH, TRACES, vb)?));
    let (memory, parameters) = made.unwrap();
    // What begins at 0 would hide a mistake; a decay beyond its bound is one that does not decay.
    for (name, var) in &parameters {
        if ["bias", "decay", "frequency"].iter().any(|part| name.ends_with(part)) {
            let values: Vec<f64> = (0..var.elem_count()).map(|i| 0.3 * (i as f64 * 0.7).sin()).collect();
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
        }
    }
    let x: Vec<f64> = (0..2 * 11 * WIDTH).map(|i| (i as f64 * 1.3).sin()).collect();
    let seen = Tensor::from_slice(&x, (2, 11, WIDTH), &Device::Cpu).unwrap();
    let state = memory.empty_state(2).unwrap();
    let (found, _) = memory.forward(&seen, &[Reset { member: 1, tick: 4 }], &state).unwrap();
    for (member, reset) in [None, Some(4)].into_iter().enumerate() {
        let own = &x[member * 11 * WIDTH..(member + 1) * 11 * WIDTH];
        let own: Vec<Vec<f64>> = own.chunks_exact(WIDTH).map(<[f64]>::to_vec).collect();
        let found = found.stream.get(member).unwrap().to_vec2::<f64>().unwrap();
        for (tick, (found, expected)) in found.iter().zip(slow(&parameters, &own, reset)).enumerate() {
            for (found, expected) in found.iter().zip(expected) {
                // Sums of 40 products of order 1 in f64, divided by a spread of order .1.
                assert!((found - expected).abs() < 1e-12, "{member} {tick}: {found} instead of {expected}");
            }
        }
    }
}
