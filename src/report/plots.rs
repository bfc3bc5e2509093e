//! The plots of one or more runs.

use super::curves::{Curve, precision};
use super::figure::{Bars, Content, Figure, Grid, Line, Lines, Mark, Stroke, Unit};
use super::folder::{Epoch, PHASES};
use super::subject::{Judged, Subject};
use crate::plural::plural;

/// Curves of one plot that can be told apart.
pub const MOST_CURVES: usize = 7;

/// Thresholds that are marked on curves and listed.
pub const THRESHOLDS: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// A value of an epoch.
type Get = fn(&Epoch) -> Option<f64>;

/// All plots of `runs`: curves laid over one another, and each run's confusion matrix.
pub fn figures(runs: &[Subject]) -> Vec<Figure> {
    let mut found = vec![loss(runs), accuracy(runs)];
    found.extend(runs.iter().enumerate().filter_map(|(index, run)| confusion(runs, index, run.judged.as_ref()?)));
    found.extend(curves(runs));
    found.extend([phases(runs), bytes(runs), speed(runs), learning_rate(runs)].into_iter().flatten());
    found
}

fn figure(name: &str, title: &str, caption: String, content: Content) -> Figure {
    Figure { name: name.to_owned(), title: title.to_owned(), caption, content }
}

/// A curve a split and run: the colour says which run, or where there is one which split, and the stroke which split.
fn by_epoch(runs: &[Subject], values: &[(&str, Get)]) -> Vec<Line> {
    let looks = [("train", 1, Stroke::Dashed), ("val", 2, Stroke::Dotted)];
    let mut lines = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        for (what, get) in values {
            let points: Vec<(f64, f64)> =
                run.files.epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, get(epoch)?))).collect();
            if points.is_empty() {
                continue;
            }
            let (color, stroke) =
                looks.iter().find(|look| look.0 == *what).map_or((0, Stroke::Solid), |look| (look.1, look.2));
            let (name, color) = match runs.len() {
                1 => ((*what).to_owned(), color),
                _ => (format!("{} {what}", run.files.name()).trim_end().to_owned(), index),
            };
            lines.push(Line { name, points, color, stroke, marks: Vec::new() });
        }
    }
    lines
}

/// The axes of values over epochs. `least` is where the vertical axis begins, if not below the least value.
fn over_epochs(lines: Vec<Line>, y: &str, unit: Unit, ends: (Option<f64>, Option<f64>)) -> Content {
    let all = || lines.iter().flat_map(|line| &line.points);
    let last = all().map(|point| point.0).fold(1.0, f64::max);
    let least = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let most = all().map(|point| point.1).fold(0.0, f64::max);
    let from = ends.0.unwrap_or(if least.is_finite() { (least * 20.0 - 0.5).floor() / 20.0 } else { 0.0 }.max(0.0));
    let to = ends.1.unwrap_or(if most > 0.0 { most * 1.06 } else { 1.0 });
    let first = if last > 1.0 { 1.0 } else { 0.0 };
    let range = [(first, if last > 1.0 { last } else { 2.0 }), (from, to.max(from + 1e-9))];
    Content::Lines(Lines {
        x: "epoch".to_owned(),
        y: y.to_owned(),
        units: (Unit::Count, unit),
        range,
        lines,
        diagonal: false,
    })
}

fn loss(runs: &[Subject]) -> Figure {
    let lines = by_epoch(runs, &[("train", |e| e.train_loss), ("val", |e| e.val_loss), ("test", |e| e.test_loss)]);
    let caption = "Mean cross-entropy. Training rows are counted while the epoch is trained, with dropout and augmentation on; the others \
                   after it, with both off.";
    figure("loss", "Loss", caption.to_owned(), over_epochs(lines, "loss", Unit::Number, (Some(0.0), None)))
}

fn accuracy(runs: &[Subject]) -> Figure {
    let values: [(&str, Get); 3] =
        [("train", |e| e.train_accuracy), ("val", |e| e.val_accuracy), ("test", |e| e.test_accuracy)];
    let lines = by_epoch(runs, &values);
    let caption = "Share of rows whose most probable class is the true one.".to_owned();
    figure("accuracy", "Accuracy", caption, over_epochs(lines, "accuracy", Unit::Percent, (None, Some(1.0))))
}

