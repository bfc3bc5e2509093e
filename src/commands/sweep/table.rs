//! The table of a folder of runs.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::paper;
use crate::config::grid;
use crate::error::{Error, Result};
use crate::files::{read_text, write_whole};
use crate::plural::plural;
use crate::report::sweep::{DIVERGED, Row, State, Sweep};
use crate::report::{RunFiles, note};

/// The table for a person.
pub const MARKDOWN: &str = "table.md";

/// Settings in which runs may differ without being other runs.
const ASIDE: [&str; 3] = ["data", "comm", "window"];

/// Writes the table in each of its forms into `folder`.
///
/// # Errors
/// When the place refuses.
pub fn write(sweep: &Sweep, folder: &Path) -> Result<()> {
    write_whole(&folder.join(MARKDOWN), sweep.markdown().as_bytes())?;
    write_whole(&folder.join("table.csv"), &sweep.csv()?)?;
    if let Some(figure) = sweep.figure() {
        write_whole(&folder.join(format!("{}.svg", figure.name)), figure.svg()?.as_bytes())?;
        write_whole(&folder.join(format!("{}.png", figure.name)), &figure.png()?)?;
    }
    Ok(())
}

/// A run's settings and its summary, or that it diverged.
struct Outcome {
    config: toml::Table,
    summary: Option<Value>,
    diverged: bool,
}

/// What there is of a run; `None` where its folder holds none.
fn read(folder: &Path) -> Option<Outcome> {
    if let Ok(text) = read_text(&folder.join(DIVERGED)) {
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let config = value["config"].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
        return Some(Outcome { config, summary: None, diverged: true });
    }
    let files = RunFiles::read(folder).ok()?;
    Some(Outcome { config: files.config, summary: files.summary, diverged: false })
}

/// The line of the run in `folder`.
pub fn row_of(folder: &Path, name: &str, settings: BTreeMap<String, String>) -> Row {
    let outcome = read(folder);
    row(outcome.as_ref(), name, settings)
}

fn row(outcome: Option<&Outcome>, name: &str, settings: BTreeMap<String, String>) -> Row {
    let summary = outcome.and_then(|outcome| outcome.summary.as_ref());
    let number = |key: &str| summary.and_then(|summary| summary[key].as_f64());
    let reported = outcome.zip(summary).map(|(outcome, summary)| paper::figures(&outcome.config, summary));
    let [paper_train_accuracy, paper_test_accuracy] = reported.unwrap_or_default();
    Row {
        run: name.to_owned(),
        settings,
        state: match outcome {
            Some(outcome) if outcome.diverged => State::Diverged,
            Some(outcome) if outcome.summary.is_some() => State::Finished,
            _ => State::Unfinished,
        },
        train_accuracy: number("train_accuracy"),
        val_accuracy: number("val_accuracy"),
        test_accuracy: number("test_accuracy"),
        train_loss: number("train_loss"),
        val_loss: number("val_loss"),
        test_loss: number("test_loss"),
        seconds: number("wall_seconds"),
        paper_train_accuracy,
        paper_test_accuracy,
    }
}

/// The table of all runs in `folder` that have come to a result; the settings in which they differ are its columns.
///
/// # Errors
/// When there is none.
pub fn of_folder(folder: &Path) -> Result<Sweep> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let all: Vec<(String, Outcome)> =
        names.filter_map(|name| Some((name.clone(), read(&folder.join(&name))?))).collect();
    let over = |outcome: &Outcome| outcome.diverged || outcome.summary.is_some();
    let (mut runs, left): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, outcome)| over(outcome));
    if !left.is_empty() {
        let are = if left.len() == 1 { "is" } else { "are" };
        note(&format!("in {} {} {are} not finished, and left out", folder.display(), plural(left.len(), "run")));
    }
    if runs.is_empty() {
        let (found, expected) = ("no finished run in it", "a folder of runs, each in a folder of its own");
        return Err(Error::invalid(folder.display().to_string(), found, expected, "wait for them, or name another"));
    }
    runs.sort_by(|a, b| a.0.cmp(&b.0));
    let keys = differing(&runs);
    let value = |outcome: &Outcome, key: &str| outcome.config.get(key).map_or("-".to_owned(), grid::show);
    let mut rows: Vec<Row> = Vec::new();
    for (name, outcome) in &runs {
        let settings = keys.iter().map(|key| (key.clone(), value(outcome, key))).collect();
        rows.push(row(Some(outcome), name, settings));
    }
    // By their settings: numbers as numbers, the first column first.
    let place = |row: &Row| -> Vec<(f64, String)> {
        let place = |key: &String| (row.settings[key].parse().unwrap_or(f64::INFINITY), row.settings[key].clone());
        keys.iter().map(place).collect()
    };
    rows.sort_by(|a, b| {
        let (a, b) = (place(a), place(b));
        let pairs = a.iter().zip(&b).map(|(a, b)| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        pairs.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    });
    Ok(Sweep { keys, runs: rows })
}

/// The settings in which the runs differ, in the order in which their folders name them.
fn differing(runs: &[(String, Outcome)]) -> Vec<String> {
    let known = |outcome: &Outcome| outcome.config.keys().cloned().collect::<Vec<_>>();
    let mut keys: Vec<String> = runs.iter().flat_map(|(_, outcome)| known(outcome)).collect();
    keys.sort();
    keys.dedup();
    // What the data decided is not said where a run diverged.
    let said = |key: &str, outcome: &Outcome| !outcome.diverged || outcome.config.contains_key(key);
    keys.retain(|key| {
        let mut values = runs.iter().filter(|(_, outcome)| said(key, outcome)).map(|(_, run)| run.config.get(key));
        let first = values.next();
        !ASIDE.contains(&key.as_str()) && values.any(|value| Some(value) != first)
    });
    let name = &runs[0].0;
    keys.sort_by_key(|key| name.find(key.as_str()).unwrap_or(usize::MAX));
    keys
}
