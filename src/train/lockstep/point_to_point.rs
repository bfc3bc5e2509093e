//! Messages between node groups for a dense layer that is shared out: whole rows to the rank that receives them for a group
//! (*factors*), or to every rank the stretch that it has the weights of, and its results back (*split*).

use std::ops::Range;

use super::topology::Topology;
use crate::comm::{CHANNELS, Nodes, Wire};
use crate::kernels::{Buffer, DenseShape, ReductionTree, Rows, RowsMut, dense_forward_sums, zeros};
use crate::model::{SlotId, Workspace};

/// Channels of a layer: inputs, gradients of outputs, partial sums, gradients of inputs, weights.
const A_LAYER: usize = 5;

/// The channel of batch norms' sums.
pub const NORMS: usize = 4;

/// The first of the layers' channels.
const FIRST: usize = NORMS + 1;

/// Dense layers that can be shared out.
pub const MOST_LAYERS: usize = (CHANNELS - FIRST) / A_LAYER;

/// The messages of a channel: of which of the layers that are shared out, if of one, and what they hold, for a person.
pub fn describe_channel(channel: usize) -> (Option<usize>, &'static str) {
    match channel {
        0..2 => (None, "sums below the first dense layer"),
        2..4 => (None, "sums from the first dense layer on"),
        NORMS => (None, "sums of batch norms"),
        _ => {
            let whats = ["inputs", "gradients of outputs", "partial sums", "gradients of inputs", "weights"];
            (Some((channel - FIRST) / A_LAYER), whats[(channel - FIRST) % A_LAYER])
        }
    }
}

/// Floats of a layer's messages.
#[derive(Clone, Debug, Default)]
pub struct MessageSizes {
    /// Rows of a rank at most.
    most: usize,
    /// Of all parts: this rank's rows, stretch by stretch; the same stretch of other ranks' rows; partial sums for this rank's rows.
    ends: [usize; 3],
    /// For each rank: where its parts begin.
    starts: Vec<[usize; 3]>,
}

impl MessageSizes {
    /// For up to `most` rows on one rank; `split` are the stretches of the ranks, and the tree over their blocks, where weights are split.
    pub fn new(
        shape: DenseShape,
        most: usize,
        split: Option<(&[Range<usize>], &ReductionTree)>,
        groups: &Nodes,
    ) -> MessageSizes {
        let mut starts = vec![[0; 3]; groups.size()];
        let mut ends = [0; 3];
        if let Some((slices, blocks)) = split {
            for rank in groups.inter_node_ranks() {
                starts[rank] = ends;
                let partial = blocks.sums_of[rank] * most * shape.outputs;
                let lengths = [most * slices[rank].len(), most * slices[groups.rank()].len(), partial];
                ends.iter_mut().zip(lengths).for_each(|(end, length)| *end += length);
            }
        }
        MessageSizes { most, ends, starts }
    }

    /// All of them: values of the first two parts, and their gradients.
    pub fn floats(&self) -> usize {
        let [sent, taken, partials] = self.ends;
        2 * (sent + taken) + partials
    }
}

/// A layer's messages.
pub struct PointToPoint {
    channel: usize,
    inputs: usize,
    sizes: MessageSizes,
    /// Where weights are split: this rank's rows, stretch by stretch, to be sent, and their gradients as they come back.
    sent: [Buffer; 2],
    /// The same stretch of other ranks' rows, and its gradients.
    taken: [Buffer; 2],
    /// Partial sums for this rank's rows.
    partials: Buffer,
}

impl PointToPoint {
    /// Of layer `layer` of those that are shared out, with memory of these sizes.
    pub fn new(shape: DenseShape, layer: usize, sizes: &MessageSizes) -> PointToPoint {
        let [sent, taken, partials] = sizes.ends;
        PointToPoint {
            channel: FIRST + A_LAYER * layer,
            inputs: shape.inputs,
            sizes: sizes.clone(),
            sent: [zeros(sent), zeros(sent)],
            taken: [zeros(taken), zeros(taken)],
            partials: zeros(partials),
        }
    }

    /// *factors*: starts to receive the rows that this rank receives for its group.
    pub fn expect_rows(&self, topology: &Topology<'_>, layer: usize) {
        for (rank, place) in topology.groups.received_for_node() {
            for row in 0..topology.rows[rank] {
                let into = &topology.own().layers[layer].remote_slots[place][0];
                topology.receive(self.channel, rank, into, row * self.inputs..(row + 1) * self.inputs);
            }
        }
    }

    /// *factors*: sends row `row` of the layer's input to the other groups.
    pub fn send_row(&self, topology: &Topology<'_>, layer: usize, row: usize) {
        for group in topology.groups.other_groups() {
            let from = &topology.own().layers[layer].input;
            topology.send(
                self.channel,
                topology.groups.receiver(group),
                from,
                row * self.inputs..(row + 1) * self.inputs,
            );
        }
    }

    /// Waits for all rows that this rank sends and receives.
    pub fn finish_rows(&self, topology: &Topology<'_>) {
        topology.comm.finish(self.channel);
        topology.comm.finish(self.channel + 1);
    }

    /// Sends the gradients of this rank's outputs, which stand in its segment, and starts to receive those of other groups.
    pub fn send_d_outputs(&self, topology: &Topology<'_>, layer: usize, outputs: usize) {
        let own = &topology.own().layers[layer];
        for group in topology.groups.other_groups() {
            let place = 0..topology.own_rows() * outputs;
            topology.send(self.channel + 1, topology.groups.receiver(group), &own.d_output, place);
        }
        for (rank, place) in topology.groups.received_for_node() {
            topology.receive(self.channel + 1, rank, &own.remote_slots[place][1], 0..topology.rows[rank] * outputs);
        }
    }

