//! The layers: immutable descriptions. They hold shapes and ranges, never memory.

mod activation;
mod conv;
mod copy;
mod dense;
mod dropout;
mod gemm;
mod pool;

pub use activation::ActivationLayer;
pub use conv::Conv;
pub use copy::Copy;
pub use dense::Dense;
pub use dropout::Dropout;
pub use gemm::{GemmConv, GemmDense};
pub use pool::{AvgPool, MaxPool};

use std::cell::Cell;
use std::ops::Range;

use crate::kernels::Leaf;
use crate::kernels::rng::{Purpose, Stream};
use crate::trace::Mark;

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

impl<'a> Pass<'a> {
    /// The pass of row `n` alone.
    pub fn row(&self, n: usize) -> Pass<'a> {
        let training = self.training.map(|training| Training { rows: &training.rows[n..n + 1], ..training });
        Pass { batch: 1, training }
    }
}

impl Training<'_> {
    /// The stream of layer `layer` for the micro-batch's `index`th row.
    fn stream(&self, layer: usize, index: usize) -> Stream {
        Stream::new(self.seed, Purpose::Dropout, layer, self.epoch, self.rows[index] as usize)
    }
}

/// What a layer's forward pass reads and writes.
pub struct Forward<'a> {
    /// Rows.
    pub batch: usize,
    /// All weights.
    pub params: &'a [f32],
    /// This layer's weights as it packed them.
    pub packed: &'a [f32],
    /// The rows of the buffer below.
    pub input: &'a [f32],
    /// The rows of this layer's buffer.
    pub output: &'a mut [f32],
    /// What the way back needs besides the output, [`Layer::kept`] words a row; empty where there is no way back.
    pub kept: &'a mut [u16],
    /// At least [`Layer::scratch`] long.
    pub scratch: &'a mut [f32],
}

/// What a layer's backward pass reads and writes.
pub struct Backward<'a> {
    /// Rows, and how the sums over them are ordered.
    pub batch: usize,
    /// The shards that the rows belong to.
    pub leaves: &'a [Leaf],
    /// All weights.
    pub params: &'a [f32],
    /// This layer's weights as it packed them.
    pub packed: &'a [f32],
    /// The rows of the buffer below.
    pub input: &'a [f32],
    /// The rows of this layer's buffer, as the forward pass left them.
    pub output: &'a [f32],
    /// What the forward pass kept.
    pub kept: &'a [u16],
    /// The gradient of the output.
    pub d_output: &'a [f32],
    /// Where the gradient of the input goes (overwritten), if anything below has weights.
    pub d_input: Option<&'a mut [f32]>,
    /// The gradients of all weights: this layer finds its own by its ranges. `None` where only the input's gradient is
    /// wanted, so that it can be timed by itself.
    pub d_params: Option<&'a mut [f32]>,
    /// Whether `d_params` is added to or overwritten.
    pub accumulate: bool,
    /// At least [`Layer::scratch`] long.
    pub scratch: &'a mut [f32],
    /// Where a layer that forms both says when it had the weights' gradients and began with the input's, if somebody asks.
    pub between: Between<'a>,
}

/// When a layer was halfway back, for who asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Between<'a>(pub Option<&'a Cell<Mark>>);

impl Between<'_> {
    /// The weights' gradients are formed, the input's comes next.
    fn mark(self) {
        if let Between(Some(mark)) = self {
            mark.set(Mark::set_now());
        }
    }
}

impl Backward<'_> {
    /// The gradients of weight and bias, which lie side by side.
    fn own<'s>(d_params: &'s mut [f32], weight: &Range<usize>, bias: &Range<usize>) -> (&'s mut [f32], &'s mut [f32]) {
        d_params[weight.start..bias.end].split_at_mut(weight.len())
    }
}

/// A layer that reads one buffer and writes the next.
pub trait Layer: std::fmt::Debug + Send + Sync {
    /// `output` from `input`.
    fn forward(&self, pass: Forward<'_>);

    /// `d_input` and the gradients of the weights from `d_output`.
    fn backward(&self, pass: Backward<'_>);

    /// This layer, if it is a dense one of the direct kernels.
    fn dense(&self) -> Option<&Dense> {
        None
    }

    /// Whether there are weights.
    fn has_weights(&self) -> bool {
        false
    }

    /// Floats of packed weights; the way back takes some only where the input's gradient is wanted.
    fn packed(&self) -> usize {
        0
    }

    /// Puts the weights in the order in which the kernels read them. Done once a pass.
    fn pack(&self, _params: &[f32], _packed: &mut [f32]) {}

    /// Words a row that the way back needs besides the output.
    fn kept(&self) -> usize {
        0
    }

    /// Floats of scratch memory for `batch` rows.
    fn scratch(&self, _batch: usize) -> usize {
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
