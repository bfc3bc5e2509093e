//! The layers: immutable descriptions. They hold shapes and ranges, never memory.

mod activation;
mod conv;
mod copy;
mod dense;
mod dropout;
mod pool;

pub use activation::ActivationLayer;
pub use conv::Conv;
pub use copy::Copy;
pub use dense::Dense;
pub use dropout::Dropout;
pub use pool::{AvgPool, MaxPool};

use crate::rng::{Purpose, Stream};

/// What the rows of a micro-batch are, where randomness needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// Rows of the micro-batch.
    pub batch: usize,
    /// For training: each row's number in the dataset, the run's seed and the epoch. `None` switches dropout off.
    pub training: Option<Training<'a>>,
}

/// The address of a training pass's random numbers.
#[derive(Clone, Copy, Debug)]
pub struct Training<'a> {
    /// Each row's number in the training split.
    pub rows: &'a [u32],
    /// The run's seed.
    pub seed: u64,
    /// The epoch, from 0.
    pub epoch: usize,
}

impl Training<'_> {
    /// The stream of layer `layer` for the micro-batch's `index`th row.
    fn stream(&self, layer: usize, index: usize) -> Stream {
        Stream::new(self.seed, Purpose::Dropout, layer, self.epoch, self.rows[index] as usize)
    }
}

/// A layer that reads one buffer and writes the next. Slices hold `batch` rows.
pub trait Layer: std::fmt::Debug + Send + Sync {
    /// `output` from `input`.
    fn forward(&self, batch: usize, params: &[f32], input: &[f32], output: &mut [f32], scratch: &mut [f32]);

    /// `d_input` (overwritten) from `d_output`.
    fn backward_data(
        &self,
        batch: usize,
        params: &[f32],
        input: &[f32],
        d_output: &[f32],
        d_input: &mut [f32],
        scratch: &mut [f32],
    );

    /// The gradients of this layer's weights, summed over the rows, at their places in `gradients`: added to what
    /// stands there, or in its place unless `accumulate`.
    fn backward_weights(
        &self,
        batch: usize,
        input: &[f32],
        d_output: &[f32],
        gradients: &mut [f32],
        accumulate: bool,
        scratch: &mut [f32],
    );

    /// Whether there are weights.
    fn has_weights(&self) -> bool;

    /// Floats of scratch memory, whatever the batch.
    fn scratch(&self) -> usize {
        0
    }

    /// Floating-point operations of a forward pass of one row, a multiply-add counted as two.
    fn flops(&self) -> u64 {
        0
    }
}

/// An element-wise layer: it overwrites its input.
pub trait InPlace: std::fmt::Debug + Send + Sync {
    /// The output takes the input's place.
    fn forward(&self, pass: Pass<'_>, values: &mut [f32]);

    /// The input's gradient takes the place of the output's. `output` is what the buffer holds now.
    fn backward(&self, pass: Pass<'_>, output: &[f32], gradient: &mut [f32]);
}
