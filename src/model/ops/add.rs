//! The sum of branches, with the rectifier that may follow it.

use std::fmt;

use super::operation::{Operation, Site};
use super::words::Words;
use super::work::{Elements, Elementwise, Keeps, Pass, Work};
use crate::kernels::{self, Rectifier};
use crate::model::shape::Shape;

/// The sum of tensors of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Add;

impl fmt::Display for Add {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("add")
    }
}

impl Operation for Add {
    fn parse(words: &Words<'_>) -> Result<Add, String> {
        Err(words.refuse("a block where branches are added: { residual = [\"conv 3x3x16\", …] }, or { branches = [[…], […]], join = \"add\" }"))
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        match inputs.iter().find(|shape| **shape != inputs[0]) {
            Some(other) => Err(format!("{} cannot be added to {other}", inputs[0])),
            None => Ok(inputs[0].clone()),
        }
    }

    fn flops(&self, _input: &Shape, output: &Shape) -> u64 {
        output.len() as u64
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        Ok(Work::Elementwise(Box::new(AddWork { rectifier: site.fused.rectifier })))
    }
}

/// As work.
#[derive(Clone, Debug)]
struct AddWork {
    rectifier: Option<Rectifier>,
}

impl Elementwise for AddWork {
    fn forward(&self, Elements { held, inputs, output, .. }: Elements<'_>) {
        // Both of the first two inputs may be held: their sum is the same either way.
        if held.is_none() {
            output.copy_from_slice(inputs.get(0));
        }
        let other = held.map_or(1, |held| 1 - held);
        for (added, index) in std::iter::once(other).chain(2..inputs.count()).enumerate() {
            let is_last = added + 2 == inputs.count();
            kernels::add_rectified(output, inputs.get(index), self.rectifier.filter(|_| is_last));
        }
    }

    fn backward(&self, _pass: Pass<'_>, output: &[f32], gradient: &mut [f32]) {
        if let Some(rectifier) = self.rectifier {
            kernels::rectifier_backward(rectifier, output, gradient);
        }
    }

    fn keeps(&self, _before: Keeps) -> Keeps {
        if self.rectifier.is_some() { Keeps::Sign } else { Keeps::Nothing }
    }

    fn replaceable(&self) -> usize {
        2
    }
}
