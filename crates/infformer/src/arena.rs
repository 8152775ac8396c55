//! The state of all agents of one engine: a slot each, one array a kind of state.
//!
//! On the CPU the long-term signals lie in one array \[slots, floats\], written and read in place, agent by agent. On
//! other devices they are a tensor; writes are one product over the gathered slots, and what the host touches at every
//! tick (short-term rings, statistics, counters) stays on the host.

use crate::blocks::BlocksState;
use crate::config::StatePrecision;
use crate::error::{Error, Result};
use crate::kernels::RingRows;
use crate::moments::AgentState;
use crate::plan::{Counters, MemoryPlan, Policy, Statistics, observe};
use crate::signal::{LinearPlan, LinearState, WriteScratch};
use candle_core::{DType, Device, Tensor};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::collections::BTreeMap;

/// Slots written at once on a device: it bounds the matrices that agents of different ages need under `Uniform`.
const SLOTS_A_WRITE: usize = crate::signal::KEPT_BY_AGE;

/// Bytes that come from memory at once.
pub(crate) const CACHE_LINE: usize = 64;

/// The long-term signals of all slots \[slots, floats\].
#[derive(Debug)]
enum LongTerm {
    Single(Vec<f32>),
    Half(Vec<f16>),
    Device(Tensor),
}

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
    slots: usize,
    long_term: LongTerm,
    pub(crate) counters: Vec<Counters>,
    short_term: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    lengths: Vec<u32>,
    order: Vec<u32>,
    losses: Vec<f32>,
    table: Vec<f32>,
    histogram: Vec<f32>,
    scratch: Scratch,
}

/// Buffers that are used again.
#[derive(Debug, Default)]
struct Scratch {
    write: WriteScratch,
    precision: Vec<f32>,
    /// One slot's long-term floats, widened.
    widened: Vec<f32>,
}

/// The host's parts of one agent's state, and its long-term floats: what a snapshot holds.
#[derive(Debug)]
pub(crate) struct SlotState {
    pub(crate) counters: Counters,
    pub(crate) floats: Vec<Vec<f32>>,
    pub(crate) lengths: Vec<u32>,
}

impl SlotState {
    /// Of an agent that has seen nothing.
    pub(crate) fn empty(plan: &MemoryPlan) -> Self {
        Self {
            counters: Counters::default(),
            floats: plan.float_lengths().iter().map(|length| vec![0.0; *length]).collect(),
            lengths: vec![0; plan.lengths_length()],
        }
    }
}

impl StateArena {
    /// An arena without slots. Errors: a policy that the device cannot run.
    pub(crate) fn new(plan: &MemoryPlan, device: &Device, execution: Execution) -> Result<Self> {
        let linear = matches!(&plan.policy, Policy::Linear(linear) if linear.sticky.is_none());
        if execution == Execution::Tensors && !linear {
            let policy = plan.config.forgetting.name();
            return Err(Error::Device { policy, device: format!("{:?}", device.location()) });
        }
        let half = plan.config.state == StatePrecision::Half;
        let long_term = match execution {
            Execution::Tensors if half => {
                let device = format!("{:?}", device.location());
                return Err(Error::Device { policy: "a state of half precision", device });
            }
            Execution::Tensors => LongTerm::Device(Tensor::zeros((0, plan.long_term_length()), DType::F32, device)?),
            Execution::Host if half => LongTerm::Half(vec![]),
            Execution::Host => LongTerm::Single(vec![]),
        };
        Ok(Self {
            device: device.clone(),
            slots: 0,
            long_term,
            counters: vec![],
            short_term: vec![],
            mean: vec![],
            variance: vec![],
            lengths: vec![],
            order: vec![],
            losses: vec![],
            table: vec![],
            histogram: vec![],
            scratch: Scratch::default(),
        })
    }

    /// Whether writes and readings go through tensors, for many agents at once.
    pub(crate) fn is_batched(&self) -> bool {
        matches!(self.long_term, LongTerm::Device(_))
    }

    /// Makes room for at least `slots` agents; grows by doubling.
    pub(crate) fn reserve(&mut self, plan: &MemoryPlan, slots: usize) -> Result<()> {
        if slots <= self.slots {
            return Ok(());
        }
        let slots = slots.next_power_of_two();
        let floats = plan.long_term_length();
        match &mut self.long_term {
            LongTerm::Single(values) => values.resize(slots * floats, 0.0),
            LongTerm::Half(values) => values.resize(slots * floats, f16::ZERO),
            LongTerm::Device(tensor) => {
                let more = Tensor::zeros((slots - self.slots, floats), DType::F32, &self.device)?;
                *tensor = if self.slots == 0 { more } else { Tensor::cat(&[&*tensor, &more], 0)? };
            }
        }
        let (table, histogram) = plan.sticky_lengths();
        let width = plan.layout.width();
        self.counters.resize(slots, Counters::default());
        self.short_term.resize(slots * plan.short_term_rows() * plan.row_width(), 0.0);
        self.mean.resize(slots * width, 0.0);
        self.variance.resize(slots * width, 0.0);
        self.lengths.resize(slots * plan.lengths_length(), 0);
        if let Policy::Blocks(blocks) = &plan.policy {
            (self.slots..slots).for_each(|_| self.order.extend(blocks.in_order()));
        }
        self.losses.resize(slots * plan.lengths_length(), 0.0);
        self.table.resize(slots * table, 0.0);
        self.histogram.resize(slots * histogram, 0.0);
        self.slots = slots;
        Ok(())
    }

