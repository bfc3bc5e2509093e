//! A copy to a fresh buffer, planned in front of an element-wise layer that may not overwrite what is there (the one
//! before it needs its own output on the way back, as in `sigmoid` then `relu`).

use super::{Backward, Forward, Layer};

/// The identity.
#[derive(Clone, Debug)]
pub struct Copy;

impl Layer for Copy {
    fn forward(&self, pass: Forward<'_>) {
        pass.output.copy_from_slice(pass.input);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(d_input) = pass.d_input {
            d_input.copy_from_slice(pass.d_output);
        }
    }
}