fn confusion(runs: &[Subject], index: usize, judged: &Judged) -> Option<Figure> {
    let counts = judged.confusion().table(judged.classes.len())?;
    let (name, title) = match runs.len() {
        1 => ("confusion".to_owned(), "Confusion".to_owned()),
        _ => (format!("confusion-{}", index + 1), format!("Confusion, {}", runs[index].files.name())),
    };
    let caption = format!(
        "{} of {}: a row a true class, a column a predicted class; shares are of the true class.",
        plural(judged.rows(), "row"),
        judged.split
    );
    let grid = Grid { names: judged.classes.clone(), counts };
    Some(Figure { name, title, caption, content: Content::Grid(grid) })
}

/// A curve with what it is called.
type Named = (String, Curve);

/// The curves that are drawn: of one run those of its classes (the worst ones, where they are many), of several each run's
/// of the second of two classes.
fn named_curves(runs: &[Subject]) -> Vec<Named> {
    if let [run] = runs {
        let Some(judged) = &run.judged else {
            return Vec::new();
        };
        let named = |class: usize| Some((judged.classes[class].clone(), judged.curve(class)?));
        let mut curves: Vec<Named> = judged.curve_classes().filter_map(named).collect();
        if curves.len() > MOST_CURVES {
            curves.sort_by(|a, b| a.1.precision_area().total_cmp(&b.1.precision_area()));
            curves.truncate(MOST_CURVES);
        }
        return curves;
    }
    let of_run = |run: &Subject| {
        let judged = run.judged.as_ref().filter(|judged| judged.classes.len() == 2)?;
        Some((run.files.name(), judged.curve(1)?))
    };
    runs.iter().filter_map(of_run).collect()
}

fn curves(runs: &[Subject]) -> Vec<Figure> {
    let curves = named_curves(runs);
    let Some(judged) = runs.iter().find_map(|run| run.judged.as_ref()).filter(|_| !curves.is_empty()) else {
        return Vec::new();
    };
    // Thresholds are marked where there is one curve; several would hide each other's.
    let alone = curves.len() == 1;
    let marked = [0.1, 0.5, 0.9];
    let line = |(index, (name, curve)): (usize, &Named), roc: bool| {
        let mark = |threshold: &f64| {
            let step = curve.at(*threshold);
            let at = if roc {
                (curve.false_positive_rate(&step), curve.recall(&step))
            } else {
                (curve.recall(&step), precision(&step)?)
            };
            Some(Mark { at, text: format!("{threshold}") })
        };
        let (points, area) =
            if roc { (curve.roc(), curve.roc_area()) } else { (curve.precision_recall(), curve.precision_area()) };
        let marks = if alone { marked.iter().filter_map(mark).collect() } else { Vec::new() };
        let stroke = [Stroke::Solid, Stroke::Dashed, Stroke::Dotted][index % 3];
        Line { name: format!("{name}, area {area:.4}"), points, color: index, stroke, marks }
    };
    let plot = |roc: bool, [x, y]: [&str; 2]| {
        let lines = curves.iter().enumerate().map(|named| line(named, roc)).collect();
        let (x, y) = (x.to_owned(), y.to_owned());
        let range = [(0.0, 1.0), (0.0, 1.02)];
        Content::Lines(Lines { x, y, units: (Unit::Percent, Unit::Percent), range, lines, diagonal: roc })
    };
    let what = match judged.classes.len() {
        2 => format!("of '{}'", judged.classes[1]),
        classes if classes > MOST_CURVES => {
            format!("of each class against all others; of {classes} classes, the {MOST_CURVES} with the least area")
        }
        _ => "of each class against all others".to_owned(),
    };
    let dots = if alone { " The dots are thresholds of the probability." } else { "" };
    let precision = format!("Precision over recall {what}; the area is the average precision.{dots}");
    let roc = format!(
        "True positive rate over false positive rate {what}; chance is the dotted diagonal, of area 0.5.{dots}"
    );
    vec![
        figure("precision-recall", "Precision and recall", precision, plot(false, ["recall", "precision"])),
        figure("roc", "ROC", roc, plot(true, ["false positive rate", "true positive rate (recall)"])),
    ]
}

