//! Convolution windows as rows of a matrix, and back.

use std::ops::Range;

use super::isa::dispatch;
use super::shape::ConvShape;
use super::simd::Simd;

/// Floats in a block of patches: 192 KiB, so that block and packed operands share a 512 KiB L2.
const BLOCK: usize = 48 * 1024;

/// Output rows whose windows are worked on at once.
pub fn rows_at_once(shape: &ConvShape) -> usize {
    (BLOCK / (shape.w_out * shape.patch_len())).clamp(1, shape.h_out)
}

/// Some windows of an image.
#[derive(Clone, Debug)]
pub struct Windows {
    /// The output rows that they stand at.
    pub rows: Range<usize>,
    /// The group of channels that is read.
    pub group: usize,
}

dispatch! {
    /// Copies windows of one image into `patches` `[rows × w_out, kh × kw × c_in / groups]`; what lies beyond the border is 0.
    pub fn im2col(shape: &ConvShape, image: &[f32], windows: Windows, patches: &mut [f32]) = im2col_loops
}

#[inline(always)]
fn im2col_loops<S: Simd>(shape: &ConvShape, image: &[f32], windows: Windows, patches: &mut [f32]) {
    for_each_line(shape, windows, |patch, line| match line {
        Line::Outside { whole } => patches[patch + whole.start..patch + whole.end].fill(0.0),
        Line::Inside { whole, part, source } => {
            patches[patch + whole.start..patch + part.start].fill(0.0);
            let length = part.len();
            copy(&image[source..source + length], &mut patches[patch + part.start..patch + part.end]);
            patches[patch + part.end..patch + whole.end].fill(0.0);
        }
    });
}

dispatch! {
    /// The reverse: adds each window's values to the pixels that they came from.
    pub fn col2im_add(shape: &ConvShape, patches: &[f32], windows: Windows, image: &mut [f32]) = col2im_add_loops
}

#[inline(always)]
fn col2im_add_loops<S: Simd>(shape: &ConvShape, patches: &[f32], windows: Windows, image: &mut [f32]) {
    for_each_line(shape, windows, |patch, line| {
        if let Line::Inside { part, source, .. } = line {
            let length = part.len();
            let pixels = &mut image[source..source + length];
            for (pixel, value) in pixels.iter_mut().zip(&patches[patch + part.start..patch + part.end]) {
                *pixel += value;
            }
        }
    });
}

/// A short copy, inlined: a call to `memcpy` costs more than 48 floats do.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// One line of a window: neighbouring values of the image. Ranges count within the window's patch.
enum Line {
    /// Above or below the image, or beside it.
    Outside { whole: Range<usize> },
    /// `part` of it lies in the image, where it starts at `source`.
    Inside { whole: Range<usize>, part: Range<usize>, source: usize },
}

/// Calls `visit(start of the patch, line)` for every line of every window. Where places of a window are neighbours in memory, a
/// row of it is one line, else each place.
#[inline(always)]
fn for_each_line(shape: &ConvShape, windows: Windows, mut visit: impl FnMut(usize, Line)) {
    let ConvShape { h_in, w_in, c_in, w_out, kh, kw, stride, dilation, pad_top, pad_left, .. } = *shape;
    let channels = shape.group_in();
    let (lines, places) = if shape.is_plain() { (1, kw) } else { (kw, 1) };
    let mut patch = 0;
    for y_out in windows.rows {
        for x_out in 0..w_out {
            for line in 0..lines {
                let left = x_out * stride + line * dilation;
                let first = pad_left.saturating_sub(left).min(places);
                let last = places.min((w_in + pad_left).saturating_sub(left)).max(first);
                for ky in 0..kh {
                    let start = (ky * kw + line * places) * channels;
                    let whole = start..start + places * channels;
                    let y = y_out * stride + ky * dilation;
                    if y < pad_top || y >= h_in + pad_top || first == last {
                        visit(patch, Line::Outside { whole });
                        continue;
                    }
                    let part = whole.start + first * channels..whole.start + last * channels;
                    let pixel = (y - pad_top) * w_in + left + first - pad_left;
                    visit(patch, Line::Inside { whole, part, source: pixel * c_in + windows.group * channels });
                }
            }
            patch += kh * kw * channels;
        }
    }
}
