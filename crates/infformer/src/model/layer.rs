//! One layer: u = LN(x); x ← x + W_o·(attention over the short-term memory of u) + W_o′·(readout of the long-term
//! memory of u); x ← x + FF(LN(x)).

use super::config::ModelConfig;
use super::linear::Linear;
use super::normalisation::LayerNorm;
use super::product::{product, product_with_transposed};
use super::reading::{Cells, Looked, Reader, add_to_histograms};
use super::schedule::{Clock, Event, Schedule};
use super::state::LayerState;
use super::window::ShortTermAttention;
use super::writing::Writer;
use crate::error::Result;
use candle_core::Tensor;
use candle_nn::VarBuilder;

/// A transformer layer with a memory.
#[derive(Debug)]
pub(crate) struct Layer {
    attention_norm: LayerNorm,
    short_term: ShortTermAttention,
    pub(crate) long_term: Option<LongTermAttention>,
    feed_forward_norm: LayerNorm,
    up: Linear,
    down: Linear,
    ring: usize,
    chunk: usize,
}

/// The trained reading of the long-term memory.
#[derive(Debug)]
pub(crate) struct LongTermAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    pub(crate) output: Linear,
    pub(crate) writer: Writer,
    reader: Reader,
    heads: usize,
    /// K
    gradient_writes: usize,
}

/// What a layer makes of some ticks.
pub(crate) struct LayerOutput {
    /// \[batch, ticks wanted, d\]
    pub(crate) stream: Tensor,
    /// W_o′·readout \[batch, ticks wanted, d\], if there is a long-term memory.
    pub(crate) readout: Option<Tensor>,
    /// Of a single tick: mass of each cell of the long-term memory, where the density is one of cells
    /// \[batch, h, cells\].
    pub(crate) looked: Option<Tensor>,
    /// Divergences of the densities \[readings\], round by round.
    pub(crate) divergences: Vec<Tensor>,
}

/// What queries recall.
pub(crate) struct Recalled {
    /// \[batch, n, d\], before the output matrix.
    pub(crate) values: Tensor,
    /// Where the density is one of cells: their mass \[batch, n · h, cells\].
    mass: Option<Tensor>,
    /// \[batch, n · h, 1\], if there is a regulariser.
    divergence: Option<Tensor>,
}

impl Layer {
    pub(crate) fn new(config: &ModelConfig, vb: VarBuilder) -> Result<Self> {
        let width = config.width;
        let ages = config.ring() + 1;
        let long_term = match config.long_term {
            Some(_) => Some(LongTermAttention::new(config, vb.pp("long_term"))?),
            None => None,
        };
        Ok(Self {
            attention_norm: LayerNorm::new(width, vb.pp("attention_norm"))?,
            short_term: ShortTermAttention::new(width, config.attention_heads, ages, vb.pp("short_term"))?,
            long_term,
            feed_forward_norm: LayerNorm::new(width, vb.pp("feed_forward_norm"))?,
            up: Linear::with_bias(width, config.feed_forward, vb.pp("feed_forward.up"))?,
            down: Linear::with_bias(config.feed_forward, width, vb.pp("feed_forward.down"))?,
            ring: config.ring(),
            chunk: config.chunk,
        })
    }

