//! Lines on standard output: what runs, a line an epoch, where the results are.

use std::io::Write;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::clock;
use super::live::Live;
use super::output::note;
use super::terminal;
use crate::error::printable;
use crate::metrics::{EpochLine, Summary};
use crate::plural::plural;

/// The root's voice; silent on the other ranks.
#[derive(Debug)]
pub struct Console {
    root: bool,
    /// The run that warnings are of, where nothing but warnings is said.
    only_warnings_of: Option<String>,
    bar: ProgressBar,
}

/// A progress bar with a rate on standard error: on a terminal, on the root; else nothing.
pub fn progress_bar(root: bool, length: u64, unit: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(
        Some(length),
        if root { terminal::target() } else { ProgressDrawTarget::hidden() },
    );
    let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left {{msg}}");
    bar.with_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

impl Console {
    /// Speaks where `root` is true.
    pub fn new(root: bool) -> Console {
        Console { root, only_warnings_of: None, bar: ProgressBar::hidden() }
    }

    /// Says nothing but warnings, of one of many runs.
    pub fn warnings(root: bool, run: &str) -> Console {
        Console { only_warnings_of: Some(run.to_owned()), ..Console::new(root) }
    }

    fn speaks(&self) -> bool {
        self.root && self.only_warnings_of.is_none()
    }

    /// The progress of many runs.
    pub fn bar_of_runs(&self, runs: usize) -> ProgressBar {
        progress_bar(self.speaks(), runs as u64, "runs")
    }

    /// A plain line.
    pub fn say(&self, line: impl AsRef<str>) {
        if self.speaks() {
            self.bar.suspend(|| {
                terminal::settle();
                crate::say!("{}", line.as_ref());
                terminal::settle();
            });
        }
    }

    /// What is worth knowing and no fault, on standard error.
    pub fn note(&self, line: impl AsRef<str>) {
        if self.speaks() {
            self.bar.suspend(|| note(line.as_ref()));
        }
    }

    /// A warning, on standard error.
    pub fn warn(&self, line: impl AsRef<str>) {
        if self.root {
            let run = self.only_warnings_of.as_ref().map_or(String::new(), |run| format!("{run}: "));
            let text = format!("warning: {run}{}", line.as_ref());
            self.bar.suspend(|| drop(writeln!(std::io::stderr(), "{}", printable(&text))));
        }
    }

    /// Starts the progress of an epoch of `rows` rows, `done` of which are done.
    pub fn start_epoch(&mut self, epoch: usize, epochs: usize, rows: usize, done: u64) {
        let style = ProgressStyle::with_template("epoch {prefix} {wide_bar} {msg}");
        self.bar = progress_bar(self.speaks(), rows as u64, "images");
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.set_prefix(format!("{epoch}/{epochs}"));
        self.bar.set_position(done);
    }

    /// Whether there is a terminal to show progress on.
    pub fn has_progress(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// Where the run stands, `rows` rows of its epoch being done.
    pub fn progress(&self, live: &Live, rows: u64) {
        self.bar.set_position(rows);
        self.bar.set_message(format!(
            "loss {:.4} accuracy {} {:.0} images/s {} left, run {}",
            live.loss,
            percent(live.accuracy),
            live.images_per_sec,
            clock(live.left.0),
            clock(live.left.1)
        ));
    }

    /// The epoch is over.
    pub fn end_epoch(&mut self, line: &EpochLine, epochs: usize) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
        let width = epochs.to_string().len();
        let mut text = format!(
            "epoch {:>width$}/{epochs}  train loss {:.4} accuracy {}",
            line.epoch,
            line.train_loss,
            percent(line.train_accuracy)
        );
        for (split, loss, accuracy) in
            [("val", line.val_loss, line.val_accuracy), ("test", line.test_loss, line.test_accuracy)]
        {
            if let (Some(loss), Some(accuracy)) = (loss, accuracy) {
                text += &format!("  {split} loss {loss:.4} accuracy {}", percent(accuracy));
            }
        }
        self.say(format!("{text}  {:.0} images/s", line.images_per_sec));
    }

    /// The run is over.
    pub fn end_run(&self, summary: &Summary, folder: &Path) {
        let accuracy = match summary.test_accuracy {
            Some(accuracy) => {
                format!("test accuracy {} ({})", percent(accuracy), plural(summary.test_rows, "row"))
            }
            None => format!("training accuracy {} (no test rows)", percent(summary.train_accuracy)),
        };
        self.say(format!(
            "{accuracy} after {} on {} in {:.1} s ({:.1} s of training, {:.0} images/s)",
            plural(summary.steps, "step"),
            plural(summary.ranks, "rank"),
            summary.wall_seconds,
            summary.training_seconds,
            summary.images_per_sec
        ));
        self.say(format!("weights sha256 {}", summary.weights_sha256));
        self.say(format!("results in {}", folder.display()));
    }
}

/// A share as a percentage with two digits.
pub fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
