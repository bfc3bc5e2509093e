//! Batch norms by running statistics, computed by the convolutions in front of them.

use super::stages::{Kind, Stage, Statistics, Weights};
use crate::model::UsedNorm;

/// `stages` with each norm folded into a convolution that nothing else reads: weights times the norm's factors, and its shifts as biases.
pub fn folded<'a>(mut stages: Vec<Stage<'a>>) -> Vec<Stage<'a>> {
    for index in 0..stages.len() {
        let Some(input) = stages[index].inputs[0] else { continue };
        let is_read_once =
            stages.iter().flat_map(|stage| &stage.inputs).filter(|read| **read == Some(input)).count() == 1;
        let (before, behind) = stages.split_at_mut(index);
        let (conv, norm) = (&mut before[input].kind, &mut behind[0].kind);
        if let (Kind::Conv(_, weights), Kind::BatchNorm(of, affine, statistics), true) =
            (&mut *conv, &*norm, is_read_once)
        {
            let Statistics { mean, variance } = *statistics;
            let used = UsedNorm { weight: Some(&affine.weight), bias: &affine.bias, mean, variance, eps: of.eps };
            let [weight, bias] = used.folded(&weights.weight, &weights.bias);
            *weights = Weights { weight: weight.into(), bias: bias.into() };
            *norm = Kind::Folded;
        }
    }
    stages
}
