//! Class names in an HDF5 file: the attribute `classes`, or, for more than an attribute holds, a dataset of that name.

use std::ops::Deref;
use std::path::Path;

use hdf5::Container;
use hdf5::types::{TypeDescriptor, VarLenUnicode};

use super::refusal::{self, FIX};
use super::{foreign, texts};
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
    let names: Vec<VarLenUnicode> = classes.iter().map(|name| texts::unicode(name)).collect();
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
/// When they are no texts in UTF-8, none, more than [`MOST_CLASSES`], or longer than such a file can hold; when an attribute and a
/// dataset say different ones.
pub fn read(path: &Path, file: &hdf5::File) -> Result<Option<Vec<String>>> {
    let failed = || Error::hdf5("read the class names of", path, FIX);
    let has_attribute = file.attr_names().map_err(failed())?.iter().any(|name| name == NAME);
    let attribute = has_attribute.then(|| names(path, file.attr(NAME).map_err(failed())?, false)).transpose()?;
    // A group of that name is something else.
    if attribute.is_some() && foreign::link(file, NAME) == Some(0) && file.group(NAME).is_ok() {
        return Ok(attribute);
    }
    let dataset = foreign::dataset(path, file, NAME)?.map(|dataset| names(path, dataset, true)).transpose()?;
    match (attribute, dataset) {
        (Some(attribute), Some(dataset)) if of_json(&attribute).as_ref().unwrap_or(&attribute) != &dataset => {
            let [one, other] = [&attribute, &dataset].map(|names| brief(names));
            Err(Error::invalid(
                format!("{} /{NAME}", path.display()),
                format!("class names {other}, and in the attribute '{NAME}' {one}"),
                "class names in one place, or the same in both",
                format!("delete one of them, in Python: del file['{NAME}'] or del file.attrs['{NAME}']"),
            ))
        }
        (attribute, dataset) => Ok(attribute.or(dataset)),
    }
}

/// Names that are written as one JSON text, as attributes often are.
pub fn of_json(names: &[String]) -> Option<Vec<String>> {
    let [one] = names else { return None };
    let values = serde_json::from_str::<Vec<serde_json::Value>>(one).ok().filter(|values| !values.is_empty())?;
    let text = |value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    Some(values.into_iter().map(text).collect())
}

/// The names of an attribute or a dataset.
fn names<T: Deref<Target = Container>>(path: &Path, of: T, is_dataset: bool) -> Result<Vec<String>> {
    let place = if is_dataset { format!("/{NAME}") } else { format!("attribute '{NAME}'") };
    let invalid = |found: String, expected: String| Err(refusal::invalid(path, &place, found, expected));
    use TypeDescriptor as Type;
    match foreign::kind(&of) {
        (Some(Type::VarLenUnicode | Type::VarLenAscii), _) => {}
        (Some(Type::FixedUnicode(length) | Type::FixedAscii(length)), _) => {
            if length > texts::LONGEST {
                let expected = format!("texts of at most {} bytes, or of variable length", texts::LONGEST);
                return invalid(format!("texts of {length} bytes"), expected);
            }
        }
        (_, kind) => return invalid(format!("values of {kind}"), "texts, a name for each class".to_owned()),
    }
    let (count, axes) = (of.space().map_or(0, |space| space.size()), of.shape());
    if count == 0 {
        return invalid(foreign::extent(&of), "a name for each class".to_owned());
    }
    let long_axes = axes.iter().filter(|&&length| length != 1).count();
    if is_dataset && axes.len() != 1 || long_axes > 1 || count > MOST_CLASSES {
        return invalid(foreign::extent(&of), format!("one axis of at most {MOST_CLASSES} names"));
    }
    let failed = || Error::hdf5(format!("read {place} of"), path, FIX);
    let mut names = Vec::with_capacity(count);
    for first in (0..count).step_by(if is_dataset { TOGETHER } else { count }) {
        let range = is_dataset.then(|| first..count.min(first + TOGETHER));
        for name in texts::read(&of, range).map_err(failed())? {
            let name = String::from_utf8(name).map_err(|e| {
                let found = format!("a name that is not UTF-8: '{}'", String::from_utf8_lossy(e.as_bytes()));
                let fix = "write the names again, in Python: [name.decode('latin-1') for name in names]";
                Error::invalid(format!("{} {place}[{}]", path.display(), names.len()), found, "UTF-8", fix)
            })?;
            names.push(name);
        }
        foreign::fits(path, NAME, Some(names.iter().map(String::len).sum()))?;
    }
    Ok(names)
}

/// Whether classes are called 0, 1, 2 …, as those are that nobody named.
pub fn are_numbers(names: &[String]) -> bool {
    names.iter().enumerate().all(|(class, name)| *name == class.to_string())
}

/// What is said where labels without names meet the named classes of a model.
pub fn taken_as_numbers(names: &[String]) -> String {
    let first: Vec<String> =
        names.iter().take(3).enumerate().map(|(class, name)| format!("{class} is {name}")).collect();
    let more = if names.len() > first.len() { ", …" } else { "" };
    format!(
        "there are no class names beside the labels: they are taken as numbers of the named classes ({}{more})",
        first.join(", ")
    )
}