    fn host_arrays(&mut self) -> [&mut Vec<f32>; 6] {
        let Self { short_term, mean, variance, losses, table, histogram, .. } = self;
        [short_term, mean, variance, losses, table, histogram]
    }

    /// Copies a slot out; blocks in their order.
    pub(crate) fn save(&mut self, plan: &MemoryPlan, slot: usize) -> Result<SlotState> {
        let lengths = plan.float_lengths();
        let own = slot * lengths[0]..(slot + 1) * lengths[0];
        let mut long_term = match &self.long_term {
            LongTerm::Single(values) => values[own].to_vec(),
            LongTerm::Half(values) => values[own].to_f32_vec(),
            LongTerm::Device(tensor) => tensor.get(slot)?.to_vec1::<f32>()?,
        };
        let stride = plan.lengths_length();
        if let Policy::Blocks(blocks) = &plan.policy {
            long_term = blocks.sorted(&long_term, &self.order[slot * stride..(slot + 1) * stride]);
        }
        let mut floats = vec![long_term];
        for (array, length) in self.host_arrays().into_iter().zip(&lengths[1..]) {
            floats.push(array[slot * length..(slot + 1) * length].to_vec());
        }
        let lengths = self.lengths[slot * stride..(slot + 1) * stride].to_vec();
        Ok(SlotState { counters: self.counters[slot], floats, lengths })
    }

    /// Copies a state, of the lengths that [`MemoryPlan::float_lengths`] gives, into a slot.
    pub(crate) fn restore(&mut self, plan: &MemoryPlan, slot: usize, state: &SlotState) -> Result<()> {
        let own = slot * state.floats[0].len()..(slot + 1) * state.floats[0].len();
        match &mut self.long_term {
            LongTerm::Single(values) => values[own].copy_from_slice(&state.floats[0]),
            LongTerm::Half(values) => narrow(&mut state.floats[0].clone(), &mut values[own]),
            LongTerm::Device(tensor) => {
                let row = Tensor::from_slice(&state.floats[0], (1, state.floats[0].len()), &self.device)?;
                tensor.slice_set(&row, 0, slot)?;
            }
        }
        for (array, saved) in self.host_arrays().into_iter().zip(&state.floats[1..]) {
            let length = saved.len();
            array[slot * length..(slot + 1) * length].copy_from_slice(saved);
        }
        let stride = plan.lengths_length();
        self.lengths[slot * stride..(slot + 1) * stride].copy_from_slice(&state.lengths);
        if let Policy::Blocks(blocks) = &plan.policy {
            let order = &mut self.order[slot * stride..(slot + 1) * stride];
            order.iter_mut().zip(blocks.in_order()).for_each(|(order, block)| *order = block);
        }
        self.counters[slot] = state.counters;
        Ok(())
    }

    /// Puts an observation into a slot's short-term ring and its statistics. The ring must not be full.
    pub(crate) fn observe(&mut self, plan: &MemoryPlan, slot: usize, tick: u64, values: &[f32]) {
        let counters = &mut self.counters[slot];
        let width = plan.layout.width();
        let own = slot * width..(slot + 1) * width;
        let statistics = Statistics { mean: &mut self.mean[own.clone()], variance: &mut self.variance[own] };
        observe(statistics, counters.observations, values);
        let (rows, row_width) = (plan.short_term_rows(), plan.row_width());
        let row = slot * rows + (counters.head + counters.held) as usize % rows;
        let interval = counters.take(tick);
        let ring = &mut self.short_term[row * row_width..(row + 1) * row_width];
        ring[..width].copy_from_slice(values);
        ring[width] = interval as f32;
    }

