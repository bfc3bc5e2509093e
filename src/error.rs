//! What can go wrong, as data: what was found, what was expected, where, and what to do.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::kernels::NoSuchIsa;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How the process ends: the exit codes that scripts may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The system refused something: disk, memory, a library.
    Refused = 1,
    /// What the user gave is not what we need: a setting, a file.
    Input = 2,
    /// A rank was lost, or has stalled.
    Lost = 3,
    /// A loss, a gradient or a weight is no longer a finite number.
    Diverged = 4,
    /// The ranks' weights differ.
    Differ = 5,
    /// A signal ended the run behind a checkpoint: `--resume` goes on.
    Interrupted = 75,
    /// A signal ended the run, and nothing could be saved.
    Unsaved = 76,
}

impl Exit {
    const ALL: [Exit; 7] =
        [Exit::Refused, Exit::Input, Exit::Lost, Exit::Diverged, Exit::Differ, Exit::Interrupted, Exit::Unsaved];

    /// The one with this number.
    pub fn of_code(code: u8) -> Exit {
        Exit::ALL.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Exit::Refused)
    }
}

/// Every failure that reaches a user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something the user gave us is not what we need.
    #[error("{place}: found {found}, expected {expected}\n  fix: {fix}")]
    Invalid {
        /// Where: a file, a dataset in it, an option, a layer.
        place: String,
        /// What was there.
        found: String,
        /// What should have been there.
        expected: String,
        /// What the user can do about it.
        fix: String,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}: {source}\n  fix: {}", path.display(), fix_for(source, path))]
    Io {
        /// A verb: "read", "create", …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// HDF5 refused something.
    #[error("cannot {action} {}: HDF5 says: {detail}\n  fix: {fix}", path.display())]
    Hdf5 {
        /// A verb: "open", "read /train/images of", …
        action: String,
        /// The HDF5 file.
        path: PathBuf,
        /// The library's own words.
        detail: String,
        /// What the user can do about it.
        fix: &'static str,
    },
    /// Several inputs are bad; the first of them are listed.
    #[error("{}\n  fix: {fix}", list(what, items))]
    Several {
        /// What the items are: "3 of 500 images cannot be used".
        what: String,
        /// One line an item.
        items: Vec<String>,
        /// What the user can do about it.
        fix: String,
    },
    /// What another rank (or this one) reported when the ranks agreed to stop.
    #[error("{message}{}", if *size > 1 { format!("\n  on: rank {rank} of {size}") } else { String::new() })]
    OnRank {
        /// The lowest rank that failed.
        rank: usize,
        /// How many ranks there are.
        size: usize,
        /// Its error, in words.
        message: String,
        /// How all end.
        exit: Exit,
    },
    /// Why a run ended, where that has an exit code of its own.
    #[error("{message}")]
    Ended {
        /// In words.
        message: String,
        /// How the process ends.
        exit: Exit,
    },
    /// The command line could not be understood; the text is clap's own.
    #[error("{0}")]
    Usage(String),
}

/// So many items of a list are shown.
const LISTED: usize = 10;

/// The first items, each on a line of its own, and how many more there are.
pub fn list(what: &str, items: &[String]) -> String {
    let mut text = format!("{what}:");
    for item in items.iter().take(LISTED) {
        text.push_str("\n  ");
        text.push_str(item);
    }
    if let more @ 1.. = items.len().saturating_sub(LISTED) {
        text.push_str(&format!("\n  … and {more} more"));
    }
    text
}

/// Whether a terminal would do something else than show it, or would show what comes behind it in another order.
fn is_control(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text for a terminal: control characters but line ends and tabs, which names of files and classes may hold, are escaped as JSON
/// has them (which leaves JSON as it is).
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| is_control(letter) && !"\n\t".contains(letter))
}

