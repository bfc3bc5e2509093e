//! The way back: loss and gradients, in the order that leaves give.

use std::ops::Range;

use super::layers::{Backward, Between, Pass};
use super::plan::Step;
use super::probe::Probe;
use super::profile::Profile;
use super::{DenseStep, Gradients, Model, Params, Workspace, pass};
use crate::kernels::{self, Buffer, Leaf, Score};
use crate::trace::What;

impl Model {
    /// The loss of the logits in `ws`, and the gradients of its SUM over the micro-batch, in the order that `ws.leaves`
    /// gives, added to `gradients` with the score. `training` must be that of the forward pass. A micro-batch of several
    /// leaves can only begin a sum, not go on with one.
    pub fn backward(&self, params: &Params, ws: &mut Workspace, training: (u64, usize), gradients: &mut Gradients) {
        let gradients = std::slice::from_mut(gradients);
        let accumulate = self.backward_loss(ws, gradients);
        self.backward_rows(
            self.rows_from()..self.plan.steps.len(),
            params,
            ws,
            training,
            &mut gradients[0],
            accumulate,
        );
        self.backward_images(params, ws, training, gradients, accumulate, &mut || ());
    }

    /// The first part of [`Model::backward`]: the loss and the gradients of the logits. Leaves that are not joined to one sum
    /// give several. Whether the gradients that follow are to be added to what the first of `gradients` holds.
    pub fn backward_loss(&self, ws: &mut Workspace, gradients: &mut [Gradients]) -> bool {
        let Workspace { batch, labels, leaves, buffers, probe, .. } = ws;
        let leaves = or_one_leaf(leaves, *batch);
        assert_eq!(leaves.slice().last().map_or(0, |leaf| leaf.end), *batch, "leaves that end with the batch");
        let newest = self.plan.buffers.len() - 1;
        let logits = &buffers[newest][self.place(newest, &(0..*batch), true)];
        ws.turn = 0;
        let d_logits = &mut ws.gradients[0][..logits.len()];
        self.scores(logits, labels, leaves.slice(), gradients, d_logits, probe);
        gradients[0].accumulate()
    }

    /// Some steps of [`Model::backward`] from the first dense layer on, last to first, for all rows.
    pub fn backward_rows(
        &self,
        steps: Range<usize>,
        params: &Params,
        ws: &mut Workspace,
        training: (u64, usize),
        gradients: &mut Gradients,
        accumulate: bool,
    ) {
        let Workspace { batch, rows, leaves, packed, buffers, kept, scratch, profile, probe, turn, .. } = ws;
        let pass = pass(*batch, rows, Some(training));
        let leaves = or_one_leaf(leaves, *batch);
        let newest = self.plan.buffer_before(steps.end);
        let steps = steps.start.max(self.plan.first_weights())..steps.end;
        let mut memory = Memory { params, packed, buffers, kept, scratch, profile, probe };
        let sums = Sums { leaves: leaves.slice(), d_params: &mut gradients.values, accumulate };
        let [a, b] = &mut ws.gradients;
        let turns = if *turn == 0 { [a, b] } else { [b, a] };
        let [current, next] = turns.map(|buffer| &mut buffer[..]);
        self.backward_steps(steps.clone(), newest, 0..pass.batch, pass, sums, &mut memory, [current, next, &mut []]);
        self.skip_rows(steps, ws);
    }

    /// What [`Model::backward_rows`] does to a workspace without rows: where the newest gradient stands must be the same on all
    /// ranks, because they write into one another's.
    pub fn skip_rows(&self, steps: Range<usize>, ws: &mut Workspace) {
        let steps = steps.start.max(self.plan.first_weights())..steps.end;
        let maps = steps.len() - self.plan.in_place_steps(steps);
        ws.turn = (ws.turn + maps) % 2;
    }

    /// The last part of [`Model::backward`]: everything below the first dense layer, image by image; `after` is called after
    /// each. Leaves that are not joined to one sum give several.
    pub fn backward_images(
        &self,
        params: &Params,
        ws: &mut Workspace,
        training: (u64, usize),
        gradients: &mut [Gradients],
        accumulate: bool,
        after: &mut dyn FnMut(),
    ) {
        if self.plan.first_weights() >= self.plan.by_image.0 {
            return;
        }
        let Workspace { batch, rows, leaves, packed, buffers, kept, scratch, profile, probe, turn, .. } = ws;
        let pass = pass(*batch, rows, Some(training));
        let leaves = or_one_leaf(leaves, *batch);
        let mut memory = Memory { params, packed, buffers, kept, scratch, profile, probe };
        let boundary = self.plan.by_image.1 - 1;
        let width = self.plan.buffers[boundary].gradient;
        let d_boundary = &mut ws.gradients[*turn];
        let weights = self.image_params();
        let (mut depth, mut start) = (0, 0);
        for (index, leaf) in leaves.slice().iter().enumerate() {
            let sum = &mut ws.shard_sums[depth];
            if accumulate {
                sum.copy_from_slice(&gradients[0].values[weights.clone()])
            } else {
                sum.fill(0.0)
            }
            for n in start..leaf.end {
                let sums = Sums { leaves: &[Leaf { end: 1, merges: 0 }], d_params: sum, accumulate: true };
                let [a, b] = &mut ws.image_gradients;
                let d_top = &mut d_boundary[n * width..(n + 1) * width];
                let steps = self.plan.first_weights()..self.plan.by_image.0;
                self.backward_steps(steps, boundary, n..n + 1, pass.row(n), sums, &mut memory, [d_top, a, b]);
                after();
            }
            memory.probe.gradients(index, sum);
            for _ in 0..leaf.merges {
                let (left, right) = ws.shard_sums.split_at_mut(depth);
                depth -= 1;
                kernels::add(&mut left[depth], &right[0]);
            }
            (depth, start) = (depth + 1, leaf.end);
        }
        for (gradients, sum) in gradients.iter_mut().zip(&ws.shard_sums[..depth]) {
            gradients.values[weights.clone()].copy_from_slice(sum);
        }
    }

