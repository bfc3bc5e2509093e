//! `glasses train` through its binary: flags, files, recipes, and what a run leaves.

use std::path::Path;

use hdf5::types::FixedAscii;
use serde_json::Value;

use crate::fixtures::{Raw, everything, faces, words};
use crate::run::{Outcome, glasses, mpirun};

/// Trains on the faces.
const TRAIN: &str = "--data faces.h5 --model tiny.toml";

/// Trains into the folder `out`, which must go well; gives its summary.
fn train(dir: &Path, options: &str, out: &str) -> Value {
    glasses(&words(&format!("{options} --out {out}")), dir).success();
    summary(dir, out)
}

fn summary(dir: &Path, out: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join(out).join("summary.json")).unwrap()).unwrap()
}

fn metrics(dir: &Path, out: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join(out).join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_command_has_a_help_that_prints_once() {
    let dir = tempfile::tempdir().unwrap();
    let usage = |end: &Outcome| end.stdout.lines().filter(|line| line.starts_with("Usage: glasses")).count();
    for command in ["", "train", "ingest", "synth", "eval", "predict", "info", "bench", "report", "watch"] {
        for help in ["--help", "-h"] {
            let end = glasses(&words(&format!("{command} {help}")), dir.path()).success();
            assert!(usage(&end) == 1 && end.stdout.contains("Options:") && end.stderr.is_empty(), "{end:?}");
        }
    }
    assert!(glasses(&["--version"], dir.path()).success().stdout.starts_with("glasses 0."));
    for args in ["--help", "train --help", "--version"] {
        let (alone, two) = (glasses(&words(args), dir.path()).success(), mpirun(2, &words(args), dir.path()).success());
        assert_eq!(alone.stdout, two.stdout, "once, whatever the ranks");
    }
    assert_eq!(everything(dir.path()), [], "help makes no files");
}

#[test]
fn a_run_leaves_its_settings_a_line_an_epoch_a_model_and_a_summary() {
    let dir = faces();
    let found = train(dir.path(), &format!("{TRAIN} --epochs 3 --shards 5"), "run");
    for (key, want) in [("ranks", 1), ("shards", 5), ("epochs", 3), ("steps", 12), ("bytes_communicated", 0)] {
        assert_eq!(found[key], want, "{key}");
    }
    for key in ["train_loss", "train_accuracy", "test_loss", "test_accuracy", "images_per_sec", "wall_seconds"] {
        assert!(found[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {}", found[key]);
    }
    let digest = found["weights_sha256"].as_str().unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    let lines = metrics(dir.path(), "run");
    assert_eq!(lines.len(), 3);
    for (i, line) in lines.iter().enumerate() {
        assert_eq!((&line["epoch"], &line["step"]), (&Value::from(i + 1), &Value::from(4 * (i + 1))));
        for key in ["train_loss", "train_accuracy", "test_loss", "test_accuracy", "images_per_sec"] {
            assert!(line[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {line}");
        }
        for phase in ["load", "forward", "backward", "sync", "update"] {
            assert!(line["seconds"][phase].as_f64().is_some_and(|value| value >= 0.0), "{phase} in {line}");
        }
        assert_eq!(line["bytes_communicated"], 0, "{line}");
    }
    assert_eq!(lines[2]["test_loss"], found["test_loss"]);
    let mut names: Vec<_> = everything(&dir.path().join("run")).into_iter().map(|(path, _)| path).collect();
    names.iter_mut().for_each(|path| *path = path.file_name().unwrap().into());
    let want = [
        "checkpoints",
        "step-000000012.h5",
        "config.toml",
        "digests.jsonl",
        "lock",
        "metrics.jsonl",
        "model.h5",
        "report.html",
        "summary.json",
    ];
    assert_eq!(names, want.map(std::path::PathBuf::from));
    // Without --out each run has a folder of its own, even within a second.
    for _ in 0..2 {
        glasses(&words(&format!("{TRAIN} --epochs 1")), dir.path()).success();
    }
    let runs: Vec<_> = std::fs::read_dir(dir.path().join("runs")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(runs.len() == 2 && runs.iter().all(|name| name.to_string_lossy().contains("-tiny")), "{runs:?}");
    // Nothing is overwritten.
    let before = everything(dir.path());
    let message = glasses(&words(&format!("{TRAIN} --out run")), dir.path()).failure();
    assert!(message.contains("--out run") && everything(dir.path()) == before, "{message}");
}

#[test]
fn the_settings_of_a_run_given_back_give_the_same_weights() {
    let dir = faces();
    let options = "--epochs 2 --lr 0.003 --seed 7 --optimizer nesterov --clip-norm 2 --normalize dataset --batch 20";
    let first = train(dir.path(), &format!("{TRAIN} {options}"), "first");
    let again = train(dir.path(), "--config first/config.toml", "again");
    assert_eq!(first["weights_sha256"], again["weights_sha256"]);
    let text = |run: &str| std::fs::read_to_string(dir.path().join(run).join("config.toml")).unwrap();
    assert_eq!(text("first"), text("again"));
    let other = train(dir.path(), "--config first/config.toml --seed 8", "other");
    assert_ne!(first["weights_sha256"], other["weights_sha256"], "a flag wins");
    assert!(text("other").contains("seed = 8") && text("other").contains("lr = 0.003"), "and the rest stays");
    mpirun(3, &words("train --config first/config.toml --out three"), dir.path()).success();
    let three = summary(dir.path(), "three");
    assert_eq!((&three["ranks"], &three["shards"], &three["steps"]), (&3.into(), &8.into(), &first["steps"]));
    assert!(three["bytes_communicated"].as_u64() > Some(0));
    let loss = |run: &Value| run["train_loss"].as_f64().unwrap();
    assert!((loss(&three) - loss(&first)).abs() <= 1e-4 * loss(&first), "{three} {first}");
}

#[test]
fn steps_and_evaluations_are_as_many_as_asked_for() {
    let dir = faces();
    let cut = train(dir.path(), &format!("{TRAIN} --epochs 5 --max-steps 6"), "cut");
    assert_eq!((&cut["steps"], &cut["epochs"]), (&6.into(), &2.into()));
    assert!(cut["test_loss"].is_number());
    train(dir.path(), &format!("{TRAIN} --epochs 5 --eval-every 2"), "seldom");
    let evaluated: Vec<bool> = metrics(dir.path(), "seldom").iter().map(|line| line["test_loss"].is_number()).collect();
    assert_eq!(evaluated, [false, true, false, true, true], "every second epoch, and the last");
    let full = train(dir.path(), &format!("{TRAIN} --epochs 3 --batch full"), "full");
    assert_eq!(full["steps"], 3, "a step an epoch");
    let one = train(dir.path(), &format!("{TRAIN} --epochs 1 --batch 1"), "one");
    assert_eq!(one["steps"], 64, "a step a row");
    let short = train(dir.path(), &format!("{TRAIN} --epochs 1 --batch 60"), "short");
    assert_eq!(short["steps"], 2, "the last batch has four rows");
}

#[test]
fn every_choice_trains_and_gives_weights_of_its_own() {
    let dir = faces();
    let mut seen = Vec::new();
    for options in [
        "",
        "--optimizer sgd",
        "--optimizer momentum",
        "--optimizer nesterov --momentum 0.5",
        "--optimizer adam",
        "--optimizer adamw --weight-decay 0.5",
        "--optimizer sgd --weight-decay 0.5",
        "--schedule constant",
        "--schedule step",
        "--schedule cosine --warmup-epochs 1.5",
        "--clip-value 0.001 --optimizer sgd",
        "--clip-norm 0.001 --optimizer sgd",
        "--init xavier",
        "--augment none",
        "--normalize dataset",
        "--normalize unit",
        "--normalize none",
        "--kernels gemm --seed 2",
        "--shards 3",
    ] {
        let found = train(dir.path(), &format!("{TRAIN} --epochs 3 {options}"), &format!("run{}", seen.len()));
        let digest = found["weights_sha256"].to_string();
        assert!(found["train_loss"].as_f64().is_some_and(f64::is_finite), "{options}: {found}");
        assert!(!seen.contains(&digest), "'{options}' changes nothing");
        seen.push(digest);
    }
    train(dir.path(), &format!("{TRAIN} --recipe paper --max-steps 2"), "paper");
    let text = std::fs::read_to_string(dir.path().join("paper/config.toml")).unwrap();
    for line in ["optimizer = \"sgd\"", "lr = 0.001", "batch = 16", "epochs = 50", "schedule = \"constant\""] {
        assert!(text.contains(line), "{line} in {text}");
    }
    train(dir.path(), &format!("{TRAIN} --recipe paper --lr 0.5 --epochs 1"), "mine");
    let text = std::fs::read_to_string(dir.path().join("mine/config.toml")).unwrap();
    assert!(text.contains("lr = 0.5") && text.contains("epochs = 1\n"), "a flag wins over a recipe: {text}");
}

#[test]
fn a_validation_split_chooses_the_best_model_and_no_test_split_is_no_fault() {
    let dir = faces();
    glasses(&words("synth --size 24 --count 80 --test 0 --val 0.25 --out val.h5"), dir.path()).success();
    let found = train(dir.path(), "--data val.h5 --model tiny.toml --epochs 4", "val");
    assert!(found["val_loss"].is_number() && found["test_loss"].is_null() && found["test_accuracy"].is_null());
    let lines = metrics(dir.path(), "val");
    let accuracy: Vec<f64> = lines.iter().map(|line| line["val_accuracy"].as_f64().unwrap()).collect();
    assert!(lines.iter().all(|line| line["test_loss"].is_null()));
    let best = accuracy.iter().copied().fold(f64::MIN, f64::max);
    let epoch = found["best_epoch"].as_u64().unwrap() as usize;
    assert_eq!(accuracy.iter().position(|&a| a == best), Some(epoch - 1), "the first of the best: {accuracy:?}");
    let args = words("eval --model val/best.h5 --data val.h5 --split val --json");
    let judged: Value = serde_json::from_str(&glasses(&args, dir.path()).success().stdout).unwrap();
    assert_eq!(judged["accuracy"].as_f64(), Some(best));
    train(dir.path(), &format!("{TRAIN} --epochs 1"), "plain");
    assert!(!dir.path().join("plain/best.h5").exists(), "nothing is chosen on the test set");
}

#[test]
fn a_file_that_another_program_wrote_to_the_description_trains() {
    let dir = faces();
    let dir = dir.path();
    let labels: Vec<u8> = (0..12).map(|row| row % 2).collect();
    let file = Raw::create(dir, "bare.h5").only_images("train", 12).put("train/labels", &[12], &labels);
    drop(file.only_images("test", 4).put("test/labels", &[4], &[0i16, 1, 0, 1]));
    let found =
        train(dir, "--data bare.h5 --model tiny.toml --epochs 60 --batch 4 --lr 0.01 --normalize dataset", "bare");
    assert_eq!(found["test_accuracy"], 1.0, "bright or dark is learnt: {found}");
    // Fixed-length names, as h5py writes an array of bytes.
    let names: Vec<FixedAscii<8>> = ["dark", "bright"].map(|name| FixedAscii::from_ascii(name).unwrap()).into();
    let file = Raw::create(dir, "named.h5").only_images("train", 12).put("train/labels", &[12], &labels);
    file.file().new_attr_builder().with_data(&names).create("classes").unwrap();
    drop(file);
    mpirun(2, &words("--data named.h5 --model tiny.toml --epochs 1 --batch 4 --out named"), dir).success();
    let info = glasses(&words("info named/model.h5 --json"), dir).success().stdout;
    let info: Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["classes"], serde_json::json!(["dark", "bright"]));
    // Plain features, in f64 as numpy makes them.
    let values: Vec<f64> = (0..12).map(|row| f64::from(row % 2) * 3.0 - 1.0).collect();
    drop(Raw::create(dir, "f64.h5").put("train/features", &[12, 1], &values).put("train/labels", &[12], &labels));
    let found = train(dir, "--data f64.h5 --model dense.toml --epochs 60 --batch 4 --lr 0.05", "f64");
    assert_eq!(found["train_accuracy"], 1.0, "{found}");
}

#[test]
fn another_program_s_word_is_answered_with_ours() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.csv"), "x,y\n1,0\n").unwrap();
    std::fs::create_dir(dir.path().join("photos")).unwrap();
    image::RgbImage::new(4, 4).save(dir.path().join("one.png")).unwrap();
    for (line, advice) in [
        ("fit --data d.h5", "'fit' is called `glasses train` here"),
        ("test d.h5", "'test' is called `glasses eval` here"),
        ("infer one.png", "'infer' is called `glasses predict` here"),
        ("--workers 4", "there is no --workers: ranks do the work: mpirun -n 8 glasses"),
        ("train --num-workers 4", "mpirun -n 8 glasses"),
        ("--learning-rate 0.1", "--learning-rate is called --lr here"),
        ("train --batch-size 32", "--batch-size is called --batch here"),
        ("--gpus 1", "computes on CPUs"),
        ("d.h5", "--data d.h5"),
        ("train d.h5", "--data d.h5"),
        ("train net.toml", "--config net.toml"),
        ("photos", "glasses ingest photos --out data.h5"),
        ("train t.csv", "glasses ingest t.csv --out data.h5"),
        ("one.png", "glasses predict --model runs/… one.png"),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let ended = glasses(&words, dir.path());
        assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
        assert!(ended.stderr.contains("\nfix: ") && ended.stderr.contains(advice), "{line}: {ended:?}");
    }
    // Where clap itself knows better, nothing is added.
    assert!(!glasses(&["--epchs", "3"], dir.path()).stderr.contains("fix:"));
}
