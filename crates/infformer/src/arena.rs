//! The state of all agents of one engine: a slot each, one array a kind of state.
//!
//! The long-term signals lie in one candle tensor \[slots, floats\] on the engine's device. What the host touches at
//! every tick (short-term rings, statistics, counters, lengths of blocks) lies on the host. On the CPU the tensor is
//! written and read in place; on other devices writes are one product over the gathered slots.

use crate::blocks::{BlocksPlan, BlocksState};
use crate::error::{Error, Result};
use crate::moments::AgentState;
use crate::plan::{Counters, MemoryPlan, Policy, Statistics, observe};
use crate::signal::{LinearPlan, LinearState, Matrix};
use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, Tensor};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// Slots written at once: it bounds the matrices that agents of different ages need under `Uniform`.
const SLOTS_A_WRITE: usize = crate::signal::KEPT_BY_AGE;

/// How the long-term tensor is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    /// In place, by the host's own kernels: the same bits whatever the batch.
    Host,
    /// By tensor operations on the device.
    Tensors,
}

#[derive(Debug)]
pub(crate) struct StateArena {
    device: Device,
    execution: Execution,
    slots: usize,
    long_term: Tensor,
    pub(crate) counters: Vec<Counters>,
    short_term: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    lengths: Vec<u32>,
    losses: Vec<f32>,
    table: Vec<f32>,
    histogram: Vec<f32>,
    scratch: Vec<f32>,
    precision: Vec<f32>,
}

/// The host's parts of one agent's state, and its long-term floats: what a snapshot holds.
#[derive(Debug)]
pub(crate) struct SlotState {
    pub(crate) counters: Counters,
    pub(crate) floats: Vec<Vec<f32>>,
    pub(crate) lengths: Vec<u32>,
}

impl StateArena {
    /// An arena without slots. Errors: a policy that the device cannot run.
    pub(crate) fn new(plan: &MemoryPlan, device: &Device, execution: Execution) -> Result<Self> {
        let linear = matches!(&plan.policy, Policy::Linear(linear) if linear.sticky.is_none());
        if execution == Execution::Tensors && !linear {
            let policy = plan.config.forgetting.name();
            return Err(Error::Device { policy, device: format!("{:?}", device.location()) });
        }
        Ok(Self {
            device: device.clone(),
            execution,
            slots: 0,
            long_term: Tensor::zeros((0, plan.long_term_length()), DType::F32, device)?,
            counters: vec![],
            short_term: vec![],
            mean: vec![],
            variance: vec![],
            lengths: vec![],
            losses: vec![],
            table: vec![],
            histogram: vec![],
            scratch: vec![],
            precision: vec![],
        })
    }

    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Makes room for at least `slots` agents; grows by doubling.
    pub(crate) fn reserve(&mut self, plan: &MemoryPlan, slots: usize) -> Result<()> {
        if slots <= self.slots {
            return Ok(());
        }
        let slots = slots.next_power_of_two();
        let more = Tensor::zeros((slots - self.slots, plan.long_term_length()), DType::F32, &self.device)?;
        self.long_term = if self.slots == 0 { more } else { Tensor::cat(&[&self.long_term, &more], 0)? };
        let (table, histogram) = plan.sticky_lengths();
        let width = plan.layout.width();
        self.counters.resize(slots, Counters::default());
        self.short_term.resize(slots * plan.short_term_rows() * plan.row_width(), 0.0);
        self.mean.resize(slots * width, 0.0);
        self.variance.resize(slots * width, 0.0);
        self.lengths.resize(slots * plan.lengths_length(), 0);
        self.losses.resize(slots * plan.lengths_length(), 0.0);
        self.table.resize(slots * table, 0.0);
        self.histogram.resize(slots * histogram, 0.0);
        self.slots = slots;
        Ok(())
    }

    /// Empties a slot: nothing of the agent that had it is left.
    pub(crate) fn clear(&mut self, plan: &MemoryPlan, slot: usize) -> Result<()> {
        let empty = SlotState {
            counters: Counters::default(),
            floats: self.float_lengths(plan).iter().map(|length| vec![0.0; *length]).collect(),
            lengths: vec![0; plan.lengths_length()],
        };
        self.restore(plan, slot, &empty)
    }

