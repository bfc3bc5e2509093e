//! `tests/golden/digests.toml`: runs that state every setting end in the weights that they always ended in.

use std::path::Path;

use glasses::config::Settings;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use toml::Table;

use crate::fixtures::Raw;
use crate::run::{glasses, mpirun};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contract {
    settings: Table,
    run: Vec<Run>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    name: String,
    rows: Rows,
    settings: Table,
    weights_sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    /// `[h, w, c]` of pictures, or `[d]` of features.
    input: Vec<usize>,
    train: usize,
    classes: usize,
}

fn contract() -> Contract {
    toml::from_str(include_str!("../golden/digests.toml")).unwrap()
}

/// A number that looks drawn, from its place alone (the finaliser of SplitMix64).
fn scrambled(place: u64) -> u64 {
    let mut z = place.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The dataset of a run: noise, and a slope across the row that the class decides.
fn write(rows: &Rows, dir: &Path) {
    let len: usize = rows.input.iter().product();
    let mut raw = Raw::create(dir, "rows.h5");
    for (split, count, start) in [("train", rows.train, 0), ("test", 9, 1 << 40)] {
        let class = |row: usize| scrambled(start + row as u64) % rows.classes as u64;
        let value = |row: usize, i: usize| {
            let noise = scrambled((start + row as u64) << 20 | i as u64) % 128;
            noise + class(row) * i as u64 * 127 / (len * rows.classes) as u64
        };
        let values = (0..count).flat_map(|row| (0..len).map(move |i| (row, i))).map(|(row, i)| value(row, i));
        let shape: Vec<usize> = std::iter::once(count).chain(rows.input.iter().copied()).collect();
        raw = match rows.input.len() {
            3 => raw.put(&format!("{split}/images"), &shape, &values.map(|v| v as u8).collect::<Vec<_>>()),
            _ => raw.put(&format!("{split}/features"), &shape, &values.map(|v| v as f32 / 64.0).collect::<Vec<_>>()),
        };
        let labels: Vec<u16> = (0..count).map(|row| class(row) as u16).collect();
        raw = raw.put(&format!("{split}/labels"), &[count], &labels);
    }
}

/// Runs take turns on one, two and three ranks: the weights depend on nothing but the settings.
#[test]
fn runs_that_state_every_setting_end_in_their_digests() {
    let contract = contract();
    let mut other = Vec::new();
    for (index, run) in contract.run.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(&run.rows, dir);
        let mut settings = contract.settings.clone();
        settings.extend(run.settings.clone());
        std::fs::write(dir.join("run.toml"), toml::to_string(&settings).unwrap()).unwrap();
        let args = ["--config", "run.toml", "--data", "rows.h5", "--out", "run"];
        match 1 + index % 3 {
            ranks if ranks > 1 && cfg!(feature = "mpi") => {
                let ranks = settings["shards"].as_integer().map_or(ranks, |shards| ranks.min(shards as usize));
                mpirun(ranks, &args, dir).success()
            }
            _ => glasses(&args, dir).success(),
        };
        let summary = std::fs::read_to_string(dir.join("run/summary.json")).unwrap();
        let summary: Value = serde_json::from_str(&summary).unwrap();
        let found = summary["weights_sha256"].as_str().unwrap();
        if found != run.weights_sha256 {
            other.push(format!("{}: found {found}, expected '{}'", run.name, run.weights_sha256));
        }
    }
    assert!(
        other.is_empty(),
        "{} of {} runs end in other weights:\n{}",
        other.len(),
        contract.run.len(),
        other.join("\n")
    );
}

/// Settings that decide no weight, or stand for no limit where they are not given.
const UNSTATED: [&str; 22] = [
    "data",
    "model",
    "recipe",
    "clip-value",
    "clip-norm",
    "max-steps",
    "members",
    "ranks-per-member",
    "out",
    "comm",
    "window",
    "checkpoint-every",
    "keep",
    "max-failed-checkpoints",
    "stall-timeout",
    "digest-every",
    "trace",
    "tensorboard",
    "config",
    "resume",
    "fork",
    "help",
];

/// What decides a run's weights is stated, so that no default can change it. A setting that is new since then is either listed
/// above, or its default leaves these runs as they were: then it is named here.
#[test]
fn the_contract_states_every_setting_of_its_day() {
    let contract = contract();
    let new = ["norm-rows", "decay-norms", "zero-init-residual", "shuffle-window", "shuffle-block"];
    for key in Settings::keys() {
        let known = UNSTATED.contains(&key.as_str()) || new.contains(&key.as_str());
        assert!(known || contract.settings.contains_key(&key), "--{key} is not stated");
    }
    let mut names: Vec<&str> = contract.run.iter().map(|run| run.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), contract.run.len());
    for run in &contract.run {
        assert!(run.settings.contains_key("model") && run.weights_sha256.len() == 64, "{}", run.name);
    }
}

/// Runs may be added behind those of 2026-11-30; these stay, to the byte.
#[test]
fn the_contract_never_changes() {
    let text = include_str!("../golden/digests.toml");
    let first = text.split_inclusive("# Runs of later work.\n").next().unwrap();
    let digest: String = Sha256::digest(first).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        digest, "e8ff9d2422585a6a69d7d64896fa83543f2b7eed30604ee5f61bc865a77e2b2a",
        "tests/golden/digests.toml was changed above its mark"
    );
}
