//! Whatever way gradients take from rank to rank, whoever shares memory with whom: it is the same run, bit for bit, under a real
//! launcher and with threads for ranks. A run may stop under one plan and go on under another.

use std::path::{Path, PathBuf};

use glasses::comm::{Comm, SharedWindow, Solo, Threads};
use glasses::config::{Batch, ModelChoice, Settings};
use glasses::optim::OptimizerKind;
use glasses::train::Origin;

use crate::ranks::assert_same_run;
use crate::run::{Outcome, glasses, shell};

/// Two dense layers whose inputs are several blocks of 256 (nine, two), one of which rows lie between, and a small one.
const MODEL: &str = r#"
name = "blocks"
layers = ["conv 3x3x4", "relu", "flatten", "dense 260", "tanh", "dropout 0.1", "dense 11", "tanh", "dense classes"]
"#;

/// The same with residual blocks and branches in front of the dense layers and between them; two of these read one tensor.
const JOINED: &str = r#"
name = "joined"
layers = [
    "conv 3x3x4", "relu", { residual = ["conv 3x3x4", "relu", "conv 3x3x4"] }, "relu",
    { branches = [["conv 1x1x2"], ["maxpool 3 stride 1 pad 1"]], join = "concat" }, "flatten",
    "dense 260", "tanh", { residual = ["dense 260", "relu"] },
    { branches = [["dense 11"], ["dense 7", "tanh"], []], join = "concat" }, "dropout 0.1", "dense classes",
]
"#;

/// Small dense layers that make factors of an image's channels and are summed with the convolutions, and larger ones of a vector's.
const SCALED: &str = r#"
name = "scaled"
layers = [
    "conv 3x3x8 stride 2 pad 1", "group_norm 2", "relu", { scale = ["global_avgpool", "dense 4", "relu", "dense 8", "sigmoid"] },
    { residual = ["conv 3x3x8", "layer_norm", { scale = [
        "adaptive_avgpool 2", "flatten", { scale = ["dense 5", "silu", "dense 32", "sigmoid"] }, "dense 8", "hard_sigmoid",
    ] }, "drop_path 0.3"] },
    "maxpool 2", "flatten", "dense 260", "tanh", { scale = ["dense 7", "relu", "dense 260", "sigmoid"] }, "drop_path 0.1", "dense classes",
]
"#;

/// Dense layers that read the network's own input: nothing else comes first, and beside convolutions.
const FIRST: &str = r#"
name = "first"
layers = ["flatten", "dense 260", "tanh", "dense 7", "relu", "dense classes"]
"#;
const BESIDE: &str = r#"
name = "beside"
layers = [
    { branches = [["flatten", "dense 9"], ["conv 3x3x4 stride 2 pad 1", "relu", "flatten"]], join = "concat" }, "dense 9", "tanh",
    "dense classes",
]
"#;

const COMMS: [Comm; 4] = [Comm::Auto, Comm::Reduce, Comm::Factors, Comm::Split];

/// Ranks of each machine.
const MACHINES: [&[usize]; 9] = [&[1], &[2], &[5], &[8], &[1, 1, 1], &[2, 2], &[2, 3, 2], &[4, 1, 3], &[3, 5]];

/// A run with threads for ranks.
pub fn with_threads(machines: &[usize], settings: Settings, origin: &Origin, out: &Path) {
    let settings = Settings { out: Some(out.to_owned()), ..settings };
    let config = |ranks: usize| settings.clone().lower(Settings::default(), ranks).unwrap();
    if machines.is_empty() {
        glasses::train::run(&config(1), origin, &Solo::default()).unwrap();
        return;
    }
    let ranks = machines.iter().sum();
    Threads::run_on(machines, |comm| glasses::train::run(&config(ranks), origin, comm).unwrap());
}

fn faces(dir: &Path) -> PathBuf {
    std::fs::write(dir.join("blocks.toml"), MODEL).unwrap();
    for (name, text) in [("joined", JOINED), ("scaled", SCALED), ("first", FIRST), ("beside", BESIDE)] {
        std::fs::write(dir.join(format!("{name}.toml")), text).unwrap();
    }
    glasses(&["synth", "--out", "faces.h5", "--count", "80", "--size", "24", "--val", "0.1"], dir).success();
    dir.join("faces.h5")
}

fn settings(dir: &Path, data: &Path) -> Settings {
    Settings {
        data: Some(data.to_owned()),
        model: Some(ModelChoice::Name(dir.join("blocks.toml").display().to_string())),
        lr: Some(0.01),
        digest_every: Some(1),
        epochs: Some(2),
        ..Settings::default()
    }
}

