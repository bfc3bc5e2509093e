//! The channels of the input, where each has several outputs, and what all three routines check.

use super::super::super::shape::ConvShape;

/// Outputs of an input channel.
fn outputs_of_channel(shape: &ConvShape) -> usize {
    shape.c_out / shape.c_in
}

/// Floats of the input with as many channels as the output: nothing where it has so many.
pub fn repeated_len(shape: &ConvShape) -> usize {
    if shape.c_out == shape.c_in { 0 } else { shape.h_in * shape.w_in * shape.c_out }
}

/// Every value of `input` as often as its channel has outputs.
pub fn repeat(shape: &ConvShape, input: &[f32], repeated: &mut [f32]) {
    for (value, to) in input.iter().zip(repeated.chunks_exact_mut(outputs_of_channel(shape))) {
        to.fill(*value);
    }
}

/// The reverse: the values of a channel's outputs, added one after another.
pub fn add_up(shape: &ConvShape, repeated: &[f32], sums: &mut [f32]) {
    for (sum, values) in sums.iter_mut().zip(repeated.chunks_exact(outputs_of_channel(shape))) {
        *sum = values.iter().fold(0.0, |sum, value| sum + value);
    }
}

/// Panics unless every channel goes by itself.
pub fn check(shape: &ConvShape, input: usize, output: usize, weight: usize) {
    assert!(shape.groups == shape.c_in && shape.c_out.is_multiple_of(shape.c_in), "channels of {shape:?}");
    assert!(input == shape.input_len() && output == shape.output_len(), "tensors of {shape:?}");
    assert_eq!(weight, shape.weight_len(), "weight of {shape:?}");
}
