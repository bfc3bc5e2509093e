//! How an image lies in memory: rows with zero pixels at both ends, so that windows may hang over the sides.

use super::super::isa::dispatch;
use super::super::simd::Simd;
use super::Rectifier;

/// An image `[h, w, c]` whose rows are `left` zero pixels, `w` pixels, `right` zero pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels, without the zeros.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Zero pixels before each row.
    pub left: usize,
    /// Zero pixels behind each row.
    pub right: usize,
}

impl Frame {
    /// An image without borders.
    pub fn dense([h, w, c]: [usize; 3]) -> Frame {
        Frame { h, w, c, left: 0, right: 0 }
    }

    /// Floats from row to row.
    pub fn row(&self) -> usize {
        (self.left + self.w + self.right) * self.c
    }

    /// Floats in all.
    pub fn len(&self) -> usize {
        self.h * self.row()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is of the size of `wanted`, with the same borders or wider ones.
    pub fn covers(&self, wanted: &Frame) -> bool {
        self.size() == wanted.size() && self.left >= wanted.left && self.right >= wanted.right
    }

    /// `[h, w, c]`, without borders.
    pub fn size(&self) -> [usize; 3] {
        [self.h, self.w, self.c]
    }

    /// Where row `y`'s pixels stand, without the zeros.
    pub fn pixels(&self, y: usize) -> std::ops::Range<usize> {
        let start = y * self.row() + self.left * self.c;
        start..start + self.w * self.c
    }

    /// Writes the zeros of row `y`.
    #[inline(always)]
    pub fn clear_border(&self, y: usize, image: &mut [f32]) {
        let (row, pixels) = (y * self.row(), self.pixels(y));
        image[row..pixels.start].fill(0.0);
        image[pixels.end..row + self.row()].fill(0.0);
    }
}

dispatch! {
    /// Copies an image from one frame to another of the same size.
    pub fn copy_frame(from_frame: &Frame, from: &[f32], to_frame: &Frame, to: &mut [f32]) = copy_rows
}

#[inline(always)]
fn copy_rows<S: Simd>(from_frame: &Frame, from: &[f32], to_frame: &Frame, to: &mut [f32]) {
    assert_eq!(from_frame.size(), to_frame.size());
    for y in 0..from_frame.h {
        to[to_frame.pixels(y)].copy_from_slice(&from[from_frame.pixels(y)]);
        to_frame.clear_border(y, to);
    }
}

dispatch! {
    /// As [`copy_frame`], for the gradient of a rectifier's output: multiplied by the slope, given the rectifier's
    /// `output` in a frame of its own.
    pub fn copy_gated(
        rectifier: Rectifier,
        output_frame: &Frame,
        output: &[f32],
        from_frame: &Frame,
        from: &[f32],
        to_frame: &Frame,
        to: &mut [f32],
    ) = copy_rows_gated
}

#[inline(always)]
fn copy_rows_gated<S: Simd>(
    rectifier: Rectifier,
    output_frame: &Frame,
    output: &[f32],
    from_frame: &Frame,
    from: &[f32],
    to_frame: &Frame,
    to: &mut [f32],
) {
    let slope = rectifier.slope_below();
    for y in 0..from_frame.h {
        let values = from[from_frame.pixels(y)].iter().zip(&output[output_frame.pixels(y)]);
        for (to, (&gradient, &output)) in to[to_frame.pixels(y)].iter_mut().zip(values) {
            *to = if output > 0.0 { gradient } else { rectifier.below(slope, gradient) };
        }
        to_frame.clear_border(y, to);
    }
}