#[test]
fn every_plan_on_any_machines_is_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let data = faces(dir);
    // Fewer rows a step than ranks (some have none); a short last batch; all rows at once; shards that nothing divides; shards
    // without a row.
    let cases = [
        ("blocks", Batch::Rows(3), 8, OptimizerKind::Sgd, None, 8),
        ("blocks", Batch::Rows(16), 11, OptimizerKind::Momentum, Some(0.5), 9),
        ("blocks", Batch::Rows(1), 13, OptimizerKind::Nesterov, None, 9),
        ("blocks", Batch::Full, 8, OptimizerKind::Adamw, Some(0.5), 2),
        ("blocks", Batch::Rows(13), 64, OptimizerKind::Adam, None, 6),
        ("blocks", Batch::Full, 100, OptimizerKind::Sgd, Some(0.1), 2),
        ("blocks", Batch::Rows(50), 9, OptimizerKind::Adam, Some(0.5), 4),
        ("joined", Batch::Rows(13), 8, OptimizerKind::Adam, Some(0.5), 6),
        ("joined", Batch::Rows(3), 11, OptimizerKind::Momentum, None, 8),
        ("joined", Batch::Full, 13, OptimizerKind::Sgd, None, 2),
        ("scaled", Batch::Rows(13), 8, OptimizerKind::Adam, Some(0.5), 6),
        ("scaled", Batch::Rows(3), 11, OptimizerKind::Momentum, None, 8),
        ("scaled", Batch::Full, 13, OptimizerKind::Adamw, None, 2),
        ("first", Batch::Rows(13), 8, OptimizerKind::Sgd, None, 6),
        ("first", Batch::Rows(3), 11, OptimizerKind::Adam, Some(0.5), 4),
        ("beside", Batch::Rows(13), 11, OptimizerKind::Momentum, None, 5),
    ];
    for (case, (model, batch, shards, optimizer, clip_norm, steps)) in cases.into_iter().enumerate() {
        let settings = Settings {
            batch: Some(batch),
            shards: Some(shards),
            optimizer: Some(optimizer),
            clip_norm,
            clip_value: (case % 2 == 0).then_some(0.05),
            max_steps: Some(steps),
            model: Some(ModelChoice::Name(dir.join(format!("{model}.toml")).display().to_string())),
            ..settings(dir, &data)
        };
        let solo = dir.join(format!("{case}-solo"));
        let reduced = Settings { comm: Some(Comm::Reduce), ..settings.clone() };
        with_threads(&[], reduced, &Origin::Scratch, &solo);
        let all = MACHINES.iter().flat_map(|machines| COMMS.map(|comm| (machines, comm)));
        let all =
            all.flat_map(|(machines, comm)| [(machines, comm, SharedWindow::On), (machines, comm, SharedWindow::Off)]);
        // All of them come up, each with two or three of the cases.
        for (turn, (machines, comm, window)) in all.enumerate().filter(|(turn, _)| (turn + case) % 3 == 0) {
            let out = dir.join(format!("{case}-{turn}"));
            let settings = Settings { comm: Some(comm), window: Some(window), ..settings.clone() };
            with_threads(machines, settings, &Origin::Scratch, &out);
            assert_same_run(&out, &solo, &format!("case {case}, {comm:?}, window {window:?}, machines {machines:?}"));
        }
    }
}

/// Runs `glasses ARGS` on so many ranks, of which at most `most` share memory; on 0 ranks without a launcher.
pub fn on(ranks: usize, most: usize, args: &str, dir: &Path) -> Outcome {
    let env = if most == 0 { String::new() } else { format!("export GLASSES_NODE_RANKS={most};") };
    let launcher = if ranks == 0 { String::new() } else { format!("${{MPIRUN:-mpirun}} -n {ranks}") };
    shell(&format!("{env} {launcher} $GLASSES {args}"), dir)
}

#[test]
fn every_plan_is_the_same_run_under_a_real_launcher() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    glasses(&["synth", "--out", "faces.h5", "--count", "90", "--test", "0.1", "--size", "24"], dir).success();
    let train =
        "train --data faces.h5 --shards 13 --batch 17 --epochs 1 --digest-every 2 --clip-norm 1 --optimizer adam";
    on(0, 0, &format!("{train} --comm reduce --out alone"), dir).success();
    for (ranks, most, how) in [
        (0, 0, "--comm auto"),
        (2, 0, "--comm split --window on"),
        (2, 0, "--comm split --window off"),
        (3, 0, "--comm factors --window on"),
        (3, 2, "--comm auto --window auto"),
        (3, 0, "--comm reduce --window off"),
        (5, 2, "--comm reduce --window on"),
        (5, 3, "--comm split --window on"),
        (5, 2, "--comm factors --window on"),
        (8, 3, "--comm factors --window on"),
        (8, 3, "--comm split --window on"),
        (8, 2, "--comm reduce --window on"),
        (8, 0, "--comm factors --window off"),
    ] {
        let out = format!("{ranks}-{most}-{}", how.replace(' ', ""));
        on(ranks, most, &format!("{train} {how} --out {out}"), dir).success();
        assert_same_run(&dir.join(&out), &dir.join("alone"), &format!("{how} on {ranks} ranks, {most} a machine"));
    }
}

