//! Every activation and scratch buffer, allocated once: the step allocates nothing.

use super::Model;
use super::Probe;
use super::plan::Step;
use super::profile::{Profile, Times};
use crate::kernels::{self, Buffer, Leaf, zeros};
use crate::trace::Trace;

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
    /// Which of them holds the newest gradient.
    pub(super) turn: usize,
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

/// The widest of the gradients that take the first turn, and of those that take the second.
fn widest_by_turn<'a>(buffers: impl Iterator<Item = &'a super::plan::Row>) -> [usize; 2] {
    buffers.enumerate().fold([0, 0], |mut widest, (place, row)| {
        widest[place % 2] = widest[place % 2].max(row.gradient);
        widest
    })
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
        // Those that wait, and those that are left where the shards are no whole subtree.
        let levels = (3 * kernels::most_waiting(shards) + 1).min(capacity);
        Sizes {
            buffers: plan.buffers.iter().enumerate().map(|(index, row)| row.values * rows(index)).collect(),
            kept: plan.buffers.iter().map(|row| when(row.kept * capacity)).collect(),
            gradients: when(widest(&plan.buffers[lowest.max(boundary)..]) * capacity),
            image_gradients: when(widest(plan.buffers.get(lowest..boundary).unwrap_or(&[]))),
            shard_sums: (when(levels), model.image_params().len()),
            scratch: scratch.max().unwrap_or(0),
        }
    }

    fn bytes(&self, model: &Model) -> usize {
        let (levels, sums) = self.shard_sums;
        let values = self.buffers.iter().sum::<usize>() + 2 * (self.gradients + self.image_gradients);
        let words = self.kept.iter().sum::<usize>();
        4 * (values + levels * sums + self.scratch + model.plan.packed) + 2 * words
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
            turn: 0,
            image_gradients: [zeros(sizes.image_gradients), zeros(sizes.image_gradients)],
            shard_sums: (0..levels).map(|_| zeros(sums)).collect(),
            scratch: zeros(sizes.scratch),
            probe: Probe::default(),
            profile: Profile::default(),
        }
    }

    /// Bytes that [`Workspace::for_training`] takes.
    pub fn bytes(model: &Model, capacity: usize, shards: usize) -> usize {
        Sizes::new(model, capacity, shards, true).bytes(model)
    }

    /// Bytes of it that steps of `rows` rows a micro-batch touch, and evaluation with all of its capacity, where the sums of so many
    /// shards stand side by side: each gradient takes room in one of two buffers only, for the rows that there are.
    pub fn touched_bytes(model: &Model, capacity: usize, rows: usize, levels: usize) -> usize {
        let sizes = Sizes::new(model, capacity, 1, true);
        let (lowest, boundary) = (model.plan.lowest_gradient(), model.plan.by_image.1 - 1);
        let by_rows = widest_by_turn(model.plan.buffers[lowest.max(boundary)..].iter().rev());
        let by_image = widest_by_turn(model.plan.buffers.get(lowest..boundary).unwrap_or(&[]).iter().rev());
        let gradients = by_rows.iter().sum::<usize>() * rows + by_image.iter().sum::<usize>();
        // Without a way back, images take turns below the first dense layer.
        let of = |buffer: usize| if buffer == 0 || buffer >= boundary { capacity } else { rows };
        let buffers: usize = model.plan.buffers.iter().enumerate().map(|(index, row)| row.values * of(index)).sum();
        let kept: usize = model.plan.buffers.iter().map(|row| row.kept * rows).sum();
        4 * (buffers + gradients + levels * sizes.shard_sums.1 + sizes.scratch + model.plan.packed) + 2 * kept
    }

    /// Floats of each buffer of [`Workspace::for_training`], and of the gradients that [`Workspace::place_gradients`] places.
    pub fn lengths(model: &Model, capacity: usize, shards: usize) -> (Vec<usize>, usize) {
        let Sizes { buffers, gradients, .. } = Sizes::new(model, capacity, shards, true);
        (buffers, gradients)
    }

    /// Bytes that [`Workspace::for_inference`] takes.
    pub fn inference_bytes(model: &Model, capacity: usize) -> usize {
        Sizes::new(model, capacity, 1, false).bytes(model)
    }

    /// Where the times of step `step` are added up, if somebody asked for a profile.
    pub fn times(&mut self, step: usize) -> Option<&mut Times> {
        self.profile.of_step(step)
    }

    /// From now on, passes in this workspace are recorded layer by layer.
    pub fn record(&mut self, trace: &Trace) {
        self.profile.record(trace);
    }

    /// The values of the current micro-batch in buffer `index`, `[batch, values]`, and of the one behind it.
    pub fn buffers_mut(&mut self, index: usize) -> (&Buffer, &mut Buffer) {
        let (before, after) = self.buffers.split_at_mut(index + 1);
        (&before[index], &mut after[0])
    }

    /// The newest gradient, and where the next one goes: for all rows.
    pub fn gradients_mut(&mut self) -> (&Buffer, &mut Buffer) {
        let [a, b] = &mut self.gradients;
        if self.turn == 0 { (a, b) } else { (b, a) }
    }

    /// Which of the two gradients the next one goes to, as [`Workspace::place_gradients`] counts.
    pub fn next_turn(&self) -> usize {
        1 - self.turn
    }

    /// The next gradient has been written.
    pub fn take_turn(&mut self) {
        self.turn = self.next_turn();
    }

    /// Puts buffer `index` into memory that others see.
    pub fn place_buffer(&mut self, index: usize, memory: Buffer) {
        assert_eq!(memory.len(), self.buffers[index].len(), "buffer {index}");
        self.buffers[index] = memory;
    }

    /// Puts the gradients of dense layers' rows into memory that others see.
    pub fn place_gradients(&mut self, memory: [Buffer; 2]) {
        assert!(memory.iter().all(|memory| memory.len() == self.gradients[0].len()), "gradients");
        self.gradients = memory;
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
