//! Every activation and scratch buffer, allocated once: the step allocates nothing.

use super::Model;
use super::Probe;
use super::plan::Step;
use super::profile::Profile;
use crate::kernels::{self, Buffer, Leaf, zeros};

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
    /// How sums over the rows are ordered: a leaf a shard. Where there is none, the micro-batch is one.
    pub leaves: Vec<Leaf>,
    /// Weights as the layers packed them.
    pub(super) packed: Buffer,
    pub(super) buffers: Vec<Buffer>,
    /// What each buffer's layer keeps besides, for the way back.
    pub(super) kept: Vec<Vec<u16>>,
    /// The gradient of a buffer and of the one before it, in turn, for all rows: dense layers.
    pub(super) gradients: [Buffer; 2],
    /// The same for one image.
    pub(super) image_gradients: [Buffer; 2],
    /// Sums of the shards' gradients below the first dense layer, as the tree has them waiting.
    pub(super) shard_sums: Vec<Buffer>,
    pub(super) scratch: Buffer,
    /// Watches what the shards of a step bring.
    pub probe: Probe,
    pub(super) profile: Profile,
}

/// How large each part of a [`Workspace`] is, in values.
struct Sizes {
    buffers: Vec<usize>,
    kept: Vec<usize>,
    gradients: usize,
    image_gradients: usize,
    shard_sums: (usize, usize),
    scratch: usize,
}

impl Sizes {
    fn new(model: &Model, capacity: usize, shards: usize, training: bool) -> Sizes {
        let plan = &model.plan;
        let (by_image, boundary) = (plan.by_image.0, plan.by_image.1 - 1);
        // Without a way back one image's activations make room for the next one's.
        let rows = |buffer: usize| if training || buffer == 0 || buffer >= boundary { capacity } else { 1 };
        let scratch = plan.steps.iter().enumerate().map(|(index, step)| match step {
            Step::Map(layer, _) => layer.scratch(if index < by_image { 1 } else { capacity }),
            Step::InPlace(_) => 0,
        });
        let widest = |buffers: &[super::plan::Row]| buffers.iter().map(|row| row.gradient).max().unwrap_or(0);
        let lowest = plan.lowest_gradient();
        let when = |size: usize| if training { size } else { 0 };
        let levels = (kernels::most_waiting(shards) + 1).min(capacity);
        Sizes {
            buffers: plan.buffers.iter().enumerate().map(|(index, row)| row.values * rows(index)).collect(),
            kept: plan.buffers.iter().map(|row| when(row.kept * capacity)).collect(),
            gradients: when(widest(&plan.buffers[lowest.max(boundary)..]) * capacity),
            image_gradients: when(widest(plan.buffers.get(lowest..boundary).unwrap_or(&[]))),
            shard_sums: (when(levels), model.weights_by_image()),
            scratch: scratch.max().unwrap_or(0),
        }
    }
}

impl Workspace {
    /// Memory for training (and evaluation) with rows of up to `shards` shards.
    pub fn for_training(model: &Model, capacity: usize, shards: usize) -> Workspace {
        Workspace::new(model, capacity, &Sizes::new(model, capacity, shards, true))
    }

    /// Memory for forward passes only.
    pub fn for_inference(model: &Model, capacity: usize) -> Workspace {
        Workspace::new(model, capacity, &Sizes::new(model, capacity, 1, false))
    }

    fn new(model: &Model, capacity: usize, sizes: &Sizes) -> Workspace {
        let (levels, sums) = sizes.shard_sums;
        Workspace {
            capacity,
            batch: 0,
            rows: Vec::with_capacity(capacity),
            labels: Vec::with_capacity(capacity),
            leaves: Vec::with_capacity(capacity),
            packed: zeros(model.plan.packed),
            buffers: sizes.buffers.iter().map(|&length| zeros(length)).collect(),
            kept: sizes.kept.iter().map(|&length| vec![0; length]).collect(),
            gradients: [zeros(sizes.gradients), zeros(sizes.gradients)],
            image_gradients: [zeros(sizes.image_gradients), zeros(sizes.image_gradients)],
            shard_sums: (0..levels).map(|_| zeros(sums)).collect(),
            scratch: zeros(sizes.scratch),
            probe: Probe::default(),
            profile: Profile::default(),
        }
    }

    /// Bytes that [`Workspace::for_training`] takes.
    pub fn bytes(model: &Model, capacity: usize, shards: usize) -> usize {
        let sizes = Sizes::new(model, capacity, shards, true);
        let (levels, sums) = sizes.shard_sums;
        let values = sizes.buffers.iter().sum::<usize>() + 2 * (sizes.gradients + sizes.image_gradients);
        let words = sizes.kept.iter().sum::<usize>();
        4 * (values + levels * sums + sizes.scratch + model.plan.packed) + 2 * words
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
