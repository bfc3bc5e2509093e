//! The figures of a run, as they are written.

mod confusion;

pub use confusion::{Balance, ClassRows, Confusion, MOST_IN_TABLE};

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{text_if_there, write_whole};
use crate::lock::is_at;

/// Wall time of one rank, averaged over the ranks, in seconds, a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Rows prepared for the network.
    pub load: f64,
    /// Forward passes.
    pub forward: f64,
    /// Losses and backward passes: the gradients of all weights, under every strategy.
    pub backward: f64,
    /// Exchange of gradients, and of rows of layers that are shared out, and waiting for other ranks.
    pub sync: f64,
    /// The optimizer's sweeps over the parameters; for summed layers of ranks that share memory with the last addition of their sums,
    /// which is done in the same sweep.
    pub update: f64,
    /// Evaluation (not part of training).
    pub evaluate: f64,
}

/// What the root moved in training steps so that gradients reach all ranks, and what the model behind `glasses plan` says of it:
/// bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exchange {
    /// Handed to MPI.
    pub sent: u64,
    /// Read from the memory of other ranks of its machine.
    pub shared: u64,
    /// What `sent` was predicted to be.
    pub predicted_sent: u64,
    /// What `shared` was predicted to be.
    pub predicted_shared: u64,
}

impl std::ops::AddAssign for Exchange {
    fn add_assign(&mut self, more: Exchange) {
        self.sent += more.sent;
        self.shared += more.shared;
        self.predicted_sent += more.predicted_sent;
        self.predicted_shared += more.predicted_shared;
    }
}

/// The rank that computed longest in an epoch: all others waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slowest {
    /// Which.
    pub rank: usize,
    /// Seconds that it loaded, computed and updated; waiting is left out.
    pub seconds: f64,
    /// The same, averaged over all ranks.
    pub mean: f64,
}

/// One line of `metrics.jsonl`. Losses are means over rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochLine {
    /// Epochs done.
    pub epoch: usize,
    /// Optimizer updates done.
    pub step: usize,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean loss while the epoch was trained, dropout on.
    pub train_loss: f64,
    /// Accuracy while the epoch was trained, dropout on.
    pub train_accuracy: f64,
    /// On `/val`; null where there is none or it was not evaluated.
    pub val_loss: Option<f64>,
    /// On `/val`.
    pub val_accuracy: Option<f64>,
    /// On `/test`; null where there is none or it was not evaluated.
    pub test_loss: Option<f64>,
    /// On `/test`.
    pub test_accuracy: Option<f64>,
    /// On `/val`; null too where an older version wrote the line.
    #[serde(default)]
    pub val_balance: Option<Balance>,
    /// On `/test`.
    #[serde(default)]
    pub test_balance: Option<Balance>,
    /// Time a phase.
    pub seconds: Seconds,
    /// Training rows over the wall time of the training phases.
    pub images_per_sec: f64,
    /// Payload bytes that the root handed to MPI in this epoch: steps, digests, evaluation.
    pub bytes_communicated: u64,
    /// Of the steps alone, with what was read from shared memory, and the prediction.
    #[serde(default)]
    pub exchange: Exchange,
    /// Where there are several ranks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowest: Option<Slowest>,
}

/// One network of an ensemble.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // As below.
pub struct Member {
    pub folder: String,
    pub seed: u64,
    pub train_loss: f64,
    pub train_accuracy: f64,
    pub val_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub weights_sha256: String,
}

/// `summary.json`. Of an ensemble: training losses and accuracies are means over its members, figures on other rows are of all of them
/// together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // The names are those of the lines and settings above.
pub struct Summary {
    pub model: String,
    pub parameters: usize,
    pub train_rows: usize,
    #[serde(default)]
    pub val_rows: usize,
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
    #[serde(default)]
    pub val_balance: Option<Balance>,
    #[serde(default)]
    pub test_balance: Option<Balance>,
    /// Epoch of `best.h5`, chosen on `/val`.
    pub best_epoch: Option<usize>,
    /// Training rows of all epochs over `training_seconds`, all ranks together.
    pub images_per_sec: f64,
    /// Wall time of the epochs' training, without evaluation. 0 where an older version wrote the summary.
    #[serde(default)]
    pub training_seconds: f64,
    /// Payload bytes that the root handed to MPI over the whole run.
    pub bytes_communicated: u64,
    /// What the root moved in the training steps of the whole run.
    pub exchange: Exchange,
    /// Checkpoints, and other files of the run, that the disk refused at first.
    #[serde(default)]
    pub failed_checkpoints: u64,
    pub weights_sha256: String,
    /// From the start (reading the data) to this summary, of all processes that made the run; the report's page is not in it.
    pub wall_seconds: f64,
    /// Of an ensemble.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
}

