//! The fixed reduction tree over shards that several owners hold: which whole subtrees each of them can sum by itself, and how those
//! sums are merged.

use std::ops::Range;

use super::sum::{Leaf, MOST_MERGES};

/// Values that are merged at once: what waits for its other half stays in the first-level cache.
const BLOCK: usize = 512;

/// The most sums that wait at once: leaves are shards, or the blocks of a dense layer's inputs (2²⁵ of them, where a layer has all the
/// weights that a network may have).
const MOST_WAITING: usize = 2 * MOST_MERGES + 1;

/// The tree of one step: shards without rows are left out. Every owner builds the same one.
#[derive(Clone, Debug, Default)]
pub struct ReductionTree {
    /// How many sums each owner brings.
    pub sums_of: Vec<usize>,
    /// All sums, owner by owner: how many sums that were formed before are merged with this one, before the next.
    pub merges: Vec<usize>,
    /// Rows of each sum.
    pub rows_of: Vec<usize>,
    /// The leaves of one owner's shards, their merges those inside its subtrees.
    pub own: Vec<Leaf>,
    /// All leaves, with all their merges.
    pub leaves: Vec<Leaf>,
    owners: Vec<usize>,
    starts: Vec<bool>,
    /// Of each leaf's merges, those inside the subtree of its owner.
    inside: Vec<usize>,
}

/// A node of the tree while it is built.
#[derive(Clone, Copy)]
struct Node {
    first: usize,
    /// `None` where several owners hold its leaves.
    owner: Option<usize>,
}

impl ReductionTree {
    /// The tree over shards with `rows[s]` rows each, of which owner `o` holds those before `ends[o]` that no one before it
    /// holds; `own` are the leaves of owner `me`. Allocates nothing once the lists are large enough.
    pub fn build(&mut self, rows: &[usize], ends: impl Iterator<Item = usize>, me: usize) {
        self.build_parts(rows, &[], ends, me);
    }

    /// The same with nothing merged across `parts`: subtrees, given by their leaves, or none, where the whole tree is one.
    pub fn build_parts(
        &mut self,
        rows: &[usize],
        parts: &[Range<usize>],
        ends: impl Iterator<Item = usize>,
        me: usize,
    ) {
        super::leaves(rows, &mut self.leaves);
        for part in parts {
            let mut waiting = 0;
            for leaf in &mut self.leaves[part.clone()] {
                leaf.merges = leaf.merges.min(waiting);
                waiting = waiting + 1 - leaf.merges;
            }
        }
        for list in [&mut self.sums_of, &mut self.merges, &mut self.owners, &mut self.inside] {
            list.clear();
        }
        let mut start = 0;
        for (owner, end) in ends.enumerate() {
            let present = rows[start..end].iter().filter(|&&rows| rows > 0).count();
            self.owners.extend(std::iter::repeat_n(owner, present));
            self.sums_of.push(0);
            start = end;
        }
        assert_eq!(self.owners.len(), self.leaves.len(), "every shard has an owner");
        self.find_starts(parts);
        self.own.clear();
        self.rows_of.clear();
        let (mut waiting, mut before) = (0, 0);
        for (index, (leaf, &owner)) in self.leaves.iter().zip(&self.owners).enumerate() {
            if self.starts[index] {
                self.sums_of[owner] += 1;
                self.merges.push(0);
                self.rows_of.push(0);
                waiting = 0;
            }
            let rows = leaf.end - if index == 0 { 0 } else { self.leaves[index - 1].end };
            *self.rows_of.last_mut().expect("the first leaf starts a subtree") += rows;
            // Inside its subtree a leaf can only be merged with what waits there; those merges come first.
            let inside = leaf.merges.min(waiting);
            waiting = waiting + 1 - inside;
            self.inside.push(inside);
            *self.merges.last_mut().expect("the first leaf starts a subtree") += leaf.merges - inside;
            if owner == me {
                self.own.push(Leaf { end: leaf.end - before, merges: inside });
            } else if owner < me {
                before = leaf.end;
            }
        }
    }

