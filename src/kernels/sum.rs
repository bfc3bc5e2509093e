//! Sums whose order is fixed by the numbers' places, never by who holds them.

use super::isa::dispatch;
use super::simd::Simd;
use std::ops::Range;

/// Merges `0 .. count` in the one fixed binary tree: split at the largest power of two below the count. `leaf` may bring
/// nothing (a shard without a row in the batch): its sibling then passes through unchanged.
pub fn tree<T>(count: usize, leaf: &mut impl FnMut(usize) -> Option<T>, merge: &impl Fn(T, T) -> T) -> Option<T> {
    fn node<T>(
        range: Range<usize>,
        leaf: &mut impl FnMut(usize) -> Option<T>,
        merge: &impl Fn(T, T) -> T,
    ) -> Option<T> {
        match range.len() {
            0 => None,
            1 => leaf(range.start),
            n => {
                let middle = range.start + n.next_power_of_two() / 2;
                let left = node(range.start..middle, leaf, merge);
                let right = node(middle..range.end, leaf, merge);
                match (left, right) {
                    (Some(left), Some(right)) => Some(merge(left, right)),
                    (one, other) => one.or(other),
                }
            }
        }
    }
    node(0..count, leaf, merge)
}

/// The most subtrees that can wait for their other half: 2¹⁶ shards.
pub const MOST_MERGES: usize = 16;

/// The most sums that wait for their other half while a sum over `shards` neighbouring shards is formed, wherever they lie
/// in the tree and whichever of them have rows.
pub fn most_waiting(shards: usize) -> usize {
    shards.next_power_of_two().ilog2() as usize
}

/// Neighbouring rows whose sum is a leaf of the fixed tree: those of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The row behind its last one; it begins where the leaf before it ends.
    pub end: usize,
    /// How many sums that were formed before are merged with this one, the newest first, before the next leaf.
    pub merges: usize,
}

/// The leaves of shards with `rows[s]` rows each, in the tree of [`tree`]; a shard without rows is left out.
pub fn leaves(rows: &[usize], leaves: &mut Vec<Leaf>) {
    leaves.clear();
    let mut end = 0;
    // The tree's own walk says where merges happen: they follow the leaf that completed their right half.
    let leaves = std::cell::RefCell::new(leaves);
    let leaf = &mut |shard: usize| {
        (rows[shard] > 0).then(|| {
            end += rows[shard];
            leaves.borrow_mut().push(Leaf { end, merges: 0 });
        })
    };
    let merge = &|(), ()| {
        if let Some(last) = leaves.borrow_mut().last_mut() {
            last.merges += 1;
        }
    };
    tree(rows.len(), leaf, merge);
}

/// As [`Leaf::merges`] for block `block` of `count`, none empty.
#[inline(always)]
pub(super) fn merges_of_block(block: usize, count: usize) -> usize {
    if block + 1 == count { block.count_ones() as usize } else { (block + 1).trailing_zeros() as usize }
}

dispatch! {
    /// `sum += values`
    pub fn add(sum: &mut [f32], values: &[f32]) = add_loops
}

#[inline(always)]
fn add_loops<S: Simd>(sum: &mut [f32], values: &[f32]) {
    assert_eq!(sum.len(), values.len());
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value;
    }
}

dispatch! {
    /// `Σ values²` in f64: 16 interleaved lanes, merged by [`tree`].
    pub fn sum_of_squares(values: &[f32]) -> f64 = sum_of_squares_loops
}

#[inline(always)]
fn sum_of_squares_loops<S: Simd>(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 16];
    let (whole, rest) = values.as_chunks::<16>();
    for chunk in whole {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            let value = f64::from(value);
            *lane += value * value;
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        let value = f64::from(value);
        *lane += value * value;
    }
    tree(16, &mut |lane| Some(lanes[lane]), &|a, b| a + b).unwrap_or(0.0)
}

dispatch! {
    /// Sums the rows of `rows [n, sum.len()]` into `sum`: added to what it holds, or in its place unless `accumulate`.
    pub(super) fn sum_rows(rows: &[f32], sum: &mut [f32], accumulate: bool) = sum_rows_loops
}

#[inline(always)]
fn sum_rows_loops<S: Simd>(rows: &[f32], sum: &mut [f32], accumulate: bool) {
    if !accumulate {
        sum.fill(0.0);
    }
    for row in rows.chunks_exact(sum.len()) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_splits_at_the_largest_power_of_two_and_lets_siblings_of_nothing_pass() {
        let show = |count, empty: &[usize]| {
            tree(count, &mut |i| (!empty.contains(&i)).then(|| i.to_string()), &|a, b| format!("({a} {b})"))
        };
        assert_eq!(show(5, &[]).unwrap(), "(((0 1) (2 3)) 4)");
        assert_eq!(show(8, &[]).unwrap(), "(((0 1) (2 3)) ((4 5) (6 7)))");
        assert_eq!(show(5, &[0, 4]).unwrap(), "(1 (2 3))");
        assert_eq!(show(3, &[0, 1, 2]), None);
    }

    #[test]
    fn squares_are_summed_exactly_enough() {
        let values: Vec<f32> = (0..200_003).map(|i| (i % 7) as f32).collect();
        let want: f64 = values.iter().map(|&v| f64::from(v * v)).sum();
        assert_eq!(sum_of_squares(&values), want);
    }
}
