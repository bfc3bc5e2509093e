//! Class names in an HDF5 file: the attribute `classes`, or, for more than an attribute holds, a dataset of that name.

use std::path::Path;

use hdf5::H5Type;
use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use ndarray::{Ix1, s};

use super::writer::unicode;
use super::{foreign, schema};
use crate::error::{Error, Result, printable_name};

/// The most classes that a file may name, or tell of by its labels.
pub const MOST_CLASSES: usize = 1 << 16;

/// Names that are written as an attribute. It holds 64 KiB with all that describes it; a name takes 16 bytes there, its letters lie
/// elsewhere.
const MOST_IN_ATTRIBUTE: usize = 4000;

/// Names that are read at once: several may be one long text of the file.
const TOGETHER: usize = 1024;

const NAME: &str = "classes";

/// Writes the names, in label order.
///
/// # Errors
/// When HDF5 refuses.
pub fn write(file: &hdf5::File, classes: &[String]) -> hdf5::Result<()> {
    let names: Vec<VarLenUnicode> = classes.iter().map(|name| unicode(name)).collect();
    if names.len() <= MOST_IN_ATTRIBUTE {
        file.new_attr_builder().with_data(&names).create(NAME).map(drop)
    } else {
        file.new_dataset_builder().with_data(&names).create(NAME).map(drop)
    }
}

/// Bytes that the names take in a file, at most.
pub fn bytes(classes: &[String]) -> usize {
    classes.iter().map(|name| name.len() + 64).sum()
}

/// A list for a person: of more than 100 the first few.
pub fn brief(names: &[String]) -> String {
    if names.len() <= 100 {
        one_line(names)
    } else {
        format!("{}, … ({} in all)", one_line(&names[..12]), names.len())
    }
}

fn one_line(names: &[String]) -> String {
    names.iter().map(|name| printable_name(name)).collect::<Vec<_>>().join(", ")
}

/// The names, in label order, where the file has them.
///
/// # Errors
/// When they are no texts, more than [`MOST_CLASSES`], or longer than such a file can hold.
pub fn read(path: &Path, file: &hdf5::File) -> Result<Option<Vec<String>>> {
    let failed = || Error::hdf5("read the class names of", path, schema::FIX);
    let attribute = schema::strings(file, NAME, MOST_CLASSES).map_err(failed())?;
    if attribute.is_some() {
        return Ok(attribute);
    }
    let Some(dataset) = foreign::dataset(path, file, NAME)? else { return Ok(None) };
    let kind = dataset.dtype().and_then(|kind| kind.to_descriptor()).map_err(failed())?;
    let place = format!("/{NAME}");
    let count = match dataset.shape()[..] {
        [count] if count <= MOST_CLASSES => count,
        ref shape => {
            let expected = format!("one axis of at most {MOST_CLASSES} names");
            return Err(schema::invalid(path, &place, format!("shape {shape:?}"), expected));
        }
    };
    let mut names = Vec::with_capacity(count);
    for first in (0..count).step_by(TOGETHER) {
        let range = first..count.min(first + TOGETHER);
        use TypeDescriptor as Type;
        let more = match kind {
            Type::VarLenUnicode => texts::<VarLenUnicode>(&dataset, range),
            Type::VarLenAscii => texts::<VarLenAscii>(&dataset, range),
            Type::FixedUnicode(_) => texts::<FixedUnicode<256>>(&dataset, range),
            Type::FixedAscii(_) => texts::<FixedAscii<256>>(&dataset, range),
            _ => return Err(schema::invalid(path, &place, format!("values of type {kind}"), "texts")),
        };
        names.extend(more.map_err(failed())?);
        foreign::fits(path, NAME, Some(names.iter().map(String::len).sum()))?;
    }
    Ok(Some(names))
}

fn texts<T: H5Type + AsRef<[u8]>>(dataset: &hdf5::Dataset, range: std::ops::Range<usize>) -> hdf5::Result<Vec<String>> {
    let texts = dataset.read_slice::<T, _, Ix1>(s![range])?;
    Ok(texts.iter().map(|text| schema::valid(text.as_ref())).collect())
}
