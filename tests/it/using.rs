//! `glasses eval`, `predict`, `info`, and a first run with no argument, through the binary.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::fixtures::{faces, refused, words};
use crate::run::{glasses, mpirun, shell};

/// The faces, a model that was trained on them (`run`), and twelve pictures.
fn trained() -> TempDir {
    let dir = faces();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 3 --out run"), dir.path()).success();
    let folder = dir.path().join("pictures/deeper");
    std::fs::create_dir_all(&folder).unwrap();
    for i in 0..12u8 {
        let picture = image::RgbImage::from_fn(30, 20, |x, y| image::Rgb([x as u8 * 8, y as u8 * i, 99]));
        picture.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
    dir
}

/// What a command prints alone; three ranks must print the same, numbers within `tolerance`.
fn everywhere(args: &str, dir: &Path, tolerance: f64) -> String {
    let alone = glasses(&words(args), dir).success().stdout;
    let three = mpirun(3, &words(args), dir).success().stdout;
    let tokens = |text: &str| -> Vec<String> {
        text.split(|c: char| c.is_whitespace() || "[]{},".contains(c)).map(str::to_owned).collect()
    };
    let (a, b) = (tokens(&alone), tokens(&three));
    assert_eq!(a.len(), b.len(), "{args}: {alone} {three}");
    for (a, b) in a.iter().zip(&b) {
        let near = || Some((a.parse::<f64>().ok()? - b.parse::<f64>().ok()?).abs() <= tolerance);
        assert!(a == b || near() == Some(true), "{args}: {a} {b}");
    }
    alone
}

#[test]
fn eval_gives_the_figures_of_the_run_on_any_number_of_ranks() {
    let dir = trained();
    let text = everywhere("eval --model run/model.h5 --data faces.h5", dir.path(), 0.0);
    let found: Value =
        serde_json::from_str(&everywhere("eval --model run/model.h5 --data faces.h5 --json", dir.path(), 0.0)).unwrap();
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("run/summary.json")).unwrap()).unwrap();
    assert_eq!((&found["accuracy"], &found["loss"]), (&summary["test_accuracy"], &summary["test_loss"]));
    assert_eq!((&found["split"], &found["count"]), (&json!("test"), &json!(16)));
    let cell = |row: usize, column: usize| found["confusion"][row][column].as_u64().unwrap();
    assert_eq!((cell(0, 0) + cell(0, 1), cell(1, 0) + cell(1, 1)), (8, 8), "rows are the true classes");
    assert_eq!(found["accuracy"].as_f64(), Some((cell(0, 0) + cell(1, 1)) as f64 / 16.0));
    for class in 0..2 {
        let figures = &found["classes"][class];
        assert_eq!(figures["rows"], 8);
        assert_eq!(figures["recall"].as_f64(), Some(cell(class, class) as f64 / 8.0));
        let said = cell(0, class) + cell(1, class);
        let precision = (said > 0).then(|| cell(class, class) as f64 / said as f64);
        assert_eq!(figures["precision"].as_f64(), precision);
    }
    // Balanced accuracy, macro F1 and the commonest class, from the cells.
    let recall = |class: usize| cell(class, class) as f64 / 8.0;
    let f1 = |class: usize| 2.0 * cell(class, class) as f64 / (8 + cell(0, class) + cell(1, class)) as f64;
    let near = |key: &str, want: f64| assert!((found[key].as_f64().unwrap() - want).abs() <= 1e-15, "{key} {found}");
    near("balanced_accuracy", (recall(0) + recall(1)) / 2.0);
    near("macro_f1", (f1(0) + f1(1)) / 2.0);
    near("majority_class_accuracy", 0.5);
    for key in ["balanced_accuracy", "macro_f1", "majority_class_accuracy"] {
        assert_eq!(found[key], summary["test_balance"][key], "{key}");
    }
    let pairs = found["confusion_pairs"].as_array().unwrap();
    assert_eq!(pairs.iter().map(|pair| pair[2].as_u64().unwrap()).sum::<u64>(), 16);
    pairs.iter().for_each(|p| assert_eq!(cell(p[0].as_u64().unwrap() as usize, p[1].as_u64().unwrap() as usize), p[2]));
    for part in ["16 rows of test", "accuracy", "precision", "recall", "confusion", "no glasses", "macro F1"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let train = glasses(&words("eval --model run/model.h5 --data faces.h5 --split train --json"), dir.path()).success();
    assert!(train.stdout.contains("\"count\":64"), "{train:?}");
}

