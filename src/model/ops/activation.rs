//! What the element-wise functions have in common.

use super::work::{Elements, Elementwise, Keeps, Pass, Work};
use crate::kernels::{self, Activation};

/// One of the functions of [`Activation`].
#[derive(Clone, Debug)]
pub struct ActivationWork {
    function: Activation,
    keeps: Keeps,
}

/// `function` as work; `keeps` is what its backward pass needs of its output.
pub fn work(function: Activation, keeps: Keeps) -> Work {
    Work::Elementwise(Box::new(ActivationWork { function, keeps }))
}

impl Elementwise for ActivationWork {
    fn forward(&self, mut elements: Elements<'_>) {
        kernels::activation_forward(self.function, elements.in_place());
    }

    fn backward(&self, _pass: Pass<'_>, output: &[f32], gradient: &mut [f32]) {
        kernels::activation_backward(self.function, output, gradient);
    }

    fn keeps(&self, _before: Keeps) -> Keeps {
        self.keeps
    }
}