    /// Floats of each array of a slot, in the order of [`SlotState::floats`].
    pub(crate) fn float_lengths(&self, plan: &MemoryPlan) -> [usize; 7] {
        let (table, histogram) = plan.sticky_lengths();
        let width = plan.layout.width();
        let ring = plan.short_term_rows() * plan.row_width();
        [plan.long_term_length(), ring, width, width, plan.lengths_length(), table, histogram]
    }

    fn host_arrays(&mut self) -> [&mut Vec<f32>; 6] {
        let Self { short_term, mean, variance, losses, table, histogram, .. } = self;
        [short_term, mean, variance, losses, table, histogram]
    }

    /// Copies a slot out.
    pub(crate) fn save(&mut self, plan: &MemoryPlan, slot: usize) -> Result<SlotState> {
        let lengths = self.float_lengths(plan);
        let mut floats = vec![self.long_term.get(slot)?.to_vec1::<f32>()?];
        for (array, length) in self.host_arrays().into_iter().zip(&lengths[1..]) {
            floats.push(array[slot * length..(slot + 1) * length].to_vec());
        }
        let stride = plan.lengths_length();
        let lengths = self.lengths[slot * stride..(slot + 1) * stride].to_vec();
        Ok(SlotState { counters: self.counters[slot], floats, lengths })
    }

    /// Copies a state, of the lengths that [`StateArena::float_lengths`] gives, into a slot.
    pub(crate) fn restore(&mut self, plan: &MemoryPlan, slot: usize, state: &SlotState) -> Result<()> {
        let row = Tensor::from_slice(&state.floats[0], (1, state.floats[0].len()), &self.device)?;
        self.long_term.slice_set(&row, 0, slot)?;
        for (array, saved) in self.host_arrays().into_iter().zip(&state.floats[1..]) {
            let length = saved.len();
            array[slot * length..(slot + 1) * length].copy_from_slice(saved);
        }
        let stride = plan.lengths_length();
        self.lengths[slot * stride..(slot + 1) * stride].copy_from_slice(&state.lengths);
        self.counters[slot] = state.counters;
        Ok(())
    }

    /// Puts an observation into a slot's short-term ring and its statistics. The ring must not be full.
    pub(crate) fn observe(&mut self, plan: &MemoryPlan, slot: usize, tick: u64, values: &[f32]) {
        let counters = &mut self.counters[slot];
        let interval = if counters.observations == 0 { 0 } else { tick - counters.newest_tick };
        let width = plan.layout.width();
        let own = slot * width..(slot + 1) * width;
        let statistics = Statistics { mean: &mut self.mean[own.clone()], variance: &mut self.variance[own] };
        observe(statistics, counters.observations, values);
        let (rows, row_width) = (plan.short_term_rows(), plan.row_width());
        let row = slot * rows + (counters.head + counters.held) as usize % rows;
        let ring = &mut self.short_term[row * row_width..(row + 1) * row_width];
        ring[..width].copy_from_slice(values);
        ring[width] = interval as f32;
        counters.observations += 1;
        counters.held += 1;
        counters.newest_tick = tick;
        counters.lived += interval;
    }

    /// Whether a slot's ring holds S observations and a whole chunk, which is then to be written.
    pub(crate) fn is_full(&self, plan: &MemoryPlan, slot: usize) -> bool {
        self.counters[slot].held as usize >= plan.short_term_rows()
    }

