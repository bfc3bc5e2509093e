//! How a step's rows are cut into micro-batches: as many whole shards at once as fit, so that sums of gradients follow
//! the fixed tree whatever fits; a shard too large for that goes through in parts.

use std::ops::Range;

use crate::kernels::Leaf;

/// The most rows that go through the network at once: what bounds memory, whatever the batch.
pub const MICRO_BATCH: usize = 64;

/// Rows that evaluation takes at once: enough to use a dense layer's weights well when they come from memory.
pub const EVALUATION_BATCH: usize = 32;

/// Leaves that go through the network one behind the other and give one sum.
#[derive(Clone, Debug, Default)]
pub struct LeafRun {
    /// The leaves.
    pub leaves: Range<usize>,
    /// Their rows.
    pub rows: Range<usize>,
    /// How many sums wait for others to be merged with while this one is formed.
    pub depth: usize,
    /// With how many of them this one is merged.
    pub merges: usize,
}

impl LeafRun {
    /// The run behind this one, which ends before the last of `leaves`, in micro-batches of up to `capacity` rows; its own leaves, counted
    /// from its first row, are put into `own`.
    pub fn next(&self, leaves: &[Leaf], capacity: usize, own: &mut Vec<Leaf>) -> LeafRun {
        let (first, start) = (self.leaves.end, self.rows.end);
        let (count, merges) = next_run(&leaves[first..], start, capacity, own);
        let depth = if first == 0 { 0 } else { self.depth + 1 - self.merges };
        LeafRun { leaves: first..first + count, rows: start..leaves[first + count - 1].end, depth, merges }
    }

    /// Its rows as they go through the network together.
    pub fn micro_batches(&self, capacity: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let end = self.rows.end;
        self.rows.clone().step_by(capacity).map(move |start| start..end.min(start + capacity))
    }
}

/// Rows that go through the network at once at most, where a step has `step` rows on a rank, and a split for evaluation `evaluated`.
pub fn rows_at_once(step: usize, evaluated: usize) -> usize {
    step.min(MICRO_BATCH).max(evaluated.min(EVALUATION_BATCH)).max(1)
}

/// The longest run of `leaves` (the first of which begins at row `start`) of at most `capacity` rows that the tree merges
/// to one sum: its leaves are put into `run`, counted from its own first row. Returns how many they are, and how often
/// their sum is merged with earlier ones. A single leaf may be longer than `capacity`.
fn next_run(leaves: &[Leaf], start: usize, capacity: usize, run: &mut Vec<Leaf>) -> (usize, usize) {
    let (mut waiting, mut found) = (0, (1, leaves[0].merges));
    for (index, leaf) in leaves.iter().enumerate() {
        if leaf.end - start > capacity {
            break;
        }
        let inside = leaf.merges.min(waiting);
        waiting = waiting + 1 - inside;
        if waiting == 1 {
            found = (index + 1, leaf.merges - inside);
        }
        if leaf.merges > inside {
            break;
        }
    }
    run.clear();
    run.extend(leaves[..found.0].iter().map(|leaf| Leaf { end: leaf.end - start, ..*leaf }));
    run[found.0 - 1].merges -= found.1;
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels;

    /// The tree as text, formed run by run.
    fn tree(rows: &[usize], capacity: usize) -> String {
        let (mut leaves, mut run) = (Vec::new(), Vec::new());
        kernels::leaves(rows, &mut leaves);
        let (mut stack, mut next, mut start) = (Vec::<String>::new(), 0, 0);
        while next < leaves.len() {
            let (count, merges) = next_run(&leaves[next..], start, capacity, &mut run);
            let mut inner = Vec::<String>::new();
            let merge = |stack: &mut Vec<String>, times: usize, mut sum: String| {
                for _ in 0..times {
                    sum = format!("({} {sum})", stack.pop().unwrap());
                }
                stack.push(sum);
            };
            let mut begin = 0;
            for leaf in &run {
                merge(&mut inner, leaf.merges, format!("{}-{}", start + begin, start + leaf.end));
                begin = leaf.end;
            }
            assert_eq!(inner.len(), 1, "a run is one sum");
            assert!(count == 1 || begin <= capacity);
            merge(&mut stack, merges, inner.pop().unwrap());
            (next, start) = (next + count, start + begin);
        }
        assert_eq!(stack.len(), 1);
        stack.pop().unwrap()
    }

    #[test]
    fn the_tree_is_the_same_however_much_fits_at_once() {
        for rows in [&[2; 8][..], &[3, 0, 1, 5, 2], &[1; 13], &[0, 0, 4, 4, 0, 1, 9], &[7]] {
            let whole = tree(rows, 1000);
            for capacity in 1..20 {
                assert_eq!(tree(rows, capacity), whole, "{rows:?} {capacity}");
            }
        }
        assert_eq!(tree(&[2, 0, 1, 3, 1], 4), "((0-2 (2-3 3-6)) 6-7)");
    }
}
