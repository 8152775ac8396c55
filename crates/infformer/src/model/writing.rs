//! What leaves the short-term memory joins the long-term memory: Bᵀ′ = Bᵀ·Aᵀ + XᵀCᵀ, for every policy. Smooth signals
//! add Bᵀ·(A − I)ᵀ instead, since A nears I; blocks and means are moved whole (`moves`), so that what stays is the same
//! bits.
//!
//! Linear policies have constant (A, C); `Uniform` has its own at every write; under `Sticky` and `Adaptive` each
//! member's own past decides them: where attention was, which neighbours are alike. That decision is made on the
//! host and is a constant to the gradient: **values carry gradients, knots do not.** A block's mean passes its gradient
//! to the ticks that it is the mean of, in proportion; nothing learns to move a knot. Where the noise comes from, a
//! model learns to make it alike (see [`InputMask`]), so that it melts together.

use super::config::{InputMask, LongTermConfig, LongTermForgetting};
use super::knots::Knots;
use super::moves::{self, Moves};
use super::schedule::Event;
use crate::blocks::{BlocksPlan, BlocksState};
use crate::density::Measure;
use crate::error::Result;
use crate::forgetting::Forgetting;
use crate::plan::{Statistics, observe};
use crate::projection;
use crate::signal::LinearPlan;
use crate::sticky::{self, StickyPlan};
use candle_core::{DType, Device, Tensor};
use candle_nn::{Init, VarBuilder};
use nalgebra::DMatrix;

/// The cells of one member's past, in the order of the coefficients (blocks, means) or of the reading grid.
#[derive(Debug, Clone, Default)]
pub(crate) struct CellTable {
    /// Logarithm of each cell's measure; hardly anything where there is no past.
    pub(crate) log_mass: Vec<f32>,
    /// Ends on the axis \[0, 1\].
    pub(crate) start: Vec<f32>,
    pub(crate) end: Vec<f32>,
}

/// The logarithm of no mass at all, that f32 still takes.
pub(crate) const NOTHING: f32 = -1e9;

/// Writes for all members of a batch.
#[derive(Debug)]
pub(crate) struct Writer {
    policy: Policy,
    mask: Option<Mask>,
    measure: Measure,
    capacity: usize,
    chunk: usize,
    width: usize,
}

#[derive(Debug)]
enum Policy {
    Linear(Box<LinearPlan>),
    Sticky(Box<LinearPlan>, StickyPlan),
    Blocks(BlocksPlan),
    MeanPooled { rate: usize },
}

/// One member's (A − I)ᵀ \[N, N\] and Cᵀ \[L, N\]; row-major.
#[derive(Debug, Clone)]
struct Operator {
    past: Vec<f32>,
    chunk: Vec<f32>,
}

/// The paper's mask: sigmoid of a convolution over three ticks.
#[derive(Debug)]
struct Mask {
    /// \[d, d, 3\], as convolutions are stored: out, in, the ticks before, now and after.
    weight: Tensor,
    /// \[d\]
    bias: Tensor,
}

impl Mask {
    fn new(width: usize, vb: VarBuilder) -> candle_core::Result<Self> {
        let bound = 1.0 / (3.0 * width as f64).sqrt();
        let weight = vb.get_with_hints((width, width, 3), "weight", Init::Uniform { lo: -bound, up: bound })?;
        Ok(Self { weight, bias: vb.get_with_hints(width, "bias", Init::Const(0.0))? })
    }

    /// x \[batch, L, d\] → \[batch, L, d\]
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, ticks, width) = x.dims3()?;
        let padded = x.pad_with_zeros(1, 1, 1)?;
        let neighbours: Vec<Tensor> =
            (0..3).map(|at| padded.narrow(1, at, ticks)).collect::<candle_core::Result<_>>()?;
        let neighbours = Tensor::cat(&neighbours, 2)?.reshape((batch * ticks, 3 * width))?;
        let weight = self.weight.permute((2, 1, 0))?.reshape((3 * width, width))?;
        let logits = neighbours.matmul(&weight)?.broadcast_add(&self.bias)?;
        x * candle_nn::ops::sigmoid(&logits)?.reshape((batch, ticks, width))?
    }
}