    /// Which leaves are the first of a subtree that has one owner, while the next larger one has several, or lies across parts.
    fn find_starts(&mut self, parts: &[Range<usize>]) {
        self.starts.clear();
        self.starts.resize(self.leaves.len(), false);
        parts.iter().for_each(|part| self.starts[part.start] = true);
        let mut stack = [Node { first: 0, owner: None }; MOST_WAITING];
        let mut depth = 0;
        for (first, (leaf, &owner)) in self.leaves.iter().zip(&self.owners).enumerate() {
            if parts.binary_search_by_key(&first, |part| part.start).is_ok() {
                // Nothing in front is merged with any of a part.
                depth = 0;
            }
            let mut node = Node { first, owner: Some(owner) };
            for _ in 0..leaf.merges {
                depth -= 1;
                let left = stack[depth];
                if left.owner != node.owner {
                    for part in [left, node] {
                        self.starts[part.first] |= part.owner.is_some();
                    }
                    node.owner = None;
                }
                node.first = left.first;
            }
            stack[depth] = node;
            depth += 1;
        }
        if let Some(first) = self.starts.first_mut() {
            *first = true;
        }
    }

    /// For owners that each hold several owners of `finer`, a tree over the same leaves: how many of the sums formed before each
    /// of its sums is merged with inside its owner here.
    pub fn merges_within_coarser(&self, finer: &ReductionTree, merges: &mut Vec<usize>) {
        merges.clear();
        for leaf in 0..self.leaves.len() {
            if finer.starts[leaf] {
                merges.push(0);
            }
            *merges.last_mut().expect("the first leaf starts a subtree") += self.inside[leaf] - finer.inside[leaf];
        }
    }

    /// Merges `values`, one a sum, in the order of `merges`; nothing where there is no sum.
    pub fn merge<T: Copy + Default>(&self, values: impl Iterator<Item = T>, add: impl Fn(T, T) -> T) -> Option<T> {
        let mut stack = [T::default(); MOST_WAITING];
        let mut depth = 0;
        for (mut value, &merges) in values.zip(&self.merges) {
            for _ in 0..merges {
                depth -= 1;
                value = add(stack[depth], value);
            }
            stack[depth] = value;
            depth += 1;
        }
        (depth > 0).then_some(stack[0])
    }

    /// Merges slices of equal length into `total`; zeros where there is no sum.
    pub fn merge_slices<'a>(&self, slice: impl Fn(usize) -> &'a [f32], total: &mut [f32]) {
        if self.merges.is_empty() {
            total.fill(0.0);
        }
        merge_sums(&self.merges, total.len(), slice, |_, place, values| total[place].copy_from_slice(values));
    }
}

