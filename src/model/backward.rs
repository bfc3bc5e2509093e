//! The backward pass: loss and gradients, in the order that leaves give.

use std::ops::Range;

use super::forward::{channels, pass};
use super::gradients::Target;
use super::graph::TensorId;
use super::leaves::or_one_leaf;
use super::memory::Rows;
use super::norms::{Alone, Norms, Peers};
use super::ops::Normalize;
use super::ops::work::{Backward, Between, Pass, Work};
use super::probe::Probe;
use super::profile::Profile;
use super::segments::Traversal;
use super::step::Step;
use super::workspace::Tensors;
use super::{DenseStep, Gradients, Model, Params, Workspace};
use crate::kernels::rng::TrainingPass;
use crate::kernels::{self, Buffer, Leaf, Score, add_channels, take_channels};
use crate::trace::What;

impl Model {
    /// The loss of the logits in `ws`, and the gradients of its SUM over the micro-batch, in the order that `ws.leaves`
    /// gives, added to `gradients` with the score. `training` must be that of the forward pass. A micro-batch of several
    /// leaves can only begin a sum, not go on with one.
    pub fn backward(&self, params: &Params, ws: &mut Workspace, training: TrainingPass, gradients: &mut Gradients) {
        let gradients = std::slice::from_mut(gradients);
        let accumulate = self.backward_loss(ws, gradients);
        self.backward_steps(0..self.steps(), params, ws, training, SumsOf { gradients, accumulate }, &mut Alone);
    }

    /// The first part of [`Model::backward`]: the loss and the gradients of the logits. Leaves that are not joined to one sum
    /// give several. Whether the gradients that follow are to be added to what the first of `gradients` holds.
    pub fn backward_loss(&self, ws: &mut Workspace, gradients: &mut [Gradients]) -> bool {
        let output = self.program.output;
        let Workspace { batch, labels, leaves, values, gradients: slots, probe, .. } = ws;
        let leaves = or_one_leaf(leaves, *batch);
        assert_eq!(leaves.slice().last().map_or(0, |leaf| leaf.end), *batch, "leaves that end with the batch");
        let logits = &values.read[output][values.places[output].of(&Rows::all(*batch), true)];
        if let Some(slot) = self.program.gradients.of[output] {
            let d_logits = &mut slots.write[slot][..logits.len()];
            self.scores(logits, labels, leaves.slice(), gradients, d_logits, probe);
        }
        gradients[0].accumulate()
    }

    /// Some steps of [`Model::backward`], last to first. Leaves that are not joined to one sum give several.
    pub fn backward_steps(
        &self,
        steps: Range<usize>,
        params: &Params,
        ws: &mut Workspace,
        training: TrainingPass,
        sums: SumsOf<'_>,
        peers: &mut dyn Peers,
    ) {
        let Workspace {
            batch,
            rows,
            leaves,
            packed,
            values,
            gradients,
            kept,
            scratch,
            norms,
            subtree,
            profile,
            probe,
            ..
        } = ws;
        let pass = pass(*batch, rows, Some(training));
        let leaves = or_one_leaf(leaves, *batch);
        let mut memory =
            Memory { params, packed, values, slots: gradients, kept, scratch, norms, subtree, profile, probe };
        let SumsOf { gradients, accumulate } = sums;
        for (segment, steps) in self.program.segments.within(steps).rev() {
            let first = steps.start;
            if steps.clone().any(|step| self.program.targets(step).is_some()) {
                let sums = SumsOf { gradients: &mut *gradients, accumulate };
                let (leaves, shard_sums) = (leaves.slice(), &mut ws.shard_sums);
                match segment.traversal {
                    Traversal::Rows => self.backward_rows(steps, pass, leaves, shard_sums, sums, &mut memory),
                    Traversal::Images(at_once) => {
                        let images = Images { steps, at_once, params: segment.params.clone(), pass };
                        self.backward_images(&images, leaves, shard_sums, sums, &mut memory, peers);
                    }
                }
            }
            if let (Work::Normalize(norm), Some(_)) = (&self.program.steps[first].work, self.program.targets(first)) {
                memory.norms.finish_gradients(norm, &params.values, peers);
            }
        }
    }

