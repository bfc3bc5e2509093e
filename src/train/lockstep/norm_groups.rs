//! Norm groups: which rows of a step are normalised together, and whether they lie on several ranks. Nothing here asks other ranks.

use std::ops::Range;

use super::reduce::Trees;
use crate::comm::Nodes;
use crate::kernels::{Leaf, part_tree};
use crate::model::ops::Normalize;
use crate::model::{Group, GroupLeaf, Grouping};
use crate::row_count::RowCount;

/// The norm groups of a step, for norms of groups of so many rows.
#[derive(Debug, Default)]
pub struct NormTree {
    /// The tree over shards, cut into the groups.
    pub trees: Trees,
    /// The leaves of each group.
    groups: Vec<Range<usize>>,
    /// The first leaf of this rank.
    first: usize,
}

/// The norm groups of a step, for all norms of a network.
#[derive(Debug, Default)]
pub struct NormGroups {
    /// The least rows of a group, each once.
    least: Vec<Option<usize>>,
    /// One for each of these.
    pub trees: Vec<NormTree>,
    /// Of each norm, its tree.
    pub of: Vec<usize>,
    /// The tree over shards, whole.
    pub whole: Trees,
    /// Whether a group of any norm has rows of several ranks: then all rows of the step go through the network at once.
    pub span_ranks: bool,
}

/// What the root moves for the norms of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NormMoves {
    /// Exchanges: two a norm, or one of all running statistics.
    pub exchanges: usize,
    /// Bytes that it sends to other groups.
    pub sent: f64,
    /// Bytes that it reads from its neighbours' segments.
    pub shared: f64,
}

/// Room that norm groups take, whatever the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NormSizes {
    /// Rows that a rank must send through the network at once.
    pub rows: usize,
    /// Groups that a rank knows at a time.
    pub groups: usize,
    /// Numbers that a rank publishes in one exchange, and that all ranks do; 0 where a rank is alone.
    pub published: [usize; 2],
    /// The most sums of all ranks in one exchange.
    pub pieces: usize,
    /// Whether there is a step of which all rows go through the network at once.
    pub span_ranks: bool,
}

impl NormGroups {
    /// For these norms, in a run whose groups have `rows` unless a norm says otherwise.
    pub fn new(norms: &[Normalize], rows: RowCount) -> NormGroups {
        let mut found = NormGroups::default();
        for norm in norms {
            let least = match norm.rows.unwrap_or(rows) {
                RowCount::All => None,
                RowCount::Rows(rows) => Some(rows),
            };
            let place = found.least.iter().position(|other| *other == least);
            found.of.push(place.unwrap_or(found.least.len()));
            if place.is_none() {
                found.least.push(least);
                found.trees.push(NormTree::default());
            }
        }
        found
    }

    /// Whether there is a norm.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Groups the rows of a step: shards have `rows[s]` each, and rank r holds those before `ends(r)`.
    pub fn choose(&mut self, rows: &[usize], ends: &dyn Fn(usize) -> usize, nodes: &Nodes) {
        if self.is_empty() {
            return;
        }
        let first = if nodes.rank() == 0 { 0 } else { ends(nodes.rank() - 1) };
        self.whole.build(rows, ends, nodes);
        self.span_ranks = false;
        for (tree, least) in self.trees.iter_mut().zip(&self.least) {
            part_tree(rows, *least, &mut tree.groups);
            tree.first = rows[..first].iter().filter(|&&rows| rows > 0).count();
            tree.trees.build_parts(rows, &tree.groups, ends, nodes);
            // One piece a group: the whole group is one rank's.
            self.span_ranks |= tree.trees.ranks.merges.len() > tree.groups.len();
        }
    }

    /// The groupings for leaves `run` of this rank, which are merged as `leaves` say. Where groups have rows of several ranks, these are all
    /// of its leaves, and the groupings have all groups of the step.
    pub fn fill(&self, groupings: &mut [Grouping], run: Range<usize>, leaves: &[Leaf]) {
        for (tree, grouping) in self.trees.iter().zip(groupings) {
            let scope = if self.span_ranks { &self.whole.ranks.leaves } else { leaves };
            tree.fill(grouping, run.clone(), scope, self.span_ranks);
        }
    }

    /// What a step moves in which shards have `rows[s]` rows each; on the root of these groups.
    pub fn moves(
        &mut self,
        norms: &[Normalize],
        rows: &[usize],
        ends: &dyn Fn(usize) -> usize,
        nodes: &Nodes,
    ) -> NormMoves {
        let mut moves = NormMoves::default();
        if self.is_empty() || nodes.size() == 1 {
            return moves;
        }
        self.choose(rows, ends, nodes);
        if self.span_ranks {
            norms
                .iter()
                .zip(&self.of)
                .for_each(|(norm, &tree)| moves.add(2, &self.trees[tree].trees, norm.width(), nodes));
        } else {
            moves.add(1, &self.whole, norms.iter().map(Normalize::width).sum(), nodes);
        }
        moves
    }

