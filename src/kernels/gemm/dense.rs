//! Dense layers as matrix products.

use super::super::shape::DenseShape;
use super::product::{Matrix, MatrixMut, gemm};

/// `output[n, o] = bias[o] + Σ input[n, i] · weight[i, o]`: `input [batch, inputs]`, `weight [inputs, outputs]`,
/// `bias [outputs]`, `output [batch, outputs]`.
pub fn dense_forward(shape: DenseShape, batch: usize, input: &[f32], weight: &[f32], bias: &[f32], output: &mut [f32]) {
    check(shape, batch, input, weight, output);
    for row in output.chunks_exact_mut(shape.outputs) {
        row.copy_from_slice(bias);
    }
    let input = Matrix::new(input, batch, shape.inputs);
    gemm(input, Matrix::new(weight, shape.inputs, shape.outputs), 1.0, MatrixMut::new(output, shape.outputs));
}

/// The gradient of the input: `d_input [batch, inputs]` is overwritten.
pub fn dense_backward_data(shape: DenseShape, batch: usize, d_output: &[f32], weight: &[f32], d_input: &mut [f32]) {
    check(shape, batch, d_input, weight, d_output);
    let weight = Matrix::new(weight, shape.inputs, shape.outputs).transposed();
    gemm(Matrix::new(d_output, batch, shape.outputs), weight, 0.0, MatrixMut::new(d_input, shape.inputs));
}

/// The gradients of weight and bias, summed over the batch, into `d_weight [inputs, outputs]` and `d_bias [outputs]`:
/// added to what they hold, or in its place unless `accumulate`.
pub fn dense_backward_weights(
    shape: DenseShape,
    batch: usize,
    input: &[f32],
    d_output: &[f32],
    d_weight: &mut [f32],
    d_bias: &mut [f32],
    accumulate: bool,
) {
    check(shape, batch, input, d_weight, d_output);
    super::super::sum::sum_rows(d_output, d_bias, accumulate);
    let input = Matrix::new(input, batch, shape.inputs).transposed();
    let beta = f32::from(u8::from(accumulate));
    gemm(input, Matrix::new(d_output, batch, shape.outputs), beta, MatrixMut::new(d_weight, shape.outputs));
}

fn check(shape: DenseShape, batch: usize, input: &[f32], weight: &[f32], output: &[f32]) {
    assert_eq!(input.len(), batch * shape.inputs, "input of {shape:?} x {batch}");
    assert_eq!(output.len(), batch * shape.outputs, "output of {shape:?} x {batch}");
    assert_eq!(weight.len(), shape.inputs * shape.outputs, "weight of {shape:?}");
}
