//! `hard_swish`

use std::fmt;

use super::gated;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::Work;
use crate::kernels::Gated;

/// `hard_swish`: `v · min(max(v + 3, 0), 6) / 6`
#[derive(Clone, Debug, PartialEq)]
pub struct HardSwish;

impl fmt::Display for HardSwish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hard_swish")
    }
}

impl Operation for HardSwish {
    fn parse(words: &Words<'_>) -> Result<HardSwish, String> {
        words.alone().map(|()| HardSwish)
    }

    fn work(&self, _site: &Site<'_>) -> Result<Work, String> {
        Ok(gated::work(Gated::HardSwish))
    }
}
