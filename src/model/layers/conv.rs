//! Convolution with bias, and what is fused into it: a rectifier, a 2×2 max-pool.

use std::ops::Range;

use super::{Backward, Forward, Layer};
use crate::kernels::conv::{self, ConvBlock, Frame};
use crate::kernels::{ConvShape, Rectifier};

/// `conv 3x3x16`, with the `relu` and the `maxpool 2` that may follow it.
#[derive(Clone, Debug)]
pub struct Conv {
    /// The geometry, and what is fused.
    pub block: ConvBlock,
    /// Weights `[kh, kw, c_in, c_out]` in the block of parameters.
    pub weight: Range<usize>,
    /// Biases `[c_out]`, right behind them.
    pub bias: Range<usize>,
    /// Whether the gradient of the input is ever wanted.
    pub wants_d_input: bool,
    /// Whether the gradient of the output comes multiplied by the rectifier's slope.
    pub is_gated: bool,
}

impl Conv {
    /// A convolution with nothing fused, its tensors dense.
    pub fn new(shape: ConvShape, weight: Range<usize>, bias: Range<usize>, wants_d_input: bool) -> Conv {
        Conv { block: ConvBlock::new(shape), weight, bias, wants_d_input, is_gated: false }
    }

    /// Fuses a rectifier, if it can be.
    pub fn fuse(&mut self, rectifier: Rectifier) -> bool {
        let free = self.block.rectifier.is_none() && !self.block.pool;
        if free {
            self.block.rectifier = Some(rectifier);
        }
        free
    }

    /// Puts `above` right on top: tensors between the two then lie as both want them, nothing has to be copied.
    pub fn connect(&mut self, above: &mut Conv) {
        let padded = above.block.padded_input();
        (self.block.output, above.block.input) = (padded, padded);
        if !self.block.pool {
            self.block.d_output = self.conv_frame();
            above.block.d_input = self.block.d_output;
            above.block.gate = self.block.rectifier;
            self.is_gated = self.block.rectifier.is_some();
        }
    }

    /// The frame in which the way back reads the gradient of what the window summed.
    fn conv_frame(&self) -> Frame {
        let shape = &self.block.shape;
        if self.wants_d_input {
            conv::padded_d_conv(shape)
        } else {
            Frame::dense([shape.h_out, shape.w_out, shape.c_out])
        }
    }

    /// Whether the output's gradient is what the window's kernels can read.
    fn d_output_is_ready(&self) -> bool {
        let gated = self.is_gated || self.block.rectifier.is_none();
        gated && !self.block.pool && self.block.d_output.covers(&self.conv_frame())
    }

    fn d_conv_len(&self) -> usize {
        if self.d_output_is_ready() { 0 } else { self.conv_frame().len() }
    }

    fn padded_len(&self) -> usize {
        if self.block.input_is_padded() { 0 } else { self.block.padded_input().len() }
    }

    /// The input as the kernels read it: as it is, or copied to `padded`.
    fn padded<'a>(&self, input: &'a [f32], padded: &'a mut [f32]) -> &'a [f32] {
        if self.block.input_is_padded() {
            return input;
        }
        conv::copy_frame(&self.block.input, input, &self.block.padded_input(), padded);
        padded
    }

    fn one_backward(&self, pass: &mut Backward<'_>, n: usize) {
        let block = &self.block;
        let row = |values: &'_ [f32], frame: &Frame| -> Range<usize> {
            debug_assert!(values.len() >= (n + 1) * frame.len());
            n * frame.len()..(n + 1) * frame.len()
        };
        let input = &pass.input[row(pass.input, &block.input)];
        let output = &pass.output[row(pass.output, &block.output)];
        let d_output = &pass.d_output[row(pass.d_output, &block.d_output)];
        let frame = self.conv_frame();
        let (d_conv, rest) = pass.scratch.split_at_mut(self.d_conv_len());
        let (d_conv, frame): (&[f32], Frame) = if self.d_output_is_ready() {
            (d_output, block.d_output)
        } else {
            match block.rectifier {
                _ if block.pool => {
                    let words = block.winner_words();
                    let winners = &pass.kept[n * words..(n + 1) * words];
                    conv::unpool(block, output, winners, d_output, &frame, d_conv);
                }
                Some(rectifier) if !self.is_gated => {
                    conv::copy_gated(rectifier, &block.output, output, &block.d_output, d_output, &frame, d_conv);
                }
                _ => conv::copy_frame(&block.d_output, d_output, &frame, d_conv),
            }
            (d_conv, frame)
        };
        if let Some(d_params) = &mut pass.d_params {
            let (padded, scratch) = rest.split_at_mut(self.padded_len());
            let padded = self.padded(input, padded);
            let (d_weight, d_bias) = Backward::own(d_params, &self.weight, &self.bias);
            conv::conv2d_backward_weights(block, padded, &frame, d_conv, d_weight, d_bias, scratch);
        }
        if pass.batch == 1 {
            pass.between.mark();
        }
        if let Some(d_input) = &mut pass.d_input {
            let d_input = &mut d_input[n * block.d_input.len()..(n + 1) * block.d_input.len()];
            let packed = &pass.packed[conv::forward_packed_len(block)..];
            conv::conv2d_backward_data(block, &frame, d_conv, packed, input, d_input, rest);
        }
    }
}

impl Layer for Conv {
    fn forward(&self, pass: Forward<'_>) {
        let block = &self.block;
        let words = block.winner_words();
        let packed = &pass.packed[..conv::forward_packed_len(block)];
        let (padded, scratch) = pass.scratch.split_at_mut(self.padded_len());
        let rows = pass.input.chunks_exact(block.input.len()).zip(pass.output.chunks_exact_mut(block.output.len()));
        for (n, (input, output)) in rows.enumerate() {
            let winners = if pass.kept.is_empty() { &mut [][..] } else { &mut pass.kept[n * words..(n + 1) * words] };
            conv::conv2d_forward(block, self.padded(input, padded), packed, output, winners, scratch);
        }
    }

    fn backward(&self, mut pass: Backward<'_>) {
        if let (false, Some(d_params)) = (pass.accumulate, &mut pass.d_params) {
            d_params[self.weight.start..self.bias.end].fill(0.0);
        }
        for n in 0..pass.batch {
            self.one_backward(&mut pass, n);
        }
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn packed(&self) -> usize {
        let backward = if self.wants_d_input { conv::backward_packed_len(&self.block) } else { 0 };
        conv::forward_packed_len(&self.block) + backward
    }

    fn pack(&self, params: &[f32], packed: &mut [f32]) {
        let (weight, bias) = (&params[self.weight.clone()], &params[self.bias.clone()]);
        let (forward, backward) = packed.split_at_mut(conv::forward_packed_len(&self.block));
        conv::pack_forward(&self.block, weight, bias, forward);
        if self.wants_d_input {
            conv::pack_backward(&self.block, weight, backward);
        }
    }

    fn kept(&self) -> usize {
        self.block.winner_words()
    }

    fn scratch(&self, _batch: usize) -> usize {
        let block = &self.block;
        let backward = conv::weights_scratch(block).max(conv::backward_scratch(block));
        self.padded_len() + conv::forward_scratch(block).max(self.d_conv_len() + backward)
    }

    fn flops(&self) -> u64 {
        2 * (self.block.shape.h_out * self.block.shape.w_out * self.block.shape.weight_len()) as u64
    }
}
