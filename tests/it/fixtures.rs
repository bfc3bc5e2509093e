//! Small datasets and networks that tests start from, and what a refusal must look like.

use std::path::{Path, PathBuf};

use hdf5::H5Type;
use ndarray::ArrayViewD;
use tempfile::{TempDir, tempdir};

use crate::run::{Outcome, glasses, mpirun};

/// A network that trains in milliseconds.
pub const TINY: &str = r#"name = "tiny"
layers = ["conv 3x3x4", "relu", "maxpool 2", "flatten", "dense classes"]
"#;

/// A network for rows of features.
pub const DENSE: &str = r#"name = "small"
layers = ["dense 4", "relu", "dense classes"]
"#;

/// A folder with `faces.h5` (64 + 16 rows of 24x24x3), `tiny.toml` and `dense.toml`.
pub fn faces() -> TempDir {
    let dir = tempdir().unwrap();
    glasses(&["synth", "--size", "24", "--count", "80", "--out", "faces.h5"], dir.path()).success();
    std::fs::write(dir.path().join("tiny.toml"), TINY).unwrap();
    std::fs::write(dir.path().join("dense.toml"), DENSE).unwrap();
    dir
}

/// A dataset written with HDF5 alone, as another program may: contiguous, without attributes.
pub struct Raw(Option<hdf5::File>, PathBuf);

impl Raw {
    /// Creates or replaces `name` in `dir`.
    pub fn create(dir: &Path, name: &str) -> Raw {
        let path = dir.join(name);
        let _ = std::fs::remove_file(&path);
        Raw(Some(hdf5::File::create(&path).unwrap()), path)
    }

    /// Any dataset: its groups are made as needed.
    pub fn put<T: H5Type>(self, name: &str, shape: &[usize], values: &[T]) -> Raw {
        let values = ArrayViewD::from_shape(shape, values).unwrap();
        self.file().new_dataset_builder().with_data(values).create(name).unwrap();
        self
    }

    /// `rows` pictures of 4x4x1 whose brightness is their label, which alternates.
    pub fn images(self, split: &str, rows: usize) -> Raw {
        self.only_images(split, rows).labels(split, &alternating(rows))
    }

    /// Pictures without labels.
    pub fn only_images(self, split: &str, rows: usize) -> Raw {
        let pixels: Vec<u8> = (0..rows * 16).map(|i| ((i / 16 % 2) * 200 + i % 16) as u8).collect();
        self.put(&format!("{split}/images"), &[rows, 4, 4, 1], &pixels)
    }

    /// Rows of two features, the first of which is the label, which alternates.
    pub fn features(self, split: &str, rows: usize) -> Raw {
        let values: Vec<f32> = (0..rows * 2).map(|i| if i % 2 == 0 { (i / 2 % 2) as f32 } else { i as f32 }).collect();
        self.put(&format!("{split}/features"), &[rows, 2], &values).labels(split, &alternating(rows))
    }

    /// Labels alone.
    pub fn labels(self, split: &str, labels: &[i64]) -> Raw {
        self.put(&format!("{split}/labels"), &[labels.len()], labels)
    }

    /// The open file, for what the above cannot say.
    pub fn file(&self) -> &hdf5::File {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        drop(self.0.take());
        unlock(&self.1);
    }
}

/// Puts a copy in a file's place: whoever was started while HDF5 had it open for writing has its lock, too, as long as he runs.
pub fn unlock(path: &Path) {
    let copy = path.with_extension("copy");
    std::fs::copy(path, &copy).unwrap();
    std::fs::rename(&copy, path).unwrap();
}

fn alternating(rows: usize) -> Vec<i64> {
    (0..rows as i64).map(|row| row % 2).collect()
}

/// Everything in a folder, sub-folders too, with lengths of files.
pub fn everything(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let (path, data) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        if data.is_dir() {
            found.extend(everything(&path));
            found.push((path, 0));
        } else {
            found.push((path, data.len()));
        }
    }
    found.sort();
    found
}

/// Runs `glasses ARGS`, which must fail with one message that holds all of `parts`, and leave `dir` as it was.
#[track_caller]
pub fn refused(dir: &Path, args: &str, parts: &[&str]) {
    let before = everything(dir);
    check(dir, &before, args, parts, glasses(&words(args), dir));
}

/// The same alone and on three ranks.
#[track_caller]
pub fn refused_by_all(dir: &Path, args: &str, parts: &[&str]) {
    refused(dir, args, parts);
    refused_by_ranks(3, dir, args, parts);
}

/// The same on some ranks only.
#[track_caller]
pub fn refused_by_ranks(ranks: usize, dir: &Path, args: &str, parts: &[&str]) {
    let before = everything(dir);
    check(dir, &before, args, parts, mpirun(ranks, &words(args), dir));
}

#[track_caller]
fn check(dir: &Path, before: &[(PathBuf, u64)], args: &str, parts: &[&str], outcome: Outcome) {
    let message = outcome.failure();
    for part in parts {
        assert!(message.contains(part), "glasses {args}: '{part}' is not in: {message}");
    }
    // What to do: `fix:` is ours, `--help` is clap's.
    assert!(message.contains("fix: ") || message.contains("--help"), "glasses {args}: no advice in: {message}");
    assert_eq!(everything(dir), before, "glasses {args} left something");
}

/// A line of arguments; spaces part them.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
