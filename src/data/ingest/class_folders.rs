//! Pictures in a folder a class; these may lie in a folder a split.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::labels::in_order;
use super::pictures::shape;
use super::{Content, Request, Source, brief, folder};
use crate::data::Split;
use crate::data::picture::{FORMATS, is_picture, left_out};
use crate::error::{Error, Result};

/// What the sub-folders of a folder of pictures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Folders {
    /// Classes
    Classes,
    /// Splits, by the words train, val and test in their names; the classes are their sub-folders
    Splits,
}

/// A sub-folder, as far as its name tells.
struct Named {
    path: PathBuf,
    /// The split that its name means, if it means one.
    split: Option<Split>,
    /// Whether the name is that split's and nothing else.
    exact: bool,
    /// Whether folders lie in it.
    holds_folders: bool,
    /// Whether these are all that lies in it, but for files that are no pictures.
    holds_classes: bool,
}

impl Named {
    fn new(path: PathBuf) -> Result<Named> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let whole = split_of(&name, false);
        // `test1`, `trainset`, `seg_test`.
        let part = || {
            let words = name.split(|c: char| !c.is_alphabetic());
            words.map(|word| word.strip_suffix("set").unwrap_or(word)).find_map(|word| split_of(word, true))
        };
        let (split, exact) = (whole.or_else(part), whole.is_some());
        let (files, folders) = if split.is_some() { folder::entries(&path)? } else { (Vec::new(), Vec::new()) };
        let holds_folders = !folders.is_empty();
        let holds_classes = holds_folders && !files.iter().any(|file| is_picture(file));
        Ok(Named { path, split, exact, holds_folders, holds_classes })
    }
}

/// The split that a word means; `loosely`, also one that is used for several.
fn split_of(word: &str, loosely: bool) -> Option<Split> {
    match word {
        "trn" | "tr" if loosely => Some(Split::Train),
        "dev" | "eval" | "evaluation" | "validate" if loosely => Some(Split::Val),
        "tst" | "te" | "holdout" if loosely => Some(Split::Test),
        word => Split::called(word),
    }
}

/// A picture of a class, and the split that the source gives it; none for train, from which more can be held back.
struct Row {
    class: String,
    path: PathBuf,
    given: Option<Split>,
}

