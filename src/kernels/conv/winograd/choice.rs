//! Which convolutions go by tiles: their shape alone decides.

use super::super::super::shape::ConvShape;
use super::POSITIONS;
use super::tiles::tiles;

/// Whether a convolution's forward pass and the gradient of its input go this way.
pub fn applies(shape: &ConvShape) -> bool {
    let ConvShape { h_in, w_in, c_in, h_out, w_out, c_out, kh, kw, stride, .. } = *shape;
    let channels = |count: usize| count >= 16 && count.is_multiple_of(8);
    let pays = |h: usize, w: usize| {
        let tiles = tiles([h, w]);
        tiles >= 12 && 2 * tiles * POSITIONS <= h * w * 9
    };
    shape.is_plain()
        && (kh, kw, stride) == (3, 3, 1)
        && channels(c_in)
        && channels(c_out)
        && pays(h_out, w_out)
        && pays(h_in, w_in)
}

/// Whether the gradient of its weights does too: 36 sums a weight must not be too many for the caches.
pub fn applies_to_weights(shape: &ConvShape) -> bool {
    applies(shape) && shape.c_in * shape.c_out <= 1 << 14
}
