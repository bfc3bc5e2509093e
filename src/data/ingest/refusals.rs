//! What is refused whatever the source is.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use crate::data::class_names::MOST_CLASSES;
use crate::error::{Error, Result};
use crate::plural::plural;

/// Refuses what cannot be learned from.
///
/// # Errors
/// When there are no rows, or fewer than two classes among them.
pub fn check_classes(labels: &[usize], classes: &[String], path: &Path) -> Result<()> {
    if labels.is_empty() {
        return Err(Error::invalid(
            path.display().to_string(),
            "no rows with a label",
            "rows of at least two classes",
            "check SRC and its labels",
        ));
    }
    if classes.len() > MOST_CLASSES {
        let found = format!("{} classes ({})", classes.len(), brief(classes));
        let fix = "check which column or folders the labels are, or leave some classes out";
        return Err(Error::invalid(path.display().to_string(), found, format!("at most {MOST_CLASSES}"), fix));
    }
    let mut counts = vec![0usize; classes.len()];
    for &label in labels {
        counts[label] += 1;
    }
    let place = path.display().to_string();
    if let Some(empty) = counts.iter().position(|&count| count == 0) {
        let found = format!("no usable row of class '{}'", classes[empty]);
        return Err(Error::invalid(place, found, "rows of every class", "mend its rows, or leave the class out"));
    }
    if classes.len() < 2 {
        let found = format!("one class only ('{}', {})", classes[0], plural(labels.len(), "row"));
        return Err(Error::invalid(place, found, "at least two classes", "add rows of another class"));
    }
    Ok(())
}

/// Refuses to leave bad rows out where those are all that a class has; `bad` are their labels.
pub fn check_kept<'a>(bad: impl Iterator<Item = &'a str>, classes: &[String], path: &Path) -> Result<()> {
    let known: HashSet<&str> = classes.iter().map(String::as_str).collect();
    let lost: BTreeSet<&str> = bad.filter(|label| !known.contains(label)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let lost: Vec<String> = lost.iter().map(|class| format!("'{class}'")).collect();
    let found = format!("no usable row of class {}", brief(&lost));
    Err(Error::invalid(
        path.display().to_string(),
        found,
        "rows of every class",
        "mend its rows, or take all of them out of the file",
    ))
}

/// Refuses a table of which no row has a label; `other` says which column may have them.
pub fn no_labels(path: &Path, column: &str, rows: usize, other: Option<String>) -> Error {
    Error::invalid(
        path.display().to_string(),
        format!("no rows with a label: {column} is empty in all {rows} rows"),
        "rows of at least two classes",
        other.unwrap_or_else(|| "name the column of the labels with --label-column".to_owned()),
    )
}

pub fn unknown(path: &Path, found: &str) -> Error {
    Error::invalid(
        path.display().to_string(),
        found,
        "a folder of pictures with --labels FILE.csv, a folder a class, MNIST's IDX files, or a .csv of features",
        "check SRC",
    )
}

/// The first few, for messages.
pub fn brief(items: &[String]) -> String {
    let mut text = items.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
    if items.len() > 12 {
        text.push_str(&format!(", … ({} in all)", items.len()));
    }
    text
}