#[test]
fn eval_prints_the_same_to_the_last_digit_on_more_ranks_than_shards() {
    let dir = trained();
    let dir = dir.path();
    glasses(&words("train --data faces.h5 --model tiny.toml --epochs 1 --seed 3 --out other"), dir).success();
    for args in [
        "eval --model run --data faces.h5 --split train --json",
        "eval --model run --data faces.h5",
        "eval --model run other --data faces.h5 --split train --json",
    ] {
        let alone = glasses(&words(args), dir).success().stdout;
        for ranks in [3, 8, 11] {
            assert_eq!(mpirun(ranks, &words(args), dir).success().stdout, alone, "{ranks} ranks: {args}");
        }
    }
    let ensemble =
        "train --data faces.h5 --model tiny.toml --epochs 1 --strategy ensemble --members 2 --ranks-per-member 1";
    let figures = |ranks: usize| {
        mpirun(ranks, &words(&format!("{ensemble} --out on-{ranks}")), dir).success();
        let text = std::fs::read_to_string(dir.join(format!("on-{ranks}/summary.json"))).unwrap();
        let summary: Value = serde_json::from_str(&text).unwrap();
        ["test_loss", "test_accuracy", "test_balance"].map(|key| summary[key].clone())
    };
    let three = figures(3);
    assert!(three[0].is_number() && three[2]["macro_f1"].is_number(), "{three:?}");
    assert_eq!(figures(11), three);
}

#[test]
fn predict_names_a_class_and_a_probability_for_each_picture() {
    let dir = trained();
    let text = everywhere("predict --model run/model.h5 pictures", dir.path(), 0.011);
    assert_eq!(text.lines().count(), 12);
    let found = everywhere("predict --model run/model.h5 pictures --json", dir.path(), 1e-5);
    let found: Vec<Value> = serde_json::from_str(&found).unwrap();
    assert_eq!(found.len(), 12);
    let classes = ["no glasses", "glasses"];
    for (i, (one, line)) in found.iter().zip(text.lines()).enumerate() {
        let file = format!("pictures/deeper/{i:02}.png");
        assert_eq!(one["file"], json!(file));
        let shares: Vec<f64> = one["probabilities"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
        let best = usize::from(shares[1] > shares[0]);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() <= 1e-6, "{one}");
        assert_eq!((one["class"].as_str(), one["probability"].as_f64()), (Some(classes[best]), Some(shares[best])));
        assert!(line.starts_with(&file) && line.contains(classes[best]) && line.ends_with('%'), "{line}");
    }
    let csv = everywhere("predict --model run/model.h5 pictures --csv", dir.path(), 1e-5);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(
        rows.headers().unwrap().iter().collect::<Vec<_>>(),
        ["file", "class", "probability", "no glasses", "glasses"]
    );
    for (row, one) in rows.records().map(Result::unwrap).zip(&found) {
        assert_eq!((Some(&row[0]), Some(&row[1])), (one["file"].as_str(), one["class"].as_str()));
        let number = |i: usize| f64::from(row[i].parse::<f32>().unwrap());
        assert!((number(2) - one["probability"].as_f64().unwrap()).abs() <= 1e-6, "{row:?} {one}");
    }
    // One file, by its name, among one rank more than there are files.
    let args = words("predict --model run/model.h5 pictures/deeper/03.png");
    let one = mpirun(2, &args, dir.path()).success();
    assert_eq!(one.stdout.lines().count(), 1);
    assert!(one.stdout.starts_with("pictures/deeper/03.png"), "{one:?}");
}