    /// Takes `x` \[batch, T, d\] through the layer and moves its state; only the ticks from `wanted` on come out.
    /// The `schedule` is of these ticks.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        schedule: &Schedule,
        wanted: usize,
        state: &mut LayerState,
    ) -> Result<LayerOutput> {
        let (batch, ticks, width) = x.dims3()?;
        let seen = self.attention_norm.forward(x)?;
        // What a window of the wanted ticks, or of those to come, can reach.
        let reached = wanted.saturating_sub(self.ring);
        let near = seen.narrow(1, reached, ticks - reached)?;
        let with_past = |past: &Tensor, now: Tensor| if reached == 0 { Tensor::cat(&[past, &now], 1) } else { Ok(now) };
        let keys = with_past(&state.keys, self.short_term.key.forward(&near)?)?;
        let values = with_past(&state.values, self.short_term.value.forward(&near)?)?;
        // Where tick t of `x` lies in keys and values: at t + ring − hidden.
        let hidden = if reached == 0 { 0 } else { self.ring + reached };
        let inputs = Tensor::cat(&[&state.inputs, &seen], 1)?;
        let wanted_seen = seen.narrow(1, wanted, ticks - wanted)?;
        let queries = self.short_term.query.forward(&wanted_seen)?;
        let reads_from = match &self.long_term {
            Some(long_term) if long_term.writer.follows_attention() => 0,
            _ => wanted,
        };
        let long_queries = match &self.long_term {
            Some(long_term) => Some(long_term.queries(&seen.narrow(1, reads_from, ticks - reads_from)?)?),
            None => None,
        };

        // Readings of all rounds side by side, and where the one of each wanted tick is \[batch, ticks wanted\].
        let (mut readings, mut divergences, mut read) = (vec![], vec![], 0);
        let mut looked = None;
        let mut places = vec![0; batch * (ticks - wanted)];
        for round in &schedule.rounds {
            let (Some(long_term), Some(coefficients)) = (&self.long_term, &mut state.coefficients) else { break };
            if round.events.iter().any(|event| *event != Event::Nothing) {
                if state.writes.is_multiple_of(long_term.gradient_writes.saturating_add(1)) {
                    *coefficients = coefficients.detach();
                }
                state.writes += 1;
                let starts: Vec<usize> = round.ticks.iter().map(|ticks| ticks.start).collect();
                let chunk = rows(&inputs, &starts, self.chunk)?;
                *coefficients = long_term.writer.write(coefficients, &chunk, &round.events, &mut state.knots)?;
            }
            let starts: Vec<usize> = round.ticks.iter().map(|ticks| ticks.start.max(reads_from)).collect();
            let counts: Vec<usize> =
                round.ticks.iter().zip(&starts).map(|(ticks, start)| ticks.end.saturating_sub(*start)).collect();
            let longest = counts.iter().copied().max().unwrap_or(0);
            let Some(queries) = long_queries.as_ref().filter(|_| longest > 0) else { continue };
            let before: Vec<usize> = starts.iter().map(|start| start - reads_from).collect();
            let queries = rows(queries, &before, longest)?;
            let Recalled { values: reading, mass, divergence } =
                long_term.read(&queries, coefficients, &round.clocks, &counts, &mut state.knots)?;
            readings.push(reading);
            looked = mass.filter(|_| ticks == 1);
            if let Some(divergence) = divergence {
                divergences.push(real(&divergence, &counts)?);
            }
            for (member, (start, count)) in starts.iter().zip(&counts).enumerate() {
                for tick in (*start..start + count).filter(|tick| *tick >= wanted) {
                    places[member * (ticks - wanted) + tick - wanted] = read + tick - start;
                }
            }
            read += longest;
        }
        let mut attended = vec![];
        for from in (wanted..ticks).step_by(self.chunk) {
            let count = self.chunk.min(ticks - from);
            let queries = queries.narrow(1, from - wanted, count)?;
            let (first, length) = (from - hidden, self.ring + count);
            let held: Vec<usize> =
                schedule.held.chunks_exact(ticks).flat_map(|held| &held[from..from + count]).copied().collect();
            let keys = keys.narrow(1, first, length)?;
            attended.push(self.short_term.attend(&queries, &keys, &values.narrow(1, first, length)?, &held)?);
        }

        let last = |x: &Tensor| x.narrow(1, x.dim(1)? - self.ring, self.ring)?.contiguous();
        (state.inputs, state.keys, state.values) = (last(&inputs)?, last(&keys)?, last(&values)?);
        let x = x.narrow(1, wanted, ticks - wanted)?;
        if wanted == ticks {
            return Ok(LayerOutput { stream: x, readout: None, looked, divergences });
        }
        let mut stream = (x + self.short_term.output.forward(&Tensor::cat(&attended, 1)?)?)?;
        let readout = match &self.long_term {
            Some(long_term) => Some(long_term.output.forward(&picked(&Tensor::cat(&readings, 1)?, &places)?)?),
            None => None,
        };
        if let Some(readout) = &readout {
            stream = (stream + readout)?;
        }
        let hidden = self.up.forward(&self.feed_forward_norm.forward(&stream)?)?.gelu()?;
        let stream = (stream + self.down.forward(&hidden)?)?;
        debug_assert_eq!(stream.dims(), &[batch, ticks - wanted, width]);
        Ok(LayerOutput { stream, readout, looked, divergences })
    }
}

/// `count` rows of x \[batch, n, ..\] from each member's `starts` on; beyond the last row, that row again.
fn rows(x: &Tensor, starts: &[usize], count: usize) -> candle_core::Result<Tensor> {
    let available = x.dim(1)?;
    let alike = starts.iter().all(|start| *start == starts[0]);
    if alike && starts[0] + count <= available {
        return x.narrow(1, starts[0], count);
    }
    let places: Vec<usize> =
        starts.iter().flat_map(|start| (*start..start + count).map(|row| row.min(available - 1))).collect();
    picked(x, &places)
}

/// The values of x \[batch, n · h, 1\] that belong to the first `counts` of n readings of each member \[readings\].
fn real(x: &Tensor, counts: &[usize]) -> candle_core::Result<Tensor> {
    let (batch, rows, longest) = (counts.len(), x.dim(1)?, counts.iter().copied().max().unwrap_or(0));
    let heads = rows / longest.max(1);
    let of_member =
        |(member, count): (usize, &usize)| (member * rows..member * rows + count * heads).map(|row| row as u32);
    let index: Vec<u32> = counts.iter().enumerate().flat_map(of_member).collect();
    let x = x.flatten_all()?;
    if index.len() == batch * rows {
        return Ok(x);
    }
    let count = index.len();
    x.index_select(&Tensor::from_vec(index, count, x.device())?, 0)
}

