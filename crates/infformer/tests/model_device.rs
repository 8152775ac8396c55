//! A model on a GPU is the processor's, whose operations are others: outputs, gradients, and what a tick at a time remembers.
//! Skipped where there is no GPU.
#![allow(clippy::unwrap_used, clippy::panic)]

mod models;

use candle_core::{DType, Device, Tensor};
use infformer::model::{InputMask, Model, ModelConfig, Reset, Residual, Wanted};
use models::{config, densities, gpu, largest, observations, policies};

/// Sums of tens of f32 in another order differ by some units of their last place, 6e-8; two layers of them, there and
/// back, have two orders more. Of the largest value, where that is not much smaller than the terms of its sum, about 1.
const CLOSE: f64 = 1e-4;
const SMALL: f64 = 0.1;

/// Every output of a segment, and the gradient of each weight of their weighted sum.
fn outputs_and_gradients(model: &Model, x: &Tensor, resets: &[Reset]) -> Vec<(String, Tensor)> {
    let state = model.empty_state(x.dim(0).unwrap()).unwrap();
    let (outputs, _) = model.forward_segment(x, resets, Wanted::All, &state).unwrap();
    let mut all = vec![];
    let mut losses = vec![];
    for (number, head) in outputs.heads.iter().enumerate() {
        let weights: Vec<f32> = (0..head.elem_count()).map(|i| (1.3 * i as f32 + number as f32).sin()).collect();
        let weights = Tensor::from_vec(weights, head.dims(), head.device()).unwrap();
        losses.push((head * weights).unwrap().sum_all().unwrap());
        all.push((format!("head {number}"), on_host(head)));
    }
    let gradients = Tensor::stack(&losses, 0).unwrap().sum_all().unwrap().backward().unwrap();
    for (name, var) in model.parameters() {
        match gradients.get(var.as_tensor()) {
            Some(gradient) => all.push((format!("gradient of {name}"), on_host(gradient))),
            None => all.push((format!("no gradient of {name}"), on_host(&var.zeros_like().unwrap()))),
        }
    }
    all
}

/// The last layer's readings, tick by tick.
fn readouts(model: &Model, x: &Tensor) -> Tensor {
    let mut state = model.empty_state(x.dim(0).unwrap()).unwrap();
    let mut readouts = vec![];
    for tick in 0..x.dim(1).unwrap() {
        let (outputs, next) = model.forward_segment(&x.narrow(1, tick, 1).unwrap(), &[], Wanted::All, &state).unwrap();
        readouts.push(outputs.readout.unwrap());
        state = next;
    }
    on_host(&Tensor::cat(&readouts, 1).unwrap())
}

fn on_host(tensor: &Tensor) -> Tensor {
    tensor.detach().to_device(&Device::Cpu).unwrap()
}

#[test]
fn a_gpu_is_the_processor() {
    let Some(gpu) = gpu() else { return };
    let resets = [Reset { member: 1, tick: 11 }];
    let x = observations(2, 30, 7);
    for (name, policy) in policies() {
        for density in densities() {
            for (mask, recurrence, residual) in
                [(InputMask::Everything, 0, Residual::Sum), (InputMask::Convolution, 3, Residual::Gate)]
            {
                let config = ModelConfig { recurrence, residual, ..config(policy.clone(), density, mask) };
                let [here, there] =
                    [&Device::Cpu, &gpu].map(|device| config.init_seeded(3, DType::F32, device).unwrap());
                let moved = x.to_device(&gpu).unwrap();
                let mut pairs: Vec<_> = outputs_and_gradients(&here, &x, &resets)
                    .into_iter()
                    .zip(outputs_and_gradients(&there, &moved, &resets))
                    .collect();
                let read = |model, x| ("readouts".to_owned(), readouts(model, x));
                pairs.push((read(&here, &x), read(&there, &moved)));
                for ((what, here), (same, there)) in pairs {
                    assert_eq!(what, same, "{name}, {density:?}, {mask:?}");
                    let off = largest(&(there - &here).unwrap()) / (SMALL + largest(&here));
                    assert!(off < CLOSE, "{name}, {density:?}, {mask:?}, {what}: {off:e}");
                }
            }
        }
    }
}
