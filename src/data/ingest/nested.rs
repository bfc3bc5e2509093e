//! Folders a class that are none: what lies in them, and how they are called, says so.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::folder;
use super::folder_names::{meaning, name_of};
use super::refusals::brief;
use crate::data::Split;
use crate::data::picture::is_picture;
use crate::error::{Error, Result};

/// Words for a part of the rows that is neither train, val nor test.
const PARTS: [&str; 8] = ["fold", "split", "subset", "partition", "query", "gallery", "probe", "distractors"];

/// Folders of pictures, and those of what belongs to each of these.
const PICTURES: [&str; 5] = ["images", "image", "imgs", "img", "jpegimages"];
const BELONGING: [&str; 13] = [
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "annotation",
    "annots",
    "ground_truth",
    "groundtruth",
    "gt",
    "segmentations",
    "segmentation",
    "segmentationclass",
];

fn names(folders: &[&Path]) -> String {
    brief(&folders.iter().map(|folder| name_of(folder)).collect::<Vec<_>>())
}

/// What the classes are, where all of them hold the same folders and nothing else: the outer ones may be none.
pub fn alike_below(classes: &[&Path]) -> Result<Option<String>> {
    let mut common: Option<Vec<String>> = None;
    for class in classes {
        let (files, below) = held(class)?;
        if below.len() < 2 || files || common.as_ref().is_some_and(|common| *common != below) {
            return Ok(None);
        }
        common = Some(below);
    }
    Ok(common
        .filter(|_| classes.len() > 1)
        .map(|common| format!("the classes are {}, each with folders {}", names(classes), brief(&common))))
}

/// Whether pictures lie in a folder, and the names of its folders.
fn held(folder: &Path) -> Result<(bool, Vec<String>)> {
    let (files, folders) = folder::entries(folder)?;
    Ok((files.iter().any(|file| is_picture(file)), folders.iter().map(|folder| name_of(folder)).collect()))
}

/// Refuses folders whose names say that they are parts of the rows, or pictures and what belongs to them.
///
/// # Errors
/// When they are; `alike` is what [`alike_below`] says of them.
pub fn sets(source: &Path, folders: &[&Path], alike: Option<&str>) -> Result<()> {
    let among = |words: &[&str]| {
        let is = |folder: &&&Path| words.contains(&&name_of(folder).to_lowercase()[..]);
        folders.iter().find(is).map(|folder| name_of(folder))
    };
    if let (Some(pictures), Some(others)) = (among(&PICTURES), among(&BELONGING)) {
        let found = format!("sub-folders {}: {others} may belong to the pictures in {pictures}", names(folders));
        let fix =
            format!("give the folder in which the classes lie; --folders classes takes {} as classes", names(folders));
        return Err(Error::invalid(source.display().to_string(), found, "a folder a class", fix));
    }
    let is_part = |folder: &Path| {
        let name = name_of(folder).to_lowercase();
        let words = name.split(|c: char| !c.is_alphabetic());
        words
            .map(|word| word.strip_suffix('s').unwrap_or(word))
            .any(|word| PARTS.iter().any(|part| part.strip_suffix('s').unwrap_or(part) == word))
    };
    let split = folders.iter().find(|folder| meaning(folder).1);
    let doubtful = match split {
        _ if folders.len() < 2 => None,
        _ if folders.iter().all(|folder| is_part(folder) || meaning(folder).0.is_some()) => Some(String::new()),
        _ if alike.is_some() && folders.iter().any(|folder| is_part(folder) || meaning(folder).0.is_some()) => {
            alike.map(|alike| format!("; {alike}"))
        }
        Some(split) => same_below(split, folders)?,
        None => None,
    };
    let Some(why) = doubtful else { return Ok(()) };
    Err(Error::invalid(
        source.display().to_string(),
        format!("sub-folders that may be classes or parts of the rows: {}{why}", names(folders)),
        "a folder a class; or train, val and test alone, each with a folder a class",
        "pass --folders classes where these are the classes; else name the parts train, val and test (--folders splits leaves others out), \
         or lay the classes together",
    ))
}

