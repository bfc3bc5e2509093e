//! The memory that a pass works in: allocated once, for the largest micro-batch.

use std::ops::Range;

use super::gradients::SlotId;
use super::graph::TensorId;
use super::memory::{Memory, Place, Rows};
use super::norms::{NormRoom, Norms};
use super::probe::Probe;
use super::profile::{Profile, Times};
use super::segments::Traversal;
use super::{Model, ops::work::Work};
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
    /// Weights as the operations packed them.
    pub(super) packed: Buffer,
    /// Every tensor.
    pub(super) values: Tensors,
    /// Every slot of the gradients.
    pub(super) gradients: Tensors,
    /// What each step keeps besides, for its backward pass.
    pub(super) kept: Vec<Vec<u16>>,
    /// Sums of the shards' gradients of the steps that images go through in turn, as the tree has them waiting.
    pub(super) shard_sums: Vec<Buffer>,
    pub(super) scratch: Buffer,
    /// The sums of batch norms, and which rows are normalised together.
    pub norms: Norms,
    /// The leaves of a subtree of `leaves`.
    pub(super) subtree: Vec<Leaf>,
    /// Watches what the shards of a step bring.
    pub probe: Probe,
    pub(super) profile: Profile,
    output: TensorId,
}

/// Tensors in memory, each seen twice: what is read and what is written at one time never overlap, as [`Memory`] has them.
#[derive(Debug)]
pub(super) struct Tensors {
    pub places: Vec<Place>,
    pub read: Vec<Buffer>,
    pub write: Vec<Buffer>,
}

impl Tensors {
    fn new(places: &[Place], [image, rows]: [usize; 2], capacity: usize) -> Tensors {
        let regions = [zeros(image), zeros(rows * capacity)];
        let part = |place: &Place| regions[usize::from(place.images.is_none())].part(place.range(capacity));
        let read: Vec<Buffer> = places.iter().map(part).collect();
        let write = read.iter().map(Buffer::alias).collect();
        Tensors { places: places.to_vec(), read, write }
    }

    /// Moves tensor `index`, and all that stand in its place, to `memory`.
    fn move_to(&mut self, index: usize, memory: &Buffer) {
        let place = self.places[index];
        for other in 0..self.places.len() {
            let Place { images, offset, floats, .. } = self.places[other];
            if images == place.images && offset == place.offset && floats == place.floats {
                (self.read[other], self.write[other]) = (memory.alias(), memory.alias());
            }
        }
    }
}

/// How many sums of shards' gradients stand side by side at most, for micro-batches of up to `capacity` rows of `shards` shards.
fn levels(capacity: usize, shards: usize) -> usize {
    // Those that wait, and those that are left where the shards are no whole subtree.
    (3 * kernels::most_waiting(shards) + 1).min(capacity)
}

fn scratch(model: &Model, capacity: usize) -> usize {
    let floats = |(index, step): (usize, &super::step::Step)| match &step.work {
        Work::Map(map) => match model.program.segments.of(index).traversal {
            Traversal::Images(_) => map.scratch(1),
            Traversal::Rows => map.scratch(capacity),
        },
        _ => 0,
    };
    model.program.steps.iter().enumerate().map(floats).max().unwrap_or(0)
}

/// Bytes of a workspace as `memory` has it.
fn bytes(model: &Model, memory: &Memory, capacity: usize, levels: usize) -> usize {
    let floats = |[image, rows]: [usize; 2]| image + rows * capacity;
    let sums = levels * model.summed_params().len();
    let values = floats(memory.value_floats) + floats(memory.gradient_floats) + sums;
    4 * (values + scratch(model, capacity) + model.program.packed)
}

/// What a training workspace has room for.
#[derive(Clone, Copy, Debug)]
pub struct StepRoom {
    /// The most rows of a micro-batch.
    pub capacity: usize,
    /// The most shards that they are of.
    pub shards: usize,
    /// The most norm groups that a norm knows at a time.
    pub groups: usize,
}

