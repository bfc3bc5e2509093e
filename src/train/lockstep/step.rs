//! What goes into a training step and what comes out of it, besides rows and weights.

use crate::kernels::Score;
use crate::kernels::rng::TrainingPass;
use crate::metrics::Exchange;
use crate::model::Model;
use crate::train::data::TrainData;

/// Flags that a rank raises in a step. All ranks exchange them with the step's scores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepFlags {
    /// The last update was made with a gradient that was not finite.
    pub nonfinite: bool,
    /// A checkpoint of this step's weights is due.
    pub checkpoint: bool,
    /// The signal after which the run ends with this step and a checkpoint.
    pub interrupt: Option<u8>,
}

/// Where in the run a step is, and this rank's flags.
#[derive(Clone, Copy, Debug)]
pub struct StepContext {
    /// The run's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: usize,
    /// Rows of the step.
    pub count: u64,
    /// Learning rate.
    pub lr: f32,
    /// The flags that this rank raises.
    pub flags: StepFlags,
}

impl StepContext {
    /// As augmentation and dropout address their numbers.
    pub(super) fn training(&self) -> TrainingPass {
        TrainingPass { seed: self.seed, epoch: self.epoch }
    }
}

/// What a step works on, but for its weights.
pub(super) struct StepInput<'a> {
    pub model: &'a Model,
    pub data: &'a TrainData,
    pub context: StepContext,
}

/// What a step came to.
#[derive(Clone, Copy, Debug)]
pub struct StepResult {
    /// Loss and correct predictions over all rows.
    pub score: Score,
    /// The flags that any rank raised.
    pub flags: StepFlags,
    /// Whether there was an update: not where a rank raised `nonfinite`, or the loss is not finite.
    pub updated: bool,
    /// Whether all gradients that this rank has seen were finite.
    pub finite: bool,
    /// What this rank moved, and what the root was predicted to.
    pub exchange: Exchange,
}

/// Whether the ranks update their weights: the same on every rank.
pub(super) fn should_update(score: Score, flags: StepFlags) -> bool {
    !flags.nonfinite && score.loss_sum.is_finite()
}
