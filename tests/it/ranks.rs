//! The same run on different numbers of ranks is the same run, bit for bit, under a real launcher and with threads for
//! ranks: weights, metrics, digests.

use std::path::Path;

use glasses::comm::{Communicator, Reduce, Solo, Threads};
use glasses::config::{Batch, ModelChoice, RunConfig, Settings};
use glasses::kernels::Isa;
use glasses::metrics::Summary;
use glasses::optim::OptimizerKind;
use glasses::train::Origin;
use serde_json::Value;

use crate::run::{glasses, mpirun, shell};

const MODEL: &str = r#"
name = "small"
layers = ["conv 3x3x4", "relu", "maxpool 2", "flatten", "dense 16", "relu", "dropout 0.1", "dense classes"]
"#;

/// The lines of a run's metrics, without times and bytes: all that ranks may change.
pub fn metrics(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        // Where there are several ranks.
        line.as_object_mut().unwrap().remove("slowest");
        for times in ["seconds", "images_per_sec", "bytes_communicated", "exchange"] {
            assert!(line.as_object_mut().unwrap().remove(times).is_some());
        }
        line
    };
    text.lines().map(line).collect()
}

/// The digests of a run, without those that say who computed.
pub fn digests(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("digests.jsonl")).unwrap();
    text.lines().filter(|line| !line.contains("hosts")).map(str::to_owned).collect()
}

/// The digest of a finished run's weights.
pub fn weights(folder: &Path) -> String {
    let text = std::fs::read_to_string(folder.join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&text).unwrap();
    summary["weights_sha256"].as_str().unwrap().to_owned()
}

#[track_caller]
pub fn assert_same_run(got: &Path, want: &Path, what: &str) {
    assert_eq!(weights(got), weights(want), "{what}");
    assert_eq!(metrics(got), metrics(want), "{what}");
    assert_eq!(digests(got), digests(want), "{what}");
}

#[test]
fn any_number_of_ranks_ends_in_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // 211 training rows in 13 shards: nothing divides anything.
    glasses(&["synth", "--out", "faces.h5", "--count", "251", "--test", "0.16", "--size", "24"], dir).success();
    let train = "train --data faces.h5 --shards 13 --epochs 2 --digest-every 5 --clip-norm 1 --optimizer adam";
    let run = |ranks: usize, isa: &str, out: &str| {
        let env = format!("env GLASSES_ISA={isa}");
        let launcher = if ranks == 0 { env } else { format!("${{MPIRUN:-mpirun}} -n {ranks} {env}") };
        shell(&format!("{launcher} $GLASSES {train} --batch 17 --out {out}"), dir).success();
    };
    let best = Isa::available().last().unwrap().name();
    run(0, "scalar", "alone");
    for ranks in [1, 2, 3, 4, 5, 7, 8, 13] {
        let out = format!("{ranks}");
        run(ranks, best, &out);
        assert_same_run(&dir.join(&out), &dir.join("alone"), &format!("{ranks} ranks on {best}"));
        let text = std::fs::read_to_string(dir.join(&out).join("summary.json")).unwrap();
        let summary: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(summary["bytes_communicated"].as_u64().unwrap() > 0, ranks > 1);
    }
}

/// A run with threads for ranks.
fn with_threads(ranks: usize, settings: &Settings, out: &Path) -> Vec<Summary> {
    let config = |ranks: usize| -> RunConfig {
        let settings = Settings { out: Some(out.to_owned()), ..settings.clone() };
        settings.lower(Settings::default(), ranks).unwrap()
    };
    if ranks == 0 {
        return vec![glasses::train::run(&config(1), &Origin::Scratch, &Solo::default()).unwrap()];
    }
    Threads::run(ranks, |comm| glasses::train::run(&config(comm.size()), &Origin::Scratch, comm).unwrap())
}

