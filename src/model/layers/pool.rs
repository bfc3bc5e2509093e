//! Max-pool and average-pool (a global average-pool is one window over the image).

use super::Layer;
use crate::kernels::{self, PoolShape};

/// `maxpool 2`
#[derive(Clone, Debug)]
pub struct MaxPool(pub PoolShape);

/// `avgpool 2`, `global_avgpool`
#[derive(Clone, Debug)]
pub struct AvgPool(pub PoolShape);

impl Layer for MaxPool {
    fn forward(&self, batch: usize, _params: &[f32], input: &[f32], output: &mut [f32], _scratch: &mut [f32]) {
        kernels::maxpool_forward(&self.0, batch, input, output);
    }

    fn backward_data(
        &self,
        batch: usize,
        _params: &[f32],
        input: &[f32],
        d_output: &[f32],
        d_input: &mut [f32],
        _scratch: &mut [f32],
    ) {
        kernels::maxpool_backward(&self.0, batch, input, d_output, d_input);
    }

    fn backward_weights(&self, _: usize, _: &[f32], _: &[f32], _: &mut [f32], _: bool, _: &mut [f32]) {}

    fn has_weights(&self) -> bool {
        false
    }
}

impl Layer for AvgPool {
    fn forward(&self, batch: usize, _params: &[f32], input: &[f32], output: &mut [f32], _scratch: &mut [f32]) {
        kernels::avgpool_forward(&self.0, batch, input, output);
    }

    fn backward_data(
        &self,
        batch: usize,
        _params: &[f32],
        _input: &[f32],
        d_output: &[f32],
        d_input: &mut [f32],
        _scratch: &mut [f32],
    ) {
        kernels::avgpool_backward(&self.0, batch, d_output, d_input);
    }

    fn backward_weights(&self, _: usize, _: &[f32], _: &[f32], _: &mut [f32], _: bool, _: &mut [f32]) {}

    fn has_weights(&self) -> bool {
        false
    }
}
