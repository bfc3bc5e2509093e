//! Pooling. Windows are clipped to the image: padding never wins a maximum and never counts in an average.

use super::isa::dispatch;
use super::shape::{AdaptiveShape, PoolShape};
use super::simd::Simd;
use std::fmt::Debug;
use std::ops::Range;

/// Windows on an image.
trait Windows: Debug {
    /// Height and width of the output.
    fn output(&self) -> [usize; 2];
    /// Height and width of the input.
    fn input(&self) -> [usize; 2];
    fn channels(&self) -> usize;
    /// The part of the image under the window of output pixel (`y`, `x`): rows, then columns.
    fn clipped(&self, y: usize, x: usize) -> (Range<usize>, Range<usize>);
}

impl Windows for PoolShape {
    #[inline(always)]
    fn output(&self) -> [usize; 2] {
        [self.h_out, self.w_out]
    }
    #[inline(always)]
    fn input(&self) -> [usize; 2] {
        [self.h_in, self.w_in]
    }
    #[inline(always)]
    fn channels(&self) -> usize {
        self.channels
    }
    #[inline(always)]
    fn clipped(&self, y: usize, x: usize) -> (Range<usize>, Range<usize>) {
        self.clipped(y, x)
    }
}

impl Windows for AdaptiveShape {
    #[inline(always)]
    fn output(&self) -> [usize; 2] {
        [self.h_out, self.w_out]
    }
    #[inline(always)]
    fn input(&self) -> [usize; 2] {
        [self.h_in, self.w_in]
    }
    #[inline(always)]
    fn channels(&self) -> usize {
        self.channels
    }
    #[inline(always)]
    fn clipped(&self, y: usize, x: usize) -> (Range<usize>, Range<usize>) {
        (Self::window(y, self.h_in, self.h_out), Self::window(x, self.w_in, self.w_out))
    }
}

/// Calls `visit(batch index's input offset, output offset, y, x)` for every output pixel.
#[inline(always)]
fn for_each_output(shape: &impl Windows, batch: usize, mut visit: impl FnMut(usize, usize, usize, usize)) {
    let ([h_in, w_in], [h_out, w_out]) = (shape.input(), shape.output());
    let mut output = 0;
    for image in 0..batch {
        for y in 0..h_out {
            for x in 0..w_out {
                visit(image * h_in * w_in * shape.channels(), output, y, x);
                output += shape.channels();
            }
        }
    }
}

fn check(shape: &impl Windows, batch: usize, input: usize, output: usize) {
    let values = |[h, w]: [usize; 2]| batch * h * w * shape.channels();
    assert_eq!(input, values(shape.input()), "input of {shape:?} x {batch}");
    assert_eq!(output, values(shape.output()), "output of {shape:?} x {batch}");
}

dispatch! {
    /// `output[n, y, x, c]` = the largest of the window's pixels, or NaN when one is NaN:
    /// `input [batch, h_in, w_in, c]`, `output [batch, h_out, w_out, c]`.
    pub fn maxpool_forward(shape: &PoolShape, batch: usize, input: &[f32], output: &mut [f32]) = maxpool_forward_loops
}

#[inline(always)]
fn maxpool_forward_loops<S: Simd>(shape: &PoolShape, batch: usize, input: &[f32], output: &mut [f32]) {
    check(shape, batch, input.len(), output.len());
    let c = shape.channels;
    for_each_output(shape, batch, |image, out, y, x| {
        let best = &mut output[out..out + c];
        let (rows, columns) = shape.clipped(y, x);
        best.fill(f32::NEG_INFINITY);
        for row in rows {
            for column in columns.clone() {
                let pixel = image + (row * shape.w_in + column) * c;
                for (best, &value) in best.iter_mut().zip(&input[pixel..pixel + c]) {
                    *best = if value > *best || value.is_nan() { value } else { *best };
                }
            }
        }
    });
}

dispatch! {
    /// Sends each output's gradient to the pixel that won (the first one, row by row, of equals):
    /// `d_input [batch, h_in, w_in, c]` is overwritten.
    pub fn maxpool_backward(
        shape: &PoolShape,
        batch: usize,
        input: &[f32],
        d_output: &[f32],
        d_input: &mut [f32],
    ) = maxpool_backward_loops
}

