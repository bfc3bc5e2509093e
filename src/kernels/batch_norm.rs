//! Batch norm: sums over the pixels of images, channel by channel, and what is made of them.
//!
//! Sums are f64 and have one order: the pixels of an image one after another, lanes across channels. Images, and groups of images, are
//! merged by [`merge_moments`] and [`merge_sums64`]. Square root and division are those of IEEE; nothing is estimated.

use super::conv::Rectifier;
use super::isa::dispatch;
use super::simd::Simd;

/// Runs `$body` for blocks of 16, 8, 4 and single channels: `$B` of them from `$first` on.
macro_rules! by_blocks {
    ($channels:expr, $first:ident, $B:ident => $body:expr) => {{
        let mut $first = 0;
        while $first + 16 <= $channels {
            const $B: usize = 16;
            $body;
            $first += 16;
        }
        if $first + 8 <= $channels {
            const $B: usize = 8;
            $body;
            $first += 8;
        }
        if $first + 4 <= $channels {
            const $B: usize = 4;
            $body;
            $first += 4;
        }
        while $first < $channels {
            const $B: usize = 1;
            $body;
            $first += 1;
        }
    }};
}

/// `B` values from `first` on.
#[inline(always)]
fn block<T, const B: usize>(values: &[T], first: usize) -> &[T; B] {
    values[first..].first_chunk().expect("a block of channels")
}

/// The same, to be written.
#[inline(always)]
fn block_mut<T, const B: usize>(values: &mut [T], first: usize) -> &mut [T; B] {
    values[first..].first_chunk_mut().expect("a block of channels")
}

dispatch! {
    /// Of each channel of `image [pixels, channels]`: the mean, then the sum of squares around it, to `moments [2, channels]`.
    ///
    /// # Panics
    /// When the image has no pixel, or no whole number of them.
    pub fn channel_moments(image: &[f32], moments: &mut [f64]) = channel_moments_loops
}

#[inline(always)]
fn channel_moments_loops<S: Simd>(image: &[f32], moments: &mut [f64]) {
    let channels = moments.len() / 2;
    assert!(!image.is_empty() && image.len().is_multiple_of(channels));
    let (mean, squares) = moments.split_at_mut(channels);
    by_blocks!(channels, first, B => moments_block::<B>(image, channels, first, mean, squares));
}

/// Sums around the first pixel: what is subtracted from the squares at the end is then of the size of the variance, whatever the mean.
#[inline(always)]
fn moments_block<const B: usize>(image: &[f32], channels: usize, first: usize, mean: &mut [f64], squares: &mut [f64]) {
    let shift = block::<f32, B>(image, first).map(f64::from);
    let (mut sum, mut square) = ([0.0f64; B], [0.0f64; B]);
    for pixel in image.chunks_exact(channels) {
        let values = block::<f32, B>(pixel, first);
        for i in 0..B {
            let value = f64::from(values[i]) - shift[i];
            sum[i] += value;
            square[i] = value.mul_add(value, square[i]);
        }
    }
    let pixels = (image.len() / channels) as f64;
    let (mean, squares) = (block_mut::<f64, B>(mean, first), block_mut::<f64, B>(squares, first));
    for i in 0..B {
        let offset = sum[i] / pixels;
        mean[i] = shift[i] + offset;
        let centred = (-sum[i]).mul_add(offset, square[i]);
        // NaN stays NaN: a diverged run must show.
        squares[i] = if centred < 0.0 { 0.0 } else { centred };
    }
}

dispatch! {
    /// Merges the moments `[2, channels]` of `other.0` values a channel into those of `count` values (Chan et al. 1983).
    ///
    /// # Panics
    /// When they are not of one length.
    pub fn merge_moments(count: f64, moments: &mut [f64], other: (f64, &[f64])) = merge_moments_loops
}

#[inline(always)]
fn merge_moments_loops<S: Simd>(count: f64, moments: &mut [f64], (other_count, other): (f64, &[f64])) {
    assert_eq!(moments.len(), other.len());
    let all = count + other_count;
    let (share, weight) = (other_count / all, count * other_count / all);
    let channels = moments.len() / 2;
    let (mean, squares) = moments.split_at_mut(channels);
    let (other_mean, other_squares) = other.split_at(channels);
    for i in 0..channels {
        let delta = other_mean[i] - mean[i];
        mean[i] = delta.mul_add(share, mean[i]);
        squares[i] = (delta * delta).mul_add(weight, squares[i] + other_squares[i]);
    }
}

