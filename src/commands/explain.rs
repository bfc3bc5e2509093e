//! `glasses predict --explain`: maps of what the network looks at, as pictures in a folder.

use std::collections::HashSet;
use std::path::{Component, Path};

use crate::checkpoint::SavedModel;
use crate::error::{Error, Result};
use crate::files::{replace, text_of};
use crate::model::{Workspace, room};
use crate::report::{explained, png};

/// Pictures that are painted over at once, where a map is made so.
const BATCH: usize = 16;

/// Writes maps, one a picture.
pub struct Maps<'a> {
    folder: &'a Path,
    saved: &'a SavedModel,
    ws: Workspace,
    input: Vec<f32>,
    /// Names that maps have.
    names: HashSet<String>,
    failure: Option<Error>,
}

impl<'a> Maps<'a> {
    /// Into `folder`, which is made where it is missing; of a model that takes pictures. `workers` of this machine do this.
    ///
    /// # Errors
    /// When the folder cannot be made, or there is no memory for a picture in the network.
    pub fn new(folder: &'a Path, saved: &'a SavedModel, workers: usize) -> Result<Maps<'a>> {
        std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        let batch = room::rows(std::iter::once(&saved.model), BATCH, workers, folder)?;
        let ws = Workspace::for_explanation(&saved.model, batch);
        Ok(Maps { folder, saved, ws, input: vec![0.0; saved.shape.len()], names: HashSet::new(), failure: None })
    }

    /// The map of what speaks for `class` in the picture `pixels [h, w, c]` that came from `file`. After a failure nothing more is
    /// written.
    pub fn write(&mut self, file: &Path, pixels: &[u8], class: usize) {
        if self.failure.is_some() {
            return;
        }
        let Maps { saved, ws, input, names, .. } = self;
        saved.normalizer.pixels(pixels, input);
        let evidence = saved.model.explain(&saved.params, ws, input, class);
        let path = self.folder.join(free(name(file), names));
        let picture = png(&explained(saved.shape.hwc(), pixels, &evidence));
        self.failure = picture.map_err(Error::io("write", &path)).and_then(|bytes| replace(&path, &bytes)).err();
    }

    /// Whether all of them were written.
    ///
    /// # Errors
    /// Why the first one was not.
    pub fn finish(self) -> Result<()> {
        self.failure.map_or(Ok(()), Err)
    }
}

/// `photos/a.png` becomes `photos-a`, `b.jpg` becomes `b.jpg`.
fn name(file: &Path) -> String {
    let parts = file.components().filter_map(|part| match part {
        Component::Normal(name) => Some(text_of(Path::new(name))),
        _ => None,
    });
    let whole = parts.collect::<Vec<_>>().join("-");
    whole.strip_suffix(".png").unwrap_or(&whole).to_owned()
}

/// The map's file: with a number where another map has that name, as `a/b.png` and `a-b.png` have.
fn free(name: String, taken: &mut HashSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.clone()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or(name);
    taken.insert(free.clone());
    format!("{free}.map.png")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_called_as_their_pictures_and_stay_in_their_folder() {
        let mut taken = HashSet::new();
        let mut called = |file: &str| free(name(Path::new(file)), &mut taken);
        assert_eq!(called("a.png"), "a.map.png");
        assert_eq!(called("/photos/old/a.jpg"), "photos-old-a.jpg.map.png");
        assert_eq!(called("../a.png"), "a-2.map.png");
        assert_eq!(called("photos-old/a.jpg"), "photos-old-a.jpg-2.map.png");
    }
}
