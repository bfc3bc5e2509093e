//! What the functions have in common that are a value times a gate.

use super::work::{Backward, Forward, Map, Work};
use crate::kernels::{Gated, gated_backward, gated_forward};

/// One of the functions of [`Gated`].
#[derive(Clone, Debug)]
struct GatedWork(Gated);

/// `function` as work.
pub fn work(function: Gated) -> Work {
    Work::Map(Box::new(GatedWork(function)))
}

impl Map for GatedWork {
    fn forward(&self, pass: Forward<'_>) {
        gated_forward(self.0, pass.input, pass.output);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(d_input) = pass.d_input {
            gated_backward(self.0, pass.input, pass.d_output, d_input);
        }
    }

    fn reads_input(&self) -> bool {
        true
    }
}
