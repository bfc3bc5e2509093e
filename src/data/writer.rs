//! Writes a dataset file. The schema in words (README.md has it for users):
//!
//! - `/train/images` u8 `[n, h, w, c]`, or `/train/features` f32 `[n, d]`, chunked by rows;
//! - `/train/labels` i64 `[n]`, `0 .. classes`;
//! - the same under `/test` and `/val` where there are such rows;
//! - class names, in label order: the attribute `classes` of the file, or, for more than 4000, a dataset `/classes`;
//! - attributes of the file: `origin` (a sentence: what it was made from), and counts, such as `skipped` and `unlabelled`, where rows of the origin were left out.

use std::path::{Path, PathBuf};

use hdf5::plist::dataset_create::{AllocTime, FillTime};
use hdf5::types::VarLenUnicode;
use ndarray::{ArrayView1, ArrayView2, ArrayView4, s};
use tempfile::TempPath;

use super::class_names::MOST_CLASSES;
use super::split::Assignment;
use super::texts::unicode;
use super::{RowShape, Split, class_names, rows_name};
use crate::error::{Error, Result};
use crate::files::{behind_links, check_replaceable, hold, temporary_beside};

/// About how many bytes a chunk holds.
const CHUNK: usize = 1 << 20;

const FIX: &str = "check the disk; nothing half-written was left";

/// Values of consecutive rows.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Pixels, row after row.
    Images(&'a [u8]),
    /// Features, row after row.
    Features(&'a [f32]),
}

/// A dataset file in the making: it gets its name when it is finished, and vanishes when it is not.
pub struct Writer {
    file: hdf5::File,
    temporary: TempPath,
    path: PathBuf,
    shape: RowShape,
}

impl Writer {
    /// As [`Writer::create_with`], without counts.
    ///
    /// # Errors
    /// As [`Writer::create_with`].
    pub fn create(
        path: &Path,
        replace: bool,
        shape: RowShape,
        rows: &Assignment,
        classes: &[String],
        origin: &str,
    ) -> Result<Writer> {
        Writer::create_with(path, replace, shape, rows, classes, origin, &[])
    }

    /// Takes the whole file's space on disk at once (HDF5 does not survive a disk that fills up later). `counts` become
    /// attributes of the file.
    ///
    /// # Errors
    /// When the file exists and `replace` is false, or the folder or the disk refuses it.
    pub fn create_with(
        path: &Path,
        replace: bool,
        shape: RowShape,
        rows: &Assignment,
        classes: &[String],
        origin: &str,
        counts: &[(&str, u64)],
    ) -> Result<Writer> {
        check_place(path, replace)?;
        let path = &behind_links(path);
        if classes.len() > MOST_CLASSES {
            let expected = format!("at most {MOST_CLASSES}");
            return Err(Error::invalid(
                "the data",
                format!("{} classes", classes.len()),
                expected,
                "leave some classes out",
            ));
        }
        probe(path, file_size(shape, rows, classes, origin))?;
        let temporary = temporary_beside(path)?.into_temp_path();
        let create = || -> hdf5::Result<()> {
            // HDF5 makes it anew: not behind the back of who removes it.
            let held = hold();
            let file = hdf5::File::create(&temporary)?;
            drop(held);
            class_names::write(&file, classes)?;
            file.new_attr::<VarLenUnicode>().create("origin")?.write_scalar(&unicode(origin))?;
            for (name, count) in counts {
                file.new_attr::<u64>().create(*name)?.write_scalar(count)?;
            }
            for split in Split::ALL {
                let count = rows.of(split).len();
                if count > 0 {
                    create_split(&file, split, shape, count)?;
                }
            }
            file.close()
        };
        create().map_err(Error::hdf5("create", path, FIX))?;
        reserve(&temporary).map_err(Error::io("reserve the space for", path))?;
        let file = hdf5::File::open_rw(&temporary).map_err(Error::hdf5("reopen", path, FIX))?;
        Ok(Writer { file, temporary, path: path.to_owned(), shape })
    }

    /// Writes consecutive rows of `split`, starting at `first`.
    ///
    /// # Errors
    /// When HDF5 refuses.
    ///
    /// # Panics
    /// When the values do not make whole rows, one a label.
    pub fn write(&self, split: Split, first: usize, values: Rows<'_>, labels: &[i64]) -> Result<()> {
        let end = first + labels.len();
        let write = || -> hdf5::Result<()> {
            let group = self.file.group(split.name())?;
            let dataset = group.dataset(rows_name(self.shape))?;
            match (values, self.shape) {
                (Rows::Images(pixels), RowShape::Image { h, w, c }) => {
                    let view = ArrayView4::from_shape((labels.len(), h, w, c), pixels).expect("whole rows");
                    dataset.write_slice(&view, s![first..end, .., .., ..])?;
                }
                (Rows::Features(features), RowShape::Features { d }) => {
                    let view = ArrayView2::from_shape((labels.len(), d), features).expect("whole rows");
                    dataset.write_slice(&view, s![first..end, ..])?;
                }
                _ => panic!("the rows are not what the file was created for"),
            }
            group.dataset("labels")?.write_slice(&ArrayView1::from(labels), s![first..end])
        };
        write().map_err(Error::hdf5(format!("write /{} of", split.name()), &self.path, FIX))
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// When the disk refuses; nothing is left then.
    pub fn finish(self) -> Result<()> {
        self.file.close().map_err(Error::hdf5("close", &self.path, FIX))?;
        let sync = || std::fs::File::open(&self.temporary)?.sync_all();
        sync().map_err(Error::io("write", &self.path))?;
        self.temporary.persist(&self.path).map_err(|e| Error::io("name", &self.path)(e.error))
    }
}

/// Whether a dataset can be put at `path`. Cheap: ask before long work.
///
/// # Errors
/// When something of that name is there (`replace` allows a file), or the folder cannot be written.
pub fn check_place(path: &Path, replace: bool) -> Result<()> {
    let place = path.display().to_string();
    if path.is_dir() {
        return Err(Error::invalid(place, "a folder", "the name of a file to write", "add a name, such as data.h5"));
    }
    check_replaceable(path)?;
    if !replace && path.symlink_metadata().is_ok() {
        let fix = "choose another name, or pass --force to replace it";
        return Err(Error::invalid(place, "a file of that name", "none yet", fix));
    }
    temporary_beside(path)?;
    Ok(())
}

/// An upper bound of the file's size: rows in whole chunks, and what HDF5 needs to find them.
fn file_size(shape: RowShape, rows: &Assignment, classes: &[String], origin: &str) -> u64 {
    let mut bytes = (1 << 16) + 2 * (origin.len() + class_names::bytes(classes)) as u64;
    for split in Split::ALL {
        let count = rows.of(split).len();
        if count > 0 {
            let (chunk, row) = (chunk_rows(shape, count), row_bytes(shape));
            let chunks = count.div_ceil(chunk) as u64;
            bytes += chunks * ((chunk * row) as u64 + 64) + 8 * count as u64 + (1 << 13);
        }
    }
    bytes
}

/// Asks for the space before HDF5 creates anything: even its first write must not meet a full disk.
fn probe(path: &Path, bytes: u64) -> Result<()> {
    let file = temporary_beside(path)?;
    match fs4::fs_std::FileExt::allocate(file.as_file(), bytes) {
        Err(e) if is_unsupported(&e) => Ok(()),
        other => other.map_err(Error::io("reserve the space for", path)),
    }
}

/// Takes every byte of the file on the disk now. Where the file system cannot promise space (some network file
/// systems), the file's bytes, zeros mostly, are written where they stand.
fn reserve(path: &Path) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom, Write};
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    match fs4::fs_std::FileExt::allocate(&file, length) {
        Err(e) if is_unsupported(&e) => {}
        other => return other,
    }
    let mut buffer = vec![0; CHUNK];
    let mut position = 0;
    while position < length {
        let part = &mut buffer[..(length - position).min(CHUNK as u64) as usize];
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(part)?;
        file.seek(SeekFrom::Start(position))?;
        file.write_all(part)?;
        position += part.len() as u64;
    }
    file.sync_all()
}

