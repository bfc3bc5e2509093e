//! How far a run is: with the weights and the optimizer's state, all that anyone needs to go on with it.

use serde::{Deserialize, Serialize};

use crate::kernels::Score;
use crate::metrics::{Exchange, Seconds};

/// Where a run stands, at a step's end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The epoch that is being trained, from 0: those before it are done, evaluated and written.
    pub epoch: usize,
    /// Steps done in it.
    pub step_of_epoch: usize,
    /// Optimizer updates done.
    pub step: usize,
    /// The sums of the epoch so far.
    pub sums: EpochSums,
    /// Training rows of the epochs done.
    pub rows: u64,
    /// Wall time of their training.
    pub training_seconds: f64,
    /// Wall time of everything.
    pub wall_seconds: f64,
    /// Payload bytes that the root handed to MPI.
    pub bytes: u64,
    /// What the root moved in the steps of the epochs done.
    #[serde(default)]
    pub exchange: Exchange,
    /// Files that the disk refused.
    #[serde(default)]
    pub failed_writes: u64,
    /// The best epoch on `/val` so far.
    pub best: Option<Best>,
}

/// What an epoch adds up from step to step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// Of the losses.
    pub loss_sum: f64,
    /// Rows that were predicted correctly.
    pub correct: u64,
    /// Rows.
    pub count: u64,
    /// The last learning rate.
    pub lr: f64,
    /// Time a phase.
    pub seconds: Seconds,
    /// Wall time, without the evaluation's.
    pub wall_seconds: f64,
    /// Payload bytes that the root handed to MPI.
    pub bytes: u64,
    /// What it moved in steps.
    #[serde(default)]
    pub exchange: Exchange,
}

/// An epoch whose weights are kept as `best.h5`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// On `/val`.
    pub accuracy: f64,
    /// From 1.
    pub epoch: usize,
}

impl EpochSums {
    /// Adds a step over `count` rows.
    pub fn add(&mut self, score: Score, count: u64, lr: f64) {
        self.loss_sum += score.loss_sum;
        self.correct += score.correct;
        self.count += count;
        self.lr = lr;
    }
}

impl Progress {
    /// The epoch is over: the next one starts.
    pub fn end_epoch(&mut self) {
        let sums = std::mem::take(&mut self.sums);
        self.rows += sums.count;
        self.training_seconds += sums.wall_seconds;
        self.exchange += sums.exchange;
        (self.epoch, self.step_of_epoch) = (self.epoch + 1, 0);
    }
}
