//! Which pictures `glasses predict` was given: files, folders, patterns, names on standard input.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::data::picture;
use crate::error::{Error, Result};
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
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = entries.map_err(Error::io("read the folder", folder))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a folder is not followed: it may lead in a circle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add_folder(&path, files, others)?;
        } else {
            (if picture::is_picture(&path) { &mut *files } else { &mut *others }).push(path);
        }
    }
    Ok(())
}

/// A file may have such a name: then it is that file.
fn pattern(input: &Path) -> Option<&str> {
    input.to_str().filter(|text| text.contains(['*', '?', '[']) && !input.exists())
}

fn add_matches(pattern: &str, files: &mut Vec<PathBuf>, others: &mut Vec<PathBuf>) -> Result<()> {
    let invalid = |found: String| {
        let fix =
            "check the pattern; * stands for any part of a name, ** for any folders, and quotes keep the shell off it";
        Error::invalid(pattern, found, "a pattern that some picture fits", fix)
    };
    let matches = glob::glob(pattern).map_err(|e| invalid(e.to_string()))?;
    let before = files.len();
    for path in matches {
        let path = path.map_err(|e| Error::io("read the folder", e.path().to_owned())(e.into()))?;
        if path.is_dir() {
            add_folder(&path, files, others)?;
        } else {
            files.push(path);
        }
    }
    if files.len() == before { Err(invalid("no such file".to_owned())) } else { Ok(()) }
}

/// A name a line; or, as `find -print0` gives them, a NUL after each.
fn names(mut input: impl Read) -> Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(Error::io("read", "standard input"))?;
    let end = if bytes.contains(&0) { 0 } else { b'\n' };
    let names = bytes.split(|&byte| byte == end).filter(|name| !name.is_empty());
    let names: Vec<PathBuf> = names.map(|name| OsString::from_vec(name.to_vec()).into()).collect();
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
        assert!(names(&b"\n"[..]).unwrap_err().to_string().contains("one a line"));
    }
}