#[test]
fn info_shows_datasets_models_and_networks() {
    let dir = trained();
    let json =
        |args: &str| -> Value { serde_json::from_str(&glasses(&words(args), dir.path()).success().stdout).unwrap() };
    let data = json("info faces.h5 --json");
    assert_eq!((&data["kind"], &data["shape"]), (&json!("dataset"), &json!([24, 24, 3])));
    assert_eq!(data["classes"], json!(["no glasses", "glasses"]));
    assert_eq!(data["splits"][0], json!({"split": "train", "rows": 64, "rows_of_class": [32, 32]}));
    let text = everywhere("info faces.h5", dir.path(), 0.0);
    assert!(text.contains("/test: 16 rows (no glasses 8, glasses 8)"), "{text}");
    let model = json("info run/model.h5 --json");
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(dir.path().join("run/summary.json")).unwrap()).unwrap();
    assert_eq!((&model["kind"], &model["weights_sha256"]), (&json!("model"), &summary["weights_sha256"]));
    assert_eq!((&model["parameters"], &model["normalize"]), (&summary["parameters"], &json!("per-image")));
    let text = glasses(&words("info run/model.h5"), dir.path()).success().stdout;
    assert!(text.contains("conv 3x3x4") && text.contains("classes: no glasses, glasses"), "{text}");
    // The paper's own figure, for its own pictures.
    let zoo = json("info --model glasses --json");
    assert_eq!((&zoo["parameters"], &zoo["input"]), (&json!(6_578_674), &json!([80, 80, 3])));
    let text = glasses(&words("info --model glasses"), dir.path()).success().stdout;
    assert!(text.contains("6578674 parameters") && text.contains("MFLOP"), "{text}");
    for (name, input) in
        [("glasses-deep", "80x80x3"), ("glasses-wide", "80x80x3"), ("mnist", "28x28x1"), ("spiral", "2")]
    {
        let zoo = json(&format!("info --model {name} --input {input} --json"));
        let layers = zoo["layers"].as_array().unwrap();
        let sum: u64 = layers.iter().map(|layer| layer["parameters"].as_u64().unwrap()).sum();
        assert_eq!((zoo["name"].as_str(), zoo["parameters"].as_u64()), (Some(name), Some(sum)));
        assert!(sum > 0, "{zoo}");
    }
    assert_eq!(json("info --model tiny.toml --input 24x24x3 --json")["parameters"], summary["parameters"]);
}

#[test]
fn a_run_without_data_uses_the_glasses_h5_that_is_there() {
    let dir = faces();
    std::fs::rename(dir.path().join("faces.h5"), dir.path().join("glasses.h5")).unwrap();
    let before = std::fs::read(dir.path().join("glasses.h5")).unwrap();
    for ranks in [1, 2] {
        let args = words("--epochs 1 --model tiny.toml --eval-every 1");
        let end = if ranks == 1 { glasses(&args, dir.path()) } else { mpirun(ranks, &args, dir.path()) }.success();
        assert!(end.stdout.contains("training 'tiny'") && end.stdout.contains("on glasses.h5: 64 train"), "{end:?}");
        assert!(!end.stdout.contains("making"), "{end:?}");
        assert_eq!(end.stdout.matches("results in runs/").count(), 1, "{end:?}");
    }
    assert_eq!(std::fs::read(dir.path().join("glasses.h5")).unwrap(), before);
    assert_eq!(std::fs::read_dir(dir.path().join("runs")).unwrap().count(), 2);
    // Not a single argument: the zoo's own network on what is there, two ranks, and few enough rows to be quick.
    let tiny = "synth --size 24 --count 20 --force --out glasses.h5";
    glasses(&words(tiny), dir.path()).success();
    let end = glasses(&[], dir.path()).success();
    assert!(end.stdout.contains("training 'glasses'") && end.stdout.contains("results in runs/"), "{end:?}");
}

