//! 3×3 windows with stride 1 by Winograd's F(4×4, 3×3): a tile of 4×4 outputs takes 36 multiplications a pair of channels,
//! not 144. Image tiles (6×6 pixels) and weights are transformed to 36 *positions*; at each of them a product of matrices
//! sums over the channels; what comes out is transformed back.
//!
//! Which layers go this way depends on nothing but their shape ([`applies`]).

mod backward_weights;
mod choice;
mod finish;
mod pack;
mod product;
mod sweep;
mod tiles;
mod transform;

pub use backward_weights::{backward_weights, weights_scratch};
pub use choice::{applies, applies_to_weights};
pub use finish::{Output, Pooled};
pub use pack::pack;
pub use sweep::{sweep, sweep_scratch};
pub use tiles::Image;

/// Outputs along one side of a tile, and pixels under it.
const OUT: usize = 4;
const IN: usize = 6;
/// Places in a transformed tile.
pub const POSITIONS: usize = IN * IN;

/// Floats between positions: not a power of two, or the positions of a tile would push each other out of the cache.
const GAP: usize = 16;
