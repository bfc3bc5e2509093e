//! The table of many runs that differ in a few settings, as Markdown, CSV, JSON and a plot.

use std::collections::BTreeMap;

use serde::Serialize;

use super::console::percent;
use super::figure::{Content, Figure, Line, Lines, Stroke, Unit};
use super::plots::MOST_CURVES;
use crate::error::{Error, Result};

/// In the folder of a run that came to numbers that are none: why, and its settings.
pub const DIVERGED: &str = "diverged.json";

/// From this ratio of its ends on, an axis goes by powers of ten.
const POWERS: f64 = 20.0;

/// What has become of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All steps are made.
    Finished,
    /// Losses or weights that are no numbers: the result.
    Diverged,
    /// Nothing to show yet.
    Unfinished,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)] // The names are those of `summary.json`.
pub struct Row {
    /// Its folder.
    pub run: String,
    /// The settings in which the runs differ.
    pub settings: BTreeMap<String, String>,
    pub state: State,
    pub train_accuracy: Option<f64>,
    pub val_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub train_loss: Option<f64>,
    pub val_loss: Option<f64>,
    pub test_loss: Option<f64>,
    pub seconds: Option<f64>,
    /// What the paper reports of these settings.
    pub paper_train_accuracy: Option<f64>,
    pub paper_test_accuracy: Option<f64>,
}

/// All runs.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// The settings in which the runs differ, in the order of the columns.
    pub keys: Vec<String>,
    /// The runs, in the order of the lines.
    pub runs: Vec<Row>,
}

/// A figure of a run.
type Get = fn(&Row) -> Option<f64>;

/// A column: its name, the form for a person, the value.
type Column = (&'static str, fn(f64) -> String, Get);

static COLUMNS: [Column; 9] = [
    ("train accuracy", percent, |row| row.train_accuracy),
    ("val accuracy", percent, |row| row.val_accuracy),
    ("test accuracy", percent, |row| row.test_accuracy),
    ("train loss", digits, |row| row.train_loss),
    ("val loss", digits, |row| row.val_loss),
    ("test loss", digits, |row| row.test_loss),
    ("seconds", |seconds| format!("{seconds:.1}"), |row| row.seconds),
    ("paper: train accuracy", percent, |row| row.paper_train_accuracy),
    ("paper: test accuracy", percent, |row| row.paper_test_accuracy),
];

fn digits(loss: f64) -> String {
    format!("{loss:.4}")
}

/// The run that did best.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Best {
    /// Its folder.
    pub run: String,
    /// The rows that say so: `val`, or `test` where no finished run has validation rows.
    pub by: &'static str,
    /// Its accuracy on them.
    pub accuracy: f64,
    /// Its loss on them, by which runs of equal accuracy are told apart.
    pub loss: Option<f64>,
    /// Its accuracy on the test rows.
    pub test_accuracy: Option<f64>,
}

impl Best {
    /// For a person.
    pub fn describe(&self) -> String {
        let loss = self.loss.map_or(String::new(), |loss| format!(" (loss {})", digits(loss)));
        let found = format!("{}, {}{loss}", self.run, percent(self.accuracy));
        match (self.by, self.test_accuracy) {
            ("val", Some(test)) => {
                format!("best on the validation rows: {found}; its test accuracy: {}", percent(test))
            }
            ("val", None) => format!("best on the validation rows: {found}"),
            _ => format!(
                "best on the test rows: {found}; chosen by the rows it is judged by, as the data has no /val, so expect less of other rows"
            ),
        }
    }
}

impl Sweep {
    /// The finished run with the highest accuracy on the validation rows, of equal ones that with the lowest loss there, of these the
    /// one whose name comes first; by the test rows where no finished run has others.
    pub fn best(&self) -> Option<Best> {
        let finished = || self.runs.iter().filter(|row| row.state == State::Finished);
        let by_val: (&str, Get, Get) = ("val", |row| row.val_accuracy, |row| row.val_loss);
        let by_test: (&str, Get, Get) = ("test", |row| row.test_accuracy, |row| row.test_loss);
        let (by, accuracy, loss) = if finished().any(|row| row.val_accuracy.is_some()) { by_val } else { by_test };
        let judged = finished().filter_map(|row| Some((accuracy(row)?, loss(row), row)));
        let of = |loss: Option<f64>| loss.unwrap_or(f64::INFINITY);
        let better = |a: &(f64, Option<f64>, &Row), b: &(f64, Option<f64>, &Row)| {
            a.0 > b.0 || a.0 == b.0 && of(a.1).total_cmp(&of(b.1)).then_with(|| a.2.run.cmp(&b.2.run)).is_lt()
        };
        let (accuracy, loss, row) = judged.reduce(|best, next| if better(&next, &best) { next } else { best })?;
        Some(Best { run: row.run.clone(), by, accuracy, loss, test_accuracy: row.test_accuracy })
    }

