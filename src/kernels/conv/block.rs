//! A convolution with what is fused into it, and which route its work takes.

use super::super::shape::ConvShape;
use super::frame::Frame;
use super::rectifier::Rectifier;
use super::winners::words_of_row;
use super::winograd;

/// A convolution with what is fused into it, and how its tensors lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvBlock {
    /// The window.
    pub shape: ConvShape,
    /// What follows the bias.
    pub rectifier: Option<Rectifier>,
    /// Whether a 2×2 max-pool with stride 2 follows; height and width of the window's output are even then.
    pub pool: bool,
    /// The input as it is given.
    pub input: Frame,
    /// Its gradient as it is wanted.
    pub d_input: Frame,
    /// The output, pooled if there is a pool.
    pub output: Frame,
    /// Its gradient as it is given.
    pub d_output: Frame,
    /// The rectifier that made the input, where the gradient is wanted in front of it.
    pub gate: Option<Rectifier>,
}

impl ConvBlock {
    /// A block whose tensors all lie densely, with nothing fused.
    pub fn new(shape: ConvShape) -> ConvBlock {
        let input = Frame::dense([shape.h_in, shape.w_in, shape.c_in]);
        let output = Frame::dense([shape.h_out, shape.w_out, shape.c_out]);
        ConvBlock { shape, rectifier: None, pool: false, input, d_input: input, output, d_output: output, gate: None }
    }

    /// Puts the pool behind it.
    pub fn with_pool(self) -> ConvBlock {
        let output = Frame::dense([self.shape.h_out / 2, self.shape.w_out / 2, self.shape.c_out]);
        ConvBlock { pool: true, output, d_output: output, ..self }
    }

    /// `[h, w, c]` of the output.
    pub fn output_size(&self) -> [usize; 3] {
        let divisor = if self.pool { 2 } else { 1 };
        [self.shape.h_out / divisor, self.shape.w_out / divisor, self.shape.c_out]
    }

    /// The frame that the forward pass needs of its input.
    pub fn padded_input(&self) -> Frame {
        let ConvShape { h_in, w_in, c_in, w_out, kw, stride, pad_left, .. } = self.shape;
        let right = ((w_out - 1) * stride + kw).saturating_sub(w_in + pad_left);
        Frame { left: pad_left, right, ..Frame::dense([h_in, w_in, c_in]) }
    }

    /// Whether the input lies so that windows may hang over its sides; else it is copied first.
    pub fn input_is_padded(&self) -> bool {
        self.input.covers(&self.padded_input())
    }

    /// The frame in which the kernels read the input.
    pub fn conv_input(&self) -> Frame {
        if self.input_is_padded() { self.input } else { self.padded_input() }
    }

    /// Whether the forward pass and the gradient of the input are done by tiles (`winograd`).
    pub fn is_winograd(&self) -> bool {
        winograd::applies(&self.shape)
    }

    /// Whether the gradient of the weights is.
    pub fn weights_are_winograd(&self) -> bool {
        winograd::applies_to_weights(&self.shape)
    }

    /// Words an image for where the maxima stood.
    pub fn winner_words(&self) -> usize {
        if self.pool { self.output.h * words_of_row(self.output.w, self.shape.c_out) } else { 0 }
    }
}
