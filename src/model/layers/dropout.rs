//! Inverted dropout: active in training only; the mask is drawn again, not stored, on the way back.

use super::{InPlace, Pass};
use crate::kernels;

/// `dropout 0.1`
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The probability of a zero.
    pub p: f32,
    /// The layer's place in the layer list: part of the mask's address.
    pub index: usize,
}

impl Dropout {
    fn each_row(&self, pass: Pass<'_>, values: &mut [f32], mask: fn(crate::kernels::rng::Stream, f32, &mut [f32])) {
        if let Some(training) = pass.training.filter(|_| self.p > 0.0) {
            let length = values.len() / pass.batch;
            for (index, row) in values.chunks_exact_mut(length).enumerate() {
                mask(training.stream(self.index, index), self.p, row);
            }
        }
    }
}

impl InPlace for Dropout {
    fn forward(&self, pass: Pass<'_>, values: &mut [f32]) {
        self.each_row(pass, values, kernels::dropout_forward);
    }

    fn backward(&self, pass: Pass<'_>, _output: &[f32], gradient: &mut [f32]) {
        self.each_row(pass, gradient, kernels::dropout_backward);
    }
}