dispatch! {
    /// `sums += values`
    ///
    /// # Panics
    /// When they are not of one length.
    pub fn merge_sums64(sums: &mut [f64], values: &[f64]) = merge_sums64_loops
}

#[inline(always)]
fn merge_sums64_loops<S: Simd>(sums: &mut [f64], values: &[f64]) {
    assert_eq!(sums.len(), values.len());
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// What the channels of a norm are multiplied by and shifted by after that, when they are standardised.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// The factors; without them, 1.
    pub weight: Option<&'a [f32]>,
    /// The shifts.
    pub bias: &'a [f32],
    /// What is added to a variance.
    pub eps: f64,
}

impl Affine<'_> {
    /// Factor and shift of a channel by mean and variance: `y = x · a + b`.
    #[inline(always)]
    fn of(&self, channel: usize, mean: f64, variance: f64) -> [f32; 2] {
        let a = (self.weight(channel) / (variance + self.eps).sqrt()) as f32;
        [a, (-mean).mul_add(f64::from(a), f64::from(self.bias[channel])) as f32]
    }

    #[inline(always)]
    fn weight(&self, channel: usize) -> f64 {
        self.weight.map_or(1.0, |weight| f64::from(weight[channel]))
    }

    /// `coefficients [2, channels]`: factors and shifts for channels with these means and variances.
    ///
    /// # Panics
    /// When lengths differ.
    pub fn coefficients(&self, moments: impl Iterator<Item = [f64; 2]>, coefficients: &mut [f32]) {
        let (a, b) = coefficients.split_at_mut(self.bias.len());
        for (channel, [mean, variance]) in moments.enumerate() {
            [a[channel], b[channel]] = self.of(channel, mean, variance);
        }
    }

    /// `coefficients [4, channels]` of [`norm_backward`], from the moments `[2, channels]` of `count` values a channel and the sums that
    /// [`norm_gradient_sums`] gave for them.
    pub fn gradient_coefficients(&self, count: f64, moments: &[f64], sums: &[f64], coefficients: &mut [f32]) {
        let channels = self.bias.len();
        for channel in 0..channels {
            let (mean, variance) = (moments[channel], moments[channels + channel] / count);
            let inverse = 1.0 / (variance + self.eps).sqrt();
            let factor = self.weight(channel) * inverse;
            let slope = -factor * inverse * inverse * sums[channels + channel] / count;
            let shift = -factor * sums[channel] / count;
            for (place, value) in [factor, slope, shift, mean].into_iter().enumerate() {
                coefficients[place * channels + channel] = value as f32;
            }
        }
    }

    /// The gradients of bias and weight of a channel, from the moments of `count` values and the sums that [`norm_gradient_sums`] gave.
    pub fn gradients(&self, count: f64, moments: &[f64], sums: &[f64], channel: usize) -> [f32; 2] {
        let channels = self.bias.len();
        let variance = moments[channels + channel] / count;
        [sums[channel] as f32, (sums[channels + channel] / (variance + self.eps).sqrt()) as f32]
    }
}

dispatch! {
    /// `output = input · a + b`, rounded once, channel by channel, and the rectifier of that, if there is one; `coefficients [2, channels]`
    /// are `a`, then `b`.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn norm_forward(
        coefficients: &[f32],
        rectifier: Option<Rectifier>,
        input: &[f32],
        output: &mut [f32],
    ) = norm_forward_loops
}

#[inline(always)]
fn norm_forward_loops<S: Simd>(coefficients: &[f32], rectifier: Option<Rectifier>, input: &[f32], output: &mut [f32]) {
    let channels = coefficients.len() / 2;
    assert!(input.len() == output.len() && input.len().is_multiple_of(channels));
    by_blocks!(channels, first, B => forward_block::<B>(coefficients, first, rectifier, input, output));
}

#[inline(always)]
fn forward_block<const B: usize>(
    coefficients: &[f32],
    first: usize,
    rectifier: Option<Rectifier>,
    input: &[f32],
    output: &mut [f32],
) {
    let channels = coefficients.len() / 2;
    let (a, b) = (*block::<f32, B>(coefficients, first), *block::<f32, B>(coefficients, channels + first));
    for (input, output) in input.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
        let (input, output) = (block::<f32, B>(input, first), block_mut::<f32, B>(output, first));
        for i in 0..B {
            output[i] = rectified(rectifier, input[i].mul_add(a[i], b[i]));
        }
    }
}

