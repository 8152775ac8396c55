//! One layer: u = LN(x); x ← x + W_o·(attention over the short-term memory of u) + W_o′·(readout of the long-term
//! memory of u), and where there is a recurrence + Re(C h) of u; x ← x + FF(LN(x)). Either sum may be a gate.

use super::config::{ModelConfig, Normalisation};
use super::gelu::gelu;
use super::joint::Joint;
use super::knots::Knots;
use super::linear::Linear;
use super::normalisation::LayerNorm;
use super::product::{Rows, product, product_with_transposed};
use super::reading::{Cells, Looked, Reader, Reading, add_to_histograms};
use super::recurrence::LinearRecurrence;
use super::rows::{from_starts, picked};
use super::schedule::{Event, Schedule};
use super::state::LayerState;
use super::stretches::Stretches;
use super::window::ShortTermAttention;
use super::writing::{CellTable, Writer};
use crate::error::Result;
use candle_core::Tensor;
use candle_nn::VarBuilder;

/// A transformer layer with a memory.
#[derive(Debug)]
pub(crate) struct Layer {
    attention_norm: LayerNorm,
    short_term: ShortTermAttention,
    pub(crate) long_term: Option<LongTermAttention>,
    recurrence: Option<LinearRecurrence>,
    readout_norms: Option<ReadoutNorms>,
    feed_forward_norm: LayerNorm,
    up: Linear,
    down: Linear,
    after_memory: Joint,
    after_feed_forward: Joint,
    ring: usize,
    chunk: usize,
}