/// A name within a line: as [`printable`], and it stays on its line.
pub fn printable_name(name: &str) -> Cow<'_, str> {
    escaped(name, is_control)
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return Cow::Borrowed(text);
    }
    let letter =
        |letter: char| if is_bad(letter) { format!("\\u{:04x}", u32::from(letter)) } else { letter.to_string() };
    Cow::Owned(text.chars().map(letter).collect())
}

/// What Rust and its libraries say of a value, in a user's words.
const WORDS: [(&str, &str); 24] = [
    ("invalid type: ", "found "),
    ("invalid value: ", "found "),
    ("unknown variant ", "unknown value "),
    ("floating point `", "the number `"),
    ("integer `", "the number `"),
    ("boolean `", "the value `"),
    ("found sequence", "found a list"),
    ("found map", "found a section"),
    ("expected usize", "expected a whole number, 0 or more"),
    ("expected u64", "expected a whole number, 0 or more"),
    ("expected u32", "expected a whole number, 0 or more"),
    ("expected i64", "expected a whole number"),
    ("expected f64", "expected a number"),
    ("expected f32", "expected a number"),
    ("expected a boolean", "expected true or false"),
    ("expected path string", "expected a path in quotes"),
    ("expected a string", "expected a text in quotes"),
    ("wanted string or table", "expected a text in quotes"),
    ("expected a sequence", "expected a list in brackets"),
    ("invalid digit found in string", "expected a whole number, 0 or more"),
    ("cannot parse integer from empty string", "expected a whole number"),
    ("invalid float literal", "expected a number"),
    ("number too large to fit in target type", "too large a number"),
    ("provided string was not `true` or `false`", "expected true or false"),
];

/// What Rust and its libraries say of a value, without the names of Rust's types.
pub fn in_words(text: &str) -> String {
    let words = WORDS.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours));
    match words.split_once(" is not in ") {
        Some((before, range)) => {
            let range = range.replacen("..=", " to ", 1).replacen("..18446744073709551615", " or more", 1);
            format!("{before} is not {range}")
        }
        None => words,
    }
}

fn fix_for(source: &std::io::Error, path: &Path) -> String {
    use std::io::ErrorKind::*;
    if source.kind() == NotFound
        && let Ok(target) = std::fs::read_link(path)
    {
        return format!("it is a link to {}, which is not there: name the file itself", target.display());
    }
    if source.kind() == NotFound
        && let Some(near) = nearest_file(path)
    {
        return format!("did you mean '{}'?", near.display());
    }
    let fix = match source.kind() {
        NotFound if path.is_absolute() => "check the path; make the folder first where it is missing",
        NotFound => "check the path; it is relative to the folder the command was started in",
        PermissionDenied | ReadOnlyFilesystem => "choose a place that you may write to, or change its permissions",
        AlreadyExists => "choose another name, or move the existing one away",
        StorageFull | QuotaExceeded => {
            "free some space, or choose a place on another disk; nothing half-written was left"
        }
        FileTooLarge => {
            "raise the limit of a file's length (`ulimit -f`), free some space, or choose a place on another disk; nothing half-written was left"
        }
        InvalidData => "make it a text file in UTF-8",
        NotADirectory | IsADirectory => "choose another path: a file stands where a folder is needed, or the reverse",
        _ => "see the operating system's message",
    };
    fix.to_owned()
}

impl Error {
    /// Input that does not fit.
    pub fn invalid(
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Error::Invalid { place: place.into(), found: found.into(), expected: expected.into(), fix: fix.into() }
    }

    /// The same in words, with an exit code of its own.
    pub fn ended(self, exit: Exit) -> Self {
        Error::Ended { message: self.to_string(), exit }
    }

    /// How a process ends that ends with it.
    pub fn exit(&self) -> Exit {
        use std::io::ErrorKind::*;
        match self {
            Error::OnRank { exit, .. } | Error::Ended { exit, .. } => *exit,
            Error::Invalid { .. } | Error::Several { .. } | Error::Usage(_) => Exit::Input,
            Error::Io { source, .. } => match source.kind() {
                NotFound | AlreadyExists | NotADirectory | IsADirectory | InvalidData => Exit::Input,
                _ => Exit::Refused,
            },
            Error::Hdf5 { action, .. } if action.starts_with("build") => Exit::Refused,
            Error::Hdf5 { .. } => Exit::Input,
        }
    }

