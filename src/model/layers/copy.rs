//! A copy to a fresh buffer, planned in front of an element-wise layer that may not overwrite what is there (the one
//! before it needs its own output on the way back, as in `sigmoid` then `relu`).

use super::Layer;

/// The identity.
#[derive(Clone, Debug)]
pub struct Copy;

impl Layer for Copy {
    fn forward(&self, _batch: usize, _params: &[f32], input: &[f32], output: &mut [f32], _scratch: &mut [f32]) {
        output.copy_from_slice(input);
    }

    fn backward_data(
        &self,
        _batch: usize,
        _params: &[f32],
        _input: &[f32],
        d_output: &[f32],
        d_input: &mut [f32],
        _scratch: &mut [f32],
    ) {
        d_input.copy_from_slice(d_output);
    }

    fn backward_weights(&self, _: usize, _: &[f32], _: &[f32], _: &mut [f32], _: bool, _: &mut [f32]) {}

    fn has_weights(&self) -> bool {
        false
    }
}
