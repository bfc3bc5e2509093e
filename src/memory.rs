//! The memory that there is, and room in it for what one input alone may ask for.

use std::collections::TryReserveError;
use std::fs::read_to_string;
use std::hint::black_box;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that the system would give this process without swapping, where it says so (Linux): of the machine, and of each control
/// group around the process, as batch systems and containers make them.
pub fn available() -> Option<usize> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)?;
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(groups.lines().filter_map(|line| left_in(line, Path::new("/sys/fs/cgroup"))).fold(machine, usize::min))
}

/// Bytes of swap that are free, where the system says so (Linux).
pub fn swap() -> usize {
    let text = read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("SwapFree:")?.trim().strip_suffix(" kB"));
    line.and_then(|free| free.parse::<usize>().ok()).map_or(0, |free| free.saturating_mul(1024))
}

/// What is left in a control group, and those around it; `line` is the process' own of one hierarchy, `number:controllers:path`, and
/// the groups are mounted at `mount`.
fn left_in(line: &str, mount: &Path) -> Option<usize> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
    let (root, limit, held, files) = match controllers {
        "" => (
            mount.to_owned(),
            "memory.max",
            "memory.current",
            &["inactive_file ", "active_file ", "slab_reclaimable "][..],
        ),
        _ if controllers.split(',').any(|name| name == "memory") => {
            let files = &["total_inactive_file ", "total_active_file "][..];
            (mount.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", files)
        }
        _ => return None,
    };
    let left = |group: &Path| {
        let number = |name: &str| read_to_string(group.join(name)).ok()?.trim().parse::<usize>().ok();
        let stat = read_to_string(group.join("memory.stat")).unwrap_or_default();
        // Files that were read, and what the kernel remembers of them, are counted, and given up when there is need.
        let of = |line: &str| files.iter().find_map(|name| line.strip_prefix(name)?.parse::<usize>().ok());
        let cached = stat.lines().filter_map(of).sum();
        Some(number(limit)?.saturating_sub(number(held)?.saturating_sub(cached)))
    };
    let own = root.join(path);
    own.ancestors().take_while(|group| group.starts_with(&root)).filter_map(left).min()
}

/// What is held by [`hold`], in bytes, all threads together.
static HELD: Mutex<usize> = Mutex::new(0);
/// Some of it was given back.
static GIVEN_BACK: Condvar = Condvar::new();

/// What is allocated meanwhile by others and by the way.
const SPARE: usize = 16 << 20;

/// From here on the system is asked, too, and not only the process' own limit.
const LARGE: usize = 64 << 20;

/// A part of the memory that nobody else counts on.
#[derive(Debug)]
pub struct Held(usize);

/// Room for `bytes`, before libraries allocate them that end the process where they cannot. It waits for others that hold some; nothing where
/// the memory does not suffice for these alone.
pub fn hold(bytes: usize) -> Option<Held> {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let all = held.saturating_add(bytes);
        if fits(all) {
            *held = all;
            return Some(Held(bytes));
        }
        if *held == 0 {
            return None;
        }
        held = GIVEN_BACK.wait(held).unwrap_or_else(PoisonError::into_inner);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *HELD.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        GIVEN_BACK.notify_all();
    }
}

/// What others hold may be in use already: then it counts twice, which is waited for.
fn fits(bytes: usize) -> bool {
    let reserve = || -> Result<(), TryReserveError> {
        let mut room = Vec::<u8>::new();
        room.try_reserve_exact(bytes.saturating_add(SPARE))?;
        // Else the compiler may leave it out.
        black_box(&mut room);
        Ok(())
    };
    reserve().is_ok() && shortage(bytes).is_none()
}

/// The bytes that are available where `bytes` are more; nothing where they suffice, or nobody says.
pub fn shortage(bytes: usize) -> Option<usize> {
    if bytes < LARGE { None } else { available().filter(|&available| bytes > available) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_memory_for_is_not_held() {
        assert!(hold(1 << 50).is_none());
        let one = hold(1 << 20).unwrap();
        assert_eq!(one.0, 1 << 20);
        assert!(hold(1 << 21).is_some());
        assert!(shortage(1 << 20).is_none() && shortage(1 << 50) < Some(1 << 50));
    }

    #[test]
    fn the_narrowest_control_group_counts_without_files_that_were_read() {
        let mount = tempfile::tempdir().unwrap();
        let group = |path: &str, files: &[(&str, &str)]| {
            let folder = mount.path().join(path);
            std::fs::create_dir_all(&folder).unwrap();
            files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
        };
        let stat = ("memory.stat", "anon 5\nactive_file 200\ninactive_file 300\n");
        group("job", &[("memory.max", "1000\n"), ("memory.current", "900\n"), stat]);
        group("job/step", &[("memory.max", "max\n"), ("memory.current", "900\n")]);
        assert_eq!(left_in("0::/job/step", mount.path()), Some(600));
        assert_eq!(left_in("0::/other", mount.path()), None);
        let old = ("memory.stat", "active_file 9\ntotal_active_file 20\n");
        group("memory/job", &[("memory.limit_in_bytes", "100"), ("memory.usage_in_bytes", "90"), old]);
        assert_eq!(left_in("4:cpu,memory:/job", mount.path()), Some(30));
        assert_eq!(left_in("4:cpu,cpuacct:/job", mount.path()), None);
        assert_eq!(left_in("nonsense", mount.path()), None);
        assert!(available().is_none_or(|bytes| bytes > 1 << 20));
    }
}
