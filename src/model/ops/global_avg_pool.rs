//! `global_avgpool`

use std::fmt;

use super::avg_pool;
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::Work;
use crate::kernels::{Padding, PoolShape, Window};
use crate::model::shape::Shape;

/// The mean of each channel over the whole image: a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct GlobalAvgPool;

impl fmt::Display for GlobalAvgPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("global_avgpool")
    }
}

impl Operation for GlobalAvgPool {
    fn parse(words: &Words<'_>) -> Result<GlobalAvgPool, String> {
        words.alone().map(|()| GlobalAvgPool)
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        channels(inputs[0])
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        Ok(avg_pool::work(whole(site.inputs[0])?))
    }
}

/// The channels of an image: one value each is left.
pub fn channels(image: &Shape) -> Result<Shape, String> {
    let [_, _, c] = image.as_image()?;
    Ok(Shape::vector(c))
}

/// One window over all of an image.
pub fn whole(image: &Shape) -> Result<PoolShape, String> {
    let [kh, kw, c] = image.as_image()?;
    PoolShape::new([kh, kw, c], Window { kh, kw, stride: 1, dilation: 1, padding: Padding::Pixels(0) })
}
