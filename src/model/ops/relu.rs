//! `relu`

use std::fmt;

use super::activation;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::{Keeps, Work};
use crate::kernels::{Activation, Rectifier};

/// `relu`
#[derive(Clone, Debug, PartialEq)]
pub struct Relu;

impl fmt::Display for Relu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("relu")
    }
}

impl Operation for Relu {
    fn parse(words: &Words<'_>) -> Result<Relu, String> {
        words.alone().map(|()| Relu)
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(activation::work(Activation::Relu, Keeps::Sign))
    }

    fn rectifier(&self) -> Option<Rectifier> {
        Some(Rectifier::Relu)
    }
}
