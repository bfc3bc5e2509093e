//! Which pictures `glasses predict` was given: files, folders, patterns, names on standard input.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::data::picture;
use crate::error::{Error, Result};
use crate::files::folder_of;
use crate::report::note;

/// The pictures: files as given, folders and patterns in the order of their names.
pub fn list(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let (mut files, mut others) = (Vec::new(), Vec::new());
    for input in inputs {
        if input == Path::new("-") {
            files.extend(names(std::io::stdin().lock())?);
        } else if input.is_dir() {
            let before = files.len();
            add_folder(input, &mut files, &mut others)?;
            if files.len() == before {
                return Err(Error::invalid(
                    input.display().to_string(),
                    "a folder without pictures",
                    picture::FORMATS,
                    "check the folder",
                ));
            }
        } else if let Some(pattern) = pattern(input) {
            add_matches(pattern, &mut files, &mut others)?;
        } else {
            files.push(input.clone());
        }
    }
    if let Some(text) = picture::left_out(others.iter().map(PathBuf::as_path)) {
        note(&text);
    }
    Ok(files)
}

fn add_folder(folder: &Path, files: &mut Vec<PathBuf>, others: &mut Vec<PathBuf>) -> Result<()> {
    for (path, is_folder) in entries(folder)? {
        // A link to a folder is not followed: it may lead in a circle.
        if is_folder {
            add_folder(&path, files, others)?;
        } else {
            (if picture::is_picture(&path) { &mut *files } else { &mut *others }).push(path);
        }
    }
    Ok(())
}

/// What lies in a folder, by name, and whether it is a folder and no link to one.
fn entries(folder: &Path) -> Result<Vec<(PathBuf, bool)>> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = entries.map_err(Error::io("read the folder", folder))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    let path = |entry: std::fs::DirEntry| (entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(entries.into_iter().map(path).collect())
}

/// A file may have such a name: then it is that file.
fn pattern(input: &Path) -> Option<&str> {
    input.to_str().filter(|text| text.contains(MAGIC) && !input.exists())
}

/// What makes a pattern of a name.
const MAGIC: [char; 3] = ['*', '?', '['];

fn add_matches(pattern: &str, files: &mut Vec<PathBuf>, others: &mut Vec<PathBuf>) -> Result<()> {
    let invalid = |found: String| {
        let fix =
            "check the pattern; * stands for any part of a name, ** for any folders, and quotes keep the shell off it";
        Error::invalid(pattern, found, "a pattern that some picture fits", fix)
    };
    let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let parts = parts.iter().map(|part| PatternSegment::new(part)).collect::<std::result::Result<Vec<_>, _>>();
    let parts = parts.map_err(|e| invalid(e.to_string()))?;
    let mut found = Vec::new();
    expand(Path::new(if pattern.starts_with('/') { "/" } else { "" }), &parts, &mut found)?;
    let mut matches = Vec::new();
    for path in found {
        if path.is_dir() { add_folder(&path, &mut matches, others)? } else { matches.push(path) }
    }
    // Folders that fit may lie in one another, and a link beside the folder it leads to: each file once, by the first of its names.
    let (mut seen, mut folders) = (HashSet::new(), HashMap::new());
    matches.retain(|path| {
        let folder = folder_of(path).to_owned();
        let real = folders.entry(folder).or_insert_with_key(|folder| folder.canonicalize().unwrap_or(folder.clone()));
        seen.insert((real.clone(), path.file_name().map(OsString::from)))
    });
    if matches.is_empty() {
        return Err(invalid("no such file".to_owned()));
    }
    files.append(&mut matches);
    Ok(())
}

/// What stands between two slashes of a pattern.
enum PatternSegment {
    /// `**`
    Folders,
    Name(String),
    Names(glob::Pattern),
}

impl PatternSegment {
    fn new(text: &str) -> std::result::Result<PatternSegment, glob::PatternError> {
        Ok(match text {
            "**" => PatternSegment::Folders,
            text if text.contains(MAGIC) => PatternSegment::Names(glob::Pattern::new(text)?),
            text => PatternSegment::Name(text.to_owned()),
        })
    }
}

/// All paths below `place` that fit, in the order of their names. `**` follows no links, which may lead in a circle; what is named is followed.
fn expand(place: &Path, parts: &[PatternSegment], found: &mut Vec<PathBuf>) -> Result<()> {
    let listed = if place == Path::new("") { Path::new(".") } else { place };
    let own = |path: PathBuf| {
        path.strip_prefix("./").map(Path::to_owned).ok().filter(|_| place == Path::new("")).unwrap_or(path)
    };
    match parts {
        [] => found.push(place.to_owned()),
        [PatternSegment::Name(name), rest @ ..] => {
            let path = place.join(name);
            if path.exists() || rest.is_empty() && path.is_symlink() {
                expand(&path, rest, found)?;
            }
        }
        _ if !listed.is_dir() => {}
        [PatternSegment::Names(names), rest @ ..] => {
            for (path, _) in entries(listed)? {
                let fits = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| names.matches(name));
                if fits && (rest.is_empty() || path.is_dir()) {
                    expand(&own(path), rest, found)?;
                }
            }
        }
        [PatternSegment::Folders, rest @ ..] => {
            expand(place, if rest.is_empty() { &[] } else { rest }, found)?;
            for (path, _) in entries(listed)?.into_iter().filter(|(_, is_folder)| *is_folder && !rest.is_empty()) {
                expand(&own(path), parts, found)?;
            }
        }
    }
    Ok(())
}

/// A name a line; or, as `find -print0` gives them, a NUL after each.
fn names(mut input: impl Read) -> Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(Error::io("read", "standard input"))?;
    let end = if bytes.contains(&0) { 0 } else { b'\n' };
    let path = |name: &[u8]| PathBuf::from(OsString::from_vec(name.to_vec()));
    // Lines may end as Windows ends them; a name may, too.
    let name = |line: &[u8]| match line.strip_suffix(b"\r") {
        Some(name) if end == b'\n' && path(line).symlink_metadata().is_err() => path(name),
        _ => path(line),
    };
    let names = bytes.split(|&byte| byte == end).map(name).filter(|name| !name.as_os_str().is_empty());
    let names: Vec<PathBuf> = names.collect();
    if names.is_empty() {
        let fix = "pipe names into it:  find photos -name '*.jpg' | glasses predict --model … -";
        return Err(Error::invalid("standard input", "nothing", "names of pictures, one a line", fix));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_with_lines_or_with_nuls() {
        let list = |bytes: &[u8]| names(bytes).map(|names| names.iter().map(|n| n.display().to_string()).collect());
        let list = |bytes: &[u8]| -> Vec<String> { list(bytes).unwrap() };
        assert_eq!(list(b"a b.png\n\nc.png"), ["a b.png", "c.png"]);
        assert_eq!(list(b"a\nb.png\0c.png\0"), ["a\nb.png", "c.png"]);
        assert_eq!(list(b"a b.png\r\n\r\nc.png\r\n"), ["a b.png", "c.png"]);
        assert_eq!(list(b"a\r\0c.png\0"), ["a\r", "c.png"]);
        assert!(names(&b"\n"[..]).unwrap_err().to_string().contains("one a line"));
    }
}