#[test]
fn any_batch_optimizer_and_number_of_shards_is_the_same_run_on_any_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("small.toml"), MODEL).unwrap();
    glasses(&["synth", "--out", "faces.h5", "--count", "90", "--size", "24", "--val", "0.1"], dir).success();
    let model = ModelChoice::Name(dir.join("small.toml").display().to_string());
    // Fewer rows a step than ranks and shards; a short last batch; all rows at once, in several micro-batches; shards that
    // no number of ranks divides; shards without a row.
    for (name, batch, shards, optimizer) in [
        ("3", Batch::Rows(3), 8, OptimizerKind::Sgd),
        ("16", Batch::Rows(16), 11, OptimizerKind::Momentum),
        ("1", Batch::Rows(1), 13, OptimizerKind::Nesterov),
        ("full", Batch::Full, 8, OptimizerKind::Adamw),
        ("full-100", Batch::Full, 100, OptimizerKind::Sgd),
        ("50", Batch::Rows(50), 9, OptimizerKind::Adam),
    ] {
        let settings = Settings {
            data: Some(dir.join("faces.h5")),
            model: Some(model.clone()),
            batch: Some(batch),
            epochs: Some(2),
            lr: Some(0.01),
            shards: Some(shards),
            digest_every: Some(1),
            optimizer: Some(optimizer),
            clip_norm: Some(1.0),
            ..Settings::default()
        };
        let solo = dir.join(format!("{name}-solo"));
        with_threads(0, &settings, &solo);
        for ranks in [1, 2, 3, 5, 7, 8] {
            let out = dir.join(format!("{name}-{ranks}"));
            with_threads(ranks, &settings, &out);
            assert_same_run(&out, &solo, &format!("batch {name} on {ranks} threads"));
        }
    }
}

#[test]
fn every_network_of_the_zoo_is_the_same_run_on_three_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    glasses(&["synth", "--out", "faces.h5", "--count", "60", "--size", "24"], dir).success();
    glasses(&["synth", "--kind", "spiral", "--out", "spiral.h5", "--count", "300"], dir).success();
    for (model, data) in [
        ("glasses", "faces.h5"),
        ("glasses-deep", "faces.h5"),
        ("glasses-wide", "faces.h5"),
        ("mnist", "faces.h5"),
        ("spiral", "spiral.h5"),
    ] {
        let run = |ranks: usize, out: &str| {
            let args =
                format!("train --data {data} --model {model} --epochs 1 --max-steps 4 --lr 1e-3 --out {model}-{out}");
            let args: Vec<&str> = args.split(' ').collect();
            let end = if ranks == 0 { glasses(&args, dir) } else { mpirun(ranks, &args, dir) };
            end.success();
            dir.join(format!("{model}-{out}"))
        };
        assert_same_run(&run(3, "three"), &run(0, "alone"), model);
    }
}

#[test]
fn mpi_s_own_order_of_sums_is_the_same_run_to_rounding() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("small.toml"), MODEL).unwrap();
    glasses(&["synth", "--out", "faces.h5", "--count", "90", "--size", "24"], dir).success();
    let train = "train --data faces.h5 --model small.toml --epochs 3 --lr 0.01 --optimizer momentum";
    let run = |ranks: usize, reduce: Reduce, out: &str| {
        let reduce = if reduce == Reduce::Mpi { "mpi" } else { "tree" };
        let args = format!("{train} --reduce {reduce} --out {out}");
        mpirun(ranks, &args.split(' ').collect::<Vec<_>>(), dir).success();
        (metrics(&dir.join(out)), weights(&dir.join(out)))
    };
    let (tree, _) = run(3, Reduce::Tree, "tree");
    let (mpi, first) = run(3, Reduce::Mpi, "mpi");
    for (got, want) in mpi.iter().zip(&tree) {
        for name in ["train_loss", "test_loss"] {
            let [a, b] = [got, want].map(|line| line[name].as_f64().unwrap());
            assert!((a - b).abs() <= 1e-4 * b.abs(), "epoch {}, {name}: {a} and {b}", want["epoch"]);
        }
    }
    assert_eq!(run(3, Reduce::Mpi, "again").1, first, "the same on the same number of ranks");
}