    /// For the digests of shards: the rows of a dense layer whose gradients somebody else forms.
    pub fn watch_rows(&self, ws: &mut Workspace, dense: &DenseStep) {
        let Workspace { batch, leaves, buffers, probe, turn, .. } = ws;
        let leaves = or_one_leaf(leaves, *batch);
        let input = &buffers[dense.input][..*batch * dense.dense.shape.inputs];
        let d_output = &ws.gradients[*turn][..*batch * dense.dense.shape.outputs];
        probe.rows(self.plan.steps.len() - 1 - dense.step, leaves.slice(), input, d_output);
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

    /// Some steps, last to first, from buffer `newest` down, for some rows of the micro-batch. `turns` holds the gradient
    /// of that buffer, where the next one goes, and (if not empty) where the one after that goes; then they take turns.
    #[allow(clippy::too_many_arguments)] // As in `forward_steps`.
    fn backward_steps(
        &self,
        steps: Range<usize>,
        mut newest: usize,
        rows: Range<usize>,
        pass: Pass<'_>,
        sums: Sums<'_>,
        memory: &mut Memory<'_>,
        turns: [&mut [f32]; 3],
    ) {
        let [mut current, mut next, mut spare] = turns;
        let first = self.plan.first_weights();
        let gradient = |buffer: usize| self.plan.buffers[buffer].gradient * rows.len();
        for (index, step) in self.plan.steps[..steps.end].iter().enumerate().skip(steps.start).rev() {
            let place = self.place(newest, &rows, true);
            match step {
                Step::Map(layer, packed) => {
                    let words = self.plan.buffers[newest].kept;
                    let backward = Backward {
                        batch: rows.len(),
                        leaves: sums.leaves,
                        params: &memory.params.values,
                        packed: &memory.packed[packed.clone()],
                        input: &memory.buffers[newest - 1][self.place(newest - 1, &rows, true)],
                        output: &memory.buffers[newest][place],
                        kept: &memory.kept[newest][rows.start * words..rows.end * words],
                        d_output: &current[..gradient(newest)],
                        d_input: (index > first).then(|| &mut next[..gradient(newest - 1)]),
                        d_params: Some(&mut *sums.d_params),
                        accumulate: sums.accumulate,
                        scratch: memory.scratch,
                        between: Between::default(),
                    };
                    if layer.has_weights() && index >= self.plan.by_image.0 {
                        memory.probe.rows(
                            self.plan.steps.len() - 1 - index,
                            sums.leaves,
                            backward.input,
                            backward.d_output,
                        );
                    }
                    memory.profile.backward(index, layer.as_ref(), backward);
                    let old = std::mem::replace(&mut current, next);
                    next = if spare.is_empty() { old } else { std::mem::take(&mut spare) };
                    newest -= 1;
                }
                Step::InPlace(layer) => {
                    let (output, d_output) = (&memory.buffers[newest][place], &mut current[..gradient(newest)]);
                    let work = || layer.backward(pass, output, d_output);
                    memory.profile.time(index, What::BackwardData, work);
                }
            }
        }
    }
}

/// The leaves of a micro-batch.
enum Leaves<'a> {
    Some(&'a [Leaf]),
    /// It is one.
    One([Leaf; 1]),
}

impl Leaves<'_> {
    fn slice(&self) -> &[Leaf] {
        match self {
            Leaves::Some(leaves) => leaves,
            Leaves::One(leaf) => leaf,
        }
    }
}

fn or_one_leaf(leaves: &[Leaf], batch: usize) -> Leaves<'_> {
    if leaves.is_empty() && batch > 0 { Leaves::One([Leaf { end: batch, merges: 0 }]) } else { Leaves::Some(leaves) }
}

/// What the backward pass reads, and its scratch memory.
struct Memory<'a> {
    params: &'a Params,
    packed: &'a [f32],
    buffers: &'a [Buffer],
    kept: &'a [Vec<u16>],
    scratch: &'a mut [f32],
    profile: &'a mut Profile,
    probe: &'a mut Probe,
}

/// Where gradients are summed, and in which order.
struct Sums<'a> {
    leaves: &'a [Leaf],
    d_params: &'a mut [f32],
    accumulate: bool,
}
