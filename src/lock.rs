//! One process at a time works in a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The file in the folder that is locked. It stays when the lock is gone; who takes the whole folder away may remove it
/// while it holds the lock.
pub const LOCK_FILE: &str = "lock";

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// The right to work in a folder, as long as this lives. It ends with the process, however that ends.
#[derive(Debug)]
pub struct RunLock {
    // Closing it gives the lock back.
    file: File,
    unlocked: Option<Error>,
}

impl RunLock {
    /// Takes the lock of `folder`, which exists. While another process holds it, tries again until `wait` has passed: one
    /// that was told to end may need seconds.
    ///
    /// # Errors
    /// When another process holds it still (says which), or the file cannot be made.
    pub fn acquire(folder: &Path, wait: Duration) -> Result<RunLock> {
        RunLock::acquire_by(File::try_lock, folder, wait)
    }

    fn acquire_by(
        try_lock: impl Fn(&File) -> Result<(), TryLockError>,
        folder: &Path,
        wait: Duration,
    ) -> Result<RunLock> {
        let (start, path) = (Instant::now(), folder.join(LOCK_FILE));
        // Not emptied: it says who holds the lock. Open for writing, which locks on NFS need.
        let open = || {
            if std::fs::metadata(&path).is_ok_and(|data| !data.is_file()) {
                let fix = "remove it: a run that works in this folder has a file there";
                return Err(Error::invalid(path.display().to_string(), "no regular file", "a file, or nothing", fix));
            }
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            file.map_err(Error::io("create", &path))
        };
        let mut file = open()?;
        let unlocked = loop {
            match try_lock(&file) {
                Ok(()) if is_at(&path, &file) => break None,
                // Whoever held it took the folder away with it: a lock on a file without a name keeps nobody out.
                Ok(()) => file = open()?,
                Err(TryLockError::WouldBlock) if start.elapsed() >= wait => return Err(held(folder, file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE.min(wait.saturating_sub(start.elapsed()))),
                Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Interrupted => {}
                // A file system without locks: Lustre mounted without `flock`, NFS without its lock service.
                Err(TryLockError::Error(e)) => break Some(Error::io("lock", &path)(e)),
            }
        };
        // For those who wait. On a full disk they learn less, and that is all.
        let _ = sign(&mut file);
        Ok(RunLock { file, unlocked })
    }

    /// Whether the lock is still that of `folder`: nobody has taken the folder, or the file in it, away.
    pub fn is_of(&self, folder: &Path) -> bool {
        is_at(&folder.join(LOCK_FILE), &self.file)
    }

    /// Why there is no lock, where the file system has none to give: a warning, for a run alone in its folder needs none.
    pub fn unlocked(&self) -> Option<&Error> {
        self.unlocked.as_ref()
    }
}

/// Whether an open file is the one of this name.
pub(crate) fn is_at(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |data: &std::fs::Metadata| (data.dev(), data.ino());
    matches!((std::fs::metadata(path), file.metadata()), (Ok(there), Ok(open)) if place(&there) == place(&open))
}

/// Writes who holds the lock over whatever is there.
fn sign(file: &mut File) -> std::io::Result<()> {
    let line = format!("{} {}\n", gethostname::gethostname().to_string_lossy(), std::process::id());
    file.rewind()?;
    file.write_all(line.as_bytes())?;
    file.set_len(line.len() as u64)
}

fn held(folder: &Path, file: File) -> Error {
    // No line is longer; what stands there may be anything.
    let mut line = String::new();
    let _ = file.take(512).read_to_string(&mut line);
    let (by, end) = match line.trim().split_once(' ') {
        Some((host, process)) => {
            (format!("process {process} on {host}"), format!("end it (`kill {process}` on {host})"))
        }
        None => ("another process".to_owned(), "end it".to_owned()),
    };
    Error::invalid(
        format!("folder {}", folder.display()),
        format!("a run that works in it: {by}"),
        "a folder that no other run uses",
        format!("wait for that run, {end}, or name another folder"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_until_the_lock_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let lock = RunLock::acquire(folder.path(), Duration::ZERO).unwrap();
        assert!(lock.unlocked().is_none());
        let start = Instant::now();
        let message = RunLock::acquire(folder.path(), Duration::from_millis(200)).unwrap_err().to_string();
        assert!(start.elapsed() >= Duration::from_millis(200));
        let host = gethostname::gethostname().into_string().unwrap();
        let by = format!("process {} on {host}", std::process::id());
        assert!(message.contains(&by) && message.contains(&folder.path().display().to_string()), "{message}");
        drop(lock);
        assert!(folder.path().join(LOCK_FILE).exists());
        std::fs::write(folder.path().join(LOCK_FILE), "a much longer line than the one that will be written\n")
            .unwrap();
        drop(RunLock::acquire(folder.path(), Duration::ZERO).unwrap());
        let line = std::fs::read_to_string(folder.path().join(LOCK_FILE)).unwrap();
        assert_eq!(line, format!("{host} {}\n", std::process::id()));
    }

    #[test]
    fn a_lock_file_that_says_nothing_names_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let lock = RunLock::acquire(folder.path(), Duration::ZERO).unwrap();
        for text in [&b""[..], b"x", b"\xff\xff \xff"] {
            std::fs::write(folder.path().join(LOCK_FILE), text).unwrap();
            let message = RunLock::acquire(folder.path(), Duration::ZERO).unwrap_err().to_string();
            assert!(message.contains("another process") && message.contains("fix: wait"), "{message}");
        }
        drop(lock);
    }

    #[test]
    fn a_file_system_without_locks_gives_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let refuse = |_: &File| Err(TryLockError::Error(ErrorKind::Unsupported.into()));
        let lock = RunLock::acquire_by(refuse, folder.path(), Duration::ZERO).unwrap();
        let warning = lock.unlocked().unwrap().to_string();
        assert!(warning.starts_with("cannot lock ") && warning.contains("/lock: unsupported"), "{warning}");
        let interruptions = std::cell::Cell::new(3);
        let retry = |file: &File| match interruptions.replace(interruptions.get() - 1) {
            1.. => Err(TryLockError::Error(ErrorKind::Interrupted.into())),
            _ => file.try_lock(),
        };
        assert!(RunLock::acquire_by(retry, folder.path(), Duration::ZERO).unwrap().unlocked().is_none());
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_lock() {
        let message = RunLock::acquire(Path::new("/nowhere/at/all"), Duration::ZERO).unwrap_err().to_string();
        assert!(message.starts_with("cannot create /nowhere/at/all/lock"), "{message}");
    }
}
