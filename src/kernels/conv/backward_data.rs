//! The gradient of the input. An input pixel is reached from the windows that cover it; those whose coordinates have the
//! same remainders by the stride (a *phase*) are reached alike, so that each phase is a plain sweep with stride 1 over
//! `d_conv`: for stride 1 there is one phase, the window turned by 180°.

use super::super::isa::dispatch;
use super::super::shape::ConvShape;
use super::super::simd::Simd;
use super::ConvBlock;
use super::frame::Frame;
use super::sweep::{Finish, Sweep, blocks, packed_len, sweep_rows};
use super::winograd;

/// One phase along one axis: input pixels `phase, phase + stride, …`.
#[derive(Clone, Copy, Debug)]
struct Phase {
    phase: usize,
    /// Input pixels in it.
    count: usize,
    /// Places of the window that reach it: `remainder + stride · m` for m in `0 .. places`.
    remainder: usize,
    places: usize,
    /// The output pixel under the first place of the sweep at the phase's first pixel; negative before the image.
    first: isize,
}

impl Phase {
    fn new(phase: usize, size: usize, window: usize, stride: usize, pad: usize) -> Phase {
        let remainder = (phase + pad) % stride;
        let places = window.saturating_sub(remainder).div_ceil(stride);
        let nearest = ((phase + pad - remainder) / stride) as isize;
        let count = size.saturating_sub(phase).div_ceil(stride);
        Phase { phase, count, remainder, places, first: nearest - places as isize + 1 }
    }

    /// The window's place that the sweep's `t`th one is: the sweep walks the output upwards, so the window downwards.
    fn place(&self, t: usize, stride: usize) -> usize {
        self.remainder + stride * (self.places - 1 - t)
    }
}

fn rows_and_columns(shape: &ConvShape) -> impl Iterator<Item = (Phase, Phase)> {
    let ConvShape { h_in, kh, stride, pad_top, .. } = *shape;
    let rows = (0..stride.min(h_in)).map(move |y| Phase::new(y, h_in, kh, stride, pad_top));
    rows.flat_map(|y| columns(shape).map(move |x| (y, x)))
}

/// The phases that have pixels: a stride may be longer than the image.
fn columns(shape: &ConvShape) -> impl Iterator<Item = Phase> {
    let ConvShape { w_in, kw, stride, pad_left, .. } = *shape;
    (0..stride.min(w_in)).map(move |x| Phase::new(x, w_in, kw, stride, pad_left))
}

/// The frame of `d_conv [h_out, w_out, c_out]` that [`conv2d_backward_data`] needs.
pub fn padded_d_conv(shape: &ConvShape) -> Frame {
    let (mut left, mut right) = (0, 0);
    for x in columns(shape).filter(|x| x.places > 0) {
        left = left.max((-x.first).max(0) as usize);
        let last = x.first + (x.places + x.count) as isize - 2;
        right = right.max((last - shape.w_out as isize + 1).max(0) as usize);
    }
    Frame { left, right, ..Frame::dense([shape.h_out, shape.w_out, shape.c_out]) }
}

/// Floats of [`pack_backward`]'s result.
pub fn backward_packed_len(block: &ConvBlock) -> usize {
    let positions = if block.is_winograd() { winograd::POSITIONS } else { block.shape.kh * block.shape.kw };
    packed_len(positions * block.shape.c_out, block.shape.c_in)
}

/// Floats of scratch memory that [`conv2d_backward_data`] takes.
pub fn backward_scratch(block: &ConvBlock) -> usize {
    if block.is_winograd() {
        winograd::sweep_scratch(block.shape.c_out, [block.shape.h_in, block.shape.w_in])
    } else {
        0
    }
}

dispatch! {
    /// Puts `weight [kh, kw, c_in, c_out]` in the order in which [`conv2d_backward_data`] reads it.
    pub fn pack_backward(block: &ConvBlock, weight: &[f32], packed: &mut [f32]) = pack
}

#[inline(always)]
fn pack<S: Simd>(block: &ConvBlock, weight: &[f32], packed: &mut [f32]) {
    let ConvShape { kw, c_in, c_out, stride, .. } = block.shape;
    if block.is_winograd() {
        return winograd::pack::<S>(weight, [c_out, c_in], [1, c_out], true, packed);
    }
    let mut start = 0;
    for (y, x) in rows_and_columns(&block.shape) {
        let terms = y.places * x.places * c_out;
        for (first, lanes) in blocks::<S>(c_in) {
            let count = lanes.min(c_in - first);
            let to = &mut packed[start + first * terms..][..lanes * terms];
            for (tap, to) in to.chunks_exact_mut(lanes * c_out).enumerate() {
                let (ky, kx) = (y.place(tap / x.places, stride), x.place(tap % x.places, stride));
                let from = &weight[((ky * kw + kx) * c_in + first) * c_out..][..count * c_out];
                for (co, to) in to.chunks_exact_mut(lanes).enumerate() {
                    for (ci, to) in to.iter_mut().enumerate() {
                        *to = if ci < count { from[ci * c_out + co] } else { 0.0 };
                    }
                }
            }
        }
        start += packed_len(terms, c_in);
    }
}

