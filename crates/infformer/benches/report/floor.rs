//! What the machine can do, measured in the same run: nothing can be faster than its arithmetic and its memory.

use infformer::candle_core::{DType, Device, Tensor};
use std::hint::black_box;
use std::time::Instant;

/// What must be computed and moved, at the least, for one agent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Additions and multiplications.
    pub operations: f64,
    /// Bytes that are read or written, each counted once; what is read and written counts twice.
    pub bytes: f64,
    /// Bytes of state an agent: many agents do not fit a cache.
    pub state: f64,
}

impl Work {
    /// Both, while the state is at hand: what the second reads was brought by the first.
    pub fn then(self, other: Work) -> Work {
        let (state, bytes) = (self.state.max(other.state), self.bytes.max(other.bytes));
        Work { operations: self.operations + other.operations, bytes, state }
    }
}

impl std::ops::Mul<f64> for Work {
    type Output = Work;

    fn mul(self, times: f64) -> Work {
        Work { operations: self.operations * times, bytes: self.bytes * times, state: self.state }
    }
}

/// One write of L observations into B \[N, d\].
pub fn write(capacity: f64, chunk: f64, width: f64) -> Work {
    let state = 4.0 * capacity * width;
    Work { operations: 2.0 * capacity * (capacity + chunk) * width, bytes: 2.0 * state + 4.0 * chunk * width, state }
}

/// One query on one channel of a linear memory: that channel at 2·N points and E\[ψ\], where half of ψ tells the other
/// half, and the product with B.
pub fn read(capacity: f64, width: f64) -> Work {
    let state = 4.0 * capacity * width;
    Work { operations: 2.0 * (2.0 * capacity * capacity + capacity * width), bytes: state, state }
}

/// One observation into N blocks: three losses and the costs of all pairs; two blocks and the newest are touched.
pub fn push(capacity: f64, width: f64) -> Work {
    let state = 4.0 * capacity * width;
    Work { operations: 3.0 * 4.0 * width + 8.0 * capacity, bytes: 4.0 * (6.0 * width + 2.0 * capacity), state }
}

/// One query on one channel of N blocks: distances, weights, and their product with the means.
pub fn read_blocks(capacity: f64, width: f64) -> Work {
    let state = 4.0 * capacity * width;
    Work { operations: 2.0 * capacity * width + 20.0 * capacity, bytes: state, state }
}

/// Peaks of the machine, one thread.
pub struct Machine {
    /// Operations a second in a product of square matrices: the best of candle's and nalgebra's.
    pub operations: f64,
    /// Bytes copied a second (each is read and written), by how many bytes there are in all.
    copies: Vec<(f64, f64)>,
}

impl Machine {
    /// Measures; takes a second or two.
    pub fn measure() -> Self {
        let copies = (14..=28).step_by(2).map(|power| (2.0_f64.powi(power), 0.0)).collect();
        let mut machine = Self { operations: 0.0, copies };
        machine.measure_again();
        machine
    }

    /// The peak is the best that was ever seen.
    pub fn measure_again(&mut self) {
        for size in [256, 512, 1024] {
            self.operations = self.operations.max(candle_product(size)).max(nalgebra_product(size));
        }
        for (bytes, speed) in &mut self.copies {
            *speed = speed.max(copy(*bytes as usize));
        }
    }

    /// Bytes copied a second where there are so many in all.
    pub fn copy(&self, bytes: f64) -> f64 {
        let measured = self.copies.iter().rev().find(|(size, _)| *size <= bytes).or(self.copies.first());
        measured.map_or(f64::NAN, |(_, speed)| *speed)
    }

    /// All of them: bytes in all, GB/s.
    pub fn copies_in_gigabytes(&self) -> Vec<(f64, f64)> {
        self.copies.iter().map(|(bytes, speed)| (*bytes, speed / 1e9)).collect()
    }

    /// Seconds below which `work` for so many agents cannot be done.
    pub fn floor(&self, work: Work, agents: usize) -> f64 {
        let agents = agents as f64;
        let moved = work.bytes / 2.0 / self.copy(agents * work.state);
        agents * moved.max(work.operations / self.operations)
    }
}

/// The best of some rounds, in units a second.
fn best(units: f64, mut round: impl FnMut()) -> f64 {
    let mut best = 0.0_f64;
    let begun = Instant::now();
    for count in 0.. {
        let started = Instant::now();
        round();
        best = best.max(units / started.elapsed().as_secs_f64());
        // The first round brings the pages.
        if count >= 3 && begun.elapsed().as_secs_f64() > 0.15 {
            break;
        }
    }
    best
}

fn copy(bytes: usize) -> f64 {
    let from = vec![1_u8; bytes / 2];
    let mut to = vec![0_u8; bytes / 2];
    let times = ((1_usize << 22) / bytes).max(1);
    best((times * bytes / 2) as f64, || {
        for _ in 0..times {
            to.copy_from_slice(black_box(&from));
            black_box(&mut to);
        }
    })
}

fn candle_product(size: usize) -> f64 {
    let Ok(matrix) = Tensor::ones((size, size), DType::F32, &Device::Cpu) else { return 0.0 };
    best(2.0 * (size * size * size) as f64, || _ = black_box(matrix.matmul(&matrix)))
}

fn nalgebra_product(size: usize) -> f64 {
    let matrix = nalgebra::DMatrix::<f32>::repeat(size, size, 1.0);
    let mut product = matrix.clone();
    best(2.0 * (size * size * size) as f64, || {
        product.gemm(1.0, &matrix, &matrix, 0.0);
        black_box(&mut product);
    })
}
