//! `--tensorboard`: what an epoch was, for TensorBoard, in the run's folder. The root writes.

use super::evaluate::Evaluation;
use super::run::Run;
use super::run_dir::RunDir;
use crate::data::{Part, RowShape, Values};
use crate::error::Result;
use crate::kernels;
use crate::metrics::{EpochLine, MOST_IN_TABLE};
use crate::model::{Predictor, Workspace};
use crate::report::{Console, percent};
use crate::tensorboard::{Events, StepSummary, picture};

/// Rows that are shown, the same ones after every evaluation.
const EXAMPLES: usize = 8;

/// Classes whose counts are also written as a table of text.
const FEW_CLASSES: usize = 50;

/// An evaluation on `/val` or on `/test`, where there was one.
type Found = Option<Evaluation>;

/// What has been written so far.
pub enum Board {
    /// Nothing is to be.
    Off,
    /// Nothing yet; this is the first step that there is something to say of.
    From(usize),
    /// This file.
    Open(Events),
}

impl Board {
    /// Of a run with these lines so far: older event files of its folder hold them.
    pub fn new(wanted: bool, lines: &[EpochLine]) -> Board {
        if wanted { Board::From(lines.last().map_or(0, |line| line.step + 1)) } else { Board::Off }
    }

    /// On the root: adds an epoch. A disk that refuses ends this, not the training.
    pub fn add(&mut self, run: &Run<'_>, folder: &RunDir, line: &EpochLine, found: [&Found; 2], console: &Console) {
        if let Err(failure) = self.try_add(run, folder, line, found) {
            console.warn(format!("--tensorboard ends here, training goes on: {failure}"));
            *self = Board::Off;
        }
    }

    fn try_add(&mut self, run: &Run<'_>, folder: &RunDir, line: &EpochLine, found: [&Found; 2]) -> Result<()> {
        if !folder.is_own() {
            return Ok(());
        }
        if matches!(self, Board::Open(events) if !events.is_there()) {
            // The folder was taken away: what it had is lost.
            *self = Board::From(0);
        }
        if let Board::From(first) = *self {
            *self = Board::Open(Events::create(folder.path(), first)?);
        }
        let Board::Open(events) = self else { return Ok(()) };
        let mut summary = StepSummary::default();
        scalars(line, &mut summary);
        for (split, found) in ["val", "test"].iter().zip(found) {
            if let Some(found) = found {
                confusion(split, &run.data.classes, found, &mut summary);
            }
        }
        if found.iter().any(|found| found.is_some()) || run.is_done() {
            examples(run, &mut summary);
        }
        events.add(line.step, summary)
    }
}

fn scalars(line: &EpochLine, summary: &mut StepSummary) {
    let seconds = &line.seconds;
    let all = [
        ("loss/train", Some(line.train_loss)),
        ("loss/val", line.val_loss),
        ("loss/test", line.test_loss),
        ("accuracy/train", Some(line.train_accuracy)),
        ("accuracy/val", line.val_accuracy),
        ("accuracy/test", line.test_accuracy),
        ("balanced_accuracy/val", line.val_balance.map(|balance| balance.balanced_accuracy)),
        ("balanced_accuracy/test", line.test_balance.map(|balance| balance.balanced_accuracy)),
        ("macro_f1/val", line.val_balance.map(|balance| balance.macro_f1)),
        ("macro_f1/test", line.test_balance.map(|balance| balance.macro_f1)),
        ("learning_rate", Some(line.lr)),
        ("epoch", Some(line.epoch as f64)),
        ("images_per_sec", Some(line.images_per_sec)),
        ("bytes_communicated", Some(line.bytes_communicated as f64)),
        ("seconds/load", Some(seconds.load)),
        ("seconds/forward", Some(seconds.forward)),
        ("seconds/backward", Some(seconds.backward)),
        ("seconds/sync", Some(seconds.sync)),
        ("seconds/update", Some(seconds.update)),
        ("seconds/evaluate", Some(seconds.evaluate)),
    ];
    for (tag, value) in all {
        if let Some(value) = value {
            summary.scalar(tag, value);
        }
    }
}

fn confusion(split: &str, classes: &[String], found: &Evaluation, summary: &mut StepSummary) {
    let Some(counts) = found.confusion.table(classes.len()) else {
        let text =
            format!("Left out: more than {MOST_IN_TABLE} classes. `glasses eval --json` lists the pairs that occur.");
        return summary.text(&format!("confusion_counts/{split}"), &text);
    };
    summary.picture(&format!("confusion/{split}"), &picture::confusion(classes, &counts));
    if classes.len() > FEW_CLASSES {
        return;
    }
    let cell = |text: &str| text.replace('|', "\\|");
    let names: Vec<String> = classes.iter().map(|name| cell(name)).collect();
    let mut table = format!("| true \\ predicted | {} |\n|---|{}\n", names.join(" | "), "---:|".repeat(names.len()));
    for (name, row) in names.iter().zip(&counts) {
        let counts: Vec<String> = row.iter().map(ToString::to_string).collect();
        table += &format!("| **{name}** | {} |\n", counts.join(" | "));
    }
    // A tag is of one kind: TensorBoard shows neither of two.
    summary.text(&format!("confusion_counts/{split}"), &table);
}

/// Some pictures that the root holds, with what the network predicts for them now.
fn examples(run: &Run<'_>, summary: &mut StepSummary) {
    let data = &run.data;
    let RowShape::Image { h, w, c } = data.shape else { return };
    let (part, split) = match (&data.test, &data.val) {
        (Some(part), _) => (part, "test"),
        (None, Some(part)) => (part, "val"),
        _ => (&data.train, "train"),
    };
    let (rows, pixels) = some_rows(part, h * w * c);
    if rows.is_empty() {
        return;
    }
    // Of its own: the training's holds a step's values.
    let mut ws = Workspace::for_inference(&run.model, rows.len());
    let mut predictor = Predictor { model: &run.model, params: &run.params, workspace: &mut ws };
    let mut labels = Vec::new();
    let probabilities = predictor
        .probabilities(0..rows.len(), |places, input| part.load(&rows[places], &data.normalizer, input, &mut labels));
    let each = probabilities.chunks_exact(run.model.classes).zip(&labels).zip(&pixels).enumerate();
    for (number, ((shares, &label), pixels)) in each {
        let Some(best) = kernels::argmax(shares) else { continue };
        let first = format!("predicted {} {}", data.classes[best], percent(f64::from(shares[best])));
        let second = format!("true      {}", data.classes[label as usize]);
        let shown = picture::example(pixels, [h, w, c], [&first, &second], best == label as usize);
        summary.picture(&format!("examples/{split}/{number}"), &shown);
    }
}

/// Rows of the root, evenly spread over those it has, and their pixels.
fn some_rows(part: &Part, length: usize) -> (Vec<u32>, Vec<&[u8]>) {
    let Values::Images(pixels) = part.values() else { return Default::default() };
    let own = part.shards.rows_of(part.owned.clone());
    let count = EXAMPLES.min(own.len());
    let places = (0..count).map(|number| number * own.len() / count);
    places.map(|place| ((own.start + place) as u32, &pixels[place * length..(place + 1) * length])).unzip()
}
