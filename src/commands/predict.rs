//! `glasses predict`: which class a picture is of.

mod answers;
mod inputs;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::explain::Maps;
use super::probe;
use crate::checkpoint::{self, SavedModel};
use crate::comm::{Communicator, all_agree, on_root};
use crate::data::RowShape;
use crate::data::picture::{self, FirstOnly, Picture, is_hdf5};
use crate::error::{Error, Result};
use crate::files::text_of;
use crate::kernels;
use crate::model::{Predictor, Workspace, room};
use crate::plural::plural;
use crate::report::{note, progress_bar};
use answers::{AnswerOptions, Choice, Outcome, print};
use rayon::prelude::*;

use super::ensemble;

/// Pictures that go through the network at once.
const BATCH: usize = 32;

/// Bytes of answers that travel at once, about: of all ranks, to each.
const PIECE: usize = 64 << 20;
/// What an answer takes as JSON, about: a class's probability, and all else.
const BYTES_A_CLASS: usize = 24;
const BYTES_A_NAME: usize = 512;

/// Options of `glasses predict`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses predict --model runs/faces/model.h5 photos\n  \
    glasses predict --model runs/faces --model runs/two photos\n  \
    glasses predict --model runs/faces 'photos/*/*.png' --top 2 --threshold 0.8\n  \
    find photos -name '*.png' | glasses predict --model runs/faces - --csv")]
pub struct Options {
    /// Model file or checkpoint that `glasses train` wrote, or the folder of its run or ensemble; may be repeated: probabilities are averaged
    #[arg(long, value_name = "MODEL", required = true)]
    pub model: Vec<PathBuf>,
    /// Pictures, folders (sub-folders too), patterns ('photos/**/*.jpg'), or - for names on standard input
    #[arg(required = true, value_name = "IMAGE|FOLDER|PATTERN|-")]
    pub inputs: Vec<PathBuf>,
    /// Also write, for each picture, a map of what speaks for its class over it into this folder
    #[arg(long, value_name = "DIR")]
    pub explain: Option<PathBuf>,
    /// The predictions of a picture, and their format.
    #[command(flatten)]
    pub answers: AnswerOptions,
}

/// Collective: the ranks share the pictures, the root prints them in the order given.
///
/// # Errors
/// When the model cannot be read, or after all others have been predicted some picture could not be.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    let started = Instant::now();
    let model_files = all_agree(comm, ensemble::models(&options.model))?;
    probe::check(&model_files, comm)?;
    let models = all_agree(comm, read(&model_files, options.explain.is_some()))?;
    let saved = &models[0];
    let choice = all_agree(comm, Choice::new(&options.answers, &saved.classes))?;
    let mut files = Vec::new();
    on_root(comm, || {
        files = inputs::list(&options.inputs)?;
        Ok(String::new())
    })?;
    let files = share(files, comm);
    let (rank, size) = (comm.rank(), comm.size());
    let own = &files[rank * files.len() / size..(rank + 1) * files.len() / size];
    let neighbours = comm.nodes().neighbours().len();
    let maps = options.explain.as_deref().map(|folder| Maps::new(folder, saved, neighbours));
    let maps = Mutex::new(all_agree(comm, maps.transpose())?);
    let cores = if size == 1 { rayon::current_num_threads() } else { 1 };
    let batch = own.len().div_ceil(cores).clamp(1, BATCH);
    let networks = models.iter().map(|saved| &saved.model);
    let batch = all_agree(comm, room::rows(networks, batch, cores * neighbours, &model_files[0]))?;
    let (outcomes, first_only) = predict(&models, &choice, own, &maps, (cores, batch), comm);
    let maps = maps.into_inner().unwrap_or_else(PoisonError::into_inner);
    all_agree(comm, maps.map_or(Ok(()), Maps::finish))?;
    say_first_only(first_only, comm);
    let outcomes = gather(outcomes, files.len().div_ceil(size), saved.classes.len(), comm)?;
    let printed = if comm.is_root() { print(&options.answers, &saved.classes, &outcomes) } else { Ok(()) };
    all_agree(comm, printed)?;
    if comm.is_root() && files.len() > 1 {
        let (count, seconds) = (files.len(), started.elapsed().as_secs_f64());
        eprintln!("{count} pictures in {seconds:.2} s, {:.0} pictures/s", count as f64 / seconds);
    }
    let all = files.iter().zip(outcomes);
    let bad: Vec<(&PathBuf, String)> = all.filter_map(|(file, outcome)| Some((file, outcome.err()?))).collect();
    let end = || if bad.is_empty() { Ok(String::new()) } else { Err(unreadable(options, bad, files.len())) };
    on_root(comm, end).map(|_| ())
}

