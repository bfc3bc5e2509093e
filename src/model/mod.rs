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
pub use params::{Gradients, Init, Param, Params, units};
pub use plan::LayerInfo;
pub use probe::Probe;
pub use profile::{LayerTimes, Times};
pub use spec::{LayerSpec, ModelSpec};
pub use workspace::Workspace;

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::kernels::{self, Buffer, Engine, Leaf, Score};
use crate::trace::What;
use layers::{Backward, Between, Forward};
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

    /// Runs the micro-batch that stands in `ws` through the network; the logits stand in `ws` afterwards.
    ///
    /// `training` is the seed and the epoch of a training pass; without it dropout is off, and nothing is kept for a
    /// backward pass.
    pub fn forward(&self, params: &Params, ws: &mut Workspace, training: Option<(u64, usize)>) {
        self.forward_images(params, ws, training, &mut |_| ());
        self.forward_rows(self.rows_from()..self.plan.steps.len(), params, ws, training);
    }

    /// The first part of [`Model::forward`]: everything below the first dense layer, image by image; `after` is told of each that
    /// is through.
    pub fn forward_images(
        &self,
        params: &Params,
        ws: &mut Workspace,
        training: Option<(u64, usize)>,
        after: &mut dyn FnMut(usize),
    ) {
        let Workspace { batch, rows, packed, buffers, kept, scratch, profile, .. } = ws;
        for step in &self.plan.steps {
            if let Step::Map(layer, place) = step {
                layer.pack(&params.values, &mut packed[place.clone()]);
            }
        }
        let pass = pass(*batch, rows, training);
        let mut memory = Activations { buffers, kept, profile };
        for n in 0..pass.batch {
            self.forward_steps(0..self.rows_from(), 0, n..n + 1, pass.row(n), params, packed, &mut memory, scratch);
            after(n);
        }
    }

    /// Some steps of [`Model::forward`] from the first dense layer on, for all rows.
    pub fn forward_rows(
        &self,
        steps: Range<usize>,
        params: &Params,
        ws: &mut Workspace,
        training: Option<(u64, usize)>,
    ) {
        let Workspace { batch, rows, packed, buffers, kept, scratch, profile, .. } = ws;
        let pass = pass(*batch, rows, training);
        let mut memory = Activations { buffers, kept, profile };
        let newest = self.plan.buffer_before(steps.start);
        self.forward_steps(steps, newest, 0..pass.batch, pass, params, packed, &mut memory, scratch);
    }

    /// The first step that takes all rows at once.
    pub fn rows_from(&self) -> usize {
        self.plan.by_image.0
    }

    /// All steps.
    pub fn steps(&self) -> usize {
        self.plan.steps.len()
    }

    /// Weights and biases of the layers below the first dense one: the first ones of all.
    pub fn image_params(&self) -> Range<usize> {
        0..self.plan.weights_by_image
    }

    /// The dense layers of the direct kernels, whose work others than this model may do.
    pub fn dense_steps(&self) -> Vec<DenseStep> {
        let dense = |(step, what): (usize, &Step)| match what {
            Step::Map(layer, _) => layer.dense().map(|dense| DenseStep {
                step,
                layer: self.plan.layer_of[step],
                dense: dense.clone(),
                input: self.plan.buffer_before(step),
                wants_d_input: step > self.plan.first_weights(),
            }),
            Step::InPlace(_) => None,
        };
        self.plan.steps.iter().enumerate().filter_map(dense).collect()
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
                    memory.profile.time(index, What::Forward, || layer.forward(pass));
                    newest += 1;
                }
                Step::InPlace(layer) => {
                    let values = &mut memory.buffers[newest][place(newest)];
                    memory.profile.time(index, What::Forward, || layer.forward(pass, values));
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
        let maps = steps.len() - self.plan.in_place_steps(steps.clone());
        let [current, next] = turns.map(|buffer| &mut buffer[..]);
        self.backward_steps(steps, newest, 0..pass.batch, pass, sums, &mut memory, [current, next, &mut []]);
        *turn = (*turn + maps) % 2;
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
                let sums = Sums { leaves: &[Leaf { end: 1, joins: 0 }], d_params: sum, accumulate: true };
                let [a, b] = &mut ws.image_gradients;
                let d_top = &mut d_boundary[n * width..(n + 1) * width];
                let steps = self.plan.first_weights()..self.plan.by_image.0;
                self.backward_steps(steps, boundary, n..n + 1, pass.row(n), sums, &mut memory, [d_top, a, b]);
                after();
            }
            memory.probe.gradients(index, sum);
            for _ in 0..leaf.joins {
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
        let mut stack = [gradients[0].score; 2 * kernels::MOST_JOINS + 1];
        let (mut depth, mut start) = (0, 0);
        for (index, leaf) in leaves.iter().enumerate() {
            let values = start * self.classes..leaf.end * self.classes;
            let from = if leaves.len() == 1 { stack[0] } else { Score::default() };
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
        gradients.iter_mut().zip(&stack[..depth]).for_each(|(gradients, score)| gradients.score = *score);
    }

    /// Some steps, last to first, from buffer `newest` down, for some rows of the micro-batch. `turns` holds the gradient
    /// of that buffer, where the next one goes, and (if not empty) where the one after that goes; then they take turns.
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

/// A dense layer as a step of the plan.
#[derive(Clone, Debug)]
pub struct DenseStep {
    /// Its place among the steps.
    pub step: usize,
    /// Its place among [`Model::layers`].
    pub layer: usize,
    /// Geometry, and where weights and biases lie.
    pub dense: layers::Dense,
    /// The buffer that it reads; it writes the next one.
    pub input: usize,
    /// Whether anything below has weights.
    pub wants_d_input: bool,
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
    if leaves.is_empty() && batch > 0 { Leaves::One([Leaf { end: batch, joins: 0 }]) } else { Leaves::Some(leaves) }
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
