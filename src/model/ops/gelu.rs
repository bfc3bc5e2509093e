//! `gelu [tanh]`

use std::fmt;

use super::gated;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::Work;
use crate::kernels::Gated;

/// `gelu`: `v · Φ(v)`; `gelu tanh` is its approximation by a hyperbolic tangent.
#[derive(Clone, Debug, PartialEq)]
pub struct Gelu {
    /// Whether it is the approximation.
    pub tanh: bool,
}

impl fmt::Display for Gelu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tanh { "gelu tanh" } else { "gelu" })
    }
}

impl Operation for Gelu {
    fn parse(words: &Words<'_>) -> Result<Gelu, String> {
        match words.rest[..] {
            [] => Ok(Gelu { tanh: false }),
            ["tanh"] => Ok(Gelu { tanh: true }),
            _ => Err(words.refuse("'gelu' or 'gelu tanh'")),
        }
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(gated::work(if self.tanh { Gated::GeluTanh } else { Gated::Gelu }))
    }
}
