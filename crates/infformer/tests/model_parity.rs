//! A segment at once and the same ticks one by one: the same numbers.
#![allow(clippy::unwrap_used, clippy::panic)]

mod models;

use candle_core::{DType, Device, IndexOp, Tensor};
use infformer::Error;
use infformer::model::{
    HeadKind, InputMask, LongTermForgetting, ModelConfig, ModelState, ReadingDensity, Reset, Residual, Wanted,
};
use models::{config, densities, difference, observations, policies};

/// f32 sums of some dozen terms in another order, through two layers: 60 steps of rounding of 6e-8.
const CLOSE: f64 = 1e-5;

/// Runs ticks one by one; members are reset by mask before their tick. Gives the heads, the readouts and the state.
fn stream(model: &infformer::model::Model, x: &Tensor, resets: &[Reset]) -> (Vec<Tensor>, Tensor, ModelState) {
    let (batch, ticks, _) = x.dims3().unwrap();
    let mut state = model.empty_state(batch).unwrap();
    let mut heads = vec![vec![]; model.config().heads.len()];
    let mut readouts = vec![];
    for tick in 0..ticks {
        let mask: Vec<bool> =
            (0..batch).map(|member| resets.iter().any(|r| r.member == member && r.tick == tick)).collect();
        if mask.contains(&true) {
            state = state.reset(&mask).unwrap();
        }
        let (outputs, next) = model.step(&x.narrow(1, tick, 1).unwrap().squeeze(1).unwrap(), &state).unwrap();
        heads.iter_mut().zip(outputs.heads).for_each(|(all, now)| all.push(now));
        readouts.extend(outputs.readout);
        state = next;
    }
    let heads = heads.iter().map(|all| Tensor::stack(all, 1).unwrap()).collect();
    (heads, Tensor::stack(&readouts, 1).unwrap(), state)
}

fn every_config() -> Vec<(String, ModelConfig)> {
    let mut all = vec![];
    for (name, policy) in policies() {
        for density in densities() {
            for (mask, recurrence, residual) in
                [(InputMask::Everything, 0, Residual::Sum), (InputMask::Convolution, 3, Residual::Gate)]
            {
                let config = ModelConfig { recurrence, residual, ..config(policy.clone(), density, mask) };
                all.push((format!("{name}, {density:?}, {mask:?}"), config));
            }
        }
    }
    all
}

#[test]
fn a_segment_is_its_ticks_for_every_policy_and_density() {
    // 70 ticks are two pieces and a part; resets fall inside, one on a tick that would have written.
    let resets = [(0, 23), (2, 24), (2, 31), (1, 60)].map(|(member, tick)| Reset { member, tick });
    for (name, config) in every_config() {
        let model = config.init(&Device::Cpu).unwrap();
        let x = observations(3, 70, 1);
        let (outputs, state) = model.forward_segment(&x, &resets, Wanted::All, &model.empty_state(3).unwrap()).unwrap();
        let (heads, readout, streamed) = stream(&model, &x, &resets);
        for (segment, stream) in outputs.heads.iter().zip(&heads).chain([(outputs.readout.as_ref().unwrap(), &readout)])
        {
            let off = difference(segment, stream);
            assert!(off < CLOSE, "{name}: {off:e}");
        }
        assert_eq!(state.clocks(), streamed.clocks(), "{name}");
        for (a, b) in state.layers().iter().zip(streamed.layers()) {
            assert!(difference(a.coefficients().unwrap(), b.coefficients().unwrap()) < CLOSE, "{name}");
            (0..3).for_each(|member| assert_eq!(a.block_lengths(member), b.block_lengths(member), "{name}"));
        }
        // The memory is in use: a reading is not nothing.
        assert!(readout.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 1e-3, "{name}");
    }
}

