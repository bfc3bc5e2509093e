//! Whether this machine has the memory that networks take: a small file can describe a large one.

use std::fs::read_to_string;
use std::path::Path;

use super::{Model, Workspace};
use crate::error::{Error, Result};

/// How many rows, at most `batch`, each of `workers` of this machine may have in the networks of `models` at once. `place` is where
/// these come from.
///
/// # Errors
/// When not even one row fits.
pub fn rows<'a>(
    models: impl Iterator<Item = &'a Model> + Clone,
    batch: usize,
    workers: usize,
    place: &Path,
) -> Result<usize> {
    let available = available();
    let bytes = |rows: usize| {
        let each =
            models.clone().fold(0, |sum: usize, model| sum.saturating_add(Workspace::inference_bytes(model, rows)));
        each.saturating_mul(workers)
    };
    let fits = |rows: &usize| available.is_none_or(|available| bytes(*rows) <= available);
    let mut halves = std::iter::successors(Some(batch), |&rows| (rows > 1).then_some(rows / 2));
    halves.find(fits).ok_or_else(|| {
        Error::invalid(
            place.display().to_string(),
            format!("a network that takes {} bytes for one row of each worker here", bytes(1)),
            format!("at most the {} that are free here", available.unwrap_or(0)),
            "start fewer ranks a machine, use one with more memory, or a model of smaller pictures",
        )
    })
}

/// Bytes that the system would give this process without swapping, where it says so (Linux): of the machine, and of each control
/// group around the process, as batch systems and containers make them.
fn available() -> Option<usize> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)?;
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    Some(groups.lines().filter_map(|line| left_in(line, Path::new("/sys/fs/cgroup"))).fold(machine, usize::min))
}

/// What is left in a control group, and those around it; `line` is the process' own of one hierarchy, `number:controllers:path`, and
/// the groups are mounted at `mount`.
fn left_in(line: &str, mount: &Path) -> Option<usize> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
    let (root, limit, held, files) = match controllers {
        "" => (mount.to_owned(), "memory.max", "memory.current", ["inactive_file ", "active_file "]),
        _ if controllers.split(',').any(|name| name == "memory") => {
            let files = ["total_inactive_file ", "total_active_file "];
            (mount.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", files)
        }
        _ => return None,
    };
    let left = |group: &Path| {
        let number = |name: &str| read_to_string(group.join(name)).ok()?.trim().parse::<usize>().ok();
        let stat = read_to_string(group.join("memory.stat")).unwrap_or_default();
        // Files that were read are counted, and given up when there is need.
        let of = |line: &str| files.iter().find_map(|name| line.strip_prefix(name)?.parse::<usize>().ok());
        let cached = stat.lines().filter_map(of).sum();
        Some(number(limit)?.saturating_sub(number(held)?.saturating_sub(cached)))
    };
    let own = root.join(path);
    own.ancestors().take_while(|group| group.starts_with(&root)).filter_map(left).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Engine;
    use crate::model::ModelSpec;

    #[test]
    fn a_small_network_has_all_its_rows_and_one_larger_than_the_machine_is_refused() {
        let model = |layers: &str, side: usize| {
            let spec = ModelSpec::parse(&format!("name = \"m\"\nlayers = [{layers}]"), "m").unwrap();
            Model::new(spec, [side, side, 1], false, 2, Engine::Direct).unwrap()
        };
        let place = Path::new("m.h5");
        let small = model("\"flatten\", \"dense classes\"", 8);
        assert_eq!(rows([&small, &small].into_iter(), 32, 2, place).unwrap(), 32);
        let conv = "\"conv 1x1x32\", \"tanh\"";
        let large = model(&format!("{}, \"global_avgpool\", \"dense classes\"", [conv; 64].join(", ")), 16383);
        // The second of several counts, too.
        let message = rows([&small, &large].into_iter(), 32, 1000, place).unwrap_err().to_string();
        assert!(message.contains("m.h5: found a network that takes "), "{message}");
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
