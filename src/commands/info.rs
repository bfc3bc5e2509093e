//! `glasses info`: what a file of ours holds, or what a network is made of.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{folder, probe};
use crate::checkpoint;
use crate::comm::{Comm, Communicator, on_root};
use crate::config::ModelChoice;
use crate::data::{Augment, Dataset, Normalize, RowShape, Split, class_names, open};
use crate::error::{Error, Result};
use crate::model::Engine;
use crate::model::{LayerInfo, Model};
use crate::optim::OptimizerKind;
use crate::plural::plural;
use crate::row_count::RowCount;
use crate::say;
use crate::train::{Assumed, Case, Memory, default_batch, of_file};

/// Options of `glasses info`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses info faces.h5\n  \
    glasses info runs/faces/model.h5\n  \
    glasses info --model glasses --input 64x64x3")]
pub struct Options {
    /// A dataset or a model file
    #[arg(value_name = "FILE.h5", required_unless_present = "model", conflicts_with = "model")]
    pub file: Option<PathBuf>,
    /// A network instead: a name of the zoo or a model file
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub model: Option<ModelChoice>,
    /// Input of that network: height x width x channels, or a number of features
    #[arg(long, value_name = "HxWxC|D", requires = "model", default_value = "80x80x3", value_parser = parse_input)]
    pub input: RowShape,
    /// Classes of that network
    #[arg(long, value_name = "N", requires = "model", default_value_t = 2)]
    pub classes: usize,
    /// Rows a rank trains in a step, for the memory that takes (with the direct kernels)
    #[arg(long, value_name = "ROWS", conflicts_with = "file", default_value_t = 16, value_parser = rows::<1>)]
    pub batch: usize,
    /// Ranks of the run, for the memory that one takes
    #[arg(long, value_name = "R", conflicts_with = "file", default_value_t = 1, value_parser = rows::<1>)]
    pub ranks: usize,
    /// Shards of the run [default: 8, or the ranks if more]
    #[arg(long, value_name = "S", conflicts_with = "file", value_parser = rows::<1>)]
    pub shards: Option<usize>,
    /// Rows of data that a rank keeps (of all splits), for the memory they take
    #[arg(long, value_name = "ROWS", conflicts_with = "file", default_value_t = 0, value_parser = rows::<0>)]
    pub rows: usize,
    /// How gradients of dense layers travel (auto: as a run on one machine would choose here), for the memory that takes
    #[arg(long, value_enum, conflicts_with = "file", default_value = "auto")]
    pub comm: Comm,
    /// Least rows of a group whose rows batch norms normalise together, for the memory that takes
    #[arg(long, value_name = "N|all", conflicts_with = "file", default_value = "all")]
    pub norm_rows: RowCount,
    /// Optimizer, for the memory that its state takes
    #[arg(long, value_enum, conflicts_with = "file", default_value = "adamw")]
    pub optimizer: OptimizerKind,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Height x width x channels, or a number of features.
pub(super) fn parse_input(text: &str) -> Result<RowShape, String> {
    let sizes: Option<Vec<usize>> = text.split('x').map(|s| s.parse().ok().filter(|&n| n > 0 && n < 1 << 16)).collect();
    match sizes.as_deref() {
        Some(&[h, w, c]) => Ok(RowShape::Image { h, w, c }),
        Some(&[d]) => Ok(RowShape::Features { d }),
        _ => {
            let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let parts: Vec<&str> = text.split('x').collect();
            let limit = match parts.iter().copied().filter(digits).find(|part| part.trim_start_matches('0').len() >= 5)
            {
                Some(part) if parts.iter().all(digits) => format!("{part} is too large; "),
                _ => String::new(),
            };
            Err(format!(
                "{limit}expected height x width x channels, as in 80x80x3, or a number of features, each from 1 to 65535"
            ))
        }
    }
}

fn rows<const LEAST: usize>(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (LEAST..=1 << 32).contains(number));
    number.ok_or_else(|| format!("expected a number from {LEAST} to 2^32"))
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Info {
    Dataset {
        shape: Vec<usize>,
        classes: Option<Vec<String>>,
        origin: Option<String>,
        splits: Vec<SplitInfo>,
        /// What training takes where nobody says it.
        defaults: Defaults,
        /// What training will say of it.
        notes: Vec<String>,
        /// Why training will not begin: its error.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<String>,
    },
    Model {
        name: String,
        input: Vec<usize>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        classes: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        normalize: Option<Normalize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        weights_sha256: Option<String>,
        parameters: usize,
        forward_flops: u64,
        training_flops: u64,
        /// Bytes that a training rank holds at its peak.
        #[serde(skip_serializing_if = "Option::is_none")]
        training_bytes: Option<usize>,
        /// The same, by what they are for.
        #[serde(skip_serializing_if = "Option::is_none")]
        training_memory: Option<Memory>,
        layers: Vec<LayerMemory>,
    },
}

/// A layer, and the memory that it takes.
#[derive(Serialize)]
struct LayerMemory {
    #[serde(flatten)]
    layer: LayerInfo,
    /// Bytes for every row that goes through the network at once in training.
    row_bytes: usize,
}

/// Settings that the data decides.
#[derive(Serialize)]
struct Defaults {
    normalize: Normalize,
    augment: Augment,
    /// Rows of the global batch.
    batch: usize,
}

#[derive(Serialize)]
struct SplitInfo {
    split: &'static str,
    rows: usize,
    /// Rows of each class; none where a label is refused.
    rows_of_class: Vec<u64>,
}

/// Collective: the root reads and prints, the others wait.
///
/// # Errors
/// When the file is none of ours.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    probe::check(options.file.as_slice(), comm)?;
    on_root(comm, || {
        if let Some(file) = &options.file {
            folder::one_run(file)?;
        }
        if let Some(file) = options.file.as_deref().filter(|file| file.join("model.h5").exists()) {
            return Err(Error::invalid(
                file.display().to_string(),
                "a folder",
                "a file: a dataset, a model or a checkpoint",
                format!("name {}; `glasses report` and `glasses watch` tell of runs", file.join("model.h5").display()),
            ));
        }
        let info = match (&options.file, &options.model) {
            (_, Some(model)) => network(options, model)?,
            (Some(file), None) => inspect(file)?,
            (None, None) => return Ok(String::new()),
        };
        if options.json {
            say!("{}", serde_json::to_string(&info).map_err(|e| Error::io("write", "stdout")(e.into()))?);
        } else {
            print(&info);
        }
        Ok(String::new())
    })?;
    Ok(())
}

