//! The order of modules: each may use only what stands to the right of it in ARCHITECTURE.md. And of files: none take names from each
//! other.

use std::path::{Path, PathBuf};

use crate::file_graph::FileGraph;

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
    &["plural", "row_count"],
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

#[test]
fn files_take_no_names_from_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let source = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(&path).unwrap())
    };
    let graph = FileGraph::new(&all_sources().into_iter().map(source).collect::<Vec<_>>());
    // A graph of too few edges would have no circles.
    assert!(graph.edges().values().map(|to| to.len()).sum::<usize>() > 1000);
    let paths: Vec<String> = graph.circles().iter().flat_map(|circle| graph.paths_within(circle)).collect();
    assert!(paths.is_empty(), "files that take names from each other:\n{}", paths.join("\n"));
}

/// Circles among made-up files.
fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let owned = |(name, text): &(&str, &str)| (format!("{name}.rs"), (*text).to_owned());
    FileGraph::new(&files.iter().map(owned).collect::<Vec<_>>()).circles()
}

#[test]
fn a_circle_of_files_is_found_however_names_are_taken() {
    let pair = vec![vec!["a/one.rs".to_owned(), "a/two.rs".to_owned()]];
    let two = ("a/two", "use super::one::One;\npub struct Two(One);");
    let root = ("a/mod", "mod one;\nmod two;\npub use one::One;\npub use two::Two;");
    for one in [
        "use super::two::Two;",
        "use super::{one, two::{self, Two as Other}};",
        "use crate::a::Two;",
        "pub use super::Two;",
        "fn f() { super::two::Two::new() }",
        "use super::two;\nfn f() { two::f() }",
        "use crate::a;\nfn f() -> a::Two { g() }",
        "const C: char = '\"'; fn f<'a>(_: &'a str) -> crate::a::two::Two { r#\"\"\"# }",
        "#[cfg(test)]\nmod tests { fn f() { let _ = '}'; } }\nuse super::Two;",
    ] {
        assert_eq!(circles(&[root, ("a/one", one), two]), pair, "{one}");
    }
    for one in [
        "pub struct One;",
        "// use super::two::Two;\n/// [`super::two::Two`]\npub struct One;",
        "const TEXT: &str = \"super::two::Two\";",
        "#[cfg(test)]\nuse super::{two::Two};\npub struct One;",
        "#[cfg(test)]\nmod tests { use crate::a::Two; }",
        "use super::three::Three;",
        "use two::Two;",
    ] {
        assert_eq!(circles(&[root, ("a/one", one), two, ("a/three", "pub struct Three;")]), [[""; 0]; 0], "{one}");
    }
}

#[test]
fn a_circle_of_three_files_or_with_a_folder_s_own_code_is_found() {
    let three =
        [("a", "use crate::b::B;"), ("b", "use crate::c::C;"), ("c", "use crate::a::A;"), ("d", "use crate::a::A;")];
    assert_eq!(circles(&three), [["a.rs", "b.rs", "c.rs"]]);
    let child = ("a/child", "use super::Own;\npub struct Child(Own);");
    // Names that are only passed on make no circle; those that the folder's own code uses do.
    let passes = "mod child;\npub use child::Child;\npub struct Own;";
    assert_eq!(circles(&[child, ("a/mod", passes)]), [[""; 0]; 0]);
    for uses in ["fn f() -> Child { g() }", "fn f() { child::f() }", "use child::Other;"] {
        assert_eq!(circles(&[child, ("a/mod", &format!("{passes}\n{uses}"))]), [["a/child.rs", "a/mod.rs"]], "{uses}");
    }
}
