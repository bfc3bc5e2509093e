//! Convolutions of every channel by itself (as many groups as input channels), one image a call. SIMD runs across the channels.
//! Where a channel has several outputs, the input is first copied to as many channels as there are outputs.

mod channels;
mod places;
mod sweep;
mod weights;

pub use sweep::{depthwise_backward_data, depthwise_forward};
pub use weights::depthwise_backward_weights;

use super::super::shape::ConvShape;
use channels::repeated_len;

/// Floats of scratch memory that the three routines take.
pub fn depthwise_scratch(shape: &ConvShape) -> usize {
    repeated_len(shape) + weights::columns_len(shape)
}
