//! What a run keeps on disk: a disk that refuses does not end the training while there is something to save. What failed is
//! said, counted and tried again, until so many attempts in a row have failed (`--max-failed-checkpoints`).

use std::time::{Duration, Instant};

use super::interrupt;
use super::saver::Saver;
use super::trainer::Trainer;
use crate::checkpoint;
use crate::comm::on_root;
use crate::config::Every;
use crate::error::{Error, Result};
use crate::metrics::{EpochLine, Summary};
use crate::model::Params;
use crate::position::{self, Phase};
use crate::report::Console;
use crate::trace::What;

/// Between two attempts at most; the first pause is a second, and each is twice the one before.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After a signal there is not much time.
const AFTER_SIGNAL: Duration = Duration::from_secs(60);
/// Nor is much to be gained by the checkpoint of a run that is finished: only who wants more steps goes on from it.
const FINISHED: Duration = Duration::from_secs(60);
/// A rank that waits for the disk says so often that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// Attempts that failed, on the root.
#[derive(Clone, Copy, Debug, Default)]
pub struct Patience {
    in_a_row: u64,
    /// No attempt before.
    next: Option<Instant>,
}

impl Patience {
    /// Whether another attempt is due, after one that failed.
    pub fn is_due(&self) -> bool {
        self.next.is_some_and(|next| Instant::now() >= next)
    }

    /// An attempt did well.
    pub fn rest(&mut self) {
        *self = Patience::default();
    }

    /// An attempt failed at this moment: the pause before the next one. What fails in a pause (an epoch's line, say) is not one more
    /// in a row: short epochs would use up a run's patience in seconds.
    fn fail(&mut self, now: Instant) -> Duration {
        if let Some(next) = self.next.filter(|next| now < *next) {
            return next - now;
        }
        let pause = Duration::from_secs(1 << self.in_a_row.min(6)).min(LONGEST_PAUSE);
        self.in_a_row += 1;
        self.next = Some(now + pause);
        pause
    }
}

/// What the disk has refused, on the root.
#[derive(Debug, Default)]
pub struct Refused {
    checkpoints: Patience,
    others: Patience,
    /// Parameters of the best epoch, for `best.h5`.
    best: Option<Params>,
}

/// Kinds of files: each may fail so often in a row.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// The run's state.
    Checkpoint,
    /// Lines and models.
    Other,
}

impl Refused {
    fn of(&mut self, kind: Kind) -> &mut Patience {
        match kind {
            Kind::Checkpoint => &mut self.checkpoints,
            Kind::Other => &mut self.others,
        }
    }
}

