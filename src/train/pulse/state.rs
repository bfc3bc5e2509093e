//! What this process knows of its run, for the thread that watches and for the panic that ends it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// In the run's folder: the lines of runs that died.
pub(super) const FAILURES: &str = "failures.log";

/// This process is about to end, and says why itself.
pub(super) static DYING: AtomicBool = AtomicBool::new(false);
/// The others have been told.
pub(super) static TOLD: AtomicBool = AtomicBool::new(false);
/// Seconds after which a stuck rank is given up, if ever.
pub(super) static STALL: AtomicU64 = AtomicU64::new(60);
/// The folder of the run that goes on in this process, and whether this process writes there.
static RUN: Mutex<Option<(String, bool)>> = Mutex::new(None);

/// Where the run is one of several: the command that goes on with them, and their folder.
static WHOLE: Mutex<Option<(String, PathBuf)>> = Mutex::new(None);

/// From now on ranks that are stuck are given up after so many seconds; 0: never.
pub fn give_up_after(seconds: u64) {
    STALL.store(seconds, Ordering::Relaxed);
}

/// The folder of the run that goes on here: a dying run leaves its line there, too, and who `writes` there clears up.
pub fn in_folder(path: &Path, writes: bool) {
    *RUN.lock().unwrap_or_else(PoisonError::into_inner) = Some((path.display().to_string(), writes));
}

/// While this is held, runs are parts of what one command makes.
pub struct CommandScope(Option<(String, PathBuf)>);

/// Runs are parts of what `command` makes in `folder`, until the result is dropped.
#[must_use]
pub fn part_of(command: &str, folder: &Path) -> CommandScope {
    let whole = Some((command.to_owned(), folder.to_owned()));
    CommandScope(std::mem::replace(&mut *WHOLE.lock().unwrap_or_else(PoisonError::into_inner), whole))
}

impl Drop for CommandScope {
    fn drop(&mut self) {
        *WHOLE.lock().unwrap_or_else(PoisonError::into_inner) = self.0.take();
    }
}

pub(super) fn whole() -> Option<(String, PathBuf)> {
    WHOLE.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The command that goes on with the run in the folder `run`.
pub fn again(run: &str) -> String {
    whole().map_or_else(|| format!("`glasses train --resume {run}`"), |(command, _)| command)
}

/// Where the lines of runs that died are kept, if a run goes on here: its folder, or the one of all its like.
pub(super) fn failures() -> Option<PathBuf> {
    let folder = whole().map(|(_, folder)| folder).or_else(|| run().map(|(own, _)| own.into()));
    Some(folder?.join(FAILURES))
}

/// As [`in_folder`] said, if it has.
pub(super) fn run() -> Option<(String, bool)> {
    RUN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