#[test]
fn segments_of_any_length_follow_each_other() {
    for (name, config) in every_config() {
        let model = config.init(&Device::Cpu).unwrap();
        let x = observations(2, 61, 2);
        let empty = model.empty_state(2).unwrap();
        let (whole, _) = model.forward_segment(&x, &[], Wanted::All, &empty).unwrap();
        let (mut state, mut parts, mut start) = (empty.clone(), vec![], 0);
        for length in [1, 7, 33, 2, 18] {
            let (outputs, next) =
                model.forward_segment(&x.narrow(1, start, length).unwrap(), &[], Wanted::All, &state).unwrap();
            parts.push(outputs.heads[0].clone());
            (state, start) = (next, start + length);
        }
        assert!(difference(&whole.heads[0], &Tensor::cat(&parts, 1).unwrap()) < CLOSE, "{name}");
        let (last, _) = model.forward_segment(&x, &[], Wanted::Last(5), &empty).unwrap();
        assert_eq!(last.heads[0].dims(), &[2, 5, 3]);
        assert!(difference(&last.heads[0], &whole.heads[0].narrow(1, 56, 5).unwrap()) < CLOSE, "{name}");
    }
}

#[test]
fn a_member_does_not_depend_on_its_batch() {
    for (name, config) in every_config().into_iter().step_by(3) {
        let model = config.init(&Device::Cpu).unwrap();
        let x = observations(33, 40, 3);
        let run = |x: &Tensor| {
            let state = model.empty_state(x.dim(0).unwrap()).unwrap();
            model.forward_segment(x, &[], Wanted::All, &state).unwrap().0.heads[0].clone()
        };
        let together = run(&x);
        for member in [0, 7, 32] {
            let alone = run(&x.narrow(0, member, 1).unwrap());
            assert!(difference(&alone, &together.narrow(0, member, 1).unwrap()) < CLOSE, "{name}");
        }
    }
}

/// Runs this test's own binary with one and with two threads of the tensor library.
#[test]
fn the_number_of_threads_does_not_matter() {
    let sums = |threads: &str| {
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "prints_outputs", "--ignored", "--nocapture"])
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        let text = String::from_utf8(run.stdout).unwrap();
        let values: Vec<f64> = text.lines().filter_map(|line| line.strip_prefix("out ")?.parse().ok()).collect();
        assert!(values.len() > 100, "{text}");
        values
    };
    let (one, two) = (sums("1"), sums("2"));
    assert!(one.iter().zip(&two).all(|(a, b)| (a - b).abs() < CLOSE * (1.0 + a.abs())));
}

#[test]
#[ignore = "a part of the_number_of_threads_does_not_matter"]
fn prints_outputs() {
    for (_, config) in every_config().into_iter().step_by(5) {
        let model = config.init(&Device::Cpu).unwrap();
        let (outputs, _) =
            model.forward_segment(&observations(4, 40, 4), &[], Wanted::All, &model.empty_state(4).unwrap()).unwrap();
        let head = outputs.heads[0].to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        head.iter().for_each(|value| println!("out {value}"));
    }
}

#[test]
fn states_are_values() {
    for (name, config) in every_config() {
        let model = config.init(&Device::Cpu).unwrap();
        let x = observations(3, 50, 5);
        let (_, state) = model.forward_segment(&x, &[], Wanted::All, &model.empty_state(3).unwrap()).unwrap();
        // Saved and loaded, it goes on with the same bits.
        let loaded = ModelState::load(&state.save().unwrap(), &model).unwrap();
        let next = observations(3, 20, 6);
        let go = |state: &ModelState, x: &Tensor| {
            model.forward_segment(x, &[], Wanted::All, state).unwrap().0.heads[0].clone()
        };
        assert_eq!(difference(&go(&state, &next), &go(&loaded, &next)), 0.0, "{name}");
        assert!(ModelState::load(&state.save().unwrap()[..500], &model).is_err(), "{name}");
        // A reset member is as new; the others are as before.
        let reset = state.reset(&[false, true, false]).unwrap();
        let after = go(&reset, &next);
        let fresh = go(&model.empty_state(1).unwrap(), &next.narrow(0, 1, 1).unwrap());
        assert!(difference(&after.narrow(0, 1, 1).unwrap(), &fresh) < CLOSE, "{name}");
        let untouched = go(&state, &next);
        assert!(difference(&after.narrow(0, 2, 1).unwrap(), &untouched.narrow(0, 2, 1).unwrap()) < CLOSE, "{name}");
        // Members can be taken out and put in another order.
        let turned = state.select(&[2, 0]).unwrap();
        let rows = Tensor::cat(&[next.narrow(0, 2, 1).unwrap(), next.narrow(0, 0, 1).unwrap()], 0).unwrap();
        assert!(difference(&go(&turned, &rows).narrow(0, 0, 1).unwrap(), &untouched.narrow(0, 2, 1).unwrap()) < CLOSE);
    }
}

