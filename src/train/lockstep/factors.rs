//! Dense layers that the ranks share out. Their weights' gradients are formed from the rows themselves (input and gradient of
//! the output: "sufficient factors", Xie et al. 2015), in the order of the fixed tree, a few inputs at a time, and the weights
//! are updated while they are in the cache: nobody ever holds, sums or sends those gradients.
//!
//! - *factors*: every group has the layer's weights; all rows come to it; each of its ranks updates a share of the weights.
//! - *split*: every rank has the weights of some inputs only, and works for all rows with them (Krizhevsky 2014).

use std::ops::Range;

use super::all_rows::{DInputs, Inputs};
use super::point_to_point::{MessageSizes, PointToPoint};
use super::shared_memory::LayerSegmentSizes;
use super::topology::{Topology, blocks_of, stretch};
use crate::comm::{Nodes, Strategy};
use crate::kernels::{self, Buffer, DenseShape, Leaf, ReductionTree, RowsMut, zeros};
use crate::model::{DenseStep, Params, Times, Units, Workspace};
use crate::optim::Optimizer;
use crate::position;
use crate::stopwatch::Stopwatch;
use crate::trace::{Mark, Trace, What};

/// Inputs whose gradients are formed, and whose weights are updated, at once: with 128 outputs all of it (48 KiB of gradients and
/// weights) stays in the caches of a core.
const CHUNK: usize = 48;

/// What of a layer a rank has, and the floats that this takes.
#[derive(Clone, Debug)]
pub struct LayerSizes {
    /// Inputs whose weights each rank has, where they are split.
    slices: Vec<Range<usize>>,
    /// Inputs whose weights this rank updates.
    pub own: Range<usize>,
    /// Whether it updates the bias.
    has_bias: bool,
    /// The blocks of inputs of each rank in the tree over blocks, where they are split.
    blocks: ReductionTree,
    /// Its part of a rank's segment; without its input, whose tensor the workspace knows.
    pub segment: LayerSegmentSizes,
    /// All rows' gradients of the output; turned around.
    pub d_output: usize,
    pub turned: usize,
    /// Scratch memory.
    pub scratch: usize,
    /// Gradients of a chunk of weights.
    pub chunk: usize,
    /// Its messages.
    pub messages: MessageSizes,
}

impl LayerSizes {
    /// For steps of up to `rows` rows in all and `most` on one rank.
    pub fn new(shape: DenseShape, strategy: Strategy, (rows, most): (usize, usize), groups: &Nodes) -> LayerSizes {
        let DenseShape { inputs, outputs } = shape;
        let (size, rank) = (groups.size(), groups.rank());
        let slices: Vec<Range<usize>> = (0..size).map(|rank| stretch(inputs, rank, size)).collect();
        let is_split = strategy == Strategy::Split;
        let share = Units::of_inputs(inputs).share_out(groups.members()).swap_remove(groups.place());
        let blocks = if is_split { blocks_of(inputs, rank, size) } else { ReductionTree::default() };
        let split = is_split && size > 1;
        LayerSizes {
            own: if is_split { slices[rank].clone() } else { share },
            has_bias: groups.place() + 1 == groups.members(),
            segment: LayerSegmentSizes {
                input: 0,
                d_output: most * outputs,
                partials: if split { kernels::dense_forward_sums(shape, rows) } else { 0 },
                remote_slots: groups.most_remote_slots(),
                slot_input: if split { 0 } else { most * inputs },
            },
            d_output: rows * outputs,
            turned: kernels::dense_turned(shape, rows.max(most)),
            scratch: kernels::dense_backward_scratch(rows),
            chunk: CHUNK * outputs,
            messages: MessageSizes::new(shape, most, is_split.then_some((&slices[..], &blocks)), groups),
            slices,
            blocks,
        }
    }

    /// Floats of its private memory, but for messages.
    pub fn private(&self) -> usize {
        self.d_output + self.turned + self.scratch + self.chunk
    }
}

/// A dense layer that is shared out.
pub struct SharedLayer {
    /// The layer.
    pub step: DenseStep,
    /// How its gradients are exchanged.
    pub strategy: Strategy,
    /// Its place among those that are shared out.
    pub index: usize,
    /// Inputs whose weights each rank has, where they are split.
    pub(super) slices: Vec<Range<usize>>,
    /// Inputs whose weights this rank updates.
    own: Range<usize>,
    /// Whether it updates the bias.
    has_bias: bool,
    /// The blocks of inputs of each rank in the tree over blocks, where they are split.
    pub(super) blocks: ReductionTree,
    /// Its messages between groups.
    pub messages: PointToPoint,
    /// All rows' gradients of the output, `[rows, outputs]`, in order; and turned around.
    d_output: Buffer,
    turned: Buffer,
    scratch: Buffer,
    /// Gradients of a chunk of weights.
    chunk: Buffer,
}

