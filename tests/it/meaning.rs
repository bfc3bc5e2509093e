//! Files that are read and mean something else: numbers that become equal, rows that nobody wrote, classes of another order.

use std::path::Path;

use crate::fixtures::{Raw, refused, refused_by_all, words};
use crate::outlines::{attribute, folder, notes};
use crate::run::{glasses, mpirun};

const TRAIN: &str = "train --data d.h5 --model dense.toml --epochs 1 --checkpoint-every 1";

#[test]
fn numbers_that_become_equal_are_noted() {
    let dir = folder();
    let table = |cell: &dyn Fn(usize) -> String| {
        let rows: String = (0..40).map(|i| format!("{i}.5,{},{}\n", cell(i), ["a", "b"][i % 2])).collect();
        let _ = std::fs::remove_file(dir.path().join("t.h5"));
        std::fs::write(dir.path().join("t.csv"), format!("x,ts,label\n{rows}")).unwrap();
        glasses(&words("ingest t.csv --out t.h5"), dir.path()).success().stderr
    };
    for (cell, pair) in [
        (&(|i: usize| (1_600_000_000 + i).to_string()) as &dyn Fn(usize) -> String, "1600000000 and 1600000001"),
        (&|i: usize| (16_777_216 + i).to_string(), "16777216 and 16777217"),
        (
            &|i: usize| format!("{}", 123_456_789_012_345_670_i64 + i as i64),
            "123456789012345670 and 123456789012345671",
        ),
    ] {
        let said = table(cell);
        assert!(said.contains("'ts' (column 2) holds different numbers") && said.contains(pair), "{said}");
        assert!(said.contains("subtract an offset, or leave the column out"), "{said}");
    }
    for cell in [&(|i: usize| format!("0.{}1", i % 7)) as &dyn Fn(usize) -> String, &|i: usize| {
        (1_600_000_000 + i * 1024).to_string()
    }] {
        assert!(!table(cell).contains("equal as f32"));
    }
    let doubles: Vec<f64> =
        (0..80i32).map(|i| if i % 2 == 1 { 1.6e9 + f64::from(i) } else { 0.1 * f64::from(i) }).collect();
    Raw::create(dir.path(), "d.h5").put("train/features", &[40, 2], &doubles).labels("train", &labels(40));
    let said = notes(dir.path());
    assert!(said.contains("/train/features: column 2 holds different numbers"), "{said}");
    assert!(said.contains("1600000001 and 1600000003"), "{said}");
}

fn labels(rows: usize) -> Vec<i64> {
    (0..rows as i64).map(|row| row % 2).collect()
}

#[test]
fn rows_that_were_never_written_are_refused() {
    let dir = folder();
    let half = |written: usize, gzip: bool| {
        let raw = Raw::create(dir.path(), "d.h5").labels("train", &labels(20));
        let mut made = raw.file().new_dataset::<u8>().chunk((4, 4, 4, 1)).shape((20, 4, 4, 1));
        if gzip {
            made = made.deflate(6);
        }
        let images = made.create("train/images").unwrap();
        let pixels = ndarray::Array4::<u8>::from_shape_fn((written, 4, 4, 1), |(i, y, _, _)| (i % 2 * 200 + y) as u8);
        images.write_slice(&pixels, ndarray::s![0..written, .., .., ..]).unwrap();
    };
    for gzip in [false, true] {
        half(8, gzip);
        for args in ["info d.h5", "train --data d.h5 --model tiny.toml"] {
            refused(dir.path(), args, &["/train/images", "12 of 20 rows were never written (3 of 5 chunks)", "resize"]);
        }
        half(20, gzip);
        glasses(&["info", "d.h5"], dir.path()).success();
    }
    let raw = Raw::create(dir.path(), "d.h5").only_images("train", 20);
    raw.file().new_dataset::<i64>().shape(20).create("train/labels").unwrap();
    drop(raw);
    refused_by_all(dir.path(), "train --data d.h5 --model tiny.toml", &["/train/labels", "none of its 20 rows"]);
}

/// A dataset of two features whose classes are called so.
fn named(dir: &Path, name: &str, classes: &[&str]) {
    let raw = Raw::create(dir, name).features("train", 40).features("test", 20);
    if !classes.is_empty() {
        attribute(&raw, "classes", classes);
    }
}

