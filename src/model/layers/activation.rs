//! Element-wise functions.

use super::{InPlace, Pass};
use crate::kernels::{self, Activation};

/// `relu`, `leaky_relu`, `sigmoid`, `tanh`
#[derive(Clone, Debug)]
pub struct ActivationLayer(pub Activation);

impl InPlace for ActivationLayer {
    fn forward(&self, _pass: Pass<'_>, values: &mut [f32]) {
        kernels::activation_forward(self.0, values);
    }

    fn backward(&self, _pass: Pass<'_>, output: &[f32], gradient: &mut [f32]) {
        kernels::activation_backward(self.0, output, gradient);
    }
}
