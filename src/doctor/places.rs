//! What `glasses doctor` looks at besides: shared memory, and the file system of a folder. Training finds these out where it needs
//! them; here they are seen beforehand.

use std::fs::{File, TryLockError, read_to_string};
use std::path::{Path, PathBuf};

use super::{Check, Verdict};
use crate::comm::{self, Communicator, SHARED_MEMORY};

/// The variable that says whether HDF5 locks what it reads.
const HDF5_LOCKS: &str = "HDF5_USE_FILE_LOCKING";

/// Kinds of file systems that machines share, as `/proc/self/mountinfo` names them.
const NETWORK: [&str; 15] = [
    "nfs",
    "nfs4",
    "lustre",
    "gpfs",
    "cifs",
    "smb3",
    "ceph",
    "beegfs",
    "9p",
    "afs",
    "panfs",
    "wekafs",
    "pvfs2",
    "glusterfs",
    "fuse.glusterfs",
];

/// Collective: what each rank finds of its machine, `wanted` bytes of shared memory for all of a machine's ranks together, and of
/// `folder`; the worst of each.
pub fn examine(folder: &Path, wanted: usize, comm: &dyn Communicator) -> Vec<Check> {
    let several = comm.nodes().neighbours().len() > 1;
    let mut mine = vec![shared_memory(wanted, several)];
    mine.extend(file_system(folder, |file| file.try_lock()));
    let (hosts, all) = (comm::hosts(comm), comm::allgather(comm, &mine));
    mine.iter().enumerate().map(|(place, own)| worst(own, place, &all, &hosts)).collect()
}

/// The worst of the ranks' checks of one thing, the first of them, with its host's name where others found something else.
fn worst(own: &Check, place: usize, all: &[Vec<Check>], hosts: &[String]) -> Check {
    let of_ranks = || all.iter().enumerate().filter_map(|(rank, checks)| Some((rank, checks.get(place)?)));
    let verdict = of_ranks().map(|(_, check)| check.verdict).max().unwrap_or(own.verdict);
    match of_ranks().find(|(_, check)| check.verdict == verdict) {
        Some((rank, check)) if verdict > Verdict::Ok && all.len() > 1 => {
            let on = format!("{} (rank {rank} on {})", check.found, hosts[rank]);
            Check { found: on, ..check.clone() }
        }
        Some((_, check)) => check.clone(),
        None => own.clone(),
    }
}

/// Room for the memory that the ranks of a machine share.
fn shared_memory(wanted: usize, several: bool) -> Check {
    let Ok(free) = fs4::available_space(SHARED_MEMORY) else {
        return Check::ok("shared memory", format!("no {SHARED_MEMORY} here"));
    };
    let free = free as usize;
    let found =
        format!("{} MB free in {SHARED_MEMORY}; the paper's network takes up to {} MB", free >> 20, wanted >> 20);
    if several && free < wanted {
        let fix = "give more (docker run --shm-size=2g, mount -o remount,size=2g /dev/shm); without it ranks of one machine send messages, which is slower";
        return Check::warning("shared memory", found, "room for the ranks of this machine", fix);
    }
    Check::ok("shared memory", found)
}

/// Whether a folder can be written to, and keeps its one writer and its readers apart.
fn file_system(folder: &Path, try_lock: impl Fn(&File) -> Result<(), TryLockError>) -> [Check; 2] {
    let kind =
        read_to_string("/proc/self/mountinfo").ok().and_then(|mounts| kind_of(&mounts, &folder.canonicalize().ok()?));
    let named = match &kind {
        Some(kind) if NETWORK.contains(&kind.as_str()) => {
            format!("{} ({kind}, a network file system)", folder.display())
        }
        Some(kind) => format!("{} ({kind})", folder.display()),
        None => folder.display().to_string(),
    };
    let hdf5 = std::env::var(HDF5_LOCKS).unwrap_or_default();
    let asked = !["FALSE", "0", "BEST_EFFORT"].contains(&hdf5.as_str());
    let file = match tempfile::NamedTempFile::new_in(folder) {
        Ok(file) => file,
        Err(refused) => {
            let fix = "start in a folder that you may write to, or name one with --out";
            let why = Check::warning(
                "folder",
                format!("{named}: nothing can be written: {refused}"),
                "a folder for results",
                fix,
            );
            return [why, Check::ok("file locks", "not tried: nothing can be written")];
        }
    };
    let free = fs4::available_space(folder).unwrap_or(0) >> 20;
    let writable = Check::ok("folder", format!("{named}, {free} MB free"));
    let locks = match try_lock(file.as_file()) {
        Ok(()) => Check::ok("file locks", format!("work; HDF5 takes {}", if asked { "them" } else { "none" })),
        Err(TryLockError::WouldBlock) => Check::ok("file locks", "work"),
        Err(TryLockError::Error(refused)) if asked => Check::error(
            "file locks",
            format!("refused ({refused}), and {HDF5_LOCKS}={hdf5} makes HDF5 want them: no dataset could be read"),
            "locks, or an HDF5 that takes none",
            format!("unset {HDF5_LOCKS}   (glasses sets it to FALSE), or mount with locks (Lustre: -o flock)"),
        ),
        Err(TryLockError::Error(refused)) => Check::warning(
            "file locks",
            format!("refused ({refused}): nothing keeps two runs out of one folder"),
            "locks",
            "never start two runs with one --out, or mount with locks (Lustre: -o flock; NFS: its lock service)",
        ),
    };
    [writable, locks]
}