/// How weights are updated once their gradients are known.
pub enum Update<'a> {
    /// At once.
    Now(&'a mut Optimizer, &'a mut Params),
    /// Later: the gradients are kept here, at the place of their parameters.
    Later(&'a mut Buffer, &'a Params),
}

impl Update<'_> {
    fn params(&self) -> &[f32] {
        match self {
            Update::Now(_, params) => &params.values,
            Update::Later(_, params) => &params.values,
        }
    }

    /// The gradients of the parameters from `at` on are known.
    fn take(&mut self, at: usize, gradient: &mut [f32]) {
        let place = at..at + gradient.len();
        match self {
            Update::Now(optimizer, params) => optimizer.update(at, &mut params.values[place], gradient),
            Update::Later(gradients, _) => gradients[place].copy_from_slice(gradient),
        }
    }
}

/// Seconds of an update's parts: for a profile and a timeline, too, where somebody asked for them.
pub struct UpdateProfile<'a> {
    times: Option<&'a mut Times>,
    began: Mark,
    stopwatch: Stopwatch,
    inputs: f64,
    weights: f64,
    update: f64,
}

impl<'a> UpdateProfile<'a> {
    /// The times of the layer; for a timeline, when it began.
    pub fn new(times: Option<&'a mut Times>, began: Mark) -> UpdateProfile<'a> {
        UpdateProfile { times, began, stopwatch: Stopwatch::start(), inputs: 0.0, weights: 0.0, update: 0.0 }
    }

    /// Writes the profile and the timeline; `read` are the bytes that were read from neighbours. The seconds of the update.
    fn end(self, trace: &Trace, step: usize, read: u64) -> f64 {
        let UpdateProfile { inputs, weights, update, .. } = self;
        if let Some(times) = self.times {
            times.backward_data += inputs;
            times.backward_weights += weights;
        }
        let nanos = |seconds: f64| (seconds * 1e9) as u64;
        trace.end(self.began, What::Shared, step, [read, nanos(inputs), nanos(weights), nanos(update)]);
        update
    }
}

impl SharedLayer {
    /// With memory of these sizes; `index` is its place among the layers that are shared out.
    pub fn new(step: DenseStep, strategy: Strategy, index: usize, sizes: &LayerSizes) -> SharedLayer {
        let LayerSizes { slices, own, has_bias, blocks, .. } = sizes.clone();
        SharedLayer {
            slices,
            own,
            has_bias,
            blocks,
            messages: PointToPoint::new(step.dense.shape, index, &sizes.messages),
            d_output: zeros(sizes.d_output),
            turned: zeros(sizes.turned),
            scratch: zeros(sizes.scratch),
            chunk: zeros(sizes.chunk),
            strategy,
            index,
            step,
        }
    }

    pub(super) fn shape(&self) -> DenseShape {
        self.step.dense.shape
    }

    /// Whether this rank has all weights at hand for its own rows.
    pub fn is_whole(&self, topology: &Topology<'_>) -> bool {
        self.strategy != Strategy::Split || topology.size() == 1
    }

    /// The inputs that rank `rank` has the weights of.
    pub fn weights_of(&self, rank: usize) -> Range<usize> {
        let outputs = self.shape().outputs;
        let Range { start, end } = self.slices[rank];
        let first = self.step.dense.weight.start;
        first + start * outputs..first + end * outputs
    }

    /// The parameters that this rank updates.
    pub fn own_params(&self) -> [Range<usize>; 2] {
        let outputs = self.shape().outputs;
        let first = self.step.dense.weight.start;
        let bias = &self.step.dense.bias;
        let bias = if self.has_bias { bias.clone() } else { bias.start..bias.start };
        [first + self.own.start * outputs..first + self.own.end * outputs, bias]
    }

    /// Whether it sends rows to other groups as soon as they are there.
    pub fn sends_rows(&self, topology: &Topology<'_>) -> bool {
        self.strategy == Strategy::Factors && topology.is_multi_node()
    }

