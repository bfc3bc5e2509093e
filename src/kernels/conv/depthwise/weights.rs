//! The gradients of weight and bias: one chain an element, over the pixels of an image row by row, image after image. A vector of
//! channels at a time is copied out of some rows of the image, with its padding, so that all places of the window are alike.

use super::super::super::isa::dispatch;
use super::super::super::shape::ConvShape;
use super::super::super::simd::{Simd, Work, load_some, store_some};
use super::super::backward_weights::add_pixels;
use super::channels::{check, repeat, repeated_len};

/// The most lanes of a vector.
const LANES: usize = 16;

/// Floats of the channels that are copied out at once: a part of the first-level cache.
const BLOCK: usize = 6 * 1024;

/// Columns of the input that windows stand on, padding counted.
fn width(shape: &ConvShape) -> usize {
    (shape.w_out - 1) * shape.stride + shape.extent()[1]
}

/// Rows of the input that the windows of `rows` output rows stand on.
fn height(shape: &ConvShape, rows: usize) -> usize {
    (rows - 1) * shape.stride + shape.extent()[0]
}

/// Output rows that are worked on at once.
fn rows_at_once(shape: &ConvShape) -> usize {
    let rows = BLOCK / (width(shape) * LANES);
    (rows.saturating_sub(shape.extent()[0]) / shape.stride + 1).min(shape.h_out)
}

/// Floats of the channels that are copied out.
pub fn columns_len(shape: &ConvShape) -> usize {
    height(shape, rows_at_once(shape)) * width(shape) * LANES
}

/// Adds to `d_weight [kh, kw, 1, c_out]` and `d_bias [c_out]` (or empty) what one image gives: `input [h_in, w_in, c_in]`,
/// `d_output [h_out, w_out, c_out]`.
pub fn depthwise_backward_weights(
    shape: &ConvShape,
    input: &[f32],
    d_output: &[f32],
    d_weight: &mut [f32],
    d_bias: &mut [f32],
    scratch: &mut [f32],
) {
    check(shape, input.len(), d_output.len(), d_weight.len());
    assert!(d_bias.is_empty() || d_bias.len() == shape.c_out, "bias of {shape:?}");
    let (repeated, columns) = scratch.split_at_mut(repeated_len(shape));
    let input = if repeated.is_empty() {
        input
    } else {
        repeat(shape, input, repeated);
        repeated
    };
    add_weights(shape, input, d_output, d_weight, columns);
    add_bias(shape, d_output, d_bias);
}

dispatch! {
    /// The bias's part: each row in four chains.
    fn add_bias(shape: &ConvShape, d_output: &[f32], d_bias: &mut [f32]) = add_bias_rows
}

#[inline(always)]
fn add_bias_rows<S: Simd>(shape: &ConvShape, d_output: &[f32], d_bias: &mut [f32]) {
    for row in d_output.chunks_exact(shape.w_out * shape.c_out) {
        add_pixels::<S>(row, d_bias);
    }
}

dispatch! {
    /// The weights' part, of an input with as many channels as the output.
    fn add_weights(
        shape: &ConvShape,
        input: &[f32],
        d_output: &[f32],
        d_weight: &mut [f32],
        columns: &mut [f32],
    ) = add_weights_loops
}

#[inline(always)]
fn add_weights_loops<S: Simd>(
    shape: &ConvShape,
    input: &[f32],
    d_output: &[f32],
    d_weight: &mut [f32],
    columns: &mut [f32],
) {
    let ConvShape { h_in, w_in, h_out, w_out, c_out: channels, kh, kw, .. } = *shape;
    assert!(input.len() == h_in * w_in * channels && d_output.len() == h_out * w_out * channels);
    assert!(d_weight.len() == kh * kw * channels && columns.len() >= columns_len(shape) && S::LANES <= LANES);
    // All channels of some rows, then the next rows: the rows stay in the second-level cache.
    for first in (0..h_out).step_by(rows_at_once(shape)) {
        let rows = rows_at_once(shape).min(h_out - first);
        for channel in (0..channels).step_by(S::LANES) {
            let count = S::LANES.min(channels - channel);
            let part = Part { first, rows, channel, count };
            // SAFETY: the asserts above: these rows of the image and of the gradient, and these channels, lie in them.
            unsafe {
                copy_out::<S>(shape, &part, input, columns);
                let d_output = d_output.as_ptr().add(first * w_out * channels + channel);
                for (ky, kx, rows_of_tile, columns_of_tile) in tiles(kh, kw) {
                    let at = (ky * shape.dilation * width(shape) + kx * shape.dilation) * S::LANES;
                    let walk = Walk {
                        shape,
                        rows,
                        from: columns.as_ptr().add(at),
                        d_output,
                        to: d_weight.as_mut_ptr().add((ky * kw + kx) * channels + channel),
                        count,
                    };
                    one_tile::<S>(&walk, rows_of_tile, columns_of_tile);
                }
            }
        }
    }
}

