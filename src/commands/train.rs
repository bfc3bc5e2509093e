//! `glasses train`, and `glasses` alone.

use std::path::PathBuf;

use crate::comm::Communicator;
use crate::config::Settings;
use crate::error::Result;
use crate::train;

/// Options of `glasses train`.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// Settings as TOML; its keys are the options below, and a flag wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// What a flag said.
    #[command(flatten)]
    pub settings: Settings,
}

/// Collective: trains.
///
/// # Errors
/// The same one on every rank.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    let file = options.config.as_deref().map_or(Ok(Settings::default()), Settings::read);
    let config = crate::comm::agree(comm, file.and_then(|file| options.settings.clone().lower(file, comm.size())))?;
    train::run(&config, comm)?;
    Ok(())
}
