//! What the texts of convolutions have in common: `stride 2 pad 1 dilation 2 bias no`.

use std::fmt;

use super::operation::Parameter;
use super::words::Words;
use crate::kernels::{Padding, Window};
use crate::model::params::Initial;

/// The window of a convolution, and whether a bias follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvOptions {
    /// The sliding window.
    pub window: Window,
    /// Whether there is a bias, where that is written or decided ([`ConvOptions::decide`]).
    pub bias: Option<bool>,
    /// Whether a norm follows ([`ConvOptions::decide`]): weights begin with numbers that are spread by the outputs.
    pub is_normed: bool,
}

impl ConvOptions {
    /// Those of a window of these sizes where nothing is written.
    pub fn new([kh, kw]: [usize; 2]) -> ConvOptions {
        ConvOptions {
            window: Window { kh, kw, stride: 1, dilation: 1, padding: Padding::Same },
            bias: None,
            is_normed: false,
        }
    }

    /// Takes an option; whether it is one.
    ///
    /// # Errors
    /// When it holds no number, or neither yes nor no.
    pub fn take(&mut self, words: &Words<'_>, option: &[&str]) -> Result<bool, String> {
        match option {
            ["dilation", n] => self.window.dilation = words.size(n, "'dilation 2', a whole number")?,
            ["bias", "yes"] => self.bias = Some(true),
            ["bias", "no"] => self.bias = Some(false),
            ["bias", _] => return Err(words.no_option(option, "'bias yes' or 'bias no'")),
            other => return words.window_option(&mut self.window, other),
        }
        Ok(true)
    }

    /// Decides what is not written: no bias in front of a norm, which has one of its own.
    pub fn decide(&mut self, before_norm: bool) {
        self.bias.get_or_insert(!before_norm);
        self.is_normed = before_norm;
    }

    /// Weight and bias, the weight of this shape.
    pub fn parameters(&self, weight: [usize; 4]) -> Vec<Parameter> {
        let mut parameters = Parameter::weight_and_bias(weight.to_vec(), weight[3]);
        if self.is_normed {
            parameters[0].initial = Initial::DrawnByOutputs;
        }
        parameters.truncate(if self.bias == Some(false) { 1 } else { 2 });
        parameters
    }

    /// Writes stride and padding, where they are not those of [`ConvOptions::new`].
    pub fn write_window(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.window.stride != 1 {
            write!(f, " stride {}", self.window.stride)?;
        }
        match self.window.padding {
            Padding::Same => Ok(()),
            Padding::Pixels(pad) => write!(f, " pad {pad}"),
        }
    }

    /// Writes dilation and bias, where they were written.
    pub fn write_rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.window.dilation != 1 {
            write!(f, " dilation {}", self.window.dilation)?;
        }
        match self.bias {
            Some(bias) => write!(f, " bias {}", if bias { "yes" } else { "no" }),
            None => Ok(()),
        }
    }
}