impl Writer {
    pub(crate) fn new(config: &LongTermConfig, chunk: usize, width: usize, vb: VarBuilder) -> Result<Self> {
        let policy = match &config.forgetting {
            LongTermForgetting::MeanPooled { rate } => Policy::MeanPooled { rate: *rate },
            LongTermForgetting::Signal(Forgetting::Adaptive(rule)) => {
                Policy::Blocks(BlocksPlan::single(*rule, width, config.capacity))
            }
            LongTermForgetting::Signal(forgetting) => {
                let plan = Box::new(LinearPlan::new(forgetting, config.basis()?, chunk)?);
                match plan.sticky.clone() {
                    Some(sticky) => Policy::Sticky(plan, sticky),
                    None => Policy::Linear(plan),
                }
            }
        };
        let mask = match config.input_mask {
            InputMask::Everything => None,
            InputMask::Convolution => Some(Mask::new(width, vb.pp("mask"))?),
        };
        Ok(Self { policy, mask, measure: config.measure, capacity: config.capacity, chunk, width })
    }

    /// Whether each tick's densities are needed by the next write.
    pub(crate) fn follows_attention(&self) -> bool {
        self.bins().is_some()
    }

    /// N
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// L and d: what one member writes at once.
    pub(crate) fn chunk_shape(&self) -> [usize; 2] {
        [self.chunk, self.width]
    }

    /// Bins of the attention histogram, where one is kept.
    pub(crate) fn bins(&self) -> Option<usize> {
        match &self.policy {
            Policy::Sticky(_, plan) => Some(plan.bins),
            _ => None,
        }
    }

    /// The reading grid ψ \[M, N\] of a signal whose cells are not its coefficients.
    pub(crate) fn grid(&self, dtype: DType, device: &Device) -> candle_core::Result<Option<Tensor>> {
        let (Policy::Linear(plan) | Policy::Sticky(plan, _)) = &self.policy else { return Ok(None) };
        let rows = plan.grid.cells();
        // The oldest cell first, as the axis runs.
        let psi: Vec<f32> = (0..rows).rev().flat_map(|row| plan.grid.row(row)).copied().collect();
        Ok(Some(Tensor::from_vec(psi, (rows, self.capacity), device)?.to_dtype(dtype)?))
    }

    /// `coefficients` Bᵀ \[batch, d, N\] after what happens to each member; `chunk` \[batch, L, d\] leaves the
    /// short-term memory of those that write.
    pub(crate) fn write(
        &self,
        coefficients: &Tensor,
        chunk: &Tensor,
        events: &[Event],
        knots: &mut [Knots],
    ) -> Result<Tensor> {
        let masked = match &self.mask {
            Some(mask) => mask.forward(chunk)?,
            None => chunk.clone(),
        };
        let moves = match &self.policy {
            Policy::Linear(_) | Policy::Sticky(..) => {
                let operators = self.operators(events, knots);
                return Ok((coefficients + self.change(coefficients, &masked, &operators)?)?);
            }
            Policy::Blocks(plan) => self.block_moves(plan, coefficients, &masked, events, knots)?,
            Policy::MeanPooled { rate } => self.moves(events, knots, |_, _, chunks| self.pool(*rate, chunks)),
        };
        Ok(moves::apply(coefficients, &masked, moves)?)
    }

    /// Bᵀ·(A − I)ᵀ + XᵀCᵀ \[batch, d, N\], for one operator that all share or one a member.
    fn change(&self, coefficients: &Tensor, chunk: &Tensor, operators: &[Operator]) -> candle_core::Result<Tensor> {
        let (batch, width, count) = coefficients.dims3()?;
        let (dtype, device) = (coefficients.dtype(), coefficients.device());
        let tensor = |values: Vec<f32>, shape: &[usize]| Tensor::from_vec(values, shape, device)?.to_dtype(dtype);
        // A row for each channel of each member.
        let (past, columns) = (coefficients.contiguous()?, chunk.transpose(1, 2)?.contiguous()?);
        if let [operator] = operators {
            let past_map = tensor(operator.past.clone(), &[count, count])?;
            let chunk_map = tensor(operator.chunk.clone(), &[self.chunk, count])?;
            let past = past.reshape((batch * width, count))?.matmul(&past_map)?;
            let chunk = columns.reshape((batch * width, self.chunk))?.matmul(&chunk_map)?;
            return (past + chunk)?.reshape((batch, width, count));
        }
        let past_maps = operators.iter().flat_map(|operator| operator.past.iter().copied()).collect();
        let chunk_maps = operators.iter().flat_map(|operator| operator.chunk.iter().copied()).collect();
        let past = past.matmul(&tensor(past_maps, &[batch, count, count])?)?;
        past + columns.matmul(&tensor(chunk_maps, &[batch, self.chunk, count])?)?
    }

