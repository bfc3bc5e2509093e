//! What every operation says of itself, and what it knows of its place in a network.

use std::fmt;
use std::ops::Range;

use super::words::Words;
use super::work::Work;
use crate::kernels::{Frame, PoolShape, Rectifier, Window};
use crate::model::engine::Engine;
use crate::model::params::Initial;
use crate::model::shape::Shape;

/// What every operation says of itself.
pub trait Operation: fmt::Display + Sized {
    /// Reads its text.
    ///
    /// # Errors
    /// In words, when it is not one of its texts.
    fn parse(words: &Words<'_>) -> Result<Self, String>;

    /// The shape of its output: that of its input, unless it says otherwise.
    ///
    /// # Errors
    /// In words, when it does not fit `inputs`.
    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        Ok(inputs[0].clone())
    }

    /// Its parameters.
    fn parameters(&self, _input: &Shape, _output: &Shape) -> Vec<Parameter> {
        Vec::new()
    }

    /// Floating-point operations of a forward pass of one row, a multiply-add counted as two.
    fn flops(&self, _input: &Shape, _output: &Shape) -> u64 {
        0
    }

    /// How it is computed at a place of the network.
    ///
    /// # Errors
    /// Never where [`Operation::output`] had none.
    fn work(&self, site: &Site<'_>) -> Result<Work, String>;

    /// The window that it slides over an image.
    fn window_mut(&mut self) -> Option<&mut Window> {
        None
    }

    /// Decides what its text leaves open, by whether a norm follows it in the same list.
    fn decide(&mut self, _before_norm: bool) {}

    /// Whether it normalises: a convolution directly in front has no bias unless one is written, as the field has it (a mean takes it out, or
    /// the norm's own bias stands for it).
    fn is_norm(&self) -> bool {
        false
    }

    /// The function, if it is linear above zero and another line below: what is in front may compute it.
    fn rectifier(&self) -> Option<Rectifier> {
        None
    }
}

/// A parameter of an operation.
pub struct Parameter {
    /// Its name in the operation.
    pub name: &'static str,
    /// Its shape; the last size is that of the operation's outputs.
    pub shape: Vec<usize>,
    /// What it begins with.
    pub initial: Initial,
    /// Whether it is no weight, but a running statistic: saved and digested, never optimised. Statistics come last.
    pub is_statistic: bool,
}

impl Parameter {
    /// A drawn `weight`, and a `bias` that is zero, of so many outputs.
    pub fn weight_and_bias(shape: Vec<usize>, outputs: usize) -> Vec<Parameter> {
        vec![
            Parameter { name: "weight", shape, initial: Initial::Drawn, is_statistic: false },
            Parameter { name: "bias", shape: vec![outputs], initial: Initial::Zeros, is_statistic: false },
        ]
    }
}

/// A place of the network, as its operation sees it.
pub struct Site<'a> {
    /// The shapes of its inputs.
    pub inputs: &'a [&'a Shape],
    /// The shape of what it writes, without what is fused.
    pub output: &'a Shape,
    /// Where each of its parameters lies, statistics behind them.
    pub parameters: &'a [Range<usize>],
    /// Who computes.
    pub engine: Engine,
    /// Its number in the flattened list of layers: the address of its random numbers.
    pub number: usize,
    /// Whether the gradient of an input is ever wanted.
    pub wants_d_input: bool,
    /// What is computed with it.
    pub fused: Fused,
    /// How its first input lies in memory, where that is not densely.
    pub input_layout: Option<Layout>,
    /// How its output lies in memory, where that is not densely.
    pub output_layout: Option<Layout>,
}

/// Operations behind one that it computes too.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fused {
    /// A rectifier.
    pub rectifier: Option<Rectifier>,
    /// Behind it a 2×2 max-pool.
    pub pool: Option<PoolShape>,
}

/// How an image between two convolutions lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layout {
    /// The image.
    pub value: Frame,
    /// Its gradient.
    pub gradient: Frame,
    /// The rectifier that made the image, where the gradient is that of its input.
    pub gate: Option<Rectifier>,
}
