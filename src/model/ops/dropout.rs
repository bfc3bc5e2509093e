//! Inverted dropout: active in training only; the mask is drawn again, not stored, in the backward pass.

use std::fmt;

use super::operation::{Operation, Site};
use super::words::Words;
use super::work::{Elements, Elementwise, Keeps, Pass, Work};
use crate::kernels::{self, rng::Stream};

/// `dropout 0.1`, and the probability of a zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout(pub f32);

impl fmt::Display for Dropout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dropout {}", self.0)
    }
}

impl Operation for Dropout {
    fn parse(words: &Words<'_>) -> Result<Dropout, String> {
        words.number(0.0..=0.999, "a probability of at least 0 and below 1").map(Dropout)
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        Ok(work(self.0, site, kernels::dropout))
    }
}

/// A mask of rows, drawn with probability `p`, as work.
pub fn work(p: f32, site: &Site<'_>, mask: fn(Stream, f32, &mut [f32])) -> Work {
    Work::Elementwise(Box::new(MaskWork { p, number: site.number, mask }))
}

/// As work.
#[derive(Clone, Debug)]
struct MaskWork {
    p: f32,
    /// Its place in the list of layers: part of the mask's address.
    number: usize,
    /// Masks a row of values, or of their gradients.
    mask: fn(Stream, f32, &mut [f32]),
}

impl MaskWork {
    fn each_row(&self, pass: Pass<'_>, values: &mut [f32]) {
        if let Some(training) = pass.training.filter(|_| self.p > 0.0) {
            let length = values.len() / pass.batch;
            for (index, row) in values.chunks_exact_mut(length).enumerate() {
                (self.mask)(training.stream(self.number, index), self.p, row);
            }
        }
    }
}

impl Elementwise for MaskWork {
    fn forward(&self, mut elements: Elements<'_>) {
        self.each_row(elements.pass, elements.in_place());
    }

    fn backward(&self, pass: Pass<'_>, _output: &[f32], gradient: &mut [f32]) {
        self.each_row(pass, gradient);
    }

    fn overwrites(&self) -> Keeps {
        Keeps::Sign
    }

    fn keeps(&self, before: Keeps) -> Keeps {
        before
    }
}
