//! A window swept over an image: the forward pass of a convolution, and the gradient of its input.

use super::super::simd::{Simd, Work, load_some, store_some};
use super::super::tile::{Walk, cut, most_rows, multiply, with_rows};
use super::Rectifier;

/// A sweep's geometry. Steps are in floats.
#[derive(Clone, Copy, Debug)]
pub struct Sweep {
    /// Rows of the image, and floats from row to row.
    pub h_in: usize,
    pub row_in: usize,
    /// The image's row under the first row of the window at output row 0: negative above the image.
    pub top: isize,
    /// The float of a row under the window's first pixel at output column 0.
    pub first: usize,
    /// From output row to output row (in rows of the image), and from output column to output column.
    pub step_y: usize,
    pub step_x: usize,
    /// The window: rows, and floats in each.
    pub rows: usize,
    pub len: usize,
    /// The output: width, channels, and the floats from row to row and from pixel to pixel.
    pub w_out: usize,
    pub c_out: usize,
    pub row_out: usize,
    pub pixel_out: usize,
}

/// What happens to a sum before it is stored.
#[derive(Clone, Copy)]
pub enum Finish {
    /// A bias is added (as many as lanes in all blocks), then the rectifier applied.
    Bias(*const f32, Option<Rectifier>),
    /// It is multiplied by the rectifier's slope, given its output: the place of output (0, 0), and the floats from row to
    /// row and from pixel to pixel.
    Gate(Rectifier, *const f32, usize, usize),
    /// Nothing.
    Plain,
}

/// Floats of weights packed for a sum of `terms` terms into `channels` channels: blocks of two vectors, `[terms, lanes]`
/// each, the last one filled up with zeros. The same for every instruction set.
pub fn packed_len(terms: usize, channels: usize) -> usize {
    terms * channels.next_multiple_of(16)
}

/// The blocks of channels: (first, lanes).
#[inline(always)]
pub fn blocks<S: Simd>(channels: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..channels).step_by(2 * S::LANES).map(move |first| {
        let lanes = if channels - first > S::LANES { 2 * S::LANES } else { S::LANES };
        (first, lanes)
    })
}

/// Output rows `y_start .. y_end` of a sweep over `image`, to `output` (where row `y_start` begins).
///
/// # Safety
/// As [`Simd`]. The image holds `h_in` rows, each with borders as wide as the window hangs over; `packed` is laid out as
/// [`packed_len`] says; `output`, and what `finish` points to, hold every place that the steps name.
#[inline(always)]
pub unsafe fn sweep_rows<S: Simd>(
    sweep: &Sweep,
    (y_start, y_end): (usize, usize),
    image: *const f32,
    packed: *const f32,
    finish: Finish,
    output: *mut f32,
) {
    // What is larger is read once: the image, or the weights.
    let weights = sweep.rows * sweep.len * sweep.c_out;
    // SAFETY: the caller's promise.
    unsafe {
        if weights > sweep.h_in * sweep.row_in {
            for block in blocks::<S>(sweep.c_out) {
                for y in y_start..y_end {
                    let to = output.add((y - y_start) * sweep.row_out);
                    OutputRow::new(sweep, y, image, finish).block::<S>(block, packed, to);
                }
            }
        } else {
            for y in y_start..y_end {
                let to = output.add((y - y_start) * sweep.row_out);
                let row = OutputRow::new(sweep, y, image, finish);
                for block in blocks::<S>(sweep.c_out) {
                    row.block::<S>(block, packed, to);
                }
            }
        }
    }
}

/// What one output row is made of.
struct OutputRow<'a> {
    sweep: &'a Sweep,
    /// Rows of the window above the image, and inside it.
    above: usize,
    runs: usize,
    /// The image under the window's first row inside it.
    from: *const f32,
    finish: Finish,
}

impl OutputRow<'_> {
    /// Row `y`.
    ///
    /// # Safety
    /// As [`sweep_rows`].
    #[inline(always)]
    unsafe fn new(sweep: &Sweep, y: usize, image: *const f32, finish: Finish) -> OutputRow<'_> {
        let top = (y * sweep.step_y) as isize + sweep.top;
        let above = (-top).max(0) as usize;
        let below = (sweep.h_in as isize - top).clamp(0, sweep.rows as isize) as usize;
        let runs = below.saturating_sub(above);
        // SAFETY: rows `above .. below` of the window lie inside the image; offsets stay inside what the caller vouches for.
        unsafe {
            let from =
                if runs == 0 { image } else { image.add((top + above as isize) as usize * sweep.row_in + sweep.first) };
            let finish = match finish {
                Finish::Gate(rectifier, at, row, pixel) => Finish::Gate(rectifier, at.add(y * row), row, pixel),
                other => other,
            };
            OutputRow { sweep, above, runs, from, finish }
        }
    }

    /// One block of its channels, to the row that begins at `to`.
    ///
    /// # Safety
    /// As [`sweep_rows`].
    #[inline(always)]
    unsafe fn block<S: Simd>(&self, (channel, lanes): (usize, usize), packed: *const f32, to: *mut f32) {
        let &OutputRow { sweep, above, runs, from, finish } = self;
        // SAFETY: the caller's promise.
        unsafe {
            let weights = packed.add(channel * sweep.rows * sweep.len + above * sweep.len * lanes);
            if lanes == S::LANES {
                line::<S, 1>(sweep, runs, from, weights, channel, finish, to.add(channel));
            } else {
                line::<S, 2>(sweep, runs, from, weights, channel, finish, to.add(channel));
            }
        }
    }
}

