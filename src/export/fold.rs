//! Batch norms by running statistics, computed by the convolutions in front of them.

use super::stages::{Kind, Stage, Statistics, Weights};
use crate::kernels::ConvShape;

/// `stages` with each norm folded into a convolution that nothing else reads: weights times the norm's factors, and its shifts as biases.
pub fn folded<'a>(mut stages: Vec<Stage<'a>>) -> Vec<Stage<'a>> {
    for index in 0..stages.len() {
        let Some(input) = stages[index].inputs[0] else { continue };
        let is_read_once =
            stages.iter().flat_map(|stage| &stage.inputs).filter(|read| **read == Some(input)).count() == 1;
        let (before, behind) = stages.split_at_mut(index);
        let (conv, norm) = (&mut before[input].kind, &mut behind[0].kind);
        if let (Kind::Conv(shape, weights), Kind::BatchNorm(of, affine, statistics), true) =
            (&mut *conv, &*norm, is_read_once)
        {
            *weights = fold(shape, weights, affine, *statistics, of.eps);
            *norm = Kind::Folded;
        }
    }
    stages
}

/// Computed in f64, rounded once.
fn fold(
    shape: &ConvShape,
    conv: &Weights<'_>,
    affine: &Weights<'_>,
    statistics: Statistics<'_>,
    eps: f64,
) -> Weights<'static> {
    let factor =
        |channel: usize| f64::from(affine.weight[channel]) / (f64::from(statistics.variance[channel]) + eps).sqrt();
    let factors: Vec<f64> = (0..shape.c_out).map(factor).collect();
    let weight =
        conv.weight.iter().enumerate().map(|(place, value)| (f64::from(*value) * factors[place % shape.c_out]) as f32);
    let bias = |channel: usize| {
        let own = conv.bias.get(channel).copied().unwrap_or(0.0);
        let centred = f64::from(own) - f64::from(statistics.mean[channel]);
        centred.mul_add(factors[channel], f64::from(affine.bias[channel])) as f32
    };
    Weights {
        weight: weight.collect::<Vec<f32>>().into(),
        bias: (0..shape.c_out).map(bias).collect::<Vec<f32>>().into(),
    }
}
