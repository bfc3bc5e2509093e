//! `layer_norm [eps E]`

use std::fmt;
use std::ops::Range;

use super::norm;
use super::operation::{Operation, Parameter, Site};
use super::words::Words;
use super::work::{Backward, Forward, Map, Work};
use crate::kernels::{NormForward, layer_norm_backward, layer_norm_forward};
use crate::model::shape::Shape;

/// The channels of every pixel, or all values of a vector, less their mean, over their deviation; then a factor and a summand of each.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerNorm {
    /// What is added to a variance.
    pub eps: f64,
}

impl fmt::Display for LayerNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("layer_norm")?;
        norm::write_eps(f, self.eps)
    }
}

impl Operation for LayerNorm {
    fn parse(words: &Words<'_>) -> Result<LayerNorm, String> {
        Ok(LayerNorm { eps: norm::eps(words, &words.rest)? })
    }

    fn parameters(&self, input: &Shape, _output: &Shape) -> Vec<Parameter> {
        norm::parameters(input)
    }

    fn flops(&self, _input: &Shape, output: &Shape) -> u64 {
        norm::flops(output)
    }

    fn is_norm(&self) -> bool {
        true
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        let (weight, bias) = (site.parameters[0].clone(), site.parameters[1].clone());
        Ok(Work::Map(Box::new(LayerNormWork { eps: self.eps, weight, bias })))
    }
}

/// As work.
#[derive(Clone, Debug)]
struct LayerNormWork {
    eps: f64,
    weight: Range<usize>,
    bias: Range<usize>,
}

impl Map for LayerNormWork {
    fn forward(&self, pass: Forward<'_>) {
        let (weight, bias) = (&pass.params[self.weight.clone()], &pass.params[self.bias.clone()]);
        let Forward { input, output, scratch, .. } = pass;
        layer_norm_forward(self.eps, NormForward { input, weight, bias, output, scratch });
    }

    fn backward(&self, pass: Backward<'_>) {
        layer_norm_backward(self.eps, norm::backward(pass, &self.weight, &self.bias));
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn reads_input(&self) -> bool {
        true
    }
}
