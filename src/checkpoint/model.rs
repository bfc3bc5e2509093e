//! A trained model as one HDF5 file, enough by itself: weights by name, the network, the preparation of its input, the
//! class names.
//!
//! Attributes of the file: `format`, `version`, `spec` (the network as TOML), `input` `[h, w, c]`, `features` (1 where
//! the input is a vector), `classes` (a dataset where they are more than 4000), `normalize`, `values_xxh3` (of all
//! numbers: a damaged one is found). Datasets: `/params/<name>` f32, and with dataset normalisation `mean` and
//! `inverse_deviation`. The file is built in memory and
//! written as bytes, because HDF5 does not survive a full disk.

use std::hash::Hasher;
use std::path::Path;

use hdf5::types::VarLenUnicode;
use ndarray::ArrayViewD;
use twox_hash::XxHash3_64;

use super::image::Image;
use crate::data::texts::unicode;
use crate::data::{Normalize, Normalizer, RowShape, class_names, foreign, open, schema};
use crate::error::{Error, Result};
use crate::files::write_whole_parts;
use crate::kernels::zeros;
use crate::model::Engine;
use crate::model::{Model, ModelSpec, Params};

const FORMAT: &str = "glasses model";
const VERSION: i64 = 1;
/// The attribute with the digest of all numbers.
const DIGEST: &str = "values_xxh3";
const FIX: &str = "give a model.h5 that `glasses train` wrote";

/// A model that can be used: everything that `eval` and `predict` need.
#[derive(Debug)]
pub struct SavedModel {
    /// The network.
    pub model: Model,
    /// Its weights.
    pub params: Params,
    /// What a row of its input is.
    pub shape: RowShape,
    /// How a row is prepared.
    pub normalizer: Normalizer,
    /// Class names, in label order.
    pub classes: Vec<String>,
}

impl SavedModel {
    /// The same for use: norms are computed by the convolutions in front of them, where these can.
    ///
    /// # Errors
    /// Never for a model that was read.
    pub fn folded(mut self) -> Result<SavedModel> {
        if let Some((model, params)) = self.model.folded(&self.params)? {
            (self.model, self.params) = (model, params);
        }
        Ok(self)
    }
}

/// Writes a model file, whole or not at all.
///
/// # Errors
/// When the folder or the disk refuses.
pub fn write(
    path: &Path,
    model: &Model,
    params: &Params,
    shape: RowShape,
    normalizer: &Normalizer,
    classes: &[String],
) -> Result<()> {
    let fix = "this is a bug or a lack of memory";
    let (mean, inverse) = normalizer.parts();
    let numbers = size_of_val(&params.values[..]) + size_of_val(mean) + size_of_val(inverse);
    let content = numbers + class_names::bytes(classes);
    let image =
        Image::build(0, (params.table.len(), content), |file| fill(file, model, params, shape, normalizer, classes));
    let image = image.map_err(Error::hdf5("build", path, fix))?;
    write_whole_parts(path, &image.parts().map_err(Error::hdf5("build", path, fix))?)
}

fn fill(
    file: &hdf5::File,
    model: &Model,
    params: &Params,
    shape: RowShape,
    normalizer: &Normalizer,
    classes: &[String],
) -> hdf5::Result<()> {
    let text = |name: &str, value: &str| -> hdf5::Result<()> {
        file.new_attr::<VarLenUnicode>().create(name)?.write_scalar(&unicode(value))
    };
    text("format", FORMAT)?;
    file.new_attr::<i64>().create("version")?.write_scalar(&VERSION)?;
    text("spec", &toml::to_string(&model.spec).map_err(|e| hdf5::Error::Internal(e.to_string()))?)?;
    file.new_attr_builder().with_data(&shape.hwc().map(|size| size as i64)).create("input")?;
    let features = i64::from(matches!(shape, RowShape::Features { .. }));
    file.new_attr::<i64>().create("features")?.write_scalar(&features)?;
    class_names::write(file, classes)?;
    text("normalize", normalizer.mode().name())?;
    text(DIGEST, &digest(params, normalizer))?;
    let (mean, inverse) = normalizer.parts();
    let group = file.create_group("params")?;
    if !mean.is_empty() {
        // Datasets, not attributes: an attribute holds at most 64 KiB, and features may be many.
        file.new_dataset_builder().with_data(mean).create("mean")?;
        file.new_dataset_builder().with_data(inverse).create("inverse_deviation")?;
    }
    for param in params.table.iter() {
        let values = ArrayViewD::from_shape(&param.shape[..], &params.values[param.range.clone()])
            .map_err(|e| hdf5::Error::Internal(e.to_string()))?;
        group.new_dataset_builder().with_data(values).create(&*param.name)?;
    }
    Ok(())
}

