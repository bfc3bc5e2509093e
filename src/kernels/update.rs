//! Optimizer updates: one sweep each over the parameters. Formulas are those of `torch.optim`, so that recipes carry
//! over. The gradient of every update is `scale · gradient`: averaging and clipping by norm cost no sweep of their own, and
//! every update says how large the gradient's largest value was: infinite or NaN where one of them was.

use super::isa::dispatch;
use super::simd::Simd;

/// The size of a value as bits: ordered like the sizes themselves, infinity and NaN above all numbers, and an integer, so
/// that the largest one needs no order of comparison.
#[inline(always)]
fn size_of_value(value: f32) -> u32 {
    value.to_bits() & 0x7fff_ffff
}

dispatch! {
    /// `values = scale · values`, limited to `[−limit, limit]`; NaN stays NaN. How large the largest was before.
    pub fn clip_by_value(values: &mut [f32], scale: f32, limit: f32) -> f32 = clip_by_value_loops
}

#[inline(always)]
fn clip_by_value_loops<S: Simd>(values: &mut [f32], scale: f32, limit: f32) -> f32 {
    let mut largest = 0;
    for value in values {
        let scaled = *value * scale;
        largest = largest.max(size_of_value(scaled));
        *value = scaled.clamp(-limit, limit);
    }
    f32::from_bits(largest)
}

dispatch! {
    /// `param −= lr · (gradient + weight_decay · param)`
    pub fn sgd_update(params: &mut [f32], gradient: &[f32], scale: f32, lr: f32, weight_decay: f32) -> f32 = sgd_update_loops
}

#[inline(always)]
fn sgd_update_loops<S: Simd>(params: &mut [f32], gradient: &[f32], scale: f32, lr: f32, weight_decay: f32) -> f32 {
    assert_eq!(params.len(), gradient.len());
    let mut largest = 0;
    for (param, &gradient) in params.iter_mut().zip(gradient) {
        let gradient = scale * gradient;
        largest = largest.max(size_of_value(gradient));
        let gradient = param.mul_add(weight_decay, gradient);
        *param = gradient.mul_add(-lr, *param);
    }
    f32::from_bits(largest)
}

dispatch! {
    /// `velocity = momentum · velocity + gradient + weight_decay · param`, then `param −= lr · velocity`, or with
    /// `nesterov` (Sutskever's form, as in PyTorch) `param −= lr · (gradient + momentum · velocity)`.
    pub fn momentum_update(
        params: &mut [f32],
        velocity: &mut [f32],
        gradient: &[f32],
        scale: f32,
        lr: f32,
        weight_decay: f32,
        momentum: f32,
        nesterov: bool,
    ) -> f32 = momentum_update_loops
}

#[allow(clippy::too_many_arguments)] // The symbols of the formula.
#[inline(always)]
fn momentum_update_loops<S: Simd>(
    params: &mut [f32],
    velocity: &mut [f32],
    gradient: &[f32],
    scale: f32,
    lr: f32,
    weight_decay: f32,
    momentum: f32,
    nesterov: bool,
) -> f32 {
    assert!(params.len() == gradient.len() && params.len() == velocity.len());
    let mut largest = 0;
    for ((param, velocity), &gradient) in params.iter_mut().zip(velocity).zip(gradient) {
        let gradient = scale * gradient;
        largest = largest.max(size_of_value(gradient));
        let gradient = param.mul_add(weight_decay, gradient);
        *velocity = velocity.mul_add(momentum, gradient);
        let direction = if nesterov { velocity.mul_add(momentum, gradient) } else { *velocity };
        *param = direction.mul_add(-lr, *param);
    }
    f32::from_bits(largest)
}

/// The constants of one Adam step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Factor of the gradient.
    pub scale: f32,
    /// Learning rate.
    pub lr: f32,
    /// Added to the gradient (Adam), or taken off the parameter directly (AdamW).
    pub weight_decay: f32,
    /// AdamW: decay is decoupled from the gradient.
    pub decoupled: bool,
    /// Decay of the mean.
    pub beta1: f32,
    /// Decay of the squared mean.
    pub beta2: f32,
    /// Keeps the divisor off zero.
    pub eps: f32,
    /// `1 − beta1^t`, with `t` counted from 1.
    pub bias1: f32,
    /// `1 − beta2^t`.
    pub bias2: f32,
}

dispatch! {
    /// Adam (Kingma & Ba 2015) and AdamW (Loshchilov & Hutter 2019).
    pub fn adam_update(
        params: &mut [f32],
        mean: &mut [f32],
        square: &mut [f32],
        gradient: &[f32],
        step: AdamStep,
    ) -> f32 = adam_update_loops
}

#[inline(always)]
fn adam_update_loops<S: Simd>(
    params: &mut [f32],
    mean: &mut [f32],
    square: &mut [f32],
    gradient: &[f32],
    step: AdamStep,
) -> f32 {
    assert!(params.len() == gradient.len() && params.len() == mean.len() && params.len() == square.len());
    let AdamStep { scale, lr, weight_decay, decoupled, beta1, beta2, eps, bias1, bias2 } = step;
    let (l2, shrink) = if decoupled { (0.0, 1.0 - lr * weight_decay) } else { (weight_decay, 1.0) };
    let (rate, root) = (lr / bias1, 1.0 / bias2.sqrt());
    let moments = mean.iter_mut().zip(square);
    let mut largest = 0;
    for ((param, (mean, square)), &gradient) in params.iter_mut().zip(moments).zip(gradient) {
        let gradient = scale * gradient;
        largest = largest.max(size_of_value(gradient));
        let gradient = param.mul_add(l2, gradient);
        *mean = mean.mul_add(beta1, (1.0 - beta1) * gradient);
        *square = square.mul_add(beta2, (1.0 - beta2) * gradient * gradient);
        let divisor = square.sqrt().mul_add(root, eps);
        *param = (*mean / divisor).mul_add(-rate, *param * shrink);
    }
    f32::from_bits(largest)
}
