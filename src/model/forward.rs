//! The forward pass.

use std::ops::Range;

use super::gradients::{SlotId, Target};
use super::graph::TensorId;
use super::leaves::or_one_leaf;
use super::memory::Rows;
use super::norms::{Alone, Norms, Peers, Through};
use super::ops::DenseWork;
use super::ops::work::{Elements, Forward, Inputs, Pass, Training, Work};
use super::profile::Profile;
use super::segments::Traversal;
use super::step::Step;
use super::workspace::Tensors;
use super::{Model, Params, Workspace};
use crate::kernels::rng::TrainingPass;
use crate::kernels::{Channels, norm_forward, put_channels, scale_forward};
use crate::trace::What;

impl Model {
    /// Runs the micro-batch that stands in `ws` through the network; the logits stand in `ws` afterwards.
    ///
    /// `training` is the seed and the epoch of a training pass; without it dropout is off, and nothing is kept for a
    /// backward pass.
    pub fn forward(&self, params: &Params, ws: &mut Workspace, training: Option<TrainingPass>) {
        let Workspace { batch, leaves, norms, .. } = ws;
        norms.group_all(or_one_leaf(leaves, *batch).slice());
        self.pack(params, ws);
        self.forward_steps(0..self.steps(), params, ws, training, &mut Alone);
    }

    /// Puts the weights in the order in which the kernels read them: once, before the steps of a pass.
    pub fn pack(&self, params: &Params, ws: &mut Workspace) {
        for step in &self.program.steps {
            let packed = &mut ws.packed[step.packed.clone()];
            match &step.work {
                Work::Map(map) => map.pack(&params.values, packed),
                Work::Normalize(norm) => norm.pack(&params.values, &mut packed[..norm.width()]),
                _ => {}
            }
        }
    }

    /// Some steps of [`Model::forward`], behind [`Model::pack`]; without a row, too, norms ask `peers` for the sums of all rows.
    pub fn forward_steps(
        &self,
        steps: Range<usize>,
        params: &Params,
        ws: &mut Workspace,
        training: Option<TrainingPass>,
        peers: &mut dyn Peers,
    ) {
        let Workspace { batch, rows, packed, values, kept, scratch, norms, profile, .. } = ws;
        let pass = pass(*batch, rows, training);
        let mut memory = Activations { params, packed, values, kept, scratch, norms, profile };
        for (segment, steps) in self.program.segments.within(steps) {
            match segment.traversal {
                Traversal::Rows if pass.batch == 0 => {}
                Traversal::Rows => {
                    for step in steps.clone() {
                        self.forward_step(step, Rows::all(pass.batch), pass, &mut memory);
                    }
                }
                Traversal::Images(images) => {
                    for first in (0..pass.batch).step_by(images) {
                        let end = pass.batch.min(first + images);
                        for step in steps.clone() {
                            for row in first..end {
                                let rows = Rows { start: row, end: row + 1, first };
                                self.forward_step(step, rows, pass.part(row..row + 1), &mut memory);
                            }
                        }
                        (first..end).for_each(|row| peers.image_forward(Through { row, steps: steps.end }));
                    }
                }
            }
            let last = self.program.steps[..steps.end].last().map(|step| &step.work);
            if let (Some(Work::Statistics(norm)), true) = (last, training.is_some()) {
                memory.norms.finish_moments(norm, &params.values, peers);
            }
        }
    }

    /// The dense layers of the direct kernels that take all rows at once, whose work others than this model may do.
    pub fn dense_steps(&self) -> Vec<DenseStep> {
        let dense = |(index, step): (usize, &Step)| {
            let Work::Map(map) = &step.work else { return None };
            if !self.takes_all_rows(index) {
                return None;
            }
            let target = self.program.targets(index).and_then(|targets| targets.first().copied());
            let (d_input, added_to) = match target {
                Some(Target::Set(slot)) => (Some(slot), None),
                Some(Target::Add { into, through }) => (through, Some(into)),
                _ => (None, None),
            };
            map.dense().map(|dense| DenseStep {
                step: index,
                layer: step.layer,
                dense: dense.clone(),
                input: step.inputs[0],
                output: step.output,
                d_output: self.program.gradients.of[step.output].unwrap_or_default(),
                d_input,
                added_to,
                ready: self.ready(step),
            })
        };
        self.program.steps.iter().enumerate().filter_map(dense).collect()
    }

