//! Optimizers: params ◄── step(gradient, learning rate). Formulas are those of `torch.optim`.

mod schedule;

pub use schedule::Schedule;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::kernels::{self, AdamStep, Buffer, zeros};

/// The optimizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Plain gradient descent
    Sgd,
    /// Gradient descent with momentum
    Momentum,
    /// Nesterov's momentum
    Nesterov,
    /// Adam, weight decay as L2
    Adam,
    /// Adam with decoupled weight decay
    Adamw,
}

/// What an optimizer is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Which one.
    pub kind: OptimizerKind,
    /// For momentum and nesterov.
    pub momentum: f32,
    /// Decoupled for adamw, L2 for the others.
    pub weight_decay: f32,
    /// Limit of each value of the gradient.
    pub clip_value: Option<f32>,
    /// Limit of the gradient's Euclidean norm.
    pub clip_norm: Option<f32>,
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f32 = 1e-8;

/// An optimizer with its state: one value (momentum) or two (Adam) a parameter.
#[derive(Clone, Debug)]
pub struct Optimizer {
    settings: Settings,
    /// Velocity, or Adam's mean.
    first: Buffer,
    /// Adam's mean of squares.
    second: Buffer,
    steps: u64,
}

/// What an optimizer remembers from step to step.
#[derive(Debug)]
pub struct State<'a> {
    /// Steps made.
    pub steps: &'a mut u64,
    /// Velocity, or Adam's mean: one value a parameter, or none.
    pub first: &'a mut Buffer,
    /// Adam's mean of squares: one value a parameter, or none.
    pub second: &'a mut Buffer,
}

impl Optimizer {
    /// All that it remembers: what a checkpoint holds of it.
    pub fn state(&mut self) -> State<'_> {
        State { steps: &mut self.steps, first: &mut self.first, second: &mut self.second }
    }

    /// An optimizer for `params` parameters that has made no step yet.
    pub fn new(settings: Settings, params: usize) -> Optimizer {
        let state = |needed: bool| zeros(if needed { params } else { 0 });
        let adam = matches!(settings.kind, OptimizerKind::Adam | OptimizerKind::Adamw);
        Optimizer { settings, first: state(settings.kind != OptimizerKind::Sgd), second: state(adam), steps: 0 }
    }

    /// One step: `gradient_sum / count` is the gradient; it is clipped, then applied with learning rate `lr`.
    /// `gradient_sum` is spent. Whether every value of the gradient was finite.
    #[must_use]
    pub fn step(&mut self, params: &mut [f32], gradient_sum: &mut [f32], count: u64, lr: f32) -> bool {
        self.steps += 1;
        let Settings { kind, momentum, weight_decay, clip_value, clip_norm } = self.settings;
        let gradient = gradient_sum;
        let mut scale = 1.0 / count as f32;
        let mut finite = true;
        if let Some(limit) = clip_value {
            finite = kernels::clip_by_value(gradient, scale, limit).is_finite();
            scale = 1.0;
        }
        if let Some(limit) = clip_norm {
            let norm = kernels::sum_of_squares(gradient).sqrt() * f64::from(scale);
            if norm > f64::from(limit) {
                scale = (f64::from(scale) * f64::from(limit) / norm) as f32;
            }
        }
        let largest = match kind {
            OptimizerKind::Sgd => kernels::sgd_update(params, gradient, scale, lr, weight_decay),
            OptimizerKind::Momentum | OptimizerKind::Nesterov => {
                let nesterov = kind == OptimizerKind::Nesterov;
                kernels::momentum_update(params, &mut self.first, gradient, scale, lr, weight_decay, momentum, nesterov)
            }
            OptimizerKind::Adam | OptimizerKind::Adamw => {
                let step = AdamStep {
                    scale,
                    lr,
                    weight_decay,
                    decoupled: kind == OptimizerKind::Adamw,
                    beta1: BETA1 as f32,
                    beta2: BETA2 as f32,
                    eps: EPS,
                    bias1: (1.0 - libm::pow(BETA1, self.steps as f64)) as f32,
                    bias2: (1.0 - libm::pow(BETA2, self.steps as f64)) as f32,
                };
                kernels::adam_update(params, &mut self.first, &mut self.second, gradient, step)
            }
        };
        finite && largest.is_finite()
    }
}