#[inline(always)]
fn maxpool_backward_loops<S: Simd>(
    shape: &PoolShape,
    batch: usize,
    input: &[f32],
    d_output: &[f32],
    d_input: &mut [f32],
) {
    check(shape, batch, input.len(), d_output.len());
    check(shape, batch, d_input.len(), d_output.len());
    let c = shape.channels;
    d_input.fill(0.0);
    for_each_output(shape, batch, |image, out, y, x| {
        let (rows, columns) = shape.clipped(y, x);
        let start = image + (rows.start * shape.w_in + columns.start) * c;
        for channel in 0..c {
            let mut winner = start + channel;
            for row in rows.clone() {
                for column in columns.clone() {
                    let pixel = image + (row * shape.w_in + column) * c + channel;
                    if input[pixel] > input[winner] || input[pixel].is_nan() {
                        winner = pixel;
                    }
                }
            }
            d_input[winner] += d_output[out + channel];
        }
    });
}

dispatch! {
    /// `output[n, y, x, c]` = the mean of the window's pixels inside the image.
    pub fn avgpool_forward(shape: &PoolShape, batch: usize, input: &[f32], output: &mut [f32]) = avgpool_forward_loops
}

dispatch! {
    /// As [`avgpool_forward`], of windows that share out the image.
    pub fn adaptive_avgpool_forward(
        shape: &AdaptiveShape,
        batch: usize,
        input: &[f32],
        output: &mut [f32],
    ) = adaptive_avgpool_forward_loops
}

#[inline(always)]
fn avgpool_forward_loops<S: Simd>(shape: &PoolShape, batch: usize, input: &[f32], output: &mut [f32]) {
    average(shape, batch, input, output);
}

#[inline(always)]
fn adaptive_avgpool_forward_loops<S: Simd>(shape: &AdaptiveShape, batch: usize, input: &[f32], output: &mut [f32]) {
    average(shape, batch, input, output);
}

#[inline(always)]
fn average(shape: &impl Windows, batch: usize, input: &[f32], output: &mut [f32]) {
    check(shape, batch, input.len(), output.len());
    let ([_, w_in], c) = (shape.input(), shape.channels());
    for_each_output(shape, batch, |image, out, y, x| {
        let sum = &mut output[out..out + c];
        let (rows, columns) = shape.clipped(y, x);
        let count = (rows.len() * columns.len()) as f32;
        sum.fill(0.0);
        for row in rows {
            for column in columns.clone() {
                let pixel = image + (row * w_in + column) * c;
                for (sum, &value) in sum.iter_mut().zip(&input[pixel..pixel + c]) {
                    *sum += value;
                }
            }
        }
        for value in sum {
            *value /= count;
        }
    });
}

dispatch! {
    /// Spreads each output's gradient evenly over its window: `d_input [batch, h_in, w_in, c]` is overwritten.
    pub fn avgpool_backward(
        shape: &PoolShape,
        batch: usize,
        d_output: &[f32],
        d_input: &mut [f32],
    ) = avgpool_backward_loops
}

dispatch! {
    /// As [`avgpool_backward`], of windows that share out the image.
    pub fn adaptive_avgpool_backward(
        shape: &AdaptiveShape,
        batch: usize,
        d_output: &[f32],
        d_input: &mut [f32],
    ) = adaptive_avgpool_backward_loops
}

#[inline(always)]
fn avgpool_backward_loops<S: Simd>(shape: &PoolShape, batch: usize, d_output: &[f32], d_input: &mut [f32]) {
    spread(shape, batch, d_output, d_input);
}

#[inline(always)]
fn adaptive_avgpool_backward_loops<S: Simd>(
    shape: &AdaptiveShape,
    batch: usize,
    d_output: &[f32],
    d_input: &mut [f32],
) {
    spread(shape, batch, d_output, d_input);
}

#[inline(always)]
fn spread(shape: &impl Windows, batch: usize, d_output: &[f32], d_input: &mut [f32]) {
    check(shape, batch, d_input.len(), d_output.len());
    let ([_, w_in], c) = (shape.input(), shape.channels());
    d_input.fill(0.0);
    for_each_output(shape, batch, |image, out, y, x| {
        let (rows, columns) = shape.clipped(y, x);
        let count = (rows.len() * columns.len()) as f32;
        for row in rows {
            for column in columns.clone() {
                let pixel = image + (row * w_in + column) * c;
                for (d, &value) in d_input[pixel..pixel + c].iter_mut().zip(&d_output[out..out + c]) {
                    *d += value / count;
                }
            }
        }
    });
}
