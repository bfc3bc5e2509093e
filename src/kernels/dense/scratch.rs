//! How much scratch memory the kernels take.

use super::super::shape::DenseShape;
use super::{backward_data, backward_weights, forward};

/// Floats of scratch memory that the gradient of a dense layer's weights takes for `batch` rows.
pub fn dense_backward_scratch(batch: usize) -> usize {
    backward_weights::scratch(batch)
}

/// Floats of scratch memory that the dense kernels take for `batch` rows.
pub fn dense_scratch(shape: DenseShape, batch: usize) -> usize {
    forward::scratch(shape, batch).max(backward_data::scratch(shape, batch)).max(backward_weights::scratch(batch))
}
