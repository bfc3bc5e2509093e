//! A run's checkpoints: `step-000000200.h5` and its like in one folder.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::state::{State, read_state};
use crate::error::{Error, Result};
use crate::files::is_temporary;

/// The checkpoints in a folder. Whoever changes them holds the run's lock.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Those in `folder`, which need not exist.
    pub fn new(folder: impl Into<PathBuf>) -> Checkpoints {
        Checkpoints { folder: folder.into() }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of the checkpoint after `step` steps.
    pub fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step:09}.h5"))
    }

    /// After how many steps there are checkpoints, in rising order. Files of other names are none.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn steps(&self) -> Result<Vec<usize>> {
        let mut steps: Vec<usize> = self.names()?.iter().filter_map(|name| self.step(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Removes the oldest, so that `keep` are left, and what killed processes left half-written.
    ///
    /// # Errors
    /// When the folder cannot be read, or a file not be removed; the others are.
    pub fn prune(&self, keep: usize) -> Result<()> {
        let (steps, names) = (self.steps()?, self.names()?);
        let old = steps[..steps.len().saturating_sub(keep)].iter().map(|&step| self.path(step));
        let parts = names.iter().filter(|name| is_temporary(name)).map(|name| self.folder.join(name));
        old.chain(parts).map(|path| remove(&path)).fold(Ok(()), Result::and)
    }

    /// Removes the checkpoints of more than `step` steps: a run that went back to `step` makes others, and `prune` and
    /// the next start would take the old ones for newer.
    ///
    /// # Errors
    /// As [`Checkpoints::prune`].
    pub fn remove_after(&self, step: usize) -> Result<()> {
        self.steps()?.into_iter().filter(|&other| other > step).try_for_each(|step| remove(&self.path(step)))
    }

    /// The newest one that is whole, of at most `at_most` steps, with its steps. `warn` is given the reason why any
    /// newer one was not taken.
    pub fn newest_whole(&self, at_most: Option<usize>, warn: &mut dyn FnMut(&Error)) -> Option<(usize, State)> {
        let steps = self.steps().inspect_err(|e| warn(e)).unwrap_or_default();
        let steps = steps.into_iter().rev().filter(|&step| at_most.is_none_or(|most| step <= most));
        let mut whole =
            steps.filter_map(|step| Some((step, read_state(&self.path(step)).inspect_err(|e| warn(e)).ok()?)));
        whole.next()
    }

    /// The names in the folder that are text.
    fn names(&self) -> Result<Vec<String>> {
        let failed = |e| Error::io("read the folder", &self.folder)(e);
        let entries = match std::fs::read_dir(&self.folder) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string().ok()));
        names.filter_map(|name| name.transpose()).collect::<std::io::Result<_>>().map_err(failed)
    }

    fn step(&self, name: &str) -> Option<usize> {
        let step = name.strip_prefix("step-")?.strip_suffix(".h5")?.parse().ok()?;
        self.path(step).ends_with(name).then_some(step)
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io("remove", path)),
    }
}
