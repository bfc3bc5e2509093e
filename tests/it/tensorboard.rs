//! `--tensorboard`: event files, read by TensorBoard's own reader.

use std::path::Path;

use serde_json::Value;

use crate::fixtures::{faces, words};
use crate::python::Python;
use crate::run::{glasses, mpirun};

const TRAIN: &str = "train --data faces.h5 --model tiny.toml --epochs 3 --tensorboard";

fn event_files(run: &Path) -> Vec<String> {
    let names = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("events.out.tfevents.")).collect();
    names.sort();
    names
}

fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn assert_read(read: &Value, run: &Path, examples: usize) {
    let lines = metrics(run);
    for (tag, key) in [
        ("loss/train", "train_loss"),
        ("loss/test", "test_loss"),
        ("accuracy/train", "train_accuracy"),
        ("accuracy/test", "test_accuracy"),
        ("learning_rate", "lr"),
        ("images_per_sec", "images_per_sec"),
    ] {
        let curve = read["scalars"][tag].as_array().unwrap_or_else(|| panic!("{tag} in {read}"));
        assert_eq!(curve.len(), lines.len(), "{tag}: {curve:?}");
        for (point, line) in curve.iter().zip(&lines) {
            assert_eq!(point[0], line["step"], "{tag}");
            let (found, want) = (point[1].as_f64().unwrap(), line[key].as_f64().unwrap());
            assert!((found - want).abs() <= 1e-6 * want.abs().max(1e-3), "{tag}: {found} {want}");
        }
    }
    assert!(read["scalars"]["loss/val"].is_null() && read["scalars"]["seconds/backward"].is_array(), "{read}");
    let images = read["images"].as_object().unwrap();
    let names: Vec<&str> = images.keys().map(String::as_str).collect();
    let last = format!("examples/test/{}", examples - 1);
    assert!(names.len() == 1 + examples && names[0] == "confusion/test" && names[examples] == last, "{names:?}");
    for (name, shown) in images {
        let shown = shown.as_array().unwrap();
        assert_eq!(shown.len(), lines.len(), "{name}");
        for one in shown {
            assert_eq!(one["size"], one["decoded"], "{name}");
            assert!(one["colours"].as_u64() > Some(4) && one["size"][0].as_u64() >= Some(128), "{name}: {one}");
        }
    }
}

