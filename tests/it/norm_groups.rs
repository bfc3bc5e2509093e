//! Batch norm over ranks: groups of rows are those of the run, whoever has their rows, and its sums have one order. So a network with norms
//! ends in the same bits on any ranks and machines, by any plan, and after a stop.

use std::path::Path;

use glasses::checkpoint;
use glasses::comm::{Comm, SharedWindow};
use glasses::config::{Batch, ModelChoice, Settings};
use glasses::optim::OptimizerKind;
use glasses::row_count::RowCount;
use glasses::train::Origin;
use serde_json::Value;

use crate::plans::{assert_predicted, on, with_threads};
use crate::ranks::{assert_same_run, weights};
use crate::run::glasses;

/// Norms of images and of vectors, one with groups of its own, beside everything else that rows or shards matter for.
const MODEL: &str = r#"
name = "normed"
layers = [
    "conv 3x3x6 stride 2 pad 1", "batch_norm", "relu",
    { residual = ["conv 3x3x6", "batch_norm", "relu", "depthwise 3x3", "batch_norm rows 4", { scale = ["global_avgpool", "dense 3", "relu", "dense 6", "sigmoid"] }, "drop_path 0.2"] },
    "relu", { branches = [["conv 1x1x4", "batch_norm scale no"], ["maxpool 3 stride 1 pad 1"]], join = "concat" }, "dropout 0.1",
    "group_norm 2", "maxpool 2", "flatten", "dense 260", "batch_norm", "tanh", { residual = ["dense 260", "batch_norm eps 0.001"] },
    "layer_norm", "dense classes",
]
"#;

/// Ranks of each machine.
const MACHINES: [&[usize]; 8] = [&[2], &[3], &[5], &[8], &[1, 1, 1], &[2, 2], &[4, 1, 2], &[3, 5]];

fn prepare(dir: &Path) -> Settings {
    std::fs::write(dir.join("normed.toml"), MODEL).unwrap();
    glasses(&["synth", "--out", "faces.h5", "--count", "80", "--size", "24", "--val", "0.1"], dir).success();
    Settings {
        data: Some(dir.join("faces.h5")),
        model: Some(ModelChoice::Name(dir.join("normed.toml").display().to_string())),
        lr: Some(0.01),
        digest_every: Some(1),
        epochs: Some(2),
        ..Settings::default()
    }
}

#[test]
fn a_network_with_norms_ends_in_the_same_bits_on_any_machines_by_any_plan() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let settings = prepare(dir);
    // A short last batch; rows below the shards, so that ranks have none; all rows at once; groups inside ranks and across them; one row a
    // group.
    let cases = [
        (Batch::Rows(13), 8, RowCount::All, OptimizerKind::Adamw, 6),
        (Batch::Rows(16), 8, RowCount::Rows(4), OptimizerKind::Momentum, 6),
        (Batch::Rows(3), 11, RowCount::All, OptimizerKind::Sgd, 5),
        (Batch::Full, 13, RowCount::All, OptimizerKind::Adam, 2),
        (Batch::Full, 13, RowCount::Rows(16), OptimizerKind::Adam, 2),
        (Batch::Rows(9), 8, RowCount::Rows(1), OptimizerKind::Nesterov, 8),
    ];
    let mut found = Vec::new();
    for (case, (batch, shards, rows, optimizer, steps)) in cases.into_iter().enumerate() {
        let settings = Settings {
            batch: Some(batch),
            shards: Some(shards),
            optimizer: Some(optimizer),
            norm_rows: Some(rows),
            clip_norm: (case % 2 == 0).then_some(0.5),
            max_steps: Some(steps),
            ..settings.clone()
        };
        let solo = dir.join(format!("{case}-solo"));
        let reduced = Settings { comm: Some(Comm::Reduce), ..settings.clone() };
        with_threads(&[], reduced, &Origin::Scratch, &solo);
        found.push(weights(&solo));
        let comms = [Comm::Auto, Comm::Reduce, Comm::Factors, Comm::Split];
        let all = MACHINES.iter().flat_map(|machines| comms.map(|comm| (machines, comm)));
        let all = all
            .flat_map(|(machines, comm)| [SharedWindow::On, SharedWindow::Off].map(|window| (machines, comm, window)));
        for (turn, (machines, comm, window)) in all.enumerate().filter(|(turn, _)| (turn + case) % 5 == 0) {
            let out = dir.join(format!("{case}-{turn}"));
            let settings = Settings { comm: Some(comm), window: Some(window), ..settings.clone() };
            with_threads(machines, settings, &Origin::Scratch, &out);
            assert_same_run(&out, &solo, &format!("case {case}, {comm:?}, window {window:?}, machines {machines:?}"));
        }
    }
    // The groups are a part of the run.
    assert!(found[3] != found[4], "groups of all rows and of 16");
}

