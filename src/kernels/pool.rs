//! Pooling. Windows are clipped to the image: padding never wins a maximum and never counts in an average.

use super::isa::dispatch;
use super::shape::{AdaptiveShape, PoolShape};
use super::simd::{Simd, load_some, store_some};
use std::fmt::Debug;
use std::ops::Range;

/// Windows on an image.
trait Windows: Debug {
    /// Height and width of the output.
    fn output(&self) -> [usize; 2];
    /// Height and width of the input.
    fn input(&self) -> [usize; 2];
    fn channels(&self) -> usize;
    /// The part of the image under the window of output pixel (`y`, `x`): rows, then columns.
    fn clipped(&self, y: usize, x: usize) -> (Range<usize>, Range<usize>);
}

impl Windows for PoolShape {
    #[inline(always)]
    fn output(&self) -> [usize; 2] {
        [self.h_out, self.w_out]
    }
    #[inline(always)]
    fn input(&self) -> [usize; 2] {
        [self.h_in, self.w_in]
    }
    #[inline(always)]
    fn channels(&self) -> usize {
        self.channels
    }
    #[inline(always)]
    fn clipped(&self, y: usize, x: usize) -> (Range<usize>, Range<usize>) {
        self.clipped(y, x)
    }
}

impl Windows for AdaptiveShape {
    #[inline(always)]
    fn output(&self) -> [usize; 2] {
        [self.h_out, self.w_out]
    }
    #[inline(always)]
    fn input(&self) -> [usize; 2] {
        [self.h_in, self.w_in]
    }
    #[inline(always)]
    fn channels(&self) -> usize {
        self.channels
    }
    #[inline(always)]
    fn clipped(&self, y: usize, x: usize) -> (Range<usize>, Range<usize>) {
        (Self::window(y, self.h_in, self.h_out), Self::window(x, self.w_in, self.w_out))
    }
}

/// Calls `visit(batch index's input offset, output offset, y, x)` for every output pixel.
#[inline(always)]
fn for_each_output(shape: &impl Windows, batch: usize, mut visit: impl FnMut(usize, usize, usize, usize)) {
    let ([h_in, w_in], [h_out, w_out]) = (shape.input(), shape.output());
    let mut output = 0;
    for image in 0..batch {
        for y in 0..h_out {
            for x in 0..w_out {
                visit(image * h_in * w_in * shape.channels(), output, y, x);
                output += shape.channels();
            }
        }
    }
}

fn check(shape: &impl Windows, batch: usize, input: usize, output: usize) {
    let values = |[h, w]: [usize; 2]| batch * h * w * shape.channels();
    assert_eq!(input, values(shape.input()), "input of {shape:?} x {batch}");
    assert_eq!(output, values(shape.output()), "output of {shape:?} x {batch}");
}

dispatch! {
    /// `output[n, y, x, c]` = the largest of the window's pixels, or NaN when one is NaN:
    /// `input [batch, h_in, w_in, c]`, `output [batch, h_out, w_out, c]`.
    pub fn maxpool_forward(shape: &PoolShape, batch: usize, input: &[f32], output: &mut [f32]) = maxpool_forward_loops
}

#[inline(always)]
fn maxpool_forward_loops<S: Simd>(shape: &PoolShape, batch: usize, input: &[f32], output: &mut [f32]) {
    check(shape, batch, input.len(), output.len());
    let c = shape.channels;
    for_each_output(shape, batch, |image, out, y, x| {
        let under = Under::new(shape, image, y, x);
        for channel in (0..c).step_by(S::LANES) {
            let count = S::LANES.min(c - channel);
            // SAFETY: `check`: all pixels of the images are there; no lane beyond `count` is touched.
            unsafe {
                let best = under.best::<S>(input[channel..].as_ptr(), count);
                store_some::<S>(output[out + channel..].as_mut_ptr(), best.values, count);
            }
        }
    });
}

