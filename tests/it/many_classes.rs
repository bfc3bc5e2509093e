//! Twenty thousand classes, from the source to the prediction: nothing is limited by what an HDF5 attribute holds, and nothing
//! takes classes × classes.

use std::fmt::Write;
use std::path::Path;

use hdf5::types::VarLenUnicode;
use serde_json::Value;
use tempfile::tempdir;

use crate::fixtures::{Raw, refused, refused_by_all, unlock, words};
use crate::run::{glasses, mpirun, shell};

const CLASSES: usize = 20_000;

fn name(class: usize) -> String {
    format!("class-{class:05}")
}

/// Names as a dataset, as another program writes them.
fn names(count: usize) -> Vec<VarLenUnicode> {
    (0..count).map(|class| name(class).parse().unwrap()).collect()
}

/// Pictures of 4x4x1 of 20 000 classes, `rows` and 120 of them; few classes have one, the last one has.
fn pictures(dir: &Path, rows: usize) {
    let mut file = Raw::create(dir, "many.h5").put("classes", &[CLASSES], &names(CLASSES));
    for (split, rows) in [("train", rows), ("test", 120)] {
        let labels: Vec<i64> = (0..rows).map(|row| (CLASSES - 1 - row * 97 % CLASSES) as i64).collect();
        file = file.only_images(split, rows).labels(split, &labels);
    }
    std::fs::write(dir.join("flat.toml"), "name = \"flat\"\nlayers = [\"flatten\", \"dense classes\"]\n").unwrap();
}

/// 3500 rows of 20 000 classes are 560 MB of probabilities: three blocks for one rank, one for each of three.
#[test]
fn the_vote_of_several_networks_takes_no_number_for_every_row_and_class() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    pictures(dir, 60);
    let labels: Vec<i64> = (0..3500).map(|row| (row * 31 % CLASSES) as i64).collect();
    let raw = Raw::create(dir, "votes.h5").put("classes", &[CLASSES], &names(CLASSES)).images("train", 4);
    drop(raw.only_images("test", 3500).labels("test", &labels));
    for seed in [1, 2] {
        let train =
            format!("train --data many.h5 --model flat.toml --batch 20 --max-steps 3 --seed {seed} --out run{seed}");
        glasses(&words(&train), dir).success();
    }
    let eval = "eval --model run1 run2 --data votes.h5 --json";
    let end = shell(&format!("ulimit -v 500000; MALLOC_ARENA_MAX=1 RAYON_NUM_THREADS=1 $GLASSES {eval}"), dir)
        .success()
        .stdout;
    assert_eq!(mpirun(3, &words(eval), dir).success().stdout, end);
    let found = json(&end);
    assert_eq!((&found["count"], found["members"].as_array().unwrap().len()), (&Value::from(3500), 2));
    let pairs = found["confusion_pairs"].as_array().unwrap();
    assert_eq!(pairs.iter().map(|pair| pair[2].as_u64().unwrap()).sum::<u64>(), 3500);
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text:.300}"))
}

#[test]
fn twenty_thousand_classes_train_and_are_evaluated_reported_exported_and_predicted() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    pictures(dir, 600);
    let train = "train --data many.h5 --model flat.toml --batch 50 --max-steps 6 --tensorboard --out run";
    let said = mpirun(2, &words(train), dir).success();
    assert!(said.stdout.contains("… (20000 in all)"), "a few names, not all: {said:?}");
    let summary = json(&std::fs::read_to_string(dir.join("run/summary.json")).unwrap());
    assert!(summary["test_balance"]["macro_f1"].is_number(), "{summary}");
    // 20 000 × 20 000 counts would be 3.2 GB.
    let eval = "ulimit -v 2500000; $GLASSES eval --model run --data many.h5";
    let text = shell(eval, dir).success().stdout;
    assert!(
        text.contains("balanced accuracy") && text.contains("class-19999") && !text.contains("column"),
        "{text:.900}"
    );
    assert!(text.contains("confusion_pairs"), "says where to find it");
    let found = shell(&format!("{eval} --json"), dir).success().stdout;
    assert_eq!(mpirun(3, &words("eval --model run --data many.h5 --json"), dir).success().stdout, found);
    let found = json(&found);
    assert!(found["confusion"].is_null() && found["classes"].as_array().unwrap().len() == CLASSES);
    let pairs = found["confusion_pairs"].as_array().unwrap();
    assert_eq!(pairs.iter().map(|pair| pair[2].as_u64().unwrap()).sum::<u64>(), 120);
    assert!(pairs.iter().all(|pair| pair[0].as_u64().unwrap() < CLASSES as u64));
    assert_eq!(found["balanced_accuracy"], summary["test_balance"]["balanced_accuracy"]);
    shell("ulimit -v 2500000; $GLASSES report run", dir).success();
    let page = std::fs::read_to_string(dir.join("run/report.html")).unwrap();
    assert!(page.contains("No figure of confusion") && page.contains("class-19999"));
    for (to, file) in [("onnx", "m.onnx"), ("safetensors", "m.safetensors")] {
        glasses(&words(&format!("export run --to {to} --out {file}")), dir).success();
        let bytes = std::fs::read(dir.join(file)).unwrap();
        assert!(bytes.windows(11).any(|letters| letters == b"class-19999"), "{to} names the classes");
    }
    let info = json(&glasses(&words("info run/model.h5 --json"), dir).success().stdout);
    assert_eq!(info["classes"][CLASSES - 1], name(CLASSES - 1));
    image::GrayImage::from_fn(4, 4, |x, y| image::Luma([(x * y * 20) as u8])).save(dir.join("one.png")).unwrap();
    let said = json(&glasses(&words("predict --model run one.png --json"), dir).success().stdout);
    assert!(said[0]["class"].as_str().unwrap().starts_with("class-"), "{:.300}", said.to_string());
    glasses(&words("train --resume run --max-steps 8"), dir).success();
}