    /// Columns that have something in them.
    fn columns(&self) -> impl Iterator<Item = &'static Column> {
        COLUMNS.iter().filter(|(_, _, get)| self.runs.iter().any(|row| get(row).is_some()))
    }

    /// A setting of a run.
    fn value<'a>(row: &'a Row, key: &str) -> &'a str {
        row.settings.get(key).map_or("", String::as_str)
    }

    /// For a person.
    pub fn markdown(&self) -> String {
        let heads = self.keys.iter().map(String::as_str).chain(self.columns().map(|(name, ..)| *name));
        let mut lines = vec![heads.map(str::to_owned).collect::<Vec<_>>()];
        for row in &self.runs {
            let settings = self.keys.iter().map(|key| Sweep::value(row, key).to_owned());
            let missing = |index: usize| match row.state {
                State::Diverged if index == 0 => "diverged",
                State::Unfinished if index == 0 => "not finished",
                _ => "",
            };
            let figures = self.columns().enumerate();
            let figures = figures.map(|(index, (_, show, get))| get(row).map_or(missing(index).to_owned(), show));
            lines.push(settings.chain(figures).collect());
        }
        // Where no run has a figure there is no column to say so in.
        if self.columns().next().is_none() {
            lines[0].push("result".to_owned());
            lines.iter_mut().skip(1).zip(&self.runs).for_each(|(line, row)| {
                line.push(if row.state == State::Diverged { "diverged" } else { "not finished" }.to_owned());
            });
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
        let rule: Vec<String> = widths.iter().map(|width| format!("{}:", "-".repeat(width - 1))).collect();
        lines.insert(1, rule);
        let cells = |line: &Vec<String>| -> String {
            line.iter().zip(&widths).map(|(cell, width)| format!(" {cell:>width$} |")).collect()
        };
        let mut text: String = lines.iter().map(|line| format!("|{}\n", cells(line))).collect();
        if self.columns().next().is_some() {
            text += "\nTraining figures are those of the last epoch, counted while it was trained, with dropout on.\n";
        }
        if self.runs.iter().any(|row| row.paper_test_accuracy.is_some()) {
            text += "The paper's figures are of 500 real faces, and of its own code.\n";
        }
        text
    }

    /// For other programs: shares and seconds as they are, nothing where there is nothing.
    ///
    /// # Errors
    /// Never in practice.
    pub fn csv(&self) -> Result<Vec<u8>> {
        let write = || -> csv::Result<Vec<u8>> {
            let mut writer = csv::Writer::from_writer(Vec::new());
            let names = COLUMNS.iter().map(|(name, ..)| name.replace(": ", " ").replace(' ', "_"));
            let heads = ["run".to_owned()].into_iter().chain(self.keys.iter().cloned()).chain(["state".to_owned()]);
            writer.write_record(heads.chain(names))?;
            for row in &self.runs {
                let settings = self.keys.iter().map(|key| Sweep::value(row, key).to_owned());
                let state = format!("{:?}", row.state).to_lowercase();
                let figures = COLUMNS.iter().map(|(_, _, get)| get(row).map_or(String::new(), |v| v.to_string()));
                let head = [row.run.clone()].into_iter().chain(settings).chain([state]);
                writer.write_record(head.chain(figures))?;
            }
            writer.into_inner().map_err(|e| e.into_error().into())
        };
        write().map_err(|e| Error::io("write", "table.csv")(e.into()))
    }

    /// Accuracies over the first setting that is a number, a curve for each combination of the others; none where there is no
    /// such setting, or the curves could not be told apart.
    pub fn figure(&self) -> Option<Figure> {
        let number = |row: &Row, key: &str| Sweep::value(row, key).parse::<f64>().ok().filter(|n| n.is_finite());
        let varies = |key: &&String| {
            let values: Vec<f64> = self.runs.iter().filter_map(|row| number(row, key)).collect();
            values.len() == self.runs.len() && values.iter().any(|value| *value != values[0])
        };
        let key = self.keys.iter().find(varies)?;
        let values = || self.runs.iter().filter_map(|row| number(row, key));
        let ends = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
        let powers = ends.0 > 0.0 && ends.1 / ends.0 >= POWERS;
        let place = |value: f64| if powers { value.log10() } else { value };
        let others = |row: &Row| {
            let others = self.keys.iter().filter(|other| *other != key);
            others.map(|other| format!("{other} {}", Sweep::value(row, other))).collect::<Vec<_>>().join(", ")
        };
        let mut names: Vec<String> = Vec::new();
        self.runs.iter().map(others).for_each(|name| {
            if !names.contains(&name) {
                names.push(name)
            }
        });
        if names.len() > MOST_CURVES {
            return None;
        }
        let mut lines = Vec::new();
        for (color, name) in names.iter().enumerate() {
            let kinds: [(&str, Stroke, Get); 3] = [
                ("val", Stroke::Dotted, |row| row.val_accuracy),
                ("test", Stroke::Solid, |row| row.test_accuracy),
                ("train", Stroke::Dashed, |row| row.train_accuracy),
            ];
            for (kind, stroke, get) in kinds {
                let of_curve = self.runs.iter().filter(|row| others(row) == *name);
                let point = |row: &Row| Some((place(number(row, key)?), get(row)?));
                let mut points: Vec<(f64, f64)> = of_curve.filter_map(point).collect();
                points.sort_by(|a, b| a.0.total_cmp(&b.0));
                let name = format!("{name} {kind}").trim().to_owned();
                if !points.is_empty() {
                    lines.push(Line { name, points, color, stroke, marks: Vec::new() });
                }
            }
        }
        let least = lines.iter().flat_map(|line| &line.points).map(|point| point.1).reduce(f64::min)?;
        let content = Content::Lines(Lines {
            x: key.clone(),
            y: "accuracy".to_owned(),
            units: (if powers { Unit::Power } else { Unit::Number }, Unit::Percent),
            range: [(place(ends.0), place(ends.1)), ((least * 20.0 - 0.5).floor().max(0.0) / 20.0, 1.0)],
            lines,
            diagonal: false,
        });
        let caption = "Accuracy at the end of each run; runs that diverged have none.".to_owned();
        Some(Figure { name: "accuracy".to_owned(), title: format!("Accuracy by {key}"), caption, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(lr: &str, batch: &str, test: Option<f64>) -> Row {
        let settings = [("lr", lr), ("batch", batch)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        Row {
            run: format!("lr{lr}-batch{batch}"),
            settings: settings.into(),
            state: if test.is_some() { State::Finished } else { State::Diverged },
            train_accuracy: test.map(|test| test + 0.05),
            val_accuracy: None,
            test_accuracy: test,
            train_loss: test.map(|_| 0.5),
            val_loss: None,
            test_loss: test.map(|_| 0.25),
            seconds: test.map(|_| 12.34),
            paper_train_accuracy: None,
            paper_test_accuracy: (lr == "0.001").then_some(0.79),
        }
    }

    fn sweep(runs: Vec<Row>) -> Sweep {
        Sweep { keys: vec!["lr".to_owned(), "batch".to_owned()], runs }
    }

    #[test]
    fn a_run_that_diverged_stands_in_the_table_and_empty_columns_do_not() {
        let table = sweep(vec![row("0.1", "16", None), row("0.001", "16", Some(0.8))]);
        let text = table.markdown();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
        let heads = ["", "lr", "batch", "train accuracy", "test accuracy", "train loss", "test loss", "seconds"];
        assert_eq!(lines[0], [&heads[..], &["paper: test accuracy", ""]].concat(), "{text}");
        assert_eq!(lines[2], ["", "0.1", "16", "diverged", "", "", "", "", "", ""]);
        assert_eq!(lines[3], ["", "0.001", "16", "85.00 %", "80.00 %", "0.5000", "0.2500", "12.3", "79.00 %", ""]);
        let csv = String::from_utf8(table.csv().unwrap()).unwrap();
        assert!(csv.starts_with("run,lr,batch,state,train_accuracy,val_accuracy,test_accuracy,train_loss,"), "{csv}");
        assert!(csv.contains("\nlr0.1-batch16,0.1,16,diverged,,,,,,,,,\n"), "{csv}");
        assert!(sweep(vec![row("0.1", "16", None)]).markdown().contains("diverged"));
    }

    #[test]
    fn the_best_is_chosen_by_validation_rows_and_equal_ones_by_their_loss() {
        let judged = |batch: &str, [val, test]: [(f64, f64); 2]| Row {
            val_accuracy: Some(val.0),
            val_loss: Some(val.1),
            test_loss: Some(test.1),
            ..row("0.1", batch, Some(test.0))
        };
        let runs = [
            judged("1", [(0.8, 0.9), (0.9, 19.4)]),
            judged("2", [(0.8, 0.7), (0.7, 1.3)]),
            judged("3", [(0.75, 0.1), (0.9, 1.3)]),
            row("0.1", "4", Some(1.0)),
            row("0.1", "5", None),
        ];
        let best = sweep(runs.to_vec()).best().unwrap();
        assert_eq!((&*best.run, best.by, best.test_accuracy), ("lr0.1-batch2", "val", Some(0.7)));
        let unjudged = runs.map(|row| Row { val_accuracy: None, val_loss: None, ..row });
        let best = sweep(unjudged[..3].to_vec()).best().unwrap();
        assert_eq!((&*best.run, best.by, best.loss), ("lr0.1-batch3", "test", Some(1.3)));
        assert!(best.describe().contains("no /val"), "{}", best.describe());
        assert_eq!(sweep(vec![row("0.1", "1", None)]).best(), None);
    }

    #[test]
    fn curves_are_drawn_over_powers_of_ten_where_the_values_are_so_far_apart() {
        let runs = ["0.1", "0.001"].into_iter().flat_map(|lr| ["16", "32"].map(|batch| row(lr, batch, Some(0.7))));
        let table = sweep(runs.collect());
        let figure = table.figure().unwrap();
        let Content::Lines(lines) = &figure.content else { panic!("no lines") };
        assert_eq!((lines.range[0], lines.units.0, lines.lines.len()), ((-3.0, -1.0), Unit::Power, 4));
        assert_eq!(lines.lines[0].name, "batch 16 test");
        assert!(figure.svg().unwrap().contains("1e-3"));
        assert!(sweep(vec![row("sgd", "16", Some(0.7)), row("adam", "16", Some(0.7))]).figure().is_none());
    }
}
