//! All weights of a model in one contiguous block, with a table of what lies where.

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::kernels::rng::{Purpose, Stream};
use crate::kernels::{Buffer, Score, zeros};
use crate::position;

/// One named tensor in the block.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// `conv0.weight`, `dense7.bias`, …: kind and place of the layer, then the tensor.
    pub name: String,
    /// Its shape: convolution weights `[kh, kw, c_in, c_out]`, dense weights `[inputs, outputs]`, biases `[outputs]`.
    pub shape: Vec<usize>,
    /// Its place in the block.
    pub range: Range<usize>,
    /// What it begins with.
    pub initial: Initial,
    /// Whether it is a running statistic: saved, digested and exported, but no weight that is optimised. Statistics stand behind all
    /// weights.
    pub is_statistic: bool,
    /// Whether it is the weight of a norm that ends the layers of a residual block.
    pub ends_residual: bool,
}

impl Param {
    /// The weights of a table, which come first.
    pub fn weights(table: &[Param]) -> &[Param] {
        &table[..table.partition_point(|param| !param.is_statistic)]
    }
}

/// What a parameter begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initial {
    /// Random numbers, as [`Init`] spreads them.
    Drawn,
    /// The same in front of a norm: where a spread is by inputs, it is by outputs (He et al. 2015, their backward case).
    DrawnByOutputs,
    /// Zeros.
    #[default]
    Zeros,
    /// Ones.
    Ones,
}

/// A table of tensors that grows.
#[derive(Default)]
pub struct ParamTable {
    /// The tensors so far.
    pub params: Vec<Param>,
    /// Values of all of them.
    values: usize,
}

impl ParamTable {
    /// Takes some; their places.
    pub fn take<'p>(&mut self, params: impl Iterator<Item = &'p Param>) -> Range<usize> {
        let first = self.params.len();
        for param in params {
            let range = self.values..self.values + param.shape.iter().product::<usize>();
            self.values = range.end;
            self.params.push(Param { range, ..param.clone() });
        }
        first..self.params.len()
    }
}

/// How initial weights are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Normal, deviation √(2 / fan_in), in front of a norm √(2 / fan_out) (He et al. 2015)
    #[default]
    He,
    /// Normal, deviation √(2 / (fan_in + fan_out)) (Glorot & Bengio 2010)
    Xavier,
}

/// The weights.
#[derive(Clone, Debug)]
pub struct Params {
    /// Every value, tensor after tensor.
    pub values: Buffer,
    /// What lies where.
    pub table: Arc<[Param]>,
}

impl Params {
    /// What every parameter begins with: a pure function of `seed`, the same on every rank.
    pub fn initial(table: Arc<[Param]>, init: Init, seed: u64) -> Params {
        let values = zeros(table.last().map_or(0, |param| param.range.end));
        let mut params = Params { values, table };
        params.draw(init, seed);
        params
    }

    /// Draws random weights, and sets ones; what begins with zeros stays as it is.
    pub fn draw(&mut self, init: Init, seed: u64) {
        for (index, param) in self.table.iter().enumerate() {
            position::tick();
            if param.initial == Initial::Ones {
                self.values[param.range.clone()].fill(1.0);
            }
            let is_drawn = matches!(param.initial, Initial::Drawn | Initial::DrawnByOutputs);
            let drawn = param.shape.split_last().filter(|_| is_drawn);
            let Some((&fan_out, inputs)) = drawn else { continue };
            let fan_in: usize = inputs.iter().product();
            // A convolution's output pixel feeds as many windows as the window has pixels.
            let window: usize = inputs[..inputs.len().saturating_sub(1)].iter().product();
            let fan = match init {
                Init::He if param.initial == Initial::DrawnByOutputs => window * fan_out,
                Init::He => fan_in,
                Init::Xavier => fan_in + window * fan_out,
            };
            let stream = Stream::new(seed, Purpose::Weights, index, 0, 0);
            stream.fill_normal(&mut self.values[param.range.clone()], (2.0 / fan as f64).sqrt());
        }
    }

    /// Sets the weights of norms that end the layers of residual blocks to zero: each block begins as its shortcut.
    pub fn zero_residuals(&mut self) {
        for param in self.table.iter().filter(|param| param.ends_residual) {
            self.values[param.range.clone()].fill(0.0);
        }
    }

    /// SHA-256 of the values as little-endian f32, in order: equal digests mean equal weights, bit for bit.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let mut bytes = [0u8; 4096];
        for values in self.values.chunks(1024) {
            for (four, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *four = value.to_le_bytes();
            }
            hash.update(&bytes[..4 * values.len()]);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Sums of gradients in the layout of [`Params`], and of what the loss said about the same rows.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The gradient sums.
    pub values: Buffer,
    /// The losses and the rows that were right.
    pub score: Score,
    /// Nothing has been summed yet: what the gradient part holds is left over from another step.
    fresh: bool,
}

impl Gradients {
    /// Zeros for `params` weights.
    pub fn zeros(params: usize) -> Gradients {
        Gradients::within(zeros(params))
    }

    /// In this memory, of one value a parameter.
    pub fn within(values: Buffer) -> Gradients {
        Gradients { values, score: Score::default(), fresh: true }
    }

    /// Starts a new sum. The first micro-batch overwrites what is left of the old one, which spares a sweep.
    pub fn start(&mut self) {
        (self.fresh, self.score) = (true, Score::default());
    }

    /// Whether a micro-batch must add to what is there; from now on it must.
    pub(super) fn accumulate(&mut self) -> bool {
        !std::mem::take(&mut self.fresh)
    }
}
