//! How much the root moves in a step, as `reduce.rs`, `factors.rs` and `split.rs` divide the work, for any number of ranks.

use super::setting::Setting;
use super::topology::{blocks_of, stretch};
use crate::kernels::{DenseShape, ReductionTree};
use crate::model::Units;

/// Floats that the root sends to other groups, and reads from its neighbours' memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moves {
    /// Sent.
    pub sent: f64,
    /// Read.
    pub shared: f64,
}

/// A section of parameters whose gradients are summed.
#[derive(Clone, Copy, Debug, Default)]
pub struct SectionMoves {
    /// Floats that the root finishes for its machine.
    pub lane: f64,
    /// Floats of sums that it sends before they are merged, and of totals after.
    pub sums: f64,
    pub totals: f64,
    /// Floats that it reads.
    pub shared: f64,
}

/// Rows and groups of a setting, as the root has them.
#[derive(Clone, Copy, Debug)]
pub struct Ranks {
    ranks: usize,
    members: usize,
    groups: usize,
    shards: usize,
    /// Rows of the root, of the others in its group, and of all other groups, on average.
    pub own: f64,
    intra_node: f64,
    inter_node: f64,
}

impl Ranks {
    /// Of this setting.
    pub fn new(setting: &Setting) -> Ranks {
        let (ranks, shards) = (setting.ranks, setting.shards);
        let members = if setting.window { setting.on_machine.min(ranks) } else { 1 };
        let rows = |ranks_before: usize| (ranks_before * shards / ranks) as f64 * setting.batch as f64 / shards as f64;
        let (own, group) = (rows(1), rows(members));
        let inter_node = setting.batch as f64 - group;
        Ranks { ranks, members, groups: ranks.div_ceil(members), shards, own, intra_node: group - own, inter_node }
    }

    /// Sums that each group of so many ranks brings to the tree over shards.
    fn sums(&self, members: usize) -> Vec<usize> {
        let end = |group: usize| ((group + 1) * members).min(self.ranks) * self.shards / self.ranks;
        let mut tree = ReductionTree::default();
        tree.build(&vec![1; self.shards], (0..self.ranks.div_ceil(members)).map(end), 0);
        tree.sums_of
    }

    /// Numbers that a rank publishes in a step: two flags, and two for each sum of the rank that has the most.
    pub fn scores(&self) -> f64 {
        2.0 + 2.0 * self.sums(1).into_iter().max().unwrap_or(1) as f64
    }

    /// Of parameters `units`.
    pub fn section(&self, units: &Units) -> SectionMoves {
        let lane = units.share_out(self.members)[0].clone();
        let behind = units.partition_point(|unit| unit.end <= lane.end);
        let slices = units.part(0..behind).share_out(self.groups);
        let mine = slices[0].len() as f64;
        let floats = lane.len() as f64;
        SectionMoves {
            lane: floats,
            sums: if self.groups > 1 { self.sums(self.members)[0] as f64 * (floats - mine) } else { 0.0 },
            totals: (self.groups - 1) as f64 * mine,
            shared: (self.members - 1) as f64 * floats,
        }
    }

    /// Of a dense layer by *factors*.
    pub fn factors(&self, dense: DenseShape) -> Moves {
        let share = Units::of_inputs(dense.inputs).share_out(self.members)[0].len();
        Moves {
            sent: self.own * (dense.inputs + dense.outputs) as f64 * (self.groups - 1) as f64,
            shared: self.intra_node * (share + dense.outputs) as f64,
        }
    }

    /// Of a split dense layer: floats sent of inputs, of partial sums, of gradients of outputs, of gradients of inputs; floats read.
    pub fn split(&self, dense: DenseShape, wants_d_input: bool) -> ([f64; 4], f64) {
        let end = |rank: usize| stretch(dense.inputs, rank, self.ranks).end as f64;
        let (own, of_node, outputs) = (end(0), end(self.members - 1), dense.outputs as f64);
        let tree = blocks_of(dense.inputs, 0, self.ranks);
        let sent_inputs = self.own * (dense.inputs as f64 - of_node);
        let partials = tree.sums_of[0] as f64 * self.inter_node * outputs;
        let d_outputs = self.own * outputs * (self.groups - 1) as f64;
        let d_inputs = if wants_d_input { self.inter_node * own } else { 0.0 };
        ([sent_inputs, partials, d_outputs, d_inputs], self.intra_node * (2.0 * own + outputs))
    }
}
