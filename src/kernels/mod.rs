//! The arithmetic: plain functions over slices, with shapes that were checked once.
//!
//! Activations are NHWC, convolution weights `[kh, kw, c_in, c_out]`, dense weights `[inputs, outputs]`: the innermost
//! axis is the one that SIMD runs along. Every function checks the lengths it is given and documents its shapes.
//! Functions whose name ends in `_weights` add to the gradient they are given, since a step may have many micro-batches,
//! or overwrite it (the first one), which spares clearing it.
//!
//! The engine for convolutions and dense layers is im2col + `matrixmultiply` (`--kernels gemm`). The element-wise loops
//! are compiled for several instruction sets; the crate `multiversion` chooses at run time.

mod activation;
mod conv;
mod dense;
mod gemm;
mod im2col;
mod pool;
mod shape;
mod softmax;
mod sum;
mod update;

pub use activation::{Activation, activation_backward, activation_forward, dropout_backward, dropout_forward};
pub use conv::{conv2d_backward_data, conv2d_backward_weights, conv2d_forward, conv2d_scratch};
pub use dense::{dense_backward_data, dense_backward_weights, dense_forward};
pub use pool::{avgpool_backward, avgpool_forward, maxpool_backward, maxpool_forward};
pub use shape::{ConvShape, DenseShape, Padding, PoolShape, Window};
pub use softmax::{Score, argmax, softmax, softmax_cross_entropy};
pub use sum::{sum_of_squares, tree};
pub use update::{AdamStep, adam_update, clip_by_value, momentum_update, sgd_update};
