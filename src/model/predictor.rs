//! The inference loop: rows through a network, a batch at a time, forward only.

use std::ops::Range;

use super::{Model, Params, Workspace};
use crate::kernels;

/// A network, its weights, and the memory that rows go through it in.
#[derive(Debug)]
pub struct Predictor<'a> {
    /// The network.
    pub model: &'a Model,
    /// Its weights.
    pub params: &'a Params,
    /// Its capacity is the size of a batch.
    pub workspace: &'a mut Workspace,
}

impl Predictor<'_> {
    /// Runs `rows` through the network in batches. `fill` writes a batch, given by its rows' numbers, into the network's input
    /// `[rows, h, w, c]`; `take` gets the same numbers and the logits `[rows, classes]`.
    pub fn run(
        &mut self,
        rows: Range<usize>,
        mut fill: impl FnMut(Range<usize>, &mut [f32]),
        mut take: impl FnMut(Range<usize>, &[f32]),
    ) {
        let Predictor { model, params, workspace } = self;
        for first in rows.clone().step_by(workspace.capacity) {
            let batch = first..rows.end.min(first + workspace.capacity);
            workspace.batch = batch.len();
            fill(batch.clone(), workspace.input_mut());
            model.forward(params, workspace, None);
            take(batch, workspace.logits());
        }
    }

    /// As [`Predictor::run`]; the probabilities of all rows, `[rows, classes]`.
    pub fn probabilities(&mut self, rows: Range<usize>, fill: impl FnMut(Range<usize>, &mut [f32])) -> Vec<f32> {
        let classes = self.model.classes;
        let mut probabilities = Vec::with_capacity(rows.len() * classes);
        self.run(rows, fill, |_, logits| {
            let start = probabilities.len();
            probabilities.extend_from_slice(logits);
            kernels::softmax(classes, &mut probabilities[start..]);
        });
        probabilities
    }
}