#[test]
fn a_table_of_twenty_thousand_classes_is_ingested_and_trained_on() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    let mut table = "width,height,label\n".to_owned();
    for row in 0..2 * CLASSES {
        let class = row % CLASSES;
        writeln!(table, "{}.5,{},{}", class % 97, row % 89, name(class)).unwrap();
    }
    std::fs::write(dir.join("table.csv"), table).unwrap();
    glasses(&words("ingest table.csv --out table.h5"), dir).success();
    let info = json(&glasses(&words("info table.h5 --json"), dir).success().stdout);
    assert_eq!(info["classes"].as_array().unwrap().len(), CLASSES);
    assert_eq!(info["classes"][CLASSES - 1], name(CLASSES - 1));
    std::fs::write(dir.join("flat.toml"), "name = \"flat\"\nlayers = [\"dense 2\", \"dense classes\"]\n").unwrap();
    glasses(&words("train --data table.h5 --model flat.toml --batch 32 --max-steps 3 --out run"), dir).success();
    let model = json(&glasses(&words("info run/model.h5 --json"), dir).success().stdout);
    assert_eq!(model["classes"], info["classes"]);
}

#[test]
fn few_names_stay_an_attribute_and_too_many_are_refused() {
    let dir = tempdir().unwrap();
    let dir = dir.path();
    for (classes, is_attribute) in [(2, true), (4000, true), (4001, false)] {
        let mut table = "width,label\n".to_owned();
        (0..2 * classes).for_each(|row| writeln!(table, "{row}.25,{}", name(row % classes)).unwrap());
        std::fs::write(dir.join("table.csv"), table).unwrap();
        glasses(&words("ingest table.csv --force --test 0 --out table.h5"), dir).success();
        std::fs::write(dir.join("flat.toml"), "name = \"flat\"\nlayers = [\"dense classes\"]\n").unwrap();
        let run = format!("run-{classes}");
        glasses(&words(&format!("train --data table.h5 --model flat.toml --batch 2 --max-steps 1 --out {run}")), dir)
            .success();
        for file in [dir.join("table.h5"), dir.join(run).join("model.h5")] {
            let file = hdf5::File::open(file).unwrap();
            assert_eq!((file.attr("classes").is_ok(), file.dataset("classes").is_ok()), (is_attribute, !is_attribute));
        }
    }
    Raw::create(dir, "wide.h5").put("classes", &[65_537], &names(65_537)).features("train", 8);
    refused(dir, "train --data wide.h5 --model flat.toml --out wide", &["/classes", "65537", "65536"]);
    // An attribute of as many is a file of newer HDF5.
    let newest = hdf5::File::with_options().with_fapl(|fapl| fapl.libver_latest()).create(dir.join("wide.h5")).unwrap();
    newest.new_attr_builder().with_data(&names(65_537)).create("classes").unwrap();
    newest.new_dataset_builder().with_data(&ndarray::Array2::<f32>::zeros((8, 2))).create("train/features").unwrap();
    newest.new_dataset_builder().with_data(&[0i64, 1, 0, 1, 0, 1, 0, 1]).create("train/labels").unwrap();
    newest.close().unwrap();
    unlock(&dir.join("wide.h5"));
    let parts = ["attribute 'classes'", "65537", "65536"];
    refused_by_all(dir, "train --data wide.h5 --model flat.toml --out wide", &parts);
    refused(dir, "info wide.h5", &parts);
    let mut table = "width,label\n".to_owned();
    (0..2 * 65_537).for_each(|row| writeln!(table, "{row}.25,{}", name(row % 65_537)).unwrap());
    std::fs::write(dir.join("table.csv"), table).unwrap();
    refused(dir, "ingest table.csv --out wider.h5", &["table.csv", "65537 classes (class-00000, ", "65536"]);
    Raw::create(dir, "square.h5").put("classes", &[2, 2], &names(4)).features("train", 8);
    refused(dir, "info square.h5", &["/classes", "[2, 2]"]);
    Raw::create(dir, "numbers.h5").put("classes", &[2], &[1i64, 2]).features("train", 8);
    refused(dir, "info numbers.h5", &["/classes", "texts"]);
}