/// What a split's folder and another one both hold.
fn same_below(split: &Path, folders: &[&Path]) -> Result<Option<String>> {
    let (_, below) = held(split)?;
    for other in folders.iter().filter(|other| **other != split) {
        let (_, others) = held(other)?;
        let same: Vec<String> = below.iter().filter(|name| others.contains(name)).cloned().collect();
        if !same.is_empty() {
            return Ok(Some(format!("; {} and {} both hold {}", name_of(split), name_of(other), brief(&same))));
        }
    }
    Ok(None)
}

/// The splits that folders below those of the classes are called like.
#[derive(Default)]
pub struct Below {
    splits: BTreeSet<&'static str>,
    /// Folders that are called so.
    folders: BTreeSet<PathBuf>,
    /// Whether all pictures of some class lie in such folders.
    whole: bool,
}

impl Below {
    /// The pictures of a class, sorted.
    pub fn add<'a>(&mut self, class: &Path, pictures: impl Iterator<Item = &'a Path>) {
        let mut last: Option<(&Path, bool)> = None;
        let mut whole = true;
        for parent in pictures.filter_map(Path::parent) {
            let known = last.filter(|(folder, _)| *folder == parent).map(|(_, is)| is);
            let is = known.unwrap_or_else(|| self.add_folder(class, parent));
            last = Some((parent, is));
            whole &= is;
        }
        self.whole |= whole && last.is_some();
    }

    fn add_folder(&mut self, class: &Path, folder: &Path) -> bool {
        let between = folder.ancestors().take_while(|path| *path != class);
        let split: Option<(&Path, Split)> = between.filter_map(|path| Some((path, meaning(path).0?))).last();
        if let Some((path, split)) = split {
            self.splits.insert(split.name());
            self.folders.insert(path.to_owned());
        }
        split.is_some()
    }

    /// Refuses splits inside the classes: their rows would be mixed.
    ///
    /// # Errors
    /// When two different ones are there, or all that a class has lies in one.
    pub fn no_splits(&self, source: &Path) -> Result<()> {
        if self.splits.len() < 2 && !self.whole {
            return Ok(());
        }
        let folders: Vec<String> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        Err(Error::invalid(
            source.display().to_string(),
            format!("folders that are called like splits inside those of the classes: {}", brief(&folders)),
            "splits outside, classes inside: train/cats, test/cats",
            "lay them so; or pass --folders classes, which takes all of them as rows of the class above and holds back by chance",
        ))
    }
}

/// Refuses a class whose folder is another one's, by a link; says it of folders in classes.
///
/// # Errors
/// When there is one.
pub fn each_once(classes: &[&Path], pictures: &[&Path]) -> Result<Option<String>> {
    if let Some((link, other)) = twice(classes.iter().copied())?.into_iter().next() {
        return Err(Error::invalid(
            link.display().to_string(),
            format!("a link to the pictures of {}, which would be rows twice", other.display()),
            "each folder once",
            "remove the link",
        ));
    }
    let twice = twice(pictures.iter().filter_map(|picture| picture.parent()))?;
    let pairs: Vec<String> =
        twice.iter().map(|(link, other)| format!("{} and {}", link.display(), other.display())).collect();
    Ok((!pairs.is_empty())
        .then(|| format!("links give the same pictures twice, as rows of two classes or splits: {}", brief(&pairs))))
}

/// Folders that are the same by links; the link first.
fn twice<'a>(folders: impl Iterator<Item = &'a Path>) -> Result<Vec<(&'a Path, &'a Path)>> {
    let (mut known, mut found): (HashMap<PathBuf, &Path>, Vec<_>) = (HashMap::new(), Vec::new());
    let mut seen = HashSet::new();
    for folder in folders {
        if !seen.insert(folder) {
            continue;
        }
        let target = folder.canonicalize().map_err(Error::io("list", folder))?;
        if let Some(&before) = known.get(&target) {
            let linked = |path: &Path| path.ancestors().any(Path::is_symlink);
            let swapped = linked(before) && !linked(folder);
            found.push(if swapped { (before, folder) } else { (folder, before) });
        } else {
            known.insert(target, folder);
        }
    }
    Ok(found)
}
