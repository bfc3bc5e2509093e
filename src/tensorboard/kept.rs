//! Event files of a run that goes on: what it will say again is taken out. TensorBoard's fast reader (rustboard) looks at no session's
//! start: a point stays where no later one stands at its step or before.

use std::path::{Path, PathBuf};

use prost::Message;

use super::proto::Event;
use super::{PREFIX, masked_checksum};
use crate::error::{Error, Result};
use crate::files::{self, write_whole};

/// Takes out of the event files in `folder` events of steps that `keep` does not hold for, and what a killed process wrote of a
/// record. Files that have nothing of this stay as they are.
///
/// # Errors
/// When the folder or the disk refuses.
pub fn keep_steps(folder: &Path, keep: impl Fn(usize) -> bool) -> Result<()> {
    for path in event_files(folder)? {
        let bytes = files::read(&path)?;
        let kept: Vec<&[u8]> = records(&bytes).filter(|record| is_kept(record, &keep)).collect();
        if kept.iter().map(|record| record.len()).sum::<usize>() < bytes.len() {
            write_whole(&path, &kept.concat())?;
        }
    }
    Ok(())
}

fn event_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))?;
    let is_event_file = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) && path.is_file()
    };
    Ok(entries.flatten().map(|entry| entry.path()).filter(is_event_file).collect())
}

/// The whole records from the beginning on, each with its length and checksums.
fn records(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = rest.first_chunk::<8>()?;
        let end = usize::try_from(u64::from_le_bytes(*length)).ok()?.checked_add(16)?;
        let record = rest.get(..end)?;
        let whole = record[8..12] == masked_checksum(length) && record[end - 4..] == masked_checksum(event_of(record));
        rest = &rest[end..];
        whole.then_some(record)
    })
}

fn event_of(record: &[u8]) -> &[u8] {
    &record[12..record.len() - 4]
}

/// What says nothing of a step stays: the version, a session's start.
fn is_kept(record: &[u8], keep: &impl Fn(usize) -> bool) -> bool {
    Event::decode(event_of(record)).map_or(true, |event| event.summary.is_none() || keep(event.step as usize))
}
