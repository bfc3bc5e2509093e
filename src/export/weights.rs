//! Weights by name in a safetensors file, laid out as PyTorch wants them, and such files read into a network.
//!
//! Names are ours (`conv0.weight`, `dense7.bias`: kind and place of the layer). Convolution weights are
//! `[c_out, c_in / groups, kh, kw]`, dense weights `[outputs, inputs]`; the inputs of the first dense layer behind a picture are in
//! PyTorch's order (channel, row, column). A file that is read may name its modules otherwise: see [`match_modules`].

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensors, View};

use super::order::{Order, order};
use super::stages::{Kind, Stage, stages, walk};
use super::{metadata, torch};
use crate::checkpoint::SavedModel;
use crate::error::{Error, Result};
use crate::model::{Model, Params};
use crate::plural::plural;

/// A tensor of f32 in memory.
pub(super) struct Owned {
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
    pub(super) dtype: Dtype,
}

impl Owned {
    pub(super) fn f32(shape: Vec<usize>, values: impl Iterator<Item = f32>) -> Owned {
        Owned { shape, bytes: values.flat_map(f32::to_le_bytes).collect(), dtype: Dtype::F32 }
    }
}

impl View for Owned {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes).into()
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A whole safetensors file: the same bytes each time.
pub(super) fn serialize(tensors: Vec<(String, Owned)>, notes: HashMap<String, String>, path: &Path) -> Result<Vec<u8>> {
    let failed = |e: String| Error::io("write", path)(std::io::Error::other(e));
    let mut bytes = safetensors::serialize(tensors, Some(notes)).map_err(|e| failed(e.to_string()))?;
    // The crate writes the notes in any order: the header again, in that of its keys, which takes as many bytes.
    let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length)) as usize;
    let header = &mut bytes[8..8 + length];
    let sorted: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|e| failed(e.to_string()))?;
    let text = serde_json::to_string(&sorted).map_err(|e| failed(e.to_string()))?;
    if text.len() > length {
        return Err(failed("a header that does not fit".to_owned()));
    }
    header.fill(b' ');
    header[..text.len()].copy_from_slice(text.as_bytes());
    Ok(bytes)
}

/// The bytes of a file with the model's weights; `path` is the model's own. The metadata holds what [`metadata`] says, the
/// numbers of dataset normalisation, and the network in PyTorch (`torch`), where it has one.
///
/// # Errors
/// Never for a model that was read.
pub fn encode(saved: &SavedModel, path: &Path) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    let network = stages(saved)?;
    for Stage { key, kind, .. } in &network {
        let vector = |values: &[f32]| Owned::f32(vec![values.len()], values.iter().copied());
        if let Some(weights) = kind.weights() {
            let values = kind.places_channels_first().map(|place| weights.weight[place]);
            tensors.push((format!("{key}.weight"), Owned::f32(kind.shape_channels_first(), values)));
            if !weights.bias.is_empty() {
                tensors.push((format!("{key}.bias"), vector(&weights.bias)));
            }
        }
        if let Kind::BatchNorm(_, _, statistics) = kind {
            tensors.push((format!("{key}.running_mean"), vector(statistics.mean)));
            tensors.push((format!("{key}.running_var"), vector(statistics.variance)));
        }
    }
    let (mean, inverse) = saved.normalizer.parts();
    let mut notes = metadata(saved, path);
    // What readers of other projects ask for.
    notes.push(("format", "pt".to_owned()));
    notes.extend(torch::network(&network).map(|text| ("torch", text.definition + &text.network)));
    if !mean.is_empty() {
        notes.push(("mean", serde_json::json!(mean).to_string()));
        notes.push(("inverse_deviation", serde_json::json!(inverse).to_string()));
    }
    serialize(tensors, notes.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(), path)
}

/// A safetensors file in memory.
pub struct WeightsFile {
    bytes: Vec<u8>,
    header: Metadata,
    place: String,
}

const FIX: &str = "write it with safetensors.torch.save_file(net.state_dict(), …), in float32 or float64";

impl WeightsFile {
    /// Reads a file and checks its header.
    ///
    /// # Errors
    /// When it cannot be read or is no safetensors file.
    pub fn read(path: &Path) -> Result<WeightsFile> {
        let bytes = crate::files::read(path)?;
        let place = path.display().to_string();
        let invalid = |e: safetensors::SafeTensorError| {
            Error::invalid(&place, format!("no safetensors file ({e})"), "named weights as safetensors", FIX)
        };
        SafeTensors::deserialize(&bytes).map_err(invalid)?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(invalid)?;
        Ok(WeightsFile { bytes, header, place })
    }

