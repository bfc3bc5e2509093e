//! Tells those who watch where a run stands: the progress line on the terminal, and the file for `glasses watch`.

use std::time::{Duration, Instant};

use super::trainer::Trainer;
use crate::comm;
use crate::files::replace;
use crate::report::{Activity, Console, LIVE_FILE, Live, now};

/// Between two writings of the file: the others wait while the root makes and renames it.
const PAUSE: Duration = Duration::from_secs(1);
/// The progress line moves more often; it costs no file.
const PAUSE_OF_LINE: Duration = Duration::from_millis(200);

/// When what was told last.
#[derive(Debug, Default)]
pub struct Told {
    /// When the first step of this process was told, and its number: the pace of all that came since, evaluations included.
    began: Option<(Instant, usize)>,
    file: Option<Instant>,
    line: Option<Instant>,
}

impl Trainer<'_> {
    /// On the root, after each step, and before an evaluation: tells where the run stands, if it has not just done so.
    pub fn tell(&mut self, activity: Activity, console: &Console) {
        if !self.comm.is_root() {
            return;
        }
        let due = |last: Option<Instant>, pause: Duration| last.is_none_or(|last| last.elapsed() >= pause);
        // A long evaluation is told at once: nothing else is until it ends.
        let is_long = self.lines.last().is_none_or(|line| line.seconds.evaluate > PAUSE.as_secs_f64());
        let at_once = activity == Activity::Evaluating && is_long;
        self.told.began.get_or_insert((Instant::now(), self.progress.step));
        let line = console.has_progress() && (at_once || due(self.told.line, PAUSE_OF_LINE));
        let file = at_once || due(self.told.file, PAUSE);
        if !line && !file {
            return;
        }
        let live = self.live(activity);
        if line {
            console.progress(&live, self.progress.sums.count);
            self.told.line = Some(Instant::now());
        }
        if file {
            // Who watches sees an old state where the disk refuses: no reason to stop. A folder that was taken away is missed here first.
            let text = serde_json::to_string(&live).unwrap_or_default();
            if self.folder.is_own() || self.mend_folder(console).is_ok() {
                let _ = replace(&self.folder.path().join(LIVE_FILE), text.as_bytes());
            }
            self.told.file = Some(Instant::now());
        }
    }

    fn live(&self, activity: Activity) -> Live {
        let (now_at, steps, total) =
            (self.now(activity == Activity::Training), self.steps_of_epoch(), self.total_steps());
        let (sums, done) = (&now_at.sums, now_at.step_of_epoch);
        let rows = sums.count.max(1) as f64;
        // Of this epoch, whichever process trained its steps.
        let of_step = sums.wall_seconds / done.max(1) as f64;
        let left = total.saturating_sub(now_at.step);
        let of_epoch = (steps - done).min(left);
        let pace = self.told.began.filter(|(_, first)| *first < now_at.step);
        let pace = pace.map_or(of_step, |(start, first)| start.elapsed().as_secs_f64() / (now_at.step - first) as f64);
        Live {
            activity,
            epoch: now_at.epoch + 1,
            epochs: self.config.epochs,
            steps_of_epoch: (done, steps),
            steps: (now_at.step, total),
            loss: sums.loss_sum / rows,
            accuracy: sums.correct as f64 / rows,
            lr: sums.lr,
            images_per_sec: if sums.wall_seconds > 0.0 { sums.count as f64 / sums.wall_seconds } else { 0.0 },
            left: (of_step * of_epoch as f64, pace * left as f64),
            seconds: sums.seconds,
            wall_seconds: now_at.wall_seconds,
            ranks: self.comm.size(),
            host: comm::host(),
            written: now(),
        }
    }
}
