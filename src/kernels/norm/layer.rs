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
    for (inputs, outputs) in input.chunks(LINES * channels).zip(output.chunks_mut(LINES * channels)) {
        let moments = Moments::of(inputs, channels, eps);
        let lines = inputs.chunks_exact(channels).zip(outputs.chunks_exact_mut(channels));
        for ((input, output), (mean, inverse)) in lines.zip(moments.each()) {
            for (((o, &x), &w), &b) in output.iter_mut().zip(input).zip(weight).zip(bias) {
                *o = ((x - mean) * inverse).mul_add(w, b);
            }
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
    let mut rest = 0;
    for (inputs, d_outputs) in input.chunks(LINES * channels).zip(d_output.chunks(LINES * channels)) {
        let moments = Moments::of(inputs, channels, eps);
        let lines = || inputs.chunks_exact(channels).zip(d_outputs.chunks_exact(channels)).zip(moments.each());
        if let Some([d_weight, d_bias]) = &mut d_params {
            for ((input, d_output), (mean, inverse)) in lines() {
                for (((w, b), &x), &d) in d_weight.iter_mut().zip(d_bias.iter_mut()).zip(input).zip(d_output) {
                    *w = d.mul_add((x - mean) * inverse, *w);
                    *b += d;
                }
            }
        }
        if let Some(d_input) = &mut d_input {
            let d_inputs = d_input[rest..rest + inputs.len()].chunks_exact_mut(channels);
            for (((input, d_output), (mean, inverse)), d_input) in lines().zip(d_inputs) {
                let share = -f64::from(inverse) / channels as f64;
                let [sum, product] = sums_of_gradients(input, d_output, weight, [mean, inverse]);
                let (shift, slope) = ((share * sum) as f32, (share * product) as f32);
                for (((g, &x), &d), &w) in d_input.iter_mut().zip(input).zip(d_output).zip(weight) {
                    *g = (d * w).mul_add(inverse, ((x - mean) * inverse).mul_add(slope, shift));
                }
            }
        }
        rest += inputs.len();
    }
}

/// Lines whose moments are formed together: divisions and roots are slow one after the other.
const LINES: usize = 8;

/// Of some lines.
struct Moments {
    mean: [f32; LINES],
    /// One over the deviation.
    inverse: [f32; LINES],
}

impl Moments {
    #[inline(always)]
    fn of(lines: &[f32], channels: usize, eps: f64) -> Moments {
        let count = channels as f64;
        let (mut means, mut variances) = ([0.0; LINES], [0.0; LINES]);
        for (mean, line) in means.iter_mut().zip(lines.chunks_exact(channels)) {
            *mean = sum_of_lanes(lanes(line, f64::from));
        }
        means.iter_mut().for_each(|mean| *mean /= count);
        for ((variance, &mean), line) in variances.iter_mut().zip(&means).zip(lines.chunks_exact(channels)) {
            let square = |value: f32| (f64::from(value) - mean) * (f64::from(value) - mean);
            *variance = sum_of_lanes(lanes(line, square));
        }
        let mut moments = Moments { mean: [0.0; LINES], inverse: [0.0; LINES] };
        for line in 0..LINES {
            moments.mean[line] = means[line] as f32;
            moments.inverse[line] = inverse_deviation(variances[line] / count, eps);
        }
        moments
    }

    /// Mean, and one over the deviation, line by line.
    #[inline(always)]
    fn each(&self) -> impl Iterator<Item = (f32, f32)> + '_ {
        self.mean.iter().copied().zip(self.inverse.iter().copied())
    }
}

/// The sums of the gradient of the normalised values, and of its products with these.
#[inline(always)]
fn sums_of_gradients(input: &[f32], d_output: &[f32], weight: &[f32], [mean, inverse]: [f32; 2]) -> [f64; 2] {
    let (mut sums, mut products) = ([0.0; LANES], [0.0; LANES]);
    let [(input, last), (d_output, d_last), (weight, w_last)] =
        [input, d_output, weight].map(<[f32]>::as_chunks::<LANES>);
    let whole = input.iter().zip(d_output).zip(weight);
    // A last stretch with zeros behind it: they add nothing.
    let last = [padded(last), padded(d_last), padded(w_last)];
    for ((input, d_output), weight) in whole.chain([((&last[0], &last[1]), &last[2])]) {
        for lane in 0..LANES {
            let d = f64::from(d_output[lane]) * f64::from(weight[lane]);
            sums[lane] += d;
            products[lane] += d * f64::from((input[lane] - mean) * inverse);
        }
    }
    [sum_of_lanes(sums), sum_of_lanes(products)]
}

#[inline(always)]
fn padded(values: &[f32]) -> [f32; LANES] {
    let mut all = [0.0; LANES];
    all[..values.len()].copy_from_slice(values);
    all
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