    /// Reads a little of every cache line of some slots' state: the lines come all at once, not each when it is needed.
    pub(crate) fn fetch(&self, plan: &MemoryPlan, slots: impl Iterator<Item = usize> + Clone) {
        let (long, stride, width) = (plan.long_term_length(), plan.lengths_length(), plan.layout.width());
        let of = |slot: usize, length: usize| slot * length..(slot + 1) * length;
        let float = |value: &f32| value.to_bits();
        for slot in slots.clone() {
            match &self.long_term {
                LongTerm::Single(values) => touch(&values[of(slot, long)], float),
                LongTerm::Half(values) => touch(&values[of(slot, long)], |value| value.to_bits().into()),
                LongTerm::Device(_) => {}
            }
        }
        for slot in slots {
            let rows = self.rows_in_use(plan, slot);
            touch(&self.short_term[rows.start * plan.row_width()..rows.end * plan.row_width()], float);
            touch(&self.mean[of(slot, width)], float);
            touch(&self.variance[of(slot, width)], float);
            touch(&self.losses[of(slot, stride)], float);
            touch(&self.lengths[of(slot, stride)], |value| *value);
            touch(&self.order[of(slot, stride)], |value| *value);
        }
    }

    /// The rows of the ring that hold observations, and the next one; all of them where they begin anew at the top.
    fn rows_in_use(&self, plan: &MemoryPlan, slot: usize) -> std::ops::Range<usize> {
        let (rows, counters) = (plan.short_term_rows(), &self.counters[slot]);
        let (first, end) = (counters.head as usize, (counters.head + counters.held) as usize + 1);
        let own = if end <= rows { first..end } else { 0..rows };
        slot * rows + own.start..slot * rows + own.end
    }

    /// Whether a slot's ring holds S observations and a whole chunk, which is then to be written.
    pub(crate) fn is_full(&self, plan: &MemoryPlan, slot: usize) -> bool {
        self.counters[slot].held as usize >= plan.short_term_rows()
    }

    /// Writes the oldest chunk of a slot's ring into its long-term signal, on the host.
    pub(crate) fn write(&mut self, plan: &mut MemoryPlan, slot: usize) {
        if let Policy::Linear(linear) = &mut plan.policy {
            linear.prepare(std::iter::once(self.counters[slot].written / linear.chunk as u64));
        }
        let Self { long_term, counters, short_term, mean, variance, lengths, order, losses, table, histogram, .. } =
            self;
        let Scratch { write: scratch, precision, widened } = &mut self.scratch;
        let (rows, width) = (plan.short_term_rows(), plan.row_width());
        let chunk = RingRows {
            values: &short_term[slot * rows * width..(slot + 1) * rows * width],
            head: counters[slot].head as usize,
            width,
            count: plan.config.chunk,
        };
        let written = counters[slot].written;
        let mut write = |long_term: &mut [f32]| match &plan.policy {
            Policy::Linear(linear) => {
                let (ages, bins) = plan.sticky_lengths();
                let state = LinearState {
                    coefficients: long_term,
                    chunks: written / linear.chunk as u64,
                    table: &mut table[slot * ages..(slot + 1) * ages],
                    histogram: &mut histogram[slot * bins..(slot + 1) * bins],
                };
                linear.write(state, chunk, scratch);
            }
            Policy::Blocks(blocks) => {
                let (channels, stride) = (plan.layout.width(), plan.lengths_length());
                let (channels, blocks_own) =
                    (slot * channels..(slot + 1) * channels, slot * stride..(slot + 1) * stride);
                let variance = &variance[channels.clone()];
                plan.precision(&mean[channels], variance, precision);
                let mut state = BlocksState {
                    means: long_term,
                    order: &mut order[blocks_own.clone()],
                    lengths: &mut lengths[blocks_own.clone()],
                    losses: &mut losses[blocks_own],
                };
                for (row, written) in chunk.iter().zip(written..) {
                    blocks.push(&mut state, written, row, precision, variance);
                }
            }
        };
        let length = plan.long_term_length();
        let own = slot * length..(slot + 1) * length;
        match long_term {
            LongTerm::Single(values) => write(&mut values[own]),
            LongTerm::Half(values) => {
                widened.resize(length, 0.0);
                values[own.clone()].convert_to_f32_slice(widened);
                write(widened);
                narrow(widened, &mut values[own]);
            }
            LongTerm::Device(_) => {}
        }
        counters[slot].advance(plan);
    }

    /// Writes the oldest chunk of every slot in `due` into its long-term signal, on the device.
    ///
    /// Each slot's counters move with its own write: a failure on the way leaves the others whole, written or not.
    pub(crate) fn write_batch(&mut self, plan: &mut MemoryPlan, due: &[usize], chunks: &mut Vec<f32>) -> Result<()> {
        let (rows, width, length) = (plan.short_term_rows(), plan.row_width(), plan.config.chunk);
        let LongTerm::Device(tensor) = &self.long_term else { return Ok(()) };
        let tensor = tensor.clone();
        for due in due.chunks(SLOTS_A_WRITE) {
            chunks.clear();
            for &slot in due {
                let ring = &self.short_term[slot * rows * width..(slot + 1) * rows * width];
                let head = self.counters[slot].head as usize;
                let chunk = RingRows { values: ring, head, width, count: length };
                chunk.iter().for_each(|row| chunks.extend_from_slice(row));
            }
            if let Policy::Linear(linear) = &mut plan.policy {
                linear.prepare(due.iter().map(|slot| self.counters[*slot].written / length as u64));
            }
            if let Policy::Linear(linear) = &plan.policy {
                self.write_tensors(plan, linear, &tensor, due, chunks)?;
            }
        }
        Ok(())
    }

