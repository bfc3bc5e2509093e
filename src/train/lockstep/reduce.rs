//! Sums of gradients that become one over all ranks, in the order of the fixed tree. Each rank of a group finishes a slice: it
//! reads its neighbours' sums straight from their memory. Between groups, ranks with the same place exchange their slice
//! twice: sums to the rank that finishes it, then its total to all.

use std::ops::Range;

use super::topology::Topology;
use crate::comm::Nodes;
use crate::kernels::{Buffer, ReductionTree, merge_sums, zeros};
use crate::model::Units;
use crate::optim::Optimizer;
use crate::position;
use crate::trace::What;

/// The order of sums of one step.
#[derive(Debug, Default)]
pub struct Trees {
    /// Over the ranks.
    pub ranks: ReductionTree,
    /// Over the groups.
    pub groups: ReductionTree,
    /// How many sums each rank's sums are merged with inside its group.
    pub inside: Vec<usize>,
}

impl Trees {
    /// For shards with `rows[s]` rows each, of which rank r holds those before `ends(r)`.
    pub fn build(&mut self, rows: &[usize], ends: &dyn Fn(usize) -> usize, groups: &Nodes) {
        self.build_parts(rows, &[], ends, groups);
    }

    /// The same with nothing merged across `parts`.
    pub fn build_parts(
        &mut self,
        rows: &[usize],
        parts: &[Range<usize>],
        ends: &dyn Fn(usize) -> usize,
        groups: &Nodes,
    ) {
        self.ranks.build_parts(rows, parts, (0..groups.size()).map(ends), groups.rank());
        self.groups.build_parts(rows, parts, groups.ends().map(|end| ends(end - 1)), groups.mine());
        self.groups.merges_within_coarser(&self.ranks, &mut self.inside);
    }

    /// The sums of all ranks of this rank's group.
    pub fn sums_of_node(&self, groups: &Nodes) -> usize {
        self.ranks.sums_of[groups.neighbours()].iter().sum()
    }

    /// The sums of all ranks that come before those of `rank`.
    pub fn before(&self, rank: usize) -> usize {
        self.ranks.sums_of[..rank].iter().sum()
    }
}

/// What of a section's parameters a rank finishes, and the floats that its messages take.
#[derive(Clone, Debug)]
pub struct SectionSizes {
    /// What the ranks with this rank's place finish: one slice a group, one behind the other.
    slices: Vec<Range<usize>>,
    /// Sums that are sent, and the group's own where several ranks have merged them.
    pub outgoing: usize,
    /// Sums that come.
    pub incoming: usize,
}

impl SectionSizes {
    /// For the parameters `units`; `most` is the most sums of each group.
    pub fn new(units: &Units, most: &[usize], groups: &Nodes) -> SectionSizes {
        let lanes = groups.lanes();
        let lane = units.share_out(lanes).into_iter().nth(groups.place()).unwrap_or(0..0);
        let first = units.partition_point(|unit| unit.end <= lane.start);
        let behind = units.partition_point(|unit| unit.end <= lane.end);
        let slices = units.part(first..behind).share_out(groups.count());
        let (mut outgoing, mut incoming) = (0, 0);
        if groups.is_multi_node() {
            let floats: usize = slices.iter().map(Range::len).sum();
            outgoing = if groups.members() > 1 { floats * most[groups.mine()] } else { 0 };
            incoming = slices[groups.mine()].len() * groups.other_groups().map(|group| most[group]).sum::<usize>();
        }
        SectionSizes { slices, outgoing, incoming }
    }

    /// All that the ranks with this rank's place finish.
    pub fn own(&self) -> Range<usize> {
        self.slices[0].start..self.slices[self.slices.len() - 1].end
    }
}

/// Parameters that follow one another, whose gradients are summed over all ranks.
#[derive(Debug)]
pub struct Section {
    sizes: SectionSizes,
    /// The first of two channels.
    channel: usize,
    outgoing: Buffer,
    incoming: Buffer,
}

impl Section {
    /// With memory of these sizes.
    pub fn new(sizes: &SectionSizes, channel: usize) -> Section {
        let (outgoing, incoming) = (zeros(sizes.outgoing), zeros(sizes.incoming));
        Section { sizes: sizes.clone(), channel, outgoing, incoming }
    }

    /// All that the ranks with this rank's place finish.
    pub fn own(&self) -> Range<usize> {
        self.sizes.own()
    }

    /// Whether this rank takes part.
    fn takes_part(&self, topology: &Topology<'_>) -> bool {
        topology.groups.place() < topology.groups.lanes()
    }

