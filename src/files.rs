//! Files that appear whole or not at all.

use std::collections::BTreeSet;
use std::fs::{File, FileType, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Whether a result goes to standard output (`--out /dev/stdout`).
static TAKES_OUTPUT: AtomicBool = AtomicBool::new(false);

/// Links that lead to one another are followed so far, as Linux does.
const MOST_LINKS: usize = 40;

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

/// A path as it is printed: bytes that are no UTF-8 are escaped, so that no two paths look the same.
pub fn text_of(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    path.to_str().map_or_else(|| path.as_os_str().as_bytes().escape_ascii().to_string(), str::to_owned)
}

/// The text of a regular file, where there is something of that name.
///
/// # Errors
/// As [`read_text`].
pub fn text_if_there(path: &Path) -> Result<Option<String>> {
    match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => read_text(path).map(Some),
    }
}

/// Where a file that is called `path` lies, or would: behind the links that lead there.
pub fn behind_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = folder_of(&path).join(target);
    }
    path
}

/// What stands at `path`, where that is neither a file nor a folder.
fn special(path: &Path) -> Option<FileType> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    (!kind.is_file() && !kind.is_dir()).then_some(kind)
}

/// Whether nothing stands at `path`, or a file, whose place another may take: a device, a pipe or a socket is never replaced.
///
/// # Errors
/// When something else stands there.
pub fn check_replaceable(path: &Path) -> Result<()> {
    match special(path) {
        None => Ok(()),
        Some(kind) => {
            let fix = "name a file; what stands there is left as it is";
            Err(Error::invalid(path.display().to_string(), kind_in_words(kind), "a file, or nothing yet", fix))
        }
    }
}

fn kind_in_words(kind: FileType) -> &'static str {
    match () {
        () if kind.is_fifo() => "a pipe",
        () if kind.is_socket() => "a socket",
        () if kind.is_block_device() => "a disk",
        () => "a device",
    }
}

/// Whether [`Whole::begin`] will find a place to write to, as far as can be told before.
///
/// # Errors
/// When it will not.
pub fn check_writable(path: &Path) -> Result<()> {
    match special(path) {
        None => temporary_beside(path).map(drop),
        Some(kind) => check_written_into(path, kind),
    }
}

/// Whether bytes, one after the other, can go into what stands at `path`, and destroy nothing.
fn check_written_into(path: &Path, kind: FileType) -> Result<()> {
    if kind.is_fifo() || kind.is_char_device() {
        return Ok(());
    }
    let expected = "a file, a pipe, or a device such as /dev/null";
    Err(Error::invalid(path.display().to_string(), kind_in_words(kind), expected, "name a file"))
}

/// Standard output, if that is what `path` names: a handle of its own would begin at its start, or could not be had.
fn standard_output(path: &Path) -> Option<File> {
    let place = |data: &std::fs::Metadata| (data.dev(), data.ino());
    let named = std::fs::metadata(path).ok().filter(|data| !data.file_type().is_char_device())?;
    let output = File::from(std::io::stdout().as_fd().try_clone_to_owned().ok()?);
    (place(&output.metadata().ok()?) == place(&named)).then_some(output)
}

/// Whether a result goes to standard output: what is said to a person goes elsewhere then.
pub fn takes_output() -> bool {
    TAKES_OUTPUT.load(Ordering::Relaxed)
}

/// What is written to a path: a file that gets its name when it is whole. A pipe or a device of that name is written into.
#[derive(Debug)]
pub struct Whole {
    path: PathBuf,
    to: To,
}

#[derive(Debug)]
enum To {
    Beside(NamedTempFile),
    Into(File),
}

impl Whole {
    /// Begins one; a pipe waits for its reader.
    ///
    /// # Errors
    /// When the folder refuses, or what stands at `path` can be neither replaced nor written into.
    pub fn begin(path: &Path) -> Result<Whole> {
        if let Some(output) = standard_output(path) {
            TAKES_OUTPUT.store(true, Ordering::Relaxed);
            return Ok(Whole { path: path.to_owned(), to: To::Into(output) });
        }
        if let Some(kind) = special(path) {
            check_written_into(path, kind)?;
            let file = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
            return Ok(Whole { path: path.to_owned(), to: To::Into(file) });
        }
        Ok(Whole { path: behind_links(path), to: To::Beside(temporary_beside(path)?) })
    }

    /// Syncs the file and gives it its name: readers see the old one or this one, never a part.
    ///
    /// # Errors
    /// When the folder or the disk refuses; what stood there before is untouched then.
    pub fn finish(self) -> std::io::Result<()> {
        if let To::Beside(file) = self.to {
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|e| e.error)?;
            // The name is on disk once the folder is; some file systems cannot sync folders, and need not.
            let _ = File::open(folder_of(&self.path)).and_then(|folder| folder.sync_all());
        }
        Ok(())
    }
}

impl Write for Whole {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.to {
            To::Beside(file) => file.write(bytes),
            To::Into(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A file beside that of `path` that vanishes unless it is given a name. Readable by whoever the umask allows.
///
/// # Errors
/// When the folder refuses it.
pub fn temporary_beside(path: &Path) -> Result<NamedTempFile> {
    let path = &behind_links(path);
    let mut folders = hold();
    folders.insert(folder_of(path).to_owned());
    let (prefix, mut builder) = (own_prefix(), tempfile::Builder::new());
    builder.prefix(&prefix).suffix(SUFFIX);
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(path)).map_err(|e| Error::io("create a file in", folder_of(path))(plain(e)))
}

/// What the system said, without the name that we had chosen.
fn plain(error: std::io::Error) -> std::io::Error {
    let text = error.to_string();
    let number = text.rsplit_once("(os error ").and_then(|(_, rest)| rest.split_once(')')?.0.parse().ok());
    number.map_or(error, std::io::Error::from_raw_os_error)
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

/// However this process ends, files beside that of `path` that are not whole yet go with it: Open MPI kills a millisecond after it has asked to
/// end. Where there is no shell, only [`give_up_at_signals`] sees to that.
#[must_use]
pub fn swept(path: &Path) -> Sweeper {
    let script = format!(r#"trap "" HUP INT TERM USR1 USR2 XCPU; read -r _; rm -f -- "$0/{}"*{SUFFIX}"#, own_prefix());
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(script)
        .arg(folder_of(&behind_links(path)))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
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
/// When the folder or the disk refuses, or a pipe or a device stands there; what stood there before is untouched then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    write_whole_parts(path, &[bytes])
}

/// As [`write_whole`] for readers, but not for power cuts: nothing waits for the disk, and the old file or none may be there
/// afterwards. For what is out of date within seconds; a pipe or a device that stands there is left alone.
///
/// # Errors
/// As [`write_whole`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    check_replaceable(path)?;
    let mut file = temporary_beside(path)?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.persist(behind_links(path)).map_err(|e| Error::io("write", path)(e.error))?;
    Ok(())
}

/// As [`write_whole`], for bytes that lie in several places.
///
/// # Errors
/// As [`write_whole`].
pub fn write_whole_parts(path: &Path, parts: &[&[u8]]) -> Result<()> {
    check_replaceable(path)?;
    write_out(path, parts)
}

/// As [`write_whole_parts`], for a path that a user has named: a pipe or a device that stands there is written into.
///
/// # Errors
/// As [`Whole::begin`], and when the disk refuses.
pub fn write_out(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let mut file = Whole::begin(path)?;
    let written = parts.iter().try_for_each(|part| file.write_all(part));
    written.and_then(|()| file.finish()).map_err(Error::io("write", path))
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
