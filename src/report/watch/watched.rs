//! All that is shown of a run.

use std::path::Path;

use crate::error::Result;
use crate::report::folder::RunFiles;
use crate::report::live::{Live, now};

/// A checkpoint's steps, and how long ago it was written, in seconds.
type Checkpoint = (usize, f64);

/// All that is shown of a run.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// The run's files.
    pub files: RunFiles,
    /// Where it stands; nothing where it is over, or has not made a step.
    pub live: Option<Live>,
    /// The newest.
    pub checkpoint: Option<Checkpoint>,
    /// When all of this was read, in seconds since 1970.
    pub read: f64,
    /// Whether `NO_COLOR` is set.
    pub plain: bool,
}

impl Watched {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// As [`RunFiles::read`].
    pub fn read(path: &Path) -> Result<Watched> {
        Ok(Watched {
            files: RunFiles::read(path)?,
            live: Live::read(path),
            checkpoint: newest_checkpoint(&path.join("checkpoints")),
            read: now(),
            plain: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        })
    }

    /// Seconds since the run said something.
    pub fn silence(&self) -> Option<f64> {
        self.live.as_ref().map(|live| (self.read - live.written).max(0.0))
    }
}

fn newest_checkpoint(folder: &Path) -> Option<Checkpoint> {
    let steps = |name: &str| name.strip_prefix("step-")?.strip_suffix(".h5")?.parse::<usize>().ok();
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let (step, entry) = entries
        .filter(|e| e.path().is_file())
        .filter_map(|e| Some((steps(e.file_name().to_str()?)?, e)))
        .max_by_key(|(step, _)| *step)?;
    let age = entry.metadata().and_then(|data| data.modified()).ok()?.elapsed();
    Some((step, age.map_or(0.0, |age| age.as_secs_f64())))
}
