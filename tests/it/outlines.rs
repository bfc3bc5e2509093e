//! HDF5 files as other programs write them: what is taken, what is said, what is refused.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use hdf5::types::VarLenUnicode;

use crate::fixtures::{DENSE, Raw, TINY, refused, refused_by_all, words};
use crate::run::{glasses, mpirun, shell};

/// An empty folder with the two small networks.
pub fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tiny.toml"), TINY).unwrap();
    std::fs::write(dir.path().join("dense.toml"), DENSE).unwrap();
    dir
}

/// Texts as h5py writes a list of them.
pub fn attribute(raw: &Raw, name: &str, texts: &[&str]) {
    let texts: Vec<VarLenUnicode> = texts.iter().map(|text| text.parse().unwrap()).collect();
    raw.file().new_attr_builder().with_data(&texts).create(name).unwrap();
}

/// What training says of `d.h5` before its first epoch, alone and on three ranks; `info` says the same.
pub fn notes(dir: &std::path::Path) -> String {
    let args = "--data d.h5 --model dense.toml --epochs 1 --max-steps 1";
    let alone = glasses(&words(&format!("{args} --out alone")), dir).success().stderr;
    let three = mpirun(3, &words(&format!("{args} --out three")), dir).success().stderr;
    let of = |text: &str| text.lines().filter(|line| line.starts_with("note: ")).map(str::to_owned).collect::<Vec<_>>();
    let (notes, info) = (of(&alone), glasses(&["info", "d.h5"], dir).success().stdout);
    assert_eq!(notes, of(&three), "{three}");
    assert!(notes.iter().all(|note| info.contains(note.as_str())), "{notes:?}\n{info}");
    ["alone", "three"].iter().for_each(|run| std::fs::remove_dir_all(dir.join(run)).unwrap());
    notes.join("\n")
}

