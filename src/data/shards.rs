//! Shards: who owns which rows, and in which order an epoch visits them. Shards, not ranks, decide the arithmetic.
//!
//! The rows are cut into S contiguous shards. Within an epoch each shard is permuted by (seed, epoch, shard; see [`Shuffle`]); position
//! `p` of the epoch is row `⌊p/S⌋` of shard `σ(p mod S)`, where σ lists the shard numbers in bit-reversed order, so
//! that any run of positions spreads evenly over any contiguous ownership. Shards `σ(0) … σ(N mod S − 1)` hold one row
//! more than the others. Nothing here depends on the number of ranks but ownership itself.

use std::ops::Range;

use super::Shuffle;

/// How `rows` rows are cut into shards.
#[derive(Clone, Debug)]
pub struct Shards {
    rows: usize,
    /// σ: shard numbers in bit-reversed order.
    order: Vec<usize>,
    /// The first row of each shard, and `rows` at the end.
    starts: Vec<usize>,
}

impl Shards {
    /// Cuts `rows` rows into `count` shards; where there are fewer rows than shards, some are empty.
    pub fn new(rows: usize, count: usize) -> Shards {
        assert!(count > 0, "at least one shard");
        let bits = count.next_power_of_two().trailing_zeros();
        let reversed = |i: usize| if bits == 0 { 0 } else { i.reverse_bits() >> (usize::BITS - bits) };
        let order: Vec<usize> = (0..1 << bits).map(reversed).filter(|&shard| shard < count).collect();
        let mut sizes = vec![rows / count; count];
        for &shard in &order[..rows % count] {
            sizes[shard] += 1;
        }
        let mut starts = vec![0];
        for size in sizes {
            starts.push(starts[starts.len() - 1] + size);
        }
        Shards { rows, order, starts }
    }

    /// How many shards.
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// All rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The shards of a rank: `⌊rS/R⌋ … ⌊(r+1)S/R⌋ − 1`.
    pub fn owned(&self, rank: usize, ranks: usize) -> Range<usize> {
        rank * self.count() / ranks..(rank + 1) * self.count() / ranks
    }

    /// The rows of some neighbouring shards: they are contiguous.
    pub fn rows_of(&self, shards: Range<usize>) -> Range<usize> {
        self.starts[shards.start]..self.starts[shards.end]
    }

    /// Steps of an epoch with this global batch.
    pub fn steps(&self, batch: usize) -> usize {
        self.rows.div_ceil(batch)
    }

    /// Rows of step `step` of an epoch, over all shards: the last step may be short.
    pub fn rows_of_step(&self, step: usize, batch: usize) -> usize {
        batch.min(self.rows - step * batch)
    }

    /// How many rows of each shard stand in step `step` of an epoch, into `rows`. Allocates nothing once it is large
    /// enough.
    pub fn rows_of_each(&self, step: usize, batch: usize, rows: &mut Vec<usize>) {
        let positions = step * batch..((step + 1) * batch).min(self.rows);
        rows.clear();
        rows.resize(self.count(), 0);
        for (slot, &shard) in self.order.iter().enumerate() {
            rows[shard] = self.turns(slot, &positions).len();
        }
    }

    /// Steps of an epoch among which are all that differ in the rows of their shards: positions repeat, but for the last step.
    pub fn unlike_steps(&self, batch: usize) -> impl Iterator<Item = usize> + use<> {
        let gcd = |a: usize, b: usize| {
            std::iter::successors(Some((a, b)), |&(a, b)| (b > 0).then(|| (b, a % b))).map(|(a, _)| a).last()
        };
        let (steps, count) = (self.steps(batch), self.count());
        let period = count / gcd(count, batch).unwrap_or(1).max(1);
        (0..steps.min(period)).chain(steps.checked_sub(1).filter(|&last| last >= period))
    }

    /// Which rows of shard `order[slot]` (in its permuted order) stand in positions `positions` of the epoch.
    fn turns(&self, slot: usize, positions: &Range<usize>) -> Range<usize> {
        let turn = |position: usize| position.saturating_sub(slot).div_ceil(self.count());
        turn(positions.start)..turn(positions.end)
    }
}

/// The order in which one epoch visits the rows of some neighbouring shards.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    shards: Range<usize>,
    /// Place of each owned shard in σ.
    slots: Vec<usize>,
    /// Row numbers of the split, shard after shard, each shard permuted.
    permuted: Vec<u32>,
}

