//! Tiles of weights that stay in registers while their gradients are summed: what windows of any shape and Winograd's tiles share.

use super::super::simd::{Simd, Work};
use super::super::tile::{Walk, cut, most_rows, multiply, with_rows};
use super::sweep::blocks;

/// One row of the window: `line · c_out` weights.
#[inline(always)]
pub unsafe fn window_row<S: Simd>(line: usize, c_out: usize, walk: Walk, a: *const f32, b: *const f32, to: *mut f32) {
    for (channel, lanes) in blocks::<S>(c_out) {
        // SAFETY: the caller's promise, for this block of channels.
        unsafe {
            let (b, to) = (b.add(channel), to.add(channel));
            let count = lanes.min(c_out - channel);
            match (lanes == S::LANES, count == lanes) {
                (true, true) => tiles::<S, 1, false>(line, c_out, walk, a, b, to, S::LANES),
                (true, false) => tiles::<S, 1, true>(line, c_out, walk, a, b, to, count),
                (false, true) => tiles::<S, 2, false>(line, c_out, walk, a, b, to, S::LANES),
                (false, false) => tiles::<S, 2, true>(line, c_out, walk, a, b, to, count - S::LANES),
            }
        }
    }
}

/// Adds to `line` rows of weights, each `c_out` long, for one block of channels.
#[inline(always)]
unsafe fn tiles<S: Simd, const N: usize, const TAIL: bool>(
    line: usize,
    c_out: usize,
    walk: Walk,
    a: *const f32,
    b: *const f32,
    to: *mut f32,
    last: usize,
) {
    for (first, rows) in cut(line, most_rows::<S>(N)) {
        // SAFETY: the caller's promise, for these rows.
        unsafe {
            let (a, to) = (a.add(first), to.add(first * c_out));
            with_rows!(S, N, rows, P => S::outline(&WeightTile::<P, N, TAIL> { walk, a, b, to, c_out, last }));
        }
    }
}

/// Some rows of weights, one block of channels wide.
struct WeightTile<const P: usize, const N: usize, const TAIL: bool> {
    walk: Walk,
    a: *const f32,
    b: *const f32,
    to: *mut f32,
    c_out: usize,
    last: usize,
}

impl<const P: usize, const N: usize, const TAIL: bool> Work for WeightTile<P, N, TAIL> {
    #[inline(always)]
    #[allow(clippy::needless_range_loop)]
    unsafe fn work<S: Simd>(&self) {
        let &WeightTile { walk, a, b, to, c_out, last } = self;
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[S::splat(0.0); N]; P];
            for p in 0..P {
                for n in 0..N {
                    let from = to.add(p * c_out + n * S::LANES);
                    sums[p][n] = if TAIL && n == N - 1 { S::load_first(from, last) } else { S::load(from) };
                }
            }
            multiply::<S, P, N, TAIL>(&mut sums, a, b, walk, last);
            for p in 0..P {
                for n in 0..N {
                    let to = to.add(p * c_out + n * S::LANES);
                    if TAIL && n == N - 1 { S::store_first(to, sums[p][n], last) } else { S::store(to, sums[p][n]) }
                }
            }
        }
    }
}
