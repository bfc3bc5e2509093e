//! A rank's part of a split: the rows of its shards, read once and kept.

use std::hash::Hasher;
use std::ops::Range;

use twox_hash::XxHash3_64;

use super::{Dataset, Normalizer, RowBlock, Shards, Split, Values};
use crate::error::Result;
use crate::kernels::rng::{Purpose, Stream};
use crate::position;

/// The rows of the shards that one rank owns.
#[derive(Debug)]
pub struct Part {
    /// How the whole split is cut.
    pub shards: Shards,
    /// The shards of this rank.
    pub owned: Range<usize>,
    block: RowBlock,
    row_len: usize,
}

impl Part {
    /// Reads the rows of rank `rank` of `ranks`.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn read(dataset: &Dataset, split: Split, shards: usize, rank: usize, ranks: usize) -> Result<Part> {
        let shards = Shards::new(dataset.rows(split), shards);
        let owned = shards.owned(rank, ranks);
        let block = dataset.read(split, shards.rows_of(owned.clone()))?;
        Ok(Part { shards, owned, block, row_len: dataset.shape.len() })
    }

    /// As [`Part::read`], of a split of as many rows that are drawn from all its rows, with replacement; `seed` decides which.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn draw(
        dataset: &Dataset,
        split: Split,
        shards: usize,
        (rank, ranks): (usize, usize),
        seed: u64,
    ) -> Result<Part> {
        let (rows, row_len) = (dataset.rows(split), dataset.shape.len());
        let shards = Shards::new(rows, shards);
        let owned = shards.owned(rank, ranks);
        let range = shards.rows_of(owned.clone());
        let stream = Stream::new(seed, Purpose::Bootstrap, 0, 0, 0);
        let block = dataset.pick(split, range, |place| stream.below(place, rows))?;
        Ok(Part { shards, owned, block, row_len })
    }

    /// Rows that are in memory, all of their split, as the one rank of a run has them.
    pub fn whole(block: RowBlock, row_len: usize, shards: usize) -> Part {
        let shards = Shards::new(block.labels.len(), shards);
        let owned = shards.owned(0, 1);
        Part { shards, owned, block, row_len }
    }

    /// Labels of the rows in this part.
    pub fn labels(&self) -> &[u32] {
        &self.block.labels
    }

    /// Labels of consecutive rows (numbers in the split; all in this part).
    pub fn labels_of(&self, rows: Range<usize>) -> &[u32] {
        let first = self.block.range.start;
        &self.block.labels[rows.start - first..rows.end - first]
    }

    /// The values in this part.
    pub fn values(&self) -> &Values {
        &self.block.values
    }

    /// Rows of one owned shard.
    pub fn rows_of(&self, shard: usize) -> Range<usize> {
        self.shards.rows_of(shard..shard + 1)
    }

    /// A digest of the rows of one owned shard and their labels: XXH3, 64 bits.
    pub fn digest(&self, shard: usize) -> u64 {
        position::tick();
        let first = self.shards.rows_of(self.owned.clone()).start;
        let rows = self.rows_of(shard);
        let rows = rows.start - first..rows.end - first;
        let mut hash = XxHash3_64::default();
        let values = rows.start * self.row_len..rows.end * self.row_len;
        match &self.block.values {
            Values::Images(pixels) => hash.write(&pixels[values]),
            Values::Features(features) => hash.write(bytemuck::cast_slice(&features[values])),
        }
        hash.write(bytemuck::cast_slice(&self.block.labels[rows]));
        hash.finish()
    }

    /// Prepares `rows` (numbers in the split; all in this part) into `input [rows, h, w, c]` and their `labels`.
    pub fn load(&self, rows: &[u32], normalizer: &Normalizer, input: &mut [f32], labels: &mut Vec<u32>) {
        labels.clear();
        for (&row, output) in rows.iter().zip(input.chunks_exact_mut(self.row_len)) {
            self.prepare_row(row as usize, normalizer, output);
            labels.push(self.block.labels[row as usize - self.block.range.start]);
        }
    }

    /// Prepares consecutive rows (numbers in the split; all in this part) into `input [rows, h, w, c]`.
    pub fn prepare(&self, rows: Range<usize>, normalizer: &Normalizer, input: &mut [f32]) {
        for (row, output) in rows.zip(input.chunks_exact_mut(self.row_len)) {
            self.prepare_row(row, normalizer, output);
        }
    }

    fn prepare_row(&self, row: usize, normalizer: &Normalizer, output: &mut [f32]) {
        position::tick();
        let place = row - self.block.range.start;
        let values = place * self.row_len..(place + 1) * self.row_len;
        match &self.block.values {
            Values::Images(pixels) => normalizer.pixels(&pixels[values], output),
            Values::Features(features) => normalizer.features(&features[values], output),
        }
    }
}
