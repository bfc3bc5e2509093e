//! Runs over a real, slow network: two hosts in network namespaces of this machine (`benches/namespaces.sh`), 1 Gbit/s between them.

use std::path::Path;
use std::process::Command;

use crate::ranks::{assert_same_run, weights};
use crate::run::{Outcome, finish, glasses, skipped};

/// What `namespaces.sh` ends with where the system permits no namespaces.
const NOT_PERMITTED: i32 = 77;

/// `glasses ARGUMENTS` on `ranks` ranks of each of two hosts.
fn on_two_hosts(ranks: usize, arguments: &str, dir: &Path) -> Outcome {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/namespaces.sh");
    let mut command = Command::new(script);
    command.args(["2", "1gbit", &ranks.to_string(), env!("CARGO_BIN_EXE_glasses")]).args(arguments.split(' '));
    command.current_dir(dir).env("NETNS_SECONDS", "60");
    finish(command)
}

/// Bytes that the hosts' interfaces sent, headers and the launcher's included.
fn wire(outcome: &Outcome) -> u64 {
    let number = outcome.stderr.split("hosts sent ").nth(1).and_then(|text| text.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no bytes in {outcome:?}"))
}

#[test]
fn two_hosts_make_the_run_of_one_rank_and_rows_take_less_of_the_wire_than_sums() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    glasses(&["synth", "--size", "32", "--count", "120", "--out", "faces.h5"], dir).success();
    let train = "train --data faces.h5 --epochs 2 --batch 16 --digest-every 2 --clip-norm 1";
    glasses(&format!("{train} --out alone").split(' ').collect::<Vec<_>>(), dir).success();
    let mut wires = Vec::new();
    for (ranks, comm) in [(1, "reduce"), (1, "factors"), (1, "split"), (2, "auto"), (2, "reduce")] {
        let out = format!("{comm}-{ranks}");
        let outcome = on_two_hosts(ranks, &format!("{train} --comm {comm} --out {out}"), dir);
        if outcome.code == Some(NOT_PERMITTED) {
            let why = outcome.stderr.lines().last().unwrap_or_default().to_owned();
            return skipped("hosts::two_hosts_make_the_run_of_one_rank…", &why);
        }
        wires.push(wire(&outcome));
        let groups = if ranks == 1 { "gradients by messages" } else { "in shared memory, 2 node groups of 2 ranks" };
        assert!(outcome.stdout.contains(groups), "{outcome:?}");
        outcome.success();
        assert_same_run(&dir.join(&out), &dir.join("alone"), &format!("{comm} on two hosts of {ranks} ranks"));
    }
    // The measurement of the link, at the start, is a part of both.
    assert!(wires[1] < wires[0] / 3, "bytes of factors and reduce: {wires:?}");
    assert_eq!(weights(&dir.join("auto-2")), weights(&dir.join("alone")));
}
