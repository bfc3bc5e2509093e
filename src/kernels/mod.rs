//! The arithmetic: plain functions over slices, with shapes that were checked once.
//!
//! Activations are NHWC, convolution weights `[kh, kw, c_in, c_out]`, dense weights `[inputs, outputs]`: the innermost
//! axis is the one that SIMD runs along. Every function checks the lengths it is given and documents its shapes.
//!
//! Sums have one order: lanes run across outputs, never along a sum, every chain starts at +0.0 and every multiply-add is
//! fused. So all instruction sets ([`Isa`]) and batch tilings give the same bits. A kernel is written once,
//! over a vector of lanes (`simd`), and compiled for each instruction set; `isa` chooses at run time.

// One of the few places where it may be: see ARCHITECTURE.md.
#![allow(unsafe_code)]

mod activation;
pub mod conv;
mod dense;
pub mod gemm;
mod isa;
mod peak;
mod pool;
mod shape;
mod simd;
mod softmax;
mod subtrees;
mod sum;
mod tile;
mod update;

pub use activation::{Activation, activation_backward, activation_forward, dropout_backward, dropout_forward};
pub use conv::{ConvBlock, Frame, Rectifier};
pub use dense::{DENSE_BLOCK, dense_backward_data, dense_backward_weights, dense_forward, dense_scratch};
pub use isa::{Isa, choose, isa};
pub use peak::fma_chains;
pub use pool::{avgpool_backward, avgpool_forward, maxpool_backward, maxpool_forward};
pub use shape::{ConvShape, DenseShape, Padding, PoolShape, Window};
pub use softmax::{Score, argmax, softmax, softmax_cross_entropy};
pub use subtrees::Subtrees;
pub use sum::{Leaf, MOST_JOINS, add, leaves, most_waiting, sum_of_squares, tree};
pub use update::{AdamStep, adam_update, clip_by_value, momentum_update, sgd_update};

/// A vector of floats that begins at a cache line: a line of lanes never straddles two.
pub type Buffer = aligned_vec::AVec<f32, aligned_vec::ConstAlign<64>>;

/// A buffer of zeros.
pub fn zeros(len: usize) -> Buffer {
    aligned_vec::avec![[64]| 0.0; len]
}

/// Who computes convolutions and dense layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Direct kernels: the same bits from every instruction set
    #[default]
    Direct,
    /// im2col and the crate matrixmultiply, which orders its sums as it likes
    Gemm,
}
