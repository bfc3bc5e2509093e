//! The gradient of the weights: at each position a product of the transformed tiles of input and gradient, summed over
//! the tiles of an image, then transformed to 3×3 and added.

use super::super::super::simd::{Simd, load_some, store_some};
use super::super::super::tile::{Walk, cut};
use super::super::weight_tiles::window_row;
use super::tiles::{Image, Transform, tiles};
use super::{GAP, IN, OUT, POSITIONS, transform};

/// The most tiles that are worked on together: as many terms as the sums of the 36 positions, which are read and written
/// for each such block, stay in registers for. Chosen from 12 to 72 by `benches/results/2026-11-23-winograd-epyc-milan.md`.
const TILES: usize = 72;

/// Floats of scratch memory that [`backward_weights`] takes for a gradient `[h, w, c_out]`.
pub fn weights_scratch(c_in: usize, [h, w, c_out]: [usize; 3]) -> usize {
    let most = TILES.min(tiles([h, w]));
    let patch = (IN * IN * c_in).max(OUT * OUT * c_out);
    POSITIONS * (most * (c_in + c_out) + 2 * GAP) + POSITIONS * c_in * c_out + patch
}

/// One image: adds to `d_weight [3, 3, c_in, c_out]`.
#[inline(always)]
pub fn backward_weights<S: Simd>(input: &Image<'_>, d_conv: &Image<'_>, d_weight: &mut [f32], scratch: &mut [f32]) {
    let (c_in, c_out) = (input.frame.c, d_conv.frame.c);
    let all = tiles([d_conv.frame.h, d_conv.frame.w]);
    let most = TILES.min(all);
    assert!(scratch.len() >= weights_scratch(c_in, d_conv.frame.size()) && d_weight.len() == 9 * c_in * c_out);
    let (transformed, rest) = scratch.split_at_mut(POSITIONS * (most * c_in + GAP));
    let (d_transformed, rest) = rest.split_at_mut(POSITIONS * (most * c_out + GAP));
    let (sums, patch) = rest.split_at_mut(POSITIONS * c_in * c_out);
    sums.fill(0.0);
    for (first, count) in cut(all, most) {
        let (position, d_position) = (count * c_in + GAP, count * c_out + GAP);
        let (to, d_to, patch) = (transformed.as_mut_ptr(), d_transformed.as_mut_ptr(), patch.as_mut_ptr());
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
