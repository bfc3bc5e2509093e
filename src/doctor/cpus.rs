//! Which CPUs this process may use.

use std::fs::read_to_string;

/// A rank that may use more CPUs than this is not pinned to a core; the cores of more would take time to look up.
const NARROW: usize = 8;

/// What this process may use of its machine.
#[derive(Debug, Default)]
pub struct Cpus {
    /// CPUs (hardware threads), as the system writes them: `0-3,8`.
    pub list: String,
    /// The cores of these, where they are few: numbers that two threads of one core share.
    pub cores: Vec<usize>,
    /// CPUs of the machine, and its cores.
    pub machine: (usize, usize),
    /// CPUs' worth of time, where that is less than the CPUs (a container's quota).
    pub quota: Option<usize>,
}

impl Cpus {
    /// Where the system does not say (it is not Linux), nothing is known.
    pub fn of_this_process() -> Cpus {
        let status = read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let Some(list) = line.map(|list| list.trim().to_owned()) else { return Cpus::default() };
        let mine = numbers(&list);
        let online =
            numbers(&read_to_string("/sys/devices/system/cpu/online").unwrap_or_default()).len().max(mine.len());
        let threads = siblings(mine.first().copied().unwrap_or(0)).len().max(1);
        let cores = match mine.len() {
            0..=NARROW => mine.iter().map(|&cpu| siblings(cpu).first().copied().unwrap_or(cpu)).collect(),
            _ => Vec::new(),
        };
        let given = std::thread::available_parallelism().map_or(mine.len(), usize::from);
        let quota = Some(given).filter(|&given| given < mine.len());
        Cpus { list, cores, machine: (online, (online / threads).max(1)), quota }
    }
}

/// The CPUs of one core, lowest first.
fn siblings(cpu: usize) -> Vec<usize> {
    numbers(
        &read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")).unwrap_or_default(),
    )
}

/// `0-2,8` are 0, 1, 2, 8.
pub fn numbers(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(numbers("0-2,8\n"), [0, 1, 2, 8]);
        assert!(numbers("").is_empty() && numbers("\n").is_empty());
    }

    #[test]
    fn this_process_may_use_some_cpus_of_its_machine() {
        let here = Cpus::of_this_process();
        assert!(
            !cfg!(target_os = "linux") || !numbers(&here.list).is_empty() && here.machine.0 >= here.machine.1,
            "{here:?}"
        );
    }
}
