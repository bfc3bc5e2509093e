//! Which picture an id names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::folder::{Index, Lookup};
use super::{Request, spelling};
use crate::data::picture::{ends_like_picture, left_out};
use crate::error::{Error, Result};

/// How an id becomes a file.
pub enum Finder {
    /// By the user's pattern, below this folder.
    Pattern(PathBuf, String),
    /// By trying.
    Index(Index),
}

impl Finder {
    /// As the request says.
    pub fn new(request: &Request) -> Result<Finder> {
        match &request.pattern {
            Some(pattern) if spelling::has_place(pattern) => {
                Ok(Finder::Pattern(request.source.clone(), pattern.clone()))
            }
            Some(pattern) => Err(Error::invalid(
                "--pattern",
                format!("'{pattern}'"),
                "{id}, {name} or {stem} in it",
                "for example 'face-{id}.png'",
            )),
            None => Ok(Finder::Index(Index::new(&request.source)?)),
        }
    }

    /// The file of an id.
    pub fn find(&self, id: &str) -> Found {
        match self {
            Finder::Pattern(root, pattern) => {
                let path = root.join(spelling::filled(pattern, id));
                if path.is_file() { Found::File(path) } else { Found::Missing }
            }
            Finder::Index(index) => match index.find(id) {
                Lookup::File(number) => Found::File(index.file(number).to_owned()),
                Lookup::Missing => Found::Missing,
                Lookup::Ambiguous(files) => Found::Ambiguous(files),
            },
        }
    }

    /// Names that were tried for an id, for a person.
    pub fn tried(&self, id: &str) -> String {
        match self {
            Finder::Pattern(root, pattern) => root.join(spelling::filled(pattern, id)).display().to_string(),
            Finder::Index(_) if ends_like_picture(Path::new(id)) => format!("{id}, in sub-folders either"),
            Finder::Index(_) => format!("{id}.png, face-{id}.png (or another kind of picture), in sub-folders too"),
        }
    }

    /// How the pictures are spelt that the ids might mean.
    pub fn alike(&self, ids: &[&str], all: Option<&[&str]>, root: &Path) -> Result<Option<String>> {
        let of = |index: &Index| {
            let files: Vec<&Path> = index.pictures().map(|number| index.file(number)).collect();
            spelling::alike(ids, all, &files, root)
        };
        match self {
            Finder::Index(index) => Ok(of(index)),
            Finder::Pattern(root, _) => Ok(of(&Index::new(root)?)),
        }
    }

    /// What is said of the files that are no pictures. Who gives a pattern has chosen.
    pub fn others(&self, labels: &Path) -> Option<String> {
        match self {
            Finder::Pattern(..) => None,
            Finder::Index(index) => left_out(index.others().filter(|file| *file != labels)),
        }
    }

    /// How many pictures no line names. Who gives a pattern has chosen, so nothing is counted then.
    pub fn without_line(&self, used: &HashMap<PathBuf, u64>) -> usize {
        match self {
            Finder::Pattern(..) => 0,
            Finder::Index(index) => index.pictures().filter(|&n| !used.contains_key(index.file(n))).count(),
        }
    }
}

/// The file of an id.
pub enum Found {
    /// This one.
    File(PathBuf),
    /// There is none.
    Missing,
    /// There are several.
    Ambiguous(Vec<PathBuf>),
}
