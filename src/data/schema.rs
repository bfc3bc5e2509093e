//! The outline of a dataset file: which groups, datasets and attributes are there, and whether they make a dataset.

use std::path::Path;

use hdf5::types::TypeDescriptor;

use super::contents::Group;
use super::refusal::{FIX, invalid};
use super::{RowShape, Split, class_names, contents, foreign, rows_name, texts};
use crate::error::{Error, Result};

/// What is known of a dataset before a row is read.
#[derive(Debug)]
pub struct Schema {
    /// What a row is.
    pub shape: RowShape,
    /// Class names, in label order, where the file has them.
    pub classes: Option<Vec<String>>,
    /// What the file says it was made from.
    pub origin: Option<String>,
    /// The splits that are there.
    pub splits: Vec<Group>,
    /// What a user should know: what was taken for what, what is not read.
    pub notes: Vec<String>,
}

/// Checks groups, types and shapes.
///
/// # Errors
/// When the file is not such a dataset; says what was found, where, and what was expected.
pub fn read(path: &Path, file: &hdf5::File) -> Result<Schema> {
    let names = file.member_names().map_err(Error::hdf5("list the groups of", path, FIX))?;
    let mut notes = Vec::new();
    let mut shape: Option<(RowShape, String)> = None;
    let mut splits = Vec::new();
    for split in Split::ALL {
        let called: Vec<&String> = names.iter().filter(|name| Split::called(name) == Some(split)).collect();
        let name = match &called[..] {
            [] if split == Split::Train => {
                let found = format!("no such group; {}", contents::described(file, ""));
                return Err(invalid(path, "/train", found, "a group with images (or features) and labels"));
            }
            [] => continue,
            &[name] => name,
            several => {
                let found = several.iter().map(|name| format!("/{name}")).collect::<Vec<_>>().join(" and ");
                let expected = format!("one group of {} rows", split.name());
                return Err(invalid(path, &format!("/{}", split.name()), found, expected));
            }
        };
        if name != split.name() {
            notes.push(format!("/{name} holds the {} rows", split.name()));
        }
        let (found, rows) = check_split(path, file, name, &mut notes)?;
        match &shape {
            Some((shape, first)) if *shape != found => {
                return Err(invalid(path, &format!("/{name}"), found.to_string(), format!("{shape}, as in /{first}")));
            }
            Some(_) => {}
            None => shape = Some((found, name.clone())),
        }
        splits.push(Group { split, name: name.clone(), rows });
    }
    let mut classes = class_names::read(path, file)?;
    if let Some(names) = classes.as_deref().and_then(class_names::of_json) {
        notes.push(format!("the attribute 'classes' is one JSON text: {} class names", names.len()));
        classes = Some(names);
    }
    let origin = strings(file, "origin", 1).ok().flatten().and_then(|mut names| names.pop());
    let shape = shape.map_or(RowShape::Features { d: 0 }, |(shape, _)| shape);
    notes.extend(contents::not_read(file, &splits, rows_name(shape), classes.is_some()));
    Ok(Schema { shape, classes, origin, splits, notes })
}

fn check_split(path: &Path, file: &hdf5::File, name: &str, notes: &mut Vec<String>) -> Result<(RowShape, usize)> {
    let of = |rows: &str| foreign::dataset(path, file, &format!("{name}/{rows}"));
    let (rows, dataset) = match of("images")? {
        Some(dataset) => ("images", Some(dataset)),
        None => ("features", of("features")?),
    };
    let place = format!("/{name}/{rows}");
    let dataset = dataset.ok_or_else(|| {
        let found = format!("neither 'images' nor 'features'; {}", contents::described(file, name));
        invalid(path, &format!("/{name}"), found, "a dataset of one of them")
    })?;
    let (kind, words) = foreign::kind(&dataset);
    let sizes = dataset.shape();
    let shape = match (rows, &sizes[..]) {
        ("images", &[_, h, w, c]) => RowShape::Image { h, w, c },
        ("features", &[_, d]) => RowShape::Features { d },
        (_, sizes) => {
            let expected = if rows == "images" { "4 axes [n, h, w, c]" } else { "2 axes [n, d]" };
            let found =
                if sizes.is_empty() { foreign::extent(&dataset) } else { format!("{} axes {sizes:?}", sizes.len()) };
            return Err(invalid(path, &place, found, expected));
        }
    };
    let fits = match shape {
        RowShape::Image { .. } => kind == Some(TypeDescriptor::Unsigned(hdf5::types::IntSize::U1)),
        RowShape::Features { .. } => matches!(kind, Some(TypeDescriptor::Float(_))),
    };
    if !fits {
        let expected = if rows == "images" { "u8" } else { "f32" };
        return Err(invalid(path, &place, format!("values of {words}"), format!("values of type {expected}")));
    }
    let values = sizes[1..].iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if values.is_none_or(|values| values > 1 << 40) {
        return Err(invalid(path, &place, format!("shape {sizes:?}"), "rows of at most 2^40 values"));
    }
    if sizes[0] == 0 || shape.is_empty() || sizes[0] > u32::MAX as usize {
        return Err(invalid(path, &place, format!("shape {sizes:?}"), "1 to 2^32 rows, and no empty axis"));
    }
    if let RowShape::Image { h, w, c } = shape {
        channels_first(path, &place, [h, w, c], notes)?;
    }
    all_written(path, &place, &dataset)?;
    check_labels(path, file, name, sizes[0])?;
    Ok((shape, sizes[0]))
}

