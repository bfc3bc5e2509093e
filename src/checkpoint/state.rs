//! A training checkpoint: named tensors and a text, in one file that says whether it is whole.
//!
//! Its first 512 bytes are text: `glasses checkpoint 1`, then the SHA-256 and the number of all bytes behind them, then
//! zeros. HDF5 calls that a user block and reads the file as any other: `/meta` is a string, tensors are f32 datasets
//! of the names they were given; the attributes `format` and `version` are for who looks with other tools.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hdf5::types::{FloatSize, TypeDescriptor, VarLenUnicode};
use ndarray::ArrayViewD;
use sha2::{Digest, Sha256};

use super::image::Image;
use crate::data::texts::unicode;
use crate::data::{foreign, schema};
use crate::error::{Error, Result};
use crate::files::write_whole_parts;

/// Length of the head, the shortest that HDF5 looks behind.
const HEAD: usize = 512;
const MAGIC: &str = "glasses checkpoint ";
const VERSION: u32 = 1;
/// Bytes that are hashed at once.
const PIECE: usize = 1 << 20;
const FIX: &str = "take an older checkpoint; if this one was copied, copy it again";

/// One named tensor of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    /// Groups and a name: `params/conv0.weight`, `optimizer/first/conv0.weight`.
    pub name: &'a str,
    /// Its shape; an axis may be 0.
    pub shape: &'a [usize],
    /// Its values, as many as the shape says. Any bits: NaN and infinity are kept as they are.
    pub values: &'a [f32],
}

/// Writes a checkpoint, whole or not at all. It takes memory for one image of the file.
///
/// # Errors
/// When the folder, the disk or the memory refuses; what stood at `path` before is untouched then. When a name is taken
/// twice, values do not fit their shape, or `meta` holds a NUL (JSON does not).
pub fn write_state(path: &Path, meta: &str, tensors: &[Tensor<'_>]) -> Result<()> {
    let failed = || Error::hdf5("build", path, "this is a bug or a lack of memory");
    let content = meta.len() + tensors.iter().map(|tensor| size_of_val(tensor.values)).sum::<usize>();
    let image = Image::build(HEAD, (tensors.len(), content), |file| {
        file.new_attr::<VarLenUnicode>().create("format")?.write_scalar(&unicode(MAGIC.trim_end()))?;
        file.new_attr::<u32>().create("version")?.write_scalar(&VERSION)?;
        // A dataset: an attribute holds at most 64 KiB.
        let text: VarLenUnicode = meta.parse().map_err(|e| hdf5::Error::Internal(format!("meta: {e}")))?;
        file.new_dataset::<VarLenUnicode>().create("meta")?.write_scalar(&text)?;
        for tensor in tensors {
            let values = ArrayViewD::from_shape(tensor.shape, tensor.values)
                .map_err(|e| hdf5::Error::Internal(format!("{}: {e}", tensor.name)))?;
            file.new_dataset_builder().with_data(values).create(tensor.name)?;
        }
        Ok(())
    });
    let image = image.map_err(failed())?;
    let [start, flags, rest] = image.parts().map_err(failed())?;
    let mut hash = Sha256::new();
    [start, flags, rest].iter().for_each(|part| hash.update(part));
    let head = head(hash, start.len() + flags.len() + rest.len());
    write_whole_parts(path, &[&head, start, flags, rest])
}

/// What stands in front of `bytes` bytes with this hash.
fn head(hash: Sha256, bytes: usize) -> [u8; HEAD] {
    let sha256: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let text = format!("{MAGIC}{VERSION}\nsha256 {sha256} of the {bytes} bytes behind this block\n");
    let mut head = [0; HEAD];
    head[..text.len()].copy_from_slice(text.as_bytes());
    head
}

/// A checkpoint whose bytes are those that were written. Tensors are read when they are asked for.
#[derive(Debug)]
pub struct State {
    /// The text.
    pub meta: String,
    path: PathBuf,
    file: hdf5::File,
}

impl State {
    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The values of a tensor.
    ///
    /// # Errors
    /// When there is none of this name, or it has another shape; no memory is taken before that is known.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        self.dataset(name, shape)?.read_raw().map_err(self.failed(name))
    }

    /// The values of a tensor, put where they belong.
    ///
    /// # Errors
    /// As [`State::tensor`].
    ///
    /// # Panics
    /// When `values` are not as many as `shape` says.
    pub fn read_into(&self, name: &str, shape: &[usize], values: &mut [f32]) -> Result<()> {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "room for {name}");
        self.dataset(name, shape)?.read_into_raw(values).map_err(self.failed(name)).map(drop)
    }

    /// Reads what HDF5 looks at for each tensor, and values only where more is done to them than copying: whether it survives that.
    ///
    /// # Errors
    /// When one of them is no such dataset.
    pub fn look(&self) -> Result<()> {
        for group in ["params", "optimizer/first", "optimizer/second"] {
            let names = self.file.group(group).and_then(|group| group.member_names()).unwrap_or_default();
            let names = names.into_iter().map(|name| format!("{group}/{name}"));
            for name in names {
                let Some(dataset) = foreign::dataset(&self.path, &self.file, &name)? else { continue };
                if foreign::look(&dataset).map_err(self.failed(&name))? {
                    dataset.read_raw::<f32>().map_err(self.failed(&name))?;
                }
            }
        }
        Ok(())
    }

    fn dataset(&self, name: &str, shape: &[usize]) -> Result<hdf5::Dataset> {
        let place = || format!("{} /{name}", self.path.display());
        let dataset = foreign::dataset(&self.path, &self.file, name)?;
        let dataset =
            dataset.ok_or_else(|| Error::invalid(place(), "nothing", format!("{shape:?} of float32"), FIX))?;
        let kind = dataset.dtype().and_then(|kind| kind.to_descriptor()).map_err(self.failed(name))?;
        if dataset.shape() != shape || kind != TypeDescriptor::Float(FloatSize::U4) {
            let found = format!("shape {:?} of {kind}", dataset.shape());
            let fix = "go on with the model and the optimizer that the checkpoint was made with";
            return Err(Error::invalid(place(), found, format!("{shape:?} of float32"), fix));
        }
        Ok(dataset)
    }

    fn failed(&self, name: &str) -> impl FnOnce(hdf5::Error) -> Error {
        Error::hdf5(format!("read /{name} of"), &self.path, FIX)
    }
}