    /// The past times `scale`, and no chunk.
    fn scaled(&self, scale: f32) -> Operator {
        let count = self.capacity;
        let mut operator = Operator { past: vec![0.0; count * count], chunk: vec![0.0; self.chunk * count] };
        (0..count).for_each(|i| operator.past[i * count + i] = scale - 1.0);
        operator
    }

    /// The operators of the members, or the one that all share.
    fn operators(&self, events: &[Event], knots: &mut [Knots]) -> Vec<Operator> {
        let linear = matches!(self.policy, Policy::Linear(_));
        let alike = linear && events.windows(2).all(|pair| pair[0] == pair[1]);
        let mut latest: Option<(Event, Operator)> = None;
        let mut operators = Vec::with_capacity(events.len());
        for (event, knots) in events.iter().zip(knots).take(if alike { 1 } else { events.len() }) {
            if let Some((known, operator)) = &latest
                && known == event
            {
                operators.push(operator.clone());
                continue;
            }
            let operator = match (&self.policy, event) {
                (Policy::Linear(plan), Event::Write { chunks }) => self.linear_operator(plan, *chunks),
                (Policy::Sticky(plan, sticky), Event::Write { chunks }) => {
                    self.sticky_operator(plan, sticky, *chunks, knots)
                }
                (_, Event::Reset) => {
                    *knots = Knots::default();
                    self.scaled(0.0)
                }
                _ => self.scaled(1.0),
            };
            if linear {
                latest = Some((*event, operator.clone()));
            }
            operators.push(operator);
        }
        operators
    }

    /// The moves of the members; `write` gives those of one that writes, from its number, its knots and its earlier
    /// writes.
    fn moves(
        &self,
        events: &[Event],
        knots: &mut [Knots],
        mut write: impl FnMut(usize, &mut Knots, u64) -> Moves,
    ) -> Vec<Moves> {
        let of_member = |(member, (event, knots)): (usize, (&Event, &mut Knots))| match event {
            Event::Nothing => Moves::identity(self.capacity, self.chunk),
            Event::Reset => {
                *knots = Knots::default();
                Moves::nothing(self.capacity, self.chunk)
            }
            Event::Write { chunks } => write(member, knots, *chunks),
        };
        events.iter().zip(knots).enumerate().map(of_member).collect()
    }

    /// The moves of members whose own past decides which blocks merge.
    fn block_moves(
        &self,
        plan: &BlocksPlan,
        coefficients: &Tensor,
        chunk: &Tensor,
        events: &[Event],
        knots: &mut [Knots],
    ) -> Result<Vec<Moves>> {
        let host = |tensor: &Tensor| tensor.detach().to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        let (coefficients, chunk) = (host(coefficients)?, host(chunk)?);
        let (state, ticks) = (self.width * self.capacity, self.width * self.chunk);
        Ok(self.moves(events, knots, |member, knots, _| {
            let coefficients = &coefficients[member * state..(member + 1) * state];
            self.merge_blocks(plan, coefficients, &chunk[member * ticks..(member + 1) * ticks], knots)
        }))
    }

    fn linear_operator(&self, plan: &LinearPlan, chunks: u64) -> Operator {
        let matrices = plan.matrices_after(chunks);
        if chunks == 0 {
            // There is no past to be moved: B is zero.
            Operator { chunk: matrices.first.values(0..self.chunk), ..self.scaled(1.0) }
        } else {
            let count = self.capacity;
            Operator { past: matrices.both.values(0..count), chunk: matrices.both.values(count..count + self.chunk) }
        }
    }