    /// A text that the file carries beside its weights.
    pub fn note(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The names before `.weight` and `.bias`, in natural order (`net.2` before `net.10`).
    pub fn modules(&self) -> Vec<String> {
        let names = self.header.tensors();
        let weights = names.keys().filter_map(|name| name.strip_suffix(".weight"));
        let mut modules: Vec<String> = weights.map(str::to_owned).collect();
        modules.sort_by_key(|name| natural(name));
        modules
    }

    /// Outputs of the module: for the last one, the classes.
    pub fn outputs(&self, module: &str) -> Option<usize> {
        self.header.info(&format!("{module}.weight"))?.shape.first().copied()
    }

    /// Values in their order, which must be of this shape.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let invalid = |found: String, expected: String, fix: &str| {
            Error::invalid(format!("{} '{name}'", self.place), found, expected, fix)
        };
        let file = SafeTensors::deserialize(&self.bytes);
        let view: TensorView<'_> = file
            .and_then(|file| file.tensor(name))
            .map_err(|_| invalid("no such tensor".into(), format!("one of shape {shape:?}"), FIX))?;
        if view.shape() != shape {
            let fix = "give the --model, --input and --classes that these weights were made for";
            return Err(invalid(format!("shape {:?}", view.shape()), format!("{shape:?}"), fix));
        }
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => view.data().as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
            Dtype::F64 => {
                view.data().as_chunks::<8>().0.iter().map(|eight| f64::from_le_bytes(*eight) as f32).collect()
            }
            other => return Err(invalid(format!("{other:?} values"), "F32 or F64".into(), FIX)),
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(invalid(format!("{} as value {at}", values[at]), "finite numbers".into(), FIX)),
            None => Ok(values),
        }
    }
}

/// A name as texts and numbers, so that 2 comes before 10.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
        let digits = rest[text.len()..].split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        parts.push((text.to_owned(), digits.parse().unwrap_or(0)));
        rest = &rest[text.len() + digits.len()..];
    }
    parts
}

/// A layer that has weights.
#[derive(Clone, Debug)]
pub struct Layer<'m> {
    /// `conv0`, `dense7`, …
    pub name: String,
    /// What other programs call it.
    pub key: &'m str,
}

/// The layers of `model` that have weights, in the order of its text.
pub fn layers(model: &Model) -> Vec<Layer<'_>> {
    let written = model.graph.written.iter().zip(model.layers()).enumerate();
    let weighted = written.filter(|(_, (_, info))| info.parameters > 0);
    weighted.map(|(number, (layer, _))| Layer { name: layer.op.numbered(number), key: &layer.key }).collect()
}

