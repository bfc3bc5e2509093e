//! Functions that are a value times a gate of itself. Their backward pass needs their input.
//!
//! `exp` is a polynomial of fused multiply-adds in one order, so that every instruction set gives the same bits.

use super::isa::dispatch;
use super::simd::Simd;

/// `v` times a gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gated {
    /// `v · min(max(v + 3, 0), 6) / 6`
    HardSwish,
    /// `v / (1 + exp(−v))`
    Silu,
    /// `v · Φ(v)`, with the normal distribution's `Φ` to 1.5e-7.
    Gelu,
    /// `v · (1 + tanh(√(2/π) · (v + 0.044715 v³))) / 2`
    GeluTanh,
}

dispatch! {
    /// `output` from `input`, value by value.
    ///
    /// # Panics
    /// When they are not of one length.
    pub fn gated_forward(function: Gated, input: &[f32], output: &mut [f32]) = gated_forward_loops
}

#[inline(always)]
fn gated_forward_loops<S: Simd>(function: Gated, input: &[f32], output: &mut [f32]) {
    match function {
        Gated::HardSwish => each(input, output, |v| v * hard(v) * SIXTH),
        Gated::Silu => each(input, output, |v| v * sigmoid(v)),
        Gated::Gelu => each(input, output, |v| v * normal(v)),
        Gated::GeluTanh => each(input, output, |v| v * sigmoid(2.0 * inner(v))),
    }
}

dispatch! {
    /// The gradient of the input from that of the output, value by value.
    ///
    /// # Panics
    /// When they are not of one length.
    pub fn gated_backward(
        function: Gated,
        input: &[f32],
        d_output: &[f32],
        d_input: &mut [f32],
    ) = gated_backward_loops
}

#[inline(always)]
fn gated_backward_loops<S: Simd>(function: Gated, input: &[f32], d_output: &[f32], d_input: &mut [f32]) {
    match function {
        Gated::HardSwish => all(input, d_output, d_input, |v| {
            let inside = 2.0f32.mul_add(v, 3.0) * SIXTH;
            let slope = if v > -3.0 { inside } else { 0.0 };
            if v < 3.0 { slope } else { 1.0 }
        }),
        Gated::Silu => all(input, d_output, d_input, |v| {
            let gate = sigmoid(v);
            gate * v.mul_add(1.0 - gate, 1.0)
        }),
        // The density of the normal distribution, 1/√(2π) at 0.
        Gated::Gelu => {
            all(input, d_output, d_input, |v| (v * 0.398_942_3).mul_add(exp(-0.5 * v * v), normal(v)));
        }
        Gated::GeluTanh => all(input, d_output, d_input, |v| {
            let gate = sigmoid(2.0 * inner(v));
            let slope = (3.0 * CUBIC * ROOT).mul_add(v * v, ROOT);
            gate * (2.0 * v * slope).mul_add(1.0 - gate, 1.0)
        }),
    }
}

pub(super) const SIXTH: f32 = 1.0 / 6.0;
/// √(2/π)
const ROOT: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

#[inline(always)]
fn each(input: &[f32], output: &mut [f32], f: impl Fn(f32) -> f32) {
    assert_eq!(input.len(), output.len());
    output.iter_mut().zip(input).for_each(|(o, &v)| *o = f(v));
}

#[inline(always)]
fn all(input: &[f32], d_output: &[f32], d_input: &mut [f32], slope: impl Fn(f32) -> f32) {
    assert!(input.len() == d_output.len() && input.len() == d_input.len());
    d_input.iter_mut().zip(input).zip(d_output).for_each(|((d, &v), &g)| *d = g * slope(v));
}

/// `min(max(v + 3, 0), 6)`; NaN stays NaN.
#[inline(always)]
pub(super) fn hard(v: f32) -> f32 {
    let v = v + 3.0;
    let v = if v <= 0.0 { 0.0 } else { v };
    if v >= 6.0 { 6.0 } else { v }
}

#[inline(always)]
fn inner(v: f32) -> f32 {
    ROOT * (CUBIC * v * v).mul_add(v, v)
}

#[inline(always)]
fn sigmoid(v: f32) -> f32 {
    1.0 / (1.0 + exp(-v))
}

