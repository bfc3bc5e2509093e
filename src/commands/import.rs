//! `glasses import`: weights from elsewhere, as a run that training can begin from.

use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::comm::{Communicator, on_root};
use crate::config::{ModelChoice, Settings};
use crate::data::class_names::{self, MOST_CLASSES};
use crate::data::{Normalize, Normalizer, RowShape};
use crate::error::{Error, Result};
use crate::export::weights::{WeightsFile, fill, fits, layers, match_modules, order_is_known};
use crate::files::write_whole;
use crate::model::Engine;
use crate::model::{Init, Model, ModelSpec, Params};
use crate::say;

/// Options of `glasses import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses import faces.safetensors --model glasses --out runs/begun\n  \
    glasses train --resume runs/begun --fork --data faces.h5")]
pub struct Options {
    /// Weights by name, laid out as PyTorch has them: conv [out, in, height, width], dense [out, in]
    #[arg(value_name = "FILE.safetensors")]
    pub file: PathBuf,
    /// The network that they are for
    #[arg(long, value_name = "NAME|FILE.toml")]
    pub model: ModelChoice,
    /// Its input: height x width x channels, or a number of features [default: what FILE says]
    #[arg(long, value_name = "HxWxC|D", value_parser = super::info::parse_input)]
    pub input: Option<RowShape>,
    /// Class names, in label order, or how many classes there are [default: what FILE says, else numbers]
    #[arg(long, value_name = "A,B,…|N", value_delimiter = ',')]
    pub classes: Option<Vec<String>>,
    /// How rows are to be prepared [default: what FILE says, else per-image]
    #[arg(long, value_enum)]
    pub normalize: Option<Normalize>,
    /// FILE's modules in the order of the network's layers, where their names do not tell (conv1,conv2,fc)
    #[arg(long, value_name = "A,B,…", value_delimiter = ',')]
    pub names: Vec<String>,
    /// Folder for the model; must be new or empty [default: runs/ and FILE's name]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Collective: the root reads and writes, the others wait.
///
/// # Errors
/// When the file does not hold the network's weights, or the folder refuses.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    on_root(comm, || import(options).map(|()| String::new()))?;
    Ok(())
}

fn import(options: &Options) -> Result<()> {
    let out = match &options.out {
        Some(out) => out.clone(),
        None => Path::new("runs").join(options.file.file_stem().unwrap_or_default()),
    };
    if std::fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_some()) {
        let fix = "name another with --out, or move this one away";
        return Err(Error::invalid(
            out.display().to_string(),
            "a folder that holds something",
            "a new or empty one",
            fix,
        ));
    }
    let spec = options.model.resolve()?;
    let file = WeightsFile::read(&options.file)?;
    let shape = input(options, &spec, &file)?;
    let flat = matches!(shape, RowShape::Features { .. });
    let classes = classes(options, &file, || Model::new(spec.clone(), shape.hwc(), flat, 2, Engine::default()))?;
    let model = Model::new(spec.clone(), shape.hwc(), flat, classes.len(), Engine::default())?;
    fits(&file, &model)?;
    order_is_known(&file, &model)?;
    let mut params = Params::initial(model.table.clone(), Init::default(), 0);
    let layers = layers(&model);
    let modules = match_modules(&file, &layers, &options.names)?;
    fill(&file, &model, &mut params, &modules)?;
    let normalizer = normalizer(options, &file, shape)?;
    std::fs::create_dir_all(&out).map_err(Error::io("create the folder", &out))?;
    checkpoint::write(&out.join("model.h5"), &model, &params, shape, &normalizer, &classes)?;
    let settings =
        Settings { model: Some(chosen(options, spec)), normalize: Some(normalizer.mode()), ..Settings::default() };
    let text = toml::to_string(&settings).unwrap_or_default();
    let head = format!("# Weights of {}, for `glasses train --resume … --fork`.\n", options.file.display());
    write_whole(&out.join("config.toml"), (head + &text).as_bytes())?;
    for (layer, module) in layers.iter().zip(&modules) {
        let layer = &layer.name;
        let weight = format!("{layer}.weight");
        let param = model.table.iter().find(|param| param.name == weight);
        say!("{layer}: {module} {:?}", param.map(|param| &param.shape[..]).unwrap_or_default());
    }
    let name = out.display();
    say!("{name}/model.h5: '{}' for {shape}, classes {}", model.spec.name, class_names::brief(&classes));
    say!("go on with:  glasses train --resume {name} --fork --data FILE.h5");
    Ok(())
}

