//! The gradients of weight and bias: one chain an element, over the pixels of an image row by row, image after image
//! (but for 3×3 windows that go by tiles, see `winograd`).

use super::super::isa::dispatch;
use super::super::shape::ConvShape;
use super::super::simd::{Simd, load_some, store_some};
use super::super::tile::Walk;
use super::ConvBlock;
use super::frame::Frame;
use super::weight_tiles::window_row;
use super::winograd;

/// Output rows that a tile of weights stays in registers for, where the image is larger than the weights. A prototype gained a few
/// percent by two over one at 80x80; more were not tried: their rows would not fit the first-level cache.
const ROWS: usize = 2;

/// Floats of scratch memory that [`conv2d_backward_weights`] takes.
pub fn weights_scratch(block: &ConvBlock) -> usize {
    let ConvShape { c_in, h_out, w_out, c_out, .. } = block.shape;
    if block.weights_are_winograd() { winograd::weights_scratch(c_in, [h_out, w_out, c_out]) } else { 0 }
}

dispatch! {
    /// One image: adds to `d_weight [kh, kw, c_in, c_out]` and `d_bias [c_out]` (or empty). `input` lies in a frame that covers
    /// [`ConvBlock::padded_input`], `d_conv` in `d_conv_frame`.
    pub fn conv2d_backward_weights(
        block: &ConvBlock,
        input: &[f32],
        d_conv_frame: &Frame,
        d_conv: &[f32],
        d_weight: &mut [f32],
        d_bias: &mut [f32],
        scratch: &mut [f32],
    ) = backward_weights
}

#[inline(always)]
fn backward_weights<S: Simd>(
    block: &ConvBlock,
    input: &[f32],
    d_conv_frame: &Frame,
    d_conv: &[f32],
    d_weight: &mut [f32],
    d_bias: &mut [f32],
    scratch: &mut [f32],
) {
    let (shape, frame) = (block.shape, block.conv_input());
    assert!(input.len() == frame.len() && frame.covers(&block.padded_input()), "input of {block:?}");
    assert!(d_conv.len() == d_conv_frame.len() && d_conv_frame.size() == [shape.h_out, shape.w_out, shape.c_out]);
    assert!(shape.is_plain() && d_weight.len() == shape.weight_len(), "weight of {block:?}");
    assert!(d_bias.is_empty() || d_bias.len() == shape.c_out, "bias of {block:?}");
    if block.weights_are_winograd() {
        let image = winograd::Image::new(input, frame, [shape.pad_top, shape.pad_left], shape.w_out);
        let gradient = winograd::Image::new(d_conv, *d_conv_frame, [0, 0], shape.w_out);
        winograd::backward_weights::<S>(&image, &gradient, d_weight, scratch);
        for y in 0..shape.h_out {
            add_pixels::<S>(&d_conv[d_conv_frame.pixels(y)], d_bias);
        }
    } else {
        by_window_rows::<S>(block, input, d_conv_frame, d_conv, d_weight, d_bias);
    }
}

#[inline(always)]
fn by_window_rows<S: Simd>(
    block: &ConvBlock,
    input: &[f32],
    d_conv_frame: &Frame,
    d_conv: &[f32],
    d_weight: &mut [f32],
    d_bias: &mut [f32],
) {
    let (shape, frame) = (block.shape, block.conv_input());
    let (step, line) = (shape.stride, shape.kw * shape.c_in);
    // What is larger is read once: the image, or the weights, which are also written.
    let together = if shape.weight_len() > input.len() { shape.h_out } else { ROWS };
    for y_first in (0..shape.h_out).step_by(together) {
        let y_last = (y_first + together).min(shape.h_out);
        for ky in 0..shape.kh {
            // Output rows whose window row `ky` lies inside the image.
            let inside = |y: &usize| (shape.pad_top..shape.h_in + shape.pad_top).contains(&(y * step + ky));
            let Some(y) = (y_first..y_last).find(inside) else { continue };
            let runs = (y..y_last).take_while(inside).count();
            let walk = Walk {
                runs,
                len: shape.w_out,
                a_row: 1,
                a_run: step * frame.row(),
                a_k: step * shape.c_in,
                b_run: d_conv_frame.row(),
                b_k: shape.c_out,
            };
            let from = (y * step + ky - shape.pad_top) * frame.row() + (frame.left - shape.pad_left) * shape.c_in;
            // SAFETY: the asserts above; rows `y .. y + runs` and all places of the window in them lie in the frames.
            unsafe {
                let a = input.as_ptr().add(from);
                let b = d_conv.as_ptr().add(d_conv_frame.pixels(y).start);
                let to = d_weight.as_mut_ptr().add(ky * line * shape.c_out);
                window_row::<S>(line, shape.c_out, walk, a, b, to);
            }
        }
        for y in y_first..y_last {
            add_pixels::<S>(&d_conv[d_conv_frame.pixels(y)], d_bias);
        }
    }
}

/// Adds the pixels of one row, `[w, channels]`, to `sum [channels]`: four chains over columns 0, 4, 8 …, 1, 5, 9 … and so
/// on, merged as (0 + 1) + (2 + 3), then added. Nothing where `sum` is empty.
#[inline(always)]
pub(super) fn add_pixels<S: Simd>(row: &[f32], sum: &mut [f32]) {
    let channels = sum.len();
    if channels == 0 {
        return;
    }
    let width = row.len() / channels;
    for channel in (0..channels).step_by(S::LANES) {
        let count = S::LANES.min(channels - channel);
        // SAFETY: `row` holds `width` pixels of `channels`, `sum` one; no lane beyond `count` is touched.
        unsafe {
            let mut chains = [S::splat(0.0); 4];
            let from = row.as_ptr().add(channel);
            for x in 0..width / 4 {
                for (chain, place) in chains.iter_mut().zip(4 * x..) {
                    *chain = S::add(*chain, load_some::<S>(from.add(place * channels), count));
                }
            }
            for (chain, place) in chains.iter_mut().zip(width / 4 * 4..width) {
                *chain = S::add(*chain, load_some::<S>(from.add(place * channels), count));
            }
            let merged = S::add(S::add(chains[0], chains[1]), S::add(chains[2], chains[3]));
            let to = sum.as_mut_ptr().add(channel);
            store_some::<S>(to, S::add(load_some::<S>(to, count), merged), count);
        }
    }
}
