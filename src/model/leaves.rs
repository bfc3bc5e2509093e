//! The leaves of a micro-batch: how sums over its rows are ordered.

use crate::kernels::Leaf;

/// The leaves of a micro-batch.
pub enum Leaves<'a> {
    /// Several shards.
    Some(&'a [Leaf]),
    /// It is one.
    One([Leaf; 1]),
}

impl Leaves<'_> {
    /// As they follow one another.
    pub fn slice(&self) -> &[Leaf] {
        match self {
            Leaves::Some(leaves) => leaves,
            Leaves::One(leaf) => leaf,
        }
    }
}

/// These, or one of all `batch` rows where there is none.
pub fn or_one_leaf(leaves: &[Leaf], batch: usize) -> Leaves<'_> {
    if leaves.is_empty() && batch > 0 { Leaves::One([Leaf { end: batch, merges: 0 }]) } else { Leaves::Some(leaves) }
}