    /// Writes the oldest chunk of every slot in `due` into its long-term signal.
    ///
    /// Each slot's counters move with its own write: a failure on the way leaves the others whole, written or not.
    pub(crate) fn write(&mut self, plan: &mut MemoryPlan, due: &[usize], chunks: &mut Vec<f32>) -> Result<()> {
        let (rows, width, length) = (plan.short_term_rows(), plan.row_width(), plan.config.chunk);
        for due in due.chunks(SLOTS_A_WRITE) {
            chunks.clear();
            for &slot in due {
                for i in 0..length {
                    let row = slot * rows + (self.counters[slot].head as usize + i) % rows;
                    chunks.extend_from_slice(&self.short_term[row * width..(row + 1) * width]);
                }
            }
            if let Policy::Linear(linear) = &mut plan.policy {
                linear.prepare(due.iter().map(|slot| self.counters[*slot].written / length as u64));
            }
            match (&plan.policy, self.execution) {
                (Policy::Linear(linear), Execution::Tensors) => self.write_tensors(plan, linear, due, chunks)?,
                (Policy::Linear(linear), Execution::Host) => self.write_linear(plan, linear, due, chunks)?,
                (Policy::Blocks(blocks), _) => self.write_blocks(plan, blocks, due, chunks)?,
            }
        }
        Ok(())
    }

    fn write_linear(&mut self, plan: &MemoryPlan, linear: &LinearPlan, due: &[usize], chunks: &[f32]) -> Result<()> {
        let (width, state_length) = (plan.row_width(), plan.long_term_length());
        let (table_length, histogram_length) = plan.sticky_lengths();
        let Self { counters, table, histogram, scratch, .. } = self;
        on_host(&self.long_term, |long_term| {
            for (&slot, chunk) in due.iter().zip(chunks.chunks_exact(linear.chunk * width)) {
                let state = LinearState {
                    coefficients: &mut long_term[slot * state_length..(slot + 1) * state_length],
                    chunks: counters[slot].written / linear.chunk as u64,
                    table: &mut table[slot * table_length..(slot + 1) * table_length],
                    histogram: &mut histogram[slot * histogram_length..(slot + 1) * histogram_length],
                };
                linear.write(state, chunk, width, scratch);
                counters[slot].advance(plan);
            }
        })
    }

    fn write_blocks(&mut self, plan: &MemoryPlan, blocks: &BlocksPlan, due: &[usize], chunks: &[f32]) -> Result<()> {
        let (width, means, stride) = (plan.layout.width(), plan.long_term_length(), plan.lengths_length());
        let (row_width, length) = (plan.row_width(), plan.config.chunk);
        let Self { counters, lengths, losses, mean, variance, precision, .. } = self;
        on_host(&self.long_term, |long_term| {
            for (&slot, chunk) in due.iter().zip(chunks.chunks_exact(length * row_width)) {
                let own = slot * width..(slot + 1) * width;
                precision.clear();
                plan.precision(&mean[own.clone()], &variance[own.clone()], precision);
                let mut state = BlocksState {
                    means: &mut long_term[slot * means..(slot + 1) * means],
                    lengths: &mut lengths[slot * stride..(slot + 1) * stride],
                    losses: &mut losses[slot * stride..(slot + 1) * stride],
                };
                for (i, row) in chunk.chunks_exact(row_width).enumerate() {
                    blocks.push(&mut state, counters[slot].written + i as u64, row, precision, &variance[own.clone()]);
                }
                counters[slot].advance(plan);
            }
        })
    }

