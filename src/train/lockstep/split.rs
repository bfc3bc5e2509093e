//! Dense layers whose weights are split: every rank has the weights of some inputs, and works for all rows with them.

use super::all_rows::Inputs;
use super::factors::SharedLayer;
use super::topology::Topology;
use crate::kernels::{self, DENSE_BLOCK};
use crate::metrics::Seconds;
use crate::model::{Params, Workspace};
use crate::stopwatch::Stopwatch;
use crate::trace::What;

impl SharedLayer {
    /// The forward pass where weights are split: this rank's part for all rows; then, for its own rows, everyone's.
    pub fn forward(&mut self, params: &Params, ws: &mut Workspace, topology: &mut Topology<'_>, seconds: &mut Seconds) {
        let shape = self.shape();
        let mut stopwatch = Stopwatch::start();
        self.messages.send_inputs(&self.slices, topology, self.index);
        topology.node_barrier();
        self.messages.receive_inputs(topology);
        stopwatch.lap(&mut seconds.sync);
        let own = &self.slices[topology.rank()];
        let blocks = own.start / DENSE_BLOCK..own.end.div_ceil(DENSE_BLOCK);
        let weight = &params.values[self.step.dense.weight.clone()];
        let merges = |block: usize| self.blocks.own[block - blocks.start].merges;
        let mut partials = topology.own().layers[self.index].partials.alias();
        let inputs = Inputs { topology, messages: &self.messages, layer: self.index, shape, own: Some(own.clone()) };
        topology.trace.span(What::Forward, self.step.step, [0; 4], || {
            kernels::dense_forward_blocks(shape, &inputs, blocks.clone(), &merges, weight, &mut partials);
        });
        stopwatch.lap(&mut seconds.forward);
        self.messages.send_partials(&self.blocks, topology, self.index, shape);
        topology.node_barrier();
        self.messages.receive_partials(topology);
        stopwatch.lap(&mut seconds.sync);
        let bias = &params.values[self.step.dense.bias.clone()];
        topology.trace.span(What::Forward, self.step.step, [0; 4], || self.merge(bias, ws, topology));
        topology.has_read(topology.intra_node_rows() * own.len());
        stopwatch.lap(&mut seconds.forward);
    }

    /// *split*: exchanges the gradients of inputs with the ranks of other groups.
    pub fn exchange_d_inputs(&mut self, ws: &mut Workspace, topology: &Topology<'_>) {
        if topology.is_multi_node() && self.step.wants_d_input {
            self.messages.exchange_d_inputs(&self.slices, ws, topology);
        }
    }

    /// The outputs of this rank's rows, from everyone's partial sums.
    fn merge(&self, bias: &[f32], ws: &mut Workspace, topology: &Topology<'_>) {
        let (shape, rank, rows) = (self.shape(), topology.rank(), topology.own_rows());
        let len = rows * shape.outputs;
        // Each rank's partial sums of the ranks before this one come first.
        let start: usize = topology.rows[..rank].iter().map(|&rows| kernels::dense_forward_sums(shape, rows)).sum();
        let owner = |sum: usize| {
            let (mut owner, mut index) = (0, sum);
            while index >= self.blocks.sums_of[owner] {
                index -= self.blocks.sums_of[owner];
                owner += 1;
            }
            (owner, index)
        };
        let partial = |sum: usize| {
            let (owner, index) = owner(sum);
            match topology.intra_node(owner) {
                Some(segment) => &segment.layers[self.index].partials[start + index * len..][..len],
                None => self.messages.partial(owner, index, len),
            }
        };
        let (_, output) = ws.buffers_mut(self.step.input);
        self.blocks.merge_slices(partial, &mut output[..len]);
        for row in output[..len].chunks_exact_mut(shape.outputs) {
            row.iter_mut().zip(bias).for_each(|(output, bias)| *output += bias);
        }
    }
}
