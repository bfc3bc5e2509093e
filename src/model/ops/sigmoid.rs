//! `sigmoid`

use std::fmt;

use super::activation;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::{Keeps, Work};
use crate::kernels::Activation;

/// `sigmoid`
#[derive(Clone, Debug, PartialEq)]
pub struct Sigmoid;

impl fmt::Display for Sigmoid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sigmoid")
    }
}

impl Operation for Sigmoid {
    fn parse(words: &Words<'_>) -> Result<Sigmoid, String> {
        words.alone().map(|()| Sigmoid)
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(activation::work(Activation::Sigmoid, Keeps::Value))
    }
}
