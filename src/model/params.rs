//! All weights of a model in one contiguous block, with a table of what lies where.

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::kernels::{Buffer, Score, zeros};
use crate::rng::{Purpose, Stream};

/// One named tensor in the block.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// `conv0.weight`, `dense7.bias`, …: kind and place of the layer, then the tensor.
    pub name: String,
    /// Its shape: convolution weights `[kh, kw, c_in, c_out]`, dense weights `[inputs, outputs]`, biases `[outputs]`.
    pub shape: Vec<usize>,
    /// Its place in the block.
    pub range: Range<usize>,
}

/// How initial weights are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// Normal, deviation √(2 / fan_in) (He et al. 2015)
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
    /// Random weights, zero biases: a pure function of `seed`, the same on every rank.
    pub fn initial(table: Arc<[Param]>, init: Init, seed: u64) -> Params {
        let mut values = zeros(table.last().map_or(0, |param| param.range.end));
        for (index, param) in table.iter().enumerate() {
            let Some((&fan_out, inputs)) = param.shape.split_last().filter(|(_, inputs)| !inputs.is_empty()) else {
                continue;
            };
            let fan_in: usize = inputs.iter().product();
            // A convolution's output pixel feeds as many windows as the window has pixels.
            let window: usize = inputs[..inputs.len() - 1].iter().product();
            let fan = match init {
                Init::He => fan_in,
                Init::Xavier => fan_in + window * fan_out,
            };
            let stream = Stream::new(seed, Purpose::Weights, index, 0, 0);
            stream.fill_normal(&mut values[param.range.clone()], (2.0 / fan as f64).sqrt());
        }
        Params { values, table }
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

/// Sums of gradients in the layout of [`Params`], with the sums that travel with them at the end.
#[derive(Clone, Debug)]
pub struct Gradients {
    /// The gradient sums, then loss sum, correct and count.
    pub values: Buffer,
    /// Nothing has been summed yet: what the gradient part holds is left over from another step.
    fresh: bool,
}

/// Values behind the gradients: loss sum, correct, count. As f32: counts are exact up to 16 million rows a step.
const TAIL: usize = 3;

impl Gradients {
    /// Zeros for `params` weights.
    pub fn zeros(params: usize) -> Gradients {
        Gradients { values: zeros(params + TAIL), fresh: true }
    }

    /// Starts a new sum. The first micro-batch overwrites what is left of the old one, which spares a sweep.
    pub fn start(&mut self) {
        self.fresh = true;
        let end = self.values.len();
        self.values[end - TAIL..].fill(0.0);
    }

    /// Ends the sum: where there was no row to sum over, it is zero.
    pub fn finish(&mut self) {
        if std::mem::take(&mut self.fresh) {
            self.values.fill(0.0);
        }
    }

    /// Whether a micro-batch must add to what is there; from now on it must.
    pub(super) fn accumulate(&mut self) -> bool {
        !std::mem::take(&mut self.fresh)
    }

    /// The gradient sums alone.
    pub fn sums(&self) -> &[f32] {
        &self.values[..self.values.len() - TAIL]
    }

    /// The gradient sums alone.
    pub fn sums_mut(&mut self) -> &mut [f32] {
        let end = self.values.len() - TAIL;
        &mut self.values[..end]
    }

    /// Adds the score of `count` rows to what travels along.
    pub fn add_score(&mut self, score: Score, count: usize) {
        let end = self.values.len();
        let tail = &mut self.values[end - TAIL..];
        tail[0] += score.loss_sum as f32;
        tail[1] += score.correct as f32;
        tail[2] += count as f32;
    }

    /// What travelled along: the score, and over how many rows.
    pub fn score(&self) -> (Score, u64) {
        let tail = &self.values[self.values.len() - TAIL..];
        (Score { loss_sum: f64::from(tail[0]), correct: tail[1] as u64 }, tail[2] as u64)
    }
}
