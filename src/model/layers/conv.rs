//! Convolution with bias.

use std::ops::Range;

use super::Layer;
use crate::kernels::{self, ConvShape};

/// `conv 3x3x16`
#[derive(Clone, Debug)]
pub struct Conv {
    /// The geometry.
    pub shape: ConvShape,
    /// Weights `[kh, kw, c_in, c_out]` in the block of parameters.
    pub weight: Range<usize>,
    /// Biases `[c_out]`, right behind them.
    pub bias: Range<usize>,
}

impl Layer for Conv {
    fn forward(&self, batch: usize, params: &[f32], input: &[f32], output: &mut [f32], scratch: &mut [f32]) {
        let (weight, bias) = (&params[self.weight.clone()], &params[self.bias.clone()]);
        kernels::conv2d_forward(&self.shape, batch, input, weight, bias, output, scratch);
    }

    fn backward_data(
        &self,
        batch: usize,
        params: &[f32],
        _input: &[f32],
        d_output: &[f32],
        d_input: &mut [f32],
        scratch: &mut [f32],
    ) {
        kernels::conv2d_backward_data(&self.shape, batch, d_output, &params[self.weight.clone()], d_input, scratch);
    }

    fn backward_weights(
        &self,
        batch: usize,
        input: &[f32],
        d_output: &[f32],
        gradients: &mut [f32],
        accumulate: bool,
        scratch: &mut [f32],
    ) {
        let own = &mut gradients[self.weight.start..self.bias.end];
        let (d_weight, d_bias) = own.split_at_mut(self.weight.len());
        kernels::conv2d_backward_weights(&self.shape, batch, input, d_output, d_weight, d_bias, scratch, accumulate);
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn scratch(&self) -> usize {
        kernels::conv2d_scratch(&self.shape)
    }

    fn flops(&self) -> u64 {
        2 * (self.shape.h_out * self.shape.w_out * self.shape.weight_len()) as u64
    }
}
