//! `glasses info FILE` says what training assumes of a file, and what training refuses it for; and takes little time for it.

use serde_json::Value;

use crate::fixtures::{Raw, words};
use crate::outlines::{attribute, folder};
use crate::run::{glasses, mpirun, shell};

/// What training on `d.h5` ends with, alone and on two ranks; `info` says the same, and ends well.
fn refused(dir: &std::path::Path, model: &str) -> String {
    let args = format!("--data d.h5 --model {model} --out run");
    let message = glasses(&words(&args), dir).failure();
    let (found, _) = message.split_once("\n  fix: ").unwrap_or_else(|| panic!("{message}"));
    let found = found.strip_prefix("error: ").unwrap_or(found).to_owned();
    let info = glasses(&["info", "d.h5"], dir).success();
    assert!(info.stdout.contains(&format!("training refuses it: {found}\n  fix: ")), "{info:?}\n{message}");
    let json: Value = serde_json::from_str(&glasses(&words("info d.h5 --json"), dir).success().stdout).unwrap();
    assert!(json["refused"].as_str().is_some_and(|refused| refused.starts_with(&found)), "{json}");
    let three = mpirun(3, &["info", "d.h5"], dir).success();
    assert_eq!(three.stdout, info.stdout);
    found
}

#[test]
fn what_training_refuses_info_says() {
    let dir = folder();
    let dir = dir.path();
    let features = |rows: usize| (0..2 * rows).map(|i| i as f32).collect::<Vec<_>>();
    let raw = |labels: &[i64]| {
        let rows = labels.len();
        Raw::create(dir, "d.h5").put("train/features", &[rows, 2], &features(rows)).labels("train", labels)
    };
    let mut beyond = [0, 1].repeat(10);
    beyond[13] = 2;
    raw(&[0, 1].repeat(20)).put("test/features", &[20, 2], &features(20)).labels("test", &beyond);
    assert!(refused(dir, "dense.toml").contains("d.h5 /test/labels[13]: found label 2, expected a label from 0 to 1"));
    raw(&[0, 1].repeat(20)).put("val/features", &[20, 2], &features(20)).labels("val", &beyond);
    assert!(refused(dir, "dense.toml").contains("d.h5 /val/labels[13]: found label 2"));
    raw(&[1; 20]);
    assert!(refused(dir, "dense.toml").contains("found one class only ('1')"));
    raw(&[0]);
    assert!(refused(dir, "dense.toml").contains("found one class only ('0')"));
    beyond[13] = 700;
    raw(&beyond);
    assert!(refused(dir, "dense.toml").contains("a label 700 among 20 rows"));
    beyond[13] = -1;
    raw(&beyond);
    assert!(refused(dir, "dense.toml").contains("/train/labels[13]: found label -1"));
    beyond[13] = 2;
    attribute(&raw(&beyond), "classes", &["cat", "dog"]);
    assert!(refused(dir, "dense.toml").contains("'classes' has 2 names"));
    let info = glasses(&["info", "d.h5"], dir).success().stdout;
    assert!(info.contains("/train: 20 rows (labels that are refused)"), "{info}");
    let mut values = features(20);
    values[31] = f32::NAN;
    Raw::create(dir, "d.h5").features("train", 40).put("test/features", &[20, 2], &values).labels("test", &[0; 20]);
    assert!(refused(dir, "dense.toml").contains("/test/features[15, 1]: found NaN"));
    // What it is told of the file stands beside it.
    Raw::create(dir, "d.h5").put("Train/images", &[3, 4, 4, 1], &[0u8; 48]).labels("Train", &[1, 1, 1]);
    refused(dir, "tiny.toml");
    let info = glasses(&["info", "d.h5"], dir).success().stdout;
    for part in
        ["/Train holds the train rows", "no training row is of class 0", "100.0 %", "--batch is 3", "/Train/labels"]
    {
        assert!(info.contains(part), "{part}: {info}");
    }
    // A file that training takes has no such line.
    raw(&[0, 1].repeat(20));
    let info = glasses(&["info", "d.h5"], dir).success().stdout;
    assert!(!info.contains("refuse") && !info.contains("note:"), "{info}");
    let json: Value = serde_json::from_str(&glasses(&words("info d.h5 --json"), dir).success().stdout).unwrap();
    assert!(json["refused"].is_null() && json["notes"].as_array().unwrap().is_empty(), "{json}");
}

#[test]
fn of_large_pictures_info_reads_some() {
    let dir = folder();
    let dir = dir.path();
    // 2.4 GB, and no pixel is written: the file has holes.
    let raw = Raw::create(dir, "d.h5").labels("train", &[0, 1].repeat(1500));
    let dataset = raw.file().new_dataset::<u8>().shape((3000, 512, 512, 3));
    let dataset = dataset.alloc_time(Some(hdf5::plist::dataset_create::AllocTime::Early));
    dataset.fill_time(hdf5::plist::dataset_create::FillTime::Never).create("train/images").unwrap();
    raw.file().flush().unwrap();
    let length = std::fs::metadata(dir.join("d.h5")).unwrap().len();
    std::mem::forget(raw);
    let name = dir.join("d.h5");
    assert!(length > 2_000_000_000, "{length}");
    let line = format!("HDF5_USE_FILE_LOCKING=FALSE $GLASSES info {} && grep rchar /proc/$$/io", name.display());
    let said = shell(&line, dir).success().stdout;
    assert!(said.contains("/train: 3000 rows (0 1500, 1 1500)"), "{said}");
    let read: u64 = said.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    assert!(read < 600_000_000, "{read} bytes");
    let _ = std::fs::remove_file(name);
}