/// A model file may be gone when training begins: its network is written out.
fn chosen(options: &Options, spec: ModelSpec) -> ModelChoice {
    match &options.model {
        ModelChoice::Name(name) if !name.ends_with(".toml") => options.model.clone(),
        _ => ModelChoice::Spec(spec),
    }
}

fn input(options: &Options, spec: &ModelSpec, file: &WeightsFile) -> Result<RowShape> {
    let said = options.input.or_else(|| super::info::parse_input(file.note("input")?).ok());
    let of_spec = || spec.input.map(|[h, w, c]| RowShape::Image { h, w, c });
    said.or_else(of_spec).ok_or_else(|| {
        Error::invalid(
            options.file.display().to_string(),
            "weights without the size of what they are for",
            "height x width x channels of a picture, or a number of features",
            "pass --input 80x80x3",
        )
    })
}

/// Those that are given, else those that the file names, else as many numbers as its last layer has outputs; `model` is the network for
/// any classes.
fn classes(options: &Options, file: &WeightsFile, model: impl FnOnce() -> Result<Model>) -> Result<Vec<String>> {
    let numbers = |count: usize| Ok((0..count).map(|class| class.to_string()).collect());
    if let Some(names) = &options.classes {
        let count = match &names[..] {
            [count] => count.parse().ok().filter(|count| (2..=MOST_CLASSES).contains(count)),
            _ => None,
        };
        return count.map_or_else(|| Ok(names.clone()), numbers);
    }
    if let Some(noted) = file.note("classes").and_then(|text| serde_json::from_str(text).ok()) {
        return Ok(noted);
    }
    let modules = file.modules();
    let last = match options.names.last() {
        Some(name) => Some(name.clone()),
        // The last module of the file, by name, need not be the network's last layer; a network that is written for so many classes only is
        // none for two.
        None => {
            let model = model().ok();
            let layer = model.as_ref().and_then(|model| layers(model).pop());
            let is_there = |name: &&str| modules.iter().any(|module| module == name);
            let known =
                layer.as_ref().and_then(|layer| [layer.key, &layer.name].into_iter().find(is_there).map(str::to_owned));
            known.or_else(|| modules.last().cloned())
        }
    };
    let outputs = last.and_then(|module| file.outputs(&module));
    let count = outputs.filter(|count| (1..=MOST_CLASSES).contains(count)).ok_or_else(|| {
        Error::invalid(
            options.file.display().to_string(),
            outputs.map_or("no weights by name".to_owned(), |outputs| format!("a last layer of {outputs} outputs")),
            "a last layer with as many outputs as there are classes",
            "pass --classes no,yes, or how many there are",
        )
    })?;
    numbers(count)
}

fn normalizer(options: &Options, file: &WeightsFile, shape: RowShape) -> Result<Normalizer> {
    let noted = || <Normalize as clap::ValueEnum>::from_str(file.note("normalize")?, false).ok();
    let by_kind = if matches!(shape, RowShape::Image { .. }) { Normalize::PerImage } else { Normalize::None };
    let mode = options.normalize.or_else(noted).unwrap_or(by_kind);
    let channels = shape.hwc()[2];
    if mode != Normalize::Dataset {
        return Ok(Normalizer::new(mode, channels));
    }
    let numbers = |key: &str| {
        let numbers: Option<Vec<f32>> = file.note(key).and_then(|text| serde_json::from_str(text).ok());
        numbers.filter(|numbers| numbers.len() == channels)
    };
    match (numbers("mean"), numbers("inverse_deviation")) {
        (Some(mean), Some(inverse)) => Ok(Normalizer::from_parts(mode, channels, mean, inverse)),
        _ => Err(Error::invalid(
            "--normalize dataset",
            "a file without the means and deviations of its training rows",
            "per-image, unit or none",
            "pass --normalize per-image; training computes those of its own rows with --normalize dataset",
        )),
    }
}
