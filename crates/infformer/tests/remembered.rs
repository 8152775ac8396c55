//! What a model's long-term memory says of each stretch of the past is what the layer's input was then, with every policy.
#![allow(clippy::unwrap_used, clippy::panic)]

mod models;

use candle_core::{Device, Tensor};
use infformer::model::{InputMask, ModelConfig, ReadingDensity};
use models::{config, policies};

/// 24 ticks of one thing, then 24 of another: older stretches are nearer to the first, newer ones to the second. Stretches
/// lie side by side, from the window to the oldest tick that is remembered.
#[test]
fn stretches_are_of_their_time() {
    for (name, policy) in policies() {
        let config = ModelConfig { layers: 1, ..config(policy, ReadingDensity::Softmax, InputMask::Everything) };
        let model = config.init(&Device::Cpu).unwrap();
        let mut state = model.empty_state(1).unwrap();
        let mut inputs = vec![];
        for tick in 0..48 {
            let x = if tick < 24 { [2.0f32, -1.0, 1.0] } else { [-2.0, 2.0, 3.0] };
            state = model.step(&Tensor::new(&[x], &Device::Cpu).unwrap(), &state).unwrap().1;
            let seen = state.layers()[0].inputs();
            let newest = seen.narrow(1, seen.dim(1).unwrap() - 1, 1).unwrap();
            inputs.push(newest.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        }
        let held = state.clocks()[0].held;
        let stretches = model.remembered(&state, 0).unwrap();
        assert!(model.remembered(&state, 1).unwrap().is_empty());
        assert_eq!(stretches[0].newer, held as f32, "{name}");
        assert!(stretches.windows(2).all(|pair| pair[0].older == pair[1].newer), "{name}");
        let distance = |value: &[f32], of: usize| {
            value.iter().zip(&inputs[of]).map(|(value, input)| (value - input).powi(2)).sum::<f32>()
        };
        // τ = ¾ leaves little of what is 32 ticks old, and eight means of two ticks nothing.
        let is_long = !name.contains("geometric") && name != "sticky" && name != "mean pooled";
        let (mut first, mut second) = (0, 0);
        for stretch in &stretches {
            let (to_first, to_second) = (distance(&stretch.value, 0), distance(&stretch.value, 47));
            // Sums of functions cannot jump: only what is some ticks from the change counts.
            let middle = 0.5 * (stretch.newer + stretch.older);
            if middle < 16.0 {
                assert!(to_second < to_first, "{name}: {stretch:?}");
                second += 1;
            } else if middle > 32.0 && is_long {
                assert!(to_first < to_second, "{name}: {stretch:?}");
                first += 1;
            }
        }
        assert!(second > 0, "{name}");
        assert!(first > 0 || !is_long, "{name}");
    }
}