/// Merges sums `slice(i)` of `len` values each with `merges[i]` of those that were formed before, the newest first, block by block:
/// `put` gets what is left (which of them, the block's place, its values).
pub fn merge_sums<'a>(
    merges: &[usize],
    len: usize,
    slice: impl Fn(usize) -> &'a [f32],
    mut put: impl FnMut(usize, Range<usize>, &mut [f32]),
) {
    let mut stack = [[0.0f32; BLOCK]; MOST_WAITING];
    for start in (0..len).step_by(BLOCK) {
        let place = start..len.min(start + BLOCK);
        let (mut depth, len) = (0, place.len());
        for (sum, &merges) in merges.iter().enumerate() {
            let values = &slice(sum)[place.clone()];
            if merges == 0 {
                stack[depth][..len].copy_from_slice(values);
                depth += 1;
                continue;
            }
            super::add(&mut stack[depth - 1][..len], values);
            for _ in 1..merges {
                depth -= 1;
                let (left, right) = stack.split_at_mut(depth);
                super::add(&mut left[depth - 1][..len], &right[0][..len]);
            }
        }
        stack.iter_mut().take(depth).enumerate().for_each(|(index, sum)| put(index, place.clone(), &mut sum[..len]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{most_waiting, tree};

    /// The tree as text: each owner forms its sums, then they are merged.
    #[test]
    fn the_blocks_of_the_widest_dense_layers_make_a_tree() {
        for (blocks, owners) in [((1 << 18) - 1, 2), (1 << 18, 1), (1 << 18, 3), ((1 << 20) + 1, 7)] {
            let mut reduction = ReductionTree::default();
            reduction.build(&vec![1; blocks], (1..=owners).map(|owner| owner * blocks / owners), owners - 1);
            let sums = reduction.merges.len();
            assert_eq!(reduction.merge(std::iter::repeat_n(1, sums), |a, b| a + b), Some(sums), "{blocks} of {owners}");
        }
    }

    fn by_owners(rows: &[usize], owners: usize) -> Option<String> {
        let ends = |owner: usize| (owner + 1) * rows.len() / owners;
        let mut sums: Vec<String> = Vec::new();
        let mut reduction = ReductionTree::default();
        for me in 0..owners {
            reduction.build(rows, (0..owners).map(ends), me);
            let mut stack: Vec<String> = Vec::new();
            let own = ends(me) - if me == 0 { 0 } else { ends(me - 1) };
            let stack_limit = reduction.sums_of[me] + most_waiting(own);
            let mut present = (if me == 0 { 0 } else { ends(me - 1) }..ends(me)).filter(|&shard| rows[shard] > 0);
            for leaf in &reduction.own {
                let mut sum = present.next().unwrap().to_string();
                for _ in 0..leaf.merges {
                    sum = format!("({} {sum})", stack.pop().unwrap());
                }
                stack.push(sum);
                assert!(stack.len() <= stack_limit);
            }
            let rows_of_me: usize = rows[if me == 0 { 0 } else { ends(me - 1) }..ends(me)].iter().sum();
            assert_eq!(reduction.own.last().map_or(0, |leaf| leaf.end), rows_of_me);
            assert_eq!(stack.len(), reduction.sums_of[me], "owner {me} of {owners}: {rows:?}");
            assert!(stack.len() <= 2 * MOST_MERGES);
            sums.append(&mut stack);
        }
        assert_eq!(sums.len(), reduction.merges.len());
        let mut stack: Vec<String> = Vec::new();
        for (mut sum, &merges) in sums.into_iter().zip(&reduction.merges) {
            for _ in 0..merges {
                sum = format!("({} {sum})", stack.pop().unwrap());
            }
            stack.push(sum);
        }
        assert!(stack.len() <= 1);
        stack.pop()
    }

    #[test]
    fn any_number_of_owners_forms_the_one_tree() {
        for shards in 1..=21 {
            for pattern in 0..7 {
                let rows: Vec<usize> =
                    (0..shards).map(|s| [1, s % 2, s % 3, (s + 1) % 3, 5, s % 5, 0][pattern]).collect();
                let leaf = &mut |shard: usize| (rows[shard] > 0).then(|| shard.to_string());
                let want = tree(shards, leaf, &|a, b| format!("({a} {b})"));
                for owners in 1..=shards {
                    assert_eq!(by_owners(&rows, owners), want, "{owners} owners of {rows:?}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_merged_across_parts_and_owners_bring_their_pieces() {
        let mut reduction = ReductionTree::default();
        reduction.build_parts(&[2; 8], &[0..4, 4..8], [3, 6, 8].into_iter(), 1);
        // Pieces: (0 1) 2 | 3, (4 5) | (6 7), of two parts.
        assert_eq!(reduction.sums_of, [2, 2, 1]);
        assert_eq!(reduction.merges, [0, 0, 2, 0, 1]);
        assert_eq!(reduction.rows_of, [4, 2, 2, 4, 4]);
        assert_eq!(reduction.own.iter().map(|leaf| leaf.merges).collect::<Vec<_>>(), [0, 0, 1]);
        // As many parts as shards.
        let parts: Vec<Range<usize>> = (0..200).map(|leaf| leaf..leaf + 1).collect();
        for owners in [1, 3, 8] {
            let ends = (1..=owners).map(|owner| owner * 200 / owners);
            reduction.build_parts(&[16; 200], &parts, ends, owners - 1);
            assert_eq!((&reduction.merges[..], &reduction.rows_of[..]), (&[0; 200][..], &[16; 200][..]));
        }
        reduction.build_parts(&[2; 8], &[0..4, 4..8], [4, 8].into_iter(), 0);
        assert_eq!((&reduction.sums_of[..], &reduction.merges[..]), (&[1, 1][..], &[0, 0][..]));
        reduction.build_parts(&[2; 4], &[0..2, 2..4], [4].into_iter(), 0);
        assert_eq!((&reduction.sums_of[..], &reduction.merges[..]), (&[2][..], &[0, 0][..]));
    }

    #[test]
    fn owners_of_whole_subtrees_bring_one_sum_each() {
        let mut reduction = ReductionTree::default();
        reduction.build(&[2; 8], [2, 4, 6, 8].into_iter(), 1);
        assert_eq!(reduction.sums_of, [1; 4]);
        assert_eq!(reduction.merges, [0, 1, 0, 2]);
        assert_eq!(reduction.own, [Leaf { end: 2, merges: 0 }, Leaf { end: 4, merges: 1 }]);
        reduction.build(&[2; 8], [2, 5, 8].into_iter(), 1);
        assert_eq!(reduction.sums_of, [1, 2, 2]);
    }

    #[test]
    fn owners_of_owners_form_the_one_tree() {
        for shards in 1..=21 {
            for pattern in 0..4 {
                let rows: Vec<usize> = (0..shards).map(|s| [1, s % 2, (s + 1) % 3, 5][pattern]).collect();
                let leaf = &mut |shard: usize| (rows[shard] > 0).then(|| shard.to_string());
                let want = tree(shards, leaf, &|a, b| format!("({a} {b})"));
                for (owners, a_group) in [(2, 1), (4, 2), (6, 3), (7, 2), (5, 4)] {
                    if owners > shards {
                        continue;
                    }
                    assert_eq!(by_groups(&rows, owners, a_group), want, "{owners} owners by {a_group} of {rows:?}");
                }
            }
        }
    }

    /// The tree as text: each owner forms its sums, groups of owners merge theirs, then those are merged.
    fn by_groups(rows: &[usize], owners: usize, a_group: usize) -> Option<String> {
        let end = |owner: usize| (owner + 1) * rows.len() / owners;
        let (mut fine, mut coarse, mut merges) = (ReductionTree::default(), ReductionTree::default(), Vec::new());
        let groups = owners.div_ceil(a_group);
        let last_of = |group: usize| ((group + 1) * a_group).min(owners) - 1;
        fine.build(rows, (0..owners).map(end), 0);
        coarse.build(rows, (0..groups).map(|group| end(last_of(group))), 0);
        coarse.merges_within_coarser(&fine, &mut merges);
        let mut present = (0..rows.len()).filter(|&shard| rows[shard] > 0);
        let mut sums: Vec<String> = Vec::new();
        for (leaf, &inside) in fine.inside.iter().enumerate() {
            let mut sum = present.next().unwrap().to_string();
            for _ in 0..if fine.starts[leaf] { 0 } else { inside } {
                sum = format!("({} {sum})", sums.pop().unwrap());
            }
            sums.push(sum);
        }
        let merge = |parts: &mut dyn Iterator<Item = (String, usize)>| {
            let mut stack: Vec<String> = Vec::new();
            for (mut sum, merges) in parts {
                for _ in 0..merges {
                    sum = format!("({} {sum})", stack.pop().unwrap());
                }
                stack.push(sum);
            }
            stack
        };
        let (mut all, mut first) = (Vec::new(), 0);
        for group in 0..groups {
            let count: usize = fine.sums_of[group * a_group..=last_of(group)].iter().sum();
            let mut own = (first..first + count).map(|sum| (sums[sum].clone(), merges[sum]));
            let formed = merge(&mut own);
            assert_eq!(formed.len(), coarse.sums_of[group]);
            all.extend(formed);
            first += count;
        }
        let mut all = all.into_iter().zip(coarse.merges.iter().copied());
        merge(&mut all).pop()
    }

    #[test]
    fn slices_are_joined_as_numbers_are() {
        let mut reduction = ReductionTree::default();
        reduction.build(&[1; 13], 1..=13, 0);
        let slices: Vec<Vec<f32>> =
            (0..13).map(|s| (0..1100).map(|i| 1.0 / (3 * s + i + 1) as f32).collect()).collect();
        let mut total = vec![f32::NAN; 1100];
        reduction.merge_slices(|sum| &slices[sum], &mut total);
        for (i, total) in total.iter().enumerate() {
            let want = reduction.merge(slices.iter().map(|slice| slice[i]), |a, b| a + b).unwrap();
            assert_eq!(total.to_bits(), want.to_bits());
        }
        reduction.build(&[0; 2], [1, 2].into_iter(), 0);
        reduction.merge_slices(|_| &[], &mut total);
        assert!(total.iter().all(|&value| value == 0.0));
    }
}
