//! The forward pass, and the gradient of the input: a tile of neighbouring pixels stays in registers while the window's places
//! are added up, row by row.

use super::super::super::isa::dispatch;
use super::super::super::shape::ConvShape;
use super::super::super::simd::{Simd, Work, store_some};
use super::super::super::tile::{cut, most_rows, with_rows};
use super::super::sweep::blocks;
use super::channels::{add_up, check, repeat, repeated_len};
use super::places::{Axis, Places, Run};

/// Rows that are written before the next channels' turn: the rows that they read together stay in the first-level cache.
const ROWS: usize = 4;

/// `output [h_out, w_out, c_out]` = `bias + Σ input · weight`: `input [h_in, w_in, c_in]`, `weight [kh, kw, 1, c_out]`,
/// `bias [c_out]` or empty; output channel `o` reads input channel `o · c_in / c_out`.
pub fn depthwise_forward(
    shape: &ConvShape,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    output: &mut [f32],
    scratch: &mut [f32],
) {
    check(shape, input.len(), output.len(), weight.len());
    assert!(bias.is_empty() || bias.len() == shape.c_out, "bias of {shape:?}");
    let repeated = &mut scratch[..repeated_len(shape)];
    let input = if repeated.is_empty() {
        input
    } else {
        repeat(shape, input, repeated);
        repeated
    };
    sweep(shape, Axis::forward(shape), input, weight, bias, output);
}

/// The gradient of the input: `d_input [h_in, w_in, c_in]` is overwritten.
pub fn depthwise_backward_data(
    shape: &ConvShape,
    d_output: &[f32],
    weight: &[f32],
    d_input: &mut [f32],
    scratch: &mut [f32],
) {
    check(shape, d_input.len(), d_output.len(), weight.len());
    let repeated = &mut scratch[..repeated_len(shape)];
    if repeated.is_empty() {
        sweep(shape, Axis::backward(shape), d_output, weight, &[], d_input);
    } else {
        sweep(shape, Axis::backward(shape), d_output, weight, &[], repeated);
        add_up(shape, repeated, d_input);
    }
}

dispatch! {
    /// `output` from `input`, both with as many channels as `shape` has outputs.
    fn sweep(
        shape: &ConvShape,
        axes: [Axis; 2],
        input: &[f32],
        weight: &[f32],
        bias: &[f32],
        output: &mut [f32],
    ) = sweep_loops
}

#[inline(always)]
fn sweep_loops<S: Simd>(
    shape: &ConvShape,
    [rows, columns]: [Axis; 2],
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    output: &mut [f32],
) {
    let channels = shape.c_out;
    assert!(output.len() == rows.targets() * columns.targets() * channels);
    assert!(input.len() == rows.sources() * columns.sources() * channels && weight.len() == shape.weight_len());
    let (row_in, row_out) = (columns.sources() * channels, columns.targets() * channels);
    for first in (0..rows.targets()).step_by(ROWS) {
        let count = ROWS.min(rows.targets() - first);
        let mut places = [Places::default(); ROWS];
        for (places, y) in places.iter_mut().zip(first..first + count) {
            *places = rows.places(y);
        }
        for run in columns.runs() {
            for (channel, lanes) in blocks::<S>(channels) {
                for (y, places) in places[..count].iter().enumerate() {
                    let line = Line {
                        from: input[places.pixel * row_in + run.places.pixel * channels + channel..].as_ptr(),
                        source_step: columns.source_step() * channels,
                        weight: weight[(places.place * shape.kw + run.places.place) * channels + channel..].as_ptr(),
                        rows: Steps::new(places, row_in, shape.kw * channels),
                        columns: Steps::new(&run.places, channels, channels),
                        bias: if bias.is_empty() { std::ptr::null() } else { bias[channel..].as_ptr() },
                        to: output[(first + y) * row_out + run.first * channels + channel..].as_mut_ptr(),
                        target_step: columns.target_step() * channels,
                        channels: lanes.min(channels - channel),
                    };
                    // SAFETY: the asserts above, and `places`: all pixels and places that are named lie in the image and in the window.
                    unsafe {
                        tiles::<S>(&line, &run, lanes);
                    }
                }
            }
        }
    }
}

