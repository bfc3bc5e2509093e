//! The network: text to plan, forward, loss, backward. It does not know that ranks exist.

pub mod layers;
mod params;
mod plan;
mod spec;
mod workspace;
pub mod zoo;

pub use layers::{Pass, Training};
pub use params::{Gradients, Init, Param, Params};
pub use plan::LayerInfo;
pub use spec::{LayerSpec, ModelSpec};
pub use workspace::Workspace;

use std::sync::Arc;

use crate::error::Result;
use crate::kernels::{self, Score};
use plan::{Plan, Step};

/// A network planned for one input shape and number of classes.
#[derive(Debug)]
pub struct Model {
    /// As it was written.
    pub spec: ModelSpec,
    /// Outputs.
    pub classes: usize,
    /// The parameters.
    pub table: Arc<[Param]>,
    plan: Plan,
}

impl Model {
    /// Plans `spec` for rows of `[h, w, c]`, or of `c` features where `flat`.
    ///
    /// # Errors
    /// When a layer does not fit what reaches it, or the last one does not fit the classes.
    pub fn new(spec: ModelSpec, input: [usize; 3], flat: bool, classes: usize) -> Result<Model> {
        let plan = Plan::new(&spec, input, flat, classes)?;
        Ok(Model { spec, classes, table: plan.table.clone().into(), plan })
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        self.table.last().map_or(0, |param| param.range.end)
    }

    /// The layers as a person would list them.
    pub fn layers(&self) -> &[LayerInfo] {
        &self.plan.layers
    }

    /// The first step with weights: nothing below it needs a gradient.
    fn first_weights(&self) -> usize {
        let has = |step: &Step| matches!(step, Step::Map(layer) if layer.has_weights());
        self.plan.steps.iter().position(has).unwrap_or(0)
    }

    /// Floating-point operations of one training row: forward, and backward without the input's gradient.
    pub fn training_flops(&self) -> u64 {
        let flops = self.plan.layers.iter().map(|layer| layer.flops);
        let first = self.plan.layers.iter().map(|layer| layer.flops).find(|&flops| flops > 0).unwrap_or(0);
        3 * flops.sum::<u64>() - first
    }

    /// Values a row in the largest gradient.
    fn widest_gradient(&self) -> usize {
        let lowest = 1 + self.plan.steps[..self.first_weights()].iter().filter(|s| matches!(s, Step::Map(_))).count();
        self.plan.buffers[lowest..].iter().copied().max().unwrap_or(0)
    }

    /// Runs the micro-batch that stands in `ws` through the network; the logits stand in `ws` afterwards.
    ///
    /// `training` is the seed and the epoch of a training pass; without it dropout is off.
    pub fn forward(&self, params: &Params, ws: &mut Workspace, training: Option<(u64, usize)>) {
        let Workspace { batch, rows, buffers, scratch, .. } = ws;
        let pass = pass(*batch, rows, training);
        let length = |buffer: usize| self.plan.buffers[buffer] * pass.batch;
        let mut newest = 0;
        for step in &self.plan.steps {
            match step {
                Step::Map(layer) => {
                    let (before, after) = buffers.split_at_mut(newest + 1);
                    let input = &before[newest][..length(newest)];
                    let output = &mut after[0][..length(newest + 1)];
                    layer.forward(pass.batch, &params.values, input, output, scratch);
                    newest += 1;
                }
                Step::InPlace(layer) => layer.forward(pass, &mut buffers[newest][..length(newest)]),
            }
        }
    }

    /// The loss of the logits in `ws`, summed over the micro-batch.
    pub fn loss(&self, ws: &Workspace) -> Score {
        kernels::softmax_cross_entropy(self.classes, ws.logits(), &ws.labels, None)
    }

    /// The loss of the logits in `ws`, and the gradients of its SUM over the micro-batch, added to `gradients` with the
    /// score. `training` must be that of the forward pass.
    pub fn backward(&self, params: &Params, ws: &mut Workspace, training: (u64, usize), gradients: &mut Gradients) {
        let mut newest = self.plan.buffers.len() - 1;
        let Workspace { batch, rows, labels, buffers, gradients: [a, b], scratch, .. } = ws;
        let pass = pass(*batch, rows, Some(training));
        let length = |buffer: usize| self.plan.buffers[buffer] * pass.batch;
        let (mut d_output, mut d_input) = (a, b);
        let logits = &buffers[newest][..length(newest)];
        let d_logits = &mut d_output[..length(newest)];
        let score = kernels::softmax_cross_entropy(self.classes, logits, labels, Some(d_logits));
        gradients.add_score(score, pass.batch);
        let accumulate = gradients.accumulate();
        let first = self.first_weights();
        for (index, step) in self.plan.steps.iter().enumerate().skip(first).rev() {
            match step {
                Step::Map(layer) => {
                    let input = &buffers[newest - 1][..length(newest - 1)];
                    let d_out = &d_output[..length(newest)];
                    layer.backward_weights(pass.batch, input, d_out, gradients.sums_mut(), accumulate, scratch);
                    if index > first {
                        let d_in = &mut d_input[..length(newest - 1)];
                        layer.backward_data(pass.batch, &params.values, input, d_out, d_in, scratch);
                        std::mem::swap(&mut d_output, &mut d_input);
                    }
                    newest -= 1;
                }
                Step::InPlace(layer) => {
                    let (output, d_output) = (&buffers[newest], &mut d_output[..length(newest)]);
                    layer.backward(pass, &output[..length(newest)], d_output);
                }
            }
        }
    }
}

fn pass<'a>(batch: usize, rows: &'a [u32], training: Option<(u64, usize)>) -> Pass<'a> {
    Pass { batch, training: training.map(|(seed, epoch)| Training { rows, seed, epoch }) }
}
