//! Where a run stands this second: a small file that the root rewrites at most once a second, whole or not at all.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::files::read_text;
use crate::metrics::Seconds;

/// The file in a run's folder. It is gone when the run is over; a killed run leaves its last one.
pub const LIVE_FILE: &str = "live.json";

/// What is being done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    /// Steps.
    #[default]
    Training,
    /// The rows of `/val` and `/test`.
    Evaluating,
}

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Live {
    /// What is being done.
    pub activity: Activity,
    /// The epoch that is being trained, from 1.
    pub epoch: usize,
    /// Of how many.
    pub epochs: usize,
    /// Steps done in it, and of how many.
    pub steps_of_epoch: (usize, usize),
    /// Steps done, and of how many.
    pub steps: (usize, usize),
    /// Mean loss of the epoch so far.
    pub loss: f64,
    /// Accuracy over the epoch's rows so far.
    pub accuracy: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Training rows of the epoch so far over their wall time.
    pub images_per_sec: f64,
    /// Seconds until the epoch's steps are made, and until the run is over, if all goes on as it went.
    pub left: (f64, f64),
    /// The root's time a phase, in the epoch so far.
    pub seconds: Seconds,
    /// Wall time of the run so far.
    pub wall_seconds: f64,
    /// Ranks.
    pub ranks: usize,
    /// The root's host.
    pub host: String,
    /// When this was written, in seconds since 1970.
    pub written: f64,
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

impl Live {
    /// What the file in a run's folder says, if there is one.
    pub fn read(folder: &Path) -> Option<Live> {
        serde_json::from_str(&read_text(&folder.join(LIVE_FILE)).ok()?).ok()
    }
}