/// A folder a class, or a folder a split with these below.
///
/// # Errors
/// When there are no sub-folders, or one without pictures, or it is not clear what they are.
pub fn read(request: &Request) -> Result<Source> {
    let source = &request.source;
    let (files, folders) = folder::entries(source)?;
    if folders.is_empty() {
        let found = if files.iter().any(|file| is_picture(file)) {
            "pictures but no labels: no sub-folders, no CSV"
        } else {
            "neither sub-folders nor anything else we know"
        };
        return Err(super::unknown(source, found));
    }
    let named = folders.into_iter().map(Named::new).collect::<Result<Vec<Named>>>()?;
    let (mut rows, mut left, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    if are_splits(request, &named)? {
        for part in named.iter().filter(|part| part.split.is_none()) {
            notes.push(format!("{} is no split's: left out", part.path.display()));
        }
        for (split, part) in named.iter().filter_map(|part| Some((part.split?, part))) {
            let (files, classes) = folder::entries(&part.path)?;
            if classes.is_empty() {
                return Err(super::unknown(&part.path, "no sub-folders, although its name is a split's"));
            }
            left.extend(files);
            for class in classes {
                class_rows(&class, (split != Split::Train).then_some(split), &mut rows, &mut left)?;
            }
        }
    } else {
        one_too_deep(source, &named)?;
        for part in &named {
            class_rows(&part.path, None, &mut rows, &mut left)?;
        }
    }
    let classes = in_order(rows.iter().map(|row| row.class.clone()).collect());
    let numbers: HashMap<&str, usize> = classes.iter().enumerate().map(|(i, class)| (class.as_str(), i)).collect();
    let labels = rows.iter().map(|row| numbers[row.class.as_str()]).collect();
    let given = rows.iter().map(|row| row.given).collect();
    let (stray, other): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().chain(left).partition(|file| is_picture(file));
    notes.extend(left_out(other.iter().map(PathBuf::as_path)));
    Ok(Source {
        shape: shape(request),
        content: Content::Pictures(rows.into_iter().map(|row| row.path).collect()),
        labels,
        given,
        bad: Vec::new(),
        unlabelled: stray.len(),
        origin: format!("the pictures in {}, a folder a class", source.display()),
        notes,
        classes,
    })
}

/// Whether the sub-folders are splits: as the user said; else all are called so and hold folders.
fn are_splits(request: &Request, named: &[Named]) -> Result<bool> {
    let splits = named.iter().filter(|part| part.split.is_some()).count();
    match request.folders {
        Some(Folders::Classes) => return Ok(false),
        Some(Folders::Splits) if named.iter().any(|part| part.split == Some(Split::Train)) => return Ok(true),
        Some(Folders::Splits) => {
            return Err(Error::invalid(
                request.source.display().to_string(),
                format!("no folder of training pictures among {}", names(named)),
                "one with the word train in its name",
                "rename it, or say --folders classes",
            ));
        }
        None => {}
    }
    let train = named.iter().any(|part| part.split == Some(Split::Train));
    let once = |part: &Named| named.iter().filter(|other| other.split == part.split).count() == 1;
    let clear = train && named.iter().all(|part| part.exact && part.holds_classes && once(part));
    let holding = || named.iter().filter(|part| part.split.is_some() && part.holds_folders);
    let only = train && splits == named.len();
    let doubtful =
        splits >= 2 && (only || holding().any(|part| part.split == Some(Split::Train)) || holding().count() >= 2);
    if doubtful && !clear {
        return Err(Error::invalid(
            request.source.display().to_string(),
            format!("sub-folders that may be classes or splits of the rows: {}", names(named)),
            "a folder a class; or train, val and test alone, each with a folder a class",
            "say which: --folders splits or --folders classes",
        ));
    }
    Ok(clear)
}

fn names(named: &[Named]) -> String {
    let name = |part: &Named| part.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    brief(&named.iter().map(name).collect::<Vec<_>>())
}

/// `photos/photos/cats`: the classes lie in the only sub-folder.
fn one_too_deep(source: &Path, named: &[Named]) -> Result<()> {
    let [only] = named else { return Ok(()) };
    let (files, folders) = folder::entries(&only.path)?;
    if folders.len() < 2 || files.iter().any(|file| is_picture(file)) {
        return Ok(());
    }
    let below: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Err(Error::invalid(
        source.display().to_string(),
        format!("one sub-folder, which holds folders: {}", brief(&below)),
        "a folder a class",
        format!("go one folder deeper: glasses ingest {}", only.path.display()),
    ))
}

/// All pictures below a class's folder; other files go to `left`.
fn class_rows(folder: &Path, given: Option<Split>, rows: &mut Vec<Row>, left: &mut Vec<PathBuf>) -> Result<()> {
    let class = folder.file_name().unwrap_or_default();
    let Some(class) = class.to_str().map(str::to_owned) else {
        let (found, expected) = ("a folder of a class whose name is not UTF-8", "a name that the class can have");
        return Err(Error::invalid(folder.display().to_string(), found, expected, "rename the folder"));
    };
    let before = rows.len();
    for path in folder::walk(folder)? {
        if is_picture(&path) {
            rows.push(Row { class: class.clone(), path, given });
        } else {
            left.push(path);
        }
    }
    if rows.len() == before {
        return Err(Error::invalid(
            folder.display().to_string(),
            "no pictures",
            format!("files that are {FORMATS}, as each sub-folder is a class"),
            "put pictures there, or move the folder away",
        ));
    }
    Ok(())
}
