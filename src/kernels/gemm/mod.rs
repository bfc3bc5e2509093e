//! The second engine (`--kernels gemm`): im2col and the crate `matrixmultiply`, which picks its kernels and the order of
//! its sums by itself. The oracle of the kernel tests and the baseline of `glasses bench`.

mod conv;
mod dense;
mod product;

pub use conv::{conv2d_backward_data, conv2d_backward_weights, conv2d_forward, conv2d_scratch};
pub use dense::{dense_backward_data, dense_backward_weights, dense_forward};
