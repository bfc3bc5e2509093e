//! HDF5 files that somebody else wrote: what must hold before anything in them is followed.
//!
//! Only data of the file itself is read: a link to elsewhere, data kept in other files, a virtual dataset and a filter that HDF5
//! would load from a plug-in are refused by their names. And no dataset may be more than [`MOST`] times as long as its file:
//! headers may claim what they like, memory is taken for what can be there. (Whether HDF5 survives the file at all,
//! `glasses probe` finds out before.)

use std::mem::MaybeUninit;
use std::path::Path;

use hdf5::plist::dataset_create::Layout;
use hdf5::types::TypeDescriptor;
use hdf5::{Container, H5Type};
use hdf5_sys::h5l::{self, H5L_info1_t};
use hdf5_sys::h5p::{H5P_DEFAULT, H5Pget_external_count, H5Pget_filter2, H5Pget_nfilters};
use hdf5_sys::h5z::{H5Z_FILTER_DEFLATE, H5Z_FILTER_FLETCHER32, H5Z_FILTER_SHUFFLE};

use crate::error::{Error, Result};

/// How many times its file's length a dataset may be: what deflate can make of one byte.
pub const MOST: u64 = 1032;

const FIX: &str = "write the data itself into the file, plain or with gzip; h5repack and h5py can";

/// The dataset `name` (a path from the root) of the file at `path`; nothing where there is none.
///
/// # Errors
/// When it is not one that the file itself holds, or HDF5 cannot open it.
pub fn dataset(path: &Path, file: &hdf5::File, name: &str) -> Result<Option<hdf5::Dataset>> {
    let ends = name.match_indices('/').map(|(end, _)| end).chain([name.len()]);
    for part in ends.map(|end| &name[..end]) {
        match link(file, part) {
            None => return Ok(None),
            Some(0) => {}
            Some(kind) => {
                let found = if kind == 1 { "a soft link" } else { "a link to another file" };
                return Err(invalid(path, part, found.to_owned(), "the data itself"));
            }
        }
    }
    let failed = || Error::hdf5(format!("open /{name} of"), path, FIX);
    let dataset = match file.dataset(name) {
        Err(e) if e.to_string().contains("not a dataset") => {
            let found = if file.group(name).is_ok() { "a group" } else { "a named type" };
            return Err(invalid(path, name, found.to_owned(), "a dataset"));
        }
        opened => opened.map_err(failed())?,
    };
    let plist = dataset.dcpl().map_err(failed())?;
    if !matches!(plist.get_layout().map_err(failed())?, Layout::Compact | Layout::Contiguous | Layout::Chunked) {
        return Err(invalid(path, name, "a virtual dataset, of other files".to_owned(), "the data itself"));
    }
    let (externals, filters) = outside(plist.id());
    if externals != 0 {
        return Err(invalid(path, name, "data kept in other files".to_owned(), "the data itself"));
    }
    let known = [H5Z_FILTER_DEFLATE, H5Z_FILTER_SHUFFLE, H5Z_FILTER_FLETCHER32];
    let deflates = filters.iter().filter(|&&filter| filter == H5Z_FILTER_DEFLATE).count();
    if let Some(filter) = filters.iter().find(|filter| !known.contains(filter) || deflates > 1) {
        let found = if deflates > 1 { "gzip more than once".to_owned() } else { format!("the filter {filter}") };
        return Err(invalid(path, name, found, "plain values, or gzip once"));
    }
    let size = dataset.dtype().map_err(failed())?.size();
    let bytes = |dims: &[usize]| dims.iter().try_fold(size.max(1), |product, &dim| product.checked_mul(dim.max(1)));
    fits(path, name, bytes(&dataset.shape()))?;
    let chunk = plist.get_chunk().map_err(failed())?;
    fits(path, &format!("{name} (a chunk)"), bytes(&chunk.unwrap_or_default()))?;
    Ok(Some(dataset))
}

/// The type of the values, where the crate knows it; and in words.
pub fn kind(of: &Container) -> (Option<TypeDescriptor>, String) {
    match of.dtype().and_then(|kind| kind.to_descriptor()) {
        Ok(kind) => (Some(kind.clone()), format!("type {kind}")),
        Err(e) => (None, format!("a type that is not known here ({e})")),
    }
}

/// How many values there are, in words.
pub fn extent(of: &Container) -> String {
    match of.space() {
        Ok(space) if space.is_null() => "no values (a null dataspace)".to_owned(),
        Ok(space) if space.is_scalar() => "a single value".to_owned(),
        _ => format!("shape {:?}", of.shape()),
    }
}

