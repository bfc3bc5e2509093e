//! `glasses ingest`: turns pictures or tables into a dataset.

use std::path::PathBuf;

use crate::comm::Communicator;
use crate::error::Result;

/// Options of `glasses ingest`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The dataset to write
    #[arg(long, value_name = "FILE.h5")]
    pub out: PathBuf,
}

/// Collective: the ranks share the decoding, the root writes.
///
/// # Errors
/// When an option does not make sense or the file cannot be written.
pub fn run(_options: &Options, _comm: &dyn Communicator) -> Result<()> {
    Ok(())
}
