//! Texts in HDF5 files, whichever way they are stored.

use std::ops::Range;

use hdf5::types::{FixedAscii, FixedUnicode, TypeDescriptor, VarLenAscii, VarLenUnicode};
use hdf5::{Container, H5Type};
use ndarray::{Ix1, s};

/// Bytes of the longest texts of a fixed length that are read: HDF5 would cut others off at it.
pub const LONGEST: usize = 256;

/// All texts of an attribute or a dataset, or a range of a dataset of one axis. HDF5 and its crate promise UTF-8, and look at no byte.
pub fn read(of: &Container, range: Option<Range<usize>>) -> hdf5::Result<Vec<Vec<u8>>> {
    use TypeDescriptor as Type;
    match of.dtype()?.to_descriptor()? {
        Type::VarLenUnicode => raw::<VarLenUnicode>(of, range),
        Type::VarLenAscii => raw::<VarLenAscii>(of, range),
        Type::FixedUnicode(length) if length <= LONGEST => raw::<FixedUnicode<LONGEST>>(of, range),
        Type::FixedAscii(length) if length <= LONGEST => raw::<FixedAscii<LONGEST>>(of, range),
        Type::FixedUnicode(length) | Type::FixedAscii(length) => {
            Err(hdf5::Error::Internal(format!("texts of {length} bytes are longer than {LONGEST}")))
        }
        other => Err(hdf5::Error::Internal(format!("values of type {other} are no texts"))),
    }
}

fn raw<T: H5Type + AsRef<[u8]>>(of: &Container, range: Option<Range<usize>>) -> hdf5::Result<Vec<Vec<u8>>> {
    let bytes = |text: &T| text.as_ref().to_vec();
    Ok(match range {
        Some(range) => of.read_slice::<T, _, Ix1>(s![range])?.iter().map(bytes).collect(),
        None => of.read_raw::<T>()?.iter().map(bytes).collect(),
    })
}

/// HDF5 strings end at a NUL, so one inside is replaced.
pub fn unicode(text: &str) -> VarLenUnicode {
    text.replace('\0', "\u{fffd}").parse().expect("no NUL is left")
}
