//! `depthwise 3x3`: a convolution of every channel by itself.

use std::fmt;
use std::ops::Range;

use super::conv_options::ConvOptions;
use super::operation::{Operation, Parameter, Site};
use super::words::{MOST, Words, sizes_of};
use super::work::{Backward, Forward, Map, Work, weight_and_bias};
use crate::kernels::{ConvShape, Window, conv};
use crate::model::shape::Shape;

/// A convolution of every channel by itself, to so many channels each: output `channel · multiplier + m`.
#[derive(Clone, Debug, PartialEq)]
pub struct Depthwise {
    /// The sliding window, and the bias.
    pub options: ConvOptions,
    /// Output channels of an input channel.
    pub multiplier: usize,
}

impl fmt::Display for Depthwise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Depthwise { options, multiplier } = self;
        write!(f, "depthwise {}x{}", options.window.kh, options.window.kw)?;
        options.write_window(f)?;
        if *multiplier != 1 {
            write!(f, " x {multiplier}")?;
        }
        options.write_rest(f)
    }
}

impl Operation for Depthwise {
    fn parse(words: &Words<'_>) -> Result<Depthwise, String> {
        let (sizes, options) = words.sizes_and_options("'depthwise 3x3'")?;
        let sizes = sizes_of::<2>(sizes)
            .ok_or_else(|| words.no_size(sizes, "height x width of a window, as in 'depthwise 3x3'"))?;
        let mut depthwise = Depthwise { options: ConvOptions::new(sizes), multiplier: 1 };
        for option in options.chunks(2) {
            if let ["x", n] = option {
                depthwise.multiplier = words.size(n, "'x 2', outputs of a channel")?;
            } else if !depthwise.options.take(words, option)? {
                let expected = "'stride N', 'pad N' or 'pad same', 'x N', 'dilation N', 'bias yes' or 'bias no'";
                return Err(words.no_option(option, expected));
            }
        }
        Ok(depthwise)
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        let shape = self.shape(inputs[0])?;
        Shape::image([shape.h_out, shape.w_out, shape.c_out]).checked()
    }

    fn parameters(&self, _input: &Shape, output: &Shape) -> Vec<Parameter> {
        let c_out = output.sizes().last().copied().unwrap_or(0);
        let Window { kh, kw, .. } = self.options.window;
        self.options.parameters([kh, kw, 1, c_out])
    }

    fn flops(&self, input: &Shape, _output: &Shape) -> u64 {
        self.shape(input).map_or(0, |shape| 2 * (shape.h_out * shape.w_out * shape.weight_len()) as u64)
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        let (weight, bias) = weight_and_bias(site.parameters);
        Ok(Work::Map(Box::new(DepthwiseWork { shape: self.shape(site.inputs[0])?, weight, bias })))
    }

    fn window_mut(&mut self) -> Option<&mut Window> {
        Some(&mut self.options.window)
    }

    fn decide(&mut self, before_norm: bool) {
        self.options.decide(before_norm);
    }
}

impl Depthwise {
    /// The geometry over an image.
    ///
    /// # Errors
    /// In words, when the window does not fit.
    pub fn shape(&self, input: &Shape) -> Result<ConvShape, String> {
        let [h, w, channels] = input.as_image()?;
        let c_out = channels.saturating_mul(self.multiplier);
        if c_out > MOST && self.multiplier > 1 {
            return Err(format!("{channels} channels x {} are more than {MOST}", self.multiplier));
        }
        ConvShape::new([h, w, channels], self.options.window, c_out)?.grouped(channels)
    }
}

/// As work, of both engines.
#[derive(Clone, Debug)]
pub struct DepthwiseWork {
    /// The geometry, with as many groups as input channels.
    pub shape: ConvShape,
    /// Weights `[kh, kw, 1, c_out]` in the block of parameters.
    pub weight: Range<usize>,
    /// Biases `[c_out]`, right behind them; empty where there are none.
    pub bias: Range<usize>,
}

impl Map for DepthwiseWork {
    fn forward(&self, pass: Forward<'_>) {
        let shape = &self.shape;
        let (weight, bias) = (&pass.params[self.weight.clone()], &pass.params[self.bias.clone()]);
        let outputs = pass.output.chunks_exact_mut(shape.output_len());
        for (input, output) in pass.input.chunks_exact(shape.input_len()).zip(outputs) {
            conv::depthwise_forward(shape, input, weight, bias, output, pass.scratch);
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let shape = &self.shape;
        let (inputs, outputs) = (shape.input_len(), shape.output_len());
        if let Some(d_params) = pass.d_params {
            let (d_weight, d_bias) = Backward::own(d_params, &self.weight, &self.bias);
            if !pass.accumulate {
                d_weight.fill(0.0);
                d_bias.fill(0.0);
            }
            for (input, d_output) in pass.input.chunks_exact(inputs).zip(pass.d_output.chunks_exact(outputs)) {
                conv::depthwise_backward_weights(shape, input, d_output, d_weight, d_bias, pass.scratch);
            }
        }
        pass.between.mark();
        if let Some(d_input) = pass.d_input {
            let weight = &pass.params[self.weight.clone()];
            for (d_input, d_output) in d_input.chunks_exact_mut(inputs).zip(pass.d_output.chunks_exact(outputs)) {
                conv::depthwise_backward_data(shape, d_output, weight, d_input, pass.scratch);
            }
        }
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn reads_input(&self) -> bool {
        true
    }

    fn scratch(&self, _batch: usize) -> usize {
        conv::depthwise_scratch(&self.shape)
    }
}