    /// The step behind which the inputs of another one are complete; 0 where it reads the network's input.
    fn ready(&self, step: &Step) -> usize {
        let writers = self.program.steps.iter().enumerate().filter(|(_, writer)| step.inputs.contains(&writer.output));
        writers.map(|(writer, _)| self.program.segments.span(writer).end).max().unwrap_or(0)
    }

    /// A step for some rows of the micro-batch.
    fn forward_step(&self, index: usize, rows: Rows, pass: Pass<'_>, memory: &mut Activations<'_>) {
        let step = &self.program.steps[index];
        let keeps = pass.training.is_some();
        let Tensors { places, read, write } = &mut *memory.values;
        let place = |tensor: TensorId| places[tensor].of(&rows, keeps);
        let output = &mut write[step.output][place(step.output)];
        let inputs = Inputs { values: read, tensors: &step.inputs, place: &place };
        match &step.work {
            Work::Map(map) => {
                let words = step.kept();
                let kept = if keeps { rows.start * words..rows.end * words } else { 0..0 };
                let forward = Forward {
                    batch: rows.len(),
                    params: &memory.params.values,
                    packed: &memory.packed[step.packed.clone()],
                    input: inputs.get(0),
                    output,
                    kept: &mut memory.kept[index][kept],
                    scratch: memory.scratch,
                };
                memory.profile.time(index, What::Forward, || map.forward(forward));
            }
            Work::Elementwise(work) => {
                let elements = Elements { pass, held: step.held, inputs, output };
                memory.profile.time(index, What::Forward, || work.forward(elements));
            }
            Work::Concat(counts) => memory.profile.time(index, What::Forward, || {
                for (input, channels) in channels(counts).enumerate() {
                    put_channels(channels, inputs.get(input), output);
                }
            }),
            Work::Statistics(norm) if keeps => memory.profile.time(index, What::Forward, || {
                for (row, input) in rows.each(inputs.get(0)) {
                    memory.norms.add_moments(norm, row, input);
                }
            }),
            Work::Normalize(norm) => memory.profile.time(index, What::Forward, || {
                if !keeps {
                    let coefficients = &memory.packed[step.packed.clone()][..norm.width()];
                    return norm_forward(coefficients, norm.rectifier, inputs.get(0), output);
                }
                let of_row = output.len() / rows.len();
                for ((row, input), output) in rows.each(inputs.get(0)).zip(output.chunks_exact_mut(of_row)) {
                    memory.norms.forward(norm, row, input, output);
                }
            }),
            Work::Scale(channels) => memory.profile.time(index, What::Forward, || {
                scale_forward(*channels, inputs.get(0), inputs.get(1), output);
            }),
            Work::View | Work::Statistics(_) => {}
        }
    }
}

/// The channels of each input of a concatenation.
pub(super) fn channels(counts: &[usize]) -> impl Iterator<Item = Channels> + '_ {
    let whole = counts.iter().sum();
    counts.iter().scan(0, move |first, &count| {
        *first += count;
        Some(Channels { first: *first - count, count, whole })
    })
}

/// A dense layer as a step of the program.
#[derive(Clone, Debug)]
pub struct DenseStep {
    /// Its place among the steps.
    pub step: usize,
    /// Its place among [`Model::layers`].
    pub layer: usize,
    /// Geometry, and where weights and biases lie.
    pub dense: DenseWork,
    /// The tensor that it reads.
    pub input: TensorId,
    /// The tensor that it writes.
    pub output: TensorId,
    /// The gradient of its output.
    pub d_output: SlotId,
    /// Where the gradient of its input goes, if anything below has weights.
    pub d_input: Option<SlotId>,
    /// What that is added to, where the input has other readers.
    pub added_to: Option<SlotId>,
    /// The step behind which its input is complete; 0 where that is the network's own.
    pub ready: usize,
}

/// What the forward pass reads and writes.
struct Activations<'a> {
    params: &'a Params,
    packed: &'a [f32],
    values: &'a mut Tensors,
    kept: &'a mut [Vec<u16>],
    scratch: &'a mut [f32],
    norms: &'a mut Norms,
    profile: &'a mut Profile,
}

pub(super) fn pass<'a>(batch: usize, rows: &'a [u32], training: Option<TrainingPass>) -> Pass<'a> {
    Pass { batch, training: training.map(|at| Training { rows, at }) }
}
