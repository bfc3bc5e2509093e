//! Whether HDF5 survives a file. The library was not written for files that want to harm it, and some damaged ones end its
//! process: so the root lets a process of its own read a file first (`glasses probe FILE`, which nobody types), and what happens
//! to it reaches the user as an error.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::checkpoint;
use crate::comm::{Communicator, on_root};
use crate::data::{Dataset, Split, open};
use crate::error::{Error, Result};
use crate::train::member_folder;

/// Memory that reading a file once, piece by piece, may take: so much, and [`BY_BYTE`] for each byte of the file.
const ROOM: u64 = 1 << 30;
const BY_BYTE: u64 = 64;

/// Seconds of computing that it may take, and one more for each megabyte.
const SECONDS: u64 = 60;

/// What a process needs of its environment to read a file; what a launcher left there would make it a rank.
const KEPT: [&str; 4] = ["LD_", "DYLD_", "HDF5_", "PATH"];

/// Options of `glasses probe`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A dataset, a model or a checkpoint
    pub file: PathBuf,
}

/// Reads the file as other commands will: headers, names, labels, and rows as far as anything but copying is done to them.
/// Memory and time are limited from now on.
///
/// # Errors
/// Those that the other commands will have.
pub fn run(options: &Options) -> Result<()> {
    let path = &options.file;
    let length = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
    for (resource, most, more) in [
        (Resource::As, ROOM.saturating_add(length.saturating_mul(BY_BYTE)), 0),
        // At the first the system says why, at the second it does not.
        (Resource::Cpu, SECONDS + (length >> 20), 5),
        (Resource::Core, 0, 0),
    ] {
        // What the process was given it cannot exceed.
        let given = getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit { current: Some(most.min(given)), maximum: Some(most.saturating_add(more).min(given)) };
        setrlimit(resource, limit).map_err(|e| Error::io("limit what is taken for", path)(e.into()))?;
    }
    if checkpoint::is_state(path)? {
        return checkpoint::read_state(path)?.look();
    }
    if checkpoint::is_model(&*open::open(path)?) {
        return checkpoint::look(path);
    }
    let dataset = Dataset::open(path)?;
    Split::ALL.into_iter().try_for_each(|split| dataset.look(split))
}

/// Collective: whether HDF5 survives these files. Those that are not there, and those that are bad without harm, are left to
/// whoever reads them.
///
/// # Errors
/// When reading one ends a process, or takes more memory or time than such a file can need.
pub fn check(files: &[PathBuf], comm: &dyn Communicator) -> Result<()> {
    on_root(comm, || files.iter().try_for_each(|file| survive(file)).map(|()| String::new())).map(|_| ())
}

/// The model file and all checkpoints of the run in `dir`; of an ensemble, those of its members.
pub fn files_of_run(dir: &Path) -> Vec<PathBuf> {
    let members = (0..).map(|index| member_folder(dir, index)).take_while(|folder| folder.is_dir());
    let files = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir.join("checkpoints")).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path()).chain([dir.join("model.h5")]);
        files.filter(|path| path.extension().is_some_and(|end| end == "h5")).collect::<Vec<_>>()
    };
    std::iter::once(dir.to_owned()).chain(members).flat_map(files).collect()
}

fn survive(file: &Path) -> Result<()> {
    if !file.is_file() {
        return Ok(());
    }
    // What another program is writing may look damaged.
    let _lock = open::lock(file)?;
    let program = std::env::current_exe().map_err(Error::io("start a process to read", file))?;
    let kept = std::env::vars_os().filter(|(name, _)| KEPT.iter().any(|kept| name.to_string_lossy().starts_with(kept)));
    let mut command = Command::new(program);
    command.arg("probe").arg("--").arg(file).env_clear().envs(kept);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let ended = command.output().map_err(Error::io("start a process to read", file))?;
    let said = String::from_utf8_lossy(&ended.stderr).replace(&*file.to_string_lossy(), "");
    let no_memory = said.contains("memory");
    let why = match (ended.status.signal(), ended.status.code()) {
        (Some(_), _) if said.contains("memory allocation of") => {
            "asks for more memory than such a file can fill".to_owned()
        }
        (Some(signal), _) if signal == Signal::XCPU.as_raw() => "has HDF5 read without an end".to_owned(),
        (Some(signal), _) => format!("ends HDF5 (by signal {signal})"),
        (_, Some(101)) => "ends its reader by a panic".to_owned(),
        (_, Some(0)) => return Ok(()),
        _ if no_memory => "asks for more memory than such a file can fill".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::invalid(
        file.display().to_string(),
        format!("a file that {why}: damaged, or made to do harm"),
        "a file that HDF5 can read",
        "copy it again, or make it again with `glasses ingest`, `glasses synth` or `glasses train`",
    ))
}
