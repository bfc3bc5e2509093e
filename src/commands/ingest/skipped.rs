//! What `--skip-bad` leaves out: the first of it on the terminal, all of it in a file beside the dataset.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result, list};
use crate::files::temporary_beside;

/// The file that lists what the dataset `out` leaves out.
pub fn place(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".skipped");
    name.into()
}

/// The list, on the disk but without its name; none where nothing is left out.
///
/// # Errors
/// When the folder or the disk refuses it.
pub fn write(out: &Path, bad: &[String]) -> Result<Option<NamedTempFile>> {
    if bad.is_empty() {
        return Ok(None);
    }
    let place = place(out);
    let mut file = temporary_beside(&place)?;
    let lines: String = bad.iter().map(|line| line.replace(['\n', '\r'], " ") + "\n").collect();
    let written = file.write_all(lines.as_bytes()).and_then(|()| file.as_file().sync_all());
    written.map_err(Error::io("write", &place))?;
    Ok(Some(file))
}

/// Gives the list its name, beside a dataset that has its own, and says what is in it; an older list goes.
///
/// # Errors
/// When the folder refuses.
pub fn finish(out: &Path, file: Option<NamedTempFile>, bad: &[String]) -> Result<()> {
    let place = place(out);
    let Some(file) = file else {
        return match std::fs::remove_file(&place) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", &place)(e)),
            _ => Ok(()),
        };
    };
    file.persist(&place).map_err(|e| Error::io("name", &place)(e.error))?;
    eprintln!("note: {}", list(&format!("{} bad or missing, left out; {} lists all", bad.len(), place.display()), bad));
    Ok(())
}
