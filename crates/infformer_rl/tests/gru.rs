//! The recurrent baseline's own gradient against the tensor library's, and against central differences.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::{DType, Device, Tensor, Var};
use infformer::model::Reset;
use infformer::model::parameters::{Parameters, seeded};
use infformer_rl::memories::Gru;

/// A small unit in f64; biases begin at 0, which would hide a mistake in them.
fn small() -> (Gru, Parameters, Var) {
    let (gru, parameters) = seeded(7, DType::F64, &Device::Cpu, |vb| Ok(Gru::new(3, 5, vb)?)).unwrap();
    for (name, var) in &parameters {
        if name.ends_with("bias") {
            let values: Vec<f64> = (0..var.elem_count()).map(|i| (i as f64 * 0.7).sin()).collect();
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
        }
    }
    let values: Vec<f64> = (0..2 * 9 * 3).map(|i| (i as f64).sin()).collect();
    (gru, parameters, Var::from_vec(values, (2, 9, 3), &Device::Cpu).unwrap())
}

fn initial() -> Tensor {
    let values: Vec<f64> = (0..2 * 5).map(|i| (i as f64 * 1.9).sin()).collect();
    Tensor::from_vec(values, (2, 5), &Device::Cpu).unwrap()
}

/// Every state has a weight of its own in the loss.
fn loss(states: &Tensor) -> Tensor {
    let weights: Vec<f64> = (0..states.elem_count()).map(|i| (i as f64 * 1.3).cos()).collect();
    let weights = Tensor::from_vec(weights, states.shape(), &Device::Cpu).unwrap();
    (states * &weights).unwrap().sum_all().unwrap()
}

fn host(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn one_operation_and_many_agree() {
    let (gru, parameters, x) = small();
    let reset = |member, tick| Reset { member, tick };
    for resets in [vec![], vec![reset(0, 0)], vec![reset(1, 4), reset(0, 8), reset(1, 5)]] {
        let one = gru.forward(&x, &resets, &initial()).unwrap();
        let many = gru.forward_by_operations(&x, &resets, &initial()).unwrap();
        assert_eq!(one.dims(), &[2, 9, 5]);
        // States within -1 to 1, a few roundings a tick.
        assert!(host(&one).iter().zip(host(&many)).all(|(one, many)| (one - many).abs() < 1e-13));
        let (one, many) = (loss(&one).backward().unwrap(), loss(&many).backward().unwrap());
        for (name, var) in parameters.iter().map(|(name, var)| (name.as_str(), var)).chain([("x", &x)]) {
            for (one, many) in host(one.get(var).unwrap()).into_iter().zip(host(many.get(var).unwrap())) {
                // Sums of some hundred products of order 1, in f64.
                assert!((one - many).abs() < 1e-12, "{name}: {one} instead of {many}");
            }
        }
    }
}

/// Every entry; a step of 1e-5 leaves 1e-10 of the third derivative and 1e-11 of the loss's rounding.
#[test]
fn gradients_are_differences() {
    const STEP: f64 = 1e-5;
    let (gru, parameters, x) = small();
    let gradients = loss(&gru.forward(&x, &[Reset { member: 1, tick: 3 }], &initial()).unwrap()).backward().unwrap();
    for (name, var) in parameters.iter().map(|(name, var)| (name.as_str(), var)).chain([("x", &x)]) {
        let (gradient, before) = (host(gradients.get(var).unwrap()), host(var));
        for at in 0..before.len() {
            let moved = |by: f64| {
                let mut values = before.clone();
                values[at] += by;
                var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
                loss(&gru.forward(&x, &[Reset { member: 1, tick: 3 }], &initial()).unwrap()).to_scalar::<f64>().unwrap()
            };
            let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!((difference - gradient[at]).abs() < 1e-8, "{name}[{at}]: {difference} and {}", gradient[at]);
        }
        var.set(&Tensor::from_vec(before, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
}