fn unreadable(options: &Options, bad: Vec<(&PathBuf, String)>, of: usize) -> Error {
    let is_gone = |file: &Path| file.symlink_metadata().is_err();
    let dataset = bad.iter().map(|(file, _)| file.as_path()).find(|file| is_hdf5(file));
    let mut fixes = Vec::new();
    if bad.iter().any(|(file, _)| is_gone(file)) {
        fixes.push("check the names of files that are not there".to_owned());
    }
    if let Some(dataset) = dataset {
        let model = options.model[0].display();
        fixes.push(format!(
            "a dataset's rows are judged by `glasses eval --model {model} --data {}`",
            dataset.display()
        ));
    }
    if bad.iter().any(|(file, _)| !is_gone(file) && !is_hdf5(file)) {
        fixes.push(format!("replace them by {}", picture::FORMATS));
    }
    if fixes.len() > 1
        && let Some(replace) = fixes.last_mut().filter(|fix| fix.starts_with("replace them"))
    {
        *replace = replace.replacen("them", "the others", 1);
    }
    let bad: Vec<String> = bad.into_iter().map(|(_, reason)| reason).collect();
    let others = match of - bad.len() {
        0 => "; none has been predicted".to_owned(),
        1 => "; the other one has been predicted".to_owned(),
        others => format!("; the {others} others have been predicted"),
    };
    Error::Several {
        what: format!("{} of {} could not be read", bad.len(), plural(of, "picture")),
        items: bad,
        fix: fixes.join("; ") + &others,
    }
}

/// Collective: the root says which files hold more than the frame that was looked at.
fn say_first_only(own: FirstOnly, comm: &dyn Communicator) {
    let mut all = FirstOnly::default();
    for part in comm.allgather(&serde_json::to_vec(&own).unwrap_or_default()) {
        all.and(serde_json::from_slice(&part).unwrap_or_default());
    }
    if let Some(text) = all.said().filter(|_| comm.is_root()) {
        note(&text);
    }
}

/// Collective: on the root, what all ranks found, in rank order; each found at most `most`. Others keep nothing. It goes in pieces: what
/// MPI carries at once, and what ranks hold of others' answers, has a limit.
fn gather(own: Vec<Outcome>, most: usize, classes: usize, comm: &dyn Communicator) -> Result<Vec<Outcome>> {
    if comm.size() == 1 {
        return Ok(own);
    }
    let piece = (PIECE / comm.size() / (classes * BYTES_A_CLASS + BYTES_A_NAME)).max(1);
    let failed = |e: serde_json::Error| Error::io("gather", "the predictions")(e.into());
    let mut found: Vec<Vec<Outcome>> = (0..comm.size()).map(|_| Vec::new()).collect();
    for first in (0..most).step_by(piece) {
        let part = &own[first.min(own.len())..own.len().min(first + piece)];
        let parts = comm.allgather(&all_agree(comm, serde_json::to_vec(part).map_err(failed))?);
        on_root(comm, || {
            for (found, part) in found.iter_mut().zip(&parts) {
                found.extend(serde_json::from_slice::<Vec<Outcome>>(part).map_err(failed)?);
            }
            Ok(String::new())
        })?;
    }
    Ok(found.into_iter().flatten().collect())
}

/// Maps are drawn one at a time, whoever predicts.
type SharedMaps<'a> = Mutex<Option<Maps<'a>>>;

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

/// The models, all of which answer.
fn read(paths: &[PathBuf], explain: bool) -> Result<Vec<SavedModel>> {
    let files = ensemble::models(paths)?;
    let mut models = vec![takes_images(checkpoint::read(&files[0])?)?.folded()?];
    for file in &files[1..] {
        models.push(ensemble::same_kind(&files[0], &models[0], file, checkpoint::read(file)?)?.folded()?);
    }
    if explain && models.len() > 1 {
        let found = format!("{} models", models.len());
        return Err(Error::invalid(
            "--explain",
            found,
            "one: a map is of what one network looks at",
            "name one --model",
        ));
    }
    Ok(models)
}

fn takes_images(saved: SavedModel) -> Result<SavedModel> {
    match saved.shape {
        RowShape::Image { c, .. } if picture::CHANNELS.contains(&c) => Ok(saved),
        RowShape::Image { c, .. } => Err(Error::invalid(
            "--model",
            format!("a model of rows with {c} channels"),
            "one of pictures, which have 1, 3 or 4",
            "judge it on a dataset with `glasses eval`",
        )),
        RowShape::Features { d } => Err(Error::invalid(
            "--model",
            format!("a model of {d} features a row"),
            "a model of pictures",
            "judge it on a dataset with `glasses eval`",
        )),
    }
}

