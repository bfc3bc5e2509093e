//! What `--skip-bad` leaves out: the first of it on the terminal, all of it in a file beside the dataset.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result, list};
use crate::files::{Whole, check_replaceable};
use crate::report::note;

/// The file that lists what the dataset `out` leaves out.
pub fn place(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".skipped");
    name.into()
}

/// The list, written but without its name; none where nothing is left out.
///
/// # Errors
/// When the folder or the disk refuses it.
pub fn write(out: &Path, bad: &[String]) -> Result<Option<Whole>> {
    if bad.is_empty() {
        return Ok(None);
    }
    let place = place(out);
    check_replaceable(&place)?;
    let mut file = Whole::begin(&place)?;
    let lines: String = bad.iter().map(|line| line.replace(['\n', '\r'], " ") + "\n").collect();
    file.write_all(lines.as_bytes()).map_err(Error::io("write", &place))?;
    Ok(Some(file))
}

/// Gives the list its name, beside a dataset that has its own, and says what is in it; an older list goes.
///
/// # Errors
/// When the folder refuses.
pub fn finish(out: &Path, file: Option<Whole>, bad: &[String]) -> Result<()> {
    let place = place(out);
    let Some(file) = file else {
        return if place.is_file() {
            std::fs::remove_file(&place).map_err(Error::io("remove", &place))
        } else {
            Ok(())
        };
    };
    file.finish().map_err(Error::io("write", &place))?;
    note(&list(&format!("{} bad or missing, left out; {} lists all", bad.len(), place.display()), bad));
    Ok(())
}
