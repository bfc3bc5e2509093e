//! Convolutions with groups or dilation, as work of the direct kernels.

use std::ops::Range;

use super::work::{Backward, Forward, Map};
use crate::kernels::{ConvShape, conv};

/// A convolution with groups or dilation.
#[derive(Clone, Debug)]
pub struct PatchConv {
    /// The geometry.
    pub shape: ConvShape,
    /// Weights `[kh, kw, c_in / groups, c_out]` in the block of parameters.
    pub weight: Range<usize>,
    /// Biases `[c_out]`, right behind them; empty where there are none.
    pub bias: Range<usize>,
    /// Whether the gradient of the input is ever wanted.
    pub wants_d_input: bool,
}

impl Map for PatchConv {
    fn forward(&self, pass: Forward<'_>) {
        let shape = &self.shape;
        let outputs = pass.output.chunks_exact_mut(shape.output_len());
        for (input, output) in pass.input.chunks_exact(shape.input_len()).zip(outputs) {
            conv::patches_forward(shape, input, pass.packed, output, pass.scratch);
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let shape = &self.shape;
        let (inputs, outputs) = (shape.input_len(), shape.output_len());
        let images = pass.input.chunks_exact(inputs).zip(pass.d_output.chunks_exact(outputs));
        if let Some(d_params) = pass.d_params {
            let (d_weight, d_bias) = Backward::own(d_params, &self.weight, &self.bias);
            if !pass.accumulate {
                d_weight.fill(0.0);
                d_bias.fill(0.0);
            }
            for (input, d_output) in images {
                conv::patches_backward_weights(shape, input, d_output, d_weight, d_bias, pass.scratch);
            }
        }
        pass.between.mark();
        if let Some(d_input) = pass.d_input {
            let images = d_input.chunks_exact_mut(inputs).zip(pass.d_output.chunks_exact(outputs));
            for (d_input, d_output) in images {
                conv::patches_backward_data(shape, d_output, pass.packed, d_input, pass.scratch);
            }
        }
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn reads_input(&self) -> bool {
        true
    }

    fn packed(&self) -> usize {
        conv::patches_packed_len(&self.shape, self.wants_d_input)
    }

    fn pack(&self, params: &[f32], packed: &mut [f32]) {
        let (weight, bias) = (&params[self.weight.clone()], &params[self.bias.clone()]);
        conv::pack_patches(&self.shape, weight, bias, self.wants_d_input, packed);
    }

    fn scratch(&self, _batch: usize) -> usize {
        conv::patches_scratch(&self.shape)
    }
}