dispatch! {
    /// One image: `d_input` (overwritten, in `block.d_input`) from `d_conv`, which lies in a frame that covers
    /// [`padded_d_conv`]. With `block.gate`, `input` is what the forward pass saw, and the result is the gradient in front of
    /// the rectifier that made it; else `input` is not looked at.
    pub fn conv2d_backward_data(
        block: &ConvBlock,
        d_conv_frame: &Frame,
        d_conv: &[f32],
        packed: &[f32],
        input: &[f32],
        d_input: &mut [f32],
        scratch: &mut [f32],
    ) = backward_data
}

#[inline(always)]
fn backward_data<S: Simd>(
    block: &ConvBlock,
    d_conv_frame: &Frame,
    d_conv: &[f32],
    packed: &[f32],
    input: &[f32],
    d_input: &mut [f32],
    scratch: &mut [f32],
) {
    let shape = block.shape;
    let wanted = padded_d_conv(&shape);
    assert!(d_conv.len() == d_conv_frame.len() && d_conv_frame.covers(&wanted), "d_conv of {block:?}");
    assert!(packed.len() >= backward_packed_len(block) && d_input.len() == block.d_input.len());
    assert!(shape.is_plain() && (block.gate.is_none() || input.len() == block.input.len()), "input of {block:?}");
    let size = [shape.h_in, shape.w_in, shape.c_in];
    assert!(block.input.size() == size && block.d_input.size() == size, "input of {block:?}");
    if block.is_winograd() {
        backward_tiles::<S>(block, d_conv_frame, d_conv, packed, input, d_input, scratch);
    } else {
        backward_phases::<S>(block, d_conv_frame, d_conv, packed, input, d_input);
    }
    for y in 0..shape.h_in {
        block.d_input.clear_border(y, d_input);
    }
}

#[inline(always)]
fn backward_tiles<S: Simd>(
    block: &ConvBlock,
    d_conv_frame: &Frame,
    d_conv: &[f32],
    packed: &[f32],
    input: &[f32],
    d_input: &mut [f32],
    scratch: &mut [f32],
) {
    let shape = block.shape;
    let finish = match block.gate {
        Some(rectifier) => {
            Finish::Gate(rectifier, input[block.input.pixels(0)].as_ptr(), block.input.row(), shape.c_in)
        }
        None => Finish::Plain,
    };
    let to = winograd::Output {
        values: d_input[block.d_input.pixels(0)].as_mut_ptr(),
        row: block.d_input.row(),
        channels: shape.c_in,
        size: [shape.h_in, shape.w_in],
        finish,
        pool: None,
    };
    let pad = [2 - shape.pad_top, 2 - shape.pad_left];
    let image = winograd::Image::new(d_conv, *d_conv_frame, pad, shape.w_in);
    // SAFETY: the asserts in `backward_data`: all pixels lie in `d_input` and `input`.
    unsafe {
        winograd::sweep::<S>(&image, packed, &to, scratch);
    }
}

#[inline(always)]
fn backward_phases<S: Simd>(
    block: &ConvBlock,
    d_conv_frame: &Frame,
    d_conv: &[f32],
    packed: &[f32],
    input: &[f32],
    d_input: &mut [f32],
) {
    let shape = block.shape;
    let (stride, c_in) = (shape.stride, shape.c_in);
    let mut start = 0;
    for (y, x) in rows_and_columns(&shape) {
        let sweep = Sweep {
            h_in: shape.h_out,
            row_in: d_conv_frame.row(),
            top: y.first,
            first: (d_conv_frame.left as isize + if x.places > 0 { x.first } else { 0 }) as usize * shape.c_out,
            step_y: 1,
            step_x: shape.c_out,
            rows: if x.places > 0 { y.places } else { 0 },
            len: x.places * shape.c_out,
            w_out: x.count,
            c_out: c_in,
            row_out: stride * block.d_input.row(),
            pixel_out: stride * c_in,
        };
        let place = |frame: &Frame| y.phase * frame.row() + (frame.left + x.phase) * c_in;
        let finish = match block.gate {
            Some(rectifier) => {
                let at = input[place(&block.input)..].as_ptr();
                Finish::Gate(rectifier, at, stride * block.input.row(), stride * c_in)
            }
            None => Finish::Plain,
        };
        let output = d_input[place(&block.d_input)..].as_mut_ptr();
        // SAFETY: the asserts above; the phase's pixels lie in `d_input` and `input`, whose frames the steps follow,
        // and the frame of `d_conv` covers the overhang of every phase.
        unsafe {
            sweep_rows::<S>(&sweep, (0, y.count), d_conv.as_ptr(), packed[start..].as_ptr(), finish, output);
        }
        start += packed_len(y.places * x.places * shape.c_out, c_in);
    }
}