/// Opens a checkpoint, after its checksum has been verified: HDF5 never sees damaged bytes.
///
/// # Errors
/// When the file cannot be read, is no checkpoint, was cut short or damaged, or is of a version that we do not know.
pub fn read_state(path: &Path) -> Result<State> {
    verify(path)?;
    let failed = |what| Error::hdf5(what, path, FIX);
    let file = hdf5::File::open(path).map_err(failed("open"))?;
    let meta = foreign::dataset(path, &file, "meta")?.ok_or_else(|| "there is no /meta".into());
    let meta = meta.and_then(|meta| foreign::scalar::<VarLenUnicode>(&meta));
    let meta = schema::valid(meta.map_err(failed("read /meta of"))?.as_bytes());
    Ok(State { meta, path: path.to_owned(), file })
}

/// Whether a file begins as checkpoints do.
///
/// # Errors
/// When it cannot be read.
pub fn is_state(path: &Path) -> Result<bool> {
    let file = crate::files::open(path)?;
    let mut start = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut start).map_err(Error::io("read", path))?;
    Ok(start == MAGIC.as_bytes())
}

/// Whether the bytes of a file are those that its head tells of.
fn verify(path: &Path) -> Result<()> {
    let invalid = |found: String, expected: String, fix: &str| {
        Err(Error::invalid(format!("checkpoint {}", path.display()), found, expected, fix))
    };
    let mut file = crate::files::open(path)?;
    let mut start = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut start).map_err(Error::io("read", path))?;
    let text = String::from_utf8_lossy(&start);
    let Some((version, rest)) = text.strip_prefix(MAGIC).and_then(|rest| rest.split_once('\n')) else {
        let found = if start.is_empty() { "an empty file" } else { "a file that does not begin as checkpoints do" };
        return invalid(found.to_owned(), format!("'{MAGIC}{VERSION}'"), FIX);
    };
    match version.parse::<u32>() {
        Ok(VERSION) => {}
        Ok(other) => {
            let fix = "go on with the version of glasses that wrote it, or with a newer one";
            return invalid(format!("version {other}"), format!("version {VERSION}"), fix);
        }
        Err(_) => return invalid(format!("version {version:?}"), format!("version {VERSION}"), FIX),
    }
    let (hash, bytes) = hash(file).map_err(Error::io("read", path))?;
    let said = rest.split(' ').nth(4).and_then(|bytes| bytes.parse::<usize>().ok());
    if let Some(said) = said.filter(|said| *said != bytes) {
        let found = format!("{bytes} bytes behind its head");
        return invalid(found, format!("{said}: it was cut short, or damaged"), FIX);
    }
    if start != head(hash, bytes) {
        let found = "bytes that do not match its checksum".to_owned();
        return invalid(found, "those that were written: it is damaged".to_owned(), FIX);
    }
    Ok(())
}

/// The hash of everything that is left to read, and how many bytes that was.
fn hash(mut file: File) -> std::io::Result<(Sha256, usize)> {
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; PIECE]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((hash, bytes)),
            Ok(read) => {
                hash.update(&piece[..read]);
                bytes += read;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