/// Which module of the file is which of the network's `layers`: those that `said` names, in order; or those of the layers' own keys; or,
/// where all names differ in one number only (an `nn.Sequential`), by that number.
///
/// # Errors
/// When none of these holds.
pub fn match_modules(file: &WeightsFile, layers: &[Layer<'_>], said: &[String]) -> Result<Vec<String>> {
    let modules = file.modules();
    let keys: Vec<&str> = layers.iter().map(|layer| layer.key).collect();
    let refuse = |found: String, fix: String| {
        let expected = format!("weights for the layers {}", keys.join(", "));
        Err(Error::invalid(&file.place, found, expected, fix))
    };
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    if !said.is_empty() {
        return match said.len() == layers.len() {
            true => Ok(said.to_vec()),
            false => refuse(format!("--names {}", said.join(",")), "name one module a layer, in this order".to_owned()),
        };
    }
    // Before layers had keys of their own, files were written with their names.
    let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    for named in [&keys, &names] {
        if named.iter().all(|name| modules.iter().any(|module| module == name)) {
            return Ok(named.iter().map(|&name| name.to_owned()).collect());
        }
    }
    let without_numbers = |name: &String| name.replace(|c: char| c.is_ascii_digit(), "");
    let numbered = modules.windows(2).all(|two| without_numbers(&two[0]) == without_numbers(&two[1]));
    if modules.len() == layers.len() && numbered {
        return Ok(modules);
    }
    let fix = format!("name them with --names, in the layers' order: of {}", list(&modules));
    refuse(format!("the modules {}", list(&modules)), fix)
}

/// Parameters that we make room for, for each byte of a file.
const MOST: usize = 1 << 10;

/// Whether the memory for the weights of `model` is in proportion to the file, before it is taken; whether all are there is seen
/// later.
///
/// # Errors
/// When it is too short.
pub fn fits(file: &WeightsFile, model: &Model) -> Result<()> {
    if model.parameters() / MOST <= file.bytes.len() {
        return Ok(());
    }
    let found = format!("a file of {}", plural(file.bytes.len(), "byte"));
    let expected = format!("{} weights and biases, as '{}' has for such rows", model.parameters(), model.spec.name);
    Err(Error::invalid(&file.place, found, expected, "give the --model and --input that these weights were made for"))
}

/// Whether the file has vectors in an order that is known: networks that put a norm, or a sum of other vectors, behind a flattened image
/// keep our order in our files, and have PyTorch's in others.
///
/// # Errors
/// When it is not known.
pub fn order_is_known(file: &WeightsFile, model: &Model) -> Result<()> {
    if order(model) == Order::ChannelsFirst || file.note("weights_sha256").is_some() {
        return Ok(());
    }
    let found = format!(
        "weights from elsewhere for '{}', which flattens an image in front of a norm or a sum",
        model.spec.name
    );
    let fix = "let global_avgpool make the vector, or put the norm in front of flatten; files of `glasses export` are taken as they are";
    Err(Error::invalid(&file.place, found, "vectors whose order is the same in PyTorch and here", fix))
}

/// Puts the file's weights into `params`, the weights of `model`; `modules` as [`match_modules`] gives.
/// A module without biases gets zeros.
///
/// # Errors
/// When a tensor is missing, or of another shape or type.
pub fn fill(file: &WeightsFile, model: &Model, params: &mut Params, modules: &[String]) -> Result<()> {
    let before = params.clone();
    let network = walk(model, &before)?;
    for (layer, module) in layers(model).iter().zip(modules) {
        if let Some(stage) = network.iter().find(|stage| stage.name == layer.name) {
            fill_layer(file, params, stage, module)?;
        }
    }
    Ok(())
}

/// The tensors of one module.
fn fill_layer(file: &WeightsFile, params: &mut Params, stage: &Stage<'_>, module: &str) -> Result<()> {
    let Stage { name: layer, kind, .. } = stage;
    let table = params.table.clone();
    let param = |tensor: &str| table.iter().find(|param| param.name == format!("{layer}.{tensor}"));
    let weight = file.tensor(&format!("{module}.weight"), &kind.shape_channels_first())?;
    match param("weight") {
        Some(param) => {
            let own = &mut params.values[param.range.clone()];
            kind.places_channels_first().zip(weight).for_each(|(place, value)| own[place] = value);
        }
        None if weight.iter().all(|&weight| weight == 1.0) => {}
        None => {
            let place = format!("{} '{module}.weight'", file.place);
            let fix = "take 'scale no' out of this layer";
            return Err(Error::invalid(place, "weights of a norm", format!("ones: '{layer}' has none"), fix));
        }
    }
    let name = format!("{module}.bias");
    let is_there = file.header.info(&name).is_some();
    match param("bias") {
        Some(bias) if is_there => {
            params.values[bias.range.clone()].copy_from_slice(&file.tensor(&name, &bias.shape)?);
        }
        // PyTorch's `bias=False`.
        Some(bias) => params.values[bias.range.clone()].fill(0.0),
        None if is_there => {
            let fix = "write 'bias yes' behind this layer";
            return Err(Error::invalid(&file.place, format!("'{name}'"), format!("no bias of '{layer}'"), fix));
        }
        None => {}
    }
    for statistic in ["running_mean", "running_var"] {
        let name = format!("{module}.{statistic}");
        let refuse = |found: &str, expected: String, fix: &str| {
            Err(Error::invalid(format!("{} '{name}'", file.place), found, expected, fix))
        };
        let Some(param) = param(statistic) else {
            if file.header.info(&name).is_some() {
                let fix = "write batch_norm there, if the weights are of one";
                return refuse("a running statistic", format!("none: '{layer}' has no such"), fix);
            }
            continue;
        };
        let values = file.tensor(&name, &param.shape)?;
        if let Some(value) = values.iter().find(|&&value| statistic == "running_var" && value < 0.0) {
            return refuse(&format!("a variance of {value}"), "none below 0".to_owned(), "write the file again");
        }
        params.values[param.range.clone()].copy_from_slice(&values);
    }
    Ok(())
}
