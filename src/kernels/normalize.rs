//! From pixels to what the network reads. Sums over u8 are integers, so their order cannot matter.

use super::isa::dispatch;
use super::simd::Simd;

/// Pixels that are worked on together, where all channels of an image are: the compiler makes vectors of them.
const TOGETHER: usize = 16;

/// As many pixels as a lane's sum of squares takes in 32 bits.
const MOST: usize = (u32::MAX / (255 * 255)) as usize;

dispatch! {
    /// Sum and sum of squares of `sums.len()` channels of an image `[pixels, channels]`, from channel `first` on.
    pub fn channel_sums(channels: usize, first: usize, pixels: &[u8], sums: &mut [[u64; 2]]) = channel_sums_loops
}

#[inline(always)]
fn channel_sums_loops<S: Simd>(channels: usize, first: usize, pixels: &[u8], sums: &mut [[u64; 2]]) {
    assert!(first + sums.len() <= channels && pixels.len().is_multiple_of(channels));
    match (channels, sums.len()) {
        (1, 1) => all_channels::<1, { TOGETHER }>(pixels, sums),
        (3, 3) => all_channels::<3, { 3 * TOGETHER }>(pixels, sums),
        (4, 4) => all_channels::<4, { 4 * TOGETHER }>(pixels, sums),
        _ => {
            for (channel, sums) in sums.iter_mut().enumerate() {
                *sums = [0; 2];
                // Nothing is there to begin at in an image without pixels.
                for &value in pixels.iter().skip(first + channel).step_by(channels) {
                    add(sums, u64::from(value), u64::from(value) * u64::from(value));
                }
            }
        }
    }
}

#[inline(always)]
fn add(sums: &mut [u64; 2], sum: u64, squares: u64) {
    sums[0] += sum;
    sums[1] += squares;
}

/// `LANES` values, a multiple of the channels `C`, at a time.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn all_channels<const C: usize, const LANES: usize>(pixels: &[u8], sums: &mut [[u64; 2]]) {
    sums.fill([0; 2]);
    let whole = pixels.len() / LANES * LANES;
    for part in pixels[..whole].chunks(MOST * LANES) {
        let (mut sum, mut squares) = ([0u32; LANES], [0u32; LANES]);
        for values in part.chunks_exact(LANES) {
            for lane in 0..LANES {
                let value = u32::from(values[lane]);
                sum[lane] += value;
                squares[lane] += value * value;
            }
        }
        for lane in 0..LANES {
            add(&mut sums[lane % C], u64::from(sum[lane]), u64::from(squares[lane]));
        }
    }
    for (lane, &value) in pixels[whole..].iter().enumerate() {
        add(&mut sums[lane % C], u64::from(value), u64::from(value) * u64::from(value));
    }
}

dispatch! {
    /// `output = (pixel − mean) · inverse` for `mean.len()` channels of an image `[pixels, channels]`, from channel `first` on; the
    /// others' places in `output` are left alone.
    pub fn standardise(
        channels: usize,
        first: usize,
        mean: &[f32],
        inverse: &[f32],
        pixels: &[u8],
        output: &mut [f32],
    ) = standardise_loops
}

#[inline(always)]
fn standardise_loops<S: Simd>(
    channels: usize,
    first: usize,
    mean: &[f32],
    inverse: &[f32],
    pixels: &[u8],
    output: &mut [f32],
) {
    assert!(mean.len() == inverse.len() && first + mean.len() <= channels && pixels.len() == output.len());
    match (channels, mean.len()) {
        (1, 1) => standardise_all::<1, { TOGETHER }>(mean, inverse, pixels, output),
        (3, 3) => standardise_all::<3, { 3 * TOGETHER }>(mean, inverse, pixels, output),
        (4, 4) => standardise_all::<4, { 4 * TOGETHER }>(mean, inverse, pixels, output),
        _ => {
            for (pixel, out) in pixels.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
                let values = out[first..].iter_mut().zip(&pixel[first..]);
                for ((out, &value), (mean, inverse)) in values.zip(mean.iter().zip(inverse)) {
                    *out = (f32::from(value) - mean) * inverse;
                }
            }
        }
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn standardise_all<const C: usize, const LANES: usize>(
    mean: &[f32],
    inverse: &[f32],
    pixels: &[u8],
    output: &mut [f32],
) {
    let (mut means, mut inverses) = ([0.0; LANES], [0.0; LANES]);
    for lane in 0..LANES {
        (means[lane], inverses[lane]) = (mean[lane % C], inverse[lane % C]);
    }
    let mut values = pixels.chunks_exact(LANES);
    let mut outputs = output.chunks_exact_mut(LANES);
    for (values, output) in (&mut values).zip(&mut outputs) {
        for lane in 0..LANES {
            output[lane] = (f32::from(values[lane]) - means[lane]) * inverses[lane];
        }
    }
    for (lane, (&value, output)) in values.remainder().iter().zip(outputs.into_remainder()).enumerate() {
        *output = (f32::from(value) - means[lane]) * inverses[lane];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// Every instruction set and every number of channels, against the plain sums.
    #[test]
    fn sums_and_values_are_those_of_plain_loops() {
        for (channels, pixels) in [(1, 0), (1, 1), (1, 37), (2, 19), (3, 16), (3, 531), (4, 50), (5, 33), (17, 20)] {
            let image: Vec<u8> = (0..channels * pixels).map(|i| (i * i % 256) as u8).collect();
            for isa in Isa::available() {
                for (first, count) in [(0, channels), (channels - 1, 1)] {
                    let mut sums = vec![[7; 2]; count];
                    isa.with(|| channel_sums(channels, first, &image, &mut sums));
                    let mean: Vec<f32> = (0..count).map(|c| c as f32 * 3.3 + 100.0).collect();
                    let inverse: Vec<f32> = (0..count).map(|c| 1.0 / (c + 3) as f32).collect();
                    let mut output = vec![-1.0; image.len()];
                    isa.with(|| standardise(channels, first, &mean, &inverse, &image, &mut output));
                    for c in 0..channels {
                        let of = |place: usize| place % channels == c;
                        let places: Vec<usize> = (0..image.len()).filter(|&place| of(place)).collect();
                        let inside = c.checked_sub(first).filter(|&c| c < count);
                        if let Some(c) = inside {
                            let sum = places.iter().map(|&p| u64::from(image[p])).sum::<u64>();
                            let squares = places.iter().map(|&p| u64::from(image[p]).pow(2)).sum::<u64>();
                            assert_eq!(sums[c], [sum, squares]);
                        }
                        for place in places {
                            let wanted = inside.map_or(-1.0, |c| (f32::from(image[place]) - mean[c]) * inverse[c]);
                            assert_eq!(output[place].to_bits(), wanted.to_bits(), "{channels} channels, {isa:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn sums_of_a_very_large_white_image_do_not_overflow() {
        let image = vec![255; (MOST + 3) * TOGETHER];
        let mut sums = [[0; 2]];
        channel_sums(1, 0, &image, &mut sums);
        assert_eq!(sums, [[255 * image.len() as u64, 255 * 255 * image.len() as u64]]);
    }
}
