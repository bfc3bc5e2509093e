//! `leaky_relu [slope]`

use std::fmt;

use super::activation;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::{Keeps, Work};
use crate::kernels::{Activation, Rectifier};

/// The slope unless one is written.
const SLOPE: f32 = 0.01;

/// `leaky_relu`, and its slope below zero.
#[derive(Clone, Debug, PartialEq)]
pub struct LeakyRelu(pub f32);

impl fmt::Display for LeakyRelu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == SLOPE { f.write_str("leaky_relu") } else { write!(f, "leaky_relu {}", self.0) }
    }
}

impl Operation for LeakyRelu {
    fn parse(words: &Words<'_>) -> Result<LeakyRelu, String> {
        if words.rest.is_empty() {
            return Ok(LeakyRelu(SLOPE));
        }
        words.number(0.0..=1.0, "a slope between 0 and 1").map(LeakyRelu)
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(activation::work(Activation::LeakyRelu(self.0), Keeps::Sign))
    }

    fn rectifier(&self) -> Option<Rectifier> {
        (self.0 > 0.0).then_some(Rectifier::Leaky(self.0))
    }
}