/// XXH3 of all numbers of a model: its parameters in their order, means, inverse deviations, each little-endian. It is for accidents, and
/// takes no time.
fn digest(params: &Params, normalizer: &Normalizer) -> String {
    let mut hash = XxHash3_64::default();
    let (mean, inverse) = normalizer.parts();
    let tensors = params.table.iter().map(|param| &params.values[param.range.clone()]);
    tensors.chain([mean, inverse]).for_each(|values| hash.write(bytemuck::cast_slice::<f32, u8>(values)));
    format!("{:016x}", hash.finish())
}

/// Whether an open file says that it is a model.
pub fn is_model(file: &hdf5::File) -> bool {
    schema::strings(file, "format", 1).is_ok_and(|format| format.is_some_and(|f| f == [FORMAT]))
}

/// An open model file, of which all but the numbers has been read and checked.
struct Opened {
    file: open::OpenFile,
    model: Model,
    shape: RowShape,
    mode: Normalize,
    classes: Vec<String>,
}

fn open(path: &Path) -> Result<Opened> {
    let file = open::open(path)?;
    let invalid = |what: &str, found: String, expected: String| Error::invalid(place(path, what), found, expected, FIX);
    if !is_model(&file) {
        return Err(invalid("", "an HDF5 file that is not a model".into(), format!("attribute format = '{FORMAT}'")));
    }
    let failed = |what: &str| Error::hdf5(format!("read {what} of"), path, FIX);
    let version: i64 = file.attr("version").and_then(|a| foreign::scalar(&a)).map_err(failed("version"))?;
    if version != VERSION {
        return Err(invalid("version", version.to_string(), format!("{VERSION}; a newer glasses may have written it")));
    }
    let text = |name: &str| -> Result<String> {
        let found = schema::strings(&file, name, 1).map_err(failed(name))?;
        found.and_then(|mut t| t.pop()).ok_or_else(|| invalid(name, "nothing".into(), "a text".into()))
    };
    let spec = ModelSpec::parse(&text("spec")?, &place(path, "spec"))?;
    let input: Vec<i64> = file.attr("input").and_then(|a| a.read_raw()).map_err(failed("input"))?;
    let features: i64 = file.attr("features").and_then(|a| foreign::scalar(&a)).map_err(failed("features"))?;
    let sizes: Vec<usize> = input.iter().filter_map(|&n| usize::try_from(n).ok()).filter(|n| *n < 1 << 24).collect();
    let shape = match (&sizes[..], features) {
        (&[h, w, c], 0) if h.checked_mul(w).and_then(|n| n.checked_mul(c)).is_some_and(|n| n > 0) => {
            RowShape::Image { h, w, c }
        }
        (&[1, 1, d], 1) if d > 0 => RowShape::Features { d },
        _ => return Err(invalid("input", format!("{input:?}"), "[h, w, c]".into())),
    };
    let classes = class_names::read(path, &file)?.unwrap_or_default();
    if classes.is_empty() {
        return Err(invalid("classes", "nothing".into(), "the names of the classes".into()));
    }
    let model = Model::new(spec, shape.hwc(), features == 1, classes.len(), Engine::Direct)
        .map_err(|e| invalid("", format!("parts that do not fit each other: {e}"), "a whole model".into()))?;
    let mode = text("normalize")?;
    let mode = <Normalize as clap::ValueEnum>::from_str(&mode, false)
        .map_err(|_| invalid("normalize", mode, "per-image, dataset, unit or none".into()))?;
    foreign::fits(path, "params", model.values().checked_mul(4))?;
    Ok(Opened { file, model, shape, mode, classes })
}

