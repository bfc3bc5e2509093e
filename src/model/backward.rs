//! The backward pass: loss and gradients, in the order that leaves give.

use std::ops::Range;

use super::backward_step::{Memory, Sums};
use super::forward::pass;
use super::leaves::or_one_leaf;
use super::memory::Rows;
use super::norms::{Alone, Peers};
use super::ops::work::{Pass, Work};
use super::probe::Probe;
use super::segments::Traversal;
use super::step::Step;
use super::{DenseStep, Gradients, Model, Params, Workspace};
use crate::kernels::rng::TrainingPass;
use crate::kernels::{self, Buffer, Leaf, Score};

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
    pub(super) fn steps_above(&self, step: usize) -> usize {
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
}

/// The sums of gradients that a backward pass forms.
pub struct SumsOf<'a> {
    /// One of each subtree of the leaves.
    pub gradients: &'a mut [Gradients],
    /// Whether the first holds one that the pass goes on with.
    pub accumulate: bool,
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
