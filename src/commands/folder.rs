//! What a folder holds that was named where a run, or its model, is wanted.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::train::member_folder;

/// Whether `path` may be a run's folder: it is not one of several runs, an ensemble or a sweep.
///
/// # Errors
/// When it is; a run in it is named.
pub fn one_run(path: &Path) -> Result<()> {
    if member_folder(path, 0).is_dir() {
        let fix = format!("name a member: {}", member_folder(path, 0).display());
        return Err(several(path, "an ensemble's folder", fix));
    }
    not_a_sweep(path)
}

/// Whether `path` is not a sweep's folder.
///
/// # Errors
/// When it is; a run in it is named.
pub fn not_a_sweep(path: &Path) -> Result<()> {
    if path.join("config.toml").exists() {
        return Ok(());
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut runs: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|run| run.join("config.toml").exists()).collect();
    runs.sort();
    match runs.first() {
        None => Ok(()),
        Some(run) => Err(several(
            path,
            "a folder of several runs, as a sweep makes it",
            format!("name one of them: {}", run.display()),
        )),
    }
}

fn several(path: &Path, found: &str, fix: String) -> Error {
    Error::invalid(path.display().to_string(), found, "the folder of one run", fix)
}
