//! Channel scaling: the pixels of an image times one factor a channel.

use super::isa::dispatch;
use super::simd::Simd;

/// Channels whose sums over the pixels stay in registers.
const BLOCK: usize = 16;

/// Images of `pixels` pixels, as many as there are rows of `channels` factors.
fn check(channels: usize, image: usize, factors: usize) -> usize {
    let rows = factors / channels;
    assert!(factors == rows * channels && rows > 0, "{factors} factors of {channels} channels");
    assert!(image.is_multiple_of(factors), "{image} values of {rows} images of {channels} channels");
    image / factors
}

dispatch! {
    /// `output[n, p, c] = map[n, p, c] · factors[n, c]`.
    pub fn scale_forward(channels: usize, map: &[f32], factors: &[f32], output: &mut [f32]) = scale_forward_loops
}

#[inline(always)]
fn scale_forward_loops<S: Simd>(channels: usize, map: &[f32], factors: &[f32], output: &mut [f32]) {
    let image = check(channels, map.len(), factors.len()) * channels;
    assert_eq!(map.len(), output.len());
    let rows = map.chunks_exact(image).zip(output.chunks_exact_mut(image));
    for ((map, output), factors) in rows.zip(factors.chunks_exact(channels)) {
        for (map, output) in map.chunks_exact(channels).zip(output.chunks_exact_mut(channels)) {
            output.iter_mut().zip(map).zip(factors).for_each(|((output, map), factor)| *output = map * factor);
        }
    }
}

dispatch! {
    /// The gradient of the image, `d_output[n, p, c] · factors[n, c]`, written to `d_map`, or with `accumulate` added.
    pub fn scale_backward_map(
        channels: usize,
        factors: &[f32],
        d_output: &[f32],
        d_map: &mut [f32],
        accumulate: bool,
    ) = scale_backward_map_loops
}

#[inline(always)]
fn scale_backward_map_loops<S: Simd>(
    channels: usize,
    factors: &[f32],
    d_output: &[f32],
    d_map: &mut [f32],
    accumulate: bool,
) {
    if !accumulate {
        return scale_forward_loops::<S>(channels, d_output, factors, d_map);
    }
    let image = check(channels, d_output.len(), factors.len()) * channels;
    assert_eq!(d_output.len(), d_map.len());
    let rows = d_output.chunks_exact(image).zip(d_map.chunks_exact_mut(image));
    for ((d_output, d_map), factors) in rows.zip(factors.chunks_exact(channels)) {
        for (d_output, d_map) in d_output.chunks_exact(channels).zip(d_map.chunks_exact_mut(channels)) {
            d_map.iter_mut().zip(d_output).zip(factors).for_each(|((d_map, d_output), factor)| {
                *d_map += d_output * factor;
            });
        }
    }
}

dispatch! {
    /// The gradients of the factors, `Σ map[n, p, c] · d_output[n, p, c]` in the order of the pixels, written to `d_factors`, or with
    /// `accumulate` added.
    pub fn scale_backward_factors(
        channels: usize,
        map: &[f32],
        d_output: &[f32],
        d_factors: &mut [f32],
        accumulate: bool,
    ) = scale_backward_factors_loops
}

#[inline(always)]
fn scale_backward_factors_loops<S: Simd>(
    channels: usize,
    map: &[f32],
    d_output: &[f32],
    d_factors: &mut [f32],
    accumulate: bool,
) {
    let image = check(channels, map.len(), d_factors.len()) * channels;
    assert_eq!(map.len(), d_output.len());
    let rows = map.chunks_exact(image).zip(d_output.chunks_exact(image));
    for ((map, d_output), d_factors) in rows.zip(d_factors.chunks_exact_mut(channels)) {
        for first in (0..channels).step_by(BLOCK) {
            let count = BLOCK.min(channels - first);
            let mut sums = [0.0f32; BLOCK];
            if count == BLOCK {
                add_products::<BLOCK>(channels, &map[first..], &d_output[first..], &mut sums, BLOCK);
            } else {
                add_products::<0>(channels, &map[first..], &d_output[first..], &mut sums, count);
            }
            for (d_factor, sum) in d_factors[first..first + count].iter_mut().zip(sums) {
                *d_factor = if accumulate { *d_factor + sum } else { sum };
            }
        }
    }
}

/// Adds the products of the first `count` channels of every pixel, `WHOLE` where that is known.
#[inline(always)]
fn add_products<const WHOLE: usize>(channels: usize, a: &[f32], b: &[f32], sums: &mut [f32; BLOCK], count: usize) {
    let count = if WHOLE > 0 { WHOLE } else { count };
    for (a, b) in a.chunks(channels).zip(b.chunks(channels)) {
        sums[..count].iter_mut().zip(&a[..count]).zip(&b[..count]).for_each(|((sum, a), b)| *sum = a.mul_add(*b, *sum));
    }
}
