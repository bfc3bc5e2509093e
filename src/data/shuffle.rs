//! In which order an epoch visits the rows of a shard: windows over blocks of rows.
//!
//! The rows are cut into blocks, where row numbers of the split are multiples of a block's rows: the chunks of a file. The blocks are
//! permuted; those of a window, one window after the other, give their rows, which are permuted together (CorgiPile, SIGMOD 2022).
//! A window that holds all blocks permutes the rows of the shard alone, whatever the blocks. Who visits an epoch needs one window of
//! rows at a time.

use std::ops::Range;

use crate::kernels::rng::{Purpose, Stream};
use crate::row_count::RowCount;

/// How the rows of shards are permuted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shuffle {
    /// The run's seed.
    pub seed: u64,
    /// Rows of a window; of fewer rows than a block's, a window is one block.
    pub window: RowCount,
    /// Rows of a block, at least one.
    pub block: usize,
}

impl Shuffle {
    /// Of all rows of a shard together.
    pub fn whole(seed: u64) -> Shuffle {
        Shuffle { seed, window: RowCount::All, block: 1 }
    }

    /// Puts the rows of shard `shard` behind those in `order`, in the order of `epoch` (from 0).
    pub fn permute(&self, rows: Range<usize>, epoch: usize, shard: usize, order: &mut Vec<u32>) {
        let (mut blocks, together) = match self.window {
            // One block: a list of all of them may be as long as the rows.
            RowCount::All => (vec![rows], 1),
            RowCount::Rows(window) => (self.blocks(rows), (window / self.block).max(1)),
        };
        if together < blocks.len() {
            Stream::new(self.seed, Purpose::Blocks, 0, epoch, shard).shuffle(0, &mut blocks);
        }
        let stream = Stream::new(self.seed, Purpose::Shuffle, 0, epoch, shard);
        let first = order.len();
        for window in blocks.chunks(together) {
            let start = order.len();
            order.extend(window.iter().flat_map(|block| block.start as u32..block.end as u32));
            stream.shuffle(start - first, &mut order[start..]);
        }
    }

    /// The blocks that these rows lie in, cut to them.
    fn blocks(&self, rows: Range<usize>) -> Vec<Range<usize>> {
        let cuts = rows.start / self.block..rows.end.div_ceil(self.block);
        cuts.map(|block| (block * self.block).max(rows.start)..((block + 1) * self.block).min(rows.end)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(window: RowCount, block: usize, rows: Range<usize>, epoch: usize) -> Vec<u32> {
        let mut order = vec![7];
        Shuffle { seed: 3, window, block }.permute(rows, epoch, 5, &mut order);
        order[1..].to_vec()
    }

    #[test]
    fn every_row_comes_once_from_one_window_of_whole_blocks() {
        for (window, block, rows) in
            [(20, 8, 13..103), (8, 8, 0..64), (3, 8, 5..50), (40, 1, 9..200), (64, 16, 60..61), (9, 4, 0..0)]
        {
            let found = order(RowCount::Rows(window), block, rows.clone(), 0);
            let mut sorted = found.clone();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(rows.start as u32..rows.end as u32), "{window} {block} {rows:?}");
            assert!(rows.len() < 10 || found != order(RowCount::Rows(window), block, rows.clone(), 1), "another epoch");
            let mut rest = &found[..];
            let blocks_of = |rows: &[u32]| {
                let mut blocks: Vec<usize> = rows.iter().map(|&row| row as usize / block).collect();
                blocks.sort_unstable();
                blocks.dedup();
                blocks
            };
            let mut seen = Vec::new();
            while !rest.is_empty() {
                // A window's rows are those of its blocks, all of them.
                let most = (window / block).max(1);
                let len = (1..=rest.len()).rev().find(|&len| {
                    let blocks = blocks_of(&rest[..len]);
                    let all = |block_: usize| (block_ * block).max(rows.start)..((block_ + 1) * block).min(rows.end);
                    blocks.len() <= most && blocks.iter().map(|&block| all(block).len()).sum::<usize>() == len
                });
                let (here, behind) = rest.split_at(len.expect("a window"));
                seen.extend(blocks_of(here));
                rest = behind;
            }
            assert_eq!(seen.len(), blocks_of(&found).len(), "no block in two windows: {window} {block} {rows:?}");
        }
    }

    #[test]
    fn a_window_of_the_whole_shard_is_one_permutation_whatever_the_blocks() {
        let stream = Stream::new(3, Purpose::Shuffle, 0, 2, 5);
        let whole: Vec<u32> = stream.permutation(90).into_iter().map(|place| 13 + place).collect();
        for (window, block) in
            [(RowCount::All, 1), (RowCount::All, 32), (RowCount::Rows(96), 8), (RowCount::Rows(90), 1)]
        {
            assert_eq!(order(window, block, 13..103, 2), whole, "{window:?} {block}");
        }
        assert_ne!(order(RowCount::Rows(80), 8, 13..103, 2), whole);
    }
}
