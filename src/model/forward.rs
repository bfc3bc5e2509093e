//! The forward pass.

use std::ops::Range;

use super::gradients::{SlotId, Target};
use super::graph::TensorId;
use super::ops::DenseWork;
use super::ops::work::{Elements, Forward, Inputs, Pass, Training, Work};
use super::profile::Profile;
use super::step::Step;
use super::workspace::Tensors;
use super::{Model, Params, Workspace};
use crate::kernels::{Channels, put_channels};
use crate::trace::What;

impl Model {
    /// Runs the micro-batch that stands in `ws` through the network; the logits stand in `ws` afterwards.
    ///
    /// `training` is the seed and the epoch of a training pass; without it dropout is off, and nothing is kept for a
    /// backward pass.
    pub fn forward(&self, params: &Params, ws: &mut Workspace, training: Option<(u64, usize)>) {
        self.forward_images(params, ws, training, &mut |_| ());
        self.forward_rows(self.rows_from()..self.steps(), params, ws, training);
    }

    /// The first part of [`Model::forward`]: the steps that go image by image; `after` is told of each image that is through.
    pub fn forward_images(
        &self,
        params: &Params,
        ws: &mut Workspace,
        training: Option<(u64, usize)>,
        after: &mut dyn FnMut(usize),
    ) {
        let Workspace { batch, rows, packed, values, kept, scratch, profile, .. } = ws;
        for step in &self.program.steps {
            if let Work::Map(map) = &step.work {
                map.pack(&params.values, &mut packed[step.packed.clone()]);
            }
        }
        let pass = pass(*batch, rows, training);
        let mut memory = Activations { params, packed, values, kept, scratch, profile };
        for n in 0..pass.batch {
            self.forward_steps(0..self.rows_from(), n..n + 1, pass.row(n), &mut memory);
            after(n);
        }
    }

    /// Some steps of [`Model::forward`] that take all rows at once.
    pub fn forward_rows(
        &self,
        steps: Range<usize>,
        params: &Params,
        ws: &mut Workspace,
        training: Option<(u64, usize)>,
    ) {
        let Workspace { batch, rows, packed, values, kept, scratch, profile, .. } = ws;
        let pass = pass(*batch, rows, training);
        let mut memory = Activations { params, packed, values, kept, scratch, profile };
        self.forward_steps(steps, 0..pass.batch, pass, &mut memory);
    }

    /// The dense layers of the direct kernels, whose work others than this model may do.
    pub fn dense_steps(&self) -> Vec<DenseStep> {
        let dense = |(index, step): (usize, &Step)| {
            let Work::Map(map) = &step.work else { return None };
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
                reads_images: self.reads_images(step),
            })
        };
        self.program.steps.iter().enumerate().filter_map(dense).collect()
    }

    /// Whether the inputs of a step are complete when all images are through.
    fn reads_images(&self, step: &Step) -> bool {
        let by_rows = &self.program.steps[self.program.by_image..];
        step.inputs.iter().all(|input| by_rows.iter().all(|writer| writer.output != *input))
    }

    /// Some steps for some rows of the micro-batch.
    fn forward_steps(&self, steps: Range<usize>, rows: Range<usize>, pass: Pass<'_>, memory: &mut Activations<'_>) {
        let keeps = pass.training.is_some();
        for (index, step) in (steps.start..).zip(&self.program.steps[steps]) {
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
                Work::View => {}
            }
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
    /// Whether its input is complete when all images are through.
    pub reads_images: bool,
}

/// What the forward pass reads and writes.
struct Activations<'a> {
    params: &'a Params,
    packed: &'a [f32],
    values: &'a mut Tensors,
    kept: &'a mut [Vec<u16>],
    scratch: &'a mut [f32],
    profile: &'a mut Profile,
}

pub(super) fn pass<'a>(batch: usize, rows: &'a [u32], training: Option<(u64, usize)>) -> Pass<'a> {
    Pass { batch, training: training.map(|(seed, epoch)| Training { rows, seed, epoch }) }
}
