//! Convolution windows as rows of a matrix, and back.

use super::super::isa::dispatch;
use super::super::simd::Simd;
use std::ops::Range;

use super::super::shape::ConvShape;

dispatch! {
    /// Copies the windows of output rows `rows` of one image into `patches` `[rows × w_out, kh × kw × c_in]`; what lies
    /// beyond the border is 0.
    pub fn im2col(shape: &ConvShape, image: &[f32], rows: Range<usize>, patches: &mut [f32]) = im2col_loops
}

#[inline(always)]
fn im2col_loops<S: Simd>(shape: &ConvShape, image: &[f32], rows: Range<usize>, patches: &mut [f32]) {
    for_each_line(shape, rows, |patch, line| match line {
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
    pub fn col2im_add(shape: &ConvShape, patches: &[f32], rows: Range<usize>, image: &mut [f32]) = col2im_add_loops
}

#[inline(always)]
fn col2im_add_loops<S: Simd>(shape: &ConvShape, patches: &[f32], rows: Range<usize>, image: &mut [f32]) {
    for_each_line(shape, rows, |patch, line| {
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

/// One line (`kw × c_in` neighbouring values) of a window. Ranges count within the window's patch.
enum Line {
    /// Above or below the image.
    Outside { whole: Range<usize> },
    /// `part` of it lies in the image, where it starts at `source`.
    Inside { whole: Range<usize>, part: Range<usize>, source: usize },
}

/// Calls `visit(start of the patch, line)` for every line of every window of output rows `rows`.
#[inline(always)]
fn for_each_line(shape: &ConvShape, rows: Range<usize>, mut visit: impl FnMut(usize, Line)) {
    let ConvShape { h_in, w_in, c_in, w_out, kh, kw, stride, pad_top, pad_left, .. } = *shape;
    let mut patch = 0;
    for y_out in rows {
        for x_out in 0..w_out {
            let left = x_out * stride;
            let first = pad_left.saturating_sub(left).min(kw);
            let last = kw.min((w_in + pad_left).saturating_sub(left)).max(first);
            for ky in 0..kh {
                let whole = ky * kw * c_in..(ky + 1) * kw * c_in;
                let y = y_out * stride + ky;
                if y < pad_top || y >= h_in + pad_top || first == last {
                    visit(patch, Line::Outside { whole });
                    continue;
                }
                let part = whole.start + first * c_in..whole.start + last * c_in;
                let source = ((y - pad_top) * w_in + left + first - pad_left) * c_in;
                visit(patch, Line::Inside { whole, part, source });
            }
            patch += kh * kw * c_in;
        }
    }
}
