//! The ranks of a run as one of them sees them: node groups, their shared segments, how many rows each rank has.

use std::ops::Range;

use super::shared_memory::SharedSegment;
use crate::comm::{Communicator, Nodes, Wire};
use crate::kernels::{self, Buffer, DENSE_BLOCK, ReductionTree, Rows};
use crate::model::UNIT_INPUTS;
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
    /// For each rank: where its rows are in this group's memory, if it is of another one: whose segment, and which remote slot there.
    remote_slots: Vec<(usize, usize)>,
    /// Bytes that this rank has read from its neighbours' segments.
    pub read: u64,
    /// Where what it does is recorded, if it is.
    pub trace: Trace,
}

impl<'a> Topology<'a> {
    /// Without any memory yet.
    pub fn new(comm: &'a dyn Communicator, groups: Nodes, wire: Wire) -> Topology<'a> {
        let mut remote_slots = vec![(0, 0); comm.size()];
        let members = groups.neighbours().len();
        let mut taken = vec![0; members];
        for group in (0..groups.count()).filter(|&group| group != groups.mine()) {
            for (place, rank) in groups.ranks(group).enumerate() {
                let member = place % members;
                remote_slots[rank] = (member, taken[member]);
                taken[member] += 1;
            }
        }
        let (rows, trace) = (vec![0; comm.size()], Trace::default());
        Topology { comm, wire, rows, groups, segments: Vec::new(), remote_slots, read: 0, trace }
    }

    pub fn rank(&self) -> usize {
        self.comm.rank()
    }

    pub fn size(&self) -> usize {
        self.comm.size()
    }

    /// Ranks of this group.
    pub fn members(&self) -> usize {
        self.groups.neighbours().len()
    }

    /// Whether there are other groups.
    pub fn is_multi_node(&self) -> bool {
        self.groups.count() > 1
    }

    /// The other groups.
    pub fn other_groups(&self) -> impl Iterator<Item = usize> + use<> {
        let mine = self.groups.mine();
        (0..self.groups.count()).filter(move |&group| group != mine)
    }

    /// The ranks of other groups.
    pub fn inter_node_ranks(&self) -> impl Iterator<Item = usize> + use<> {
        let node = self.groups.neighbours();
        (0..self.size()).filter(move |rank| !node.contains(rank))
    }

    /// The ranks of other groups whose rows this rank receives for its group, and the remote slot of each.
    pub fn received_for_node(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let place = self.groups.place();
        self.inter_node_ranks()
            .map(|rank| (rank, self.remote_slots[rank]))
            .filter(move |(_, at)| at.0 == place)
            .map(|(r, at)| (r, at.1))
    }

    /// The most remote slots that a rank of this group needs.
    pub fn most_remote_slots(&self) -> usize {
        self.inter_node_ranks().map(|rank| self.remote_slots[rank].1 + 1).max().unwrap_or(0)
    }

    /// The rank that receives this rank's rows for another group.
    pub fn receiver(&self, group: usize) -> usize {
        let ranks = self.groups.ranks(group);
        ranks.start + self.groups.place() % ranks.len()
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
            None => &self.segments[self.remote_slots[rank].0].layers[layer].remote_slots[self.remote_slots[rank].1][0],
        };
        Rows::whole(values, inputs, self.rows[rank])
    }

    /// The gradients of the outputs of rank `rank`'s rows at layer `layer`.
    pub fn d_output(&self, rank: usize, layer: usize, outputs: usize) -> &[f32] {
        let values = match self.intra_node(rank) {
            Some(segment) => &segment.layers[layer].d_output,
            None => &self.segments[self.remote_slots[rank].0].layers[layer].remote_slots[self.remote_slots[rank].1][1],
        };
        &values[..self.rows[rank] * outputs]
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

/// The inputs of a dense layer, in the units of its weight.
pub fn input_units(inputs: usize) -> Vec<Range<usize>> {
    (0..inputs).step_by(UNIT_INPUTS).map(|first| first..inputs.min(first + UNIT_INPUTS)).collect()
}

/// Cuts `units`, which follow one another, into `parts` of nearly equal size.
pub fn share_out(units: &[Range<usize>], parts: usize) -> Vec<Range<usize>> {
    let (Some(first), Some(last)) = (units.first(), units.last()) else { return vec![0..0; parts] };
    let (start, len) = (first.start, last.end - first.start);
    let cut = |part: usize| {
        let wanted = start + (len as u128 * part as u128 / parts as u128) as usize;
        let behind = units.partition_point(|unit| unit.end <= wanted);
        match units.get(behind) {
            Some(unit) if 2 * (wanted - unit.start) > unit.len() => unit.end,
            Some(unit) => unit.start,
            None => last.end,
        }
    };
    (0..parts).map(|part| cut(part)..cut(part + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_shared_out_whole_and_evenly() {
        let units: Vec<Range<usize>> = (0..10).map(|unit| 7 + 8 * unit..7 + 8 * (unit + 1)).collect();
        for parts in 1..13 {
            let shares = share_out(&units, parts);
            assert_eq!((shares[0].start, shares[parts - 1].end), (7, 87));
            assert!(shares.windows(2).all(|two| two[0].end == two[1].start));
            assert!(
                shares.iter().all(|share| (share.start - 7) % 8 == 0 && share.len() <= 80usize.div_ceil(parts) + 8)
            );
        }
        assert_eq!(share_out(&[], 2), [0..0, 0..0]);
    }
}
