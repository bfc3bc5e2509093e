//! `tanh`

use std::fmt;

use super::activation;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::{Keeps, Work};
use crate::kernels::Activation;

/// `tanh`
#[derive(Clone, Debug, PartialEq)]
pub struct Tanh;

impl fmt::Display for Tanh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tanh")
    }
}

impl Operation for Tanh {
    fn parse(words: &Words<'_>) -> Result<Tanh, String> {
        words.alone().map(|()| Tanh)
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(activation::work(Activation::Tanh, Keeps::Value))
    }
}
