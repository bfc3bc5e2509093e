//! The forward pass: window, bias, rectifier and, where the network asks for it, a 2×2 max-pool, in one go.

use super::super::isa::dispatch;
use super::super::simd::Simd;
use super::ConvBlock;
use super::pool::pool_rows;
use super::sweep::{Finish, Sweep, blocks, packed_len, sweep_rows};
use super::winners::winner_words;
use super::winograd;

/// Floats of [`pack_forward`]'s result.
pub fn forward_packed_len(block: &ConvBlock) -> usize {
    packed_len(terms(block) + 1, block.shape.c_out)
}

/// Packed weights an output channel.
fn terms(block: &ConvBlock) -> usize {
    if block.is_winograd() { winograd::POSITIONS * block.shape.c_in } else { block.shape.patch_len() }
}

dispatch! {
    /// Puts `weight [kh, kw, c_in, c_out]` and `bias [c_out]` (or empty: zeros) in the order in which [`conv2d_forward`] reads them.
    pub fn pack_forward(block: &ConvBlock, weight: &[f32], bias: &[f32], packed: &mut [f32]) = pack
}

#[inline(always)]
fn pack<S: Simd>(block: &ConvBlock, weight: &[f32], bias: &[f32], packed: &mut [f32]) {
    let (terms, channels) = (terms(block), block.shape.c_out);
    assert!(block.shape.is_plain() && weight.len() == block.shape.weight_len(), "weight of {block:?}");
    assert!(bias.is_empty() || bias.len() == channels, "bias of {block:?}");
    if block.is_winograd() {
        winograd::pack::<S>(weight, [block.shape.c_in, channels], [channels, 1], false, packed);
    } else {
        pack_taps::<S>(terms, channels, weight, packed);
    }
    let to = &mut packed[terms * channels.next_multiple_of(S::LANES)..][..channels.next_multiple_of(S::LANES)];
    to[..bias.len()].copy_from_slice(bias);
    to[bias.len()..].fill(0.0);
}

#[inline(always)]
fn pack_taps<S: Simd>(terms: usize, channels: usize, weight: &[f32], packed: &mut [f32]) {
    for (first, lanes) in blocks::<S>(channels) {
        let count = lanes.min(channels - first);
        let to = &mut packed[first * terms..][..lanes * terms];
        for (to, from) in to.chunks_exact_mut(lanes).zip(weight.chunks_exact(channels)) {
            to[..count].copy_from_slice(&from[first..first + count]);
            to[count..].fill(0.0);
        }
    }
}

/// Floats of scratch memory that [`conv2d_forward`] takes: some transformed tiles, or two rows before they are pooled.
pub fn forward_scratch(block: &ConvBlock) -> usize {
    if block.is_winograd() {
        winograd::sweep_scratch(block.shape.c_in, [block.shape.h_out, block.shape.w_out])
    } else if block.pool {
        2 * block.shape.w_out * block.shape.c_out
    } else {
        0
    }
}

dispatch! {
    /// One image: `output = pool(rectifier(bias + Σ input · weight))`.
    ///
    /// `input` in a frame that covers [`ConvBlock::padded_input`], `packed` from [`pack_forward`], `output` in
    /// `block.output`. With a pool, `winners` ([`ConvBlock::winner_words`] long) says where each maximum stood; it may be
    /// empty where no backward pass follows.
    pub fn conv2d_forward(
        block: &ConvBlock,
        input: &[f32],
        packed: &[f32],
        output: &mut [f32],
        winners: &mut [u16],
        scratch: &mut [f32],
    ) = forward
}

