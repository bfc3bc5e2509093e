//! Rows of the global batch.

use crate::config::{Batch, RunConfig};
use crate::error::{Error, Result};
use crate::plural::plural;

/// Rows of the global batch where nobody says it and there are as many.
pub const BATCH: usize = 16;

/// Rows of the global batch where nobody says it, of `rows` training rows.
pub fn default_batch(rows: usize) -> usize {
    rows.min(BATCH)
}

/// Rows of the global batch, of `rows` training rows.
pub fn batch_of(config: &RunConfig, rows: usize) -> Result<usize> {
    match config.batch {
        None => Ok(default_batch(rows)),
        Some(Batch::Full) => Ok(rows),
        Some(Batch::Rows(batch)) if batch <= rows => Ok(batch),
        Some(Batch::Rows(batch)) => Err(Error::invalid(
            "--batch",
            format!("{batch} rows, more than the {} of {}", plural(rows, "training row"), config.data.display()),
            format!("at most {rows}"),
            "pass --batch full for plain gradient descent, or a smaller number",
        )),
    }
}
