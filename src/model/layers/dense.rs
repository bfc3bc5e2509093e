//! Dense layer with bias.

use std::ops::Range;

use super::{Backward, Forward, Layer};
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
    fn forward(&self, pass: Forward<'_>) {
        let (weight, bias) = (&pass.params[self.weight.clone()], &pass.params[self.bias.clone()]);
        kernels::dense_forward(self.shape, pass.batch, pass.input, weight, bias, pass.output, pass.scratch);
    }

    fn backward(&self, pass: Backward<'_>) {
        let Backward { leaves, input, d_output, accumulate, scratch, .. } = pass;
        if let Some(d_params) = pass.d_params {
            let (d_weight, d_bias) = Backward::own(d_params, &self.weight, &self.bias);
            kernels::dense_backward_weights(self.shape, leaves, input, d_output, d_weight, d_bias, accumulate, scratch);
        }
        pass.between.mark();
        if let Some(d_input) = pass.d_input {
            let weight = &pass.params[self.weight.clone()];
            kernels::dense_backward_data(self.shape, pass.batch, d_output, weight, d_input, scratch);
        }
    }

    fn dense(&self) -> Option<&Dense> {
        Some(self)
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn scratch(&self, batch: usize) -> usize {
        kernels::dense_scratch(self.shape, batch)
    }

    fn flops(&self) -> u64 {
        2 * (self.shape.inputs * self.shape.outputs) as u64
    }
}
