//! `conv 3x3x16`, with the rectifier and the 2×2 max-pool that it may compute too.

use std::fmt;
use std::ops::Range;

use super::gemm::GemmConv;
use super::operation::{Fused, Layout, Operation, Parameter, Site};
use super::words::{Words, sizes_of};
use super::work::{Backward, Forward, Keeps, Map, Work};
use crate::kernels::conv::{self, ConvBlock, Frame};
use crate::kernels::{ConvShape, Padding, Window};
use crate::model::engine::Engine;
use crate::model::shape::Shape;

/// A convolution with bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// The sliding window.
    pub window: Window,
    /// Output channels.
    pub c_out: usize,
}

impl fmt::Display for Conv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conv { window, c_out } = self;
        write!(f, "conv {}x{}x{c_out}", window.kh, window.kw)?;
        if window.stride != 1 {
            write!(f, " stride {}", window.stride)?;
        }
        match window.padding {
            Padding::Same => Ok(()),
            Padding::Pixels(pad) => write!(f, " pad {pad}"),
        }
    }
}

impl Operation for Conv {
    fn parse(words: &Words<'_>) -> Result<Conv, String> {
        let (sizes, options) = words.sizes_and_options("'conv 3x3x16'")?;
        let [kh, kw, c_out] = sizes_of::<3>(sizes)
            .ok_or_else(|| words.no_size(sizes, "height x width x channels, as in 'conv 3x3x16'"))?;
        Ok(Conv { window: words.window([kh, kw], options, 1, Padding::Same)?, c_out })
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        let shape = self.shape(inputs[0])?;
        Shape::image([shape.h_out, shape.w_out, shape.c_out]).checked()
    }

    fn parameters(&self, input: &Shape, _output: &Shape) -> Vec<Parameter> {
        let c_in = input.sizes().last().copied().unwrap_or(0);
        Parameter::weight_and_bias(vec![self.window.kh, self.window.kw, c_in, self.c_out], self.c_out)
    }

    fn flops(&self, input: &Shape, _output: &Shape) -> u64 {
        self.shape(input).map_or(0, |shape| 2 * (shape.h_out * shape.w_out * shape.weight_len()) as u64)
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        let shape = self.shape(site.inputs[0])?;
        Ok(Work::Map(match site.engine {
            Engine::Gemm => {
                let (weight, bias) = (site.parameters[0].clone(), site.parameters[1].clone());
                Box::new(GemmConv { shape, weight, bias })
            }
            Engine::Direct => {
                let dense = ConvWork::fused(shape, site.parameters, site.wants_d_input, site.fused);
                let writes = site.output_layout.map_or(dense.clone(), |layout| dense.writes(layout));
                Box::new(site.input_layout.map_or(writes.clone(), |layout| writes.reads(layout)))
            }
        }))
    }

    fn window_mut(&mut self) -> Option<&mut Window> {
        Some(&mut self.window)
    }
}

impl Conv {
    /// The geometry over an image.
    ///
    /// # Errors
    /// In words, when the window does not fit.
    pub fn shape(&self, input: &Shape) -> Result<ConvShape, String> {
        ConvShape::new(input.as_image()?, self.window, self.c_out)
    }
}

/// As work of the direct kernels.
#[derive(Clone, Debug)]
pub struct ConvWork {
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

impl ConvWork {
    /// A convolution with nothing fused, its tensors dense.
    pub fn new(shape: ConvShape, weight: Range<usize>, bias: Range<usize>, wants_d_input: bool) -> ConvWork {
        ConvWork { block: ConvBlock::new(shape), weight, bias, wants_d_input, is_gated: false }
    }

    /// With what is fused; `ranges` are those of weight and bias. Its tensors are dense.
    pub fn fused(shape: ConvShape, ranges: &[Range<usize>], wants_d_input: bool, fused: Fused) -> ConvWork {
        let mut work = ConvWork::new(shape, ranges[0].clone(), ranges[1].clone(), wants_d_input);
        work.block.rectifier = fused.rectifier;
        if fused.pool.is_some() {
            work.block = work.block.with_pool();
        }
        work
    }

    /// With its output as it lies at its place.
    pub fn writes(mut self, layout: Layout) -> ConvWork {
        (self.block.output, self.block.d_output) = (layout.value, layout.gradient);
        self.is_gated = layout.gate.is_some();
        self
    }

    /// With its input as it lies at its place.
    pub fn reads(mut self, layout: Layout) -> ConvWork {
        (self.block.input, self.block.d_input, self.block.gate) = (layout.value, layout.gradient, layout.gate);
        self
    }

    /// How the tensor between this convolution, which has its fused operations, and `above`, its only reader, is to lie: as both
    /// want it, so that nothing is copied.
    pub fn layout_below(&self, above: &ConvWork) -> Layout {
        let value = above.block.padded_input();
        if self.block.pool {
            return Layout { value, gradient: self.block.d_output, gate: None };
        }
        Layout { value, gradient: self.conv_frame(), gate: self.block.rectifier }
    }

    /// The frame in which the backward pass reads the gradient of what the window summed.
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

impl Map for ConvWork {
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

    fn reads_input(&self) -> bool {
        true
    }

    fn keeps(&self) -> Keeps {
        if self.block.rectifier.is_some() { Keeps::Sign } else { Keeps::Nothing }
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
}