/// Bytes whose tensors fit, but whose clocks and knots cannot be.
#[test]
fn a_state_that_contradicts_itself_is_refused() {
    let (_, policy) = policies().swap_remove(0);
    let model = config(policy, ReadingDensity::Gibbs, InputMask::Everything).init(&Device::Cpu).unwrap();
    let x = observations(1, 50, 5);
    let (_, state) = model.forward_segment(&x, &[], Wanted::All, &model.empty_state(1).unwrap()).unwrap();
    let bytes = state.save().unwrap();
    assert!(ModelState::load(&bytes, &model).is_ok());
    let held = format!("held:{}", state.clocks()[0].held);
    let blocks = state.layers()[0].block_lengths(0);
    let lengths = format!("lengths:[{},", blocks[0]);
    for (good, bad) in [(held, "held:9"), (lengths, "lengths:[0,")] {
        let at = bytes.windows(good.len()).position(|window| window == good.as_bytes()).unwrap();
        let mut changed = bytes.clone();
        // The header's length stays: what is longer is filled up with blanks.
        let bad = format!("{bad:<width$}", width = good.len());
        changed[at..at + good.len()].copy_from_slice(bad.as_bytes());
        let refused = ModelState::load(&changed, &model).unwrap_err().to_string();
        assert!(refused.contains("contradict"), "{good} {refused}");
    }
    // A life so long that its ticks are not counted one by one any more; nothing else contradicts it here.
    let (_, policy) = policies().swap_remove(1);
    let model = config(policy, ReadingDensity::Gibbs, InputMask::Everything).init(&Device::Cpu).unwrap();
    let (_, state) = model.forward_segment(&x, &[], Wanted::All, &model.empty_state(1).unwrap()).unwrap();
    let bytes = state.save().unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, body) = (String::from_utf8(bytes[8..8 + length].to_vec()).unwrap(), &bytes[8 + length..]);
    for (chunks, fits) in [(1_u64 << 40, true), (1 << 52, false), (u64::MAX, false)] {
        let chunks = format!("chunks:{chunks}");
        let mut header = header.replace(&format!("chunks:{}", state.clocks()[0].chunks), &chunks);
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
        let changed = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), body].concat();
        let loaded = ModelState::load(&changed, &model);
        assert_eq!(loaded.is_ok(), fits, "{chunks} {:?}", loaded.err());
    }
}

/// The parts that a model lends, put together again, are the model: over several pieces of a segment, with a reset.
#[test]
fn its_parts_are_the_model() {
    for (name, config) in every_config() {
        let model = config.init(&Device::Cpu).unwrap();
        let x = observations(2, 150, 3);
        let resets = [Reset { member: 1, tick: 70 }];
        let empty = model.empty_state(2).unwrap();
        let (whole, _) = model.forward_segment(&x, &resets, Wanted::Last(100), &empty).unwrap();
        let encoded = model.encoder().forward(&x, DType::F32).unwrap();
        let (stream, _) = model.forward_stream(&encoded, &resets, Wanted::Last(100), &empty).unwrap();
        let heads = model.heads().forward(&stream.stream).unwrap();
        assert_eq!(heads.len(), whole.heads.len());
        for (part, whole) in heads.iter().zip(&whole.heads) {
            assert_eq!(part.dims(), whole.dims());
            // Encoded in one piece or in several: sums of three products in another order, through one or two layers.
            assert!(difference(part, whole) < 1e-4, "{name}: {}", difference(part, whole));
        }
    }
}