#[test]
fn tensorboard_reads_what_a_run_wrote_on_any_number_of_ranks() {
    let dir = faces();
    let path = dir.path();
    glasses(&words(&format!("{TRAIN} --out one")), path).success();
    mpirun(3, &words(&format!("{TRAIN} --out three")), path).success();
    glasses(&words("train --data faces.h5 --model tiny.toml --epochs 3 --out without"), path).success();
    let weights = |run: &str| -> Value {
        let text = std::fs::read_to_string(path.join(run).join("summary.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["weights_sha256"].clone()
    };
    assert!(weights("one") == weights("without") && weights("three") == weights("without"), "looking changes nothing");
    assert_eq!(["one", "three", "without"].map(|run| event_files(&path.join(run)).len()), [1, 1, 0]);
    let Some(python) = Python::with_readers("event files in TensorBoard") else { return };
    let mut texts = Vec::new();
    // Of three ranks, the root has 4 of 16 rows: 2 of 8 shards.
    for (run, examples) in [("one", 8), ("three", 4)] {
        let read = python.run("tests/python/read_events.py", &[run.to_owned()], path).success().stdout;
        let read: Value = serde_json::from_str(&read).unwrap();
        assert_read(&read, &path.join(run), examples);
        texts.push(read["texts"].clone());
        // TensorBoard shows none of several kinds under one tag.
        let tags = ["scalars", "images", "texts"].map(|kind| read[kind].as_object().unwrap());
        let mut names: Vec<&String> = tags.into_iter().flat_map(|tags| tags.keys()).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }
    assert_eq!(texts[0], texts[1]);
    // The counts are those of the last evaluation.
    let judged = glasses(&words("eval --model one/model.h5 --data faces.h5 --json"), path).success().stdout;
    let judged: Value = serde_json::from_str(&judged).unwrap();
    let table = texts[0]["confusion_counts/test"][2]["text"].as_str().unwrap();
    for (class, name) in ["no glasses", "glasses"].iter().enumerate() {
        let row = &judged["confusion"][class];
        assert!(table.contains(&format!("| **{name}** | {} | {} |", row[0], row[1])), "{table} {judged}");
    }
}

#[test]
fn a_run_that_goes_on_takes_back_what_it_says_again() {
    let dir = faces();
    let path = dir.path();
    // Stopped in the second epoch, whose figures it then has already said once.
    glasses(&words(&format!("{TRAIN} --out run --max-steps 6")), path).success();
    glasses(&words("train --resume run --max-steps 1000"), path).success();
    assert_eq!(event_files(&path.join("run")).len(), 2);
    let Some(python) = Python::with_readers("event files of a resumed run in TensorBoard") else { return };
    let read = python.run("tests/python/read_events.py", &["run".to_owned()], path).success().stdout;
    let read: Value = serde_json::from_str(&read).unwrap();
    let steps: Vec<u64> =
        read["scalars"]["loss/train"].as_array().unwrap().iter().map(|point| point[0].as_u64().unwrap()).collect();
    assert_eq!(steps, [4, 8, 12], "what was said of the second epoch up to step 6 is replaced, as in metrics.jsonl");
    // Switched off again, it stays off.
    glasses(&words("train --resume run --epochs 4 --schedule cosine --tensorboard=false --fork --out more"), path)
        .success();
    assert_eq!(event_files(&path.join("more")), Vec::<String>::new());
}

/// What an event file says, record by record: the step, and whether it is a session's start (of a step) or says something of a step.
fn records(path: &Path) -> Vec<(i64, &'static str)> {
    let bytes = std::fs::read(path).unwrap();
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let event = &bytes[at + 12..at + 12 + length];
        at += length + 16;
        let (mut step, mut kind, mut rest) = (0, "version", event);
        // Fields of a protocol buffer: a key, then eight bytes, a number, or a length and so many bytes.
        while let Some(key) = varint(&mut rest) {
            match key & 7 {
                1 => rest = &rest[8..],
                0 => step = if let (2, Some(value)) = (key >> 3, varint(&mut rest)) { value as i64 } else { step },
                2 => {
                    let length = varint(&mut rest).unwrap() as usize;
                    rest = &rest[length..];
                    kind = match key >> 3 {
                        5 => "said",
                        7 => "start",
                        _ => kind,
                    };
                }
                other => panic!("wire type {other}"),
            }
        }
        found.push((step, kind));
    }
    found
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    Some(value)
}

#[test]
fn what_a_resume_replaces_is_in_no_event_file_any_more() {
    let dir = faces();
    let path = dir.path();
    for (ranks, out) in [(1, "one"), (2, "two")] {
        let on = |line: &str| if ranks == 1 { glasses(&words(line), path) } else { mpirun(ranks, &words(line), path) };
        on(&format!("{TRAIN} --out {out} --max-steps 6")).success();
        let folder = path.join(out);
        let first = event_files(&folder)[0].clone();
        assert_eq!(records(&folder.join(&first)), [(0, "version"), (0, "start"), (4, "said"), (6, "said")]);
        // A killed process left half a record.
        let mut bytes = std::fs::read(folder.join(&first)).unwrap();
        bytes.extend([200, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        std::fs::write(folder.join(&first), bytes).unwrap();
        on(&format!("train --resume {out} --max-steps 1000")).success();
        let files = event_files(&folder);
        let said: Vec<_> = files.iter().map(|name| records(&folder.join(name))).collect();
        // A TensorBoard that has the first file open goes by the second one's start; one that opens them later finds no step 6.
        assert_eq!(said[0], [(0, "version"), (0, "start"), (4, "said")], "{ranks} ranks");
        assert_eq!(said[1], [(0, "version"), (5, "start"), (8, "said"), (12, "said")], "{ranks} ranks");
        let lines: Vec<u64> = metrics(&folder).iter().map(|line| line["step"].as_u64().unwrap()).collect();
        assert_eq!(lines, [4, 8, 12]);
    }
}