/// The kind of the file system that `path` (absolute) lies on: that of the mount with the longest name, the last of these.
fn kind_of(mounts: &str, path: &Path) -> Option<String> {
    let mount = |line: &str| {
        let (place, rest) = line.split_once(" - ")?;
        // Blanks in names stand there as \040.
        let at = PathBuf::from(place.split(' ').nth(4)?.replace("\\040", " "));
        path.starts_with(&at).then(|| (at.components().count(), rest.split(' ').next().unwrap_or_default().to_owned()))
    };
    mounts.lines().filter_map(mount).max_by_key(|(parts, _)| *parts).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 8:1 / / rw - ext4 /dev/sda rw\n\
        23 22 0:5 / /home rw shared:1 - nfs4 server:/home rw\n\
        24 23 0:6 / /home/a\\040b rw - lustre mds:/b rw\n\
        25 22 0:7 / /home rw - autofs x rw";

    #[test]
    fn a_folder_is_on_the_mount_with_the_longest_name() {
        for (path, kind) in [("/etc", "ext4"), ("/home/a b/c", "lustre"), ("/homes", "ext4")] {
            assert_eq!(kind_of(MOUNTS, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
        // The later mount lies over the earlier one.
        assert_eq!(kind_of(MOUNTS, Path::new("/home/x")).as_deref(), Some("autofs"));
        assert_eq!(kind_of("", Path::new("/")), None);
    }

    #[test]
    fn a_folder_that_refuses_is_a_warning_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let works = file_system(dir.path(), |file| file.try_lock());
        assert!(works.iter().all(|check| check.verdict == Verdict::Ok), "{works:?}");
        let refuse = |_: &File| Err(TryLockError::Error(std::io::ErrorKind::Unsupported.into()));
        let [folder, locks] = file_system(dir.path(), refuse);
        assert!(folder.verdict == Verdict::Ok && locks.verdict > Verdict::Ok && !locks.fix.is_empty(), "{locks:?}");
        let [folder, _] = file_system(&dir.path().join("nowhere"), refuse);
        assert!(folder.verdict == Verdict::Warning && folder.found.contains("nothing can be written"), "{folder:?}");
    }

    #[test]
    fn too_little_shared_memory_matters_where_ranks_share_it() {
        if !Path::new(SHARED_MEMORY).exists() {
            return;
        }
        assert_eq!(shared_memory(usize::MAX, true).verdict, Verdict::Warning);
        assert_eq!(shared_memory(usize::MAX, false).verdict, Verdict::Ok);
        assert_eq!(shared_memory(0, true).verdict, Verdict::Ok);
    }

    #[test]
    fn the_worst_of_the_ranks_is_shown_with_its_host() {
        let [good, bad] = [Check::ok("a", "fine"), Check::warning("a", "bad", "good", "do so")];
        let hosts = ["n1", "n2"].map(str::to_owned);
        let shown = worst(&good, 0, &[vec![good.clone()], vec![bad]], &hosts);
        assert_eq!((shown.verdict, shown.found.as_str()), (Verdict::Warning, "bad (rank 1 on n2)"));
        assert_eq!(worst(&good, 0, &[vec![good.clone()], vec![good.clone()]], &hosts), good);
    }
}