/// What the model behind `glasses plan` said of a run's messages and reads is what was counted, to two percent.
#[track_caller]
pub fn assert_predicted(folder: &Path, what: &str) {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    for (name, predicted) in [("sent", "predicted_sent"), ("shared", "predicted_shared")] {
        let [counted, predicted] = [name, predicted].map(|name| line["exchange"][name].as_f64().unwrap());
        assert!(
            (counted - predicted).abs() <= 0.02 * counted,
            "{what}: {name}: counted {counted}, predicted {predicted}"
        );
        let moves = name == "sent" || !what.contains("--window off");
        assert_eq!(
            counted > 0.0,
            moves && (name == "shared" || what.contains("--clip-norm")),
            "{what}: {name} {counted}"
        );
    }
}

#[test]
fn bytes_are_counted_as_predicted() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // Four steps of two rows of each of eight shards.
    glasses(&["synth", "--out", "faces.h5", "--count", "80", "--test", "0.2", "--size", "32"], dir).success();
    let train = "train --data faces.h5 --batch 16 --epochs 1 --eval-every 5 --clip-norm 1";
    for (ranks, most) in [(2, 0), (3, 0), (4, 2), (8, 2)] {
        for comm in ["reduce", "factors", "split"] {
            for window in ["on", "off"] {
                let how = format!("--comm {comm} --window {window}");
                let out = format!("{ranks}-{comm}-{window}");
                on(ranks, most, &format!("{train} {how} --out {out}"), dir).success();
                assert_predicted(&dir.join(&out), &format!("{train} {how} on {ranks} ranks, {most} a machine"));
            }
        }
    }
}

#[test]
fn half_the_width_is_the_same_run_to_rounding_and_only_on_the_same_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    glasses(&["synth", "--out", "faces.h5", "--count", "80", "--test", "0.2", "--size", "32"], dir).success();
    let train = "train --data faces.h5 --batch 16 --epochs 2 --eval-every 5";
    let run = |how: &str, out: &str| {
        on(4, 2, &format!("{train} {how} --out {out}"), dir).success();
        let text = std::fs::read_to_string(dir.join(out).join("summary.json")).unwrap();
        let found: serde_json::Value = serde_json::from_str(&text).unwrap();
        (
            crate::ranks::weights(&dir.join(out)),
            found["train_loss"].as_f64().unwrap(),
            found["exchange"]["sent"].as_f64().unwrap(),
        )
    };
    for comm in ["reduce", "factors", "split"] {
        let whole = run(&format!("--comm {comm}"), &format!("{comm}-f32"));
        let half = run(&format!("--comm {comm} --wire bf16"), &format!("{comm}-bf16"));
        let again = run(&format!("--comm {comm} --wire bf16"), &format!("{comm}-again"));
        assert!(half.0 != whole.0 && half.0 == again.0, "{comm}: rounded, and alike each time");
        assert!((half.1 - whole.1).abs() <= 0.05 * whole.1, "{comm}: {half:?} and {whole:?}");
        // Scores and the like are not rounded.
        assert!(half.2 < 0.55 * whole.2, "{comm}: {half:?} and {whole:?}");
    }
    // What was measured to be the fastest when the run began may be another plan now: the run goes on by the recorded one.
    for comm in ["reduce", "factors", "split"] {
        let left =
            format!("{train} --comm {comm} --wire bf16 --checkpoint-every 2steps --max-steps 4 --out {comm}-left");
        on(4, 2, &left, dir).success();
        on(4, 2, &format!("train --resume {comm}-left --comm auto --max-steps 6"), dir).success();
        on(4, 2, &format!("verify {comm}-left"), dir).success();
    }
    let left = "--comm split --wire bf16 --checkpoint-every 2steps --max-steps 4 --out left";
    on(4, 2, &format!("{train} {left}"), dir).success();
    let message = on(2, 1, "train --resume left --max-steps 6", dir).failure();
    assert!(message.contains("ranks, with --wire bf16: 2 were 4"), "{message}");
    // The same ranks, grouped otherwise or by another plan, would round other numbers.
    for (most, how) in [(0, ""), (2, " --comm reduce")] {
        let message = on(4, most, &format!("train --resume left --max-steps 6{how}"), dir).failure();
        assert!(message.contains("plan, with --wire bf16: ") && message.contains("groups of 2, 2 ranks"), "{message}");
        let message = on(4, most, &format!("verify left{how}"), dir);
        assert!(how.contains("comm") || message.failure().contains("--wire bf16"), "verify on groups of {most}");
    }
    on(4, 2, "train --resume left --max-steps 6", dir).success();
}