/// Reads what HDF5 looks at in a model file, and numbers only where more is done to them than copying: whether it survives that.
///
/// # Errors
/// As [`read`](super::read), but for the numbers themselves.
pub fn look(path: &Path) -> Result<()> {
    let Opened { file, model, shape, mode, .. } = open(path)?;
    let look = |name: &str, shape: &[usize]| {
        let dataset = dataset(path, &file, name, shape)?;
        let look = || -> hdf5::Result<()> {
            let is_packed = foreign::look(&dataset)?;
            if is_packed || !dataset.dtype()?.is::<f32>() { dataset.read_raw::<f32>().map(drop) } else { Ok(()) }
        };
        look().map_err(Error::hdf5(format!("read /{name} of"), path, FIX))
    };
    if mode == Normalize::Dataset {
        ["mean", "inverse_deviation"].iter().try_for_each(|name| look(name, &[shape.hwc()[2]]))?;
    }
    model.table.iter().try_for_each(|param| look(&format!("params/{}", param.name), &param.shape))
}

/// Reads a model file and checks all of it.
///
/// # Errors
/// When it is not a whole model file of a version that we know.
pub fn read_model(path: &Path) -> Result<SavedModel> {
    let Opened { file, model, shape, mode, classes } = open(path)?;
    let channels = shape.hwc()[2];
    let normalizer = if mode == Normalize::Dataset {
        let numbers = |name: &str| {
            let dataset = dataset(path, &file, name, &[channels])?;
            let mut numbers = vec![0.0; channels];
            read_into(path, name, &dataset, &mut numbers).map(|()| numbers)
        };
        Normalizer::from_parts(mode, channels, numbers("mean")?, numbers("inverse_deviation")?)
    } else {
        Normalizer::new(mode, channels)
    };
    // A lack of memory is a message here, and a crash anywhere else.
    Vec::<f32>::new().try_reserve_exact(model.values()).map_err(|_| {
        let expected = "weights that fit into the memory of this machine";
        Error::invalid(
            place(path, "/params"),
            format!("{} weights", model.parameters()),
            expected,
            "take one with more",
        )
    })?;
    let mut values = zeros(model.values());
    for param in model.table.iter() {
        let name = format!("params/{}", param.name);
        let dataset = dataset(path, &file, &name, &param.shape)?;
        read_into(path, &name, &dataset, &mut values[param.range.clone()])?;
    }
    let params = Params { values, table: model.table.clone() };
    // Older files have none.
    let said = schema::strings(&file, DIGEST, 1).map_err(Error::hdf5(format!("read {DIGEST} of"), path, FIX))?;
    if said.and_then(|mut said| said.pop()).is_some_and(|said| said != digest(&params, &normalizer)) {
        let found = "numbers that do not match the digest beside them";
        return Err(Error::invalid(place(path, "/params"), found, "those that were written: it is damaged", FIX));
    }
    Ok(SavedModel { model, params, shape, normalizer, classes })
}

fn place(path: &Path, what: &str) -> String {
    format!("{} {what}", path.display()).trim_end().to_owned()
}

/// A dataset of exactly this shape.
fn dataset(path: &Path, file: &hdf5::File, name: &str, shape: &[usize]) -> Result<hdf5::Dataset> {
    let dataset = foreign::dataset(path, file, name)?;
    let dataset =
        dataset.ok_or_else(|| Error::invalid(place(path, &format!("/{name}")), "nothing", "a dataset", FIX))?;
    if dataset.shape() != shape {
        let found = format!("shape {:?}", dataset.shape());
        return Err(Error::invalid(place(path, &format!("/{name}")), found, format!("{shape:?}"), FIX));
    }
    Ok(dataset)
}

/// The numbers of a dataset of as many, where they belong.
fn read_into(path: &Path, name: &str, dataset: &hdf5::Dataset, values: &mut [f32]) -> Result<()> {
    dataset.read_into_raw(values).map_err(Error::hdf5(format!("read /{name} of"), path, FIX))?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let found = format!("{} as value {at}", values[at]);
            Err(Error::invalid(place(path, &format!("/{name}")), found, "finite numbers", FIX))
        }
    }
}