fn network(options: &Options, choice: &ModelChoice) -> Result<Info> {
    let flat = matches!(options.input, RowShape::Features { .. });
    let model = Model::new(choice.resolve()?, options.input.hwc(), flat, options.classes, Engine::default())?;
    let data = options.rows * options.input.len() * if flat { 4 } else { 1 };
    let shards = options.shards.unwrap_or(options.ranks.max(8));
    if shards < options.ranks || shards > 1 << 16 {
        let found = format!("{} for {}", plural(shards, "shard"), plural(options.ranks, "rank"));
        let fix = "name other --ranks or --shards";
        return Err(Error::invalid("--shards", found, "at least one a rank, at most 65536 together", fix));
    }
    let (rows, ranks) = (options.batch, options.ranks);
    let Options { comm, norm_rows, optimizer, .. } = *options;
    let case = Case { rows, shards, ranks, comm, norm_rows, optimizer, data };
    let memory = Memory::predict(&model, &case);
    Ok(describe(&model, options.input, Some(memory)))
}

fn describe(model: &Model, input: RowShape, memory: Option<Memory>) -> Info {
    let layer = |(layer, row_bytes): (LayerInfo, usize)| LayerMemory { layer, row_bytes };
    Info::Model {
        name: model.spec.name.clone(),
        input: sizes(input),
        classes: Vec::new(),
        normalize: None,
        weights_sha256: None,
        parameters: model.parameters(),
        forward_flops: model.layers().iter().map(|layer| layer.flops).sum(),
        training_flops: model.training_flops(),
        training_bytes: memory.as_ref().map(Memory::total),
        training_memory: memory,
        layers: model.layers().iter().cloned().zip(model.row_bytes()).map(layer).collect(),
    }
}

fn sizes(shape: RowShape) -> Vec<usize> {
    match shape {
        RowShape::Image { h, w, c } => vec![h, w, c],
        RowShape::Features { d } => vec![d],
    }
}

fn inspect(path: &Path) -> Result<Info> {
    if checkpoint::is_state(path).unwrap_or(false) || checkpoint::is_model(&*open::open(path)?) {
        let saved = checkpoint::read(path)?;
        let mut info = describe(&saved.model, saved.shape, None);
        if let Info::Model { classes, normalize, weights_sha256, .. } = &mut info {
            *classes = saved.classes;
            *normalize = Some(saved.normalizer.mode());
            *weights_sha256 = Some(saved.params.sha256());
        }
        return Ok(info);
    }
    let dataset = Dataset::open(path)?;
    let Assumed { splits, notes, refused } = of_file(&dataset)?;
    let split = |(split, rows, counts): (Split, usize, Option<Vec<u64>>)| SplitInfo {
        split: split.name(),
        rows,
        rows_of_class: counts.unwrap_or_default(),
    };
    let (normalize, augment) = (Normalize::of(dataset.shape), Augment::of(dataset.shape));
    let defaults = Defaults { normalize, augment, batch: default_batch(dataset.rows(Split::Train)) };
    Ok(Info::Dataset {
        shape: sizes(dataset.shape),
        classes: dataset.classes,
        origin: dataset.origin,
        splits: splits.into_iter().map(split).collect(),
        defaults,
        notes,
        refused: refused.map(|refused| refused.to_string()),
    })
}