#[test]
fn groups_of_other_names_are_taken_or_named() {
    let dir = folder();
    Raw::create(dir.path(), "d.h5").features("Training", 40).features("validation", 20).features("Test", 10);
    let said = notes(dir.path());
    for part in ["/Training holds the train rows", "/validation holds the val rows", "/Test holds the test rows"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let info: serde_json::Value =
        serde_json::from_str(&glasses(&["info", "d.h5", "--json"], dir.path()).success().stdout).unwrap();
    let rows = |split: usize| info["splits"][split]["rows"].as_u64().unwrap();
    assert_eq!([rows(0), rows(1), rows(2)], [40, 20, 10]);
    Raw::create(dir.path(), "d.h5").features("train", 40).features("holdout", 20).put("train/ids", &[2], &[1u8, 2]);
    let said = notes(dir.path());
    assert!(
        said.contains("not read: /holdout/features (float32 [20, 2]), /holdout/labels") && said.contains("/train/ids"),
        "{said}"
    );
    Raw::create(dir.path(), "d.h5").features("train", 40).features("val", 20).features("valid", 10);
    refused_by_all(dir.path(), "--data d.h5 --model dense.toml", &["/val", "/val and /valid", "one group of val rows"]);
}

#[test]
fn unknown_names_are_answered_with_what_is_there() {
    let dir = folder();
    Raw::create(dir.path(), "d.h5").put("x_train", &[3, 2], &[0f32; 6]).put("more/y", &[3], &[0i64; 3]);
    let parts = ["/train", "/more/y (int64 [3])", "/x_train (float32 [3, 2])"];
    refused_by_all(dir.path(), "--data d.h5 --model dense.toml", &parts);
    Raw::create(dir.path(), "d.h5").put("train/x", &[3, 2], &[0f32; 6]).labels("train", &[0, 1, 0]);
    refused(dir.path(), "info d.h5", &["neither 'images' nor 'features'", "/train/x (float32 [3, 2])"]);
    Raw::create(dir.path(), "d.h5").put("train", &[3, 2], &[0f32; 6]);
    refused(dir.path(), "info d.h5", &["/train", "it is a dataset of shape [3, 2]"]);
    Raw::create(dir.path(), "d.h5").put("train/features", &[3, 2], &[0f32; 6]).put("train/y", &[3], &[0i64; 3]);
    refused(dir.path(), "info d.h5", &["/train/labels", "/train/y (int64 [3])"]);
}

#[test]
fn a_link_to_nothing_is_called_that() {
    let dir = folder();
    std::os::unix::fs::symlink("nowhere.h5", dir.path().join("d.h5")).unwrap();
    refused(dir.path(), "info d.h5", &["cannot read d.h5", "fix: it is a link to nowhere.h5, which is not there"]);
}

#[test]
fn channels_that_stand_first_are_recognised() {
    let dir = folder();
    for shape in [[6, 3, 16, 16], [6, 1, 28, 28], [6, 4, 8, 8]] {
        let pixels = vec![7u8; shape.iter().product()];
        Raw::create(dir.path(), "d.h5").put("train/images", &shape, &pixels).labels("train", &[0, 1, 0, 1, 0, 1]);
        refused(dir.path(), "info d.h5", &["[n, c, h, w]", "transpose(0, 2, 3, 1)"]);
    }
    std::fs::write(dir.path().join("flat.toml"), "name = \"flat\"\nlayers = [\"flatten\", \"dense classes\"]\n")
        .unwrap();
    for (shape, is_said) in [
        ([6, 3, 16, 12], true),
        ([6, 16, 12, 12], true),
        ([6, 2, 32, 32], true),
        ([6, 16, 12, 14], true),
        ([6, 3, 6, 8], true),
        ([6, 4, 3, 5], true),
        ([6, 12, 12, 16], false),
        ([6, 16, 12, 3], false),
        ([6, 16, 12, 4], false),
        ([6, 12, 16, 2], false),
    ] {
        let pixels: Vec<u8> = (0..shape.iter().product()).map(|i| (i % 251) as u8).collect();
        Raw::create(dir.path(), "d.h5").put("train/images", &shape, &pixels).labels("train", &[0, 1, 0, 1, 0, 1]);
        let said = glasses(&["info", "d.h5"], dir.path()).success().stdout;
        let [_, h, w, c] = shape;
        let note =
            format!("/train/images is taken for pictures of {h} x {w} pixels with {c} channels; were they meant");
        assert_eq!(said.contains(&note), is_said, "{shape:?}: {said}");
        let train = "--data d.h5 --model flat.toml --epochs 1 --max-steps 1 --out run";
        let said = glasses(&words(train), dir.path()).success().stderr;
        assert_eq!(said.contains(&note), is_said, "{shape:?}: {said}");
        std::fs::remove_dir_all(dir.path().join("run")).unwrap();
    }
}

#[test]
fn odd_classes_are_noted_before_the_time_is_spent() {
    let dir = folder();
    let features: Vec<f32> = (0..80).map(|i| i as f32).collect();
    let raw = |labels: &[i64]| {
        Raw::create(dir.path(), "d.h5").put("train/features", &[40, 2], &features).labels("train", labels)
    };
    raw(&[1, 2].repeat(20));
    assert!(notes(dir.path()).contains("no training row is of class 0 ('0'): do the labels count from 1?"));
    let mut labels = [0i64; 40];
    labels[7] = 1;
    raw(&labels);
    assert!(notes(dir.path()).contains("97.5 % of the training rows are of class '0'"));
    attribute(&raw(&[0, 1].repeat(20)), "classes", &["cat", "cat"]);
    assert!(notes(dir.path()).contains("classes 0 and 1 are both called 'cat'"));
    attribute(&raw(&[0, 1].repeat(20)), "classes", &[r#"["cat", "dog"]"#]);
    assert!(notes(dir.path()).contains("one JSON text: 2 class names"));
    assert!(glasses(&["info", "d.h5"], dir.path()).success().stdout.contains("(cat 20, dog 20)"));
    attribute(&raw(&[0, 1].repeat(20)), "class_names", &["cat", "dog"]);
    assert!(notes(dir.path()).contains("the attribute 'class_names' is not read"));
    let on_group = raw(&[0, 1].repeat(20));
    let text: VarLenUnicode = "cat,dog".parse().unwrap();
    on_group.file().group("train").unwrap().new_attr_builder().with_data(&[text]).create("classes").unwrap();
    drop(on_group);
    assert!(notes(dir.path()).contains("the attribute 'classes' of /train is not read"));
    attribute(&raw(&[0, 1].repeat(20)), "classes", &["cat,dog"]);
    refused(dir.path(), "--data d.h5 --model dense.toml", &["/train/labels[1]", "has 1 names, such as 'cat,dog'"]);
    attribute(&raw(&[0, 2].repeat(20)), "classes", &["cat", "dog"]);
    let parts = ["/train/labels[1]", "label 2", "'classes' has 2 names"];
    refused_by_all(dir.path(), "--data d.h5 --model dense.toml", &parts);
    // Plain ones are not remarked on.
    raw(&[0, 1].repeat(20));
    assert_eq!(notes(dir.path()), "");
}

#[test]
fn a_label_beyond_the_training_rows_is_refused_with_its_row() {
    let dir = folder();
    let mut labels = [0i64, 1].repeat(10);
    labels[13] = 65535;
    let features = vec![1f32; 40];
    Raw::create(dir.path(), "d.h5")
        .features("train", 40)
        .put("test/features", &[20, 2], &features)
        .labels("test", &labels);
    let parts = ["/test/labels[13]", "label 65535", "0 to 1, as the training rows have"];
    refused_by_all(dir.path(), "--data d.h5 --model dense.toml", &parts);
    Raw::create(dir.path(), "d.h5").put("train/features", &[20, 2], &features).labels("train", &labels);
    refused_by_all(dir.path(), "--data d.h5 --model dense.toml", &["/train/labels", "a label 65535 among 20 rows"]);
}

#[test]
fn a_file_that_another_program_writes_is_refused_and_one_of_a_killed_writer_is_explained() {
    let dir = folder();
    Raw::create(dir.path(), "d.h5").features("train", 40);
    let training = "--data d.h5 --model dense.toml --epochs 1 --max-steps 1 --out run";
    // Another process: it has the lock that HDF5 takes to write.
    let mut writer = Command::new("flock");
    writer.args(["d.h5", "-c", "echo held; sleep 60"]).current_dir(dir.path()).stdout(Stdio::piped());
    let mut writer = writer.spawn().unwrap();
    BufReader::new(writer.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let parts = ["d.h5", "another program has open for writing", "HDF5_USE_FILE_LOCKING=FALSE"];
    refused_by_all(dir.path(), training, &parts);
    refused(dir.path(), "info d.h5", &parts);
    shell("HDF5_USE_FILE_LOCKING=FALSE $GLASSES info d.h5", dir.path()).success();
    writer.kill().unwrap();
    writer.wait().unwrap();
    // `sleep` has the lock, too, until it ends: take the name to another file.
    std::fs::copy(dir.path().join("d.h5"), dir.path().join("e.h5")).unwrap();
    glasses(&["info", "e.h5"], dir.path()).success();
    // Version 3 of the superblock keeps a flag of who writes it.
    let mut bytes = std::fs::read(dir.path().join("e.h5")).unwrap();
    if bytes[8] >= 3 {
        bytes[11] |= 1;
        std::fs::write(dir.path().join("f.h5"), bytes).unwrap();
        refused(dir.path(), "info f.h5", &["f.h5", "h5clear -s f.h5"]);
    }
}

#[test]
fn classes_that_brightness_and_colour_tell_apart_are_noted() {
    let dir = folder();
    let row =
        |i: usize| (0..64 * 3).map(move |p| ((p * 37 + i * 11) % 23) as u8 + if p % 3 == i % 2 { 120 } else { 40 });
    // More than are looked at: some of each shard are, by `info` the same.
    let pixels: Vec<u8> = (0..4203).flat_map(row).collect();
    let labels: Vec<i64> = (0..4203).map(|i| i % 2).collect();
    Raw::create(dir.path(), "d.h5").put("train/images", &[4203, 8, 8, 3], &pixels).labels("train", &labels);
    let args = |more: &str| format!("--data d.h5 --model tiny.toml --epochs 1 --max-steps 1 --out run {more}");
    let said = |ranks: usize, more: &str| {
        let said = mpirun(ranks, &words(&args(more)), dir.path()).success().stderr;
        std::fs::remove_dir_all(dir.path().join("run")).unwrap();
        said.lines().filter(|line| line.contains("brightness")).map(str::to_owned).collect::<Vec<_>>()
    };
    let alone = said(1, "");
    assert!(
        alone.len() == 1 && alone[0].contains("100 % of the training rows (the commonest class is 50 %)"),
        "{alone:?}"
    );
    assert_eq!(alone, said(3, ""));
    let info = glasses(&["info", "d.h5"], dir.path()).success().stdout;
    assert!(info.lines().any(|line| line == alone[0]), "{info}");
    assert_eq!(said(1, "--normalize dataset"), [""; 0]);
    // Drawn faces are told apart by what is on them.
    glasses(&words("synth --size 24 --count 200 --force --out d.h5"), dir.path()).success();
    assert_eq!(said(1, ""), [""; 0]);
    let info = glasses(&["info", "d.h5"], dir.path()).success().stdout;
    assert!(!info.contains("brightness"), "{info}");
}

#[test]
fn a_batch_that_nobody_gave_is_what_the_data_fills() {
    let dir = folder();
    Raw::create(dir.path(), "d.h5").features("train", 10);
    let said = glasses(&words("--data d.h5 --model dense.toml --epochs 2 --out run"), dir.path()).success();
    assert!(said.stderr.contains("--batch is 10, all training rows"), "{said:?}");
    let info = glasses(&["info", "d.h5"], dir.path()).success().stdout;
    assert!(info.contains("note: --batch is 10, all training rows"), "{info}");
    assert!(said.stdout.contains("batch 10,"), "{said:?}");
    glasses(&words("--resume run"), dir.path()).success();
    refused(
        dir.path(),
        "--data d.h5 --model dense.toml --batch 16 --out two",
        &["--batch", "16 rows, more than the 10"],
    );
}

#[test]
fn a_pool_that_does_not_fit_is_answered_with_a_padding_and_a_size_that_do() {
    let dir = folder();
    let net = "name = \"odd\"\nlayers = [\"conv 3x3x4\", \"relu\", \"maxpool 2\", \"maxpool 2\", \"flatten\", \"dense classes\"]\n";
    std::fs::write(dir.path().join("odd.toml"), net).unwrap();
    let parts = ["layer 2 'maxpool 2'", "'maxpool 2 pad same'", "--size 24x32"];
    refused(dir.path(), "info --model odd.toml --input 25x31x3", &parts);
    glasses(&words("info --model odd.toml --input 24x32x3"), dir.path()).success();
    std::fs::write(dir.path().join("odd.toml"), net.replace("maxpool 2", "maxpool 2 pad same")).unwrap();
    glasses(&words("info --model odd.toml --input 25x31x3"), dir.path()).success();
}