    /// The steps of a segment that takes all rows at once. A dense layer forms the gradients of its weights subtree by subtree of the leaves;
    /// those of other layers are summed shard by shard.
    fn backward_rows(
        &self,
        steps: Range<usize>,
        pass: Pass<'_>,
        leaves: &[Leaf],
        shard_sums: &mut [Buffer],
        sums: SumsOf<'_>,
        memory: &mut Memory<'_>,
    ) {
        let SumsOf { gradients, accumulate } = sums;
        for index in steps.rev().filter(|_| pass.batch > 0) {
            let step = &self.program.steps[index];
            match (step.has_weights(), step.sums_leaves) {
                (true, false) => {
                    let images = Images { steps: index..index + 1, at_once: 1, params: step.params.clone(), pass };
                    let sums = SumsOf { gradients: &mut *gradients, accumulate };
                    self.backward_images(&images, leaves, shard_sums, sums, memory, &mut Alone);
                }
                (true, true) if gradients.len() > 1 => {
                    let mut done = Done::default();
                    for gradients in gradients.iter_mut() {
                        let rows = done.next(leaves, memory.subtree);
                        let own = std::mem::take(memory.subtree);
                        let (first, pass) = (done.leaves - own.len(), pass.part(rows.start..rows.end));
                        let mut sums = Sums { leaves: &own, first, d_params: &mut gradients.values, accumulate };
                        if !own.is_empty() {
                            self.backward_step(index, rows, pass, &mut sums, memory);
                        }
                        *memory.subtree = own;
                    }
                }
                _ => {
                    let mut sums = Sums { leaves, first: 0, d_params: &mut gradients[0].values, accumulate };
                    self.backward_step(index, Rows::all(pass.batch), pass, &mut sums, memory);
                }
            }
        }
    }

    /// The steps of a segment that images go through in turn: the gradients of each shard are summed by themselves.
    fn backward_images(
        &self,
        images: &Images<'_>,
        leaves: &[Leaf],
        shard_sums: &mut [Buffer],
        sums: SumsOf<'_>,
        memory: &mut Memory<'_>,
        peers: &mut dyn Peers,
    ) {
        let SumsOf { gradients, accumulate } = sums;
        let weights = images.params.clone();
        let (mut depth, mut start) = (0, 0);
        for (index, leaf) in leaves.iter().enumerate() {
            let sum = &mut shard_sums[depth];
            if accumulate {
                sum[weights.clone()].copy_from_slice(&gradients[0].values[weights.clone()]);
            } else {
                sum[weights.clone()].fill(0.0);
            }
            for first in (start..leaf.end).step_by(images.at_once) {
                let end = leaf.end.min(first + images.at_once);
                for step in images.steps.clone().rev() {
                    for row in first..end {
                        let leaves = &[Leaf { end: 1, merges: 0 }];
                        let mut sums = Sums { leaves, first: 0, d_params: sum, accumulate: true };
                        let rows = Rows { start: row, end: row + 1, first };
                        self.backward_step(step, rows, images.pass.part(row..row + 1), &mut sums, memory);
                    }
                }
                (first..end).for_each(|_| peers.image_backward());
            }
            if let Some(Work::Statistics(norm)) = images.steps.clone().last().map(|step| &self.program.steps[step].work)
            {
                memory.norms.add_params(norm, index, &memory.params.values, sum);
            }
            memory.probe.gradients(index, &sum[weights.clone()]);
            for _ in 0..leaf.merges {
                let (left, right) = shard_sums.split_at_mut(depth);
                depth -= 1;
                kernels::add(&mut left[depth][weights.clone()], &right[0][weights.clone()]);
            }
            (depth, start) = (depth + 1, leaf.end);
        }
        for (gradients, sum) in gradients.iter_mut().zip(&shard_sums[..depth]) {
            gradients.values[weights.clone()].copy_from_slice(&sum[weights.clone()]);
        }
    }

    /// For the digests of shards: the rows of a dense layer whose gradients somebody else forms.
    pub fn watch_rows(&self, ws: &mut Workspace, dense: &DenseStep) {
        let Workspace { batch, leaves, values, gradients: slots, probe, .. } = ws;
        let leaves = or_one_leaf(leaves, *batch);
        let input = &values.read[dense.input][..*batch * dense.dense.shape.inputs];
        let d_output = &slots.read[dense.d_output][..*batch * dense.dense.shape.outputs];
        probe.rows(self.steps_above(dense.step), 0, leaves.slice(), input, d_output);
    }

