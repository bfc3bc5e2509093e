//! Direct convolution in NHWC, with bias, rectifier and 2×2 max-pool fused where the network has them. SIMD runs across
//! the channels that are written. 3×3 windows go by tiles where that pays (`winograd`); every other shape takes the same
//! route: channels that fill no vector are worked on in a vector partly used, pixels that fill no tile in a smaller tile.
//! Channels that each go by themselves have kernels of their own (`depthwise`), other groups and dilated windows take the route of
//! 1×1 windows (`patches`).

mod backward_data;
mod backward_weights;
mod block;
mod depthwise;
mod forward;
mod frame;
mod patches;
mod pool;
mod rectifier;
mod sweep;
mod weight_tiles;
mod winners;
mod winograd;

pub use backward_data::{backward_packed_len, backward_scratch, conv2d_backward_data, pack_backward, padded_d_conv};
pub use backward_weights::{conv2d_backward_weights, weights_scratch};
pub use block::ConvBlock;
pub use depthwise::{depthwise_backward_data, depthwise_backward_weights, depthwise_forward, depthwise_scratch};
pub use forward::{conv2d_forward, forward_packed_len, forward_scratch, pack_forward};
pub use frame::{Frame, copy_frame, copy_gated};
pub use patches::{
    pack_patches, patches_backward_data, patches_backward_weights, patches_forward, patches_packed_len, patches_scratch,
};
pub use pool::unpool;
pub use rectifier::Rectifier;