/// Of what is read, before the output matrix.
#[derive(Debug)]
struct ReadoutNorms {
    short_term: LayerNorm,
    long_term: Option<LayerNorm>,
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
    pub(crate) heads: usize,
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

/// What was read from the long-term memory.
struct Far {
    /// Row by row.
    readings: Vec<Tensor>,
    /// Where the row of each wanted tick is, counted from 1 \[batch, ticks wanted\]; at 0 is nothing.
    places: Vec<usize>,
    /// Where the rows of a single tick looked.
    looked: Option<Tensor>,
    /// Divergences of the densities \[readings\], round by round.
    divergences: Vec<Tensor>,
}

/// What queries recall.
pub(crate) struct Recalled {
    /// \[batch, n, d\], before the output matrix.
    pub(crate) values: Tensor,
    /// Where they looked, rows \[batch, n · h, ..\].
    pub(crate) looked: Looked,
    /// \[batch, n · h, 1\], if there is a regulariser.
    pub(crate) divergence: Option<Tensor>,
}

impl Layer {
    pub(crate) fn new(config: &ModelConfig, vb: VarBuilder) -> Result<Self> {
        let width = config.width;
        let norm = |name: &str| LayerNorm::new(width, vb.pp(name));
        let reach = [config.short_term, config.chunk];
        let long_term = match config.long_term {
            Some(_) => Some(LongTermAttention::new(config, vb.pp("long_term"))?),
            None => None,
        };
        Ok(Self {
            attention_norm: norm("attention_norm")?,
            short_term: ShortTermAttention::new(width, config.attention_heads, reach, vb.pp("short_term"))?,
            long_term,
            recurrence: match config.recurrence {
                0 => None,
                units => Some(LinearRecurrence::new(width, units, vb.pp("recurrence"))?),
            },
            readout_norms: match config.normalisation {
                Normalisation::Parts => None,
                Normalisation::Everything => Some(ReadoutNorms {
                    short_term: norm("short_term.norm")?,
                    long_term: config.long_term.as_ref().map(|_| norm("long_term.norm")).transpose()?,
                }),
            },
            feed_forward_norm: norm("feed_forward_norm")?,
            up: Linear::with_bias(width, config.feed_forward, vb.pp("feed_forward.up"))?,
            down: Linear::with_bias(config.feed_forward, width, vb.pp("feed_forward.down"))?,
            after_memory: Joint::new(config, vb.pp("gate"))?,
            after_feed_forward: Joint::new(config, vb.pp("feed_forward.gate"))?,
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
        let ticks = x.dim(1)?;
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
        let mut sums = None;
        if let (Some(recurrence), Some(state)) = (&self.recurrence, &mut state.recurrence) {
            let states = recurrence.states(&seen, &schedule.resets, state)?;
            *state = states.narrow(1, ticks - 1, 1)?.contiguous()?;
            sums = Some(states);
        }
        let Far { readings, places, looked, divergences } =
            self.write_and_read(&seen, &inputs, schedule, wanted, state)?;
        let last = |x: &Tensor| x.narrow(1, x.dim(1)? - self.ring, self.ring)?.contiguous();
        (state.inputs, state.keys, state.values) = (last(&inputs)?, last(&keys)?, last(&values)?);
        let x = x.narrow(1, wanted, ticks - wanted)?;
        if wanted == ticks {
            return Ok(LayerOutput { stream: x, readout: None, looked, divergences });
        }
        let held: Vec<usize> = schedule.held.chunks_exact(ticks).flat_map(|held| &held[wanted..]).copied().collect();
        let of_window = |x: &Tensor| x.narrow(1, wanted - hidden, self.ring + ticks - wanted);
        let queries = self.short_term.query.forward(&seen.narrow(1, wanted, ticks - wanted)?)?;
        let mut attended = self.short_term.attend(&queries, &of_window(&keys)?, &of_window(&values)?, &held)?;
        if let Some(norms) = &self.readout_norms {
            attended = norms.short_term.forward(&attended)?;
        }
        let mut remembered = self.short_term.output.forward(&attended)?;
        let readout = match &self.long_term {
            Some(long_term) => {
                let mut read = match readings.is_empty() {
                    true => x.zeros_like()?,
                    false => rows_or_zeros(&Tensor::cat(&readings, 0)?, &places)?.reshape(x.shape())?,
                };
                if let Some(norm) = self.readout_norms.as_ref().and_then(|norms| norms.long_term.as_ref()) {
                    read = norm.forward(&read)?;
                }
                Some(long_term.output.forward(&read)?)
            }
            None => None,
        };
        if let Some(readout) = &readout {
            remembered = (remembered + readout)?;
        }
        if let (Some(recurrence), Some(sums)) = (&self.recurrence, sums) {
            remembered = (remembered + recurrence.readout(&sums.narrow(1, wanted, ticks - wanted)?)?)?;
        }
        let stream = self.after_memory.forward(&x, &remembered)?;
        let hidden = gelu(&self.up.forward(&self.feed_forward_norm.forward(&stream)?)?)?;
        let stream = self.after_feed_forward.forward(&stream, &self.down.forward(&hidden)?)?;
        let looked = match looked {
            Some(mass) => Some(rows_or_zeros(&mass, &places)?),
            None => None,
        };
        Ok(LayerOutput { stream, readout, looked, divergences })
    }

    /// Writes what is due into the long-term memory, round by round, and reads it.
    fn write_and_read(
        &self,
        seen: &Tensor,
        inputs: &Tensor,
        schedule: &Schedule,
        wanted: usize,
        state: &mut LayerState,
    ) -> Result<Far> {
        let (batch, ticks, _) = seen.dims3()?;
        let places = vec![0; batch * (ticks - wanted)];
        let mut far = Far { readings: vec![], places, looked: None, divergences: vec![] };
        let (Some(long_term), Some(coefficients)) = (&self.long_term, &mut state.coefficients) else {
            return Ok(far);
        };
        let follows = long_term.writer.follows_attention();
        let reads_from = if follows { 0 } else { wanted };
        let (mut stretches, mut read) = (Stretches::default(), 1);
        for (number, round) in schedule.rounds.iter().enumerate() {
            if round.events.iter().any(|event| *event != Event::Nothing) {
                if state.writes.is_multiple_of(long_term.gradient_writes.saturating_add(1)) {
                    *coefficients = coefficients.detach();
                }
                state.writes += 1;
                let starts: Vec<usize> = round.ticks.iter().map(|ticks| ticks.start).collect();
                let chunk = from_starts(inputs, &starts, self.chunk)?;
                *coefficients = long_term.writer.write(coefficients, &chunk, &round.events, &mut state.knots)?;
            }
            for (member, (ticks, clock)) in round.ticks.iter().zip(&round.clocks).enumerate() {
                // Where nothing was written nothing is read, unless the next write asks where attention was.
                let own = ticks.start.max(reads_from)..ticks.end;
                if !own.is_empty() && (clock.chunks > 0 || follows) {
                    let cells = long_term.writer.cells(clock.chunks, &state.knots[member]);
                    stretches.push(member, batch, own, self.chunk, &cells);
                }
            }
            stretches.end_round(coefficients);
            let all = number + 1 == schedule.rounds.len();
            if stretches.members.is_empty() || !(all || follows) {
                continue;
            }
            let stretches = std::mem::take(&mut stretches);
            let rows = Rows::of(batch * (ticks - reads_from) * long_term.heads);
            let queries = long_term.queries(&stretches.rows(seen)?, rows)?;
            let recalled = long_term.read(&queries, &stretches.coefficients()?, &stretches.cells, rows)?;
            if follows {
                long_term.count_attention(&recalled.looked, &stretches, &mut state.knots)?;
            }
            if let Some(divergence) = &recalled.divergence {
                far.divergences.push(stretches.real(divergence)?);
            }
            let longest = stretches.longest();
            for (member, own) in stretches.members.iter().zip(&stretches.ticks) {
                for tick in own.clone().filter(|tick| *tick >= wanted) {
                    far.places[member * (ticks - wanted) + tick - wanted] = read + tick - own.start;
                }
                read += longest;
            }
            far.readings.push(recalled.values.flatten(0, 1)?);
            far.looked = match recalled.looked {
                Looked::Cells(mass) if ticks == 1 => Some(mass),
                _ => None,
            };
        }
        Ok(far)
    }
}

/// Rows of x \[n, ..\] by their `places`, counted from 1; zeros at 0.
fn rows_or_zeros(x: &Tensor, places: &[usize]) -> candle_core::Result<Tensor> {
    if places.iter().copied().eq(1..x.dim(0)? + 1) {
        return Ok(x.clone());
    }
    picked(&x.pad_with_zeros(0, 1, 0)?, places)
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
    pub(crate) fn queries(&self, x: &Tensor, rows: Rows) -> candle_core::Result<Tensor> {
        let queries = self.query.forward_some(x, rows)?;
        let (batch, ticks, width) = queries.dims3()?;
        let head_width = width / self.heads;
        let queries = (queries / (head_width as f64).sqrt())?.reshape((batch * ticks, self.heads, head_width))?;
        let keys = self.key.weight.reshape((self.heads, head_width, width))?;
        let folded = product(rows, &queries.transpose(0, 1)?.contiguous()?, &keys)?;
        folded.transpose(0, 1)?.reshape((batch, ticks, self.heads, width))
    }

    /// Reads for folded queries \[batch, n, h, d\] → \[batch, n, d\], before the output matrix.
    pub(crate) fn read(
        &self,
        queries: &Tensor,
        coefficients: &Tensor,
        cells: &[CellTable],
        rows: Rows,
    ) -> Result<Recalled> {
        let (batch, ticks, heads, width) = queries.dims4()?;
        let cells = Cells::new(cells, queries.dtype(), queries.device())?;
        let queries = queries.contiguous()?.reshape((batch, ticks * heads, width))?;
        let Reading { moment, looked, divergence } = self.reader.read(&queries, coefficients, &cells, rows)?;
        let values = self.values(&moment.reshape((batch * ticks, heads, width))?, rows)?;
        Ok(Recalled { values: values.reshape((batch, ticks, width))?, looked, divergence })
    }

    /// Notes where the stretches `looked`, for the next write that asks for it.
    pub(super) fn count_attention(&self, looked: &Looked, stretches: &Stretches, knots: &mut [Knots]) -> Result<()> {
        if let Some(bins) = self.writer.bins() {
            let own = stretches.members.iter().zip(&stretches.ticks);
            let counts: Vec<[usize; 2]> = own.map(|(member, ticks)| [*member, ticks.len() * self.heads]).collect();
            add_to_histograms(looked, bins, &counts, knots)?;
        }
        Ok(())
    }

    /// W_V of each head on its own moment: \[rows, h, d\] → \[rows, d\].
    fn values(&self, moments: &Tensor, rows: Rows) -> candle_core::Result<Tensor> {
        let (count, heads, width) = moments.dims3()?;
        let matrix = self.value.weight.reshape((heads, width / heads, width))?;
        let values = product_with_transposed(rows, &moments.transpose(0, 1)?, &matrix)?;
        values.transpose(0, 1)?.reshape((count, width))
    }
}