impl Trainer<'_> {
    /// On the root: starts to write a checkpoint, and says so if that, or the one before it, failed.
    pub fn save_state(&mut self, console: &Console) {
        if let Err(failure) = self.mend_folder(console).and_then(|()| self.start_checkpoint()) {
            self.has_failed(Kind::Checkpoint, "a checkpoint", &failure, console);
        }
    }

    /// On the root: starts to write a checkpoint, where there are any.
    ///
    /// # Errors
    /// When that, or the one before it, failed.
    fn start_checkpoint(&mut self) -> Result<()> {
        if self.saver.is_none() || !self.well || self.config.checkpoint_every == Every::Never {
            return Ok(());
        }
        position::enter(Phase::Checkpoint);
        // Its chain of digests counts lines that have to be there.
        self.folder.finish_lines()?;
        let (meta, sync) = (self.meta(), self.folder.files());
        let Trainer { saver, params, optimizer, .. } = self;
        let start = |saver: &mut Saver| saver.start(meta, params, optimizer, sync);
        let started = self.trace.span(What::Checkpoint, 0, [0; 4], || saver.as_mut().map_or(Ok(()), start));
        self.folder.keep();
        started
    }

    /// On the root: what this run has come to is on disk, and what was left before.
    ///
    /// # Errors
    /// When the disk refuses: it is written when this is called again.
    pub(super) fn write_checkpoint(&mut self) -> Result<()> {
        let step = self.progress.step;
        if self.saver.as_mut().is_some_and(|saver| saver.is_gone() || saver.last_started() != step) {
            self.start_checkpoint()?;
        }
        self.saver.as_mut().map_or(Ok(()), Saver::try_again)
    }

    /// On the root: a folder that somebody has taken away is made anew, with the settings and the lines so far, and said so. What else
    /// was in it is lost; a checkpoint is due.
    ///
    /// # Errors
    /// When another run has taken its place, or the disk refuses.
    pub(super) fn mend_folder(&mut self, console: &Console) -> Result<()> {
        let config = self.config_that_runs().to_toml()?;
        if self.folder.mend(&self.lines, &config)? {
            self.saver.as_mut().map(Saver::is_gone);
            let path = self.folder.path();
            if self.progress.best.is_some() && self.refused.best.is_none() && !path.join("best.h5").exists() {
                // Of the epochs from here on.
                self.progress.best = None;
            }
            console.warn(format!(
                "{} or files in it were removed or moved while the run worked there: the folder, its settings and its metrics are \
                 written anew; checkpoints, best.h5 and event files of before are not",
                path.display()
            ));
        }
        Ok(())
    }

    /// On the root: says so if the last checkpoint that was started could not be written.
    pub fn look_after_checkpoints(&mut self, console: &Console) {
        match self.saver.as_mut().and_then(Saver::look) {
            None => {}
            Some(Ok(())) => self.refused.checkpoints.rest(),
            Some(Err(failure)) => self.has_failed(Kind::Checkpoint, "a checkpoint", &failure, console),
        }
        self.look_at_older_checkpoints(console);
    }

    /// On the root: says so if checkpoints could not be removed when there were newer ones. That is no failure: what is new is there.
    fn look_at_older_checkpoints(&mut self, console: &Console) {
        if let Some(failure) = self.saver.as_mut().and_then(Saver::look_at_older) {
            console.warn(format!("older checkpoints could not be removed, and stay: {failure}"));
        }
    }

    /// On the root: whether a checkpoint is due after `step` steps, which end `epoch` epochs or none; after one that failed,
    /// the next attempt.
    pub fn is_checkpoint_due(&self, step: usize, epoch: Option<usize>) -> bool {
        let Some(saver) = self.saver.as_ref().filter(|saver| !saver.is_busy()) else { return false };
        match self.refused.checkpoints.in_a_row {
            0 => saver.is_due(step, epoch),
            _ => self.refused.checkpoints.is_due(),
        }
    }

    /// Whether so many attempts have failed that the run is to end.
    pub fn is_out_of_patience(&self) -> bool {
        let most = self.config.max_failed_checkpoints;
        self.refused.checkpoints.in_a_row >= most || self.refused.others.in_a_row >= most
    }

    /// Notes, on the root, that the disk refused `what`, and says so.
    fn has_failed(&mut self, kind: Kind, what: &str, failure: &Error, console: &Console) {
        let pause = self.refused.of(kind).fail(Instant::now());
        self.progress.failed_writes += 1;
        let (count, most) = (self.refused.of(kind).in_a_row, self.config.max_failed_checkpoints);
        let next = if count < most {
            format!("tried again in {:.0} s", pause.as_secs_f64().ceil())
        } else {
            "given up".to_owned()
        };
        console.warn(format!("{what} could not be written ({count} of {most} failures in a row), {next}: {failure}"));
    }

    /// On the root: does `write`, again and again where the disk refuses.
    pub(super) fn insist(
        &mut self,
        kind: Kind,
        what: &str,
        console: &Console,
        write: impl Fn(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.insist_until(|waited| interrupt::caught().is_some() && waited >= AFTER_SIGNAL, kind, what, console, write)
    }

    /// As [`Trainer::insist`], until the time since the first attempt `is_late`.
    fn insist_until(
        &mut self,
        is_late: impl Fn(Duration) -> bool,
        kind: Kind,
        what: &str,
        console: &Console,
        write: impl Fn(&mut Self) -> Result<()>,
    ) -> Result<()> {
        position::enter(Phase::Write);
        let start = Instant::now();
        let is_late = || is_late(start.elapsed());
        loop {
            let Err(failure) = self.mend_folder(console).and_then(|()| write(self)) else {
                self.refused.of(kind).rest();
                self.look_at_older_checkpoints(console);
                return Ok(());
            };
            self.has_failed(kind, what, &failure, console);
            while !self.refused.of(kind).is_due() && !self.is_out_of_patience() && !is_late() {
                position::tick();
                std::thread::sleep(SIGN_OF_LIFE);
            }
            if self.is_out_of_patience() || is_late() {
                return Err(failure);
            }
        }
    }

    /// On the root: adds an epoch's line, and what is left of former ones; where the disk refuses, they are tried again with the next.
    pub fn add_line(&mut self, line: &EpochLine, console: &Console) {
        if !self.comm.is_root() {
            return;
        }
        position::enter(Phase::Write);
        match self.mend_folder(console).and_then(|()| self.folder.add(line)) {
            Ok(()) if self.refused.best.is_none() => self.refused.others.rest(),
            Ok(()) => {}
            Err(failure) => self.has_failed(Kind::Other, "an epoch's line", &failure, console),
        }
        if self.refused.best.is_some() {
            self.write_best(console);
        }
    }

    /// On the root: writes a file for those who use the best model so far, which is this one.
    pub fn save_best(&mut self, console: &Console) {
        if self.comm.is_root() {
            self.refused.best = Some(self.params.clone());
            self.write_best(console);
        }
    }

    fn write_best(&mut self, console: &Console) {
        match self.mend_folder(console).and_then(|()| self.write_refused_best()) {
            Ok(()) => self.refused.others.rest(),
            Err(failure) => self.has_failed(Kind::Other, "best.h5", &failure, console),
        }
    }

    fn write_refused_best(&mut self) -> Result<()> {
        if let Some(params) = &self.refused.best {
            self.write_model("best.h5", params)?;
            self.refused.best = None;
        }
        Ok(())
    }

    fn write_model(&self, name: &str, params: &Params) -> Result<()> {
        let (data, path) = (&self.data, self.folder.path().join(name));
        checkpoint::write(&path, &self.model, params, data.shape, &data.normalizer, &data.classes)
    }

    /// Collective: all steps are made: the last checkpoint, if the disk takes it at once; the model; else now the checkpoint; the lines
    /// that are left, the summary, which is returned.
    ///
    /// # Errors
    /// When the disk has refused too often.
    pub fn keep_results(&mut self, console: &Console) -> Result<Summary> {
        let (comm, mut written) = (self.comm, None);
        on_root(comm, || {
            (self.refused.checkpoints, self.refused.others) = Default::default();
            let finish = |trainer: &mut Trainer<'_>| match trainer.progress.step_of_epoch {
                0 => trainer.write_checkpoint(),
                _ if trainer.saver.as_mut().is_some_and(Saver::is_gone) => trainer.write_checkpoint(),
                // Only `--max-steps` ends here: what was due has been started.
                _ => trainer.saver.as_mut().map_or(Ok(()), Saver::try_again),
            };
            let checkpoint = |trainer: &mut Self, is_late: &dyn Fn(Duration) -> bool| {
                let end = trainer.insist_until(is_late, Kind::Checkpoint, "the last checkpoint", console, finish);
                trainer.refused.checkpoints.rest();
                end
            };
            // One attempt, so that none is under way: both would take memory.
            let saved = checkpoint(self, &|_| true);
            // What uses the model is content without it, and the model, which is smaller, may fit where it did not.
            self.insist(Kind::Other, "best.h5", console, Trainer::write_refused_best)?;
            let model = |trainer: &mut Trainer<'_>| trainer.write_model("model.h5", &trainer.params);
            self.insist(Kind::Other, "model.h5", console, model)?;
            if saved.is_err() {
                let _said = checkpoint(self, &|waited| waited >= FINISHED || interrupt::caught().is_some());
            }
            let summary = self.summary();
            let write = |trainer: &mut Trainer<'_>| {
                if !trainer.folder.path().join("model.h5").exists() {
                    // Taken away a moment ago.
                    model(trainer)?;
                }
                trainer.folder.finish(&summary)
            };
            self.insist(Kind::Other, "the run's summary", console, write)?;
            written = Some(summary);
            Ok(String::new())
        })?;
        Ok(written.unwrap_or_else(|| self.summary()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_success() {
        let mut patience = Patience::default();
        assert!(!patience.is_due());
        let mut now = Instant::now();
        let mut fail_when_due = || {
            let pause = patience.fail(now);
            // Too early to count.
            let half = patience.fail(now + pause / 2);
            now += pause;
            (pause.as_secs(), half == pause / 2)
        };
        let pauses = [1, 2, 4, 8, 16, 32, 60, 60].map(|seconds| (seconds, true));
        assert_eq!(std::array::from_fn(|_| fail_when_due()), pauses);
        assert!(!patience.is_due());
        patience.rest();
        assert_eq!(patience.fail(now).as_secs(), 1);
    }
}