/// Some output rows, a vector of channels wide.
struct Part {
    first: usize,
    rows: usize,
    channel: usize,
    count: usize,
}

/// Copies the rows of the image that these windows stand on, `[height, width, lanes]`, zeros beyond the border.
#[inline(always)]
unsafe fn copy_out<S: Simd>(shape: &ConvShape, part: &Part, input: &[f32], columns: &mut [f32]) {
    let ConvShape { h_in, w_in, c_out: channels, stride, pad_top, pad_left, .. } = *shape;
    let (width, height) = (width(shape), height(shape, part.rows));
    let inside = width.min(w_in + pad_left).saturating_sub(pad_left);
    for y in 0..height {
        let to = &mut columns[y * width * S::LANES..(y + 1) * width * S::LANES];
        let row = (part.first * stride + y).checked_sub(pad_top).filter(|row| *row < h_in);
        let Some(row) = row.filter(|_| inside > 0) else {
            to.fill(0.0);
            continue;
        };
        to[..pad_left * S::LANES].fill(0.0);
        to[(pad_left + inside) * S::LANES..].fill(0.0);
        let to = &mut to[pad_left * S::LANES..(pad_left + inside) * S::LANES];
        let from = &input[row * w_in * channels + part.channel..];
        // SAFETY: the row holds `inside` pixels, and `count` channels from this one on.
        unsafe {
            for x in 0..inside {
                let value = load_some::<S>(from.as_ptr().add(x * channels), part.count);
                S::store(to.as_mut_ptr().add(x * S::LANES), value);
            }
        }
    }
}

/// The window cut into parts whose sums fit the registers: (row, column, rows, columns).
#[inline(always)]
fn tiles(kh: usize, kw: usize) -> impl Iterator<Item = (usize, usize, usize, usize)> {
    let rows = match kw {
        1..=3 => 3,
        4 | 5 => 2,
        _ => 1,
    };
    (0..kh)
        .step_by(rows)
        .flat_map(move |ky| (0..kw).step_by(MOST).map(move |kx| (ky, kx, rows.min(kh - ky), MOST.min(kw - kx))))
}

/// Columns of a part of the window.
const MOST: usize = 8;

/// What the sums of a part of the window are made of.
struct Walk<'a> {
    shape: &'a ConvShape,
    rows: usize,
    from: *const f32,
    d_output: *const f32,
    to: *mut f32,
    count: usize,
}

#[inline(always)]
unsafe fn one_tile<S: Simd>(walk: &Walk<'_>, rows: usize, columns: usize) {
    macro_rules! outlined {
        ($($rows:literal x $columns:literal),*) => {
            match (rows, columns) {
                $(($rows, $columns) => S::outline(&Tile::<$rows, $columns> { walk }),)*
                other => unreachable!("a part of {other:?} places"),
            }
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        outlined!(
            1 x 1, 1 x 2, 1 x 3, 1 x 4, 1 x 5, 1 x 6, 1 x 7, 1 x 8, 2 x 1, 2 x 2, 2 x 3, 2 x 4, 2 x 5, 3 x 1, 3 x 2, 3 x 3
        )
    }
}

/// `R` rows and `K` columns of the window.
struct Tile<'a, const R: usize, const K: usize> {
    walk: &'a Walk<'a>,
}

impl<const R: usize, const K: usize> Work for Tile<'_, R, K> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn work<S: Simd>(&self) {
        let &Walk { shape, rows, from, d_output, to, count } = self.walk;
        let &ConvShape { w_out, c_out: channels, kw, stride, dilation, .. } = shape;
        let row = width(shape) * S::LANES;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); K]; R];
            for r in 0..R {
                for k in 0..K {
                    sums[r][k] = load_some::<S>(to.add((r * kw + k) * channels), count);
                }
            }
            for y in 0..rows {
                let mut from = from.add(y * stride * row);
                let mut gradient = d_output.add(y * w_out * channels);
                for _ in 0..w_out {
                    let d = load_some::<S>(gradient, count);
                    for r in 0..R {
                        for k in 0..K {
                            let value = S::load(from.add(r * dilation * row + k * dilation * S::LANES));
                            sums[r][k] = S::mul_add(value, d, sums[r][k]);
                        }
                    }
                    from = from.wrapping_add(stride * S::LANES);
                    gradient = gradient.wrapping_add(channels);
                }
            }
            for r in 0..R {
                for k in 0..K {
                    store_some::<S>(to.add((r * kw + k) * channels), sums[r][k], count);
                }
            }
        }
    }
}
