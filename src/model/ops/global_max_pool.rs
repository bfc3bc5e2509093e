//! `global_maxpool`

use std::fmt;

use super::global_avg_pool::{channels, whole};
use super::max_pool;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::Work;
use crate::model::shape::Shape;

/// The largest value of each channel in the whole image: a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalMaxPool;

impl fmt::Display for GlobalMaxPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("global_maxpool")
    }
}

impl Operation for GlobalMaxPool {
    fn parse(words: &Words<'_>) -> Result<GlobalMaxPool, String> {
        words.alone().map(|()| GlobalMaxPool)
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        channels(inputs[0])
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        Ok(max_pool::work(whole(site.inputs[0])?))
    }
}
