//! `hard_sigmoid`

use std::fmt;

use super::activation;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::{Keeps, Work};
use crate::kernels::Activation;

/// `hard_sigmoid`: `min(max(v + 3, 0), 6) / 6`
#[derive(Clone, Debug, PartialEq)]
pub struct HardSigmoid;

impl fmt::Display for HardSigmoid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hard_sigmoid")
    }
}

impl Operation for HardSigmoid {
    fn parse(words: &Words<'_>) -> Result<HardSigmoid, String> {
        words.alone().map(|()| HardSigmoid)
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(activation::work(Activation::HardSigmoid, Keeps::Value))
    }
}
