//! The network: text to plan, forward, loss, backward. It does not know that ranks exist.

mod explain;
pub mod layers;
mod params;
mod plan;
mod probe;
mod profile;
mod spec;
mod workspace;
pub mod zoo;

pub use explain::{Evidence, Method};
pub use layers::{Pass, Training};
pub use params::{Gradients, Init, Param, Params};
pub use plan::LayerInfo;
pub use probe::Probe;
pub use profile::{LayerTimes, Times};
pub use spec::{LayerSpec, ModelSpec};
pub use workspace::Workspace;

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::kernels::{self, Buffer, Engine, Leaf, Score};
use layers::{Backward, Forward};
use plan::{Plan, Step};
use profile::Profile;

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
    pub fn new(spec: ModelSpec, input: [usize; 3], flat: bool, classes: usize, engine: Engine) -> Result<Model> {
        let plan = Plan::new(&spec, input, flat, classes, engine)?;
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

    /// Floating-point operations of one training row: forward, and backward without the input's gradient.
    pub fn training_flops(&self) -> u64 {
        let flops = self.plan.layers.iter().map(|layer| layer.flops);
        let first = self.plan.layers.iter().map(|layer| layer.flops).find(|&flops| flops > 0).unwrap_or(0);
        3 * flops.sum::<u64>() - first
    }

    /// Weights and biases of the layers below the first dense one.
    fn weights_by_image(&self) -> usize {
        self.plan.weights_by_image
    }

    /// Runs the micro-batch that stands in `ws` through the network; the logits stand in `ws` afterwards.
    ///
    /// `training` is the seed and the epoch of a training pass; without it dropout is off, and nothing is kept for a
    /// backward pass.
    pub fn forward(&self, params: &Params, ws: &mut Workspace, training: Option<(u64, usize)>) {
        let Workspace { batch, rows, packed, buffers, kept, scratch, profile, .. } = ws;
        for step in &self.plan.steps {
            if let Step::Map(layer, place) = step {
                layer.pack(&params.values, &mut packed[place.clone()]);
            }
        }
        let pass = pass(*batch, rows, training);
        let mut memory = Activations { buffers, kept, profile };
        let (steps, boundary) = (self.plan.by_image.0, self.plan.by_image.1 - 1);
        for n in 0..pass.batch {
            self.forward_steps(0..steps, 0, n..n + 1, pass.row(n), params, packed, &mut memory, scratch);
        }
        let all = 0..pass.batch;
        self.forward_steps(steps..self.plan.steps.len(), boundary, all, pass, params, packed, &mut memory, scratch);
    }

    /// Some steps, from buffer `newest` on, for some rows of the micro-batch.
    #[allow(clippy::too_many_arguments)] // The parts of a workspace, borrowed one by one.
    fn forward_steps(
        &self,
        steps: Range<usize>,
        mut newest: usize,
        rows: Range<usize>,
        pass: Pass<'_>,
        params: &Params,
        packed: &[f32],
        memory: &mut Activations<'_>,
        scratch: &mut [f32],
    ) {
        let keeps = pass.training.is_some();
        let place = |buffer: usize| self.place(buffer, &rows, keeps);
        for (index, step) in (steps.start..).zip(&self.plan.steps[steps]) {
            match step {
                Step::Map(layer, packed_place) => {
                    let (before, after) = memory.buffers.split_at_mut(newest + 1);
                    let words = self.plan.buffers[newest + 1].kept;
                    let kept = if keeps { rows.start * words..rows.end * words } else { 0..0 };
                    let pass = Forward {
                        batch: rows.len(),
                        params: &params.values,
                        packed: &packed[packed_place.clone()],
                        input: &before[newest][place(newest)],
                        output: &mut after[0][place(newest + 1)],
                        kept: &mut memory.kept[newest + 1][kept],
                        scratch,
                    };
                    memory.profile.time(index, |times| &mut times.forward, || layer.forward(pass));
                    newest += 1;
                }
                Step::InPlace(layer) => {
                    let values = &mut memory.buffers[newest][place(newest)];
                    memory.profile.time(index, |times| &mut times.forward, || layer.forward(pass, values));
                }
            }
        }
    }

    /// Where some rows stand in a buffer: where nothing is kept, images take turns below the first dense layer.
    fn place(&self, buffer: usize, rows: &Range<usize>, keeps: bool) -> Range<usize> {
        let values = self.plan.buffers[buffer].values;
        let takes_turns = !keeps && buffer > 0 && buffer + 1 < self.plan.by_image.1;
        if takes_turns { 0..values } else { rows.start * values..rows.end * values }
    }

    /// The loss of the logits in `ws`, added row by row to what `score` holds.
    pub fn loss(&self, ws: &Workspace, score: Score) -> Score {
        kernels::softmax_cross_entropy(self.classes, ws.logits(), &ws.labels, None, score)
    }

    /// The loss of the logits in `ws`, and the gradients of its SUM over the micro-batch, in the order that `ws.leaves`
    /// gives, added to `gradients` with the score. `training` must be that of the forward pass. A micro-batch of several
    /// leaves can only begin a sum, not go on with one.
    pub fn backward(&self, params: &Params, ws: &mut Workspace, training: (u64, usize), gradients: &mut Gradients) {
        let Workspace { batch, rows, labels, leaves, packed, buffers, kept, scratch, profile, probe, .. } = ws;
        let [current, next] = &mut ws.gradients;
        let pass = pass(*batch, rows, Some(training));
        let whole = [Leaf { end: pass.batch, joins: 0 }];
        let leaves = if leaves.is_empty() { &whole[..] } else { &leaves[..] };
        assert_eq!(leaves.last().map(|leaf| leaf.end), Some(pass.batch), "leaves that end with the batch");
        let newest = self.plan.buffers.len() - 1;
        let logits = &buffers[newest][self.place(newest, &(0..pass.batch), true)];
        gradients.score = self.scores(logits, labels, leaves, gradients.score, &mut current[..logits.len()], probe);
        let accumulate = gradients.accumulate();
        let mut memory = Memory { params, packed, buffers, kept, scratch, profile, probe };
        let (by_image, boundary) = (self.plan.by_image.0, self.plan.by_image.1 - 1);
        let steps = by_image.max(self.plan.first_weights())..self.plan.steps.len();
        let d_params = &mut gradients.values[..];
        let sums = Sums { leaves, d_params, accumulate };
        let d_boundary =
            self.backward_steps(steps, newest, 0..pass.batch, pass, sums, &mut memory, [current, next, &mut []]);
        if self.plan.first_weights() >= by_image {
            return;
        }
        let width = self.plan.buffers[boundary].gradient;
        let d_params = &mut gradients.values[..self.weights_by_image()];
        let (mut depth, mut start) = (0, 0);
        for (index, leaf) in leaves.iter().enumerate() {
            let sum = &mut ws.shard_sums[depth];
            if accumulate {
                sum.copy_from_slice(d_params)
            } else {
                sum.fill(0.0)
            }
            for n in start..leaf.end {
                let sums = Sums { leaves: &[Leaf { end: 1, joins: 0 }], d_params: sum, accumulate: true };
                let [a, b] = &mut ws.image_gradients;
                let d_top = &mut d_boundary[n * width..(n + 1) * width];
                let steps = self.plan.first_weights()..by_image;
                self.backward_steps(steps, boundary, n..n + 1, pass.row(n), sums, &mut memory, [d_top, a, b]);
            }
            memory.probe.gradients(index, sum);
            for _ in 0..leaf.joins {
                let (left, right) = ws.shard_sums.split_at_mut(depth);
                depth -= 1;
                kernels::add(&mut left[depth], &right[0]);
            }
            (depth, start) = (depth + 1, leaf.end);
        }
        d_params.copy_from_slice(&ws.shard_sums[0]);
    }

    /// The losses, each leaf's a chain over its rows (which, where there is one leaf, goes on from `before`), joined as the
    /// leaves are; their gradients into `d_logits`.
    fn scores(
        &self,
        logits: &[f32],
        labels: &[u32],
        leaves: &[Leaf],
        before: Score,
        d_logits: &mut [f32],
        probe: &mut Probe,
    ) -> Score {
        let mut stack = [before; kernels::MOST_JOINS + 1];
        let (mut depth, mut start) = (0, 0);
        for (index, leaf) in leaves.iter().enumerate() {
            let values = start * self.classes..leaf.end * self.classes;
            let from = if leaves.len() == 1 { before } else { Score::default() };
            let d_logits = Some(&mut d_logits[values.clone()]);
            let labels = &labels[start..leaf.end];
            let mut score = kernels::softmax_cross_entropy(self.classes, &logits[values], labels, d_logits, from);
            probe.score(index, score);
            for _ in 0..leaf.joins {
                depth -= 1;
                score = stack[depth] + score;
            }
            stack[depth] = score;
            (depth, start) = (depth + 1, leaf.end);
        }
        stack[0]
    }

    /// Some steps, last to first, from buffer `newest` down, for some rows of the micro-batch. `turns` holds the gradient
    /// of that buffer, where the next one goes, and (if not empty) where the one after that goes; then they take turns.
    /// Returns the last gradient that was made.
    #[allow(clippy::too_many_arguments)] // As in `forward_steps`.
    fn backward_steps<'w>(
        &self,
        steps: Range<usize>,
        mut newest: usize,
        rows: Range<usize>,
        pass: Pass<'_>,
        sums: Sums<'_>,
        memory: &mut Memory<'_>,
        turns: [&'w mut [f32]; 3],
    ) -> &'w mut [f32] {
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
                    memory.profile.time(index, |times| &mut times.backward_data, work);
                }
            }
        }
        current
    }
}

/// What the forward pass writes.
struct Activations<'a> {
    buffers: &'a mut [Buffer],
    kept: &'a mut [Vec<u16>],
    profile: &'a mut Profile,
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

fn pass<'a>(batch: usize, rows: &'a [u32], training: Option<(u64, usize)>) -> Pass<'a> {
    Pass { batch, training: training.map(|(seed, epoch)| Training { rows, seed, epoch }) }
}
