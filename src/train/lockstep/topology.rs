//! The ranks of a run as one of them sees them: node groups, their shared segments, how many rows each rank has.

use std::ops::Range;

use super::shared_memory::SharedSegment;
use crate::comm::{Communicator, Nodes, RemoteSlot, Wire};
use crate::kernels::{self, Buffer, DENSE_BLOCK, ReductionTree, Rows};
use crate::trace::Trace;

/// All ranks, and the shared segments of this rank's node group.
pub struct Topology<'a> {
    pub comm: &'a dyn Communicator,
    /// The width of numbers between groups.
    pub wire: Wire,
    /// Node groups: ranks that share memory. Without shared memory each rank is one.
    pub groups: Nodes,
    /// The segments of this group's ranks, in rank order.
    pub segments: Vec<SharedSegment>,
    /// Rows of the step of each rank.
    pub rows: Vec<usize>,
    /// Bytes that this rank has read from its neighbours' segments.
    pub read: u64,
    /// Where what it does is recorded, if it is.
    pub trace: Trace,
}

impl<'a> Topology<'a> {
    /// Without any memory yet.
    pub fn new(comm: &'a dyn Communicator, groups: Nodes, wire: Wire) -> Topology<'a> {
        let (rows, trace) = (vec![0; comm.size()], Trace::default());
        Topology { comm, wire, rows, groups, segments: Vec::new(), read: 0, trace }
    }

    pub fn rank(&self) -> usize {
        self.groups.rank()
    }

    pub fn size(&self) -> usize {
        self.groups.size()
    }

    /// Ranks of this group.
    pub fn members(&self) -> usize {
        self.groups.members()
    }

    /// Whether there are other groups.
    pub fn is_multi_node(&self) -> bool {
        self.groups.is_multi_node()
    }

    /// [`Communicator::send`], at the width of this run.
    pub fn send(&self, channel: usize, to: usize, from: &Buffer, place: Range<usize>) {
        self.comm.send(channel, to, from, place, self.wire);
    }

    /// [`Communicator::receive`], at the width of this run.
    pub fn receive(&self, channel: usize, from: usize, into: &Buffer, place: Range<usize>) {
        self.comm.receive(channel, from, into, place, self.wire);
    }

    /// Numbers that travel to other groups are to be the same here as there.
    pub fn round(&self, values: &mut [f32]) {
        if self.is_multi_node() && self.wire == Wire::Bf16 {
            kernels::round_to_bf16(values);
        }
    }

    /// The barrier of this rank's node group.
    pub fn node_barrier(&self) {
        if self.members() > 1 {
            self.comm.node_barrier();
        }
    }

    /// This rank's segment.
    pub fn own(&self) -> &SharedSegment {
        &self.segments[self.groups.place()]
    }

    /// The segment of rank `rank`, if it is of this group.
    pub fn intra_node(&self, rank: usize) -> Option<&SharedSegment> {
        let node = self.groups.neighbours();
        node.contains(&rank).then(|| &self.segments[rank - node.start])
    }

    /// The inputs of rank `rank`'s rows at layer `layer`.
    pub fn input(&self, rank: usize, layer: usize, inputs: usize) -> Rows<'_> {
        let values = match self.intra_node(rank) {
            Some(segment) => &segment.layers[layer].input,
            None => &self.remote_slot(rank, layer)[0],
        };
        Rows::whole(values, inputs, self.rows[rank])
    }

    /// The gradients of the outputs of rank `rank`'s rows at layer `layer`.
    pub fn d_output(&self, rank: usize, layer: usize, outputs: usize) -> &[f32] {
        let values = match self.intra_node(rank) {
            Some(segment) => &segment.layers[layer].d_output,
            None => &self.remote_slot(rank, layer)[1],
        };
        &values[..self.rows[rank] * outputs]
    }

    /// Input and gradient of the output of the rows of a rank of another group at layer `layer`.
    fn remote_slot(&self, rank: usize, layer: usize) -> &[Buffer; 2] {
        let RemoteSlot { place, slot } = self.groups.remote_slot(rank);
        &self.segments[place].layers[layer].remote_slots[slot]
    }

    /// Rows of the other ranks of this group.
    pub fn intra_node_rows(&self) -> usize {
        self.rows[self.groups.neighbours()].iter().sum::<usize>() - self.own_rows()
    }

    /// This rank's rows.
    pub fn own_rows(&self) -> usize {
        self.rows[self.rank()]
    }

    /// Counts so many floats that were read from other ranks' segments.
    pub fn has_read(&mut self, floats: usize) {
        self.read += 4 * floats as u64;
    }
}

/// The inputs of a dense layer that rank `rank` of `ranks` has where its weights are split: whole blocks of the forward sum.
pub fn stretch(inputs: usize, rank: usize, ranks: usize) -> Range<usize> {
    let blocks = inputs.div_ceil(DENSE_BLOCK);
    let start = |rank: usize| inputs.min(rank * blocks / ranks * DENSE_BLOCK);
    start(rank)..start(rank + 1)
}

/// The tree over those blocks, as rank `rank` of `ranks` has it.
pub fn blocks_of(inputs: usize, rank: usize, ranks: usize) -> ReductionTree {
    let blocks = inputs.div_ceil(DENSE_BLOCK);
    let mut tree = ReductionTree::default();
    tree.build(&vec![1; blocks], (1..=ranks).map(|rank| rank * blocks / ranks), rank);
    tree
}
