//! Files that appear whole or not at all.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::iterator::Signals;
use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::signals;

/// Names of files that are not whole yet.
const PREFIX: &str = ".glasses-";
const SUFFIX: &str = ".part";

/// Where this process has begun files. Locked by whoever begins one, and for good by who gives them up.
static FOLDERS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The folder that `path` lies in; "." where it names none.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Refuses what is neither a file nor a folder, as a link to it is: a pipe may never be written to, and a device never ends.
///
/// # Errors
/// When it is that, or nothing.
pub fn check_regular(path: &Path) -> Result<()> {
    let data = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if data.is_file() || data.is_dir() {
        return Ok(());
    }
    let fix = "write what it gives to a file, and name that";
    Err(Error::invalid(path.display().to_string(), NOT_REGULAR, "a regular file", fix))
}

/// What is said of such.
pub const NOT_REGULAR: &str = "no regular file: a pipe, a socket or a device";

/// Opens a regular file for reading: what users name is opened by this.
///
/// # Errors
/// As [`check_regular`], and when it may not be read.
pub fn open(path: &Path) -> Result<File> {
    check_regular(path)?;
    File::open(path).map_err(Error::io("read", path))
}

/// All bytes of a regular file.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> Result<Vec<u8>> {
    check_regular(path)?;
    std::fs::read(path).map_err(Error::io("read", path))
}

/// The text of a regular file.
///
/// # Errors
/// As [`open`], and when it is not UTF-8.
pub fn read_text(path: &Path) -> Result<String> {
    check_regular(path)?;
    std::fs::read_to_string(path).map_err(Error::io("read", path))
}

/// A file beside `path` that vanishes unless it is given a name. Readable by whoever the umask allows.
///
/// # Errors
/// When the folder refuses it.
pub fn temporary_beside(path: &Path) -> Result<NamedTempFile> {
    let mut folders = hold();
    folders.insert(folder_of(path).to_owned());
    let (prefix, mut builder) = (own_prefix(), tempfile::Builder::new());
    builder.prefix(&prefix).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(path)).map_err(Error::io("create a file in", folder_of(path)))
}

/// While the result lives, this process does not give up its files: for who creates one by its name. Where they are given up,
/// this does not return; the process ends.
pub fn hold() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a file of this name is one of [`temporary_beside`]: while nobody writes, a killed process left it.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// How this process' files begin that are not whole yet.
fn own_prefix() -> String {
    format!("{PREFIX}{}-", std::process::id())
}

/// This process ends: it begins no more files, and those that it has begun are removed; all of them in `run`, the folder that is
/// its own. Whoever would begin one waits for the end.
pub fn give_up(run: Option<&Path>) {
    let folders = hold();
    run.into_iter().for_each(remove_temporaries);
    let own = own_prefix();
    for folder in folders.iter() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| is_temporary(name) && name.starts_with(&own)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
    std::mem::forget(folders);
}

/// From now on signals that ask to end ([`signals::requests`]) end this process as they do by themselves, but files that are not whole
/// yet go with it.
///
/// # Errors
/// When the system refuses.
pub fn give_up_at_signals() -> Result<()> {
    let listen = || {
        let requests = signals::requests();
        let mut signals = Signals::new(&requests)?;
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in signals.forever() {
                give_up(None);
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        })?;
        signals::unblock(&requests)
    };
    listen().map_err(Error::io("listen to signals in", "this process"))
}

/// While it lives, another process waits for the end of this one.
pub struct Sweeper(Option<Child>);

/// However this process ends, files in `folder` that are not whole yet go with it: Open MPI kills a millisecond after it has asked to
/// end. Where there is no shell, only [`give_up_at_signals`] sees to that.
#[must_use]
pub fn swept(folder: &Path) -> Sweeper {
    let script = format!(r#"trap "" HUP INT TERM USR1 USR2 XCPU; read -r _; rm -f -- "$0/{}"*{SUFFIX}"#, own_prefix());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(script).arg(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // A group of its own: a launcher kills the others' whole.
    Sweeper(shell.process_group(0).spawn().ok())
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some(mut shell) = self.0.take() {
            drop(shell.stdin.take());
            let _ = shell.wait();
        }
    }
}

/// Removes files that are not whole yet from a folder and the folders in it; for who is alone in there.
pub fn remove_temporaries(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_temporary) {
            let _ = std::fs::remove_file(entry.path());
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_temporaries(&entry.path());
        }
    }
}

/// Writes `bytes` beside `path`, syncs them and renames: readers see the old file or the new one, never a part.
///
/// # Errors
/// When the folder or the disk refuses; what stood there before is untouched then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole_parts(path, &[bytes])
}

/// As [`write_whole`] for readers, but not for power cuts: nothing waits for the disk, and the old file or none may be there
/// afterwards. For what is out of date within seconds.
///
/// # Errors
/// As [`write_whole`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = temporary_beside(path)?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.persist(path).map_err(|e| Error::io("write", path)(e.error))?;
    Ok(())
}

/// As [`write_whole`], for bytes that lie in several places.
///
/// # Errors
/// As [`write_whole`].
pub fn write_whole_parts(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let mut file = temporary_beside(path)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part));
    written.and_then(|()| file.as_file().sync_all()).map_err(Error::io("write", path))?;
    file.persist(path).map_err(|e| Error::io("write", path)(e.error))?;
    // The name is on disk once the folder is; some file systems cannot sync folders, and need not.
    let _ = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_write_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert!(write_whole(&path.join("below-a-file"), b"three").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