    /// The gradient of the input of a dense layer, where somebody else formed it, is added to what other readers of the input brought.
    pub fn add_d_input(&self, ws: &mut Workspace, dense: &DenseStep) {
        if let (Some(d_input), Some(sum)) = (dense.d_input, dense.added_to) {
            let floats = ws.batch * dense.dense.shape.inputs;
            kernels::add(&mut ws.gradients.write[sum][..floats], &ws.gradients.read[d_input][..floats]);
        }
    }

    /// How many steps stand above one, as digests of shards count them: an element-wise step whose output does not take its input's
    /// place counts as two.
    fn steps_above(&self, step: usize) -> usize {
        let counts = |step: &Step| match step.work {
            Work::Elementwise(_) if step.held.is_none() => 2,
            _ => 1,
        };
        self.program.steps[step + 1..].iter().map(counts).sum()
    }

    /// The losses, each leaf's a chain over its rows (which, where there is one leaf, goes on from what the first of
    /// `gradients` holds), joined as the leaves are; their gradients into `d_logits`.
    fn scores(
        &self,
        logits: &[f32],
        labels: &[u32],
        leaves: &[Leaf],
        gradients: &mut [Gradients],
        d_logits: &mut [f32],
        probe: &mut Probe,
    ) {
        let mut stack = [gradients[0].score; 2 * kernels::MOST_MERGES + 1];
        let (mut depth, mut start) = (0, 0);
        for (index, leaf) in leaves.iter().enumerate() {
            let values = start * self.classes..leaf.end * self.classes;
            let from = if leaves.len() == 1 { stack[0] } else { Score::default() };
            let d_logits = Some(&mut d_logits[values.clone()]);
            let labels = &labels[start..leaf.end];
            let mut score = kernels::softmax_cross_entropy(self.classes, &logits[values], labels, d_logits, from);
            probe.score(index, score);
            for _ in 0..leaf.merges {
                depth -= 1;
                score = stack[depth] + score;
            }
            stack[depth] = score;
            (depth, start) = (depth + 1, leaf.end);
        }
        gradients.iter_mut().zip(&stack[..depth]).for_each(|(gradients, score)| gradients.score = *score);
    }

    /// A step for some rows of the micro-batch.
    fn backward_step(&self, index: usize, rows: Rows, pass: Pass<'_>, sums: &mut Sums<'_>, memory: &mut Memory<'_>) {
        let Some(targets) = self.program.targets(index) else { return };
        let step = &self.program.steps[index];
        match &step.work {
            Work::Map(_) => self.backward_map(index, targets[0], &rows, sums, memory),
            Work::Elementwise(work) => {
                let output = &memory.values.read[step.output][memory.value(step.output, &rows)];
                let slot = self.program.gradients.of[step.output].unwrap_or_default();
                let place = memory.gradient(slot, &rows);
                let Tensors { read, write, places } = &mut *memory.slots;
                memory.profile.time(index, What::BackwardData, || {
                    work.backward(pass, output, &mut write[slot][place.clone()]);
                    for target in targets {
                        match *target {
                            Target::Nowhere | Target::Same => {}
                            Target::Set(to) => {
                                write[to][places[to].of(&rows, true)].copy_from_slice(&read[slot][place.clone()]);
                            }
                            Target::Add { into, .. } => {
                                kernels::add(
                                    &mut write[into][places[into].of(&rows, true)],
                                    &read[slot][place.clone()],
                                );
                            }
                        }
                    }
                });
            }
            Work::Concat(counts) => {
                let slot = self.program.gradients.of[step.output].unwrap_or_default();
                let place = memory.gradient(slot, &rows);
                let Tensors { read, write, places } = &mut *memory.slots;
                memory.profile.time(index, What::BackwardData, || {
                    for (channels, target) in channels(counts).zip(targets) {
                        let wide = &read[slot][place.clone()];
                        match *target {
                            Target::Nowhere | Target::Same => {}
                            Target::Set(to) => {
                                take_channels(channels, wide, &mut write[to][places[to].of(&rows, true)]);
                            }
                            Target::Add { into, .. } => {
                                add_channels(channels, wide, &mut write[into][places[into].of(&rows, true)]);
                            }
                        }
                    }
                });
            }
            Work::Normalize(norm) => {
                let (input, output) = (memory.value(step.inputs[0], &rows), memory.value(step.output, &rows));
                let slot = self.program.gradients.of[step.output].unwrap_or_default();
                let place = memory.gradient(slot, &rows);
                let Memory { values, slots, norms, .. } = memory;
                let gradient = &mut slots.write[slot][place];
                memory.profile.time(index, What::BackwardData, || {
                    norm.gate(&values.read[step.output][output], gradient);
                    let input = &values.read[step.inputs[0]][input];
                    for ((row, input), (_, gradient)) in rows.each(input).zip(rows.each(gradient)) {
                        norms.add_gradients(norm, row, input, gradient);
                    }
                });
            }
            Work::Statistics(norm) => self.backward_statistics(index, norm, targets[0], &rows, memory),
            Work::Scale(channels) => self.backward_scale(index, *channels, &rows, memory),
            Work::View => {}
        }
    }