#[test]
fn a_run_that_stops_under_one_plan_goes_on_under_another() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let data = faces(dir);
    let settings = |comm: Comm, window: SharedWindow, steps: usize| Settings {
        batch: Some(Batch::Rows(10)),
        shards: Some(9),
        optimizer: Some(OptimizerKind::Adam),
        comm: Some(comm),
        window: Some(window),
        max_steps: Some(steps),
        ..settings(dir, &data)
    };
    let whole = dir.join("whole");
    with_threads(&[], settings(Comm::Reduce, SharedWindow::Off, 1000), &Origin::Scratch, &whole);
    // Two plans, on machines, and where the first one stops: inside an epoch, or at its end (an epoch has 8 steps).
    let cases: [[(Comm, SharedWindow, &[usize]); 2]; 7] = [
        [(Comm::Split, SharedWindow::Off, &[4]), (Comm::Reduce, SharedWindow::On, &[3])],
        [(Comm::Reduce, SharedWindow::Off, &[3]), (Comm::Split, SharedWindow::Off, &[2, 3])],
        [(Comm::Factors, SharedWindow::On, &[2, 2]), (Comm::Split, SharedWindow::On, &[4])],
        [(Comm::Split, SharedWindow::On, &[3, 2]), (Comm::Factors, SharedWindow::Off, &[2])],
        [(Comm::Split, SharedWindow::Off, &[1, 1, 1]), (Comm::Split, SharedWindow::On, &[2, 1])],
        [(Comm::Auto, SharedWindow::Auto, &[]), (Comm::Split, SharedWindow::Off, &[9])],
        [(Comm::Auto, SharedWindow::On, &[5]), (Comm::Auto, SharedWindow::Auto, &[])],
    ];
    for (case, [first, second]) in cases.into_iter().enumerate() {
        let stop = [3, 8, 11][case % 3];
        let out = dir.join(format!("{case}"));
        with_threads(first.2, settings(first.0, first.1, stop), &Origin::Scratch, &out);
        with_threads(second.2, settings(second.0, second.1, 1000), &Origin::Resume(out.clone()), &out);
        assert_same_run(&out, &whole, &format!("{first:?}, from step {stop} on {second:?}"));
        let best = |folder: &Path| std::fs::read(folder.join("best.h5")).unwrap();
        assert!(best(&out) == best(&whole), "the best model of {first:?}, then {second:?}");
    }
}

#[test]
fn checkpoints_forks_and_verify_do_not_know_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    faces(dir);
    let train = "train --data faces.h5 --model blocks.toml --batch 10 --epochs 2 --optimizer momentum --digest-every 3";
    let split = "--comm split --window off";
    on(0, 0, &format!("{train} --checkpoint-every 5 --keep 9 --out alone"), dir).success();
    on(3, 0, &format!("{train} --checkpoint-every 5 --keep 9 {split} --out split"), dir).success();
    // The state in the middle of an epoch, gathered from slices, is that of a run that has it all in one place.
    on(3, 0, "verify split --steps 6..", dir).success();
    on(0, 0, "verify split", dir).success();
    assert_same_run(&dir.join("split"), &dir.join("alone"), "split");
    for (out, from, ranks, most, how) in [
        ("a", "alone", 0, 0, "--comm reduce"),
        ("b", "split", 4, 2, "--comm split --window on"),
        ("c", "split", 4, 2, "--comm factors --window auto"),
        ("d", "alone", 3, 0, split),
    ] {
        let line = format!("train --resume {from} --fork --out fork-{out} --seed 9 --max-steps 10 {how}");
        on(ranks, most, &line, dir).success();
        assert_same_run(&dir.join(format!("fork-{out}")), &dir.join("fork-a"), how);
    }
    // As after a crash: only what a checkpoint in the middle of an epoch holds is left.
    for folder in ["split", "alone"] {
        for step in [10, 15, 16] {
            let _ = std::fs::remove_file(dir.join(format!("{folder}/checkpoints/step-{step:09}.h5")));
        }
        assert!(dir.join(format!("{folder}/checkpoints/step-000000005.h5")).exists());
        std::fs::remove_file(dir.join(folder).join("summary.json")).unwrap();
    }
    on(0, 0, "train --resume split --comm reduce", dir).success();
    on(4, 3, "train --resume alone --comm split --window on", dir).success();
    assert_same_run(&dir.join("split"), &dir.join("alone"), "gone on with");
    on(0, 0, "verify split", dir).success();
}
