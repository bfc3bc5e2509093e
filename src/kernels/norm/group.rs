//! Group normalisation: neighbouring channels of all pixels of an image by their common mean and variance.

use super::{LANES, NormBackward, NormForward, inverse_deviation, sum_of_lanes};
use crate::isa::dispatch;
use crate::simd::Simd;

/// The geometry of a group normalisation; the batch follows from the rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNormShape {
    /// Pixels of an image.
    pub pixels: usize,
    /// Channels.
    pub channels: usize,
    /// Groups of neighbouring channels, all of one size.
    pub groups: usize,
    /// What is added to a variance.
    pub eps: f64,
}

impl GroupNormShape {
    /// Floats of scratch memory: sums in f64, numbers in f32, a channel each; and what lies in front of the first f64.
    pub fn scratch(&self) -> usize {
        (2 * SUMS + NUMBERS) * self.channels + 1
    }

    fn check(&self, rows: usize, params: [usize; 2]) {
        let image = self.pixels * self.channels;
        assert!(image > 0 && rows.is_multiple_of(image), "rows of {self:?}");
        assert!(self.groups > 0 && self.channels.is_multiple_of(self.groups), "groups of {self:?}");
        assert!(params.iter().all(|params| *params == self.channels), "weight and bias of {self:?}");
    }
}

const SUMS: usize = 3;
const NUMBERS: usize = 4;