    /// *factors*: sends row `row` of the layer's input to the other groups.
    pub fn send_row(&self, topology: &Topology<'_>, row: usize) {
        let inputs = self.shape().inputs;
        topology.round(&mut topology.own().layers[self.index].input.part(row * inputs..(row + 1) * inputs));
        self.messages.send_row(topology, self.index, row);
    }

    /// Writes the gradients of this rank's outputs to its segment, and sends them to the other groups.
    pub fn publish_d_outputs(&mut self, ws: &mut Workspace, topology: &Topology<'_>) {
        let len = topology.own_rows() * self.shape().outputs;
        let mut published = topology.own().layers[self.index].d_output.alias();
        published[..len].copy_from_slice(&ws.gradient(self.step.d_output)[..len]);
        topology.round(&mut published[..len]);
        self.messages.send_d_outputs(topology, self.index, self.shape().outputs);
    }

    /// *factors*, or one rank: the gradients of the inputs of this rank's rows, by the weights as they are.
    pub fn backward_own_rows(&mut self, params: &Params, ws: &mut Workspace, topology: &Topology<'_>) {
        let (shape, rows) = (self.shape(), topology.own_rows());
        if let Some(slot) = self.step.d_input.filter(|_| rows > 0) {
            let began = topology.trace.now();
            let (d_output, d_input) = ws.gradients_mut(self.step.d_output, slot);
            kernels::dense_turn(shape, &d_output[..rows * shape.outputs], &mut self.turned);
            let weight = &params.values[self.step.dense.weight.clone()];
            let mut d_input = RowsMut::whole(&mut d_input[..rows * shape.inputs], shape.inputs, rows);
            kernels::dense_backward_inputs(shape, 0..shape.inputs, weight, &mut d_input, &mut self.turned);
            topology.trace.end(began, What::BackwardData, self.step.step, [0; 4]);
        }
    }

    /// All rows have come: this rank's share of the weights' gradients is formed and used. Where weights are split, the gradients
    /// of all rows' inputs by those weights come first, into `inputs_first` of each rank's gradients. The seconds that the
    /// update took; all else is a part of the backward pass.
    pub fn update(
        &mut self,
        leaves: &[Leaf],
        mut update: Update<'_>,
        topology: &mut Topology<'_>,
        inputs_first: Option<Range<usize>>,
        mut profile: UpdateProfile<'_>,
    ) -> f64 {
        let shape = self.shape();
        let outputs = shape.outputs;
        let mut at = 0;
        for rank in 0..topology.size() {
            let rows = topology.d_output(rank, self.index, outputs);
            self.d_output[at..at + rows.len()].copy_from_slice(rows);
            at += rows.len();
        }
        let d_output = &self.d_output[..at];
        let rows = at / outputs;
        let inputs_first = inputs_first.filter(|_| rows > 0);
        if inputs_first.is_some() {
            kernels::dense_turn(shape, d_output, &mut self.turned);
        }
        let weight = self.step.dense.weight.clone();
        let own = (self.strategy == Strategy::Split).then(|| self.own.clone());
        for first in self.own.clone().step_by(CHUNK) {
            position::tick();
            let range = first..self.own.end.min(first + CHUNK);
            if let Some(place) = &inputs_first {
                let weight = &update.params()[weight.clone()];
                let mut d_inputs =
                    DInputs { topology, messages: &mut self.messages, place, shape, own: self.own.clone() };
                kernels::dense_backward_inputs(shape, range.clone(), weight, &mut d_inputs, &mut self.turned);
                profile.stopwatch.lap(&mut profile.inputs);
            }
            let gradient = &mut self.chunk[..range.len() * outputs];
            let inputs = Inputs { topology, messages: &self.messages, layer: self.index, shape, own: own.clone() };
            let scratch = &mut self.scratch;
            kernels::dense_backward_range(shape, range.clone(), leaves, &inputs, d_output, gradient, false, scratch);
            profile.stopwatch.lap(&mut profile.weights);
            update.take(weight.start + range.start * outputs, gradient);
            profile.stopwatch.lap(&mut profile.update);
            topology.comm.progress();
        }
        if self.has_bias {
            let bias = &mut self.chunk[..outputs];
            kernels::dense_backward_bias(outputs, leaves, d_output, bias, false, &mut self.scratch);
            update.take(self.step.dense.bias.start, bias);
        }
        let before = topology.read;
        topology.has_read(topology.intra_node_rows() * (self.own.len() + outputs));
        profile.end(&topology.trace, self.step.step, topology.read - before)
    }
}
