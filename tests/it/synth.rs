//! `glasses synth`, through the binary.

use std::path::Path;
use std::process::{Command, Output};

use hdf5::types::VarLenUnicode;

fn synth(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_glasses"))
        .current_dir(folder)
        .arg("synth")
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn made(folder: &Path, arguments: &str) -> String {
    let output = synth(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "no bar without a terminal: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it said; it must have failed, and left nothing of its own behind.
fn refused(folder: &Path, arguments: &str) -> String {
    let before = std::fs::read_dir(folder).unwrap().count();
    let output = synth(folder, arguments);
    assert!(!output.status.success(), "{arguments}");
    assert!(output.stdout.is_empty(), "{arguments}");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), before, "{arguments}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("fix: "), "{text}");
    text
}

fn classes(file: &hdf5::File) -> Vec<String> {
    let names = file.attr("classes").unwrap().read_1d::<VarLenUnicode>().unwrap();
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn faces_are_read_back_as_stratified_splits_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let said = made(folder.path(), "--out a.h5 --count 100 --size 32 --val 0.1 --seed 3");
    let expected = "wrote a.h5: 70 train + 10 val + 20 test rows of images 32x32x3, classes: no glasses, glasses\n";
    assert_eq!(said, expected);
    let file = hdf5::File::open(folder.path().join("a.h5")).unwrap();
    assert_eq!(classes(&file), ["no glasses", "glasses"]);
    let origin = file.attr("origin").unwrap().read_scalar::<VarLenUnicode>().unwrap();
    assert!(origin.contains("seed 3"), "{origin}");
    for (split, rows) in [("train", 70), ("val", 10), ("test", 20)] {
        let images = file.dataset(&format!("{split}/images")).unwrap();
        assert_eq!(images.shape(), [rows, 32, 32, 3]);
        assert!(images.dtype().unwrap().is::<u8>());
        let labels = file.dataset(&format!("{split}/labels")).unwrap();
        assert!(labels.dtype().unwrap().is::<i64>());
        assert_eq!(labels.read_1d::<i64>().unwrap().sum() as usize, rows / 2, "{split}");
        let pixels = images.read_raw::<u8>().unwrap();
        for row in pixels.chunks_exact(32 * 32 * 3) {
            let (low, high) = (row.iter().min().unwrap(), row.iter().max().unwrap());
            assert!(high - low > 40, "{split}: a row without a picture: {low} to {high}");
        }
    }
}

#[test]
fn every_drawn_row_is_written_once_with_its_own_label() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path(), "--out a.h5 --count 40 --size 24 --seed 9");
    let file = hdf5::File::open(folder.path().join("a.h5")).unwrap();
    let mut written = Vec::new();
    for split in ["train", "test"] {
        let images = file.dataset(&format!("{split}/images")).unwrap().read_raw::<u8>().unwrap();
        let labels = file.dataset(&format!("{split}/labels")).unwrap().read_raw::<i64>().unwrap();
        written.extend(images.chunks_exact(24 * 24 * 3).map(<[u8]>::to_vec).zip(labels));
    }
    let draw = |row| glasses::data::synth::faces::draw(9, row, 24);
    let mut drawn: Vec<_> = (0..40).map(draw).map(|(pixels, label)| (pixels, i64::from(label))).collect();
    written.sort();
    drawn.sort();
    assert!(written == drawn);
}

#[test]
fn a_seed_gives_the_same_file_on_any_number_of_threads_and_another_seed_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, threads: &str, seed: u32| {
        let output = Command::new(env!("CARGO_BIN_EXE_glasses"))
            .current_dir(folder.path())
            .env("RAYON_NUM_THREADS", threads)
            .args(["synth", "--count", "60", "--size", "40", "--seed", &seed.to_string(), "--out", name])
            .output()
            .unwrap();
        assert!(output.status.success());
        std::fs::read(folder.path().join(name)).unwrap()
    };
    let one = file("one.h5", "1", 1);
    assert!(one == file("three.h5", "3", 1));
    assert!(one != file("other.h5", "1", 2));
}

#[test]
fn the_spiral_is_a_dataset_of_two_features() {
    let folder = tempfile::tempdir().unwrap();
    let said = made(folder.path(), "--kind spiral --out s.h5");
    assert_eq!(said, "wrote s.h5: 480 train + 120 test rows of 2 features, classes: arm 0, arm 1, arm 2\n");
    let file = hdf5::File::open(folder.path().join("s.h5")).unwrap();
    assert_eq!(classes(&file), ["arm 0", "arm 1", "arm 2"]);
    for (split, rows) in [("train", 480), ("test", 120)] {
        let features = file.dataset(&format!("{split}/features")).unwrap();
        assert_eq!(features.shape(), [rows, 2]);
        let features = features.read_raw::<f32>().unwrap();
        assert!(features.chunks_exact(2).all(|p| f64::from(p[0]).hypot(f64::from(p[1])) <= 1.0 + 1e-6));
        let labels = file.dataset(&format!("{split}/labels")).unwrap().read_raw::<i64>().unwrap();
        for arm in 0..3 {
            assert_eq!(labels.iter().filter(|&&l| l == arm).count(), rows / 3, "{split} {arm}");
        }
    }
}

#[test]
fn options_that_make_no_sense_are_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, named) in [
        ("--out a.h5 --size 0", "--size: found 0, expected a side of 24 to 1024 pixels"),
        ("--out a.h5 --size 1025", "--size: found 1025"),
        ("--out a.h5 --count 0", "--count: found 0, expected 2"),
        ("--out a.h5 --count 99999999999", "--count: found 99999999999"),
        ("--out a.h5 --kind spiral --count 2", "--count: found 2, expected 3"),
        ("--out a.h5 --kind spiral --size 80", "--size: found 80"),
        ("--out a.h5 --test 1", "--test"),
        ("--out a.h5 --val NaN", "--val"),
        ("--out missing/a.h5 --count 4", "missing"),
    ] {
        let text = refused(folder.path(), arguments);
        assert!(text.contains(named), "{arguments}: {text}");
    }
}

#[test]
fn an_existing_file_is_replaced_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.h5");
    std::fs::write(&path, "precious").unwrap();
    for kind in ["faces", "spiral"] {
        let text = refused(folder.path(), &format!("--out a.h5 --count 10 --kind {kind} "));
        assert!(text.contains("--force"), "{text}");
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
    made(folder.path(), "--out a.h5 --count 10 --size 24 --force");
    assert!(hdf5::File::open(&path).is_ok());
}
