//! Folders: what lies in them, in one order on every machine, and which file an id means.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::data::picture::is_picture;
use crate::error::{Error, Result};

/// The files and folders in `folder`, hidden ones left out, sorted by name.
pub fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with('.') || name == "__MACOSX" {
            continue;
        }
        let path = entry.path();
        // Follows links; a link to nothing counts as a file and is reported when it is read.
        let is_folder = match entry.file_type() {
            Ok(kind) if !kind.is_symlink() => kind.is_dir(),
            _ => path.is_dir(),
        };
        (if is_folder { &mut folders } else { &mut files }).push(path);
    }
    files.sort();
    folders.sort();
    Ok((files, folders))
}

/// Whether a file's name ends so, in letters of either case.
pub fn ends_with(path: &Path, ending: &str) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_lowercase().ends_with(ending))
}

/// All files below `folder`, sorted. Links to folders are followed after all that is no link, and each folder is read once: links may lead in
/// a circle.
pub fn walk(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut read) = (Vec::new(), HashSet::new());
    let (mut waiting, mut links) = (vec![folder.to_owned()], VecDeque::new());
    let root = folder.canonicalize().map_err(Error::io("list", folder))?;
    while let Some(folder) = waiting.pop().or_else(|| links.pop_front()) {
        let data = std::fs::metadata(&folder).map_err(Error::io("list", &folder))?;
        if !read.insert((data.dev(), data.ino())) {
            continue;
        }
        let (files, folders) = entries(&folder)?;
        found.extend(files);
        for folder in folders {
            if !folder.is_symlink() {
                waiting.push(folder);
            } else if !leads_around(&folder, &root) {
                links.push_back(folder);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a link leads to `root` or a folder around it; `root` is canonical.
pub fn leads_around(link: &Path, root: &Path) -> bool {
    link.is_symlink() && link.canonicalize().is_ok_and(|target| root.starts_with(target))
}

/// Finds the file that an id means.
pub struct Index {
    files: Vec<PathBuf>,
    by_key: HashMap<String, Vec<usize>>,
}

/// The file of an id.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup {
    /// This one, by its number in the index.
    File(usize),
    /// There is none.
    Missing,
    /// There are several.
    Ambiguous(Vec<PathBuf>),
}

impl Index {
    /// Of all files below `root`.
    pub fn new(root: &Path) -> Result<Index> {
        let files = walk(root)?;
        let mut by_key: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, file) in files.iter().enumerate() {
            let mut keys: Vec<String> = Vec::new();
            let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
            keys.extend(file.strip_prefix(root).ok().map(|path| text(path.as_os_str())));
            keys.extend(file.file_name().map(text));
            if is_picture(file)
                && let Some(stem) = file.file_stem().map(text)
            {
                keys.extend(stem.strip_prefix("face-").map(str::to_owned));
                keys.push(stem);
            }
            keys.sort();
            keys.dedup();
            for key in keys {
                by_key.entry(key).or_default().push(number);
            }
        }
        Ok(Index { files, by_key })
    }

    /// A file by its number.
    pub fn file(&self, number: usize) -> &Path {
        &self.files[number]
    }

    /// The numbers of all pictures.
    pub fn pictures(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.files.len()).filter(|&number| is_picture(&self.files[number]))
    }

    /// All files that are no pictures.
    pub fn others(&self) -> impl Iterator<Item = &Path> + '_ {
        self.files.iter().map(PathBuf::as_path).filter(|file| !is_picture(file))
    }

    /// The file whose name, name without ending, or path below the root is `id`; or `face-<id>`.
    pub fn find(&self, id: &str) -> Lookup {
        match self.by_key.get(id.trim_start_matches("./")).map(Vec::as_slice) {
            None | Some([]) => Lookup::Missing,
            Some([one]) => Lookup::File(*one),
            Some(many) => Lookup::Ambiguous(many.iter().map(|&n| self.files[n].clone()).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_finds_its_file_by_name_stem_prefix_and_path() {
        let root = tempfile::tempdir().unwrap();
        let sub = root.path().join("a/b");
        std::fs::create_dir_all(&sub).unwrap();
        for name in ["face-1.png", "2.jpg", "x.PNG", ".hidden.png"] {
            std::fs::write(sub.join(name), "").unwrap();
        }
        std::fs::write(root.path().join("x.png"), "").unwrap();
        let index = Index::new(root.path()).unwrap();
        let name = |id: &str| match index.find(id) {
            Lookup::File(n) => index.file(n).file_name().unwrap().to_string_lossy().into_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(name("1"), "face-1.png");
        assert_eq!(name("face-1"), "face-1.png");
        assert_eq!(name("face-1.png"), "face-1.png");
        assert_eq!(name("a/b/2.jpg"), "2.jpg");
        assert_eq!(name("2"), "2.jpg");
        assert_eq!(name("x.png"), "x.png");
        assert_eq!(name("3"), "Missing");
        assert!(matches!(index.find("x"), Lookup::Ambiguous(files) if files.len() == 2));
        assert_eq!(index.pictures().count(), 4);
    }
}
