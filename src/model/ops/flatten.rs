//! `flatten`

use std::fmt;

use super::operation::{Operation, Site};
use super::words::Words;
use super::work::Work;
use crate::model::shape::Shape;

/// An image becomes a vector, in the order height, width, channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Flatten;

impl fmt::Display for Flatten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("flatten")
    }
}

impl Operation for Flatten {
    fn parse(words: &Words<'_>) -> Result<Flatten, String> {
        words.alone().map(|()| Flatten)
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        Ok(Shape::vector(inputs[0].len()))
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(Work::View)
    }
}