impl StepRoom {
    fn norms(&self) -> NormRoom {
        NormRoom { leaves: self.shards.clamp(1, self.capacity.max(1)), groups: self.groups.max(1) }
    }
}

impl Workspace {
    /// Memory for training (and evaluation) with rows of up to `shards` shards.
    pub fn for_training(model: &Model, capacity: usize, shards: usize) -> Workspace {
        Workspace::for_steps(model, StepRoom { capacity, shards, groups: shards })
    }

    /// The same, with room for so many norm groups.
    pub fn for_steps(model: &Model, room: StepRoom) -> Workspace {
        let StepRoom { capacity, shards, .. } = room;
        let mut ws = Workspace::new(model, capacity, &model.program.training);
        ws.kept = model.program.steps.iter().map(|step| vec![0; step.kept() * capacity]).collect();
        ws.shard_sums = (0..levels(capacity, shards)).map(|_| zeros(model.summed_params().len())).collect();
        ws.norms = Norms::new(model.norms(), room.norms());
        ws
    }

    /// Memory for forward passes only.
    pub fn for_inference(model: &Model, capacity: usize) -> Workspace {
        Workspace::new(model, capacity, &model.program.inference)
    }

    /// Memory for forward passes, and for [`Model::explain`], which needs every tensor.
    pub fn for_explanation(model: &Model, capacity: usize) -> Workspace {
        Workspace::new(model, capacity, &model.program.explanation)
    }

    fn new(model: &Model, capacity: usize, memory: &Memory) -> Workspace {
        Workspace {
            capacity,
            batch: 0,
            rows: Vec::with_capacity(capacity),
            labels: Vec::with_capacity(capacity),
            leaves: Vec::with_capacity(capacity),
            packed: zeros(model.program.packed),
            values: Tensors::new(&memory.values, memory.value_floats, capacity),
            gradients: Tensors::new(&memory.gradients, memory.gradient_floats, capacity),
            kept: vec![Vec::new(); model.program.steps.len()],
            shard_sums: Vec::new(),
            scratch: zeros(scratch(model, capacity)),
            norms: Norms::default(),
            subtree: Vec::with_capacity(capacity),
            probe: Probe::default(),
            profile: Profile::default(),
            output: model.program.output,
        }
    }

    /// Bytes that [`Workspace::for_steps`] takes.
    pub fn bytes(model: &Model, room: StepRoom) -> usize {
        let StepRoom { capacity, shards, .. } = room;
        let norms = Norms::bytes(model.norms(), room.norms());
        let kept: usize = model.program.steps.iter().map(|step| step.kept() * capacity).sum();
        bytes(model, &model.program.training, capacity, levels(capacity, shards)) + 2 * kept + norms
    }

    /// Bytes of it that steps of `rows` rows a micro-batch touch, and evaluation with all of its capacity, where the sums of so many
    /// shards stand side by side.
    pub fn touched_bytes(model: &Model, room: StepRoom, rows: usize, levels: usize) -> usize {
        let StepRoom { capacity, .. } = room;
        let norms = Norms::bytes(model.norms(), room.norms());
        let memory = &model.program.training;
        // Without a backward pass, images take turns in what only one segment of theirs knows.
        let used = |place: &Place| match (place.images, place.takes_turns) {
            (Some(images), _) => images.min(capacity),
            (None, true) => rows,
            (None, false) => capacity,
        };
        let values = touched(&memory.values, capacity, used);
        let gradients =
            touched(&memory.gradients, capacity, |place| place.images.map_or(rows, |images| images.min(rows)));
        let kept: usize = model.program.steps.iter().map(|step| step.kept() * rows).sum();
        let sums = levels * model.summed_params().len();
        4 * (values + gradients + sums + scratch(model, capacity) + model.program.packed) + 2 * kept + norms
    }

