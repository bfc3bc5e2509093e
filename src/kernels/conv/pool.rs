//! The 2×2 max-pool behind a convolution, two rows at a time, forward and backward. Which pixel won is kept as two bits.

use super::super::isa::dispatch;
use super::super::simd::{Simd, load_some, store_some};
use super::ConvBlock;
use super::frame::Frame;
use super::winners::winner_words;

/// Pools `rows` (two, dense: `[2, 2·w, channels]`) to `pooled [w, channels]`; NaN where one is NaN. Of equals the
/// first wins. `winners` may be empty.
#[inline(always)]
pub fn pool_rows<S: Simd>(channels: usize, rows: &[f32], pooled: &mut [f32], winners: &mut [u16]) {
    let (upper, lower) = rows.split_at(rows.len() / 2);
    let vectors = channels.div_ceil(S::LANES);
    let width = pooled.len() / channels;
    assert!(upper.len() == 2 * pooled.len() && (winners.is_empty() || winners.len() == width * vectors * 2));
    for x in 0..width {
        for vector in 0..vectors {
            let channel = vector * S::LANES;
            let count = S::LANES.min(channels - channel);
            // SAFETY: both rows hold 2·width pixels of `channels`, `pooled` holds width; no lane beyond `count` is touched.
            let (low, high) = unsafe {
                let left = 2 * x * channels + channel;
                let (upper, lower) = (upper.as_ptr().add(left), lower.as_ptr().add(left));
                let a = load_some::<S>(upper, count);
                let b = load_some::<S>(upper.add(channels), count);
                let c = load_some::<S>(lower, count);
                let d = load_some::<S>(lower.add(channels), count);
                let (best, words) = best_of::<S>([a, b, c, d]);
                store_some::<S>(pooled.as_mut_ptr().add(x * channels + channel), best, count);
                words
            };
            if !winners.is_empty() {
                let at = (x * vectors + vector) * 2;
                winners[at] = low;
                winners[at + 1] = high;
            }
        }
    }
}

/// The largest of a window's four values, row by row, and the two words that say which one it is.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub unsafe fn best_of<S: Simd>([a, b, c, d]: [S::V; 4]) -> (S::V, (u16, u16)) {
    // SAFETY: the caller's promise.
    unsafe {
        let (b_wins, d_wins) = (beats::<S>(b, a), beats::<S>(d, c));
        let (top, bottom) = (S::select(b_wins, b, a), S::select(d_wins, d, c));
        let bottom_wins = beats::<S>(bottom, top);
        let (high, right_above, right_below) = (S::to_bits(bottom_wins), S::to_bits(b_wins), S::to_bits(d_wins));
        (S::select(bottom_wins, bottom, top), ((right_above & !high) | (right_below & high), high))
    }
}

/// Whether `v` takes the place of the `best` so far.
#[inline(always)]
unsafe fn beats<S: Simd>(v: S::V, best: S::V) -> S::M {
    // SAFETY: the caller's promise.
    unsafe { S::or(S::greater(v, best), S::is_nan(v)) }
}

dispatch! {
    /// Backward through pool and rectifier: `d_conv` (the gradient of what the window summed, in `conv_frame`) from the
    /// gradient of the pooled `output`. Both of these lie in frames of their own.
    pub fn unpool(
        block: &ConvBlock,
        output: &[f32],
        winners: &[u16],
        d_output: &[f32],
        conv_frame: &Frame,
        d_conv: &mut [f32],
    ) = unpool_image
}

#[inline(always)]
fn unpool_image<S: Simd>(
    block: &ConvBlock,
    output: &[f32],
    winners: &[u16],
    d_output: &[f32],
    conv_frame: &Frame,
    d_conv: &mut [f32],
) {
    let words = winner_words::<S>(block.output.w, block.shape.c_out);
    assert!(winners.len() >= words * block.output.h && d_conv.len() == conv_frame.len());
    assert!(conv_frame.h == 2 * block.output.h && conv_frame.w == 2 * block.output.w);
    assert!(block.output.size() == block.output_size() && block.d_output.size() == block.output_size());
    for y in 0..block.output.h {
        let (output, d_output) = (&output[block.output.pixels(y)], &d_output[block.d_output.pixels(y)]);
        let upper = conv_frame.pixels(2 * y);
        let (above, below) = d_conv.split_at_mut(conv_frame.pixels(2 * y + 1).start);
        let width = upper.len();
        let rows = [&mut above[upper], &mut below[..width]];
        unpool_row::<S>(block, output, &winners[y * words..(y + 1) * words], d_output, rows);
    }
    for y in 0..conv_frame.h {
        conv_frame.clear_border(y, d_conv);
    }
}

#[inline(always)]
fn unpool_row<S: Simd>(
    block: &ConvBlock,
    output: &[f32],
    winners: &[u16],
    d_output: &[f32],
    [upper, lower]: [&mut [f32]; 2],
) {
    let channels = block.shape.c_out;
    let vectors = channels.div_ceil(S::LANES);
    let width = block.output.w;
    assert!(output.len() == width * channels && d_output.len() == output.len() && upper.len() == lower.len());
    assert!(upper.len() == 2 * width * channels && winners.len() == width * vectors * 2);
    for x in 0..width {
        for vector in 0..vectors {
            let channel = vector * S::LANES;
            let count = S::LANES.min(channels - channel);
            let at = (x * vectors + vector) * 2;
            let (low, high) = (winners[at], winners[at + 1]);
            // SAFETY: the rows hold 2·width pixels, `output` and `d_output` hold width; no lane beyond `count` is touched.
            unsafe {
                let place = x * channels + channel;
                let gradient = load_some::<S>(d_output.as_ptr().add(place), count);
                let gradient = match block.rectifier {
                    Some(rectifier) => rectifier.gate::<S>(load_some::<S>(output.as_ptr().add(place), count), gradient),
                    None => gradient,
                };
                let zero = S::splat(0.0);
                let left = 2 * x * channels + channel;
                let (upper, lower) = (upper.as_mut_ptr().add(left), lower.as_mut_ptr().add(left));
                store_some::<S>(upper, S::select(S::from_bits(!low & !high), gradient, zero), count);
                store_some::<S>(upper.add(channels), S::select(S::from_bits(low & !high), gradient, zero), count);
                store_some::<S>(lower, S::select(S::from_bits(!low & high), gradient, zero), count);
                store_some::<S>(lower.add(channels), S::select(S::from_bits(low & high), gradient, zero), count);
            }
        }
    }
}
