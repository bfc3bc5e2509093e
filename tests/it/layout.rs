//! The order of modules: each may use only what stands to the right of it in ARCHITECTURE.md.

use std::path::{Path, PathBuf};

/// Levels from top to bottom; modules of one level do not know each other.
const LEVELS: [&[&str]; 13] = [
    &["cli", "advice"],
    &["commands"],
    &["train"],
    &["config"],
    &["export"],
    &["checkpoint", "report", "tensorboard"],
    &["metrics"],
    &["doctor"],
    &["data", "model", "optim", "comm"],
    &["files", "memory", "lock", "trace", "stopwatch", "position", "launch"],
    &["signals"],
    &["error"],
    &["plural"],
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    assert!(found.len() > 40);
    found
}

fn level(module: &str) -> usize {
    LEVELS.iter().position(|level| level.contains(&module)).unwrap_or_else(|| panic!("'{module}' has no place"))
}

/// The top-level module that a file belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    inside.components().next().unwrap().as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// Top-level modules that a line of code names after `crate::`.
fn uses(line: &str) -> Vec<&str> {
    line.split("crate::")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
        .collect()
}

#[test]
fn modules_use_only_what_stands_below_them() {
    for path in all_sources() {
        let own = module(&path);
        // The kernels are a crate of their own, which knows no other of ours.
        if ["main", "lib", "kernels"].contains(&own.as_str()) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // A module's own tests may look around.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for used in uses(line) {
                // A macro lives at the root of the crate, whoever owns it.
                let used = if used == "say" { "report" } else { used };
                assert!(
                    used == "kernels" || used == own || level(used) > level(&own),
                    "{}:{}: '{own}' uses '{used}', which does not stand below it",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn the_crate_of_the_kernels_stands_below_all() {
    let manifest = include_str!("../../src/kernels/Cargo.toml");
    let needs = manifest.split("[dependencies]").nth(1).unwrap().split('[').next().unwrap();
    let mut needs: Vec<&str> = needs.lines().filter_map(|line| line.split_once(" =")).map(|(name, _)| name).collect();
    needs.sort_unstable();
    assert_eq!(needs, ["libm", "matrixmultiply"]);
}

#[test]
fn only_one_folder_names_the_crate_mpi() {
    for path in all_sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let names = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let named = names.filter(|line| line.contains("use mpi::") || line.contains("mpi::environment")).count();
        assert_eq!(named > 0, path.to_string_lossy().contains("/src/comm/mpi/"), "{}", path.display());
    }
}

#[test]
fn files_stay_short_and_unsafe_has_its_addresses() {
    for path in all_sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() <= 400, "{} has more than 400 lines", path.display());
        let allowed = path.to_string_lossy().contains("/src/kernels/")
            || path.to_string_lossy().contains("/src/comm/mpi/")
            || path.ends_with("src/checkpoint/image.rs")
            || path.ends_with("src/data/foreign.rs")
            || path.ends_with("src/data/open.rs")
            || path.ends_with("src/main.rs");
        let blocks = text.lines().filter(|line| line.contains("unsafe {") || line.contains("unsafe fn")).count();
        assert!(blocks == 0 || allowed, "{} holds unsafe code", path.display());
    }
}
