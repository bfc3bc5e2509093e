//! Dense layers: one matrix product a pass.

use super::gemm::{Matrix, gemm};
use super::shape::DenseShape;

/// `output[n, o] = bias[o] + Σ input[n, i] · weight[i, o]`: `input [batch, inputs]`, `weight [inputs, outputs]`,
/// `bias [outputs]`, `output [batch, outputs]`.
pub fn dense_forward(shape: DenseShape, batch: usize, input: &[f32], weight: &[f32], bias: &[f32], output: &mut [f32]) {
    for row in output.chunks_exact_mut(shape.outputs) {
        row.copy_from_slice(bias);
    }
    let input = Matrix::new(input, batch, shape.inputs);
    gemm(input, Matrix::new(weight, shape.inputs, shape.outputs), 1.0, output);
}

/// The gradient of the input: `d_input [batch, inputs]` is overwritten.
pub fn dense_backward_data(shape: DenseShape, batch: usize, d_output: &[f32], weight: &[f32], d_input: &mut [f32]) {
    let weight = Matrix::new(weight, shape.inputs, shape.outputs).transposed();
    gemm(Matrix::new(d_output, batch, shape.outputs), weight, 0.0, d_input);
}

/// The gradients of weight and bias, summed over the batch and ADDED to `d_weight [inputs, outputs]` and
/// `d_bias [outputs]`.
pub fn dense_backward_weights(
    shape: DenseShape,
    batch: usize,
    input: &[f32],
    d_output: &[f32],
    d_weight: &mut [f32],
    d_bias: &mut [f32],
) {
    let input = Matrix::new(input, batch, shape.inputs).transposed();
    gemm(input, Matrix::new(d_output, batch, shape.outputs), 1.0, d_weight);
    super::sum::add_rows(d_output, d_bias);
}