impl Summary {
    /// Training rows that went through the network, and the wall time that took.
    pub fn trained(&self) -> (f64, f64) {
        match self.training_seconds {
            // An older version's.
            0.0 => {
                let rows = (self.train_rows * self.epochs) as f64;
                (rows, rows / self.images_per_sec)
            }
            seconds => (self.images_per_sec * seconds, seconds),
        }
    }
}

/// A file of JSON, an object a line, a line at a time: `metrics.jsonl`, `digests.jsonl`.
#[derive(Debug)]
pub struct Lines {
    file: File,
    path: PathBuf,
    /// What the disk has refused so far.
    left: String,
}

impl Lines {
    /// Creates the file.
    ///
    /// # Errors
    /// When it is there already, or the folder refuses.
    pub fn create(path: &Path) -> Result<Lines> {
        let file = OpenOptions::new().create_new(true).read(true).append(true).open(path);
        let file = file.map_err(Error::io("create", path))?;
        Ok(Lines { file, path: path.to_owned(), left: String::new() })
    }

    /// Goes on with a file (made where it is missing) behind those of its lines that `keep` holds for; the others, and what
    /// a killed process wrote of a line, are taken out.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn go_on(path: &Path, mut keep: impl FnMut(&serde_json::Value) -> bool) -> Result<Lines> {
        let text = text_if_there(path)?.unwrap_or_default();
        let is_kept = |line: &&str| serde_json::from_str(line).is_ok_and(|value| keep(&value));
        let kept: String = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).filter(is_kept).collect();
        if kept != text || text.is_empty() {
            write_whole(path, kept.as_bytes())?;
        }
        let file = OpenOptions::new().read(true).append(true).open(path).map_err(Error::io("open", path))?;
        Ok(Lines { file, path: path.to_owned(), left: String::new() })
    }

    /// Whether the file still has its name.
    pub fn is_there(&self) -> bool {
        is_at(&self.path, &self.file)
    }

    /// All lines so far, also where the file was taken away, and those that are left; as far as they can be had.
    pub fn all(&mut self) -> String {
        let mut text = String::new();
        // Lines are added at the end, wherever this leaves the file.
        let _ = self.file.rewind().and_then(|()| self.file.read_to_string(&mut text));
        text + &self.left
    }

    /// Makes the file anew, with `text` in it, where it was taken away or may have been.
    ///
    /// # Errors
    /// When the disk refuses, or somebody takes it away again; nothing is lost then.
    pub fn renew(&mut self, text: &str) -> Result<()> {
        write_whole(&self.path, text.as_bytes())?;
        self.file =
            OpenOptions::new().read(true).append(true).open(&self.path).map_err(Error::io("open", &self.path))?;
        self.left.clear();
        Ok(())
    }

    /// The file itself, to sync it from elsewhere.
    ///
    /// # Errors
    /// When the system has no more handles.
    pub fn file(&self) -> std::io::Result<File> {
        self.file.try_clone()
    }

    /// Adds a line, in one write, and those before it that are left.
    ///
    /// # Errors
    /// When the disk refuses; it is left for the next time then, and no part of it stays in the file.
    pub fn add(&mut self, line: &impl Serialize) -> Result<()> {
        self.left += &json(line, &self.path)?;
        self.left.push('\n');
        self.finish()
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// As [`Lines::add`].
    pub fn finish(&mut self) -> Result<()> {
        let before = self.file.metadata().map(|m| m.len());
        self.file.write_all(self.left.as_bytes()).map_err(|e| {
            let _ = before.map(|length| self.file.set_len(length));
            Error::io("write", &self.path)(e)
        })?;
        self.left.clear();
        Ok(())
    }
}

/// `value` as one line of JSON, for `path`.
///
/// # Errors
/// Never in practice.
pub fn json(value: &impl Serialize, path: &Path) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::io("write", path)(e.into()))
}
