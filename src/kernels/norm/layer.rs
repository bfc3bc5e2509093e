//! Layer normalisation: the channels of every pixel, or all values of a vector, by their own mean and variance.

use super::{LANES, NormBackward, NormForward, inverse_deviation, sum_of_lanes};
use crate::isa::dispatch;
use crate::simd::Simd;

dispatch! {
    /// `output = (input − mean) / √(variance + eps) · weight + bias` for every `weight.len()` values that follow one another. It takes no
    /// scratch memory.
    pub fn layer_norm_forward(eps: f64, pass: NormForward<'_>) = forward
}

dispatch! {
    /// The gradients of input, weight and bias. It takes no scratch memory.
    pub fn layer_norm_backward(eps: f64, pass: NormBackward<'_>) = backward
}

#[inline(always)]
fn forward<S: Simd>(eps: f64, pass: NormForward<'_>) {
    let NormForward { input, weight, bias, output, .. } = pass;
    let channels = weight.len();
    assert!(channels > 0 && bias.len() == channels && input.len().is_multiple_of(channels));
    assert_eq!(input.len(), output.len());
    for (input, output) in input.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
        let (mean, inverse) = moments(input, eps);
        for (((o, &x), &w), &b) in output.iter_mut().zip(input).zip(weight).zip(bias) {
            *o = ((x - mean) * inverse).mul_add(w, b);
        }
    }
}

#[inline(always)]
fn backward<S: Simd>(eps: f64, pass: NormBackward<'_>) {
    let NormBackward { input, weight, d_output, mut d_input, mut d_params, accumulate, .. } = pass;
    let channels = weight.len();
    assert!(channels > 0 && input.len().is_multiple_of(channels) && input.len() == d_output.len());
    assert!(d_input.as_ref().is_none_or(|d_input| d_input.len() == input.len()));
    assert!(d_params.iter().flatten().all(|params| params.len() == channels));
    if let Some(params) = d_params.as_mut().filter(|_| !accumulate) {
        params.iter_mut().for_each(|params| params.fill(0.0));
    }
    let lines = input.chunks_exact(channels).zip(d_output.chunks_exact(channels));
    for (line, (input, d_output)) in lines.enumerate() {
        let (mean, inverse) = moments(input, eps);
        if let Some([d_weight, d_bias]) = &mut d_params {
            for (((w, b), &x), &d) in d_weight.iter_mut().zip(d_bias.iter_mut()).zip(input).zip(d_output) {
                *w = d.mul_add((x - mean) * inverse, *w);
                *b += d;
            }
        }
        if let Some(d_input) = &mut d_input {
            let (mut sums, mut products) = ([0.0; LANES], [0.0; LANES]);
            let values = input.chunks(LANES).zip(d_output.chunks(LANES)).zip(weight.chunks(LANES));
            for ((input, d_output), weight) in values {
                let lanes = sums.iter_mut().zip(&mut products).zip(input).zip(d_output).zip(weight);
                for ((((sum, product), &x), &d), &w) in lanes {
                    let d = f64::from(d) * f64::from(w);
                    *sum += d;
                    *product += d * f64::from((x - mean) * inverse);
                }
            }
            let each = |sum: f64| (-f64::from(inverse) * sum / channels as f64) as f32;
            let (shift, slope) = (each(sum_of_lanes(sums)), each(sum_of_lanes(products)));
            let d_input = &mut d_input[line * channels..(line + 1) * channels];
            for (((g, &x), &d), &w) in d_input.iter_mut().zip(input).zip(d_output).zip(weight) {
                *g = (d * w).mul_add(inverse, ((x - mean) * inverse).mul_add(slope, shift));
            }
        }
    }
}

/// Mean, and one over the deviation.
#[inline(always)]
fn moments(values: &[f32], eps: f64) -> (f32, f32) {
    let count = values.len() as f64;
    let mean = sum_of_lanes(lanes(values, f64::from)) / count;
    let square = |value: f32| (f64::from(value) - mean) * (f64::from(value) - mean);
    let variance = sum_of_lanes(lanes(values, square)) / count;
    (mean as f32, inverse_deviation(variance, eps))
}

/// The sums of every sixteenth value, as `term` makes it.
#[inline(always)]
fn lanes(values: &[f32], term: impl Fn(f32) -> f64) -> [f64; LANES] {
    let mut lanes = [0.0; LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for values in whole {
        lanes.iter_mut().zip(values).for_each(|(lane, &value)| *lane += term(value));
    }
    lanes.iter_mut().zip(rest).for_each(|(lane, &value)| *lane += term(value));
    lanes
}
