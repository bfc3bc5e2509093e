//! Several models that answer together.

use std::path::{Path, PathBuf};

use super::folder::model_file;
use crate::checkpoint::SavedModel;
use crate::data::class_names;
use crate::error::{Error, Result};
use crate::train::member_folder;

/// The model files that `paths` name: files, folders of runs, folders of ensembles with all their members.
///
/// # Errors
/// When a member has no model yet.
pub fn models(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        if !member_folder(path, 0).is_dir() {
            found.push(model_file(path)?);
            continue;
        }
        let members = (0..).map(|index| member_folder(path, index)).take_while(|folder| folder.is_dir());
        for file in members.map(|folder| folder.join("model.h5")) {
            if !file.exists() {
                let (expected, fix) =
                    ("a member that is trained", "go on with `glasses train --resume` of the ensemble");
                return Err(Error::invalid(file.display().to_string(), "no model yet", expected, fix));
            }
            found.push(file);
        }
    }
    Ok(found)
}

/// `next`, if it answers the same question as `first`.
///
/// # Errors
/// When it takes other rows, or says other classes.
pub fn same_kind(first_path: &Path, first: &SavedModel, path: &Path, next: SavedModel) -> Result<SavedModel> {
    let describe =
        |saved: &SavedModel| format!("rows of {}, classes {}", saved.shape, class_names::brief(&saved.classes));
    if next.shape == first.shape && next.classes == first.classes {
        return Ok(next);
    }
    let expected = format!("those of {}: {}", first_path.display(), describe(first));
    Err(Error::invalid(path.display().to_string(), describe(&next), expected, "name models of the same data"))
}
