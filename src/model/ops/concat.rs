//! The channels of several branches, one after another.

use std::fmt;

use super::operation::{Operation, Site};
use super::words::Words;
use super::work::Work;
use crate::model::shape::Shape;

/// Images of one size, or vectors, side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat;

impl fmt::Display for Concat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("concat")
    }
}

impl Operation for Concat {
    fn parse(words: &Words<'_>) -> Result<Concat, String> {
        Err(words.refuse("a block where branches are put side by side: { branches = [[…], […]], join = \"concat\" }"))
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        let split = |shape: &Shape| {
            let (&channels, pixels) = shape.sizes().split_last()?;
            Some((channels, pixels.to_vec()))
        };
        let parts: Vec<(usize, Vec<usize>)> = inputs.iter().filter_map(|shape| split(shape)).collect();
        if let Some(other) = parts.iter().position(|part| part.1 != parts[0].1) {
            return Err(format!("{} cannot stand beside {}", inputs[0], inputs[other]));
        }
        let channels = parts.iter().map(|part| part.0).sum();
        match parts[0].1[..] {
            [h, w] => Shape::image([h, w, channels]).checked(),
            _ => Shape::vector(channels).checked(),
        }
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        Ok(Work::Concat(site.inputs.iter().filter_map(|shape| shape.sizes().last().copied()).collect()))
    }
}
