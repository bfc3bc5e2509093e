//! Channel scaling: how a block `{ scale = […] }` ends (squeeze-and-excitation, Hu et al. 2018).

use std::fmt;

use super::operation::{Operation, Site};
use super::words::Words;
use super::work::Work;
use crate::model::shape::Shape;

/// An image, or a vector, times one factor a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale;

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("scale")
    }
}

impl Operation for Scale {
    fn parse(words: &Words<'_>) -> Result<Scale, String> {
        Err(words.refuse(
            "a block whose input is multiplied by what its layers make of it: { scale = [\"global_avgpool\", \"dense 8\", \"relu\", \"dense 64\", \"sigmoid\"] }",
        ))
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        let (channels, factors) = (inputs[0].channels(), inputs[1]);
        match factors.sizes() {
            [size] if *size == channels => Ok(inputs[0].clone()),
            _ => Err(format!("{} cannot be scaled by {factors}", inputs[0])),
        }
    }

    fn flops(&self, _input: &Shape, output: &Shape) -> u64 {
        output.len() as u64
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        Ok(Work::Scale(site.inputs[0].channels()))
    }
}
