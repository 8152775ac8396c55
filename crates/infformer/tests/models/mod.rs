//! Small models of every kind, and sequences for them.
#![allow(dead_code, reason = "each test binary uses its own part")]

use candle_core::{DType, Device, Tensor};
use infformer::basis::BasisKind;
use infformer::forgetting::{AdaptiveRule, Placement, Projection, SampledFit};
use infformer::model::{
    Head, HeadKind, Input, InputMask, LongTermConfig, LongTermForgetting, ModelConfig, ReadingDensity,
};
use infformer::{ChannelGroup, Forgetting, Measure, Scale};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A GPU, where there is one.
pub fn gpu() -> Option<Device> {
    Device::new_cuda(0).inspect_err(|error| eprintln!("SKIPPED: no GPU was tried: {error}")).ok()
}

/// Every policy that a model's memory may have, with a name.
pub fn policies() -> Vec<(&'static str, LongTermForgetting)> {
    let rbf = BasisKind::GaussianRbf { widths: vec![0.05, 0.1] };
    let exact = Projection::default();
    let fit = SampledFit { points: 64, ..SampledFit::default() };
    let signal = LongTermForgetting::Signal;
    vec![
        ("adaptive", signal(Forgetting::Adaptive(AdaptiveRule { tolerance: 1e-5, ..Default::default() }))),
        ("power law", signal(Forgetting::PowerLaw { resolution: 8.0, horizon: 500.0, basis: BasisKind::Cosine })),
        ("uniform", signal(Forgetting::Uniform)),
        ("geometric", signal(Forgetting::Geometric { tau: 0.75, basis: rbf.clone(), projection: exact })),
        ("geometric, bins", signal(Forgetting::Geometric { tau: 0.75, basis: BasisKind::Bins, projection: exact })),
        (
            "sticky",
            signal(Forgetting::Sticky { tau: 0.75, basis: rbf, fit, bins: 16, placement: Placement::Interpolated }),
        ),
        ("mean pooled", LongTermForgetting::MeanPooled { rate: 2 }),
        ("mean pooled over chunks", LongTermForgetting::MeanPooled { rate: 12 }),
    ]
}

/// Every density.
pub fn densities() -> [ReadingDensity; 4] {
    let affine = ReadingDensity::Affine { variance_floor: 1e-4 };
    [ReadingDensity::Gibbs, ReadingDensity::Softmax, ReadingDensity::Gaussian, affine]
}

/// Two layers, numbers and tokens in, every kind of head out.
pub fn config(forgetting: LongTermForgetting, density: ReadingDensity, input_mask: InputMask) -> ModelConfig {
    let group = ChannelGroup::new("place", &["x", "y"], "m", Scale::Given(2.0));
    let inputs = vec![
        Input::Continuous { name: group.name, channels: group.channels },
        Input::Token { name: "kind".into(), vocabulary: 5 },
    ];
    let kinds =
        [HeadKind::Logits { classes: 3 }, HeadKind::Gaussian { size: 2 }, HeadKind::Value, HeadKind::Raw { size: 2 }];
    let heads =
        ["choice", "move", "value", "raw"].iter().zip(kinds).map(|(name, kind)| Head { name: (*name).into(), kind });
    let measure = Measure::Recency { resolution: 8.0 };
    let long_term =
        LongTermConfig { forgetting, capacity: 8, density, input_mask, measure, ..LongTermConfig::default() };
    ModelConfig {
        width: 12,
        layers: 2,
        attention_heads: 2,
        feed_forward: 16,
        short_term: 5,
        chunk: 4,
        long_term: Some(long_term),
        ..ModelConfig::new(inputs, heads.collect())
    }
}

/// Random observations \[batch, ticks, 3\] for [`config`].
pub fn observations(batch: usize, ticks: usize, seed: u64) -> Tensor {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut values = vec![];
    for _ in 0..batch * ticks {
        values.extend([
            random.random_range(-3.0..3.0f32),
            random.random_range(-3.0..3.0),
            random.random_range(0..5u8).into(),
        ]);
    }
    Tensor::from_vec(values, (batch, ticks, 3), &Device::Cpu).unwrap()
}

/// The largest difference over one plus the largest value.
pub fn difference(a: &Tensor, b: &Tensor) -> f64 {
    largest(&(a - b).unwrap()) / (1.0 + largest(b))
}

/// The largest size of a value; infinite where one is no number.
pub fn largest(tensor: &Tensor) -> f64 {
    let values = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let size = |value: &f64| if value.is_nan() { f64::INFINITY } else { value.abs() };
    values.iter().map(size).fold(0.0, f64::max)
}
