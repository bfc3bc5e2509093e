//! `relu6`

use std::fmt;

use super::activation;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::{Keeps, Work};
use crate::kernels::Activation;

/// `relu6`: no less than 0, no more than 6.
#[derive(Clone, Debug, PartialEq)]
pub struct Relu6;

impl fmt::Display for Relu6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("relu6")
    }
}

impl Operation for Relu6 {
    fn parse(words: &Words<'_>) -> Result<Relu6, String> {
        words.alone().map(|()| Relu6)
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(activation::work(Activation::Relu6, Keeps::Value))
    }
}
