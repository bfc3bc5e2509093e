//! Dense layers. A matrix product copies the weights into packed panels first, which pays from a handful of rows on;
//! for fewer, as on each of many ranks, the weights are streamed from memory once and every row uses them on the way.

use multiversion::multiversion;

use super::gemm::{Matrix, gemm};
use super::shape::DenseShape;

/// Up to this many rows the weights are streamed: a step of the paper's network is a quarter faster at 2 rows so, and no
/// different within the noise at 4 to 16 (`benches/results/`).
const FEW_ROWS: usize = 4;

/// `output[n, o] = bias[o] + Σ input[n, i] · weight[i, o]`: `input [batch, inputs]`, `weight [inputs, outputs]`,
/// `bias [outputs]`, `output [batch, outputs]`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn dense_forward(shape: DenseShape, batch: usize, input: &[f32], weight: &[f32], bias: &[f32], output: &mut [f32]) {
    check(shape, batch, input, weight, output);
    for row in output.chunks_exact_mut(shape.outputs) {
        row.copy_from_slice(bias);
    }
    if batch > FEW_ROWS {
        let input = Matrix::new(input, batch, shape.inputs);
        return gemm(input, Matrix::new(weight, shape.inputs, shape.outputs), 1.0, output);
    }
    for (i, weight) in weight.chunks_exact(shape.outputs).enumerate() {
        for (n, output) in output.chunks_exact_mut(shape.outputs).enumerate() {
            add_scaled(input[n * shape.inputs + i], weight, output);
        }
    }
}

/// The gradient of the input: `d_input [batch, inputs]` is overwritten.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub fn dense_backward_data(shape: DenseShape, batch: usize, d_output: &[f32], weight: &[f32], d_input: &mut [f32]) {
    check(shape, batch, d_input, weight, d_output);
    if batch > FEW_ROWS {
        let weight = Matrix::new(weight, shape.inputs, shape.outputs).transposed();
        return gemm(Matrix::new(d_output, batch, shape.outputs), weight, 0.0, d_input);
    }
    for (i, weight) in weight.chunks_exact(shape.outputs).enumerate() {
        for (n, d_output) in d_output.chunks_exact(shape.outputs).enumerate() {
            d_input[n * shape.inputs + i] = dot(weight, d_output);
        }
    }
}

/// The gradients of weight and bias, summed over the batch, into `d_weight [inputs, outputs]` and `d_bias [outputs]`:
/// added to what they hold, or in its place unless `accumulate`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
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
    super::sum::sum_rows(d_output, d_bias, accumulate);
    if batch > FEW_ROWS {
        let input = Matrix::new(input, batch, shape.inputs).transposed();
        let beta = f32::from(u8::from(accumulate));
        return gemm(input, Matrix::new(d_output, batch, shape.outputs), beta, d_weight);
    }
    for (i, d_weight) in d_weight.chunks_exact_mut(shape.outputs).enumerate() {
        if !accumulate {
            d_weight.fill(0.0);
        }
        for (n, d_output) in d_output.chunks_exact(shape.outputs).enumerate() {
            add_scaled(input[n * shape.inputs + i], d_output, d_weight);
        }
    }
}

fn check(shape: DenseShape, batch: usize, input: &[f32], weight: &[f32], output: &[f32]) {
    assert_eq!(input.len(), batch * shape.inputs, "input of {shape:?} x {batch}");
    assert_eq!(output.len(), batch * shape.outputs, "output of {shape:?} x {batch}");
    assert_eq!(weight.len(), shape.inputs * shape.outputs, "weight of {shape:?}");
}

/// `sum += factor · values`
#[inline(always)]
fn add_scaled(factor: f32, values: &[f32], sum: &mut [f32]) {
    for (sum, &value) in sum.iter_mut().zip(values) {
        *sum = factor.mul_add(value, *sum);
    }
}

/// `Σ a · b` in 16 lanes.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (a, b) in a.iter().zip(b) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane = a.mul_add(b, *lane);
        }
    }
    for ((lane, &a), &b) in lanes.iter_mut().zip(a_rest).zip(b_rest) {
        *lane = a.mul_add(b, *lane);
    }
    lanes.iter().sum()
}