    /// One product a distinct pair of matrices: \[N, N + L\]·\[N + L, agents × width\].
    fn write_tensors(&mut self, plan: &MemoryPlan, linear: &LinearPlan, due: &[usize], chunks: &[f32]) -> Result<()> {
        let (count, length, width) = (linear.basis.count(), linear.chunk, plan.row_width());
        let chunk_length = length * width;
        let mut alike: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (position, &slot) in due.iter().enumerate() {
            let written = self.counters[slot].written / length as u64;
            let key = if linear.is_time_varying() { written } else { written.min(1) };
            alike.entry(key).or_default().push(position);
        }
        let matrix = |matrix: &Matrix| Tensor::from_slice(matrix.values(), (count, matrix.columns()), &self.device);
        for (written, positions) in alike {
            let agents = positions.len();
            let slots: Vec<u32> = positions.iter().map(|position| due[*position] as u32).collect();
            let rows: Vec<f32> = positions
                .iter()
                .flat_map(|position| &chunks[position * chunk_length..(position + 1) * chunk_length])
                .copied()
                .collect();
            let flat = |tensor: Tensor, rows: usize| -> candle_core::Result<Tensor> {
                tensor.reshape((agents, rows, width))?.transpose(0, 1)?.contiguous()?.reshape((rows, agents * width))
            };
            let new = flat(Tensor::from_vec(rows, (agents, length, width), &self.device)?, length)?;
            let slots = Tensor::from_vec(slots, agents, &self.device)?;
            let matrices = linear.matrices(written);
            let next = if written == 0 {
                matrix(&matrices.first)?.matmul(&new)?
            } else {
                let old = flat(self.long_term.index_select(&slots, 0)?, count)?;
                let both = Tensor::cat(&[matrix(&matrices.past)?, matrix(&matrices.chunk)?], 1)?;
                both.matmul(&Tensor::cat(&[&old, &new], 0)?)?.add(&old)?
            };
            let next = next
                .reshape((count, agents, width))?
                .transpose(0, 1)?
                .contiguous()?
                .reshape((agents, count * width))?;
            let places = slots.reshape((agents, 1))?.broadcast_as(next.shape())?.contiguous()?;
            self.long_term.scatter_set(&places, &next, 0)?;
            positions.iter().for_each(|position| self.counters[due[*position]].advance(plan));
        }
        Ok(())
    }

    /// Calls `each` with every slot's state in turn; `histogram` is the slot's, to be added to.
    pub(crate) fn read(
        &mut self,
        plan: &MemoryPlan,
        slots: &[usize],
        mut each: impl FnMut(usize, AgentState, &mut [f32]),
    ) -> Result<()> {
        let long = plan.long_term_length();
        let (width, ring) = (plan.layout.width(), plan.short_term_rows() * plan.row_width());
        let (table_length, histogram_length) = plan.sticky_lengths();
        let stride = plan.lengths_length();
        let gathered = match self.execution {
            Execution::Host => None,
            Execution::Tensors => {
                let places: Vec<u32> = slots.iter().map(|slot| *slot as u32).collect();
                let places = Tensor::from_vec(places, slots.len(), &self.device)?;
                Some(self.long_term.index_select(&places, 0)?.flatten_all()?.to_vec1::<f32>()?)
            }
        };
        let (storage, _) = self.long_term.storage_and_layout();
        let host: &[f32] = match (&gathered, &*storage) {
            (Some(gathered), _) => gathered,
            (None, Storage::Cpu(CpuStorage::F32(values))) => values,
            _ => return Err(Error::Tensor("the long-term tensor is not f32 on the CPU".into())),
        };
        for (position, &slot) in slots.iter().enumerate() {
            let place = if gathered.is_some() { position } else { slot };
            let agent = AgentState {
                plan,
                counters: self.counters[slot],
                short_term: &self.short_term[slot * ring..(slot + 1) * ring],
                long_term: &host[place * long..(place + 1) * long],
                lengths: &self.lengths[slot * stride..(slot + 1) * stride],
                mean: &self.mean[slot * width..(slot + 1) * width],
                variance: &self.variance[slot * width..(slot + 1) * width],
                table: &self.table[slot * table_length..(slot + 1) * table_length],
            };
            let histogram = &mut self.histogram[slot * histogram_length..(slot + 1) * histogram_length];
            each(position, agent, histogram);
        }
        Ok(())
    }
}

/// Runs `work` on the values of a contiguous f32 tensor of the CPU, in place.
fn on_host(tensor: &Tensor, work: impl FnMut(&mut [f32])) -> Result<()> {
    struct InPlace<F>(RefCell<F>);
    impl<F: FnMut(&mut [f32])> InplaceOp1 for InPlace<F> {
        fn name(&self) -> &'static str {
            "long-term-write"
        }
        fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
            match storage {
                CpuStorage::F32(values) => (self.0.borrow_mut())(values),
                _ => candle_core::bail!("the long-term tensor is not f32"),
            }
            Ok(())
        }
    }
    Ok(tensor.inplace_op1(&InPlace(RefCell::new(work)))?)
}
