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
mod finder;
mod folder;
mod folder_names;
mod labels;
mod lines;
mod look;
mod nested;
mod quotes;
mod refusals;
mod source;
mod spelling;
mod table;

pub use refusals::check_classes;
pub use source::{Content, DEFAULT_SIDE, Folders, Request, Source};

use std::path::Path;

use super::doubtful;
use crate::error::{Error, Result};
use crate::plural::plural;
use folder::ends_with;
use refusals::{brief, unknown};

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
