//! `group_norm 8 [eps E]`

use std::fmt;
use std::ops::Range;

use super::norm;
use super::operation::{Operation, Parameter, Site};
use super::words::{Words, sizes_of};
use super::work::{Backward, Forward, Map, Work};
use crate::kernels::{GroupNormShape, NormForward, group_norm_backward, group_norm_forward};
use crate::model::shape::Shape;

/// The values of an image in groups of neighbouring channels, less the mean of their group, over its deviation; then a factor and a
/// summand of every channel.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupNorm {
    /// How many groups.
    pub groups: usize,
    /// What is added to a variance.
    pub eps: f64,
}

impl GroupNorm {
    /// On such an image.
    ///
    /// # Errors
    /// When it is a vector, or its channels cannot be shared out.
    pub fn shape(&self, input: &Shape) -> Result<GroupNormShape, String> {
        let GroupNorm { groups, eps } = *self;
        let wants_image = |_| "group_norm takes an image, not a vector; 'layer_norm' takes vectors, too".to_owned();
        let [h, w, channels] = input.as_image().map_err(wants_image)?;
        if !channels.is_multiple_of(groups) {
            let near = (1..=channels).filter(|other| channels.is_multiple_of(*other));
            let near = near.min_by_key(|other| other.abs_diff(groups)).unwrap_or(1);
            return Err(format!(
                "{channels} channels cannot be shared out among {groups} groups; 'group_norm {near}' fits"
            ));
        }
        Ok(GroupNormShape { pixels: h * w, channels, groups, eps })
    }
}

impl fmt::Display for GroupNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group_norm {}", self.groups)?;
        norm::write_eps(f, self.eps)
    }
}

impl Operation for GroupNorm {
    fn parse(words: &Words<'_>) -> Result<GroupNorm, String> {
        let expected = "a number of groups, as in 'group_norm 8' or 'group_norm 8 eps 1e-5'";
        let (groups, options) = words.sizes_and_options(expected)?;
        let [size] = sizes_of::<1>(groups).ok_or_else(|| words.no_size(groups, expected))?;
        Ok(GroupNorm { groups: size, eps: norm::eps(words, options)? })
    }

    fn output(&self, inputs: &[&Shape], _classes: usize) -> Result<Shape, String> {
        self.shape(inputs[0]).map(|_| inputs[0].clone())
    }

    fn parameters(&self, input: &Shape, _output: &Shape) -> Vec<Parameter> {
        norm::parameters(input)
    }

    fn flops(&self, _input: &Shape, output: &Shape) -> u64 {
        norm::flops(output)
    }

    fn is_norm(&self) -> bool {
        true
    }

    fn work(&self, site: &Site<'_>) -> Result<Work, String> {
        let (weight, bias) = (site.parameters[0].clone(), site.parameters[1].clone());
        Ok(Work::Map(Box::new(GroupNormWork { shape: self.shape(site.inputs[0])?, weight, bias })))
    }
}

/// As work.
#[derive(Clone, Debug)]
struct GroupNormWork {
    shape: GroupNormShape,
    weight: Range<usize>,
    bias: Range<usize>,
}

impl Map for GroupNormWork {
    fn forward(&self, pass: Forward<'_>) {
        let (weight, bias) = (&pass.params[self.weight.clone()], &pass.params[self.bias.clone()]);
        let Forward { input, output, scratch, .. } = pass;
        group_norm_forward(&self.shape, NormForward { input, weight, bias, output, scratch });
    }

    fn backward(&self, pass: Backward<'_>) {
        group_norm_backward(&self.shape, norm::backward(pass, &self.weight, &self.bias));
    }

    fn has_weights(&self) -> bool {
        true
    }

    fn reads_input(&self) -> bool {
        true
    }

    fn scratch(&self, _batch: usize) -> usize {
        self.shape.scratch()
    }
}