    /// One product a distinct pair of matrices: \[agents × width, N + L\]·\[N + L, N\].
    fn write_tensors(
        &mut self,
        plan: &MemoryPlan,
        linear: &LinearPlan,
        long_term: &Tensor,
        due: &[usize],
        chunks: &[f32],
    ) -> Result<()> {
        let (count, length, width) = (linear.basis.count(), linear.chunk, plan.row_width());
        let chunk_length = length * width;
        let mut alike: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (position, &slot) in due.iter().enumerate() {
            let written = self.counters[slot].written / length as u64;
            let key = if linear.is_time_varying() { written } else { written.min(1) };
            alike.entry(key).or_default().push(position);
        }
        for (written, positions) in alike {
            let agents = positions.len();
            let slots: Vec<u32> = positions.iter().map(|position| due[*position] as u32).collect();
            let rows: Vec<f32> = positions
                .iter()
                .flat_map(|position| &chunks[position * chunk_length..(position + 1) * chunk_length])
                .copied()
                .collect();
            let new = Tensor::from_vec(rows, (agents, length, width), &self.device)?;
            let new = new.transpose(1, 2)?.contiguous()?.reshape((agents * width, length))?;
            let slots = Tensor::from_vec(slots, agents, &self.device)?;
            let matrices = linear.matrices(written);
            let map = if written == 0 { &matrices.first } else { &matrices.both };
            let map = Tensor::from_vec(map.values(0..map.rows()), (map.rows(), count), &self.device)?;
            let next = if written == 0 {
                new.matmul(&map)?
            } else {
                let old = long_term.index_select(&slots, 0)?.reshape((agents * width, count))?;
                Tensor::cat(&[&old, &new], 1)?.matmul(&map)?.add(&old)?
            };
            let next = next.reshape((agents, width * count))?;
            let places = slots.reshape((agents, 1))?.broadcast_as(next.shape())?.contiguous()?;
            long_term.scatter_set(&places, &next, 0)?;
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
        let length = plan.long_term_length();
        let mut widened = std::mem::take(&mut self.scratch.widened);
        if let LongTerm::Device(tensor) = &self.long_term {
            let places: Vec<u32> = slots.iter().map(|slot| *slot as u32).collect();
            let places = Tensor::from_vec(places, slots.len(), &self.device)?;
            widened = tensor.index_select(&places, 0)?.flatten_all()?.to_vec1::<f32>()?;
        }
        let (width, ring) = (plan.layout.width(), plan.short_term_rows() * plan.row_width());
        let (table_length, histogram_length) = plan.sticky_lengths();
        let stride = plan.lengths_length();
        for (position, &slot) in slots.iter().enumerate() {
            let own = slot * length..(slot + 1) * length;
            let long_term = match &self.long_term {
                LongTerm::Single(values) => &values[own],
                LongTerm::Half(values) => {
                    widened.resize(length, 0.0);
                    values[own].convert_to_f32_slice(&mut widened);
                    &widened
                }
                LongTerm::Device(_) => &widened[position * length..(position + 1) * length],
            };
            let agent = AgentState {
                plan,
                counters: self.counters[slot],
                short_term: &self.short_term[slot * ring..(slot + 1) * ring],
                long_term,
                order: &self.order[slot * stride..(slot + 1) * stride],
                lengths: &self.lengths[slot * stride..(slot + 1) * stride],
                mean: &self.mean[slot * width..(slot + 1) * width],
                variance: &self.variance[slot * width..(slot + 1) * width],
                table: &self.table[slot * table_length..(slot + 1) * table_length],
            };
            let histogram = &mut self.histogram[slot * histogram_length..(slot + 1) * histogram_length];
            each(position, agent, histogram);
        }
        self.scratch.widened = widened;
        Ok(())
    }
}

/// Rounds to f16; what is too large becomes the largest.
fn narrow(wide: &mut [f32], narrow: &mut [f16]) {
    let most = f16::MAX.to_f32();
    wide.iter_mut().for_each(|value| *value = value.clamp(-most, most));
    narrow.convert_from_f32_slice(wide);
}

/// Reads one value of every cache line.
fn touch<T>(values: &[T], bits: impl Fn(&T) -> u32) {
    let mut all = 0;
    for line in values.chunks(CACHE_LINE / size_of::<T>()) {
        all ^= bits(&line[0]);
    }
    std::hint::black_box(all);
}
