//! The ranks of a run as one of them sees them: groups that share memory, what each shows the others, how many rows each has.

use std::ops::Range;

use super::layout::Area;
use crate::comm::{Communicator, Nodes, Wire};
use crate::kernels::{self, Buffer, DENSE_BLOCK, Rows, Subtrees};
use crate::model::UNIT_INPUTS;
use crate::trace::Trace;

/// All ranks, and the memory of those that share this one's.
pub struct Team<'a> {
    pub comm: &'a dyn Communicator,
    /// The width of numbers between groups.
    pub wire: Wire,
    /// Ranks that share memory, together; where none is shared, every rank for itself.
    pub groups: Nodes,
    /// What the ranks of this group show, in rank order.
    pub areas: Vec<Area>,
    /// Rows of the step of each rank.
    pub rows: Vec<usize>,
    /// For each rank: where its rows are in this group's memory, if it is of another one: whose area, and which box there.
    boxes: Vec<(usize, usize)>,
    /// Bytes that this rank has read from its neighbours' memory.
    pub read: u64,
    /// Where what it does is recorded, if it is.
    pub trace: Trace,
}

impl<'a> Team<'a> {
    /// Without any memory yet.
    pub fn new(comm: &'a dyn Communicator, groups: Nodes, wire: Wire) -> Team<'a> {
        let mut boxes = vec![(0, 0); comm.size()];
        let members = groups.neighbours().len();
        let mut taken = vec![0; members];
        for group in (0..groups.count()).filter(|&group| group != groups.mine()) {
            for (place, rank) in groups.ranks(group).enumerate() {
                let member = place % members;
                boxes[rank] = (member, taken[member]);
                taken[member] += 1;
            }
        }
        let (rows, trace) = (vec![0; comm.size()], Trace::default());
        Team { comm, wire, rows, groups, areas: Vec::new(), boxes, read: 0, trace }
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
    pub fn is_spread(&self) -> bool {
        self.groups.count() > 1
    }

    /// The other groups.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let mine = self.groups.mine();
        (0..self.groups.count()).filter(move |&group| group != mine)
    }

    /// The ranks of other groups.
    pub fn far_ranks(&self) -> impl Iterator<Item = usize> + use<> {
        let near = self.groups.neighbours();
        (0..self.size()).filter(move |rank| !near.contains(rank))
    }

    /// The ranks of other groups whose rows this rank takes in for its group, and the box of each.
    pub fn taken_in(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let place = self.groups.place();
        self.far_ranks()
            .map(|rank| (rank, self.boxes[rank]))
            .filter(move |(_, at)| at.0 == place)
            .map(|(r, at)| (r, at.1))
    }

    /// The most boxes that a rank of this group needs.
    pub fn most_boxes(&self) -> usize {
        self.far_ranks().map(|rank| self.boxes[rank].1 + 1).max().unwrap_or(0)
    }

    /// Who takes in this rank's rows for another group.
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
        if self.is_spread() && self.wire == Wire::Bf16 {
            kernels::round_to_bf16(values);
        }
    }

    /// Returns when every rank of the group has come here.
    pub fn node_barrier(&self) {
        if self.members() > 1 {
            self.comm.node_barrier();
        }
    }

    /// What this rank shows.
    pub fn own(&self) -> &Area {
        &self.areas[self.groups.place()]
    }

    /// What rank `rank` shows, if it is of this group.
    pub fn near(&self, rank: usize) -> Option<&Area> {
        let near = self.groups.neighbours();
        near.contains(&rank).then(|| &self.areas[rank - near.start])
    }

    /// The inputs of rank `rank`'s rows at layer `layer`.
    pub fn input(&self, rank: usize, layer: usize, inputs: usize) -> Rows<'_> {
        let values = match self.near(rank) {
            Some(area) => &area.layers[layer].input,
            None => &self.areas[self.boxes[rank].0].layers[layer].boxes[self.boxes[rank].1][0],
        };
        Rows::whole(values, inputs, self.rows[rank])
    }

    /// The gradients of the outputs of rank `rank`'s rows at layer `layer`.
    pub fn d_output(&self, rank: usize, layer: usize, outputs: usize) -> &[f32] {
        let values = match self.near(rank) {
            Some(area) => &area.layers[layer].d_output,
            None => &self.areas[self.boxes[rank].0].layers[layer].boxes[self.boxes[rank].1][1],
        };
        &values[..self.rows[rank] * outputs]
    }

    /// Rows of this rank's neighbours.
    pub fn near_rows(&self) -> usize {
        self.rows[self.groups.neighbours()].iter().sum::<usize>() - self.own_rows()
    }

    /// This rank's rows.
    pub fn own_rows(&self) -> usize {
        self.rows[self.rank()]
    }

    /// Counts so many floats that were read from neighbours' areas.
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
pub fn blocks_of(inputs: usize, rank: usize, ranks: usize) -> Subtrees {
    let blocks = inputs.div_ceil(DENSE_BLOCK);
    let mut tree = Subtrees::default();
    tree.plant(&vec![1; blocks], (1..=ranks).map(|rank| rank * blocks / ranks), rank);
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