/// A layer as it stands in the table, to the right of its block's name.
fn layer_name(layer: &LayerInfo) -> String {
    format!("{}{}", "  ".repeat(depth(&layer.block)), layer.layer)
}

/// A table of the layers, those of a block behind its name and a little to the right.
fn print_layers(layers: &[LayerMemory]) {
    let width = layers.iter().map(|LayerMemory { layer, .. }| layer_name(layer).len()).fold(28, usize::max);
    say!("\n{:<width$}  {:>14}  {:>12}  {:>14}  {:>10}", "layer", "output", "parameters", "MFLOP forward", "KB a row");
    let mut block = "";
    for LayerMemory { layer, row_bytes } in layers {
        if layer.block != block {
            block = &layer.block;
            if !block.is_empty() {
                say!("{}{block}", "  ".repeat(depth(block) - 1));
            }
        }
        let name = layer_name(layer);
        let output = layer.output.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        let flops = layer.flops as f64 / 1e6;
        let unseen = layer.unseen.map_or_else(String::new, |[rows, columns]| {
            let parts = [(rows, "row"), (columns, "column")].into_iter().filter(|(count, _)| *count > 0);
            let parts: Vec<String> = parts.map(|(count, what)| plural(count, what)).collect();
            format!("  (the last {} of its input: not seen)", parts.join(" and "))
        });
        let row = *row_bytes as f64 / 1e3;
        say!("{name:<width$}  {output:>14}  {:>12}  {flops:>14.2}  {row:>10.1}{unseen}", layer.parameters);
    }
}

/// How many blocks a path names.
fn depth(block: &str) -> usize {
    if block.is_empty() { 0 } else { 1 + block.matches('.').count() }
}

fn print(info: &Info) {
    let join = |sizes: &[usize]| sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
    match info {
        Info::Dataset { shape, classes, origin, splits, defaults, notes, refused } => {
            say!("dataset of rows of shape {}", join(shape));
            if let Some(origin) = origin {
                say!("origin: {origin}");
            }
            for SplitInfo { split, rows, rows_of_class } in splits {
                let name = |class: usize| match classes.as_ref().and_then(|names| names.get(class)) {
                    Some(name) => name.clone(),
                    None => class.to_string(),
                };
                let parts: Vec<String> =
                    rows_of_class.iter().enumerate().map(|(class, rows)| format!("{} {rows}", name(class))).collect();
                let parts =
                    if parts.is_empty() { "labels that are refused".to_owned() } else { class_names::brief(&parts) };
                say!("/{split}: {} ({parts})", plural(*rows, "row"));
            }
            let Defaults { normalize, augment, batch } = defaults;
            say!("defaults: --normalize {} --augment {} --batch {batch}", normalize.name(), augment.name());
            notes.iter().for_each(|note| say!("note: {note}"));
            if let Some(refused) = refused {
                say!("training refuses it: {refused}");
            }
        }
        Info::Model { name, input, classes, normalize, weights_sha256, parameters, layers, .. } => {
            say!("model '{name}' for input {}, {}", join(input), plural(*parameters, "parameter"));
            if let (Some(normalize), Some(digest)) = (normalize, weights_sha256) {
                say!(
                    "classes: {}\nnormalize: {}\nweights sha256 {digest}",
                    class_names::brief(classes),
                    normalize.name()
                );
            }
            print_layers(layers);
            if let Info::Model { forward_flops, training_flops, training_memory, .. } = info {
                let (forward, training) = (*forward_flops as f64 / 1e6, *training_flops as f64 / 1e6);
                say!("\n{forward:.0} MFLOP a forward pass, {training:.0} MFLOP a training row");
                if let Some(memory) = training_memory {
                    // Rounded up, each, so that what is printed adds up.
                    let mb = |bytes: usize| bytes.div_ceil(1_000_000);
                    let parts = memory.parts().map(|(bytes, what)| (mb(bytes), what));
                    let each = parts.iter().filter(|(mb, _)| *mb > 0).map(|(mb, what)| format!("{mb} MB {what}"));
                    say!(
                        "{} MB a training rank at its peak: {}; dense layers by {}",
                        parts.iter().map(|(mb, _)| mb).sum::<usize>(),
                        each.collect::<Vec<_>>().join(", "),
                        memory.dense_layers
                    );
                }
            }
        }
    }
}
