//! What the root writes of a run, in the run's folder. A disk that refuses does not end the training while there is something to save: what
//! failed is reported, counted and tried again, until so many attempts in a row have failed (`--max-failed-checkpoints`).

use std::time::{Duration, Instant};

use super::digests::{self, StartLine};
use super::interrupt;
use super::live::ProgressReports;
use super::refused::{Kind, Refused};
use super::run::{Diverged, Run};
use super::run_dir::RunDir;
use super::saver::{Meta, Saver};
use crate::checkpoint::{self, Described};
use crate::comm::{self, on_root};
use crate::config::Every;
use crate::error::{Error, Result};
use crate::files::replace;
use crate::metrics::{EpochLine, Summary};
use crate::model::Params;
use crate::position::{self, Phase};
use crate::report::{Activity, Console, LIVE_FILE};
use crate::trace::What;

/// After a signal there is not much time.
const AFTER_SIGNAL: Duration = Duration::from_secs(60);
/// The checkpoint of a finished run gains little: only a run of more steps goes on from it.
const FINISHED: Duration = Duration::from_secs(60);
/// The pulse of a rank that waits for the disk.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// The record of a run. Every rank has one; only the root's writes.
#[derive(Default)]
pub struct Recorder {
    /// On the root. It ends before the folder, whose lock guards what it writes.
    pub saver: Option<Saver>,
    pub folder: RunDir,
    /// The lines of the epochs that are done.
    pub lines: Vec<EpochLine>,
    /// The digest of all digests so far.
    pub chain: u64,
    /// Writes that the disk refused, on the root.
    refused: Refused,
    /// The times of progress reports.
    reports: ProgressReports,
}

