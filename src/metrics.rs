//! The figures of a run, as they are written.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

/// Wall time of one rank, averaged over the ranks, in seconds, a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Seconds {
    /// Rows prepared for the network.
    pub load: f64,
    /// Forward passes.
    pub forward: f64,
    /// Losses and backward passes.
    pub backward: f64,
    /// Gradients reduced over the ranks, waiting for them included.
    pub sync: f64,
    /// Optimizer updates.
    pub update: f64,
    /// Evaluation (not part of training).
    pub evaluate: f64,
}

/// One line of `metrics.jsonl`. Losses are means over rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EpochLine {
    /// Epochs done.
    pub epoch: usize,
    /// Optimizer updates done.
    pub step: usize,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean loss while the epoch was trained, dropout on.
    pub train_loss: f64,
    /// Share of rows that were right while the epoch was trained, dropout on.
    pub train_accuracy: f64,
    /// On `/val`; null where there is none or it was not evaluated.
    pub val_loss: Option<f64>,
    /// On `/val`.
    pub val_accuracy: Option<f64>,
    /// On `/test`; null where there is none or it was not evaluated.
    pub test_loss: Option<f64>,
    /// On `/test`.
    pub test_accuracy: Option<f64>,
    /// Time a phase.
    pub seconds: Seconds,
    /// Training rows over the wall time of the training phases.
    pub images_per_sec: f64,
    /// Payload bytes that the root handed to MPI in this epoch, evaluation included.
    pub bytes_communicated: u64,
}

/// `summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)] // The names are those of the lines and settings above.
pub struct Summary {
    pub model: String,
    pub parameters: usize,
    pub train_rows: usize,
    pub test_rows: usize,
    pub ranks: usize,
    pub shards: usize,
    pub epochs: usize,
    pub steps: usize,
    pub train_loss: f64,
    pub train_accuracy: f64,
    pub val_loss: Option<f64>,
    pub val_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub test_accuracy: Option<f64>,
    /// Epoch of `best.h5`, chosen on `/val`.
    pub best_epoch: Option<usize>,
    /// Over all epochs.
    pub images_per_sec: f64,
    /// Payload bytes that the root handed to MPI over the whole run.
    pub bytes_communicated: u64,
    pub weights_sha256: String,
    pub wall_seconds: f64,
}

/// `metrics.jsonl`, a line at a time.
#[derive(Debug)]
pub struct MetricsFile {
    file: File,
    path: PathBuf,
}

impl MetricsFile {
    /// Creates the file.
    ///
    /// # Errors
    /// When the folder refuses.
    pub fn create(path: &Path) -> Result<MetricsFile> {
        let file = OpenOptions::new().create_new(true).append(true).open(path).map_err(Error::io("create", path))?;
        Ok(MetricsFile { file, path: path.to_owned() })
    }

    /// Adds a line, in one write.
    ///
    /// # Errors
    /// When the disk refuses; a part of the line that got there is taken back.
    pub fn add(&mut self, line: &EpochLine) -> Result<()> {
        let mut text = json(line, &self.path)?;
        text.push('\n');
        let before = self.file.metadata().map(|m| m.len());
        self.file.write_all(text.as_bytes()).map_err(|e| {
            let _ = before.map(|length| self.file.set_len(length));
            Error::io("write", &self.path)(e)
        })
    }
}

/// `value` as one line of JSON, for `path`.
///
/// # Errors
/// Never in practice.
pub fn json(value: &impl Serialize, path: &Path) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::io("write", path)(e.into()))
}