    /// Bytes that [`Workspace::for_explanation`] takes, and [`Workspace::for_inference`] at most.
    pub fn inference_bytes(model: &Model, capacity: usize) -> usize {
        bytes(model, &model.program.explanation, capacity, 0)
    }

    /// Floats that a tensor takes in training.
    pub fn tensor_floats(model: &Model, tensor: TensorId, capacity: usize) -> usize {
        model.program.training.values[tensor].range(capacity).len()
    }

    /// Floats of the gradients of all rows: the memory that [`Workspace::place_gradients`] takes.
    pub fn gradient_floats(model: &Model, capacity: usize) -> usize {
        model.program.training.gradient_floats[1] * capacity
    }

    /// Where times of step `step` are added up, if somebody asked for a profile.
    pub fn times(&mut self, step: usize) -> Option<&mut Times> {
        self.profile.of_step(step)
    }

    /// From now on, passes in this workspace are recorded layer by layer.
    pub fn record(&mut self, trace: &Trace) {
        self.profile.record(trace);
    }

    /// The rows of tensor `tensor`, `[capacity, values]`, to be written.
    pub fn tensor_mut(&mut self, tensor: TensorId) -> &mut Buffer {
        &mut self.values.write[tensor]
    }

    /// The gradients in slot `slot`, for all rows.
    pub fn gradient(&self, slot: SlotId) -> &Buffer {
        &self.gradients.read[slot]
    }

    /// The same, to be written.
    pub fn gradient_mut(&mut self, slot: SlotId) -> &mut Buffer {
        &mut self.gradients.write[slot]
    }

    /// The gradients in one slot, and another one to be written.
    pub fn gradients_mut(&mut self, read: SlotId, write: SlotId) -> (&Buffer, &mut Buffer) {
        (&self.gradients.read[read], &mut self.gradients.write[write])
    }

    /// Puts tensor `tensor` into memory that others see.
    pub fn place_tensor(&mut self, tensor: TensorId, memory: &Buffer) {
        assert_eq!(memory.len(), self.values.read[tensor].len(), "tensor {tensor}");
        self.values.move_to(tensor, memory);
    }

    /// Puts the gradients of all rows into memory that others see.
    pub fn place_gradients(&mut self, memory: &Buffer) {
        let Tensors { places, read, write } = &mut self.gradients;
        for ((place, read), write) in
            places.iter().zip(read).zip(write).filter(|((place, _), _)| place.images.is_none())
        {
            let part = memory.part(place.range(self.capacity));
            (*read, *write) = (part.alias(), part);
        }
    }

    /// Where slot `slot` lies in the memory of [`Workspace::place_gradients`].
    pub fn gradient_range(&self, slot: SlotId) -> Range<usize> {
        self.gradients.places[slot].range(self.capacity)
    }

    /// Where the rows of the current micro-batch go: `[batch, h, w, c]`.
    pub fn input_mut(&mut self) -> &mut [f32] {
        let place = self.values.places[0].of(&Rows::all(self.batch), true);
        &mut self.values.write[0][place]
    }

    /// What the network gave: `[batch, classes]`.
    pub fn logits(&self) -> &[f32] {
        &self.values.read[self.output][self.values.places[self.output].of(&Rows::all(self.batch), true)]
    }
}

/// Floats of a region's places that are touched, where `used` rows of each are: several may stand in the same place.
fn touched(places: &[Place], capacity: usize, used: impl Fn(&Place) -> usize) -> usize {
    let mut sum = 0;
    for by_rows in [false, true] {
        let rows = if by_rows { capacity } else { 1 };
        let of_region = places.iter().filter(|place| place.images.is_none() == by_rows);
        let mut ranges: Vec<Range<usize>> =
            of_region.map(|place| place.offset * rows..place.offset * rows + place.floats * used(place)).collect();
        ranges.sort_by_key(|range| range.start);
        let mut end = 0;
        for range in ranges {
            sum += range.end.saturating_sub(range.start.max(end));
            end = end.max(range.end);
        }
    }
    sum
}
