//! Dense layer with bias.

use std::ops::Range;

use super::Layer;
use crate::kernels::{self, DenseShape};

/// `dense 128`
#[derive(Clone, Debug)]
pub struct Dense {
    /// The geometry.
    pub shape: DenseShape,
    /// Weights `[inputs, outputs]` in the block of parameters.
    pub weight: Range<usize>,
    /// Biases `[outputs]`, right behind them.
    pub bias: Range<usize>,
}

impl Layer for Dense {
    fn forward(&self, batch: usize, params: &[f32], input: &[f32], output: &mut [f32], _scratch: &mut [f32]) {
        let (weight, bias) = (&params[self.weight.clone()], &params[self.bias.clone()]);
        kernels::dense_forward(self.shape, batch, input, weight, bias, output);
    }

    fn backward_data(
        &self,
        batch: usize,
        params: &[f32],
        _input: &[f32],
        d_output: &[f32],
        d_input: &mut [f32],
        _scratch: &mut [f32],
    ) {
        kernels::dense_backward_data(self.shape, batch, d_output, &params[self.weight.clone()], d_input);
    }

    fn backward_weights(
        &self,
        batch: usize,
        input: &[f32],
        d_output: &[f32],
        gradients: &mut [f32],
        accumulate: bool,
        _scratch: &mut [f32],
    ) {
        let own = &mut gradients[self.weight.start..self.bias.end];
        let (d_weight, d_bias) = own.split_at_mut(self.weight.len());
        kernels::dense_backward_weights(self.shape, batch, input, d_output, d_weight, d_bias, accumulate);
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn flops(&self) -> u64 {
        2 * (self.shape.inputs * self.shape.outputs) as u64
    }
}
