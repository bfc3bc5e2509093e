//! Element-wise layers, in place: what their backward pass needs is in their own output, or can be drawn again.

use super::conv::Rectifier;
use super::gated::{SIXTH, hard};
use super::isa::dispatch;
use super::simd::Simd;
use crate::rng::{Stream, unit};

/// An element-wise function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `max(v, 0)`
    Relu,
    /// `min(max(v, 0), 6)`
    Relu6,
    /// `v` where positive, else this times `v`
    LeakyRelu(f32),
    /// `min(max(v + 3, 0), 6) / 6`
    HardSigmoid,
    /// `1 / (1 + exp(−v))`
    Sigmoid,
    /// `tanh(v)`
    Tanh,
}

dispatch! {
    /// Applies `activation` to every value.
    pub fn activation_forward(activation: Activation, values: &mut [f32]) = activation_forward_loops
}

#[inline(always)]
fn activation_forward_loops<S: Simd>(activation: Activation, values: &mut [f32]) {
    match activation {
        // NaN stays NaN: a diverged run must show.
        Activation::Relu => each(values, |v| if v <= 0.0 { 0.0 } else { v }),
        Activation::Relu6 => each(values, |v| {
            let v = if v <= 0.0 { 0.0 } else { v };
            if v >= 6.0 { 6.0 } else { v }
        }),
        Activation::LeakyRelu(slope) => each(values, |v| if v <= 0.0 { slope * v } else { v }),
        Activation::HardSigmoid => each(values, |v| hard(v) * SIXTH),
        Activation::Sigmoid => each(values, |v| 1.0 / (1.0 + libm::expf(-v))),
        Activation::Tanh => each(values, libm::tanhf),
    }
}

dispatch! {
    /// Turns the gradient of the output into that of the input, in place, given the activation's `output`.
    pub fn activation_backward(
        activation: Activation,
        output: &[f32],
        gradient: &mut [f32],
    ) = activation_backward_loops
}

#[inline(always)]
fn activation_backward_loops<S: Simd>(activation: Activation, output: &[f32], gradient: &mut [f32]) {
    match activation {
        Activation::Relu => both(output, gradient, |o, g| if o > 0.0 { g } else { 0.0 }),
        Activation::Relu6 => both(output, gradient, |o, g| if o > 0.0 && o < 6.0 { g } else { 0.0 }),
        Activation::LeakyRelu(slope) => both(output, gradient, |o, g| if o > 0.0 { g } else { slope * g }),
        Activation::HardSigmoid => both(output, gradient, |o, g| if o > 0.0 && o < 1.0 { g * SIXTH } else { 0.0 }),
        Activation::Sigmoid => both(output, gradient, |o, g| g * (o * (1.0 - o))),
        Activation::Tanh => both(output, gradient, |o, g| g * (1.0 - o * o)),
    }
}

/// The gradient of a rectifier's output becomes that of its input, in place, given its `output`.
pub fn rectifier_backward(rectifier: Rectifier, output: &[f32], gradient: &mut [f32]) {
    let activation = match rectifier {
        Rectifier::Relu => Activation::Relu,
        Rectifier::Leaky(slope) => Activation::LeakyRelu(slope),
    };
    activation_backward(activation, output, gradient);
}

#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    values.iter_mut().for_each(|v| *v = f(*v));
}

#[inline(always)]
fn both(output: &[f32], gradient: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    assert_eq!(output.len(), gradient.len());
    gradient.iter_mut().zip(output).for_each(|(g, &o)| *g = f(o, *g));
}

/// Inverted dropout of one row's activations, or of their gradient: each is zeroed with probability `p`, the others are
/// multiplied by `1 / (1 − p)`. Which ones is a pure function of `stream`.
pub fn dropout(stream: Stream, p: f32, values: &mut [f32]) {
    let factor = 1.0 / (1.0 - p);
    for (index, four) in values.chunks_mut(4).enumerate() {
        let words = stream.block(index as u32);
        for (value, bits) in four.iter_mut().zip(words) {
            *value = if unit(bits) >= p { *value * factor } else { 0.0 };
        }
    }
}

/// Stochastic depth of one row's activations, or of their gradient: all are zeroed with probability `p`, else all are
/// multiplied by `1 / (1 − p)`. Which of the two is a pure function of `stream`.
pub fn drop_path(stream: Stream, p: f32, values: &mut [f32]) {
    if stream.uniform(0) >= p {
        multiply(values, 1.0 / (1.0 - p));
    } else {
        values.fill(0.0);
    }
}

dispatch! {
    fn multiply(values: &mut [f32], factor: f32) = multiply_loops
}

#[inline(always)]
fn multiply_loops<S: Simd>(values: &mut [f32], factor: f32) {
    each(values, |v| v * factor);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn dropout_keeps_the_mean_and_masks_backward_what_it_masked_forward() {
        let stream = Stream::new(3, Purpose::Dropout, 1, 2, 3);
        let mut values = vec![1.0; 10_001];
        dropout(stream, 0.25, &mut values);
        let kept = values.iter().filter(|&&v| v != 0.0).count();
        assert!((kept as f64 / 10_001.0 - 0.75).abs() < 0.02);
        assert!(values.iter().all(|&v| v == 0.0 || v == 1.0 / 0.75));
        let mut gradient = vec![1.0; 10_001];
        dropout(stream, 0.25, &mut gradient);
        assert_eq!(values, gradient);
    }

    #[test]
    fn a_path_is_dropped_for_a_whole_row_as_often_as_it_should_be() {
        let (p, rows) = (0.3, 20_000);
        let mut dropped = 0;
        for row in 0..rows {
            let stream = Stream::new(5, Purpose::Dropout, 7, 1, row);
            let mut values = [1.0, -2.0, 3.0];
            drop_path(stream, p, &mut values);
            let is_dropped = stream.uniform(0) < p;
            let factor = if is_dropped { 0.0 } else { 1.0 / (1.0 - p) };
            assert_eq!(values, [factor, -2.0 * factor, 3.0 * factor]);
            dropped += usize::from(is_dropped);
        }
        assert!((dropped as f64 / rows as f64 - 0.3).abs() < 0.01, "{dropped}");
    }

    #[test]
    fn a_nan_passes_through_every_activation() {
        for activation in
            [Activation::Relu, Activation::Relu6, Activation::LeakyRelu(0.01), Activation::Sigmoid, Activation::Tanh]
        {
            let mut values = [f32::NAN];
            activation_forward(activation, &mut values);
            assert!(values[0].is_nan(), "{activation:?}");
        }
    }
}