    /// A norm's input: the gradient of what was made of it becomes its own, in place.
    fn backward_statistics(
        &self,
        index: usize,
        norm: &Normalize,
        target: Target,
        rows: &Rows,
        memory: &mut Memory<'_>,
    ) {
        let step = &self.program.steps[index];
        let slot = self.program.gradients.of[step.output].unwrap_or_default();
        let (input, place) = (memory.value(step.inputs[0], rows), memory.gradient(slot, rows));
        let Memory { values, slots, norms, profile, .. } = memory;
        let Tensors { read, write, places } = &mut **slots;
        profile.time(index, What::BackwardData, || {
            let input = &values.read[step.inputs[0]][input];
            let of_row = input.len() / rows.len();
            for ((row, input), gradient) in rows.each(input).zip(write[slot][place.clone()].chunks_exact_mut(of_row)) {
                norms.backward(norm, row, input, gradient);
            }
            match target {
                Target::Nowhere | Target::Same => {}
                Target::Set(to) => write[to][places[to].of(rows, true)].copy_from_slice(&read[slot][place]),
                Target::Add { into, .. } => {
                    kernels::add(&mut write[into][places[into].of(rows, true)], &read[slot][place]);
                }
            }
        });
    }

    /// The step of a product of an image by a factor a channel.
    fn backward_scale(&self, index: usize, channels: usize, rows: &Rows, memory: &mut Memory<'_>) {
        let (step, Some(targets)) = (&self.program.steps[index], self.program.targets(index)) else { return };
        let slot = self.program.gradients.of[step.output].unwrap_or_default();
        let place = memory.gradient(slot, rows);
        let value = |input: usize| &memory.values.read[step.inputs[input]][memory.value(step.inputs[input], rows)];
        let (map, factors) = (value(0), value(1));
        let Tensors { read, write, places } = &mut *memory.slots;
        let d_output = &read[slot][place];
        memory.profile.time(index, What::BackwardData, || {
            for (input, target) in targets.iter().enumerate() {
                let (to, accumulate) = match *target {
                    Target::Nowhere | Target::Same => continue,
                    Target::Set(to) => (to, false),
                    Target::Add { into, .. } => (into, true),
                };
                let gradient = &mut write[to][places[to].of(rows, true)];
                match input {
                    0 => kernels::scale_backward_map(channels, factors, d_output, gradient, accumulate),
                    _ => kernels::scale_backward_factors(channels, map, d_output, gradient, accumulate),
                }
            }
        });
    }

