//! Optimizers: params ◄── step(gradient, learning rate). Formulas are those of `torch.optim`.

mod schedule;

pub use schedule::Schedule;

use std::ops::Range;

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

/// An optimizer with its state: one value (momentum) or two (Adam) a parameter. Pages of it that nobody updates take no
/// memory: a rank that updates a part of the parameters holds a part of the state.
#[derive(Clone, Debug)]
pub struct Optimizer {
    settings: Settings,
    /// Velocity, or Adam's mean.
    first: Buffer,
    /// Adam's mean of squares.
    second: Buffer,
    /// Places of parameters that do not decay.
    spared: Vec<Range<usize>>,
    steps: u64,
    now: Now,
}

/// The step that is being made.
#[derive(Clone, Copy, Debug, Default)]
struct Now {
    /// What sums of gradients are multiplied with.
    scale: f32,
    lr: f32,
    /// Values have been limited already.
    limited: bool,
    /// `1 − beta1^t` and `1 − beta2^t`.
    bias: [f32; 2],
    /// Whether all values so far were finite.
    finite: bool,
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

    /// How many buffers of [`State`] it fills.
    pub fn moments(kind: OptimizerKind) -> usize {
        match kind {
            OptimizerKind::Sgd => 0,
            OptimizerKind::Momentum | OptimizerKind::Nesterov => 1,
            OptimizerKind::Adam | OptimizerKind::Adamw => 2,
        }
    }

    /// An optimizer for `params` parameters that has made no step yet.
    pub fn new(settings: Settings, params: usize) -> Optimizer {
        let moments = (0..Optimizer::moments(settings.kind)).map(|_| zeros(params));
        Optimizer::within(settings, moments.collect())
    }

    /// One that remembers in this memory, zeros, of one value a parameter each.
    pub fn within(settings: Settings, moments: Vec<Buffer>) -> Optimizer {
        let mut moments = moments.into_iter().chain([zeros(0), zeros(0)]);
        let [first, second] = [(); 2].map(|()| moments.next().unwrap_or_else(|| zeros(0)));
        Optimizer { settings, first, second, spared: Vec::new(), steps: 0, now: Now::default() }
    }

    /// Whether a step must know the norm of the whole gradient before the first update.
    pub fn wants_norm(&self) -> bool {
        self.settings.clip_norm.is_some()
    }

    /// Begins a step, in which `gradient sum / count` is the gradient and `lr` the learning rate.
    pub fn begin(&mut self, count: u64, lr: f32) {
        self.steps += 1;
        let bias = [BETA1, BETA2].map(|beta| (1.0 - libm::pow(beta, self.steps as f64)) as f32);
        self.now = Now { scale: 1.0 / count as f32, lr, limited: false, bias, finite: true };
    }

    /// Where the norm is wanted: limits the values of a part of the gradient sum, and says what the part adds to the square of
    /// the norm. All parts must go through before [`Optimizer::limit`].
    pub fn measure(&mut self, gradient: &mut [f32]) -> f64 {
        self.clip(gradient);
        kernels::sum_of_squares(gradient)
    }

    /// Where the norm is wanted: `squares` is the sum of what [`Optimizer::measure`] said of all parts.
    pub fn limit(&mut self, squares: f64) {
        let now = &mut self.now;
        if self.settings.clip_value.is_some() {
            (now.limited, now.scale) = (true, 1.0);
        }
        if let Some(limit) = self.settings.clip_norm {
            let norm = squares.sqrt() * f64::from(now.scale);
            if norm > f64::from(limit) {
                now.scale = (f64::from(now.scale) * f64::from(limit) / norm) as f32;
            }
        }
    }

    fn clip(&mut self, gradient: &mut [f32]) {
        if let Some(limit) = self.settings.clip_value {
            self.now.finite &= kernels::clip_by_value(gradient, self.now.scale, limit).is_finite();
        }
    }

    /// From now on, these parameters do not decay: places in the block, in order.
    pub fn spare(&mut self, places: Vec<Range<usize>>) {
        self.spared = places;
    }

    /// Where the parameters from `at` on end that decay as it does, and whether they do.
    fn alike(&self, at: usize, end: usize) -> (usize, bool) {
        let next = self.spared.partition_point(|spared| spared.end <= at);
        match self.spared.get(next) {
            Some(spared) if spared.start <= at => (spared.end.min(end), false),
            Some(spared) => (spared.start.min(end), true),
            None => (end, true),
        }
    }

    /// Updates the parameters from the `at`-th on, `params` and `gradient` those that are updated and their sums, which are spent.
    pub fn update(&mut self, at: usize, params: &mut [f32], gradient: &mut [f32]) {
        let (mut start, end) = (at, at + params.len());
        while start < end {
            let (behind, decays) = self.alike(start, end);
            let place = start - at..behind - at;
            self.update_alike(start, &mut params[place.clone()], &mut gradient[place], decays);
            start = behind;
        }
    }

    /// The same for parameters of which all decay, or none.
    fn update_alike(&mut self, at: usize, params: &mut [f32], gradient: &mut [f32], decays: bool) {
        let Settings { kind, momentum, weight_decay, clip_value, .. } = self.settings;
        let weight_decay = if decays { weight_decay } else { 0.0 };
        let mut scale = self.now.scale;
        if clip_value.is_some() && !self.now.limited {
            self.clip(gradient);
            scale = 1.0;
        }
        let (lr, place) = (self.now.lr, at..at + params.len());
        let largest = match kind {
            OptimizerKind::Sgd => kernels::sgd_update(params, gradient, scale, lr, weight_decay),
            OptimizerKind::Momentum | OptimizerKind::Nesterov => {
                let (nesterov, velocity) = (kind == OptimizerKind::Nesterov, &mut self.first[place]);
                kernels::momentum_update(params, velocity, gradient, scale, lr, weight_decay, momentum, nesterov)
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
                    bias1: self.now.bias[0],
                    bias2: self.now.bias[1],
                };
                kernels::adam_update(params, &mut self.first[place.clone()], &mut self.second[place], gradient, step)
            }
        };
        self.now.finite &= largest.is_finite();
    }

    /// Whether every value of the gradient was finite, as far as it went through here.
    pub fn finite(&self) -> bool {
        self.now.finite
    }

    /// A whole step at once, the norm (where one is limited) that of all of `params` as one part.
    #[must_use]
    pub fn step(&mut self, params: &mut [f32], gradient_sum: &mut [f32], count: u64, lr: f32) -> bool {
        self.begin(count, lr);
        if self.wants_norm() {
            let squares = self.measure(gradient_sum);
            self.limit(squares);
        }
        self.update(0, params, gradient_sum);
        self.finite()
    }
}