    /// What steps with these rows take; `steps` puts the rows of each shard in one of them into its argument, until there is none.
    pub fn sizes(
        norms: &[Normalize],
        rows: RowCount,
        ends: &dyn Fn(usize) -> usize,
        nodes: &Nodes,
        mut steps: impl FnMut(&mut Vec<usize>) -> bool,
    ) -> NormSizes {
        let (mut found, mut sizes, mut rows_of_each) = (NormGroups::new(norms, rows), NormSizes::default(), Vec::new());
        let widths = norms.iter().map(Normalize::width);
        let (widest, all) = (widths.clone().max().unwrap_or(0), widths.sum());
        while !found.is_empty() && steps(&mut rows_of_each) {
            found.choose(&rows_of_each, ends, nodes);
            sizes.span_ranks |= found.span_ranks;
            let owned = |rank: usize| if rank == 0 { 0 } else { ends(rank - 1) }..ends(rank);
            if !found.span_ranks && nodes.size() > 1 {
                // The running statistics of all norms, once a step.
                sizes.publish(&found.whole, all);
            }
            for tree in &found.trees {
                let ranks = &tree.trees.ranks;
                if found.span_ranks {
                    let most = (0..nodes.size()).map(|rank| rows_of_each[owned(rank)].iter().sum()).max();
                    sizes.rows = sizes.rows.max(most.unwrap_or(0));
                    sizes.groups = sizes.groups.max(tree.groups.len());
                    sizes.publish(&tree.trees, widest);
                } else {
                    sizes.rows = sizes.rows.max(ranks.rows_of.iter().copied().max().unwrap_or(0));
                    sizes.groups = sizes.groups.max(ranks.sums_of.iter().copied().max().unwrap_or(0));
                }
            }
        }
        sizes
    }
}

impl NormMoves {
    /// Adds exchanges of sums of `width` numbers.
    fn add(&mut self, exchanges: usize, trees: &Trees, width: usize, nodes: &Nodes) {
        let bytes = (8 * exchanges * width) as f64;
        self.exchanges += exchanges;
        self.shared += bytes * (trees.sums_of_node(nodes) - trees.ranks.sums_of[nodes.rank()]) as f64;
        self.sent += bytes * (trees.groups.sums_of[nodes.mine()] * (nodes.count() - 1)) as f64;
    }
}

impl NormSizes {
    /// Room for an exchange of sums of `width` numbers.
    fn publish(&mut self, trees: &Trees, width: usize) {
        let (own, all) = (trees.ranks.sums_of.iter().copied().max().unwrap_or(0), trees.ranks.merges.len());
        self.published = [self.published[0].max(own * width), self.published[1].max(all * width)];
        self.pieces = self.pieces.max(all);
    }
}

impl NormTree {
    fn fill(&self, grouping: &mut Grouping, run: Range<usize>, scope: &[Leaf], spans: bool) {
        let own = &self.trees.ranks.own;
        let Grouping { leaves, groups } = grouping;
        leaves.clear();
        groups.clear();
        let mut group = self.groups.partition_point(|group| group.end <= self.first + run.start);
        let before = if spans { 0 } else { group };
        let start = if run.start == 0 { 0 } else { own[run.start - 1].end };
        for index in run.clone() {
            let leaf = self.first + index;
            while self.groups[group].end <= leaf {
                group += 1;
            }
            leaves.push(GroupLeaf {
                leaf: Leaf { end: own[index].end - start, ..own[index] },
                group: group - before,
                is_first: self.groups[group].start == leaf,
            });
        }
        // The merges behind a group are those of its last leaf that are not inside it.
        let all = &self.trees.ranks.leaves;
        let end = if spans { self.groups.len() } else { group + usize::from(!run.is_empty()) };
        for own in &self.groups[before..end] {
            let last = own.end - 1;
            let first = if own.start == 0 { 0 } else { all[own.start - 1].end };
            let place = if spans { last } else { last - self.first - run.start };
            groups.push(Group { rows: all[last].end - first, merges: scope[place].merges - all[last].merges });
        }
    }
}

impl NormTree {
    /// Rows of all groups that have more than one: those that the running variance is of.
    pub fn rows_with_variance(&self) -> usize {
        let all = &self.trees.ranks.leaves;
        let rows =
            |group: &Range<usize>| all[group.end - 1].end - if group.start == 0 { 0 } else { all[group.start - 1].end };
        self.groups.iter().map(rows).filter(|&rows| rows > 1).sum()
    }
}
