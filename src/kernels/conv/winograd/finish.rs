//! From sums to outputs: the transform back, then bias, rectifier and pool, or the slope of the rectifier below.

use super::super::super::simd::{Simd, Work, load_some, prefetch, store_some};
use super::super::pool::best_of;
use super::super::sweep::Finish;
use super::{IN, OUT, transform};

/// Where outputs go, and what happens to them before.
#[derive(Clone, Copy)]
pub struct Output {
    /// Output (0, 0); with a pool the first pooled one.
    pub values: *mut f32,
    /// Floats from row to row and from pixel to pixel.
    pub row: usize,
    /// Channels, and floats from pixel to pixel.
    pub channels: usize,
    /// Height and width, before the pool.
    pub size: [usize; 2],
    /// Before the pool.
    pub finish: Finish,
    /// Whether a 2×2 pool follows.
    pub pool: Option<Pooled>,
}

/// Where a pool says which values were the largest.
#[derive(Clone, Copy)]
pub struct Pooled {
    /// Null where nobody asks.
    pub winners: *mut u16,
    /// Words a row.
    pub words: usize,
}

/// The sums of some tiles and one block of channels.
pub struct Finishing<'a> {
    /// Where they go.
    pub output: &'a Output,
    /// Tiles in a row of them.
    pub across: usize,
    /// The first tile, and how many.
    pub tiles: (usize, usize),
    /// The block's first channel.
    pub channel: usize,
    /// `[tiles, lanes]` a position.
    pub sums: *const f32,
    /// Floats from position to position.
    pub sums_position: usize,
}

/// The same for blocks `N` vectors wide.
struct Vectors<'a, 'b, const N: usize, const POOL: bool>(&'a Finishing<'b>);

impl Finishing<'_> {
    /// All tiles.
    ///
    /// # Safety
    /// As [`Simd`]; sums and output lie as they say.
    #[inline(always)]
    pub unsafe fn run<S: Simd, const N: usize>(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.output.pool.is_some() {
                S::outline(&Vectors::<N, true>(self));
            } else {
                S::outline(&Vectors::<N, false>(self));
            }
        }
    }
}

impl<const N: usize, const POOL: bool> Work for Vectors<'_, '_, N, POOL> {
    #[inline(always)]
    unsafe fn work<S: Simd>(&self) {
        let Finishing { output, across, tiles, channel, sums, sums_position } = *self.0;
        for tile in 0..tiles.1 {
            let (y, x) = ((tiles.0 + tile) / across * OUT, (tiles.0 + tile) % across * OUT);
            for n in 0..N {
                let channel = channel + n * S::LANES;
                let count = (output.channels - channel).min(S::LANES);
                if channel % 16 == 0 {
                    ask_ahead::<POOL>(output, [y, x], channel);
                }
                // SAFETY: the caller's promise: the tile's outputs, as far as they lie inside `size`, have their places.
                unsafe {
                    let rows = transform_back::<S>(sums.add((tile * N + n) * S::LANES), sums_position);
                    if POOL {
                        store_pooled::<S>(output, rows, [y, x], channel, count);
                    } else {
                        store::<S>(output, rows, [y, x], channel, count);
                    }
                }
            }
        }
    }
}

/// Asks for the places of the next tile.
#[inline(always)]
fn ask_ahead<const POOL: bool>(output: &Output, [y, x]: [usize; 2], channel: usize) {
    let side = if POOL { 2 } else { OUT };
    let (y, x) = (y / OUT * side, x / OUT * side + side);
    for dy in 0..side {
        for dx in 0..side {
            prefetch(output.values.wrapping_add((y + dy) * output.row + (x + dx) * output.channels + channel));
        }
    }
    if let Finish::Gate(_, at, row, pixel) = output.finish {
        for dy in 0..side {
            for dx in 0..side {
                prefetch(at.wrapping_add((y + dy) * row + (x + dx) * pixel + channel));
            }
        }
    }
}

