//! `glasses predict`: which class a picture is of.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::explain::Maps;
use crate::checkpoint::{self, SavedModel};
use crate::comm::{Communicator, agree, agree_root};
use crate::data::RowShape;
use crate::data::ingest::decode;
use crate::error::{Error, Result};
use crate::kernels;
use crate::model::{Model, Params, Workspace};
use crate::report::{self, progress_bar};
use crate::say;

/// Pictures that go through the network at once.
const BATCH: usize = 32;

/// Options of `glasses predict`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Model file that `glasses train` wrote
    #[arg(long, value_name = "FILE.h5")]
    pub model: PathBuf,
    /// Pictures, or folders whose pictures are taken (sub-folders too)
    #[arg(required = true, value_name = "IMAGE|FOLDER")]
    pub inputs: Vec<PathBuf>,
    /// Also write, for each picture, a map of what speaks for its class over it into this folder
    #[arg(long, value_name = "DIR")]
    pub explain: Option<PathBuf>,
    /// A JSON array of {file, class, probability, probabilities}
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// CSV: file, class, probability, then one column a class
    #[arg(long)]
    pub csv: bool,
}

/// What was said of one picture.
#[derive(Debug, Serialize, Deserialize)]
struct Prediction {
    file: String,
    class: String,
    probability: f32,
    probabilities: Vec<f32>,
}

/// A picture's prediction, or why there is none.
type Outcome = std::result::Result<Prediction, String>;

/// Collective: the ranks share the pictures, the root prints them in the order given.
///
/// # Errors
/// When the model cannot be read, or after all others have been predicted some picture could not be.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    let saved = agree(comm, checkpoint::read(&options.model).and_then(takes_images))?;
    let mut files = Vec::new();
    agree_root(comm, || {
        files = list(&options.inputs)?;
        Ok(String::new())
    })?;
    let files = share(files, comm);
    let (rank, size) = (comm.rank(), comm.size());
    let own = &files[rank * files.len() / size..(rank + 1) * files.len() / size];
    let maps = options.explain.as_deref().map(|folder| Maps::new(folder, &saved));
    let mut maps = agree(comm, maps.transpose())?;
    let outcomes = predict(&saved, own, maps.as_mut(), comm);
    agree(comm, maps.map_or(Ok(()), Maps::finish))?;
    let outcomes = serde_json::to_vec(&outcomes).map_err(|e| Error::io("gather", "the predictions")(e.into()));
    let all = comm.gather(&agree(comm, outcomes)?);
    let outcomes: Vec<Outcome> =
        all.iter().flat_map(|part| serde_json::from_slice::<Vec<Outcome>>(part).unwrap_or_default()).collect();
    let printed = if comm.is_root() { print(options, &saved.classes, &outcomes) } else { Ok(()) };
    agree(comm, printed)?;
    let bad: Vec<String> = outcomes.into_iter().filter_map(std::result::Result::err).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Error::Several {
        what: format!("{} of {} pictures could not be read", bad.len(), files.len()),
        items: bad,
        fix: format!("replace them by {}; the others have been predicted", decode::FORMATS),
    })
}

/// Collective: the root's names, on every rank. Bytes, since a name need not be UTF-8; a NUL ends each.
fn share(files: Vec<PathBuf>, comm: &dyn Communicator) -> Vec<PathBuf> {
    let mut bytes = Vec::new();
    for file in files {
        bytes.extend(file.into_os_string().into_vec());
        bytes.push(0);
    }
    let bytes = comm.broadcast(bytes);
    let names = bytes.split_inclusive(|&byte| byte == 0).map(|name| &name[..name.len() - 1]);
    names.map(|name| OsString::from_vec(name.to_vec()).into()).collect()
}

fn takes_images(saved: SavedModel) -> Result<SavedModel> {
    match saved.shape {
        RowShape::Image { .. } => Ok(saved),
        RowShape::Features { d } => Err(Error::invalid(
            "--model",
            format!("a model of {d} features a row"),
            "a model of pictures",
            "judge it on a dataset with `glasses eval`",
        )),
    }
}

/// The pictures: files as given, folders in the order of their names.
fn list(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for input in inputs {
        if input.is_dir() {
            let before = files.len();
            add_folder(input, &mut files)?;
            if files.len() == before {
                return Err(Error::invalid(
                    input.display().to_string(),
                    "a folder without pictures",
                    decode::FORMATS,
                    "name the files themselves if their names do not end like a picture's",
                ));
            }
        } else {
            files.push(input.clone());
        }
    }
    Ok(files)
}