/// PyTorch's order of axes, `[n, c, h, w]`, read as ours makes flat pictures of many channels.
fn channels_first(path: &Path, place: &str, [h, w, c]: [usize; 3], notes: &mut Vec<String>) -> Result<()> {
    // Pictures are often square, or have few channels: one of both says which axis is which.
    let is_usual = [1, 3, 4].contains(&h);
    if w < 2 || c < 5 || !is_usual && h == w && w != c {
        return Ok(());
    }
    if !is_usual || w != c {
        notes.push(format!(
            "{place} is taken for pictures of {h} x {w} pixels with {c} channels; were they meant as [n, c, h, w], their axes need to be \
             [n, h, w, c]"
        ));
        return Ok(());
    }
    let found = format!("[n, {h}, {w}, {c}]: pictures in the order [n, c, h, w]");
    let fix = format!(
        "write them in the other order, in Python: images.transpose(0, 2, 3, 1), which makes [n, {w}, {c}, {h}]"
    );
    Err(Error::invalid(format!("{} {place}", path.display()), found, "[n, h, w, c]", fix))
}

fn check_labels(path: &Path, file: &hdf5::File, name: &str, rows: usize) -> Result<()> {
    let place = format!("/{name}/labels");
    let labels = foreign::dataset(path, file, &place[1..])?;
    let labels = labels.ok_or_else(|| {
        let found = format!("no such dataset; {}", contents::described(file, name));
        invalid(path, &place, found, "one label a row")
    })?;
    let (kind, words) = foreign::kind(&labels);
    if !matches!(kind, Some(TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_))) {
        return Err(invalid(path, &place, format!("values of {words}"), "integers"));
    }
    if labels.shape() != [rows] {
        return Err(invalid(path, &place, foreign::extent(&labels), format!("[{rows}], one label a row")));
    }
    all_written(path, &place, &labels)
}

/// Whether a file has all parts of a dataset: HDF5 reads zeros where none was written.
fn all_written(path: &Path, place: &str, dataset: &hdf5::Dataset) -> Result<()> {
    let Some((all, there)) = foreign::written(dataset).filter(|(all, there)| there < all) else {
        return Ok(());
    };
    let rows = dataset.shape().first().copied().unwrap_or(0);
    let found = match ((all - there) as u128 * rows as u128).div_ceil(all as u128) {
        _ if there == 0 => format!("none of its {rows} rows was ever written"),
        missing => format!("about {missing} of {rows} rows were never written ({} of {all} chunks)", all - there),
    };
    let fix = "write all rows, or cut the datasets to those that were written (in h5py: dataset.resize(ROWS, axis=0))";
    Err(Error::invalid(format!("{} {place}", path.display()), found, "all rows", fix))
}

/// An attribute of one string, or of `most`, whichever way HDF5 stores them (h5py writes variable-length UTF-8). Several may be
/// one long text of the file: each takes its memory.
pub(crate) fn strings(file: &hdf5::File, name: &str, most: usize) -> hdf5::Result<Option<Vec<String>>> {
    if !file.attr_names()?.iter().any(|n| n == name) {
        return Ok(None);
    }
    let attribute = file.attr(name)?;
    if attribute.size() > most {
        return Err(hdf5::Error::Internal(format!("{name} has {} values, not {most} at most", attribute.size())));
    }
    Ok(Some(texts::read(&attribute, None)?.iter().map(|text| valid(text)).collect()))
}

/// HDF5 and its crate promise UTF-8, and look at no byte.
pub(crate) fn valid(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
