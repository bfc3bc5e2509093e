//! The layers of the second engine: convolution and dense layer as matrix products.

use std::ops::Range;

use super::work::{Backward, Forward, Map};
use crate::kernels::{ConvShape, DenseShape, gemm};

/// `conv 3x3x16`
#[derive(Clone, Debug)]
pub struct GemmConv {
    /// The geometry.
    pub shape: ConvShape,
    /// Weights `[kh, kw, c_in / groups, c_out]` in the block of parameters.
    pub weight: Range<usize>,
    /// Biases `[c_out]`, right behind them; empty where there are none.
    pub bias: Range<usize>,
}

impl Map for GemmConv {
    fn forward(&self, pass: Forward<'_>) {
        let (weight, bias) = (&pass.params[self.weight.clone()], &pass.params[self.bias.clone()]);
        gemm::conv2d_forward(&self.shape, pass.batch, pass.input, weight, bias, pass.output, pass.scratch);
    }

    fn backward(&self, pass: Backward<'_>) {
        let Backward { batch, input, d_output, scratch, accumulate, .. } = pass;
        if let Some(d_params) = pass.d_params {
            let (d_weight, d_bias) = Backward::own(d_params, &self.weight, &self.bias);
            gemm::conv2d_backward_weights(&self.shape, batch, input, d_output, d_weight, d_bias, scratch, accumulate);
        }
        pass.between.mark();
        if let Some(d_input) = pass.d_input {
            let weight = &pass.params[self.weight.clone()];
            gemm::conv2d_backward_data(&self.shape, batch, d_output, weight, d_input, scratch);
        }
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn reads_input(&self) -> bool {
        true
    }

    fn scratch(&self, _batch: usize) -> usize {
        gemm::conv2d_scratch(&self.shape)
    }
}

/// `dense 128`
#[derive(Clone, Debug)]
pub struct GemmDense {
    /// The geometry.
    pub shape: DenseShape,
    /// Weights `[inputs, outputs]` in the block of parameters.
    pub weight: Range<usize>,
    /// Biases `[outputs]`, right behind them.
    pub bias: Range<usize>,
}

impl Map for GemmDense {
    fn forward(&self, pass: Forward<'_>) {
        let (weight, bias) = (&pass.params[self.weight.clone()], &pass.params[self.bias.clone()]);
        gemm::dense_forward(self.shape, pass.batch, pass.input, weight, bias, pass.output);
    }

    fn backward(&self, pass: Backward<'_>) {
        let Backward { batch, input, d_output, accumulate, .. } = pass;
        if let Some(d_params) = pass.d_params {
            let (d_weight, d_bias) = Backward::own(d_params, &self.weight, &self.bias);
            gemm::dense_backward_weights(self.shape, batch, input, d_output, d_weight, d_bias, accumulate);
        }
        pass.between.mark();
        if let Some(d_input) = pass.d_input {
            gemm::dense_backward_data(self.shape, batch, d_output, &pass.params[self.weight.clone()], d_input);
        }
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn reads_input(&self) -> bool {
        true
    }
}