/// How far it is from place to place, in floats.
#[derive(Clone, Copy)]
struct Steps {
    count: usize,
    source: usize,
    weight: isize,
}

impl Steps {
    fn new(places: &Places, pixel: usize, place: usize) -> Steps {
        let Places { count, pixel_step, place_step, .. } = *places;
        Steps { count, source: pixel_step * pixel, weight: place_step * place as isize }
    }
}

/// The pixels of a run in one row, a block of channels of each.
struct Line {
    /// The first pixel's first source, and from pixel to pixel.
    from: *const f32,
    source_step: usize,
    /// The weight of its first place.
    weight: *const f32,
    rows: Steps,
    columns: Steps,
    /// Null where there is none.
    bias: *const f32,
    /// Where the first pixel is written, and from pixel to pixel.
    to: *mut f32,
    target_step: usize,
    /// Of the block.
    channels: usize,
}

#[inline(always)]
unsafe fn tiles<S: Simd>(line: &Line, run: &Run, lanes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match (lanes == S::LANES, line.channels == lanes) {
            (true, true) => tiles_of::<S, 1, false>(line, run),
            (true, false) => tiles_of::<S, 1, true>(line, run),
            (false, true) => tiles_of::<S, 2, false>(line, run),
            (false, false) => tiles_of::<S, 2, true>(line, run),
        }
    }
}

#[inline(always)]
unsafe fn tiles_of<S: Simd, const N: usize, const TAIL: bool>(line: &Line, run: &Run) {
    for (first, pixels) in cut(run.count, most_rows::<S>(N)) {
        // SAFETY: the caller's promise, for these pixels.
        unsafe { with_rows!(S, N, pixels, P => S::outline(&Tile::<P, N, TAIL> { line, first })) }
    }
}

/// Some pixels of a line.
struct Tile<'a, const P: usize, const N: usize, const TAIL: bool> {
    line: &'a Line,
    first: usize,
}

impl<const P: usize, const N: usize, const TAIL: bool> Work for Tile<'_, P, N, TAIL> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn work<S: Simd>(&self) {
        let &Tile { line, first } = self;
        let last = line.channels - (N - 1) * S::LANES;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); N]; P];
            for y in 0..line.rows.count {
                let mut from = line.from.add(first * line.source_step + y * line.rows.source);
                let mut weight = line.weight.offset(y as isize * line.rows.weight);
                for _ in 0..line.columns.count {
                    let mut weights = [S::splat(0.0); N];
                    for n in 0..N {
                        weights[n] = load::<S, N, TAIL>(weight, n, last);
                    }
                    for p in 0..P {
                        for n in 0..N {
                            let value = load::<S, N, TAIL>(from.add(p * line.source_step), n, last);
                            sums[p][n] = S::mul_add(value, weights[n], sums[p][n]);
                        }
                    }
                    from = from.wrapping_add(line.columns.source);
                    weight = weight.wrapping_offset(line.columns.weight);
                }
            }
            if !line.bias.is_null() {
                for n in 0..N {
                    let bias = load::<S, N, TAIL>(line.bias, n, last);
                    for p in 0..P {
                        sums[p][n] = S::add(sums[p][n], bias);
                    }
                }
            }
            for p in 0..P {
                for n in 0..N {
                    let to = line.to.add((first + p) * line.target_step + n * S::LANES);
                    store_some::<S>(to, sums[p][n], if TAIL && n == N - 1 { last } else { S::LANES });
                }
            }
        }
    }
}

/// Vector `n` of `N`, whose last one may be partly used.
#[inline(always)]
unsafe fn load<S: Simd, const N: usize, const TAIL: bool>(from: *const f32, n: usize, last: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let from = from.add(n * S::LANES);
        if TAIL && n == N - 1 { S::load_first(from, last) } else { S::load(from) }
    }
}
