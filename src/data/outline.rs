//! What tells a dataset from another, from a little of it: to see at once whether all ranks have the same one.

use std::fmt::Write;
use std::hash::Hasher;

use twox_hash::XxHash3_64;

use super::{Dataset, Split, Values};
use crate::error::Result;

/// Rows of a split that are looked at whole.
const ROWS: usize = 16;

impl Dataset {
    /// Shape, classes and origin; of each split the rows of each class, and a digest of some rows from its first to its last. A line each.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn outline(&self) -> Result<String> {
        let (shape, classes, origin) = (self.shape, &self.classes, self.origin.as_deref().unwrap_or("none"));
        let mut text = format!("rows of {shape}\nclasses {classes:?}\norigin {origin}\n");
        for split in Split::ALL {
            let rows = self.rows(split);
            let _ = writeln!(text, "{rows} {} rows, of each class {:?}", split.name(), self.count_labels(split)?);
            let mut hash = XxHash3_64::default();
            for row in (0..rows.min(ROWS)).map(|i| i * (rows - 1) / (rows.min(ROWS) - 1).max(1)) {
                let block = self.read(split, row..row + 1)?;
                match &block.values {
                    Values::Images(pixels) => hash.write(pixels),
                    Values::Features(values) => hash.write(bytemuck::cast_slice(values)),
                }
                block.labels.iter().for_each(|&label| hash.write_u32(label));
            }
            let _ = writeln!(text, "{} rows with digest {:016x}", split.name(), hash.finish());
        }
        Ok(text)
    }
}