dispatch! {
    /// `output = (input − mean) / √(variance + eps) · weight + bias`, mean and variance those of the pixel's image and the channel's group.
    pub fn group_norm_forward(shape: &GroupNormShape, pass: NormForward<'_>) = forward
}

dispatch! {
    /// The gradients of input, weight and bias; in those of weight and bias, the sum over an image is in f64.
    pub fn group_norm_backward(shape: &GroupNormShape, pass: NormBackward<'_>) = backward
}

/// Numbers of every channel.
struct Channels<'a> {
    sums: [&'a mut [f64]; SUMS],
    mean: &'a mut [f32],
    inverse: &'a mut [f32],
    shift: &'a mut [f32],
    slope: &'a mut [f32],
}

impl<'a> Channels<'a> {
    #[inline(always)]
    fn of(scratch: &'a mut [f32], channels: usize) -> Channels<'a> {
        let (numbers, sums) = scratch.split_at_mut(NUMBERS * channels);
        // SAFETY: every bit pattern of two floats is one of an f64.
        let (_, sums, _) = unsafe { sums.align_to_mut::<f64>() };
        let (first, sums) = sums[..SUMS * channels].split_at_mut(channels);
        let (second, third) = sums.split_at_mut(channels);
        let (mean, numbers) = numbers.split_at_mut(channels);
        let (inverse, numbers) = numbers.split_at_mut(channels);
        let (shift, slope) = numbers.split_at_mut(channels);
        Channels { sums: [first, second, third], mean, inverse, shift, slope }
    }

    /// Mean, and one over the deviation, of every channel's group.
    #[inline(always)]
    fn moments(&mut self, shape: &GroupNormShape, image: &[f32]) {
        let GroupNormShape { pixels, channels, groups, eps } = *shape;
        let Channels { sums: [sums, centres, _], mean, inverse, .. } = self;
        let group = channels / groups;
        let count = (pixels * group) as f64;
        sums.fill(0.0);
        for pixel in image.chunks_exact(channels) {
            sums.iter_mut().zip(pixel).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let of_groups = sums.chunks_exact(group).zip(centres.chunks_exact_mut(group));
        for ((sums, centres), mean) in of_groups.zip(mean.chunks_exact_mut(group)) {
            let centre = total(sums) / count;
            centres.fill(centre);
            mean.fill(centre as f32);
        }
        sums.fill(0.0);
        for pixel in image.chunks_exact(channels) {
            for ((sum, &x), &centre) in sums.iter_mut().zip(pixel).zip(centres.iter()) {
                let x = f64::from(x) - centre;
                *sum += x * x;
            }
        }
        for (sums, inverse) in sums.chunks_exact(group).zip(inverse.chunks_exact_mut(group)) {
            inverse.fill(inverse_deviation(total(sums) / count, eps));
        }
    }
}

/// The sum of a group's channels.
#[inline(always)]
fn total(values: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    for values in values.chunks(LANES) {
        lanes.iter_mut().zip(values).for_each(|(lane, value)| *lane += value);
    }
    sum_of_lanes(lanes)
}

#[inline(always)]
fn forward<S: Simd>(shape: &GroupNormShape, pass: NormForward<'_>) {
    let NormForward { input, weight, bias, output, scratch } = pass;
    shape.check(input.len(), [weight.len(), bias.len()]);
    assert_eq!(input.len(), output.len());
    let (channels, image) = (shape.channels, shape.pixels * shape.channels);
    let mut numbers = Channels::of(scratch, channels);
    for (input, output) in input.chunks_exact(image).zip(output.chunks_exact_mut(image)) {
        numbers.moments(shape, input);
        let (mean, inverse) = (&*numbers.mean, &*numbers.inverse);
        for (input, output) in input.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
            let values = output.iter_mut().zip(input).zip(mean).zip(inverse).zip(weight).zip(bias);
            values.for_each(|(((((o, x), mean), inverse), w), b)| *o = ((x - mean) * inverse).mul_add(*w, *b));
        }
    }
}

#[inline(always)]
fn backward<S: Simd>(shape: &GroupNormShape, pass: NormBackward<'_>) {
    let NormBackward { input, weight, d_output, mut d_input, mut d_params, accumulate, scratch } = pass;
    shape.check(input.len(), [weight.len(); 2]);
    assert_eq!(input.len(), d_output.len());
    assert!(d_input.as_ref().is_none_or(|d_input| d_input.len() == input.len()));
    let (channels, image) = (shape.channels, shape.pixels * shape.channels);
    assert!(d_params.iter().flatten().all(|params| params.len() == channels));
    if let Some(params) = d_params.as_mut().filter(|_| !accumulate) {
        params.iter_mut().for_each(|params| params.fill(0.0));
    }
    let mut numbers = Channels::of(scratch, channels);
    for (index, (input, d_output)) in input.chunks_exact(image).zip(d_output.chunks_exact(image)).enumerate() {
        numbers.moments(shape, input);
        sum_gradients(&mut numbers, channels, input, d_output);
        if let Some([d_weight, d_bias]) = &mut d_params {
            let [sums, products, _] = &numbers.sums;
            d_weight.iter_mut().zip(products.iter()).for_each(|(d_weight, &product)| *d_weight += product as f32);
            d_bias.iter_mut().zip(sums.iter()).for_each(|(d_bias, &sum)| *d_bias += sum as f32);
        }
        if let Some(d_input) = &mut d_input {
            slopes(&mut numbers, shape, weight);
            let Channels { mean, inverse, shift, slope, .. } = &numbers;
            let d_input = &mut d_input[index * image..(index + 1) * image];
            let pixels = input.chunks_exact(channels).zip(d_output.chunks_exact(channels));
            for ((input, d_output), d_input) in pixels.zip(d_input.chunks_exact_mut(channels)) {
                let values = d_input.iter_mut().zip(input).zip(d_output).zip(weight);
                let values = values.zip(mean.iter()).zip(inverse.iter()).zip(shift.iter()).zip(slope.iter());
                for (((((((g, x), d), w), mean), inverse), shift), slope) in values {
                    *g = (d * w).mul_add(*inverse, ((x - mean) * inverse).mul_add(*slope, *shift));
                }
            }
        }
    }
}

/// The sums over an image, a channel each, of the output's gradient, and of its products with the normalised input.
#[inline(always)]
fn sum_gradients(numbers: &mut Channels<'_>, channels: usize, input: &[f32], d_output: &[f32]) {
    let Channels { sums: [sums, products, _], mean, inverse, .. } = numbers;
    sums.fill(0.0);
    products.fill(0.0);
    for (input, d_output) in input.chunks_exact(channels).zip(d_output.chunks_exact(channels)) {
        let values = sums.iter_mut().zip(products.iter_mut()).zip(input).zip(d_output);
        for (((((sum, product), x), &d), mean), inverse) in values.zip(mean.iter()).zip(inverse.iter()) {
            *sum += f64::from(d);
            *product += f64::from(d) * f64::from((x - mean) * inverse);
        }
    }
}

/// What the gradient of every input takes of the sums of its group: a constant, and a factor of the normalised input.
#[inline(always)]
fn slopes(numbers: &mut Channels<'_>, shape: &GroupNormShape, weight: &[f32]) {
    let group = shape.channels / shape.groups;
    let count = (shape.pixels * group) as f64;
    let Channels { sums: [sums, products, weighted], inverse, shift, slope, .. } = numbers;
    for (sums, results) in [(sums, shift), (products, slope)] {
        for ((weighted, sum), &w) in weighted.iter_mut().zip(sums.iter()).zip(weight) {
            *weighted = sum * f64::from(w);
        }
        let of_groups = weighted.chunks_exact(group).zip(inverse.chunks_exact(group));
        for ((weighted, inverse), result) in of_groups.zip(results.chunks_exact_mut(group)) {
            result.fill((-f64::from(inverse[0]) * total(weighted) / count) as f32);
        }
    }
}