/// The one value of an attribute or a dataset. HDF5 reads nothing of a null dataspace, and says that all is well.
pub fn scalar<T: H5Type>(of: &Container) -> hdf5::Result<T> {
    if of.is_scalar() { of.read_scalar() } else { Err(hdf5::Error::Internal(format!("{}, not one", extent(of)))) }
}

/// Has HDF5 go through the whole index of a dataset's chunks; whether more is done to its values than copying them, so that only
/// reading them shows what it makes of them.
pub fn look(dataset: &hdf5::Dataset) -> hdf5::Result<bool> {
    dataset.storage_size();
    Ok(!outside(dataset.dcpl()?.id()).1.is_empty())
}

/// Of a dataset in chunks, how many there are to be, and how many of them its file has; where values stand in one piece, whether that
/// is there. Nothing where that is not known.
pub fn written(dataset: &hdf5::Dataset) -> Option<(usize, usize)> {
    let plist = dataset.dcpl().ok()?;
    match plist.get_layout().ok()? {
        Layout::Contiguous => Some((1, usize::from(dataset.storage_size() > 0))),
        Layout::Chunked => {
            let chunks = dataset.shape().into_iter().zip(plist.get_chunk().ok()??);
            Some((chunks.map(|(size, chunk)| size.div_ceil(chunk.max(1))).product(), dataset.num_chunks()?))
        }
        _ => None,
    }
}

/// For HDF5 before 1.10.5, with which the crate has no such call of its own (which goes before this).
#[allow(dead_code)]
trait Chunks {
    fn num_chunks(&self) -> Option<usize> {
        None
    }
}

impl Chunks for hdf5::Dataset {}

/// Whether a file may hold so many bytes of `name`.
///
/// # Errors
/// When it is too short for them.
pub fn fits(path: &Path, name: &str, bytes: Option<usize>) -> Result<()> {
    let length = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
    let most = length.saturating_mul(MOST);
    if bytes.is_some_and(|bytes| bytes as u64 <= most) {
        return Ok(());
    }
    let found = bytes.map_or("more bytes than can be counted".to_owned(), |bytes| format!("{bytes} bytes"));
    let expected = format!("at most {most}, {MOST} for each byte of the file");
    Err(invalid(path, name, found, &expected))
}

fn invalid(path: &Path, name: &str, found: String, expected: &str) -> Error {
    Error::invalid(format!("{} /{name}", path.display()), found, expected, FIX)
}

/// The kind of a link: 0 is a hard one, 1 a soft one, others lead out of the file. The crate's own call gives undefined
/// values to an enumeration.
pub fn link(file: &hdf5::File, name: &str) -> Option<i32> {
    let (name, id) = (std::ffi::CString::new(name).ok()?, file.id());
    let mut info = MaybeUninit::<H5L_info1_t>::zeroed();
    let mut ask = || {
        // Older libraries know no other call.
        #[allow(unsafe_code, deprecated)]
        // SAFETY: the file is open, the name ends with a NUL, and there is room for what HDF5 writes, which begins with the
        // kind, a C `int`; zeros are one too.
        unsafe {
            let status = h5l::H5Lget_info1(id, name.as_ptr(), info.as_mut_ptr(), H5P_DEFAULT);
            (status, *info.as_ptr().cast::<i32>())
        }
    };
    let (status, kind) = hdf5::sync::sync(&mut ask);
    (status >= 0).then_some(kind)
}

/// How many files the data is kept in, and the numbers of the filters. The crate's own call panics where a filter has many
/// parameters.
fn outside(plist: hdf5_sys::h5i::hid_t) -> (i32, Vec<i32>) {
    hdf5::sync::sync(|| {
        // SAFETY: the property list is open; without parameters and a name HDF5 writes none.
        #[allow(unsafe_code)]
        let filter = |index: i32| unsafe {
            let (none, mut flags, mut parameters) = (std::ptr::null_mut(), 0, 0);
            let index = index.unsigned_abs();
            H5Pget_filter2(
                plist,
                index,
                &mut flags,
                &mut parameters,
                none,
                0,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
        };
        // SAFETY: as above.
        #[allow(unsafe_code)]
        let (externals, filters) = unsafe { (H5Pget_external_count(plist), H5Pget_nfilters(plist)) };
        (externals, (0..filters).map(filter).collect())
    })
}
