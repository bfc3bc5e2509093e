//! `adaptive_avgpool 7`, `adaptive_avgpool 7x5`

use std::fmt;

use super::operation::{Operation, Site};
use super::words::{Words, sizes_of};
use super::work::{Backward, Forward, Map, Work};
use crate::kernels::{self, AdaptiveShape};
use crate::model::shape::Shape;

/// The means of windows that share out the image, so that the output has this height and width.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveAvgPool(pub [usize; 2]);

impl AdaptiveAvgPool {
    /// On such an image.
    ///
    /// # Errors
    /// When it is a vector.
    pub fn shape(&self, input: &Shape) -> Result<AdaptiveShape, String> {
        let ([h_in, w_in, channels], [h_out, w_out]) = (input.as_image()?, self.0);
        Ok(AdaptiveShape { h_in, w_in, channels, h_out, w_out })
    }
}

impl fmt::Display for AdaptiveAvgPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [h, w] if h == w => write!(f, "adaptive_avgpool {h}"),
            [h, w] => write!(f, "adaptive_avgpool {h}x{w}"),
        }
    }
}

impl Operation for AdaptiveAvgPool {
    fn parse(words: &Words<'_>) -> Result<AdaptiveAvgPool, String> {
        let expected = "the output's size, as in 'adaptive_avgpool 7' or 'adaptive_avgpool 7x5'";
        let [sizes] = words.rest[..] else { return Err(words.refuse(expected)) };
        let one = sizes_of::<1>(sizes).map(|[side]| [side, side]);
        one.or_else(|| sizes_of::<2>(sizes)).map(AdaptiveAvgPool).ok_or_else(|| words.no_size(sizes, expected))
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        let shape = self.shape(inputs[0])?;
        Shape::image([shape.h_out, shape.w_out, shape.channels]).checked()
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        Ok(Work::Map(Box::new(AdaptiveAvgPoolWork(self.shape(site.inputs[0])?))))
    }
}

#[derive(Clone, Debug)]
struct AdaptiveAvgPoolWork(AdaptiveShape);

impl Map for AdaptiveAvgPoolWork {
    fn forward(&self, pass: Forward<'_>) {
        kernels::adaptive_avgpool_forward(&self.0, pass.batch, pass.input, pass.output);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(d_input) = pass.d_input {
            kernels::adaptive_avgpool_backward(&self.0, pass.batch, pass.d_output, d_input);
        }
    }

    fn reads_input(&self) -> bool {
        false
    }
}
