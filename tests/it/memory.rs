//! What `glasses info` says about memory, against what a run takes.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::run::glasses;

/// The most memory that the process `pid` has held so far, in bytes; `None` once it is gone.
fn peak(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(1024.0 * line.split_whitespace().nth(1)?.parse::<f64>().ok()?)
}

#[test]
fn the_memory_that_info_predicts_is_what_a_run_takes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    glasses(&["synth", "--size", "80", "--count", "200", "--out", "faces.h5"], dir).success();
    for (batch, optimizer) in [("16", "sgd"), ("100", "adamw")] {
        let info =
            ["info", "--model", "glasses", "--batch", batch, "--optimizer", optimizer, "--rows", "200", "--json"];
        let info: Value = serde_json::from_str(&glasses(&info, dir).success().stdout).unwrap();
        let predicted = info["training_bytes"].as_f64().unwrap();
        let mut run = Command::new(env!("CARGO_BIN_EXE_glasses"))
            .args(["train", "--data", "faces.h5", "--epochs", "1", "--max-steps", "2", "--out", optimizer])
            .args(["--batch", batch, "--optimizer", optimizer])
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut measured = 0.0;
        while run.try_wait().unwrap().is_none() {
            measured = peak(run.id()).unwrap_or(measured);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(run.wait().unwrap().success());
        let ratio = measured / predicted;
        assert!((ratio - 1.0).abs() <= 0.1, "batch {batch}, {optimizer}: measured {measured}, predicted {predicted}");
    }
}

#[test]
fn ranks_that_own_no_whole_subtree_take_more_and_info_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |args: &str| {
        let line = format!("info --model glasses --json {args}");
        let info = glasses(&line.split_whitespace().collect::<Vec<_>>(), folder.path()).success().stdout;
        let info: Value = serde_json::from_str(&info).unwrap();
        let memory = &info["training_memory"];
        (memory["weights_and_gradients"].as_u64().unwrap(), memory["exchange"].as_u64().unwrap())
    };
    let (alone, none) = bytes("");
    let values = alone / 2;
    assert_eq!(none, 0);
    // One sum each, and a quarter of everyone's and of the total.
    let (four, exchange) = bytes("--ranks 4");
    assert!(four == alone && exchange.abs_diff(values * 5 / 4) < 1000, "{four} {exchange}");
    // 64 shards on 3 ranks: five sums on the one in the middle.
    let (three, exchange) = bytes("--ranks 3 --shards 64");
    assert!(three == 6 * values && exchange > 3 * values, "{three} {exchange} {values}");
}