#[test]
fn a_run_with_norms_goes_on_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let base = prepare(dir);
    let settings = |steps: usize| Settings {
        batch: Some(Batch::Rows(10)),
        optimizer: Some(OptimizerKind::Adam),
        max_steps: Some(steps),
        ..base.clone()
    };
    let whole = dir.join("whole");
    with_threads(&[], settings(1000), &Origin::Scratch, &whole);
    for (case, (first, second, stop)) in
        [(&[3][..], &[2, 2][..], 3), (&[1, 1], &[], 8), (&[], &[5], 11)].into_iter().enumerate()
    {
        let out = dir.join(format!("{case}"));
        with_threads(first, settings(stop), &Origin::Scratch, &out);
        with_threads(second, settings(1000), &Origin::Resume(out.clone()), &out);
        assert_same_run(&out, &whole, &format!("machines {first:?}, from step {stop} on {second:?}"));
        let best = |folder: &Path| std::fs::read(folder.join("best.h5")).unwrap();
        assert!(best(&out) == best(&whole), "the best model of {first:?}, then {second:?}");
    }
    // Weights and running statistics begin a fork.
    for (out, ranks) in [("fork-a", 0), ("fork-b", 3)] {
        let line = format!("train --data faces.h5 --resume whole --fork --out {out} --seed 9 --max-steps 4");
        on(ranks, 0, &line, dir).success();
    }
    assert_same_run(&dir.join("fork-a"), &dir.join("fork-b"), "a fork on 3 ranks");
    on(2, 0, "verify whole", dir).success();
}

#[test]
fn a_wrong_running_statistic_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    prepare(dir);
    let train = "train --data faces.h5 --model normed.toml --batch 10 --epochs 1 --digest-every 1";
    let fault = "env GLASSES_FAULT='flip rank=1 step=4 param=batch_norm1.running_var'";
    // Each rank has its own copy.
    let command = format!("${{MPIRUN:-mpirun}} -n 3 {fault} $GLASSES {train} --window off --out apart");
    let message = crate::run::shell(&command, dir).failure();
    assert!(
        message.contains("others on rank 1 on ") && message.contains("first in batch_norm1.running_var"),
        "{message}"
    );
    // All have one: only who computes the steps again finds it.
    let command = format!("${{MPIRUN:-mpirun}} -n 3 {fault} $GLASSES {train} --out together");
    crate::run::shell(&command, dir).success();
    let message = on(2, 0, "verify together", dir).failure();
    assert!(message.contains("batch_norm1.running_var"), "{message}");
}

#[test]
fn the_exchanges_of_norms_are_counted_as_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    prepare(dir);
    let train = "train --data faces.h5 --model normed.toml --batch 16 --max-steps 4 --eval-every 5 --clip-norm 1";
    for (ranks, most) in [(2, 0), (4, 2), (3, 0)] {
        for rows in ["all", "4"] {
            for window in ["on", "off"] {
                let how = format!("--comm reduce --norm-rows {rows} --window {window}");
                let out = format!("{ranks}-{rows}-{window}");
                on(ranks, most, &format!("{train} {how} --out {out}"), dir).success();
                assert_predicted(&dir.join(&out), &format!("{train} {how} on {ranks} ranks, {most} a machine"));
            }
        }
    }
    let report = |rows: &str| -> Value {
        let plan = format!("plan --model normed.toml --input 24x24x3 --ranks 1,2,4 --norm-rows {rows} --json");
        serde_json::from_str(&glasses(&plan.split(' ').collect::<Vec<_>>(), dir).success().stdout).unwrap()
    };
    let exchanges = |report: &Value, row: usize| report["rows"][row]["step"]["norm_exchanges"].as_u64().unwrap();
    let (all, some) = (report("all"), report("2"));
    assert_eq!([exchanges(&all, 0), exchanges(&all, 1), exchanges(&some, 1)], [0, 12, 1]);
}

/// One rank has them all, as 4 or 7 have them together, in one group and in groups of 32 or more.
#[test]
fn steps_of_128_rows_are_the_same_on_one_rank() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let settings = prepare(dir);
    glasses(&["synth", "--out", "more.h5", "--count", "180", "--size", "24"], dir).success();
    for (case, rows) in [RowCount::All, RowCount::Rows(32)].into_iter().enumerate() {
        let settings = Settings {
            data: Some(dir.join("more.h5")),
            batch: Some(Batch::Rows(128)),
            norm_rows: Some(rows),
            max_steps: Some(3),
            ..settings.clone()
        };
        let alone = dir.join(format!("alone-{case}"));
        with_threads(&[], settings.clone(), &Origin::Scratch, &alone);
        for (turn, machines) in [&[4][..], &[4, 1, 2]].into_iter().enumerate() {
            let out = dir.join(format!("{case}-{turn}"));
            with_threads(machines, settings.clone(), &Origin::Scratch, &out);
            assert_same_run(&out, &alone, &format!("groups of {rows:?}, machines {machines:?}"));
        }
    }
}

/// Its variance is of no use for other rows: of a vector it is none at all, and the norm gives its bias.
#[test]
fn a_group_of_one_row_leaves_the_running_variances_alone() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let settings = Settings { batch: Some(Batch::Rows(1)), max_steps: Some(6), ..prepare(dir) };
    let alone = dir.join("alone");
    with_threads(&[], settings.clone(), &Origin::Scratch, &alone);
    let saved = checkpoint::read(&alone.join("model.h5")).unwrap();
    let values = |name: &str| {
        let param = saved.params.table.iter().find(|param| param.name == name).unwrap();
        &saved.params.values[param.range.clone()]
    };
    let variances = saved.params.table.iter().filter(|param| param.name.ends_with("running_var"));
    assert_eq!(variances.flat_map(|param| values(&param.name)).filter(|&&value| value != 1.0).count(), 0);
    assert!(values("batch_norm1.running_mean").iter().all(|value| value.is_finite() && *value != 0.0));
    assert!(saved.params.values.iter().all(|value| value.is_finite()));
    for (turn, machines) in [&[3][..], &[2, 2]].into_iter().enumerate() {
        let out = dir.join(format!("{turn}"));
        with_threads(machines, settings.clone(), &Origin::Scratch, &out);
        assert_same_run(&out, &alone, &format!("machines {machines:?}"));
    }
}