/// Something that is written of a run.
type Write<'w> = &'w dyn Fn(&mut Recorder, &mut Run<'_>) -> Result<()>;

impl Recorder {
    /// Of a run in this folder.
    pub fn new(folder: RunDir) -> Recorder {
        Recorder { folder, ..Recorder::default() }
    }

    /// The metadata of a checkpoint.
    pub fn meta(&self, run: &mut Run<'_>) -> Meta {
        Meta {
            glasses: env!("CARGO_PKG_VERSION").to_owned(),
            settings: run.config_that_runs().to_toml().unwrap_or_default(),
            data: run.data.fingerprint.clone(),
            ranks: run.comm.size(),
            plan: run.lockstep.binding_plan(),
            optimizer_steps: *run.optimizer.state().steps,
            progress: run.now(!run.is_done()),
            lines: self.lines.clone(),
            chain: self.chain,
            model: Some(Described::of(&run.model, run.data.shape, &run.data.normalizer, &run.data.classes)),
        }
    }

    /// Collective: records the hosts that compute from here on.
    pub fn write_start(&mut self, run: &Run<'_>, fork: bool) {
        let (step, hosts) = (run.progress.step, comm::hosts(run.comm));
        if run.comm.is_root() {
            let (data, version) = (run.data.fingerprint.clone(), env!("CARGO_PKG_VERSION").to_owned());
            let plan = run.lockstep.binding_plan();
            self.folder.add_digests(&StartLine { step, hosts, data, plan, fork, version });
        }
    }

    /// Collective: writes the ranks' digests (where only `--max-steps` ends, nothing is due), and stops where they differ.
    ///
    /// # Errors
    /// When ranks have other weights than the root.
    pub fn compare_digests(&mut self, run: &Run<'_>, found: &digests::Found, write: bool) -> Result<()> {
        let at = (run.progress.step, run.progress.epoch + 1);
        let mut chain = self.chain;
        let (line, error) = found.line(at, &run.params, &mut chain, run.comm);
        if write || error.is_some() {
            self.chain = chain;
            self.folder.add_digests(&line);
        }
        error.map_or(Ok(()), |error| {
            // For `glasses verify`.
            self.folder.keep();
            Err(error)
        })
    }

    /// On the root, after each step, and before an evaluation: reports the progress on the terminal and in the file for `glasses watch`, unless it has just done so.
    pub fn report_progress(&mut self, run: &mut Run<'_>, activity: Activity, console: &Console) {
        if !run.comm.is_root() {
            return;
        }
        // A long evaluation is reported at once: nothing else is until it ends.
        let at_once = activity == Activity::Evaluating && ProgressReports::is_long(self.lines.last());
        let due = self.reports.due(run.progress.step, at_once, console.has_progress());
        if !due.line && !due.file {
            return;
        }
        let live = self.reports.live(run, activity);
        if due.line {
            console.progress(&live, run.progress.sums.count);
        }
        if due.file {
            // Who watches sees an old state where the disk refuses: no reason to stop. A folder that was taken away is missed here first.
            let text = serde_json::to_string(&live).unwrap_or_default();
            if self.folder.is_own() || self.mend_folder(run, console).is_ok() {
                let _ = replace(&self.folder.path().join(LIVE_FILE), text.as_bytes());
            }
        }
        self.reports.mark(due);
    }

    /// On the root: starts to write a checkpoint, and warns if that, or the one before it, failed.
    pub fn save_state(&mut self, run: &mut Run<'_>, console: &Console) {
        if let Err(failure) = self.mend_folder(run, console).and_then(|()| self.start_checkpoint(run)) {
            self.has_failed(run, Kind::Checkpoint, "a checkpoint", &failure, console);
        }
    }

    /// On the root: starts to write a checkpoint, where there are any.
    ///
    /// # Errors
    /// When that, or the one before it, failed.
    fn start_checkpoint(&mut self, run: &mut Run<'_>) -> Result<()> {
        if self.saver.is_none() || !run.well || run.config.checkpoint_every == Every::Never {
            return Ok(());
        }
        position::enter(Phase::Checkpoint);
        // Its chain of digests counts lines that have to be there.
        self.folder.finish_lines()?;
        let (meta, sync) = (self.meta(run), self.folder.files());
        let start = |saver: &mut Saver| saver.start(meta, &run.params, &mut run.optimizer, sync);
        let started = run.trace.span(What::Checkpoint, 0, [0; 4], || self.saver.as_mut().map_or(Ok(()), start));
        self.folder.keep();
        started
    }

    /// On the root: writes the checkpoint of this step to disk, and what was left before.
    ///
    /// # Errors
    /// When the disk refuses: it is written when this is called again.
    pub fn write_checkpoint(&mut self, run: &mut Run<'_>) -> Result<()> {
        let step = run.progress.step;
        if self.saver.as_mut().is_some_and(|saver| saver.is_gone() || saver.last_started() != step) {
            self.start_checkpoint(run)?;
        }
        self.saver.as_mut().map_or(Ok(()), Saver::try_again)
    }

    /// On the root: a folder that somebody has taken away is made anew, with the settings and the lines so far, and a warning. What else
    /// was in it is lost; a checkpoint is due.
    ///
    /// # Errors
    /// When another run has taken its place, or the disk refuses.
    fn mend_folder(&mut self, run: &mut Run<'_>, console: &Console) -> Result<()> {
        let config = run.config_that_runs().to_toml()?;
        if self.folder.mend(&self.lines, &config)? {
            self.saver.as_mut().map(Saver::is_gone);
            let path = self.folder.path();
            if run.progress.best.is_some() && self.refused.best.is_none() && !path.join("best.h5").exists() {
                // Of the epochs from here on.
                run.progress.best = None;
            }
            console.warn(format!(
                "{} or files in it were removed or moved while the run worked there: the folder, its settings and its metrics are \
                 written anew; checkpoints, best.h5 and event files of before are not",
                path.display()
            ));
        }
        Ok(())
    }

    /// On the root: warns if the last checkpoint that was started could not be written.
    pub fn look_after_checkpoints(&mut self, run: &mut Run<'_>, console: &Console) {
        match self.saver.as_mut().and_then(Saver::look) {
            None => {}
            Some(Ok(())) => self.refused.checkpoints.reset(),
            Some(Err(failure)) => self.has_failed(run, Kind::Checkpoint, "a checkpoint", &failure, console),
        }
        self.look_at_older_checkpoints(console);
    }

    /// On the root: warns if checkpoints could not be removed when there were newer ones. That is no failure: what is new is there.
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

    /// On the root: the step of the newest checkpoint that is whole on disk.
    pub fn newest_checkpoint(&mut self) -> Option<usize> {
        self.saver.as_mut().and_then(Saver::newest)
    }

    /// Whether `most` attempts in a row have failed, after which the run is to end.
    pub fn is_out_of_patience(&self, most: u64) -> bool {
        self.refused.checkpoints.in_a_row >= most || self.refused.others.in_a_row >= most
    }

    /// Counts, on the root, that the disk refused `what`, and warns.
    fn has_failed(&mut self, run: &mut Run<'_>, kind: Kind, what: &str, failure: &Error, console: &Console) {
        let pause = self.refused.of(kind).fail(Instant::now());
        run.progress.failed_writes += 1;
        let (count, most) = (self.refused.of(kind).in_a_row, run.config.max_failed_checkpoints);
        let next = if count < most {
            format!("tried again in {:.0} s", pause.as_secs_f64().ceil())
        } else {
            "given up".to_owned()
        };
        console.warn(format!("{what} could not be written ({count} of {most} failures in a row), {next}: {failure}"));
    }

    /// On the root: does `write`, again and again where the disk refuses.
    ///
    /// # Errors
    /// When it has refused too often, or a signal leaves no more time.
    pub fn insist(
        &mut self,
        run: &mut Run<'_>,
        kind: Kind,
        what: &str,
        console: &Console,
        write: Write<'_>,
    ) -> Result<()> {
        let is_late = |waited| interrupt::caught().is_some() && waited >= AFTER_SIGNAL;
        self.insist_until(&is_late, run, kind, what, console, write)
    }

    /// As [`Recorder::insist`], until the time since the first attempt `is_late`.
    fn insist_until(
        &mut self,
        is_late: &dyn Fn(Duration) -> bool,
        run: &mut Run<'_>,
        kind: Kind,
        what: &str,
        console: &Console,
        write: Write<'_>,
    ) -> Result<()> {
        position::enter(Phase::Write);
        let start = Instant::now();
        let most = run.config.max_failed_checkpoints;
        let is_over = |recorder: &Recorder| recorder.is_out_of_patience(most) || is_late(start.elapsed());
        loop {
            let Err(failure) = self.mend_folder(run, console).and_then(|()| write(self, run)) else {
                self.refused.of(kind).reset();
                self.look_at_older_checkpoints(console);
                return Ok(());
            };
            self.has_failed(run, kind, what, &failure, console);
            while !self.refused.of(kind).is_due() && !is_over(self) {
                position::tick();
                std::thread::sleep(SIGN_OF_LIFE);
            }
            if is_over(self) {
                return Err(failure);
            }
        }
    }

    /// On the root: adds an epoch's line, and what is left of former ones; where the disk refuses, they are tried again with the next.
    pub fn add_line(&mut self, run: &mut Run<'_>, line: &EpochLine, console: &Console) {
        if !run.comm.is_root() {
            return;
        }
        position::enter(Phase::Write);
        match self.mend_folder(run, console).and_then(|()| self.folder.add(line)) {
            Ok(()) if self.refused.best.is_none() => self.refused.others.reset(),
            Ok(()) => {}
            Err(failure) => self.has_failed(run, Kind::Other, "an epoch's line", &failure, console),
        }
        if self.refused.best.is_some() {
            self.write_best(run, console);
        }
    }

    /// On the root: writes a file for those who use the best model so far, which is this one.
    pub fn save_best(&mut self, run: &mut Run<'_>, console: &Console) {
        if run.comm.is_root() {
            self.refused.best = Some(run.params.clone());
            self.write_best(run, console);
        }
    }

    fn write_best(&mut self, run: &mut Run<'_>, console: &Console) {
        match self.mend_folder(run, console).and_then(|()| self.write_refused_best(run)) {
            Ok(()) => self.refused.others.reset(),
            Err(failure) => self.has_failed(run, Kind::Other, "best.h5", &failure, console),
        }
    }

    fn write_refused_best(&mut self, run: &Run<'_>) -> Result<()> {
        if let Some(params) = &self.refused.best {
            self.write_model(run, "best.h5", params)?;
            self.refused.best = None;
        }
        Ok(())
    }

    fn write_model(&self, run: &Run<'_>, name: &str, params: &Params) -> Result<()> {
        let (data, path) = (&run.data, self.folder.path().join(name));
        checkpoint::write(&path, &run.model, params, data.shape, &data.normalizer, &data.classes)
    }

    /// Collective: all steps are made: the last checkpoint, if the disk takes it at once; the model; else now the checkpoint; the lines
    /// that are left, the summary, which is returned.
    ///
    /// # Errors
    /// When the disk has refused too often.
    pub fn keep_results(&mut self, run: &mut Run<'_>, console: &Console) -> Result<Summary> {
        let mut written = None;
        on_root(run.comm, || {
            self.refused.forget_failures();
            // One attempt, so that none is under way: both would take memory.
            let saved = self.write_last_checkpoint(run, console, &|_| true);
            // What uses the model is content without it, and the model, which is smaller, may fit where it did not.
            self.insist(run, Kind::Other, "best.h5", console, &|recorder, run| recorder.write_refused_best(run))?;
            let model = |recorder: &mut Recorder, run: &mut Run<'_>| recorder.write_model(run, "model.h5", &run.params);
            self.insist(run, Kind::Other, "model.h5", console, &model)?;
            if saved.is_err() {
                let is_late = |waited| waited >= FINISHED || interrupt::caught().is_some();
                let _ = self.write_last_checkpoint(run, console, &is_late);
            }
            let summary = run.summary(&self.lines);
            self.insist(run, Kind::Other, "the run's summary", console, &|recorder, run| {
                if !recorder.folder.path().join("model.h5").exists() {
                    // Taken away a moment ago.
                    model(recorder, run)?;
                }
                recorder.folder.finish(&summary)
            })?;
            written = Some(summary);
            Ok(String::new())
        })?;
        Ok(written.unwrap_or_else(|| run.summary(&self.lines)))
    }

    /// On the root: the checkpoint behind the last step, until `is_late`.
    fn write_last_checkpoint(
        &mut self,
        run: &mut Run<'_>,
        console: &Console,
        is_late: &dyn Fn(Duration) -> bool,
    ) -> Result<()> {
        let end =
            self.insist_until(is_late, run, Kind::Checkpoint, "the last checkpoint", console, &|recorder, run| {
                match run.progress.step_of_epoch {
                    0 => recorder.write_checkpoint(run),
                    _ if recorder.saver.as_mut().is_some_and(Saver::is_gone) => recorder.write_checkpoint(run),
                    // Only `--max-steps` ends here: what was due has been started.
                    _ => recorder.saver.as_mut().map_or(Ok(()), Saver::try_again),
                }
            });
        self.refused.checkpoints.reset();
        end
    }

    /// The error of a run with a number that is not finite, and the checkpoint that it could go on from.
    pub fn diverged(&mut self, run: &Run<'_>, found: Diverged) -> Error {
        position::enter(Phase::Checkpoint);
        let folder = self.folder.path().display().to_string();
        let checkpoint = self.newest_checkpoint().map_or(String::new(), |step| {
            format!(
                "; the last checkpoint is that of step {step}: `glasses train --resume {folder} --fork --lr …` begins there"
            )
        });
        run.diverged(found, &checkpoint)
    }
}
