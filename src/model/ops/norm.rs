//! What the texts of normalisations have in common.

use std::fmt;
use std::ops::Range;

use super::operation::Parameter;
use super::words::Words;
use super::work::Backward;
use crate::kernels::NormBackward;
use crate::model::params::Initial;
use crate::model::shape::Shape;

/// What is added to a variance unless the text says otherwise, as in PyTorch.
const EPS: f64 = 1e-5;

/// The value of `eps E` in the options of a layer, which holds nothing else; without it, 1e-5.
///
/// # Errors
/// When it is no positive number, or another option is found.
pub fn eps(words: &Words<'_>, options: &[&str]) -> Result<f64, String> {
    match options {
        [] => Ok(EPS),
        ["eps", value] => {
            let value = value.parse().ok().filter(|value| (f64::MIN_POSITIVE..=1.0).contains(value));
            value.ok_or_else(|| words.refuse("'eps 1e-5', a number above 0 and at most 1"))
        }
        other => Err(words.refuse(&format!("'eps 1e-5' or nothing, found '{}'", other.join(" ")))),
    }
}

/// As it is written.
pub fn write_eps(f: &mut fmt::Formatter<'_>, eps: f64) -> fmt::Result {
    if eps == EPS { Ok(()) } else { write!(f, " eps {eps:e}") }
}

/// A factor, which begins with 1, and a summand, which begins with 0, of every channel.
pub fn parameters(input: &Shape) -> Vec<Parameter> {
    let parameter = |name, initial| Parameter { name, shape: vec![input.channels()], initial, is_statistic: false };
    vec![parameter("weight", Initial::Ones), parameter("bias", Initial::Zeros)]
}

/// Counted as PyTorch's profilers count: subtract, multiply, multiply and add, and two sums.
pub fn flops(output: &Shape) -> u64 {
    6 * output.len() as u64
}

/// A backward pass as the kernels take it, of the rows in their order.
pub fn backward<'a>(pass: Backward<'a>, weight: &Range<usize>, bias: &Range<usize>) -> NormBackward<'a> {
    let own = |d_params: &'a mut [f32]| {
        let (d_weight, d_bias) = d_params[weight.start..bias.end].split_at_mut(weight.len());
        [d_weight, d_bias]
    };
    let Backward { input, d_output, d_input, accumulate, scratch, params, .. } = pass;
    let (weight, d_params) = (&params[weight.clone()], pass.d_params.map(own));
    NormBackward { input, weight, d_output, d_input, d_params, accumulate, scratch }
}
