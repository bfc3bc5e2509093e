//! Opens HDF5 files that others may be writing.

use std::fs::{File, TryLockError};
use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::picture::ends_like_picture;
use crate::error::{Error, Result};
use crate::files;

/// An HDF5 file that is open for reading only. As long as this lives, no other program opens it for writing where its file system has
/// locks.
#[derive(Debug)]
pub struct OpenFile {
    file: hdf5::File,
    _lock: Option<File>,
}

impl Deref for OpenFile {
    type Target = hdf5::File;

    fn deref(&self) -> &hdf5::File {
        &self.file
    }
}

/// Whether files that are read are locked: not where the user's environment says so.
static LOCKS: AtomicBool = AtomicBool::new(true);

/// What HDF5 shall find in the environment. NFS and Lustre may refuse the locks that HDF5 takes even to read, and older libraries
/// have no call for "where there are any": so [`lock`] takes the same lock, and HDF5 none; who sets the variable decides otherwise.
///
/// And no file may have HDF5 load a plug-in: `::` is its word for none.
///
/// # Safety
/// There must be no other thread yet: it could read the environment.
#[allow(unsafe_code)]
pub unsafe fn set_up_hdf5() {
    const VARIABLE: &str = "HDF5_USE_FILE_LOCKING";
    let own = std::env::var(VARIABLE).ok();
    LOCKS.store(!matches!(own.as_deref(), Some("FALSE" | "0")), Ordering::Relaxed);
    for (name, value) in [(VARIABLE, "FALSE"), ("HDF5_PLUGIN_PRELOAD", "::")] {
        if std::env::var_os(name).is_none() {
            // SAFETY: the caller's promise.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

/// The lock that HDF5 takes to read a file; nothing where its file system has none.
///
/// # Errors
/// When another program has the file open for writing, or it cannot be read.
pub fn lock(path: &Path) -> Result<Option<File>> {
    if !LOCKS.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let file = files::open(path)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(being_written(path, "a file that another program has open for writing")),
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

fn being_written(path: &Path, found: impl Into<String>) -> Error {
    let fix =
        "wait for that program, or close it; what cannot change any more is read with HDF5_USE_FILE_LOCKING=FALSE";
    Error::invalid(path.display().to_string(), found, "one that no other program is writing", fix)
}

/// The dataset's name for a source.
pub fn h5_of(source: &Path) -> String {
    let name = source.file_stem().unwrap_or_default().to_string_lossy();
    format!("{}.h5", if name.is_empty() || name == ".." { "data" } else { &name })
}

/// How pictures or a table become the dataset that was wanted, where `path` is one of these by its name.
fn ingested(path: &Path) -> Option<String> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    let (what, source) = match ending.as_str() {
        _ if path.join("config.toml").exists() => return None,
        _ if path.is_dir() => ("a folder of pictures", path),
        "csv" | "tsv" | "xlsx" | "txt" => ("a table", path),
        _ if ends_like_picture(path) => {
            ("a folder of pictures", path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new(".")))
        }
        _ => return None,
    };
    let to = h5_of(source);
    Some(format!(
        "{what} becomes a dataset first: glasses ingest {} --out {to}; then it is named: {to}",
        source.display()
    ))
}

/// Opens an HDF5 file for reading only.
///
/// # Errors
/// When it is none, is cut short, or another program writes it.
pub fn open(path: &Path) -> Result<OpenFile> {
    let place = path.display().to_string();
    files::check_regular(path)?;
    if std::fs::metadata(path).map_err(Error::io("read", path))?.is_dir() {
        let fix = match ingested(path) {
            Some(made) => format!("name the file itself; {made}"),
            None => "name the file itself".to_owned(),
        };
        return Err(Error::invalid(place, "a folder", "an HDF5 file", fix));
    }
    let lock = lock(path)?;
    let file = hdf5::File::open(path).map_err(|e| {
        let reason = e.to_string().replace('\n', " ");
        let found = format!("a file that HDF5 cannot open ({reason})");
        if reason.contains("lock file") {
            return being_written(path, found);
        }
        let (expected, fix) = if reason.contains("h5clear") || reason.contains("already open for write") {
            // No other program has it: its lock would have been found.
            let fix = format!("if no program is writing it any more, one was killed while it did: h5clear -s {place}");
            ("one that was closed by whoever wrote it", fix)
        } else {
            let again = "make it again with `glasses ingest` or `glasses synth`, or copy it again if it was cut short";
            ("a complete HDF5 file", ingested(path).unwrap_or_else(|| again.to_owned()))
        };
        Error::invalid(&place, found, expected, fix)
    })?;
    Ok(OpenFile { file, _lock: lock })
}