/// The pixels under a window.
struct Under {
    /// Where the first one begins, and the floats from row to row and from pixel to pixel.
    start: usize,
    row: usize,
    pixel: usize,
    /// Rows and columns of them.
    rows: usize,
    columns: usize,
}

/// The winners of a vector of channels under a window.
struct Best<S: Simd> {
    /// The largest value of each, or NaN where one is NaN.
    values: S::V,
    /// The place of the pixel that has it, counted row by row: the first one of equals, the last NaN.
    places: S::V,
}

impl Under {
    /// Those of output pixel (`y`, `x`); the image begins at `image`.
    #[inline(always)]
    fn new(shape: &PoolShape, image: usize, y: usize, x: usize) -> Under {
        let (rows, columns) = shape.clipped(y, x);
        let (row, pixel) = (shape.w_in * shape.channels, shape.channels);
        let start = image + rows.start * row + columns.start * pixel;
        Under { start, row, pixel, rows: rows.len(), columns: columns.len() }
    }

    /// Where the pixel in this row and column begins.
    #[inline(always)]
    fn at(&self, row: usize, column: usize) -> usize {
        self.start + row * self.row + column * self.pixel
    }

    /// The winners of the `count` channels from `input` on.
    ///
    /// # Safety
    /// As [`Simd`]; these channels of all pixels can be read.
    #[inline(always)]
    unsafe fn best<S: Simd>(&self, input: *const f32, count: usize) -> Best<S> {
        // SAFETY: the caller's promise.
        unsafe {
            let mut best = Best { values: load_some::<S>(input.add(self.start), count), places: S::splat(0.0) };
            let mut place = 0.0;
            for row in 0..self.rows {
                for column in 0..self.columns {
                    let values = load_some::<S>(input.add(self.at(row, column)), count);
                    let wins = S::or(S::greater(values, best.values), S::is_nan(values));
                    best.values = S::select(wins, values, best.values);
                    best.places = S::select(wins, S::splat(place), best.places);
                    place += 1.0;
                }
            }
            best
        }
    }

    /// Adds `gradient` to the `count` channels from `d_input` on, each at the pixel that won.
    ///
    /// # Safety
    /// As [`Simd`]; these channels of all pixels can be written.
    #[inline(always)]
    unsafe fn send<S: Simd>(&self, winners: S::V, gradient: S::V, d_input: *mut f32, count: usize) {
        let mut place = 0.0;
        // SAFETY: the caller's promise.
        unsafe {
            for row in 0..self.rows {
                for column in 0..self.columns {
                    let here = S::splat(place);
                    let other = S::or(S::greater(winners, here), S::greater(here, winners));
                    let to = d_input.add(self.at(row, column));
                    let share = S::select(other, S::splat(0.0), gradient);
                    store_some::<S>(to, S::add(load_some::<S>(to, count), share), count);
                    place += 1.0;
                }
            }
        }
    }
}

dispatch! {
    /// Sends each output's gradient to the pixel that won (the first one, row by row, of equals):
    /// `d_input [batch, h_in, w_in, c]` is overwritten.
    pub fn maxpool_backward(
        shape: &PoolShape,
        batch: usize,
        input: &[f32],
        d_output: &[f32],
        d_input: &mut [f32],
    ) = maxpool_backward_loops
}

#[inline(always)]
fn maxpool_backward_loops<S: Simd>(
    shape: &PoolShape,
    batch: usize,
    input: &[f32],
    d_output: &[f32],
    d_input: &mut [f32],
) {
    check(shape, batch, input.len(), d_output.len());
    check(shape, batch, d_input.len(), d_output.len());
    let c = shape.channels;
    d_input.fill(0.0);
    for_each_output(shape, batch, |image, out, y, x| {
        let under = Under::new(shape, image, y, x);
        for channel in (0..c).step_by(S::LANES) {
            let count = S::LANES.min(c - channel);
            // SAFETY: `check`: all pixels of the images are there; no lane beyond `count` is touched.
            unsafe {
                let winners = under.best::<S>(input[channel..].as_ptr(), count).places;
                let gradient = load_some::<S>(d_output[out + channel..].as_ptr(), count);
                under.send::<S>(winners, gradient, d_input[channel..].as_mut_ptr(), count);
            }
        }
    });
}

