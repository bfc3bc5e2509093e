//! A batch norm as it is computed.

use std::ops::Range;

use crate::kernels::{self, Affine, Rectifier};
use crate::row_count::RowCount;

/// `batch_norm`, with the rectifier that it may compute too.
#[derive(Clone, Debug)]
pub struct Normalize {
    /// Channels of its input.
    pub channels: usize,
    /// Pixels of a row; 1 of a vector.
    pub pixels: usize,
    /// Weights `[channels]` in the block of parameters, if there are any.
    pub weight: Option<Range<usize>>,
    /// Biases `[channels]`.
    pub bias: Range<usize>,
    /// The running mean `[channels]`.
    pub mean: Range<usize>,
    /// The running variance `[channels]`.
    pub variance: Range<usize>,
    /// What is added to a variance.
    pub eps: f64,
    /// The share of a step in the running statistics.
    pub momentum: f64,
    /// The rows of its groups; nothing where the run decides.
    pub rows: Option<RowCount>,
    /// What is computed behind it.
    pub rectifier: Option<Rectifier>,
    /// Its place among the norms of the program.
    pub norm: usize,
}

impl Normalize {
    /// Numbers of a channel that are summed over a group's rows, in all channels.
    pub fn width(&self) -> usize {
        2 * self.channels
    }

    /// Weight and bias.
    pub fn affine<'p>(&self, params: &'p [f32]) -> Affine<'p> {
        let weight = self.weight.clone().map(|weight| &params[weight]);
        Affine { weight, bias: &params[self.bias.clone()], eps: self.eps }
    }

    /// Factors and shifts `[2, channels]` by the running statistics: how it is computed when a network is used.
    pub fn pack(&self, params: &[f32], coefficients: &mut [f32]) {
        let statistics = params[self.mean.clone()].iter().zip(&params[self.variance.clone()]);
        let moments = statistics.map(|(mean, variance)| [f64::from(*mean), f64::from(*variance)]);
        self.affine(params).coefficients(moments, coefficients);
    }

    /// The gradient of the output, of which `output` are the values, becomes that of the input by these factors, where a network is used.
    pub fn backward_used(&self, coefficients: &[f32], output: &[f32], gradient: &mut [f32]) {
        self.gate(output, gradient);
        for pixel in gradient.chunks_exact_mut(self.channels) {
            pixel.iter_mut().zip(coefficients).for_each(|(gradient, factor)| *gradient *= factor);
        }
    }

    /// The gradient of the rectifier's output becomes that of its input.
    pub fn gate(&self, output: &[f32], gradient: &mut [f32]) {
        if let Some(rectifier) = self.rectifier {
            kernels::rectifier_backward(rectifier, output, gradient);
        }
    }
}