    /// A closure for `map_err`: the operating system refused `action` on `path`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// A closure for `map_err`: HDF5 refused `action` on `path`.
    pub fn hdf5(
        action: impl Into<String>,
        path: impl AsRef<Path>,
        fix: &'static str,
    ) -> impl FnOnce(hdf5::Error) -> Self {
        let (action, path) = (action.into(), path.as_ref().to_owned());
        move |e| {
            // It has many ways to say that.
            let memory = if e.contains_major(hdf5::MajorErrorCode::Resource) { " (for want of memory)" } else { "" };
            Error::Hdf5 { action, path, detail: format!("{}{memory}", e.to_string().replace('\n', " ")), fix }
        }
    }
}

impl From<NoSuchIsa> for Error {
    fn from(wrong: NoSuchIsa) -> Self {
        let missing = if wrong.known { ", which this processor does not have" } else { "" };
        let found = format!("'{}'{missing}", wrong.found);
        Error::invalid(NoSuchIsa::VARIABLE, found, wrong.expected(), "unset it: the best one is chosen then")
    }
}

/// Several lines within a message; the start of each that is longer than a terminal is wide, twice.
pub fn indented(text: &str) -> String {
    let line = |line: &str| match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    };
    text.trim_end().lines().map(line).collect::<Vec<_>>().join("\n    ")
}

/// A file or folder that is there, and whose name is most like the first part of `path` that is not.
pub fn nearest_file(path: &Path) -> Option<PathBuf> {
    let missing =
        path.ancestors().filter(|part| !part.as_os_str().is_empty()).take_while(|part| !part.exists()).last()?;
    let folder = missing.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = std::fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let typed = missing.file_name()?.to_str()?;
    // Endings are alike by themselves (a.h5, b.h5): one letter in three may be another.
    let near = |name: &&String| 3 * strsim::damerau_levenshtein(typed, name) <= typed.chars().count().max(4);
    let near =
        names.iter().filter(near).min_by_key(|name| (strsim::damerau_levenshtein(typed, name), (*name).clone()))?;
    let near = folder.map_or_else(|| PathBuf::from(near), |folder| folder.join(near));
    let rest = path.strip_prefix(missing).ok().filter(|rest| !rest.as_os_str().is_empty());
    Some(rest.map(|rest| near.join(rest)).filter(|whole| whole.exists()).unwrap_or(near))
}

/// The known word that a mistyped one is most like, if any is like it.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (strsim::jaro_winkler(typed, word), word))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_path_finds_the_one_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("runs/faces")).unwrap();
        for name in ["faces.h5", "a.h5", "runs/faces/model.h5"] {
            std::fs::write(path(name), "").unwrap();
        }
        for (typed, near) in [
            ("faecs.h5", "faces.h5"),
            ("face.h5", "faces.h5"),
            ("runs/faces/modle.h5", "runs/faces/model.h5"),
            ("runs/fcaes/model.h5", "runs/faces/model.h5"),
            ("runs/fcaes/other.h5", "runs/faces"),
            ("rusn/faces", "runs/faces"),
        ] {
            assert_eq!(nearest_file(&path(typed)), Some(path(near)), "{typed}");
            let error = Error::io("read", path(typed))(std::io::ErrorKind::NotFound.into()).to_string();
            assert!(error.contains(&format!("did you mean '{}'?", path(near).display())), "{error}");
        }
        for typed in ["pictures.h5", "x", "runs/digits/model.h5", "faces.h5", "/no/such/place"] {
            assert_eq!(nearest_file(&path(typed)), None, "{typed}");
        }
    }
}
