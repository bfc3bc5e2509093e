//! 3×3 windows with stride 1 by Winograd's F(4×4, 3×3): a tile of 4×4 outputs takes 36 multiplications a pair of channels,
//! not 144. Image tiles (6×6 pixels) and weights are transformed to 36 *positions*; at each of them a product of matrices
//! sums over the channels; what comes out is transformed back.
//!
//! Which layers go this way depends on nothing but their shape ([`applies`]).

mod backward_weights;
mod finish;
mod pack;
mod product;
mod sweep;
mod tiles;
mod transform;

pub use backward_weights::{backward_weights, weights_scratch};
pub use finish::{Output, Pooled};
pub use pack::pack;
pub use sweep::{sweep, sweep_scratch};
pub use tiles::Image;

use super::super::shape::ConvShape;

/// Outputs along one side of a tile, and pixels under it.
const OUT: usize = 4;
const IN: usize = 6;
/// Places in a transformed tile.
pub const POSITIONS: usize = IN * IN;

/// Floats between positions: not a power of two, or the positions of a tile would push each other out of the cache.
const GAP: usize = 16;

/// Whether a convolution's forward pass and the gradient of its input go this way.
pub fn applies(shape: &ConvShape) -> bool {
    let ConvShape { h_in, w_in, c_in, h_out, w_out, c_out, kh, kw, stride, .. } = *shape;
    let channels = |count: usize| count >= 16 && count.is_multiple_of(8);
    let pays = |h: usize, w: usize| {
        let tiles = tiles::tiles([h, w]);
        tiles >= 12 && 2 * tiles * POSITIONS <= h * w * 9
    };
    (kh, kw, stride) == (3, 3, 1) && channels(c_in) && channels(c_out) && pays(h_out, w_out) && pays(h_in, w_in)
}

/// Whether the gradient of its weights does too: 36 sums a weight must not be too many for the caches.
pub fn applies_to_weights(shape: &ConvShape) -> bool {
    applies(shape) && shape.c_in * shape.c_out <= 1 << 14
}