/// Rows of x \[batch, n, ..\] by their `places` \[batch, m\] → \[batch, m, ..\].
fn picked(x: &Tensor, places: &[usize]) -> candle_core::Result<Tensor> {
    let (batch, available) = (x.dim(0)?, x.dim(1)?);
    let count = places.len() / batch;
    if count == available && places.chunks_exact(count).all(|of_member| of_member.iter().copied().eq(0..count)) {
        return Ok(x.clone());
    }
    let index: Vec<u32> = places
        .chunks_exact(count)
        .enumerate()
        .flat_map(|(member, of_member)| of_member.iter().map(move |place| (member * available + place) as u32))
        .collect();
    let index = Tensor::from_vec(index, batch * count, x.device())?;
    let shape = [&[batch, count], &x.dims()[2..]].concat();
    x.contiguous()?.flatten(0, 1)?.index_select(&index, 0)?.reshape(shape)
}

impl LongTermAttention {
    pub(crate) fn new(config: &ModelConfig, vb: VarBuilder) -> Result<Self> {
        let width = config.width;
        let long_term = config.long_term.clone().unwrap_or_default();
        let linear = |name: &str| Linear::new(width, width, vb.pp(name));
        let writer = Writer::new(&long_term, config.chunk, width, vb.clone())?;
        let reader = Reader::new(&long_term, writer.grid(vb.dtype(), vb.device())?, vb.clone())?;
        Ok(Self {
            query: linear("query")?,
            key: linear("key")?,
            value: linear("value")?,
            output: linear("output")?,
            writer,
            reader,
            heads: config.attention_heads,
            gradient_writes: long_term.gradient_writes,
        })
    }

    /// N
    pub(crate) fn capacity(&self) -> usize {
        self.writer.capacity()
    }

    /// Queries folded with the key matrix of their head, W_Kᵀq/√d_h: \[batch, n, d\] → \[batch, n, h, d\].
    pub(crate) fn queries(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.fold(&self.query.forward(x)?)
    }

    fn fold(&self, queries: &Tensor) -> candle_core::Result<Tensor> {
        let (batch, ticks, width) = queries.dims3()?;
        let head_width = width / self.heads;
        let queries = (queries / (head_width as f64).sqrt())?.reshape((batch * ticks, self.heads, head_width))?;
        let keys = self.key.weight.reshape((self.heads, head_width, width))?;
        let folded = product(&queries.transpose(0, 1)?.contiguous()?, &keys)?;
        folded.transpose(0, 1)?.reshape((batch, ticks, self.heads, width))
    }

    /// Reads for folded queries \[batch, n, h, d\] → \[batch, n, d\], before the output matrix. The first `counts` of each
    /// member are its own; the rest fill up.
    pub(crate) fn read(
        &self,
        queries: &Tensor,
        coefficients: &Tensor,
        clocks: &[Clock],
        counts: &[usize],
        knots: &mut [super::knots::Knots],
    ) -> Result<Recalled> {
        let (batch, ticks, heads, width) = queries.dims4()?;
        let cells = clocks.iter().zip(knots.iter()).map(|(clock, knots)| self.writer.cells(clock.chunks, knots));
        let cells = Cells::new(&cells.collect::<Vec<_>>(), queries.dtype(), queries.device())?;
        let queries = queries.contiguous()?.reshape((batch, ticks * heads, width))?;
        let reading = self.reader.read(&queries, coefficients, &cells)?;
        if let Some(bins) = self.writer.bins() {
            let counts: Vec<usize> = counts.iter().map(|count| count * heads).collect();
            add_to_histograms(&reading.looked, bins, &counts, knots)?;
        }
        let values = self.values(&reading.moment.reshape((batch * ticks, heads, width))?)?;
        Ok(Recalled {
            values: values.reshape((batch, ticks, width))?,
            mass: match reading.looked {
                Looked::Cells(mass) => Some(mass),
                Looked::Normal(..) => None,
            },
            divergence: reading.divergence,
        })
    }

    /// W_V of each head on its own moment: \[rows, h, d\] → \[rows, d\].
    fn values(&self, moments: &Tensor) -> candle_core::Result<Tensor> {
        let (rows, heads, width) = moments.dims3()?;
        let matrix = self.value.weight.reshape((heads, width / heads, width))?;
        let values = product_with_transposed(&moments.transpose(0, 1)?, &matrix)?;
        values.transpose(0, 1)?.reshape((rows, width))
    }
}