/// NaN stays NaN: a diverged run must show.
#[inline(always)]
fn rectified(rectifier: Option<Rectifier>, value: f32) -> f32 {
    match rectifier {
        None => value,
        Some(Rectifier::Relu) => {
            if value <= 0.0 {
                0.0
            } else {
                value
            }
        }
        Some(Rectifier::Leaky(slope)) => {
            if value <= 0.0 {
                slope * value
            } else {
                value
            }
        }
    }
}

dispatch! {
    /// Adds to `sums [2, channels]` the sums over the pixels of an image: of the gradient of the norm's output, and of that times the
    /// input's distance from the channel's mean, the first of `moments [2, channels]`.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn norm_gradient_sums(
        input: &[f32],
        d_output: &[f32],
        moments: &[f64],
        sums: &mut [f64],
    ) = norm_gradient_sums_loops
}

#[inline(always)]
fn norm_gradient_sums_loops<S: Simd>(input: &[f32], d_output: &[f32], moments: &[f64], sums: &mut [f64]) {
    let channels = moments.len() / 2;
    assert!(input.len() == d_output.len() && input.len().is_multiple_of(channels) && sums.len() == moments.len());
    by_blocks!(channels, first, B => gradient_sums_block::<B>(input, d_output, first, moments, sums));
}

#[inline(always)]
fn gradient_sums_block<const B: usize>(
    input: &[f32],
    d_output: &[f32],
    first: usize,
    moments: &[f64],
    sums: &mut [f64],
) {
    let channels = moments.len() / 2;
    let mean = *block::<f64, B>(moments, first);
    let (mut sum, mut product) = (*block::<f64, B>(sums, first), *block::<f64, B>(sums, channels + first));
    for (input, d_output) in input.chunks_exact(channels).zip(d_output.chunks_exact(channels)) {
        let (input, d_output) = (block::<f32, B>(input, first), block::<f32, B>(d_output, first));
        for i in 0..B {
            let gradient = f64::from(d_output[i]);
            sum[i] += gradient;
            product[i] = gradient.mul_add(f64::from(input[i]) - mean[i], product[i]);
        }
    }
    *block_mut::<f64, B>(sums, first) = sum;
    *block_mut::<f64, B>(sums, channels + first) = product;
}

dispatch! {
    /// The gradient of the norm's output becomes that of its input, in place, by [`Affine::gradient_coefficients`].
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn norm_backward(coefficients: &[f32], input: &[f32], gradient: &mut [f32]) = norm_backward_loops
}

#[inline(always)]
fn norm_backward_loops<S: Simd>(coefficients: &[f32], input: &[f32], gradient: &mut [f32]) {
    let channels = coefficients.len() / 4;
    assert!(input.len() == gradient.len() && input.len().is_multiple_of(channels));
    by_blocks!(channels, first, B => backward_block::<B>(coefficients, first, input, gradient));
}

#[inline(always)]
fn backward_block<const B: usize>(coefficients: &[f32], first: usize, input: &[f32], gradient: &mut [f32]) {
    let channels = coefficients.len() / 4;
    let [factor, slope, shift, mean] =
        [0, 1, 2, 3].map(|place| *block::<f32, B>(coefficients, place * channels + first));
    for (input, gradient) in input.chunks_exact(channels).zip(gradient.chunks_exact_mut(channels)) {
        let (input, gradient) = (block::<f32, B>(input, first), block_mut::<f32, B>(gradient, first));
        for i in 0..B {
            let centred = input[i] - mean[i];
            gradient[i] = centred.mul_add(slope[i], gradient[i].mul_add(factor[i], shift[i]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_parts_merge_to_those_of_the_whole() {
        // Far from zero: squares around it would lose everything.
        let value = |i: usize| 1e4 + ((i * 7919) % 101) as f32 * 0.125;
        let image: Vec<f32> = (0..5 * 21).map(value).collect();
        let channels = 5;
        let of = |pixels: std::ops::Range<usize>| {
            let mut moments = vec![0.0; 2 * channels];
            channel_moments(&image[pixels.start * channels..pixels.end * channels], &mut moments);
            moments
        };
        let whole = of(0..21);
        let mut merged = of(0..8);
        merge_moments(8.0, &mut merged, (13.0, &of(8..21)));
        for channel in 0..channels {
            let values: Vec<f64> = (0..21).map(|pixel| f64::from(image[pixel * channels + channel])).collect();
            let mean = values.iter().sum::<f64>() / 21.0;
            let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
            for moments in [&whole, &merged] {
                assert!((moments[channel] - mean).abs() < 1e-11, "{mean} {moments:?}");
                assert!((moments[channels + channel] - squares).abs() < 1e-9, "{squares} {moments:?}");
            }
        }
    }
}
