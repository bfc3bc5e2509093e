//! Max-pool and average-pool (a global average-pool is one window over the image).

use super::{Backward, Forward, Layer};
use crate::kernels::{self, PoolShape};

/// `maxpool 2`
#[derive(Clone, Debug)]
pub struct MaxPool(pub PoolShape);

/// `avgpool 2`, `global_avgpool`
#[derive(Clone, Debug)]
pub struct AvgPool(pub PoolShape);

impl Layer for MaxPool {
    fn forward(&self, pass: Forward<'_>) {
        kernels::maxpool_forward(&self.0, pass.batch, pass.input, pass.output);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(d_input) = pass.d_input {
            kernels::maxpool_backward(&self.0, pass.batch, pass.input, pass.d_output, d_input);
        }
    }
}

impl Layer for AvgPool {
    fn forward(&self, pass: Forward<'_>) {
        kernels::avgpool_forward(&self.0, pass.batch, pass.input, pass.output);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(d_input) = pass.d_input {
            kernels::avgpool_backward(&self.0, pass.batch, pass.d_output, d_input);
        }
    }
}
