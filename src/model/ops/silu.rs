//! `silu`

use std::fmt;

use super::gated;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::Work;
use crate::kernels::Gated;

/// `silu`: `v / (1 + exp(−v))`, also called swish.
#[derive(Clone, Debug, PartialEq)]
pub struct Silu;

impl fmt::Display for Silu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("silu")
    }
}

impl Operation for Silu {
    fn parse(words: &Words<'_>) -> Result<Silu, String> {
        words.alone().map(|()| Silu)
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(gated::work(Gated::Silu))
    }
}
