//! The outline of a dataset file: which groups, datasets and attributes are there, and whether they make a dataset.

use std::path::Path;

use hdf5::H5Type;
use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};

use super::{RowShape, Split, class_names, foreign};
use crate::error::{Error, Result};

/// What to do about a file that is no dataset.
pub const FIX: &str = "check that it is a complete dataset; 'The HDF5 schema' in README.md describes one";

/// What is known of a dataset before a row is read.
#[derive(Debug)]
pub struct Schema {
    /// What a row is.
    pub shape: RowShape,
    /// Class names, in label order, where the file has them.
    pub classes: Option<Vec<String>>,
    /// What the file says it was made from.
    pub origin: Option<String>,
    /// The splits that are there, with their rows.
    pub splits: Vec<(Split, usize)>,
}

/// Checks groups, types and shapes.
///
/// # Errors
/// When the file is not such a dataset; says what was found, where, and what was expected.
pub fn read(path: &Path, file: &hdf5::File) -> Result<Schema> {
    let mut shape = None;
    let mut splits = Vec::new();
    for split in Split::ALL {
        if file.link_exists(split.name()) {
            let (found, rows) = check_split(path, file, split)?;
            match shape {
                Some(shape) if shape != found => {
                    return Err(invalid(
                        path,
                        &format!("/{}", split.name()),
                        found.to_string(),
                        format!("{shape}, as in /train"),
                    ));
                }
                _ => shape = Some(found),
            }
            splits.push((split, rows));
        } else if split == Split::Train {
            return Err(invalid(path, "/train", "no such group", "a group with images (or features) and labels"));
        }
    }
    let classes = class_names::read(path, file)?;
    let origin = strings(file, "origin", 1).ok().flatten().and_then(|mut names| names.pop());
    let shape = shape.unwrap_or(RowShape::Features { d: 0 });
    Ok(Schema { shape, classes, origin, splits })
}

/// What is wrong at a place of the file.
pub fn invalid(path: &Path, place: &str, found: impl Into<String>, expected: impl Into<String>) -> Error {
    Error::invalid(format!("{} {place}", path.display()), found, expected, FIX)
}

fn check_split(path: &Path, file: &hdf5::File, split: Split) -> Result<(RowShape, usize)> {
    let name = split.name();
    let of = |rows: &str| foreign::dataset(path, file, &format!("{name}/{rows}"));
    let (rows, dataset) = match of("images")? {
        Some(dataset) => ("images", Some(dataset)),
        None => ("features", of("features")?),
    };
    let place = format!("/{name}/{rows}");
    let dataset = dataset.ok_or_else(|| {
        invalid(path, &format!("/{name}"), "neither 'images' nor 'features'", "a dataset of one of them")
    })?;
    let kind = dataset.dtype().and_then(|t| t.to_descriptor()).map_err(Error::hdf5(
        format!("read the type of {place} of"),
        path,
        FIX,
    ))?;
    let sizes = dataset.shape();
    let shape = match (rows, &sizes[..]) {
        ("images", &[_, h, w, c]) => RowShape::Image { h, w, c },
        ("features", &[_, d]) => RowShape::Features { d },
        (_, sizes) => {
            let expected = if rows == "images" { "4 axes [n, h, w, c]" } else { "2 axes [n, d]" };
            return Err(invalid(path, &place, format!("{} axes {sizes:?}", sizes.len()), expected));
        }
    };
    let fits = match shape {
        RowShape::Image { .. } => kind == TypeDescriptor::Unsigned(hdf5::types::IntSize::U1),
        RowShape::Features { .. } => matches!(kind, TypeDescriptor::Float(_)),
    };
    if !fits {
        let expected = if rows == "images" { "u8" } else { "f32" };
        return Err(invalid(path, &place, format!("values of type {kind}"), format!("values of type {expected}")));
    }
    let values = sizes[1..].iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    if values.is_none_or(|values| values > 1 << 40) {
        return Err(invalid(path, &place, format!("shape {sizes:?}"), "rows of at most 2^40 values"));
    }
    if sizes[0] == 0 || shape.is_empty() || sizes[0] > u32::MAX as usize {
        return Err(invalid(path, &place, format!("shape {sizes:?}"), "1 to 2^32 rows, and no empty axis"));
    }
    check_labels(path, file, name, sizes[0])?;
    Ok((shape, sizes[0]))
}

fn check_labels(path: &Path, file: &hdf5::File, name: &str, rows: usize) -> Result<()> {
    let place = format!("/{name}/labels");
    let labels = foreign::dataset(path, file, &place[1..])?;
    let labels = labels.ok_or_else(|| invalid(path, &place, "no such dataset", "one label a row"))?;
    let kind = labels.dtype().and_then(|t| t.to_descriptor()).map_err(Error::hdf5(
        format!("read the type of {place} of"),
        path,
        FIX,
    ))?;
    if !matches!(kind, TypeDescriptor::Integer(_) | TypeDescriptor::Unsigned(_)) {
        return Err(invalid(path, &place, format!("values of type {kind}"), "integers"));
    }
    if labels.shape() != [rows] {
        return Err(invalid(path, &place, format!("shape {:?}", labels.shape()), format!("[{rows}], one label a row")));
    }
    Ok(())
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
    use TypeDescriptor as Type;
    let texts = match attribute.dtype()?.to_descriptor()? {
        Type::VarLenUnicode => texts::<VarLenUnicode>(&attribute)?,
        Type::VarLenAscii => texts::<VarLenAscii>(&attribute)?,
        Type::FixedUnicode(_) => texts::<FixedUnicode<256>>(&attribute)?,
        Type::FixedAscii(_) => texts::<FixedAscii<256>>(&attribute)?,
        other => return Err(hdf5::Error::Internal(format!("{name} is of {other}, not of text"))),
    };
    Ok(Some(texts))
}

fn texts<T: H5Type + AsRef<[u8]>>(attribute: &hdf5::Attribute) -> hdf5::Result<Vec<String>> {
    Ok(attribute.read_raw::<T>()?.iter().map(|text| valid(text.as_ref())).collect())
}

/// HDF5 and its crate promise UTF-8, and look at no byte.
pub(crate) fn valid(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
