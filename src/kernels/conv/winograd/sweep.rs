//! The window swept over an image by tiles: the forward pass, and the gradient of the input.

use super::super::super::simd::Simd;
use super::super::super::tile::cut;
use super::super::sweep::blocks;
use super::finish::{Finishing, Output};
use super::product::{Product, product};
use super::tiles::{Image, Transform};
use super::{IN, OUT, POSITIONS};

/// Floats between positions: not a power of two, or the positions of a tile would push each other out of the cache.
const GAP: usize = 16;

/// The most floats of a block of output channels.
const MOST_LANES: usize = 32;

/// The most tiles that are worked on together: transformed tiles and sums stay in the second-level cache.
pub fn tiles_at_once(floats_a_tile: usize) -> usize {
    let budget = std::env::var("WB").map_or(64, |v| v.parse().unwrap());
    let multiple = 6;
    ((budget << 8) / (POSITIONS * floats_a_tile) / multiple * multiple).max(multiple)
}

/// Floats of scratch memory that [`sweep`] takes.
pub fn sweep_scratch(c_in: usize) -> usize {
    let tiles = tiles_at_once(c_in + 16);
    POSITIONS * (tiles * (c_in + MOST_LANES) + 2 * GAP) + IN * IN * c_in
}

/// All tiles of `output`, from an `image` and weights that [`pack`](super::pack) packed.
///
/// # Safety
/// As [`Simd`]; `output` has room for all it says.
#[inline(always)]
pub unsafe fn sweep<S: Simd>(image: &Image<'_>, packed: &[f32], output: &Output, scratch: &mut [f32]) {
    let c_in = image.frame.c;
    let most = tiles_at_once(c_in + 16);
    assert!(scratch.len() >= sweep_scratch(c_in));
    assert!(packed.len() >= POSITIONS * c_in * output.channels.next_multiple_of(S::LANES));
    let (tiles, rest) = scratch.split_at_mut(POSITIONS * (most * c_in + GAP));
    let (sums, patch) = rest.split_at_mut(POSITIONS * (most * MOST_LANES + GAP));
    let all = image.across * output.size[0].div_ceil(OUT);
    for (first, count) in cut(all, most) {
        let position = count * c_in + GAP;
        let (to, patch) = (tiles.as_mut_ptr(), patch.as_mut_ptr());
        // SAFETY: the asserts above: each part of `scratch` has room for `most` tiles.
        unsafe {
            Transform::<IN> { image, tiles: (first, count), to, position, patch }.run::<S>();
            for (channel, lanes) in blocks::<S>(output.channels) {
                let sums_position = count * lanes + GAP;
                let weights = packed[channel * POSITIONS * c_in..].as_ptr();
                let sums = sums.as_mut_ptr();
                let work = Product { c_in, tiles: to, tiles_position: position, weights, sums, sums_position };
                let finishing = Finishing { output, across: image.across, tiles: (first, count), channel, sums, sums_position };
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