    /// The signal is resampled where attention was: A = (map of the samples)·ψ(places).
    fn sticky_operator(&self, plan: &LinearPlan, sticky: &StickyPlan, chunks: u64, knots: &mut Knots) -> Operator {
        knots.table.resize(sticky.bins + 1, 0.0);
        knots.histogram.resize(sticky.bins, 0.0);
        let matrices = plan.matrices_after(chunks);
        let operator = if chunks == 0 {
            Operator { chunk: matrices.first.values(0..self.chunk), ..self.scaled(1.0) }
        } else {
            let histogram: Vec<f64> = knots.histogram.iter().map(|mass| f64::from(*mass)).collect();
            let places = sticky::sample_places(&histogram, sticky.points, sticky.placement);
            let map = |n: usize, m: usize| f64::from(matrices.both.row(m)[n]);
            let map = DMatrix::from_fn(self.capacity, sticky.points, map);
            let mut past = map * projection::design(&plan.basis, &places);
            (0..self.capacity).for_each(|i| past[(i, i)] -= 1.0);
            // Column by column is the transpose row by row.
            let past = past.as_slice().iter().map(|value| *value as f32).collect();
            Operator { past, chunk: matrices.both.values(sticky.points..sticky.points + self.chunk) }
        };
        sticky::advance(sticky, self.chunk, chunks, &mut knots.table, &mut knots.histogram);
        operator
    }

    /// The blocks of a member, Bᵀ \[d, N\], after `chunk` \[L, d\] are means of runs of the blocks and ticks before.
    fn merge_blocks(&self, plan: &BlocksPlan, coefficients: &[f32], chunk: &[f32], knots: &mut Knots) -> Moves {
        let (count, width) = (self.capacity, self.width);
        let mut items: Vec<(usize, f64)> =
            knots.lengths.iter().enumerate().map(|(block, length)| (block, f64::from(*length))).collect();
        let old = items.len();
        let mut written: u64 = knots.lengths.iter().map(|length| u64::from(*length)).sum();
        // Blocks carry an interval in their last column; here every tick is one.
        let mut state_means = vec![0.0; (count + 1) * (width + 1)];
        for (channel, row) in coefficients.chunks_exact(count).enumerate() {
            (0..old).for_each(|block| state_means[block * (width + 1) + channel] = row[block]);
        }
        knots.lengths.resize(count + 1, 0);
        let mut losses = vec![0.0; count + 1];
        let mut order: Vec<u32> = plan.in_order().collect();
        let mut state = BlocksState {
            means: &mut state_means,
            order: &mut order,
            lengths: &mut knots.lengths,
            losses: &mut losses,
        };
        let precision = vec![1.0; width];
        plan.refresh_losses(&mut state, old, &precision);
        knots.mean.resize(width, 0.0);
        knots.variance.resize(width, 0.0);
        let mut padded = vec![0.0; width + 1];
        for row in chunk.chunks_exact(width) {
            observe(Statistics { mean: &mut knots.mean, variance: &mut knots.variance }, written, row);
            padded[..width].copy_from_slice(row);
            items.push((plan.count(written), 1.0));
            if let Some(older) = plan.push(&mut state, written, &padded, &precision, &knots.variance) {
                items.iter_mut().for_each(|(block, _)| *block -= usize::from(*block > older));
            }
            written += 1;
        }
        knots.lengths.truncate(plan.count(written));

        let mut lengths = vec![0.0; count];
        items.iter().for_each(|(block, length)| lengths[*block] += length);
        let mut moves = Moves::nothing(count, self.chunk);
        for (item, (block, length)) in items.into_iter().enumerate() {
            let from = if item < old { item } else { count + item - old };
            moves.set(from, block, (length / lengths[block]) as f32);
        }
        moves
    }

    /// The means move towards the oldest; the chunk's become the newest, or join it while it is not full.
    fn pool(&self, rate: usize, chunks: u64) -> Moves {
        let (count, ticks) = (self.capacity, self.chunk);
        let mut moves = Moves::nothing(count, ticks);
        let joined = newest_mean(rate, ticks, chunks);
        if joined > 0 {
            (0..count - 1).for_each(|slot| moves.set(slot, slot, 1.0));
            moves.set(count - 1, count - 1, joined as f32 / (joined + ticks) as f32);
            (0..ticks).for_each(|tick| moves.set(count + tick, count - 1, 1.0 / (joined + ticks) as f32));
        } else {
            let slots = (ticks / rate).max(1);
            (slots..count).for_each(|slot| moves.set(slot, slot - slots, 1.0));
            let share = 1.0 / rate.min(ticks) as f32;
            (0..ticks).for_each(|tick| moves.set(count + tick, count - slots + tick / rate, share));
        }
        moves
    }

