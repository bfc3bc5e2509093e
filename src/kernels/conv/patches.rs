//! Convolutions with groups or dilation: the windows of a group become the pixels of an image (`im2col`), some output rows at a
//! time, and a 1×1 convolution takes these to the group's outputs. One image a call.

use super::super::channels::{Channels, put_channels, take_channels};
use super::super::im2col::{Windows, col2im_add, im2col, rows_at_once};
use super::super::shape::ConvShape;
use super::ConvBlock;
use super::backward_data::{backward_packed_len, conv2d_backward_data, pack_backward};
use super::backward_weights::conv2d_backward_weights;
use super::forward::{conv2d_forward, forward_packed_len, pack_forward};

/// The 1×1 convolution of a group, over the windows of `rows` output rows.
fn block(shape: &ConvShape, rows: usize) -> ConvBlock {
    let (c_in, c_out, w) = (shape.patch_len(), shape.group_out(), shape.w_out);
    ConvBlock::new(ConvShape {
        h_in: rows,
        w_in: w,
        c_in,
        h_out: rows,
        w_out: w,
        c_out,
        kh: 1,
        kw: 1,
        stride: 1,
        dilation: 1,
        groups: 1,
        pad_top: 0,
        pad_left: 0,
    })
}

/// The output channels of a group.
fn channels(shape: &ConvShape, group: usize) -> Channels {
    let count = shape.group_out();
    Channels { first: group * count, count, whole: shape.c_out }
}

/// The output rows that are worked on at once, some after others.
fn blocks_of_rows(shape: &ConvShape) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (step, all) = (rows_at_once(shape), shape.h_out);
    (0..all).step_by(step).map(move |first| first..(first + step).min(all))
}

/// Floats of a group's weights by themselves: nothing where they lie so already.
fn own_weights(shape: &ConvShape) -> usize {
    if shape.groups == 1 { 0 } else { shape.patch_len() * shape.group_out() }
}

/// A group's columns of `values [rows, c_out]` by themselves, in `own` where they have to be copied.
fn of_group<'a>(shape: &ConvShape, group: usize, values: &'a [f32], own: &'a mut [f32]) -> &'a [f32] {
    if shape.groups == 1 {
        return values;
    }
    let own = &mut own[..values.len() / shape.groups];
    take_channels(channels(shape, group), values, own);
    own
}

/// Floats of [`pack_patches`]'s result.
pub fn patches_packed_len(shape: &ConvShape, wants_d_input: bool) -> usize {
    let block = block(shape, 1);
    let backward = if wants_d_input { backward_packed_len(&block) } else { 0 };
    shape.groups * (forward_packed_len(&block) + backward) + own_weights(shape)
}

/// Floats of scratch memory that the three routines take: windows, and outputs and weights of a group.
pub fn patches_scratch(shape: &ConvShape) -> usize {
    let pixels = rows_at_once(shape) * shape.w_out;
    let outputs = if shape.groups == 1 { 0 } else { pixels * shape.group_out() };
    pixels * shape.patch_len() + outputs + own_weights(shape)
}

/// Puts `weight [kh, kw, c_in / groups, c_out]` and `bias [c_out]` (or empty) in the order in which [`patches_forward`] and
/// [`patches_backward_data`] read them.
pub fn pack_patches(shape: &ConvShape, weight: &[f32], bias: &[f32], wants_d_input: bool, packed: &mut [f32]) {
    assert!(weight.len() == shape.weight_len() && packed.len() >= patches_packed_len(shape, wants_d_input));
    assert!(bias.is_empty() || bias.len() == shape.c_out, "bias of {shape:?}");
    let block = block(shape, 1);
    let (forward, backward) = (forward_packed_len(&block), backward_packed_len(&block));
    let (own, packed) = packed.split_at_mut(own_weights(shape));
    for group in 0..shape.groups {
        let channels = channels(shape, group);
        let weight = of_group(shape, group, weight, own);
        let bias = if bias.is_empty() { bias } else { &bias[channels.first..channels.first + channels.count] };
        pack_forward(&block, weight, bias, &mut packed[group * forward..(group + 1) * forward]);
        if wants_d_input {
            let first = shape.groups * forward + group * backward;
            pack_backward(&block, weight, &mut packed[first..first + backward]);
        }
    }
}