fn add_folder(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = entries.map_err(Error::io("read the folder", folder))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        // A link to a folder is not followed: it may lead in a circle.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add_folder(&path, files)?;
        } else if decode::is_picture(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn predict(
    saved: &SavedModel,
    files: &[PathBuf],
    mut maps: Option<&mut Maps<'_>>,
    comm: &dyn Communicator,
) -> Vec<Outcome> {
    let [h, w, c] = saved.shape.hwc();
    let mut ws = Workspace::for_inference(&saved.model, BATCH.min(files.len().max(1)));
    let bar = progress_bar(comm.is_root() && files.len() > BATCH, files.len() as u64, "pictures");
    let mut outcomes = Vec::with_capacity(files.len());
    for files in files.chunks(ws.capacity) {
        let decode = |file: &PathBuf| {
            decode::try_decode(file, h, w, c).map_err(|reason| format!("{}: {reason}", file.display()))
        };
        // Alone, the rank has all cores; among others, they have them.
        let pictures: Vec<_> =
            if comm.size() == 1 { files.par_iter().map(decode).collect() } else { files.iter().map(decode).collect() };
        let good: Vec<&Vec<u8>> = pictures.iter().filter_map(|picture| picture.as_ref().ok()).collect();
        let probabilities = probabilities(&saved.model, &saved.params, &mut ws, good.len(), |input| {
            for (pixels, input) in good.iter().zip(input.chunks_exact_mut(h * w * c)) {
                saved.normalizer.pixels(pixels, input);
            }
        });
        let mut rows = probabilities.chunks_exact(saved.model.classes);
        for (file, picture) in files.iter().zip(&pictures) {
            let row = if picture.is_ok() { rows.next() } else { None };
            outcomes.push(match (picture, row.and_then(|row| Some((kernels::argmax(row)?, row)))) {
                (Err(reason), _) => Err(reason.clone()),
                (Ok(_), None) => Err(format!("{}: the model gives no number for it", file.display())),
                (Ok(pixels), Some((class, row))) => Ok({
                    if let Some(maps) = &mut maps {
                        maps.write(file, pixels, class);
                    }
                    Prediction {
                        file: file.display().to_string(),
                        class: saved.classes[class].clone(),
                        probability: row[class],
                        probabilities: row.to_vec(),
                    }
                }),
            });
        }
        bar.inc(files.len() as u64);
    }
    bar.finish_and_clear();
    outcomes
}

/// The probability of each class for `rows` rows, which `prepare` writes into the network's input: `[rows, classes]`.
pub(super) fn probabilities(
    model: &Model,
    params: &Params,
    ws: &mut Workspace,
    rows: usize,
    prepare: impl FnOnce(&mut [f32]),
) -> Vec<f32> {
    ws.batch = rows;
    prepare(ws.input_mut());
    model.forward(params, ws, None);
    let mut probabilities = ws.logits().to_vec();
    kernels::softmax(model.classes, &mut probabilities);
    probabilities
}

fn print(options: &Options, classes: &[String], outcomes: &[Outcome]) -> Result<()> {
    let good = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok());
    if options.json {
        let good: Vec<&Prediction> = good.collect();
        say!("{}", serde_json::to_string_pretty(&good).map_err(|e| Error::io("write", "stdout")(e.into()))?);
    } else if options.csv {
        let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
        let write = || -> csv::Result<()> {
            let head = ["file", "class", "probability"].into_iter().chain(classes.iter().map(String::as_str));
            writer.write_record(head)?;
            for prediction in good {
                let numbers = std::iter::once(&prediction.probability).chain(&prediction.probabilities);
                let numbers: Vec<String> = numbers.map(ToString::to_string).collect();
                let words = [&prediction.file, &prediction.class];
                writer.write_record(words.into_iter().chain(&numbers))?;
            }
            Ok(writer.flush()?)
        };
        report::keep(write().map_err(std::io::Error::from));
    } else {
        let width = good.clone().map(|p| p.file.chars().count()).max().unwrap_or(0);
        let class_width = classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
        for prediction in good {
            let percent = report::percent(f64::from(prediction.probability));
            say!("{:<width$}  {:<class_width$}  {percent:>8}", prediction.file, prediction.class);
        }
    }
    Ok(())
}