    /// All ranks of the group have published their sums: each group's slice of them is sent to it.
    pub fn start(&mut self, trees: &Trees, topology: &Topology<'_>) {
        if !topology.is_multi_node() || !self.takes_part(topology) {
            return;
        }
        let groups = &topology.groups;
        let count = trees.groups.sums_of[groups.mine()];
        let mut at = 0;
        for group in std::iter::once(groups.mine()).chain(topology.groups.other_groups()) {
            let slice = self.sizes.slices[group].clone();
            if topology.members() > 1 {
                let read = 4 * (topology.members() - 1) * slice.len();
                topology
                    .trace
                    .span(What::Merge, 0, [read as u64, 0, 0, 0], || self.merge_group(trees, topology, &slice, at));
                if group != groups.mine() {
                    topology.send(
                        self.channel,
                        topology.groups.receiver(group),
                        &self.outgoing,
                        at..at + count * slice.len(),
                    );
                }
                at += count * slice.len();
            } else if group != groups.mine() {
                topology.own().sums[..count].iter().for_each(|sum| {
                    topology.send(self.channel, topology.groups.receiver(group), sum, slice.clone());
                });
            }
        }
        // What stays here is as coarse as what comes.
        if topology.members() == 1 {
            let own = self.sizes.slices[groups.mine()].clone();
            topology.own().sums[..count].iter().for_each(|sum| topology.round(&mut sum.part(own.clone())));
        } else {
            topology.round(&mut self.outgoing[..count * self.sizes.slices[groups.mine()].len()]);
        }
        let (mut at, len) = (0, self.sizes.slices[groups.mine()].len());
        for group in topology.groups.other_groups() {
            let floats = trees.groups.sums_of[group] * len;
            // One message of all sums, or one each: as they were sent.
            let messages = if groups.ranks(group).len() > 1 { 1 } else { trees.groups.sums_of[group] };
            for _ in 0..messages {
                topology.receive(
                    self.channel,
                    topology.groups.receiver(group),
                    &self.incoming,
                    at..at + floats / messages,
                );
                at += floats / messages;
            }
        }
    }

    /// The group's sums of `slice`, to `outgoing` from `at` on.
    fn merge_group(&mut self, trees: &Trees, topology: &Topology<'_>, slice: &Range<usize>, at: usize) {
        let node = topology.groups.neighbours();
        let first = trees.before(node.start);
        let merges = &trees.inside[first..trees.before(node.end)];
        let (sums, outgoing) = (NodeSums { trees, topology }, &mut self.outgoing);
        merge_sums(
            merges,
            slice.len(),
            |sum| &sums.sum(sum)[slice.clone()],
            |sum, place, values| {
                position::tick();
                let start = at + sum * slice.len();
                outgoing[start + place.start..start + place.end].copy_from_slice(values);
            },
        );
    }

    /// Where there are other groups: waits for what [`Section::start`] started. The sums over all ranks of what the ranks with this
    /// rank's place finish stand in `total` afterwards.
    pub fn exchange(&mut self, trees: &Trees, topology: &Topology<'_>, total: &mut Buffer) {
        if !topology.is_multi_node() || !self.takes_part(topology) {
            return;
        }
        let (comm, groups) = (topology.comm, &topology.groups);
        comm.finish(self.channel);
        let slice = self.sizes.slices[groups.mine()].clone();
        let len = slice.len();
        let sum = |sum: usize| -> &[f32] {
            let (mut group, mut index) = (0, sum);
            let mut at = 0;
            while index >= trees.groups.sums_of[group] {
                index -= trees.groups.sums_of[group];
                at += if group == groups.mine() { 0 } else { trees.groups.sums_of[group] * len };
                group += 1;
            }
            match group == groups.mine() {
                true if topology.members() > 1 => &self.outgoing[index * len..(index + 1) * len],
                true => &topology.own().sums[index][slice.clone()],
                false => &self.incoming[at + index * len..at + (index + 1) * len],
            }
        };
        topology.trace.span(What::Merge, 0, [0; 4], || trees.groups.merge_slices(sum, &mut total[slice.clone()]));
        topology.round(&mut total[slice.clone()]);
        for group in topology.groups.other_groups() {
            topology.send(self.channel + 1, topology.groups.receiver(group), total, slice.clone());
            topology.receive(
                self.channel + 1,
                topology.groups.receiver(group),
                total,
                self.sizes.slices[group].clone(),
            );
        }
        comm.finish(self.channel + 1);
    }

    /// Where there is one group: all its ranks have their sums. Each part of the total goes to `take` (its place among the
    /// parameters, its values).
    pub fn merge(&self, trees: &Trees, topology: &Topology<'_>, mut take: impl FnMut(Range<usize>, &mut [f32])) {
        let own = self.own();
        let began = topology.trace.now();
        let sums = NodeSums { trees, topology };
        merge_sums(
            &trees.ranks.merges,
            own.len(),
            |sum| &sums.sum(sum)[own.clone()],
            |_, place, values| {
                position::tick();
                take(own.start + place.start..own.start + place.end, values);
            },
        );
        topology.trace.end(began, What::Merge, 0, [(4 * (topology.members() - 1) * own.len()) as u64, 0, 0, 0]);
    }

    /// Updates what the ranks with this rank's place finish, with the sums in `total`.
    pub fn update(&self, optimizer: &mut Optimizer, params: &mut [f32], total: &mut [f32]) {
        let own = self.own();
        optimizer.update(own.start, &mut params[own.clone()], &mut total[own]);
    }
}

/// The sums of this group's ranks, one after another.
struct NodeSums<'a> {
    trees: &'a Trees,
    topology: &'a Topology<'a>,
}

impl<'a> NodeSums<'a> {
    fn sum(&self, mut sum: usize) -> &'a [f32] {
        let mut ranks = self.topology.groups.neighbours();
        loop {
            let rank = ranks.next().expect("a sum of one of the group's ranks");
            let count = self.trees.ranks.sums_of[rank];
            if sum < count {
                return &self.topology.segments[rank - self.topology.groups.neighbours().start].sums[sum];
            }
            sum -= count;
        }
    }
}
