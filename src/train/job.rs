//! A run among many.

use std::path::PathBuf;

use super::origin::Origin;
use crate::config::RunConfig;

/// A run that is to be dealt out.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it is called.
    pub name: String,
    /// Its settings.
    pub config: RunConfig,
    /// Where it begins.
    pub origin: Origin,
    /// Where it works.
    pub folder: PathBuf,
}