/// One block of channels of one output row.
#[inline(always)]
unsafe fn line<S: Simd, const N: usize>(
    sweep: &Sweep,
    runs: usize,
    from: *const f32,
    weights: *const f32,
    channel: usize,
    finish: Finish,
    to: *mut f32,
) {
    let lanes = N * S::LANES;
    let walk = Walk {
        runs,
        len: sweep.len,
        a_row: sweep.step_x,
        a_run: sweep.row_in,
        a_k: 1,
        b_run: sweep.len * lanes,
        b_k: lanes,
    };
    let last = (sweep.c_out - channel).min(lanes) - (N - 1) * S::LANES;
    let line = Line { sweep, walk, from, weights, channel, last, finish, to };
    for (x, rows) in cut(sweep.w_out, most_rows::<S>(N)) {
        // SAFETY: the caller's promise, for these columns.
        unsafe { with_rows!(S, N, rows, P => S::outline(&SweepTile::<P, N> { line: &line, x })) }
    }
}

/// What the tiles of a line share.
struct Line<'a> {
    sweep: &'a Sweep,
    walk: Walk,
    from: *const f32,
    weights: *const f32,
    channel: usize,
    last: usize,
    finish: Finish,
    to: *mut f32,
}

/// Some columns of a line.
struct SweepTile<'a, const P: usize, const N: usize> {
    line: &'a Line<'a>,
    x: usize,
}

impl<const P: usize, const N: usize> Work for SweepTile<'_, P, N> {
    #[inline(always)]
    unsafe fn work<S: Simd>(&self) {
        let &SweepTile { line, x } = self;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); N]; P];
            let from = line.from.add(x * line.sweep.step_x);
            multiply::<S, P, N, false>(&mut sums, from, line.weights, line.walk, 0);
            let tile = Tile { sums, x, channel: line.channel, last: line.last };
            store_tile::<S, P, N>(&tile, line.sweep, line.finish, line.to.add(x * line.sweep.pixel_out));
        }
    }
}

/// A tile's sums, and where they belong.
struct Tile<S: Simd, const P: usize, const N: usize> {
    sums: [[S::V; N]; P],
    /// Of the first row.
    x: usize,
    /// Of the first lane.
    channel: usize,
    /// Lanes of the last vector that are channels.
    last: usize,
}

/// What stands between a tile's sums and the memory. Plain loops over constants, so that no sum leaves its register.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn store_tile<S: Simd, const P: usize, const N: usize>(
    tile: &Tile<S, P, N>,
    sweep: &Sweep,
    finish: Finish,
    to: *mut f32,
) {
    let count = |n: usize| if n < N - 1 { S::LANES } else { tile.last };
    macro_rules! each {
        ($p:ident, $n:ident => $value:expr) => {
            for $p in 0..P {
                for $n in 0..N {
                    store_some::<S>(to.add($p * sweep.pixel_out + $n * S::LANES), $value, count($n));
                }
            }
        };
    }
    // SAFETY: the caller's promise.
    unsafe {
        match finish {
            Finish::Plain => each!(p, n => tile.sums[p][n]),
            Finish::Bias(bias, rectifier) => {
                let mut biases = [S::splat(0.0); N];
                for n in 0..N {
                    biases[n] = S::load(bias.add(tile.channel + n * S::LANES));
                }
                match rectifier {
                    None => each!(p, n => S::add(tile.sums[p][n], biases[n])),
                    Some(rectifier) => each!(p, n => rectifier.apply::<S>(S::add(tile.sums[p][n], biases[n]))),
                }
            }
            Finish::Gate(rectifier, output, _, pixel) => {
                let output = output.add(tile.x * pixel + tile.channel);
                each!(p, n => {
                    let output = load_some::<S>(output.add(p * pixel + n * S::LANES), count(n));
                    rectifier.gate::<S>(output, tile.sums[p][n])
                });
            }
        }
    }
}
