//! Convolution: im2col in blocks of output rows that stay in the cache, then a matrix product.

use super::super::shape::ConvShape;
use super::im2col::{col2im_add, im2col};
use super::product::{Matrix, gemm};

/// Floats in a block of patches: 192 KiB, so that block and packed operands share a 512 KiB L2.
const BLOCK: usize = 48 * 1024;

/// Output rows that are worked on at once.
fn rows_at_once(shape: &ConvShape) -> usize {
    (BLOCK / (shape.w_out * shape.patch_len())).clamp(1, shape.h_out)
}

/// Floats of scratch memory that the three routines need.
pub fn conv2d_scratch(shape: &ConvShape) -> usize {
    rows_at_once(shape) * shape.w_out * shape.patch_len()
}

fn check(shape: &ConvShape, batch: usize, input: usize, output: usize, weight: usize) {
    assert_eq!(input, batch * shape.input_len(), "input of {shape:?} x {batch}");
    assert_eq!(output, batch * shape.output_len(), "output of {shape:?} x {batch}");
    assert_eq!(weight, shape.weight_len(), "weight of {shape:?}");
}

/// Calls `work(output rows, their range in an output image)` block by block.
fn for_each_block(shape: &ConvShape, mut work: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>)) {
    let (step, line) = (rows_at_once(shape), shape.w_out * shape.c_out);
    for first in (0..shape.h_out).step_by(step) {
        let rows = first..(first + step).min(shape.h_out);
        work(rows.clone(), rows.start * line..rows.end * line);
    }
}

/// `output[n, y, x, co] = bias[co] + Σ input[n, y·s + ky − top, x·s + kx − left, ci] · weight[ky, kx, ci, co]`
///
/// `input [batch, h_in, w_in, c_in]`, `weight [kh, kw, c_in, c_out]`, `bias [c_out]`,
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
    let weight = Matrix::new(weight, shape.patch_len(), shape.c_out);
    for (image, output) in input.chunks_exact(shape.input_len()).zip(output.chunks_exact_mut(shape.output_len())) {
        for_each_block(shape, |rows, range| {
            let pixels = rows.len() * shape.w_out;
            let patches = &mut scratch[..pixels * shape.patch_len()];
            im2col(shape, image, rows, patches);
            let output = &mut output[range];
            for pixel in output.chunks_exact_mut(shape.c_out) {
                pixel.copy_from_slice(bias);
            }
            gemm(Matrix::new(patches, pixels, shape.patch_len()), weight, 1.0, output);
        });
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
    let weight = Matrix::new(weight, shape.patch_len(), shape.c_out).transposed();
    d_input.fill(0.0);
    let images = d_input.chunks_exact_mut(shape.input_len());
    for (d_image, d_output) in images.zip(d_output.chunks_exact(shape.output_len())) {
        for_each_block(shape, |rows, range| {
            let pixels = rows.len() * shape.w_out;
            let patches = &mut scratch[..pixels * shape.patch_len()];
            gemm(Matrix::new(&d_output[range], pixels, shape.c_out), weight, 0.0, patches);
            col2im_add(shape, patches, rows, d_image);
        });
    }
}

/// The gradients of weight and bias, summed over the batch, into `d_weight [kh, kw, c_in, c_out]` and `d_bias [c_out]`:
/// added to what they hold, or in its place unless `accumulate`.
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
    super::super::sum::sum_rows(d_output, d_bias, accumulate);
    if !accumulate {
        d_weight.fill(0.0);
    }
    for (image, d_output) in input.chunks_exact(shape.input_len()).zip(d_output.chunks_exact(shape.output_len())) {
        for_each_block(shape, |rows, range| {
            let pixels = rows.len() * shape.w_out;
            let patches = &mut scratch[..pixels * shape.patch_len()];
            im2col(shape, image, rows, patches);
            let patches = Matrix::new(patches, pixels, shape.patch_len()).transposed();
            gemm(patches, Matrix::new(&d_output[range], pixels, shape.c_out), 1.0, d_weight);
        });
    }
}
