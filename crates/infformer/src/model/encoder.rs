//! From observations to the stream: numbers by one matrix, tokens by tables, summed and, where it is so wanted, normalised.

use super::config::{Input, Normalisation};
use super::linear::Linear;
use super::normalisation::LayerNorm;
use crate::channels::{ChannelLayout, is_storable, is_token};
use crate::error::{Error, Result};
use candle_core::{DType, IndexOp, Tensor};
use candle_nn::{Init, VarBuilder};

/// The observation encoder.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// Channels of the numbers, and 1/scale of each.
    continuous: Vec<usize>,
    precision: Vec<f32>,
    matrix: Option<Linear>,
    tables: Vec<Table>,
    norm: Option<LayerNorm>,
    /// Of the channels.
    names: Vec<String>,
}

#[derive(Debug, Clone)]
struct Table {
    name: String,
    channel: usize,
    /// \[vocabulary, d\]
    rows: Tensor,
}

impl Table {
    fn token(&self, value: f32) -> Result<u32> {
        let vocabulary = self.rows.dim(0)?;
        if is_token(value, vocabulary) {
            Ok(value as u32)
        } else {
            Err(Error::Token { input: self.name.clone(), vocabulary, found: value.to_string() })
        }
    }
}

impl Encoder {
    /// An encoder of `inputs` into a stream of the given width, normalised or as it is. Errors: no channel, two of one name, a scale
    /// that is none; `vb` has no such tensors.
    pub fn new(inputs: &[Input], width: usize, normalisation: Normalisation, vb: VarBuilder) -> Result<Self> {
        let (mut continuous, mut precision, mut tables) = (vec![], vec![], vec![]);
        let mut start = 0;
        for input in inputs {
            match input {
                Input::Continuous { channels, .. } => {
                    continuous.extend(start..start + channels.len());
                    precision.extend(channels.iter().map(|channel| match channel.scale {
                        crate::channels::Scale::Given(scale) => 1.0 / scale,
                        crate::channels::Scale::Learnt => 1.0,
                    }));
                }
                Input::Token { name, vocabulary } => {
                    let bound = 3.0_f64.sqrt();
                    let shape = (*vocabulary, width);
                    let init = Init::Uniform { lo: -bound, up: bound };
                    let rows = vb.pp("tokens").get_with_hints(shape, name, init)?;
                    tables.push(Table { name: name.clone(), channel: start, rows });
                }
            }
            start += input.channels();
        }
        let matrix = if continuous.is_empty() {
            None
        } else {
            Some(Linear::with_bias(continuous.len(), width, vb.pp("continuous"))?)
        };
        let norm = match normalisation {
            Normalisation::Parts => None,
            Normalisation::Everything => Some(LayerNorm::new(width, vb.pp("norm"))?),
        };
        let groups: Vec<_> = inputs.iter().map(Input::group).collect();
        let names = ChannelLayout::new(&groups)?.names().to_vec();
        Ok(Self { continuous, precision, matrix, tables, norm, names })
    }

    /// x \[batch, T, channels\] → \[batch, T, d\]. Errors: another width, no tick or member, values that are not finite, a
    /// token outside its vocabulary.
    pub fn forward(&self, x: &Tensor, dtype: DType) -> Result<Tensor> {
        let (batch, ticks, channels) = x.dims3()?;
        if channels != self.channels() {
            return Err(Error::Width { what: "the observation", expected: self.channels(), found: channels });
        }
        if batch == 0 || ticks == 0 {
            return Err(Error::Segment(format!(
                "it has {batch} members and {ticks} ticks: at least 1 of each is needed"
            )));
        }
        // What is no number spreads to all that follows, also past a reset.
        let magnitudes = x.detach().abs()?.to_dtype(DType::F32)?;
        if !magnitudes.sum_all()?.to_scalar::<f32>()?.is_finite() {
            let magnitudes = magnitudes.flatten_all()?.to_vec1::<f32>()?;
            let at = magnitudes.iter().position(|value| !is_storable(*value)).unwrap_or(0);
            let (channel, value) = (self.names[at % channels].clone(), magnitudes[at].to_string());
            return Err(Error::NotFinite { what: "the segment", channel, value });
        }
        let x = x.contiguous()?;
        let mut stream: Option<Tensor> = None;
        if let Some(matrix) = &self.matrix {
            let places: Vec<u32> = self.continuous.iter().map(|channel| *channel as u32).collect();
            let places = Tensor::from_vec(places, self.continuous.len(), x.device())?;
            let precision = Tensor::new(self.precision.as_slice(), x.device())?.to_dtype(dtype)?;
            let numbers = x.index_select(&places, 2)?.to_dtype(dtype)?.broadcast_mul(&precision)?;
            stream = Some(matrix.forward(&numbers)?);
        }
        for table in &self.tables {
            let tokens = x.i((.., .., table.channel))?.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
            let tokens: Vec<u32> = tokens.iter().map(|value| table.token(*value)).collect::<Result<_>>()?;
            let tokens = Tensor::from_vec(tokens, batch * ticks, x.device())?;
            let rows = table.rows.index_select(&tokens, 0)?.reshape((batch, ticks, ()))?;
            stream = Some(match stream {
                Some(stream) => (stream + rows)?,
                None => rows,
            });
        }
        let stream = stream.ok_or(Error::Width { what: "the observation", expected: 1, found: 0 })?;
        match &self.norm {
            Some(norm) => Ok(norm.forward(&stream)?),
            None => Ok(stream),
        }
    }

    /// Channels of an observation.
    pub fn channels(&self) -> usize {
        self.names.len()
    }
}