    /// The step of an operation with one input, whose gradient goes to `target`.
    fn backward_map(&self, index: usize, target: Target, rows: &Rows, sums: &mut Sums<'_>, memory: &mut Memory<'_>) {
        let step = &self.program.steps[index];
        let Work::Map(map) = &step.work else { return };
        let (written, sum) = match target {
            Target::Set(slot) => (Some(slot), None),
            Target::Add { into, through } => (through, Some(into)),
            Target::Nowhere | Target::Same => (None, None),
        };
        let words = step.kept();
        let slot = self.program.gradients.of[step.output].unwrap_or_default();
        let (d_output, input, output) =
            (memory.gradient(slot, rows), memory.value(step.inputs[0], rows), memory.value(step.output, rows));
        let d_input = written.map(|slot| memory.gradient(slot, rows));
        let Tensors { read, write, places } = &mut *memory.slots;
        let backward = Backward {
            batch: rows.len(),
            leaves: sums.leaves,
            params: &memory.params.values,
            packed: &memory.packed[step.packed.clone()],
            input: &memory.values.read[step.inputs[0]][input],
            output: &memory.values.read[step.output][output],
            kept: &memory.kept[index][rows.start * words..rows.end * words],
            d_output: &read[slot][d_output],
            d_input: written.zip(d_input).map(|(slot, place)| &mut write[slot][place]),
            d_params: Some(&mut *sums.d_params),
            accumulate: sums.accumulate,
            scratch: memory.scratch,
            between: Between::default(),
        };
        if step.has_weights() && step.sums_leaves && self.takes_all_rows(index) {
            let layer = self.steps_above(index);
            memory.probe.rows(layer, sums.first, sums.leaves, backward.input, backward.d_output);
        }
        memory.profile.backward(index, map.as_ref(), backward);
        if let (Some(written), Some(sum)) = (written, sum) {
            let (from, to) = (places[written].of(rows, true), places[sum].of(rows, true));
            memory.profile.time(index, What::BackwardData, || kernels::add(&mut write[sum][to], &read[written][from]));
        }
    }
}

/// The sums of gradients that a backward pass forms.
pub struct SumsOf<'a> {
    /// One of each subtree of the leaves.
    pub gradients: &'a mut [Gradients],
    /// Whether the first holds one that the pass goes on with.
    pub accumulate: bool,
}

/// What the backward pass reads and writes.
struct Memory<'a> {
    params: &'a Params,
    packed: &'a [f32],
    values: &'a Tensors,
    slots: &'a mut Tensors,
    kept: &'a [Vec<u16>],
    scratch: &'a mut [f32],
    norms: &'a mut Norms,
    /// The leaves of a subtree.
    subtree: &'a mut Vec<Leaf>,
    profile: &'a mut Profile,
    probe: &'a mut Probe,
}

impl Memory<'_> {
    fn value(&self, tensor: TensorId, rows: &Rows) -> Range<usize> {
        self.values.places[tensor].of(rows, true)
    }

    fn gradient(&self, slot: usize, rows: &Rows) -> Range<usize> {
        self.slots.places[slot].of(rows, true)
    }
}

/// Leaves of which the subtrees are done.
#[derive(Default)]
struct Done {
    leaves: usize,
    rows: usize,
}

impl Done {
    /// The rows of the next subtree; its leaves, counted from its own first row, are put into `own`.
    fn next(&mut self, leaves: &[Leaf], own: &mut Vec<Leaf>) -> Rows {
        let start = self.rows;
        own.clear();
        // A subtree is over where the next leaf begins another one that nothing is merged with.
        let mut waiting = 0;
        for (index, leaf) in leaves.iter().enumerate().skip(self.leaves) {
            own.push(Leaf { end: leaf.end - start, ..*leaf });
            waiting = waiting + 1 - leaf.merges;
            (self.leaves, self.rows) = (index + 1, leaf.end);
            let mut later = 0;
            let is_over = waiting == 1
                && leaves[index + 1..].iter().all(|leaf| {
                    later += 1;
                    let inside = leaf.merges < later;
                    later -= leaf.merges.min(later);
                    inside
                });
            if is_over {
                break;
            }
        }
        Rows { start, end: self.rows, first: 0 }
    }
}

/// Images that go through some steps in turn.
struct Images<'a> {
    steps: Range<usize>,
    /// So many at a time.
    at_once: usize,
    /// The floats of the steps' parameters.
    params: Range<usize>,
    pass: Pass<'a>,
}

/// Where gradients are summed, and in which order.
struct Sums<'a> {
    leaves: &'a [Leaf],
    /// The place of the first of them among those of the micro-batch.
    first: usize,
    d_params: &'a mut [f32],
    accumulate: bool,
}