/// One vector of channels of one tile: columns; the rows are yet to come.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn transform_back<S: Simd>(sums: *const f32, position: usize) -> [[S::V; IN]; OUT] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [[S::splat(0.0); IN]; OUT];
        for x in 0..IN {
            let mut line = [S::splat(0.0); IN];
            for y in 0..IN {
                line[y] = S::load(sums.add((y * IN + x) * position));
            }
            let line = transform::output::<S>(line);
            for y in 0..OUT {
                rows[y][x] = line[y];
            }
        }
        rows
    }
}

/// The outputs of a tile at (`y`, `x`) that lie inside.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn store<S: Simd>(output: &Output, rows: [[S::V; IN]; OUT], [y, x]: [usize; 2], channel: usize, count: usize) {
    let [height, width] = [output.size[0] - y, output.size[1] - x];
    for dy in 0..OUT {
        // SAFETY: the caller's promise; rows and columns outside are left out.
        unsafe {
            let line = transform::output::<S>(rows[dy]);
            if dy >= height {
                continue;
            }
            let to = output.values.add((y + dy) * output.row + x * output.channels + channel);
            match output.finish {
                Finish::Plain => {
                    for dx in 0..OUT {
                        if dx < width {
                            store_some::<S>(to.add(dx * output.channels), line[dx], count);
                        }
                    }
                }
                Finish::Gate(rectifier, at, row, pixel) => {
                    let at = at.add((y + dy) * row + x * pixel + channel);
                    for dx in 0..OUT {
                        if dx < width {
                            let gate = load_some::<S>(at.add(dx * pixel), count);
                            store_some::<S>(to.add(dx * output.channels), rectifier.gate::<S>(gate, line[dx]), count);
                        }
                    }
                }
                Finish::Bias(..) => {
                    let line = with_bias::<S>(output.finish, line, channel);
                    for dx in 0..OUT {
                        if dx < width {
                            store_some::<S>(to.add(dx * output.channels), line[dx], count);
                        }
                    }
                }
            }
        }
    }
}

/// Bias and rectifier.
#[inline(always)]
unsafe fn with_bias<S: Simd>(finish: Finish, mut line: [S::V; OUT], channel: usize) -> [S::V; OUT] {
    if let Finish::Bias(bias, rectifier) = finish {
        // SAFETY: the caller's promise: there are biases for all lanes.
        unsafe {
            let bias = S::load(bias.add(channel));
            for value in &mut line {
                *value = S::add(*value, bias);
            }
            if let Some(rectifier) = rectifier {
                for value in &mut line {
                    *value = rectifier.apply::<S>(*value);
                }
            }
        }
    }
    line
}

/// The pooled outputs of a tile at (`y`, `x`), before the pool, that lie inside.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn store_pooled<S: Simd>(
    output: &Output,
    rows: [[S::V; IN]; OUT],
    [y, x]: [usize; 2],
    channel: usize,
    count: usize,
) {
    let [height, width] = [output.size[0] - y, output.size[1] - x];
    let vectors = output.channels.div_ceil(S::LANES);
    for dy in 0..2 {
        // SAFETY: the caller's promise; rows and columns outside are left out.
        unsafe {
            let upper = with_bias::<S>(output.finish, transform::output::<S>(rows[2 * dy]), channel);
            let lower = with_bias::<S>(output.finish, transform::output::<S>(rows[2 * dy + 1]), channel);
            if 2 * dy >= height {
                continue;
            }
            let (row, column) = (y / 2 + dy, x / 2);
            let to = output.values.add(row * output.row + column * output.channels + channel);
            for dx in 0..2 {
                if 2 * dx < width {
                    let four = [upper[2 * dx], upper[2 * dx + 1], lower[2 * dx], lower[2 * dx + 1]];
                    let (best, words) = best_of::<S>(four);
                    store_some::<S>(to.add(dx * output.channels), best, count);
                    if let Some(Pooled { winners, words: a_row }) = output.pool
                        && !winners.is_null()
                    {
                        let at = winners.add(row * a_row + ((column + dx) * vectors + channel / S::LANES) * 2);
                        (*at, *at.add(1)) = words;
                    }
                }
            }
        }
    }
}