dispatch! {
    /// `output[n, y, x, c]` = the mean of the window's pixels inside the image.
    pub fn avgpool_forward(shape: &PoolShape, batch: usize, input: &[f32], output: &mut [f32]) = avgpool_forward_loops
}

dispatch! {
    /// As [`avgpool_forward`], of windows that share out the image.
    pub fn adaptive_avgpool_forward(
        shape: &AdaptiveShape,
        batch: usize,
        input: &[f32],
        output: &mut [f32],
    ) = adaptive_avgpool_forward_loops
}

#[inline(always)]
fn avgpool_forward_loops<S: Simd>(shape: &PoolShape, batch: usize, input: &[f32], output: &mut [f32]) {
    average(shape, batch, input, output);
}

#[inline(always)]
fn adaptive_avgpool_forward_loops<S: Simd>(shape: &AdaptiveShape, batch: usize, input: &[f32], output: &mut [f32]) {
    average(shape, batch, input, output);
}

#[inline(always)]
fn average(shape: &impl Windows, batch: usize, input: &[f32], output: &mut [f32]) {
    check(shape, batch, input.len(), output.len());
    let ([_, w_in], c) = (shape.input(), shape.channels());
    for_each_output(shape, batch, |image, out, y, x| {
        let sum = &mut output[out..out + c];
        let (rows, columns) = shape.clipped(y, x);
        let count = (rows.len() * columns.len()) as f32;
        sum.fill(0.0);
        for row in rows {
            for column in columns.clone() {
                let pixel = image + (row * w_in + column) * c;
                for (sum, &value) in sum.iter_mut().zip(&input[pixel..pixel + c]) {
                    *sum += value;
                }
            }
        }
        for value in sum {
            *value /= count;
        }
    });
}

dispatch! {
    /// Spreads each output's gradient evenly over its window: `d_input [batch, h_in, w_in, c]` is overwritten.
    pub fn avgpool_backward(
        shape: &PoolShape,
        batch: usize,
        d_output: &[f32],
        d_input: &mut [f32],
    ) = avgpool_backward_loops
}

dispatch! {
    /// As [`avgpool_backward`], of windows that share out the image.
    pub fn adaptive_avgpool_backward(
        shape: &AdaptiveShape,
        batch: usize,
        d_output: &[f32],
        d_input: &mut [f32],
    ) = adaptive_avgpool_backward_loops
}

#[inline(always)]
fn avgpool_backward_loops<S: Simd>(shape: &PoolShape, batch: usize, d_output: &[f32], d_input: &mut [f32]) {
    spread(shape, batch, d_output, d_input);
}

#[inline(always)]
fn adaptive_avgpool_backward_loops<S: Simd>(
    shape: &AdaptiveShape,
    batch: usize,
    d_output: &[f32],
    d_input: &mut [f32],
) {
    spread(shape, batch, d_output, d_input);
}

#[inline(always)]
fn spread(shape: &impl Windows, batch: usize, d_output: &[f32], d_input: &mut [f32]) {
    check(shape, batch, d_input.len(), d_output.len());
    let ([_, w_in], c) = (shape.input(), shape.channels());
    d_input.fill(0.0);
    for_each_output(shape, batch, |image, out, y, x| {
        let (rows, columns) = shape.clipped(y, x);
        let count = (rows.len() * columns.len()) as f32;
        for row in rows {
            for column in columns.clone() {
                let pixel = image + (row * w_in + column) * c;
                for (d, &value) in d_input[pixel..pixel + c].iter_mut().zip(&d_output[out..out + c]) {
                    *d += value / count;
                }
            }
        }
    });
}
