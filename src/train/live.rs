//! Progress reports of a run, for the terminal and `glasses watch`: when one is due, and what is in it.

use std::time::{Duration, Instant};

use super::run::Run;
use crate::comm;
use crate::metrics::EpochLine;
use crate::report::{Activity, Live, now};

/// Between two writings of the file: the others wait while the root makes and renames it.
const PAUSE: Duration = Duration::from_secs(1);
/// The progress line moves more often; it costs no file.
const PAUSE_OF_LINE: Duration = Duration::from_millis(200);

/// The times of the last progress reports.
#[derive(Debug, Default)]
pub struct ProgressReports {
    /// When the first step of this process was reported, and its number: the pace of all that came since, evaluations included.
    began: Option<(Instant, usize)>,
    file: Option<Instant>,
    line: Option<Instant>,
}

/// The reports that are due now.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// On the terminal.
    pub line: bool,
    /// In the file for `glasses watch`.
    pub file: bool,
}

impl ProgressReports {
    /// Whether an evaluation takes long, as the one of this epoch did.
    pub fn is_long(last: Option<&EpochLine>) -> bool {
        last.is_none_or(|line| line.seconds.evaluate > PAUSE.as_secs_f64())
    }

    /// The reports that are due after so many steps; the terminal may have no line for it.
    pub fn due(&mut self, step: usize, at_once: bool, has_line: bool) -> Due {
        self.began.get_or_insert((Instant::now(), step));
        let is_due =
            |last: Option<Instant>, pause: Duration| at_once || last.is_none_or(|last| last.elapsed() >= pause);
        Due { line: has_line && is_due(self.line, PAUSE_OF_LINE), file: is_due(self.file, PAUSE) }
    }

    /// Notes that these reports were made.
    pub fn mark(&mut self, due: Due) {
        let now = Instant::now();
        self.line = if due.line { Some(now) } else { self.line };
        self.file = if due.file { Some(now) } else { self.file };
    }

    /// The run's progress.
    pub fn live(&self, run: &Run<'_>, activity: Activity) -> Live {
        let (now_at, steps, total) = (run.now(activity == Activity::Training), run.steps_of_epoch(), run.total_steps);
        let (sums, done) = (&now_at.sums, now_at.step_of_epoch);
        let rows = sums.count.max(1) as f64;
        // Of this epoch, whichever process trained its steps.
        let of_step = sums.wall_seconds / done.max(1) as f64;
        let left = total.saturating_sub(now_at.step);
        let of_epoch = (steps - done).min(left);
        let pace = self.began.filter(|(_, first)| *first < now_at.step);
        let pace = pace.map_or(of_step, |(start, first)| start.elapsed().as_secs_f64() / (now_at.step - first) as f64);
        Live {
            activity,
            epoch: now_at.epoch + 1,
            epochs: run.config.epochs,
            steps_of_epoch: (done, steps),
            steps: (now_at.step, total),
            loss: sums.loss_sum / rows,
            accuracy: sums.correct as f64 / rows,
            lr: sums.lr,
            images_per_sec: if sums.wall_seconds > 0.0 { sums.count as f64 / sums.wall_seconds } else { 0.0 },
            left: (of_step * of_epoch as f64, pace * left as f64),
            seconds: sums.seconds,
            wall_seconds: now_at.wall_seconds,
            ranks: run.comm.size(),
            host: comm::host(),
            written: now(),
        }
    }
}