/// `Φ(v)` (Abramowitz & Stegun 7.1.26).
#[inline(always)]
fn normal(v: f32) -> f32 {
    let x = v.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / 0.327_591_1f32.mul_add(x, 1.0);
    let sum = 1.061_405_4f32.mul_add(t, -1.453_152);
    let sum = sum.mul_add(t, 1.421_413_8).mul_add(t, -0.284_496_74).mul_add(t, 0.254_829_6) * t;
    let tail = 0.5 * sum * exp(-x * x);
    if v < 0.0 { tail } else { 1.0 - tail }
}

/// `exp(v)` to two units in the last place; 0 below −87, infinity above 88, NaN for NaN.
#[inline(always)]
fn exp(v: f32) -> f32 {
    const LEAST: f32 = -87.0;
    const MOST: f32 = 88.0;
    /// Added, it leaves a whole number in the lowest bits.
    const WHOLE: f32 = 12_582_912.0;
    let inside = if v > MOST { MOST } else { v };
    let inside = if inside < LEAST { LEAST } else { inside };
    let shifted = inside.mul_add(std::f32::consts::LOG2_E, WHOLE);
    let twos = shifted - WHOLE;
    // ln 2 in two parts.
    let rest = twos.mul_add(-0.693_359_4, inside);
    let rest = twos.mul_add(2.121_944_4e-4, rest);
    let sum = 1.987_569_1e-4f32.mul_add(rest, 1.398_199_9e-3);
    let sum = sum.mul_add(rest, 8.333_452e-3).mul_add(rest, 4.166_579_6e-2).mul_add(rest, 0.166_666_65);
    let sum = sum.mul_add(rest, 0.5).mul_add(rest * rest, rest) + 1.0;
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let result = sum * scale;
    let result = if v > MOST { f32::INFINITY } else { result };
    if v < LEAST { 0.0 } else { result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_f64() {
        let mut most: f64 = 0.0;
        for step in -870_000..880_000 {
            let v = step as f32 * 1e-4;
            let want = f64::from(v).exp();
            most = most.max((f64::from(exp(v)) - want).abs() / want);
        }
        assert!(most < 2.0 * f64::from(f32::EPSILON), "{most}");
        assert_eq!([exp(0.0), exp(-100.0), exp(100.0), exp(f32::NEG_INFINITY)], [1.0, 0.0, f32::INFINITY, 0.0]);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn gates_are_those_of_f64() {
        let values: Vec<f32> = (-3000..3000).map(|step| step as f32 * 4e-3).collect();
        let want = |function: Gated, v: f64| match function {
            Gated::HardSwish => v * (v + 3.0).clamp(0.0, 6.0) / 6.0,
            Gated::Silu => v / (1.0 + (-v).exp()),
            Gated::Gelu => v * 0.5 * libm::erfc(-v / std::f64::consts::SQRT_2),
            Gated::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3));
                0.5 * v * (1.0 + inner.tanh())
            }
        };
        for function in [Gated::HardSwish, Gated::Silu, Gated::Gelu, Gated::GeluTanh] {
            let (mut output, mut d_input) = (vec![0.0; values.len()], vec![0.0; values.len()]);
            gated_forward(function, &values, &mut output);
            gated_backward(function, &values, &vec![1.0; values.len()], &mut d_input);
            for ((&v, &output), &slope) in values.iter().zip(&output).zip(&d_input) {
                let v = f64::from(v);
                let near = 1e-6 * v.abs().max(1.0);
                assert!((f64::from(output) - want(function, v)).abs() < near, "{function:?}({v}): {output}");
                let difference = (want(function, v + 1e-5) - want(function, v - 1e-5)) / 2e-5;
                let is_kink = function == Gated::HardSwish && (v.abs() - 3.0).abs() < 1e-3;
                assert!(is_kink || (f64::from(slope) - difference).abs() < 4e-6, "{function:?}'({v}): {slope}");
            }
        }
        let mut nan = [0.0];
        gated_forward(Gated::HardSwish, &[f32::NAN], &mut nan);
        assert!(nan[0].is_nan());
    }
}