#[test]
fn a_run_without_data_in_an_empty_folder_draws_faces_once_for_all_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let end = mpirun(2, &words("--epochs 1 --max-steps 2"), dir.path()).success();
    assert_eq!(end.stdout.matches("making one of 1000 drawn faces").count(), 1, "{end:?}");
    assert!(end.stdout.contains("800 train, 0 val, 200 test rows"), "{end:?}");
    let made = std::fs::read(dir.path().join("glasses.h5")).unwrap();
    let end = mpirun(2, &words("--epochs 1 --max-steps 2"), dir.path()).success();
    assert!(!end.stdout.contains("making"), "{end:?}");
    assert!(made == std::fs::read(dir.path().join("glasses.h5")).unwrap(), "the file is made once");
}

#[test]
fn a_run_that_could_not_use_drawn_faces_draws_none() {
    let dir = tempfile::tempdir().unwrap();
    for (args, named) in [("--model spiral", "--kind spiral"), ("--batch 5000", "--batch 5000")] {
        let message = glasses(&words(args), dir.path()).failure();
        assert!(message.contains(named) && message.contains("800 drawn faces"), "{message}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn the_spiral_is_learned_to_95_percent() {
    let dir = tempfile::tempdir().unwrap();
    glasses(&words("synth --kind spiral --test 0 --out spiral.h5"), dir.path()).success();
    let args = "--data spiral.h5 --model spiral --lr 3e-3 --epochs 200 --eval-every 200 --out run";
    glasses(&words(args), dir.path()).success();
    let summary = std::fs::read_to_string(dir.path().join("run/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert!(summary["train_accuracy"].as_f64().unwrap() >= 0.95, "{summary}");
    assert!(summary["test_accuracy"].is_null(), "{summary}");
}

#[test]
fn the_model_file_in_the_readme_fits_the_usual_sizes() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let text = readme.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("small.toml"), text).unwrap();
    for input in ["64x64x3", "80x80x3", "28x28x1"] {
        glasses(&words(&format!("info --model small.toml --input {input}")), dir.path()).success();
    }
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_a_reader_that_leaves_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let message = shell("$GLASSES info --model glasses > /dev/full", dir.path()).failure();
    assert!(message.contains("cannot write standard output"), "{message}");
    let end = shell("$GLASSES info --model glasses | true; exit ${PIPESTATUS[0]}", dir.path()).success();
    assert_eq!(end.stderr, "");
}

#[test]
fn a_folder_of_several_runs_is_not_taken_for_one() {
    let dir = faces();
    let dir = dir.path();
    let common = "--data faces.h5 --model tiny.toml --epochs 1";
    glasses(&words(&format!("{common} --strategy ensemble --members 2 --out four")), dir).success();
    glasses(&words(&format!("sweep {common} --grid lr=0.1,0.01 --out grid")), dir).success();
    let ensemble = "four: found an ensemble's folder, expected the folder of one run";
    let sweep = "grid: found a folder of several runs, as a sweep makes it";
    for command in ["info", "export --to onnx --out a.onnx", "verify", "report", "watch"] {
        refused(dir, &format!("{command} four"), &[ensemble, "name a member: four/member-0"]);
        refused(dir, &format!("{command} grid"), &[sweep, "name one of them: grid/lr0.01"]);
    }
    refused(dir, "train --resume grid", &[sweep]);
    refused(dir, "info four/member-0", &["found a folder, expected a file", "name four/member-0/model.h5"]);
}

/// Where a rank dies the root takes what it has begun away.
#[test]
fn a_dataset_that_is_not_finished_leaves_nothing_beside_it() {
    if !cfg!(feature = "mpi") {
        return;
    }
    let dir = tempdir().unwrap();
    let script = r"${MPIRUN:-mpirun} -n 2 $GLASSES synth --count 200000 --out f.h5 & p=$!
         until ls -A | grep -q part || ! kill -0 $p; do sleep 0.02; done
         read -r one two _ </proc/$p/task/$p/children
         for rank in $one $two; do
             if tr '\0' '\n' </proc/$rank/environ | grep -Eq '^(OMPI_COMM_WORLD|PMI)_RANK=1$'; then kill -KILL $rank; fi
         done
         wait $p";
    let end = shell(script, dir.path());
    assert!(end.code != Some(0) && end.stderr.contains("error: rank 1 of 2 on "), "{end:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "{end:?}");
}