impl EpochOrder {
    /// The order of `epoch` (from 0) for the shards that a rank owns.
    pub fn new(shards: &Shards, owned: Range<usize>, shuffle: &Shuffle, epoch: usize) -> EpochOrder {
        let mut permuted = Vec::with_capacity(shards.rows_of(owned.clone()).len());
        for shard in owned.clone() {
            shuffle.permute(shards.rows_of(shard..shard + 1), epoch, shard, &mut permuted);
        }
        let slot = |shard| shards.order.iter().position(|&s| s == shard).unwrap_or_default();
        EpochOrder { slots: owned.clone().map(slot).collect(), shards: owned, permuted }
    }

    /// Puts the owned rows of step `step` into `rows`, shard after shard in the order of their numbers. Allocates nothing
    /// once it is large enough.
    pub fn step(&self, shards: &Shards, step: usize, batch: usize, rows: &mut Vec<u32>) {
        rows.clear();
        let positions = step * batch..((step + 1) * batch).min(shards.rows());
        let first = shards.rows_of(self.shards.clone()).start;
        for (shard, &slot) in self.shards.clone().zip(&self.slots) {
            let start = shards.rows_of(shard..shard + 1).start - first;
            let turns = shards.turns(slot, &positions);
            rows.extend_from_slice(&self.permuted[start + turns.start..start + turns.end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::rng::{Purpose, Stream};

    fn epoch_of(n: usize, b: usize, s: usize, ranks: usize, epoch: usize) -> Vec<Vec<Vec<u32>>> {
        let shards = Shards::new(n, s);
        (0..ranks)
            .map(|rank| {
                let order = EpochOrder::new(&shards, shards.owned(rank, ranks), &Shuffle::whole(1), epoch);
                let step = |t| {
                    let (mut rows, mut counts) = (Vec::new(), Vec::new());
                    order.step(&shards, t, b, &mut rows);
                    shards.rows_of_each(t, b, &mut counts);
                    assert_eq!(counts[shards.owned(rank, ranks)].iter().sum::<usize>(), rows.len());
                    rows
                };
                (0..shards.steps(b)).map(step).collect()
            })
            .collect()
    }

    #[test]
    fn every_row_is_visited_once_an_epoch_whatever_the_sizes() {
        for (n, b, s) in [(100, 16, 8), (37, 7, 5), (5, 2, 8), (1, 1, 1), (64, 64, 8), (1000, 13, 13), (9, 9, 3)] {
            let alone = epoch_of(n, b, s, 1, 2);
            for ranks in 1..=s {
                let split = epoch_of(n, b, s, ranks, 2);
                for t in 0..n.div_ceil(b) {
                    let joined: Vec<u32> = split.iter().flat_map(|steps| steps[t].clone()).collect();
                    assert_eq!(joined, alone[0][t], "the same rows in the same order: {n} {b} {s} {ranks}");
                    assert_eq!(joined.len(), b.min(n - t * b));
                }
            }
            let mut all: Vec<u32> = alone[0].concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..n as u32), "{n} {b} {s}");
        }
    }

    #[test]
    fn positions_spread_evenly_over_any_contiguous_ownership() {
        for ranks in [2, 4, 8] {
            for steps in epoch_of(1024, 16, 8, ranks, 0) {
                assert!(steps.iter().all(|rows| rows.len() == 16 / ranks));
            }
        }
        assert_eq!(Shards::new(6, 6).order, [0, 4, 2, 1, 5, 3]);
    }

    #[test]
    fn an_epoch_follows_the_definition_position_by_position() {
        let (n, s) = (37, 5);
        let shards = Shards::new(n, s);
        let sizes: Vec<usize> = (0..s).map(|shard| shards.rows_of(shard..shard + 1).len()).collect();
        assert_eq!(shards.order, [0, 4, 2, 1, 3]);
        assert_eq!(sizes, [8, 7, 7, 7, 8], "37 = 5 * 7 + 2: shards 0 and 4 hold one more");
        for p in 0..n {
            let shard = shards.order[p % s];
            let rows = shards.rows_of(shard..shard + 1);
            let place = Stream::new(1, Purpose::Shuffle, 0, 0, shard).permutation(rows.len())[p / s];
            assert_eq!(epoch_of(n, 1, s, 1, 0)[0][p], [rows.start as u32 + place]);
        }
    }
}