    /// Waits for these.
    pub fn finish_d_outputs(&self, topology: &Topology<'_>) {
        topology.comm.finish(self.channel + 1);
    }

    /// *split*: sends this rank's rows, which stand in the layer's input, stretch by stretch, and starts to receive those of others.
    pub fn send_inputs(&mut self, slices: &[Range<usize>], topology: &Topology<'_>, layer: usize) {
        let own = slices[topology.rank()].len();
        let input = &topology.own().layers[layer].input;
        for rank in topology.groups.inter_node_ranks() {
            let (slice, [sent, taken, _]) = (&slices[rank], self.sizes.starts[rank]);
            let stretches = self.sent[0][sent..].chunks_exact_mut(slice.len().max(1));
            for (row, stretch) in stretches.take(topology.own_rows()).enumerate() {
                stretch.copy_from_slice(&input[row * self.inputs..][slice.clone()]);
            }
            topology.send(self.channel, rank, &self.sent[0], sent..sent + topology.own_rows() * slice.len());
            topology.receive(self.channel, rank, &self.taken[0], taken..taken + topology.rows[rank] * own);
        }
    }

    /// Waits for these.
    pub fn receive_inputs(&self, topology: &Topology<'_>) {
        topology.comm.finish(self.channel);
    }

    /// The stretch `own` of the rows of a rank of another group.
    pub fn inputs(&self, rank: usize, own: &Range<usize>, rows: usize) -> Rows<'_> {
        let start = self.sizes.starts[rank][1];
        let values = &self.taken[0][start..start + self.sizes.most * own.len()];
        Rows { values, stride: own.len(), first: own.start, count: rows }
    }

    /// Where the gradients of that stretch go.
    pub fn d_inputs(&mut self, rank: usize, own: &Range<usize>, rows: usize) -> RowsMut<'_> {
        let start = self.sizes.starts[rank][1];
        let values = &mut self.taken[1][start..start + self.sizes.most * own.len()];
        RowsMut { values, stride: own.len(), first: own.start, count: rows }
    }

    /// *split*: sends this rank's partial sums of all rows, which stand in its segment, and starts to receive those of others.
    pub fn send_partials(&self, blocks: &ReductionTree, topology: &Topology<'_>, layer: usize, shape: DenseShape) {
        let mut at = 0;
        for rank in 0..topology.size() {
            let rows = topology.rows[rank];
            if topology.intra_node(rank).is_none() {
                let from = &topology.own().layers[layer].partials;
                let floats = blocks.sums_of[topology.rank()] * rows * shape.outputs;
                topology.send(self.channel + 2, rank, from, at..at + floats);
                let (start, sums) = (self.sizes.starts[rank][2], blocks.sums_of[rank]);
                let floats = sums * topology.own_rows() * shape.outputs;
                topology.receive(self.channel + 2, rank, &self.partials, start..start + floats);
            }
            at += dense_forward_sums(shape, rows);
        }
    }

    /// Waits for these.
    pub fn receive_partials(&self, topology: &Topology<'_>) {
        topology.comm.finish(self.channel + 2);
    }

    /// The `index`-th partial sum of `len` floats from a rank of another group.
    pub fn partial(&self, rank: usize, index: usize, len: usize) -> &[f32] {
        &self.partials[self.sizes.starts[rank][2] + index * len..][..len]
    }

    /// *split*: exchanges the gradients of the inputs of all rows with the ranks of other groups.
    pub fn exchange_d_inputs(
        &mut self,
        slices: &[Range<usize>],
        ws: &mut Workspace,
        slot: SlotId,
        topology: &Topology<'_>,
    ) {
        let own = slices[topology.rank()].len();
        for rank in topology.groups.inter_node_ranks() {
            let [sent, taken, _] = self.sizes.starts[rank];
            topology.send(self.channel + 3, rank, &self.taken[1], taken..taken + topology.rows[rank] * own);
            let floats = topology.own_rows() * slices[rank].len();
            topology.receive(self.channel + 3, rank, &self.sent[1], sent..sent + floats);
        }
        topology.comm.finish(self.channel + 3);
        let d_input = ws.gradient_mut(slot);
        for rank in topology.groups.inter_node_ranks() {
            let (slice, start) = (&slices[rank], self.sizes.starts[rank][0]);
            let stretches = self.sent[1][start..].chunks_exact(slice.len().max(1));
            for (row, stretch) in stretches.take(topology.own_rows()).enumerate() {
                d_input[row * self.inputs..][slice.clone()].copy_from_slice(stretch);
            }
        }
    }

    /// *split*: brings every rank's parameters (or what belongs to them) to all groups, or to the root's alone.
    pub fn collect(
        &self,
        values: &Buffer,
        parts: &dyn Fn(usize) -> Range<usize>,
        to_root: bool,
        topology: &Topology<'_>,
    ) {
        let (groups, channel) = (&topology.groups, self.channel + 4);
        for group in topology.groups.other_groups().filter(|&group| group == 0 || !to_root) {
            topology.comm.send(channel, topology.groups.receiver(group), values, parts(topology.rank()), Wire::F32);
        }
        if groups.mine() == 0 || !to_root {
            for (rank, _) in topology.groups.received_for_node() {
                topology.comm.receive(channel, rank, values, parts(rank), Wire::F32);
            }
        }
        topology.comm.finish(channel);
        topology.node_barrier();
    }
}
