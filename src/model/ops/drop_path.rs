//! Stochastic depth (Huang et al. 2016), row by row: active in training only; the draw is made again, not stored, in the backward pass.

use std::fmt;

use super::dropout;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::Work;
use crate::kernels;

/// `drop_path 0.1`, and the probability that a row becomes zero.
#[derive(Clone, Debug, PartialEq)]
pub struct DropPath(pub f32);

impl fmt::Display for DropPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drop_path {}", self.0)
    }
}

impl Operation for DropPath {
    fn parse(words: &Words<'_>) -> Result<DropPath, String> {
        words.number(0.0..=0.999, "a probability of at least 0 and below 1").map(DropPath)
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        Ok(dropout::work(self.0, site, kernels::drop_path))
    }
}