    /// The cells of a member's past after `chunks` writes. Ages count from the newest tick in the long-term memory.
    pub(crate) fn cells(&self, chunks: u64, knots: &Knots) -> CellTable {
        let written = chunks * self.chunk as u64;
        match &self.policy {
            Policy::Linear(plan) | Policy::Sticky(plan, _) => {
                let mut table = CellTable::even(plan.grid.cells());
                if chunks > 0 {
                    table.log_mass.fill(NOTHING);
                    let mut ages = vec![];
                    plan.ages(written, &knots.table, &mut ages);
                    for (cell, ends) in ages.windows(2).enumerate().filter(|(_, ends)| ends[1] > ends[0]) {
                        let mass = self.measure.coordinate(ends[1]) - self.measure.coordinate(ends[0]);
                        let row = plan.grid.cells() - 1 - cell;
                        table.log_mass[row] = mass.ln().max(f64::from(NOTHING)) as f32;
                    }
                }
                table
            }
            Policy::Blocks(_) => self.moving_cells(&knots.lengths, 0),
            Policy::MeanPooled { rate } => {
                let lengths = self.mean_lengths(*rate, chunks);
                self.moving_cells(&lengths, self.capacity - lengths.len())
            }
        }
    }

    /// Ticks of each mean after `chunks` writes, oldest first.
    fn mean_lengths(&self, rate: usize, chunks: u64) -> Vec<u32> {
        let open = newest_mean(rate, self.chunk, chunks) as u32;
        let written = chunks * self.chunk as u64;
        let full = (written / rate as u64).min((self.capacity - usize::from(open > 0)) as u64) as usize;
        let mut lengths = vec![rate as u32; full];
        lengths.extend((open > 0).then_some(open));
        lengths
    }

    /// Ages in ticks at the newer and the older end of each cell that has a past, with its place among the cells. They
    /// count from the newest tick in the long-term memory.
    pub(crate) fn ages(&self, chunks: u64, knots: &Knots) -> Vec<(usize, [f64; 2])> {
        let moving = |lengths: &[u32], first: usize| {
            let mut older = 0.0;
            let ends = |(cell, length): (usize, &u32)| {
                let newer = older;
                older += f64::from(*length);
                (first + cell, [newer, older])
            };
            lengths.iter().enumerate().rev().map(ends).collect()
        };
        match &self.policy {
            _ if chunks == 0 => vec![],
            Policy::Linear(plan) | Policy::Sticky(plan, _) => {
                let mut ages = vec![];
                plan.ages(chunks * self.chunk as u64, &knots.table, &mut ages);
                let ends = |(cell, ends): (usize, &[f64])| (plan.grid.cells() - 1 - cell, [ends[0], ends[1]]);
                ages.windows(2).enumerate().map(ends).collect()
            }
            Policy::Blocks(_) => moving(&knots.lengths, 0),
            Policy::MeanPooled { rate } => {
                let lengths = self.mean_lengths(*rate, chunks);
                moving(&lengths, self.capacity - lengths.len())
            }
        }
    }

    /// Cells of the given lengths, oldest first, from coefficient `first` on; the axis is that of the measure.
    fn moving_cells(&self, lengths: &[u32], first: usize) -> CellTable {
        let mut table = CellTable::even(self.capacity);
        if lengths.is_empty() {
            return table;
        }
        table.log_mass.fill(NOTHING);
        table.start.fill(0.0);
        table.end.fill(0.0);
        let total: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
        let whole = self.measure.coordinate(total as f64);
        let mut age = 0.0;
        for (cell, length) in lengths.iter().enumerate().rev() {
            let (newer, older) = (self.measure.coordinate(age), self.measure.coordinate(age + f64::from(*length)));
            table.log_mass[first + cell] = (older - newer).ln() as f32;
            table.start[first + cell] = (1.0 - older / whole) as f32;
            table.end[first + cell] = (1.0 - newer / whole) as f32;
            age += f64::from(*length);
        }
        table
    }
}

/// Ticks in the newest mean of `rate` ticks after `chunks` chunks of `ticks`, while it is not full; else 0.
fn newest_mean(rate: usize, ticks: usize, chunks: u64) -> usize {
    let chunks_a_mean = (rate / ticks).max(1) as u64;
    (chunks % chunks_a_mean) as usize * ticks
}

impl CellTable {
    /// What stands for the cells of a memory without a past: reading it gives nothing, whatever the density.
    fn even(cells: usize) -> Self {
        let edge = |i: usize| i as f32 / cells as f32;
        Self { log_mass: vec![0.0; cells], start: (0..cells).map(edge).collect(), end: (1..=cells).map(edge).collect() }
    }
}