fn is_unsupported(error: &std::io::Error) -> bool {
    // Rust does not count ENOTSUP, which some file systems give, as unsupported on all platforms.
    error.kind() == std::io::ErrorKind::Unsupported || error.raw_os_error() == Some(95)
}

fn row_bytes(shape: RowShape) -> usize {
    shape.len() * if matches!(shape, RowShape::Image { .. }) { 1 } else { 4 }
}

fn chunk_rows(shape: RowShape, count: usize) -> usize {
    (CHUNK / row_bytes(shape)).clamp(1, count)
}

fn create_split(file: &hdf5::File, split: Split, shape: RowShape, count: usize) -> hdf5::Result<()> {
    let group = file.create_group(split.name())?;
    let rows = chunk_rows(shape, count);
    let (name, early) = (rows_name(shape), Some(AllocTime::Early));
    match shape {
        RowShape::Image { h, w, c } => {
            let builder = group.new_dataset::<u8>().chunk((rows, h, w, c)).alloc_time(early);
            builder.fill_time(FillTime::Never).shape((count, h, w, c)).create(name)?;
        }
        RowShape::Features { d } => {
            let builder = group.new_dataset::<f32>().chunk((rows, d)).alloc_time(early);
            builder.fill_time(FillTime::Never).shape((count, d)).create(name)?;
        }
    }
    let labels = group.new_dataset::<i64>().alloc_time(early).fill_time(FillTime::Never);
    labels.shape(count).create("labels")?;
    Ok(())
}
