//! The arithmetic: plain functions over slices, with shapes that were checked once.
//!
//! Activations are NHWC, convolution weights `[kh, kw, c_in, c_out]`, dense weights `[inputs, outputs]`: the innermost
//! axis is the one that SIMD runs along. Every function checks the lengths it is given and documents its shapes.
//!
//! Sums have one order: lanes run across outputs, never along a sum, every chain starts at +0.0 and every multiply-add is
//! fused. So all instruction sets ([`Isa`]) and batch tilings give the same bits. A kernel is written once,
//! over a vector of lanes (`simd`), and compiled for each instruction set; `isa` chooses at run time.

mod activation;
mod batch_norm;
mod gated;
mod buffer;
mod channels;
pub mod conv;
mod dense;
pub mod gemm;
mod half;
mod im2col;
mod isa;
mod norm;
mod normalize;
mod part_tree;
mod peak;
mod pool;
pub mod rng;
mod scale;
mod shape;
mod simd;
mod softmax;
mod reduction_tree;
mod sum;
mod tile;
mod update;

pub use activation::{Activation, activation_backward, activation_forward, drop_path, dropout, rectifier_backward};
pub use batch_norm::{
    Affine, channel_moments, merge_moments, merge_sums64, norm_backward, norm_forward, norm_gradient_sums,
};
pub use buffer::{Buffer, zeros};
pub use channels::{Channels, add_channels, put_channels, take_channels};
pub use conv::{ConvBlock, Frame, Rectifier};
pub use dense::{
    DENSE_BLOCK, Groups, GroupsMut, Rows, RowsMut, dense_backward_bias, dense_backward_data, dense_backward_inputs,
    dense_backward_range, dense_backward_scratch, dense_backward_weights, dense_forward, dense_forward_blocks,
    dense_forward_sums, dense_outputs, dense_scratch, dense_turn, dense_turned,
};
pub use gated::{Gated, gated_backward, gated_forward};
pub use half::{pack_bf16, packed_len, round_to_bf16, unpack_bf16};
pub use isa::{Isa, NoSuchIsa, choose, isa};
pub use norm::{
    GroupNormShape, NormBackward, NormForward, group_norm_backward, group_norm_forward, layer_norm_backward,
    layer_norm_forward,
};
pub use normalize::{channel_sums, standardise};
pub use part_tree::part_tree;
pub use peak::fma_chains;
pub use pool::{
    adaptive_avgpool_backward, adaptive_avgpool_forward, avgpool_backward, avgpool_forward, maxpool_backward,
    maxpool_forward,
};
pub use reduction_tree::{ReductionTree, merge_sums};
pub use scale::{scale_backward_factors, scale_backward_map, scale_forward};
pub use shape::{AdaptiveShape, ConvShape, DenseShape, Padding, PoolShape, Window};
pub use softmax::{Score, argmax, softmax, softmax_cross_entropy};
pub use sum::{Leaf, MOST_MERGES, add, add_rectified, leaves, most_waiting, sum_of_squares, tree};
pub use update::{AdamStep, adam_update, clip_by_value, momentum_update, sgd_update};
