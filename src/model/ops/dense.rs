//! `dense 128`: a matrix product and a bias.

use std::fmt;

use super::gemm::GemmDense;
use super::operation::{Operation, Parameter, Site};
use super::words::{Words, sizes_of};
use super::work::{Backward, DenseWork, Forward, Map, Work};
use crate::kernels::{self, DenseShape};
use crate::model::engine::Engine;
use crate::model::shape::Shape;

/// A dense layer, and its outputs; `dense classes` has as many as the data has classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense(pub Option<usize>);

impl fmt::Display for Dense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(outputs) => write!(f, "dense {outputs}"),
            None => f.write_str("dense classes"),
        }
    }
}

impl Operation for Dense {
    fn parse(words: &Words<'_>) -> Result<Dense, String> {
        match words.rest[..] {
            ["classes"] => Ok(Dense(None)),
            [outputs] => match sizes_of::<1>(outputs) {
                Some([outputs]) => Ok(Dense(Some(outputs))),
                None => Err(words.no_size(outputs, "a number of outputs or 'classes'")),
            },
            _ => Err(words.refuse("'dense 128' or 'dense classes'")),
        }
    }

    fn output(&self, inputs: &[&Shape], classes: usize) -> Result<Shape, String> {
        inputs[0].as_vector().map(|_| Shape::vector(self.0.unwrap_or(classes)))
    }

    fn parameters(&self, input: &Shape, output: &Shape) -> Vec<Parameter> {
        Parameter::weight_and_bias(vec![input.len(), output.len()], output.len())
    }

    fn flops(&self, input: &Shape, output: &Shape) -> u64 {
        2 * (input.len() * output.len()) as u64
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        let shape = DenseShape { inputs: site.inputs[0].len(), outputs: site.output.len() };
        let (weight, bias) = (site.parameters[0].clone(), site.parameters[1].clone());
        Ok(Work::Map(match site.engine {
            Engine::Direct => Box::new(DenseWork { shape, weight, bias }),
            Engine::Gemm => Box::new(GemmDense { shape, weight, bias }),
        }))
    }
}

impl Map for DenseWork {
    fn forward(&self, pass: Forward<'_>) {
        let (weight, bias) = (&pass.params[self.weight.clone()], &pass.params[self.bias.clone()]);
        kernels::dense_forward(self.shape, pass.batch, pass.input, weight, bias, pass.output, pass.scratch);
    }

    fn backward(&self, pass: Backward<'_>) {
        let Backward { leaves, input, d_output, accumulate, scratch, .. } = pass;
        if let Some(d_params) = pass.d_params {
            let (d_weight, d_bias) = Backward::own(d_params, &self.weight, &self.bias);
            kernels::dense_backward_weights(self.shape, leaves, input, d_output, d_weight, d_bias, accumulate, scratch);
        }
        pass.between.mark();
        if let Some(d_input) = pass.d_input {
            let weight = &pass.params[self.weight.clone()];
            kernels::dense_backward_data(self.shape, pass.batch, d_output, weight, d_input, scratch);
        }
    }

    fn dense(&self) -> Option<&DenseWork> {
        Some(self)
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn reads_input(&self) -> bool {
        true
    }

    fn scratch(&self, batch: usize) -> usize {
        kernels::dense_scratch(self.shape, batch)
    }
}