#[test]
fn a_fork_on_other_classes_or_rows_is_refused() {
    let dir = folder();
    let dir = dir.path();
    named(dir, "d.h5", &["cats", "dogs"]);
    named(dir, "other.h5", &["dogs", "cats"]);
    named(dir, "more.h5", &["cats", "dogs", "owls"]);
    named(dir, "none.h5", &[]);
    Raw::create(dir, "wide.h5").put("train/features", &[20, 3], &[0.5f32; 60]).labels("train", &labels(20));
    glasses(&words(&format!("{TRAIN} --out run")), dir).success();
    let check = || {
        let fork = |data: &str| format!("train --resume run --fork --data {data} --epochs 1 --out on");
        refused_by_all(dir, &fork("other.h5"), &["data of classes dogs, cats", "those of that run: cats, dogs"]);
        refused(dir, &fork("more.h5"), &["data of classes cats, dogs, owls"]);
        refused(dir, &fork("wide.h5"), &["data of rows of 3", "rows of 2"]);
        let said = mpirun(2, &words(&fork("none.h5")), dir).success().stderr;
        assert!(said.contains("note: there are no class names") && said.contains("0 is cats, 1 is dogs"), "{said}");
        std::fs::remove_dir_all(dir.join("on")).unwrap();
    };
    check();
    std::fs::remove_dir_all(dir.join("run/checkpoints")).unwrap();
    check();
    let eval = |data: &str| glasses(&["eval", "--model", "run", "--data", data], dir).success().stderr;
    assert!(eval("none.h5").contains("they are taken as numbers of the named classes (0 is cats, 1 is dogs)"));
    assert!(!eval("d.h5").contains("taken as numbers"));
}

#[test]
fn a_finished_run_says_so_on_its_own_data_only() {
    let dir = folder();
    let dir = dir.path();
    named(dir, "d.h5", &["cats", "dogs"]);
    let raw = Raw::create(dir, "other.h5").put("train/features", &[40, 2], &[0.5f32; 80]).labels("train", &labels(40));
    attribute(&raw, "classes", &["cats", "dogs"]);
    drop(raw);
    glasses(&words(&format!("{TRAIN} --out run")), dir).success();
    std::fs::copy(dir.join("d.h5"), dir.join("moved.h5")).unwrap();
    for again in ["train --resume run", "train --resume run --data d.h5", "train --resume run --data moved.h5"] {
        let said = mpirun(2, &words(again), dir).success().stdout;
        assert!(said.contains("is finished"), "{said}");
    }
    refused(dir, "train --resume run --data nope.h5", &["nope.h5", "No such file"]);
    refused_by_all(dir, "train --resume run --data other.h5", &["--resume run", "the rows of the dataset"]);
}

#[test]
fn what_is_no_picture_and_no_model_is_answered_with_the_command() {
    let dir = folder();
    let dir = dir.path();
    drop(Raw::create(dir, "d.h5").images("train", 40).images("test", 20));
    let train = "train --data d.h5 --model tiny.toml --epochs 1 --checkpoint-every 1 --out run";
    glasses(&words(train), dir).success();
    let parts = ["d.h5: an HDF5 file, no picture", "glasses eval --model run --data d.h5"];
    let message = glasses(&words("predict --model run d.h5"), dir).failure();
    assert!(parts.iter().all(|part| message.contains(part)) && !message.contains("replace"), "{message}");
    let message = glasses(&words("predict --model run nope.png"), dir).failure();
    assert!(message.contains("check the names") && !message.contains("replace"), "{message}");
    std::fs::write(dir.join("bad.png"), "text").unwrap();
    let message = glasses(&words("predict --model run nope.png bad.png"), dir).failure();
    assert!(message.contains("check the names") && message.contains("replace the others by"), "{message}");
    refused(dir, "eval --model run/checkpoints --data d.h5", &["a folder of checkpoints", "run/model.h5"]);
    std::fs::remove_file(dir.join("run/model.h5")).unwrap();
    for model in ["run", "run/checkpoints", "run/model.h5"] {
        let parts = ["run: found a run that was interrupted", "glasses train --resume run", "run/checkpoints/step-"];
        refused(dir, &format!("eval --model {model} --data d.h5"), &parts);
        refused(dir, &format!("export {model} --to onnx --out m.onnx"), &parts);
    }
}

#[test]
fn above_200_classes_a_page_has_no_curves_and_says_so() {
    let dir = folder();
    let dir = dir.path();
    for (classes, has_curves) in [(200, true), (201, false)] {
        let labels: Vec<i64> = (0..2 * classes).map(|row| row % classes).collect();
        let rows: Vec<f32> = labels.iter().flat_map(|&label| [label as f32, 1.0]).collect();
        let shape = [labels.len(), 2];
        let raw = Raw::create(dir, "d.h5").put("train/features", &shape, &rows).labels("train", &labels);
        drop(raw.put("test/features", &shape, &rows).labels("test", &labels));
        glasses(&words(&format!("{TRAIN} --max-steps 2 --out run{classes}")), dir).success();
        let page = std::fs::read_to_string(dir.join(format!("run{classes}/report.html"))).unwrap();
        assert_eq!(page.contains("id=\"roc\"") && page.contains("<th>PR area</th>"), has_curves);
        assert_eq!(!page.contains("No curves and areas: there are more than 200 classes."), has_curves);
        assert!(page.contains("<th>recall</th>"));
    }
}