#[inline(always)]
fn forward<S: Simd>(
    block: &ConvBlock,
    input: &[f32],
    packed: &[f32],
    output: &mut [f32],
    winners: &mut [u16],
    scratch: &mut [f32],
) {
    let (shape, frame) = (block.shape, block.conv_input());
    assert!(shape.is_plain() && input.len() == frame.len(), "input of {block:?}");
    assert_eq!(output.len(), block.output.len(), "output of {block:?}");
    assert_eq!(block.output.size(), block.output_size(), "output of {block:?}");
    assert!(packed.len() >= forward_packed_len(block) && frame.covers(&block.padded_input()));
    assert!(scratch.len() >= forward_scratch(block));
    let bias = &packed[terms(block) * shape.c_out.next_multiple_of(S::LANES)..];
    let finish = Finish::Bias(bias.as_ptr(), block.rectifier);
    if block.is_winograd() {
        forward_tiles::<S>(block, input, packed, finish, output, winners, scratch);
    } else {
        forward_rows::<S>(block, input, packed, finish, output, winners, scratch);
    }
    for y in 0..block.output.h {
        block.output.clear_border(y, output);
    }
}

#[inline(always)]
fn forward_tiles<S: Simd>(
    block: &ConvBlock,
    input: &[f32],
    packed: &[f32],
    finish: Finish,
    output: &mut [f32],
    winners: &mut [u16],
    scratch: &mut [f32],
) {
    let shape = block.shape;
    let words = winner_words::<S>(block.output.w, shape.c_out);
    assert!(!block.pool || winners.is_empty() || winners.len() >= words * block.output.h);
    let place = if winners.is_empty() { std::ptr::null_mut() } else { winners.as_mut_ptr() };
    let to = winograd::Output {
        values: output[block.output.pixels(0)].as_mut_ptr(),
        row: block.output.row(),
        channels: shape.c_out,
        size: [shape.h_out, shape.w_out],
        finish,
        pool: block.pool.then_some(winograd::Pooled { winners: place, words }),
    };
    let pad = [shape.pad_top, shape.pad_left];
    let image = winograd::Image::new(input, block.conv_input(), pad, shape.w_out);
    // SAFETY: the asserts here and in `forward`; the pixels of all outputs lie in `output`, biases follow the weights.
    unsafe {
        winograd::sweep::<S>(&image, packed, &to, scratch);
    }
}

#[inline(always)]
fn forward_rows<S: Simd>(
    block: &ConvBlock,
    input: &[f32],
    packed: &[f32],
    finish: Finish,
    output: &mut [f32],
    winners: &mut [u16],
    scratch: &mut [f32],
) {
    let (shape, frame) = (block.shape, block.conv_input());
    let sweep = Sweep {
        h_in: shape.h_in,
        row_in: frame.row(),
        top: -(shape.pad_top as isize),
        first: (frame.left - shape.pad_left) * shape.c_in,
        step_y: shape.stride,
        step_x: shape.stride * shape.c_in,
        rows: shape.kh,
        len: shape.kw * shape.c_in,
        w_out: shape.w_out,
        c_out: shape.c_out,
        row_out: if block.pool { shape.w_out * shape.c_out } else { block.output.row() },
        pixel_out: shape.c_out,
    };
    if !block.pool {
        let first = block.output.pixels(0).start;
        return rows::<S>(&sweep, (0, shape.h_out), input, packed, finish, &mut output[first..]);
    }
    let words = winner_words::<S>(block.output.w, shape.c_out);
    for y in 0..block.output.h {
        rows::<S>(&sweep, (2 * y, 2 * y + 2), input, packed, finish, scratch);
        let winners = if winners.is_empty() { &mut [][..] } else { &mut winners[y * words..(y + 1) * words] };
        pool_rows::<S>(shape.c_out, &scratch[..forward_scratch(block)], &mut output[block.output.pixels(y)], winners);
    }
}

#[inline(always)]
fn rows<S: Simd>(sweep: &Sweep, range: (usize, usize), input: &[f32], packed: &[f32], finish: Finish, to: &mut [f32]) {
    assert!(to.len() >= (range.1 - range.0 - 1) * sweep.row_out + sweep.w_out * sweep.c_out);
    // SAFETY: the asserts here and in `forward`; `sweep` describes these very buffers: the frame covers the window's
    // overhang, and `to` has every pixel of the rows that are swept.
    unsafe {
        sweep_rows::<S>(sweep, range, input.as_ptr(), packed.as_ptr(), finish, to.as_mut_ptr());
    }
}
