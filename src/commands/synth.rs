//! `glasses synth`: makes a dataset out of nothing.

use std::path::PathBuf;

use crate::comm::Communicator;
use crate::error::Result;

/// Options of `glasses synth`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The dataset to write
    #[arg(long, value_name = "FILE.h5")]
    pub out: PathBuf,
}

/// Collective: the root writes, the others wait.
///
/// # Errors
/// When an option does not make sense or the file cannot be written.
pub fn run(_options: &Options, _comm: &dyn Communicator) -> Result<()> {
    Ok(())
}
