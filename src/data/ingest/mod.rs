//! Where the rows of a new dataset come from: it finds out what SRC is and lists its rows, without decoding pictures.
//!
//! - [`pictures`]: a folder of pictures with a CSV of labels;
//! - [`class_folders`]: pictures in a folder a class;
//! - [`idx`]: MNIST's files;
//! - [`features`]: a table of numbers.

pub mod class_folders;
pub mod pictures;
pub mod idx;
pub mod features;
mod folder;
mod labels;
mod lines;
mod look;
mod nested;
mod quotes;
mod spelling;
mod table;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::class_names::MOST_CLASSES;
use super::{RowShape, Split, doubtful};
use crate::error::{Error, Result};
use crate::plural::plural;

/// What the user said about the source; `None` and empty mean: not said.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The folder or file to read.
    pub source: PathBuf,
    /// A CSV: id or file name in the first column.
    pub labels: Option<PathBuf>,
    /// A column's name, or its number from 1.
    pub label_column: Option<String>,
    /// The column that names the rows: its name, or its number from 1.
    pub id_column: Option<String>,
    /// A picture's file name below the source, `{id}` standing for the id.
    pub pattern: Option<String>,
    /// Names of the classes, in class order.
    pub classes: Option<Vec<String>>,
    /// Height and width.
    pub size: Option<(usize, usize)>,
    /// 1 grey, 3 RGB, 4 RGBA.
    pub channels: Option<usize>,
    /// What sub-folders without a CSV are; found out where it is not said.
    pub folders: Option<class_folders::Folders>,
    /// Leave bad rows out.
    pub skip_bad: bool,
}

/// Side of pictures when the user does not say.
pub const DEFAULT_SIDE: usize = 80;

/// The values of all rows, or where they are.
#[derive(Debug)]
pub enum Content {
    /// Files that are still to be decoded.
    Pictures(Vec<PathBuf>),
    /// Grey images in memory.
    Idx(idx::Images),
    /// Feature values, row after row.
    Features(Vec<f32>),
}

/// The rows of a source.
#[derive(Debug)]
pub struct Source {
    /// Values, one entry or row a label.
    pub content: Content,
    /// What a row will be in the dataset.
    pub shape: RowShape,
    /// Class numbers.
    pub labels: Vec<usize>,
    /// The split that the source itself gives a row; as many as labels.
    pub given: Vec<Option<Split>>,
    /// Class names, in label order.
    pub classes: Vec<String>,
    /// Rows that are named but cannot be used, with the reason; they are not among the labels.
    pub bad: Vec<String>,
    /// What these may mean, where they nearly mean something.
    pub hint: Option<String>,
    /// Rows and pictures without a label; they are left out.
    pub unlabelled: usize,
    /// A sentence: what this is.
    pub origin: String,
    /// What the user should know about how the source was understood.
    pub notes: Vec<String>,
}

