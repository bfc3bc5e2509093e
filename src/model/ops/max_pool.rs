//! `maxpool 2`

use std::fmt;

use super::avg_pool::{parse_pool, write_pool};
use super::operation::{Operation, Site};
use super::words::Words;
use super::work::{Backward, Forward, Map, Work};
use crate::kernels::{self, PoolShape, Window};
use crate::model::shape::Shape;

/// The largest value under each window, clipped to the image.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool(pub Window);

impl fmt::Display for MaxPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_pool(f, "maxpool", &self.0)
    }
}

impl Operation for MaxPool {
    fn parse(words: &Words<'_>) -> Result<MaxPool, String> {
        parse_pool(words).map(MaxPool)
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        let shape = PoolShape::new(inputs[0].as_image()?, self.0)?;
        Shape::image([shape.h_out, shape.w_out, shape.channels]).checked()
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        Ok(work(PoolShape::new(site.inputs[0].as_image()?, self.0)?))
    }

    fn window_mut(&mut self) -> Option<&mut Window> {
        Some(&mut self.0)
    }
}

/// A pool of this shape.
pub fn work(shape: PoolShape) -> Work {
    Work::Map(Box::new(MaxPoolWork(shape)))
}

/// As work.
#[derive(Clone, Debug)]
struct MaxPoolWork(PoolShape);

impl Map for MaxPoolWork {
    fn forward(&self, pass: Forward<'_>) {
        kernels::maxpool_forward(&self.0, pass.batch, pass.input, pass.output);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(d_input) = pass.d_input {
            kernels::maxpool_backward(&self.0, pass.batch, pass.input, pass.d_output, d_input);
        }
    }

    fn reads_input(&self) -> bool {
        true
    }
}