/// What is said of `files`, in their order, `batch` at a time on each of `cores`. Alone, the rank has all cores, each with batches of its own, from the file to the
/// probabilities; among others, they have them.
fn predict(
    models: &[SavedModel],
    choice: &Choice,
    files: &[PathBuf],
    maps: &SharedMaps<'_>,
    (cores, batch): (usize, usize),
    comm: &dyn Communicator,
) -> (Vec<Outcome>, FirstOnly) {
    let bar = progress_bar(comm.is_root() && files.len() > BATCH, files.len() as u64, "pictures");
    let workspace = || models.iter().map(|saved| Workspace::for_inference(&saved.model, batch)).collect::<Vec<_>>();
    let work = |ws: &mut Vec<Workspace>, files: &[PathBuf]| {
        let outcomes = predict_batch(models, choice, ws, files, maps);
        bar.inc(files.len() as u64);
        outcomes
    };
    let found: Vec<(Outcome, bool)> = if cores > 1 {
        files.par_chunks(batch).map_init(workspace, work).flatten_iter().collect()
    } else {
        let mut ws = workspace();
        files.chunks(batch).flat_map(|files| work(&mut ws, files)).collect()
    };
    bar.finish_and_clear();
    let mut first_only = FirstOnly::default();
    for (file, _) in files.iter().zip(&found).filter(|(_, (_, several))| *several) {
        first_only.add(|| text_of(file));
    }
    (found.into_iter().map(|(outcome, _)| outcome).collect(), first_only)
}

/// As many files as `ws` has room for; and whether each holds further frames.
fn predict_batch(
    models: &[SavedModel],
    choice: &Choice,
    ws: &mut [Workspace],
    files: &[PathBuf],
    maps: &SharedMaps<'_>,
) -> Vec<(Outcome, bool)> {
    let [h, w, c] = models[0].shape.hwc();
    let decode =
        |file: &PathBuf| picture::try_decode(file, h, w, c).map_err(|reason| format!("{}: {reason}", file.display()));
    let pictures: Vec<_> = files.iter().map(decode).collect();
    let good: Vec<&Picture> = pictures.iter().filter_map(|picture| picture.as_ref().ok()).collect();
    let all = models.iter().zip(ws).map(|(saved, ws)| {
        let mut predictor = Predictor { model: &saved.model, params: &saved.params, workspace: ws };
        predictor.probabilities(0..good.len(), |rows, input| {
            for (picture, input) in good[rows].iter().zip(input.chunks_exact_mut(h * w * c)) {
                saved.normalizer.pixels(&picture.pixels, input);
            }
        })
    });
    let probabilities = mean(all.collect());
    let mut rows = probabilities.chunks_exact(models[0].model.classes);
    let mut outcome = |(file, picture): (&PathBuf, &std::result::Result<Picture, String>)| {
        let row = if picture.is_ok() { rows.next() } else { None };
        match (picture, row.and_then(|row| Some((kernels::argmax(row)?, row)))) {
            (Err(reason), _) => Err(reason.clone()),
            (Ok(_), None) => Err(format!("{}: the model gives no number for it", file.display())),
            (Ok(picture), Some((class, row))) => {
                if let Some(maps) = &mut *maps.lock().unwrap_or_else(PoisonError::into_inner) {
                    maps.write(file, &picture.pixels, class);
                }
                Ok(choice.prediction(text_of(file), row, class))
            }
        }
    };
    let several =
        |picture: &std::result::Result<Picture, String>| picture.as_ref().is_ok_and(|picture| picture.several);
    files.iter().zip(&pictures).map(|both| (outcome(both), several(both.1))).collect()
}

/// The mean of what several models say; what one says stays as it is.
fn mean(mut all: Vec<Vec<f32>>) -> Vec<f32> {
    let mut found = all.remove(0);
    if !all.is_empty() {
        for (index, value) in found.iter_mut().enumerate() {
            let sum = all.iter().fold(f64::from(*value), |sum, other| sum + f64::from(other[index]));
            *value = (sum / (all.len() + 1) as f64) as f32;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comm::Threads;

    #[test]
    fn the_root_has_all_answers_in_order_however_many_travel_at_once() {
        // So many classes that each travels alone; the last rank has one more than the others.
        for classes in [2, PIECE] {
            let all = Threads::run(3, |comm| {
                let own = (0..2 + comm.rank() / 2).map(|index| Err(format!("{}-{index}", comm.rank()))).collect();
                gather(own, 3, classes, comm)
                    .unwrap()
                    .into_iter()
                    .map(|outcome| outcome.unwrap_err())
                    .collect::<Vec<_>>()
            });
            assert_eq!(all[0], ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1", "2-2"]);
            assert!(all[1].is_empty() && all[2].is_empty());
        }
    }
}
