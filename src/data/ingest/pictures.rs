//! Pictures with a CSV of labels (Kaggle's layout is one of them).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::finder::{Finder, Found};
use super::folder;
use super::labels::{classes_of, is_missing};
use super::lines::{Line, read_lines};
use super::refusals::{check_kept, no_labels};
use super::{Content, Request, Source, table};
use crate::data::picture::is_picture;
use crate::error::{Error, Result};
use crate::plural::plural;

/// The CSV that lies with the pictures: `train.csv`, `labels.csv`, or the only one beside pictures.
///
/// # Errors
/// When the folder cannot be listed or it is unclear which file is meant.
pub fn find_labels(source: &Path) -> Result<Option<PathBuf>> {
    let (files, _) = folder::entries(source)?;
    let tables: Vec<&PathBuf> = files.iter().filter(|file| folder::ends_with(file, ".csv")).collect();
    let known = ["train.csv", "labels.csv"].map(|name| tables.iter().find(|file| file.ends_with(name)));
    match (known, &tables[..]) {
        ([Some(_), Some(_)], _) => Err(Error::invalid(
            source.display().to_string(),
            "both train.csv and labels.csv",
            "one CSV of labels",
            "name it with --labels",
        )),
        ([Some(one), None] | [None, Some(one)], _) => Ok(Some((*one).clone())),
        (_, [one]) if files.iter().any(|file| is_picture(file)) => Ok(Some((*one).clone())),
        _ => Ok(None),
    }
}

/// Pictures in a folder (or its sub-folders), each named by a line of `file`.
///
/// # Errors
/// When the CSV and the folder do not fit together. Pictures that are missing come back in `bad`.
pub fn with_csv(request: &Request, file: &Path) -> Result<Source> {
    let source = &request.source;
    let finder = Finder::new(request)?;
    let (lines, columns) = read_lines(request, file, &finder)?;
    let mut found = assign(&lines, &finder)?;
    if !found.errors.is_empty() {
        return Err(Error::Several {
            what: format!(
                "{}: {} {} not clear; nothing was written",
                file.display(),
                plural(found.errors.len(), "line"),
                if found.errors.len() == 1 { "is" } else { "are" }
            ),
            items: found.errors,
            fix: format!(
                "each id once, and one picture for each (--pattern can say which); the ids were taken from {}, the labels from {}: \
                 --id-column and --label-column name others",
                columns.id, columns.label
            ),
        });
    }
    if found.pictures.is_empty() && !found.bad.is_empty() {
        let mut about =
            format!("no picture for any of the {}, such as '{}'", plural(found.bad.len(), "labelled id"), lines[0].id);
        let ids: Vec<&str> = lines.iter().map(|line| line.id.as_str()).collect();
        if let Some(alike) = finder.alike(&ids, None, source)? {
            about.push_str(&format!("; {alike}"));
        }
        let mut fix = "check SRC; or pass --pattern (with {id}, {name} or {stem}), or --id-column where the ids are another column".to_owned();
        if request.labels.is_none() && folder::entries(source)?.1.len() > 1 {
            fix.push_str(&format!(
                "; where the sub-folders are the classes, and {} is none of this: --folders classes",
                file.display()
            ));
        }
        return Err(Error::invalid(
            source.display().to_string(),
            about,
            format!("pictures named {}", finder.tried("<id>")),
            fix,
        ));
    }
    let (labels, classes) = classes_of(found.labels.iter().copied());
    if labels.is_empty() {
        return Err(no_labels(file, &columns.label, lines.len(), columns.other));
    }
    if request.skip_bad {
        check_kept(found.lost.iter().copied(), &classes, file)?;
    }
    table::check_labels(labels.len(), &classes, &columns.label, file, || columns.other)?;
    let unlabelled = found.unlabelled + finder.without_line(&found.used);
    let mut notes: Vec<String> = finder.others(file).into_iter().collect();
    notes.extend(columns.notes);
    let mut hint = None;
    if !found.missing.is_empty() {
        let all: Vec<&str> =
            lines.iter().filter(|line| !is_missing(&line.label)).map(|line| line.id.as_str()).collect();
        hint = finder.alike(&found.missing, Some(&all), source)?;
    }
    Ok(Source {
        shape: request.picture_shape(),
        given: vec![None; labels.len()],
        content: Content::Pictures(std::mem::take(&mut found.pictures)),
        labels,
        classes,
        bad: found.bad,
        hint,
        unlabelled,
        origin: format!("the pictures in {} with the labels in {}", source.display(), file.display()),
        notes,
    })
}

/// What became of the lines.
#[derive(Default)]
struct Assigned<'a> {
    pictures: Vec<PathBuf>,
    labels: Vec<&'a str>,
    /// The line that names each picture.
    used: HashMap<PathBuf, u64>,
    unlabelled: usize,
    bad: Vec<String>,
    /// The ids of these.
    missing: Vec<&'a str>,
    /// Their labels.
    lost: Vec<&'a str>,
    errors: Vec<String>,
}

fn assign<'a>(lines: &'a [Line], finder: &Finder) -> Result<Assigned<'a>> {
    let mut out = Assigned::default();
    let mut ids: HashMap<&str, &Line> = HashMap::new();
    for line in lines {
        let Line { number, id, label } = line;
        if let Some(before) = ids.insert(id, line) {
            let label = if before.label == *label {
                String::new()
            } else {
                format!(", with the label '{}' and not '{label}'", before.label)
            };
            out.errors.push(format!("line {number}: id '{id}' stands on line {} already{label}", before.number));
            continue;
        }
        let found = finder.find(id);
        if let Found::File(path) = &found
            && let Some(before) = out.used.insert(path.clone(), *number)
        {
            out.errors.push(format!("line {number}: id '{id}' is {}, as on line {before}", path.display()));
            continue;
        }
        if is_missing(label) {
            out.unlabelled += 1;
            continue;
        }
        match found {
            Found::File(path) => {
                out.pictures.push(path);
                out.labels.push(label);
            }
            Found::Missing => {
                out.missing.push(id);
                out.lost.push(label);
                out.bad.push(format!("line {number}: no picture {}", finder.tried(id)));
            }
            Found::Ambiguous(files) => {
                let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
                out.errors.push(format!("line {number}: id '{id}' may be {}", files.join(" or ")));
            }
        }
    }
    Ok(out)
}