fn phases(runs: &[Subject]) -> Option<Figure> {
    let seconds = |epoch: &Epoch, phase: &str| epoch.seconds.get(phase).copied().unwrap_or(0.0);
    let (names, values): (Vec<String>, Vec<Vec<f64>>) = match runs {
        [run] => {
            let epochs = &run.files.epochs;
            let all = |phase: &&str| epochs.iter().map(|epoch| seconds(epoch, phase)).collect();
            (epochs.iter().map(|epoch| epoch.epoch.to_string()).collect(), PHASES.iter().map(all).collect())
        }
        _ => {
            let mean = |run: &Subject, phase: &str| {
                let epochs = &run.files.epochs;
                epochs.iter().map(|epoch| seconds(epoch, phase)).sum::<f64>() / epochs.len().max(1) as f64
            };
            let all = |phase: &&str| runs.iter().map(|run| mean(run, phase)).collect();
            (runs.iter().map(|run| run.files.name()).collect(), PHASES.iter().map(all).collect())
        }
    };
    if names.is_empty() {
        return None;
    }
    let parts = PHASES.iter().map(|&phase| phase.to_owned()).zip(values).collect();
    let x = if runs.len() == 1 { "epoch" } else { "run (mean over its epochs)" }.to_owned();
    let caption = "Wall time of one rank, averaged over the ranks. 'sync' is the ranks' exchange of gradients, waiting for the slowest \
                   included.";
    let bars = Bars { x, y: "seconds an epoch".to_owned(), names, parts };
    Some(figure("phases", "Time a phase", caption.to_owned(), Content::Bars(bars)))
}

/// Every count of bytes in the lines; nothing where none ever was sent.
fn bytes(runs: &[Subject]) -> Option<Figure> {
    let mut lines = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        let epochs = &run.files.epochs;
        let mut keys: Vec<&String> =
            epochs.iter().flat_map(|e| e.rest.keys()).filter(|k| k.starts_with("bytes")).collect();
        keys.sort();
        keys.dedup();
        for (place, key) in keys.into_iter().enumerate() {
            let value = |epoch: &Epoch| Some((epoch.epoch as f64, epoch.rest.get(key)?.as_f64()? / 1e6));
            let points: Vec<(f64, f64)> = epochs.iter().filter_map(value).collect();
            if points.iter().all(|point| point.1 == 0.0) {
                continue;
            }
            let what = if key == "bytes_communicated" { "handed to MPI".to_owned() } else { key.replace('_', " ") };
            let (name, color) =
                if runs.len() == 1 { (what, place) } else { (format!("{} {what}", run.files.name()), index) };
            let stroke = [Stroke::Solid, Stroke::Dashed, Stroke::Dotted][place % 3];
            lines.push(Line { name, points, color, stroke, marks: Vec::new() });
        }
    }
    if lines.is_empty() {
        return None;
    }
    let caption = "Payload of the root rank in each epoch, evaluation included (the paper's figure 12).".to_owned();
    Some(figure(
        "bytes",
        "Bytes communicated",
        caption,
        over_epochs(lines, "MB an epoch", Unit::Number, (Some(0.0), None)),
    ))
}

fn speed(runs: &[Subject]) -> Option<Figure> {
    let lines = by_epoch(runs, &[("", |epoch| epoch.images_per_sec)]);
    let caption = "Training rows over the wall time of the training phases, all ranks together.".to_owned();
    let content = over_epochs(named_if_alone(lines, "all ranks"), "images/s", Unit::Number, (Some(0.0), None));
    (!runs.iter().all(|run| run.files.epochs.is_empty())).then(|| figure("speed", "Images/s", caption, content))
}

fn learning_rate(runs: &[Subject]) -> Option<Figure> {
    let lines = by_epoch(runs, &[("", |epoch| epoch.lr)]);
    let content = over_epochs(named_if_alone(lines, "last step"), "learning rate", Unit::Number, (Some(0.0), None));
    let caption = "That of each epoch's last step.".to_owned();
    (!runs.iter().all(|run| run.files.epochs.is_empty())).then(|| figure("lr", "Learning rate", caption, content))
}

fn named_if_alone(mut lines: Vec<Line>, name: &str) -> Vec<Line> {
    lines.iter_mut().filter(|line| line.name.is_empty()).for_each(|line| line.name = name.to_owned());
    lines
}
