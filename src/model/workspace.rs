//! Every activation and scratch buffer, allocated once: the step allocates nothing.

use super::Model;

/// Memory for micro-batches of up to `capacity` rows.
#[derive(Debug)]
pub struct Workspace {
    /// The most rows of a micro-batch.
    pub capacity: usize,
    /// Rows of the current micro-batch.
    pub batch: usize,
    /// Each row's number in the training split.
    pub rows: Vec<u32>,
    /// Each row's class.
    pub labels: Vec<u32>,
    pub(super) buffers: Vec<Vec<f32>>,
    /// The gradient of a buffer and of the one before it, in turn; empty where only forward passes are made.
    pub(super) gradients: [Vec<f32>; 2],
    pub(super) scratch: Vec<f32>,
}

impl Workspace {
    /// Memory for training (and evaluation).
    pub fn for_training(model: &Model, capacity: usize) -> Workspace {
        let widest = model.widest_gradient() * capacity;
        Workspace { gradients: [vec![0.0; widest], vec![0.0; widest]], ..Workspace::for_inference(model, capacity) }
    }

    /// Memory for forward passes only.
    pub fn for_inference(model: &Model, capacity: usize) -> Workspace {
        Workspace {
            capacity,
            batch: 0,
            rows: Vec::with_capacity(capacity),
            labels: Vec::with_capacity(capacity),
            buffers: model.plan.buffers.iter().map(|length| vec![0.0; length * capacity]).collect(),
            gradients: [Vec::new(), Vec::new()],
            scratch: vec![0.0; model.plan.scratch],
        }
    }

    /// Bytes that [`Workspace::for_training`] takes.
    pub fn bytes(model: &Model, capacity: usize) -> usize {
        let values = model.plan.buffers.iter().sum::<usize>() + 2 * model.widest_gradient();
        4 * (values * capacity + model.plan.scratch)
    }

    /// Where the rows of the current micro-batch go: `[batch, h, w, c]`.
    pub fn input_mut(&mut self) -> &mut [f32] {
        let end = self.buffers[0].len() / self.capacity * self.batch;
        &mut self.buffers[0][..end]
    }

    /// What the network said: `[batch, classes]`.
    pub fn logits(&self) -> &[f32] {
        let last = &self.buffers[self.buffers.len() - 1];
        &last[..last.len() / self.capacity * self.batch]
    }
}
