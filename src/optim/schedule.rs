//! The learning rate over a run.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How the learning rate changes after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays
    Constant,
    /// A tenth after each third of the run
    Step,
    /// Half a cosine, down to zero (Loshchilov & Hutter 2017)
    Cosine,
}

impl Schedule {
    /// The learning rate of step `step` (from 0) of `total`, of which the first `warmup` rise linearly to `lr`.
    pub fn at(self, lr: f64, step: usize, warmup: usize, total: usize) -> f64 {
        if step < warmup {
            return lr * (step + 1) as f64 / warmup as f64;
        }
        let done = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
        match self {
            Schedule::Constant => lr,
            Schedule::Step => lr * [1.0, 0.1, 0.01][((done * 3.0) as usize).min(2)],
            Schedule::Cosine => lr * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_linearly_then_follows_its_schedule() {
        let at = |schedule: Schedule, step| schedule.at(1.0, step, 4, 16);
        assert_eq!([0, 1, 3].map(|step| at(Schedule::Cosine, step)), [0.25, 0.5, 1.0]);
        assert_eq!([4, 15].map(|step| at(Schedule::Constant, step)), [1.0, 1.0]);
        assert_eq!([4, 7, 8, 12, 15].map(|step| at(Schedule::Step, step)), [1.0, 1.0, 0.1, 0.01, 0.01]);
        assert_eq!(at(Schedule::Cosine, 4), 1.0);
        assert!((at(Schedule::Cosine, 10) - 0.5).abs() <= 1e-12);
        assert!(at(Schedule::Cosine, 15) < 0.02);
    }
}