/// `output [h_out, w_out, c_out] = bias + Σ input · weight`: `input [h_in, w_in, c_in]`, `packed` from [`pack_patches`].
pub fn patches_forward(shape: &ConvShape, input: &[f32], packed: &[f32], output: &mut [f32], scratch: &mut [f32]) {
    assert!(input.len() == shape.input_len() && output.len() == shape.output_len(), "tensors of {shape:?}");
    let packed = &packed[own_weights(shape)..];
    for rows in blocks_of_rows(shape) {
        let (block, pixels) = (block(shape, rows.len()), rows.len() * shape.w_out);
        let length = forward_packed_len(&block);
        let output = &mut output[rows.start * shape.w_out * shape.c_out..][..pixels * shape.c_out];
        for group in 0..shape.groups {
            let (patches, rest) = scratch.split_at_mut(pixels * shape.patch_len());
            im2col(shape, input, Windows { rows: rows.clone(), group }, patches);
            let packed = &packed[group * length..(group + 1) * length];
            if shape.groups == 1 {
                conv2d_forward(&block, patches, packed, output, &mut [], &mut []);
            } else {
                let own = &mut rest[..pixels * shape.group_out()];
                conv2d_forward(&block, patches, packed, own, &mut [], &mut []);
                put_channels(channels(shape, group), own, output);
            }
        }
    }
}

/// The gradient of the input: `d_input [h_in, w_in, c_in]` is overwritten. `packed` is from [`pack_patches`], with what the input's
/// gradient wants.
pub fn patches_backward_data(
    shape: &ConvShape,
    d_output: &[f32],
    packed: &[f32],
    d_input: &mut [f32],
    scratch: &mut [f32],
) {
    assert!(d_input.len() == shape.input_len() && d_output.len() == shape.output_len(), "tensors of {shape:?}");
    let forward = shape.groups * forward_packed_len(&block(shape, 1));
    let packed = &packed[own_weights(shape) + forward..];
    d_input.fill(0.0);
    for rows in blocks_of_rows(shape) {
        let (block, pixels) = (block(shape, rows.len()), rows.len() * shape.w_out);
        let length = backward_packed_len(&block);
        let d_output = &d_output[rows.start * shape.w_out * shape.c_out..][..pixels * shape.c_out];
        for group in 0..shape.groups {
            let (patches, rest) = scratch.split_at_mut(pixels * shape.patch_len());
            let d_output = of_group(shape, group, d_output, rest);
            let packed = &packed[group * length..(group + 1) * length];
            conv2d_backward_data(&block, &block.d_output, d_output, packed, &[], patches, &mut []);
            col2im_add(shape, patches, Windows { rows: rows.clone(), group }, d_input);
        }
    }
}

/// Adds the gradients of one image to `d_weight [kh, kw, c_in / groups, c_out]` and `d_bias [c_out]` (or empty).
pub fn patches_backward_weights(
    shape: &ConvShape,
    input: &[f32],
    d_output: &[f32],
    d_weight: &mut [f32],
    d_bias: &mut [f32],
    scratch: &mut [f32],
) {
    assert!(input.len() == shape.input_len() && d_output.len() == shape.output_len(), "tensors of {shape:?}");
    assert!(d_weight.len() == shape.weight_len() && (d_bias.is_empty() || d_bias.len() == shape.c_out));
    let (own, scratch) = scratch.split_at_mut(own_weights(shape));
    for group in 0..shape.groups {
        let channels = channels(shape, group);
        let of_bias = if d_bias.is_empty() { 0..0 } else { channels.first..channels.first + channels.count };
        let d_bias = &mut d_bias[of_bias];
        if !own.is_empty() {
            take_channels(channels, d_weight, own);
        }
        for rows in blocks_of_rows(shape) {
            let (block, pixels) = (block(shape, rows.len()), rows.len() * shape.w_out);
            let (patches, rest) = scratch.split_at_mut(pixels * shape.patch_len());
            let d_output = &d_output[rows.start * shape.w_out * shape.c_out..][..pixels * shape.c_out];
            im2col(shape, input, Windows { rows, group }, patches);
            let d_output = of_group(shape, group, d_output, rest);
            let sum = if own.is_empty() { &mut *d_weight } else { &mut *own };
            conv2d_backward_weights(&block, patches, &block.d_output, d_output, sum, d_bias, &mut []);
        }
        if !own.is_empty() {
            put_channels(channels, own, d_weight);
        }
    }
}
