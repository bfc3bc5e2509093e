//! One network of all ranks, or one each.

use serde::{Deserialize, Serialize};

/// What the ranks make together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Together {
    /// One network, the same on every rank after every step
    #[default]
    Lockstep,
    /// Networks of their own (`--members`), whose probabilities are averaged in the end: nothing travels while they train
    Ensemble,
}

impl Together {
    pub(super) fn is_lockstep(&self) -> bool {
        *self == Together::Lockstep
    }
}
