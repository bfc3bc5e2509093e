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

    /// After how many steps there are checkpoints, in rising order. Files of other names are none, nor are folders.
    ///
    /// # Errors
    /// When the folder is there and cannot be read.
    pub fn steps(&self) -> Result<Vec<usize>> {
        Ok(self.named()?.into_iter().filter(|&step| !self.path(step).is_dir()).collect())
    }

    /// The steps in names that checkpoints have, in rising order, whatever they are the names of.
    fn named(&self) -> Result<Vec<usize>> {
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
    /// the next start would take the old ones for newer. What is no damaged checkpoint but something else under such a name (a
    /// folder, the copy of another checkpoint) gets another name: which ones did.
    ///
    /// # Errors
    /// As [`Checkpoints::prune`].
    pub fn remove_after(&self, step: usize) -> Result<Vec<PathBuf>> {
        let mut aside = Vec::new();
        for path in self.named()?.into_iter().filter(|&other| other > step).map(|step| self.path(step)) {
            if path.is_dir() || read_state(&path).is_ok() {
                aside.push(put_aside(&path)?);
            } else {
                remove(&path)?;
            }
        }
        Ok(aside)
    }

    /// The newest one that is whole, of at most `at_most` steps, with its steps. `warn` is given the reason why any
    /// newer one was not taken.
    pub fn newest_whole(&self, at_most: Option<usize>, warn: &mut dyn FnMut(&Error)) -> Option<(usize, State)> {
        let steps = self.named().inspect_err(|e| warn(e)).unwrap_or_default();
        let steps = steps.into_iter().rev().filter(|&step| at_most.is_none_or(|most| step <= most));
        let mut whole = steps.filter_map(|step| Some((step, read(&self.path(step)).inspect_err(|e| warn(e)).ok()?)));
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

fn read(path: &Path) -> Result<State> {
    if path.is_dir() {
        let place = format!("checkpoint {}", path.display());
        return Err(Error::invalid(place, "a folder", "a file that training wrote", "give the folder another name"));
    }
    read_state(path)
}

/// Gives what stands there a name that no checkpoint has.
fn put_aside(path: &Path) -> Result<PathBuf> {
    let name = |number: usize| path.with_extension(format!("h5.unused{number}"));
    let free = (1..).map(name).find(|name| name.symlink_metadata().is_err()).unwrap_or_else(|| name(0));
    std::fs::rename(path, &free).map_err(Error::io("rename", path))?;
    Ok(free)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(Error::io("remove", path)),
    }
}
