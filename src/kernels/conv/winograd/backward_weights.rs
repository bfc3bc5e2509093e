//! The gradient of the weights: at each position a product of the transformed tiles of input and gradient, summed over
//! the tiles of an image, then transformed to 3×3 and added.

use super::super::super::simd::{Simd, load_some, store_some};
use super::super::super::tile::{Walk, cut};
use super::super::backward_weights::window_row;
use super::sweep::tiles_at_once;
use super::tiles::{Image, Transform};
use super::{IN, OUT, POSITIONS, transform};

const GAP: usize = 16;

fn most_tiles(c_in: usize, c_out: usize) -> usize {
    tiles_at_once(c_in + c_out)
}

/// Floats of scratch memory that [`backward_weights`] takes.
pub fn weights_scratch(c_in: usize, c_out: usize) -> usize {
    let channels = c_in + c_out;
    let patch = (IN * IN * c_in).max(OUT * OUT * c_out);
    POSITIONS * (most_tiles(c_in, c_out) * channels + 2 * GAP) + POSITIONS * c_in * c_out + patch
}

/// One image: adds to `d_weight [3, 3, c_in, c_out]`.
#[inline(always)]
pub fn backward_weights<S: Simd>(
    input: &Image<'_>,
    d_conv: &Image<'_>,
    d_weight: &mut [f32],
    scratch: &mut [f32],
) {
    let (c_in, c_out) = (input.frame.c, d_conv.frame.c);
    let most = most_tiles(c_in, c_out);
    assert!(scratch.len() >= weights_scratch(c_in, c_out) && d_weight.len() == 9 * c_in * c_out);
    let (tiles, rest) = scratch.split_at_mut(POSITIONS * (most * c_in + GAP));
    let (d_tiles, rest) = rest.split_at_mut(POSITIONS * (most * c_out + GAP));
    let (sums, patch) = rest.split_at_mut(POSITIONS * c_in * c_out);
    sums.fill(0.0);
    for (first, count) in cut(d_conv.across * d_conv.frame.h.div_ceil(OUT), most) {
        let (position, d_position) = (count * c_in + GAP, count * c_out + GAP);
        let (to, d_to, patch) = (tiles.as_mut_ptr(), d_tiles.as_mut_ptr(), patch.as_mut_ptr());
        // SAFETY: the asserts above: each part of `scratch` has room for `most` tiles.
        unsafe {
            Transform::<IN> { image: input, tiles: (first, count), to, position, patch }.run::<S>();
            let work = Transform::<OUT> { image: d_conv, tiles: (first, count), to: d_to, position: d_position, patch };
            work.run::<S>();
            let walk = Walk { runs: 1, len: count, a_row: 1, a_k: c_in, b_k: c_out, ..Walk::default() };
            for p in 0..POSITIONS {
                let sums = sums[p * c_in * c_out..].as_mut_ptr();
                window_row::<S>(c_in, c_out, walk, to.add(p * position), d_to.add(p * d_position), sums);
            }
        }
    }
    for ci in 0..c_in {
        for channel in (0..c_out).step_by(S::LANES) {
            let at = ci * c_out + channel;
            // SAFETY: the places of one vector of weights, in `sums` and in `d_weight`.
            unsafe {
                let count = S::LANES.min(c_out - channel);
                add::<S>(sums[at..].as_ptr(), d_weight[at..].as_mut_ptr(), c_in * c_out, count);
            }
        }
    }
}

/// One vector of weights: columns, then rows, then added.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
unsafe fn add<S: Simd>(sums: *const f32, to: *mut f32, position: usize, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [[S::splat(0.0); IN]; 3];
        for x in 0..IN {
            let mut line = [S::splat(0.0); IN];
            for y in 0..IN {
                line[y] = load_some::<S>(sums.add((y * IN + x) * position), count);
            }
            let line = transform::d_weight::<S>(line);
            for y in 0..3 {
                rows[y][x] = line[y];
            }
        }
        for y in 0..3 {
            let line = transform::d_weight::<S>(rows[y]);
            for x in 0..3 {
                let to = to.add((y * 3 + x) * position);
                store_some::<S>(to, S::add(load_some::<S>(to, count), line[x]), count);
            }
        }
    }
}
