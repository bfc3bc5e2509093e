//! The network: text to plan, forward, loss, backward. It does not know that ranks exist.

mod engine;
mod explain;
pub mod layers;
mod backward;
mod params;
mod plan;
mod predictor;
mod probe;
mod profile;
pub mod room;
mod sizes;
mod spec;
mod workspace;
pub mod zoo;

pub use engine::Engine;
pub use explain::{Evidence, Method};
pub use layers::{Pass, Training};
pub use params::{Gradients, Init, Param, Params, UNIT_INPUTS, units};
pub use plan::LayerInfo;
pub use predictor::Predictor;
pub use probe::Probe;
pub use profile::{LayerTimes, Times};
pub use spec::{LayerSpec, ModelSpec};
pub use workspace::Workspace;

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::kernels::Buffer;
use crate::trace::What;
use layers::Forward;
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

/// What the forward pass writes.
struct Activations<'a> {
    buffers: &'a mut [Buffer],
    kept: &'a mut [Vec<u16>],
    profile: &'a mut Profile,
}

fn pass<'a>(batch: usize, rows: &'a [u32], training: Option<(u64, usize)>) -> Pass<'a> {
    Pass { batch, training: training.map(|(seed, epoch)| Training { rows, seed, epoch }) }
}
