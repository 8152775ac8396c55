//! The recurrent baseline's own gradient against the tensor library's.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::{DType, Device, Tensor};
use infformer::model::parameters::seeded;
use infformer_rl::gru::Gru;

/// States and gradients of weights and inputs, as one operation and operation by operation.
#[test]
fn one_operation_and_many_agree() {
    let build = |vb: candle_nn::VarBuilder| Ok(Gru::new(3, 5, vb)?);
    let (gru, parameters) = seeded(7, DType::F64, &Device::Cpu, build).unwrap();
    // Biases begin at 0, which would hide a mistake in them.
    for (name, var) in &parameters {
        if name.ends_with("bias") {
            let values: Vec<f64> = (0..var.elem_count()).map(|i| (i as f64 * 0.7).sin()).collect();
            var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
        }
    }
    let values: Vec<f64> = (0..2 * 9 * 3).map(|i| (i as f64).sin()).collect();
    let x = candle_core::Var::from_vec(values, (2, 9, 3), &Device::Cpu).unwrap();
    for wanted in [1, 4, 9] {
        let (one, many) = (gru.forward(&x, wanted).unwrap(), gru.forward_by_operations(&x, wanted).unwrap());
        assert_eq!(one.dims(), &[2, wanted, 5]);
        let off = (&one - &many).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        // States within -1 to 1, a few roundings a tick.
        assert!(off < 1e-13, "{off:e}");
        // Every state has a weight of its own in the loss.
        let weights: Vec<f64> = (0..one.elem_count()).map(|i| (i as f64 * 1.3).cos()).collect();
        let weights = Tensor::from_vec(weights, one.shape(), &Device::Cpu).unwrap();
        let gradients = |y: &Tensor| (y * &weights).unwrap().sum_all().unwrap().backward().unwrap();
        let (one, many) = (gradients(&one), gradients(&many));
        for (name, var) in parameters.iter().map(|(name, var)| (name.as_str(), var)).chain([("x", &x)]) {
            let host = |store: &candle_core::backprop::GradStore| {
                store.get(var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
            };
            for (one, many) in host(&one).into_iter().zip(host(&many)) {
                // Sums of some hundred products of order 1, in f64.
                assert!((one - many).abs() < 1e-12, "{name}: {one} instead of {many}");
            }
        }
    }
}
