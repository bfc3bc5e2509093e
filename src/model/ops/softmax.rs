//! `softmax`

use std::fmt;

use super::operation::{Operation, Site};
use super::words::Words;
use super::work::Work;

/// May stand last, for readers: it is part of the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax;

impl fmt::Display for Softmax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("softmax")
    }
}

impl Operation for Softmax {
    fn parse(words: &Words<'_>) -> Result<Softmax, String> {
        words.alone().map(|()| Softmax)
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(Work::View)
    }
}