/// Chunks, batches, observations and heads that cannot be are errors, not panics.
#[test]
fn what_does_not_fit_is_refused() {
    let mut config = config(policies().swap_remove(0).1, ReadingDensity::Gibbs, InputMask::Everything);
    let model = config.init(&Device::Cpu).unwrap();
    let mut memory = model.layer_memory(0, 2).unwrap();
    for shape in [(1, 4, 12), (2, 3, 12), (2, 4, 11)] {
        let chunk = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        assert!(matches!(memory.write(&chunk), Err(Error::Shape { .. })), "{shape:?}");
    }
    memory.write(&Tensor::zeros((2, 4, 12), DType::F32, &Device::Cpu).unwrap()).unwrap();
    let empty = model.empty_state(0).unwrap();
    let nobody = Tensor::zeros((0, 5, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(matches!(model.forward_segment(&nobody, &[], Wanted::All, &empty), Err(Error::Segment(_))));
    let nothing = (observations(1, 5, 1) * f64::NAN).unwrap();
    let state = model.empty_state(1).unwrap();
    assert!(matches!(model.forward_segment(&nothing, &[], Wanted::All, &state), Err(Error::NotFinite { .. })));
    let x = observations(1, 5, 1);
    let refused = |resets: &[Reset], wanted, x: &Tensor| {
        model.forward_segment(x, resets, wanted, &state).unwrap_err().to_string()
    };
    let said = refused(&[Reset { member: 0, tick: 5 }], Wanted::All, &x);
    assert!(said.contains("member 0 at tick 5"), "{said}");
    assert!(refused(&[], Wanted::Last(0), &x).contains("at least 1"));
    assert!(refused(&[], Wanted::All, &x.squeeze(0).unwrap()).contains("[5, 3] instead of [batch, ticks, channels]"));
    assert!(refused(&[], Wanted::All, &observations(2, 5, 1)).contains("2 members, the state 1"));
    assert!(matches!(model.step(&x, &state), Err(Error::Segment(_))));
    let mut nameless = config.clone();
    nameless.inputs.clear();
    assert!(nameless.validate().unwrap_err().to_string().contains("`inputs`"));
    for rate in [0, 3, 6, 1 << 32] {
        let pooled = LongTermForgetting::MeanPooled { rate };
        let pooled = models::config(pooled, ReadingDensity::Gibbs, InputMask::Everything);
        assert!(matches!(pooled.validate(), Err(Error::Configuration { .. })), "{rate}");
    }
    config.heads[0].kind = HeadKind::Gaussian { size: usize::MAX };
    assert!(matches!(config.validate(), Err(Error::Configuration { .. })));
}

/// Where a model looked: all of its mass, on stretches that follow each other from the window back.
#[test]
fn a_density_covers_what_left_the_window() {
    for (name, policy) in policies() {
        for density in [ReadingDensity::Gibbs, ReadingDensity::Softmax] {
            let model = config(policy.clone(), density, InputMask::Everything).init(&Device::Cpu).unwrap();
            let mut state = model.empty_state(2).unwrap();
            let x = observations(2, 60, 3);
            for tick in 0..60 {
                let (outputs, after) = model.step(&x.i((.., tick)).unwrap(), &state).unwrap();
                state = after;
                let Some(looked) = outputs.looked else {
                    assert!(state.clocks().iter().all(|clock| clock.chunks == 0), "{name} {density:?} {tick}");
                    continue;
                };
                let looked = looked.to_vec2::<f32>().unwrap();
                for (member, looked) in looked.iter().enumerate() {
                    let cells = model.density(looked, &state, member);
                    let clock = state.clocks()[member];
                    assert_eq!(cells.is_empty(), clock.chunks == 0, "{name} {density:?} {tick}");
                    let Some(first) = cells.iter().map(|cell| cell.newer).reduce(f32::min) else { continue };
                    assert_eq!(first, clock.held as f32, "{name} {density:?} {tick}");
                    let mut ends: Vec<[f32; 2]> = cells.iter().map(|cell| [cell.newer, cell.older]).collect();
                    ends.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
                    // Ages up to some hundred, from f64 to f32.
                    assert!(ends.windows(2).all(|pair| (pair[0][1] - pair[1][0]).abs() < 1e-3), "{name}: {ends:?}");
                    let mass: f32 = cells.iter().map(|cell| cell.mass).sum();
                    assert!((mass - 1.0).abs() < 1e-4, "{name} {density:?} {tick}: {mass}");
                    if name == "adaptive" {
                        assert_eq!(ends.last().unwrap()[1], (tick + 1) as f32, "{density:?}");
                    }
                }
            }
        }
    }
}
