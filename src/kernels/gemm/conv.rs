//! Convolution: im2col in blocks of output rows that stay in the cache, then a matrix product.

use super::super::im2col::{Windows, col2im_add, im2col, rows_at_once};
use super::super::shape::ConvShape;
use super::product::{Matrix, MatrixMut, gemm};

/// Floats of scratch memory that the three routines need.
pub fn conv2d_scratch(shape: &ConvShape) -> usize {
    rows_at_once(shape) * shape.w_out * shape.patch_len()
}

fn check(shape: &ConvShape, batch: usize, input: usize, output: usize, weight: usize) {
    assert_eq!(input, batch * shape.input_len(), "input of {shape:?} x {batch}");
    assert_eq!(output, batch * shape.output_len(), "output of {shape:?} x {batch}");
    assert_eq!(weight, shape.weight_len(), "weight of {shape:?}");
}

/// Calls `work(windows, the range of their pixels in an output image)` block by block, and in each group by group.
fn for_each_block(shape: &ConvShape, mut work: impl FnMut(Windows, std::ops::Range<usize>)) {
    let (step, line) = (rows_at_once(shape), shape.w_out * shape.c_out);
    for first in (0..shape.h_out).step_by(step) {
        let rows = first..(first + step).min(shape.h_out);
        for group in 0..shape.groups {
            work(Windows { rows: rows.clone(), group }, rows.start * line..rows.end * line);
        }
    }
}

/// The columns of `values [rows, c_out]` that belong to a group.
fn of_group<'a>(shape: &ConvShape, values: &'a [f32], group: usize) -> Matrix<'a> {
    let channels = shape.group_out();
    Matrix::columns(values, shape.c_out, group * channels, channels)
}

/// The same, to be written.
fn of_group_mut<'a>(shape: &ConvShape, values: &'a mut [f32], group: usize) -> MatrixMut<'a> {
    MatrixMut { values, first: group * shape.group_out(), whole: shape.c_out }
}

/// `output[n, y, x, co] = bias[co] + Σ input[n, y·s + ky·d − top, x·s + kx·d − left, ci] · weight[ky, kx, ci, co]`
///
/// `input [batch, h_in, w_in, c_in]`, `weight [kh, kw, c_in / groups, c_out]`, `bias [c_out]` or empty,
/// `output [batch, h_out, w_out, c_out]`, `scratch` at least [`conv2d_scratch`] long.
pub fn conv2d_forward(
    shape: &ConvShape,
    batch: usize,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    output: &mut [f32],
    scratch: &mut [f32],
) {
    check(shape, batch, input.len(), output.len(), weight.len());
    assert!(bias.is_empty() || bias.len() == shape.c_out, "bias of {shape:?}");
    for (image, output) in input.chunks_exact(shape.input_len()).zip(output.chunks_exact_mut(shape.output_len())) {
        for_each_block(shape, |windows, range| {
            let (pixels, group) = (windows.rows.len() * shape.w_out, windows.group);
            let patches = &mut scratch[..pixels * shape.patch_len()];
            im2col(shape, image, windows, patches);
            let output = &mut output[range];
            if group == 0 {
                put_bias(output, bias, shape.c_out);
            }
            let patches = Matrix::new(patches, pixels, shape.patch_len());
            gemm(patches, of_group(shape, weight, group), 1.0, of_group_mut(shape, output, group));
        });
    }
}

/// Every pixel is the bias, or 0 where there is none.
fn put_bias(output: &mut [f32], bias: &[f32], channels: usize) {
    if bias.is_empty() {
        return output.fill(0.0);
    }
    for pixel in output.chunks_exact_mut(channels) {
        pixel.copy_from_slice(bias);
    }
}

/// The gradient of the input: `d_input [batch, h_in, w_in, c_in]` is overwritten; the others as in [`conv2d_forward`].
pub fn conv2d_backward_data(
    shape: &ConvShape,
    batch: usize,
    d_output: &[f32],
    weight: &[f32],
    d_input: &mut [f32],
    scratch: &mut [f32],
) {
    check(shape, batch, d_input.len(), d_output.len(), weight.len());
    d_input.fill(0.0);
    let images = d_input.chunks_exact_mut(shape.input_len());
    for (d_image, d_output) in images.zip(d_output.chunks_exact(shape.output_len())) {
        for_each_block(shape, |windows, range| {
            let (pixels, group) = (windows.rows.len() * shape.w_out, windows.group);
            let patches = &mut scratch[..pixels * shape.patch_len()];
            let weight = of_group(shape, weight, group).transposed();
            let to = MatrixMut::new(patches, shape.patch_len());
            gemm(of_group(shape, &d_output[range], group), weight, 0.0, to);
            col2im_add(shape, patches, windows, d_image);
        });
    }
}

/// The gradients of weight and bias, summed over the batch, into `d_weight [kh, kw, c_in / groups, c_out]` and `d_bias [c_out]`
/// (or empty): added to what they hold, or in its place unless `accumulate`.
#[allow(clippy::too_many_arguments)] // The tensors of the operation, each under its own name.
pub fn conv2d_backward_weights(
    shape: &ConvShape,
    batch: usize,
    input: &[f32],
    d_output: &[f32],
    d_weight: &mut [f32],
    d_bias: &mut [f32],
    scratch: &mut [f32],
    accumulate: bool,
) {
    check(shape, batch, input.len(), d_output.len(), d_weight.len());
    if !d_bias.is_empty() {
        assert_eq!(d_bias.len(), shape.c_out, "bias of {shape:?}");
        super::super::sum::sum_rows(d_output, d_bias, accumulate);
    }
    if !accumulate {
        d_weight.fill(0.0);
    }
    for (image, d_output) in input.chunks_exact(shape.input_len()).zip(d_output.chunks_exact(shape.output_len())) {
        for_each_block(shape, |windows, range| {
            let (pixels, group) = (windows.rows.len() * shape.w_out, windows.group);
            let patches = &mut scratch[..pixels * shape.patch_len()];
            im2col(shape, image, windows, patches);
            let patches = Matrix::new(patches, pixels, shape.patch_len()).transposed();
            gemm(patches, of_group(shape, &d_output[range], group), 1.0, of_group_mut(shape, d_weight, group));
        });
    }
}
