//! The window swept over an image by tiles: the forward pass, and the gradient of the input.

use super::super::super::simd::Simd;
use super::super::super::tile::cut;
use super::super::sweep::blocks;
use super::finish::{Finishing, Output};
use super::product::{Product, product};
use super::tiles::{Image, Transform, tiles};
use super::{GAP, IN, OUT, POSITIONS};

/// The most lanes of a block of output channels.
const MOST_LANES: usize = 32;

/// The most tiles that are worked on together: transformed tiles and sums stay in the second-level cache. Chosen from 12
/// to 72 by `benches/results/2026-11-23-winograd-epyc-milan.md`.
const TILES: usize = 24;

/// Floats of scratch memory that [`sweep`] takes for an image of `c_in` channels and an output of height and width `size`.
pub fn sweep_scratch(c_in: usize, size: [usize; 2]) -> usize {
    let most = TILES.min(tiles(size));
    POSITIONS * (most * (c_in + MOST_LANES) + 2 * GAP) + IN * IN * c_in
}

/// All tiles of `output`, from an `image` and weights that [`pack`](super::pack) packed.
///
/// # Safety
/// As [`Simd`]; `output` has room for all it says.
#[inline(always)]
pub unsafe fn sweep<S: Simd>(image: &Image<'_>, packed: &[f32], output: &Output, scratch: &mut [f32]) {
    let c_in = image.frame.c;
    let all = tiles(output.size);
    let most = TILES.min(all);
    assert!(scratch.len() >= sweep_scratch(c_in, output.size) && image.across == output.size[1].div_ceil(OUT));
    assert!(packed.len() >= POSITIONS * c_in * output.channels.next_multiple_of(S::LANES));
    let (transformed, rest) = scratch.split_at_mut(POSITIONS * (most * c_in + GAP));
    let (sums, patch) = rest.split_at_mut(POSITIONS * (most * MOST_LANES + GAP));
    for (first, count) in cut(all, most) {
        let position = count * c_in + GAP;
        let (to, patch) = (transformed.as_mut_ptr(), patch.as_mut_ptr());
        // SAFETY: the asserts above: each part of `scratch` has room for `most` tiles.
        unsafe {
            Transform::<IN> { image, tiles: (first, count), to, position, patch }.run::<S>();
            for (channel, lanes) in blocks::<S>(output.channels) {
                let sums_position = count * lanes + GAP;
                let weights = packed[channel * POSITIONS * c_in..].as_ptr();
                let sums = sums.as_mut_ptr();
                let work = Product { c_in, tiles: to, tiles_position: position, weights, sums, sums_position };
                let finishing =
                    Finishing { output, across: image.across, tiles: (first, count), channel, sums, sums_position };
                if lanes == S::LANES {
                    product::<S, 1>(work, count);
                    finishing.run::<S, 1>();
                } else {
                    product::<S, 2>(work, count);
                    finishing.run::<S, 2>();
                }
            }
        }
    }
}