/// Finds out what the source is and lists its rows.
///
/// # Errors
/// When it is nothing we know, or holds something that does not fit.
pub fn discover(request: &Request) -> Result<Source> {
    let path = &request.source;
    crate::files::check_regular(path)?;
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    let mut source = if metadata.is_file() {
        if !ends_with(path, ".csv") {
            return Err(no_table(path));
        }
        only_for_pictures(request, "a CSV of features")?;
        not_with(request.labels.is_some(), "--labels", "a CSV of features", "pass --label-column instead")?;
        features::read(request)?
    } else if request.labels.is_none() && idx::is_idx_folder(path)? {
        not_with(request.label_column.is_some(), "--label-column", "IDX files", "leave it out")?;
        not_with(request.id_column.is_some(), "--id-column", "IDX files", "leave it out")?;
        not_with(request.pattern.is_some(), "--pattern", "IDX files", "leave it out")?;
        not_with(request.folders.is_some(), "--folders", "IDX files", "leave it out")?;
        idx::read(request)?
    } else {
        let why = "a CSV of labels, which says the class of every picture";
        not_with(request.folders.is_some() && request.labels.is_some(), "--folders", why, "leave one of them out")?;
        let file = match &request.labels {
            None if request.folders.is_some() => None,
            None => pictures::find_labels(path)?,
            file => file.clone(),
        };
        match file {
            Some(file) => pictures::with_csv(request, &file)?,
            None => {
                let why = "sub-folders as classes; a CSV is named with --labels";
                not_with(request.label_column.is_some(), "--label-column", why, "name the CSV with --labels")?;
                not_with(request.id_column.is_some(), "--id-column", why, "name the CSV with --labels")?;
                not_with(request.pattern.is_some(), "--pattern", why, "name the CSV with --labels")?;
                class_folders::read(request)?
            }
        }
    };
    // These are listed first: what is left need not have all classes.
    if !source.bad.is_empty() && !request.skip_bad {
        return Ok(source);
    }
    if let Some(names) = &request.classes {
        rename(&mut source.classes, names, path)?;
    }
    source.notes.extend(doubtful::notes(&source.classes));
    check_classes(&source.labels, &source.classes, path)?;
    Ok(source)
}

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
fn check_kept<'a>(bad: impl Iterator<Item = &'a str>, classes: &[String], path: &Path) -> Result<()> {
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

fn rename(classes: &mut Vec<String>, names: &[String], path: &Path) -> Result<()> {
    let clash = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name) || name.is_empty());
    if let Some((_, name)) = clash {
        let found = format!("'{name}' twice or empty");
        return Err(Error::invalid("--classes", found, "a different name for each class", "change the names"));
    }
    if names.len() != classes.len() {
        return Err(Error::invalid(
            "--classes",
            format!("{} ({})", plural(names.len(), "name"), names.join(", ")),
            format!("{} for {}: {}", classes.len(), path.display(), brief(classes)),
            "give one name for each, in this order, separated by commas",
        ));
    }
    *classes = names.to_vec();
    Ok(())
}

/// The first few, for messages.
fn brief(items: &[String]) -> String {
    let mut text = items.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
    if items.len() > 12 {
        text.push_str(&format!(", … ({} in all)", items.len()));
    }
    text
}

fn not_with(said: bool, option: &str, source: &str, fix: &str) -> Result<()> {
    if said {
        return Err(Error::invalid(option, format!("it together with {source}"), "one or the other", fix));
    }
    Ok(())
}

fn only_for_pictures(request: &Request, source: &str) -> Result<()> {
    not_with(request.size.is_some(), "--size", source, "leave it out: it is for pictures")?;
    not_with(request.channels.is_some(), "--channels", source, "leave it out: it is for pictures")?;
    not_with(request.pattern.is_some(), "--pattern", source, "leave it out: it is for pictures")?;
    not_with(request.folders.is_some(), "--folders", source, "leave it out: it is for pictures")
}

fn ends_with(path: &Path, ending: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_lowercase().ends_with(ending))
}

/// Refuses a table of which no row has a label; `other` says which column may have them.
fn no_labels(path: &Path, column: &str, rows: usize, other: Option<String>) -> Error {
    Error::invalid(
        path.display().to_string(),
        format!("no rows with a label: {column} is empty in all {rows} rows"),
        "rows of at least two classes",
        other.unwrap_or_else(|| "name the column of the labels with --label-column".to_owned()),
    )
}

/// Refuses a file that is no CSV, by what its name says that it is.
fn no_table(path: &Path) -> Error {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    let (from, to) = (path.display(), path.with_extension("csv"));
    let fix = match ending.as_str() {
        "tsv" | "tab" => format!("tabs to commas: sed 's/\\t/,/g' {from} > {}", to.display()),
        "txt" | "dat" | "data" => format!("where it is one: cp {from} {}", to.display()),
        "xls" | "xlsx" | "xlsm" | "ods" => "save the table as CSV".to_owned(),
        "json" | "jsonl" | "parquet" | "feather" | "pkl" | "npy" | "npz" | "mat" | "arff" => {
            "write it as CSV; or as HDF5 (docs/files.md)".to_owned()
        }
        "zip" | "tar" | "tgz" | "gz" | "bz2" | "xz" | "7z" | "rar" => "unpack it first".to_owned(),
        "h5" | "hdf5" => format!("it needs no ingest, if it is a dataset: glasses --data {from}"),
        _ => return unknown(path, "a file whose name does not end in .csv"),
    };
    Error::invalid(from.to_string(), "a file whose name does not end in .csv", "a folder, or a .csv file", fix)
}

fn unknown(path: &Path, found: &str) -> Error {
    Error::invalid(
        path.display().to_string(),
        found,
        "a folder of pictures with --labels FILE.csv, a folder a class, MNIST's IDX files, or a .csv of features",
        "check SRC",
    )
}
