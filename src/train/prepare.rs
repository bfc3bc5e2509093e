//! What has become of runs that are to be dealt out: which are over, which go on, which are new.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::batch::batch_of;
use super::job::Job;
use super::origin::{CONFIG, Origin, differing, finished};
use crate::comm::{Communicator, Solo, on_root};
use crate::config::{RunConfig, Settings};
use crate::data::{Dataset, RowShape, Shards, Split};
use crate::error::{Error, Result, indented};
use crate::files::{text_if_there, write_whole};
use crate::model::Model;
use crate::report::DIVERGED;

/// What a weight costs a step, in operations: with the paper's network one step of batch 16 takes 53.5 ms, one of 64 takes 171
/// (`glasses bench`, README.md), 2.45 ms an image and 14.3 a step: 137 GFLOP/s, and 2.2 ns for each of 6.58 million weights.
const OPERATIONS_OF_A_WEIGHT: f64 = 300.0;

/// What has become of a run.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // There is one of them for each run of a sweep.
pub enum Found {
    /// It is to be run, or to go on.
    Left(Job),
    /// It is over.
    Finished,
    /// It came to numbers that are none, and would again.
    Diverged(String),
}

/// The state of a run's folder, as the root broadcasts it.
#[derive(Serialize, Deserialize)]
enum FolderState {
    New,
    GoesOn(String),
    Finished,
    Diverged(String),
}

/// Collective: looks into the folder of each run in `folder`. A run that is new begins there. Where nobody said how many shards a run
/// has (`any_shards`), one that has begun keeps its own: the default goes by the ranks of a run, `each`, which may be others now.
///
/// # Errors
/// When a folder holds a run of other settings, or another thing.
pub fn prepare(
    runs: Vec<(String, RunConfig)>,
    folder: &Path,
    (each, any_shards): (usize, bool),
    comm: &dyn Communicator,
) -> Result<Vec<Found>> {
    let states = on_root(comm, || {
        let states = runs
            .iter()
            .map(|(name, config)| look(&folder.join(name), config, any_shards))
            .collect::<Result<Vec<_>>>()?;
        serde_json::to_string(&states).map_err(|e| Error::io("describe", folder)(e.into()))
    })?;
    let states: Vec<FolderState> =
        serde_json::from_str(&states).map_err(|e| Error::io("understand", folder)(e.into()))?;
    let found = |((name, config), state): ((String, RunConfig), FolderState)| -> Result<Found> {
        let folder = folder.join(&name);
        let job = |config, origin| Found::Left(Job { name, config, origin, folder: folder.clone() });
        Ok(match state {
            FolderState::New => job(RunConfig { out: Some(folder.clone()), ..config }, Origin::Scratch),
            FolderState::GoesOn(text) => {
                let config = adopt(config, &folder, &text, any_shards)?;
                config.enough_shards(each)?;
                job(config, Origin::Resume(folder.clone()))
            }
            FolderState::Finished => Found::Finished,
            FolderState::Diverged(message) => Found::Diverged(message),
        })
    };
    runs.into_iter().zip(states).map(found).collect()
}

fn look(folder: &Path, config: &RunConfig, any_shards: bool) -> Result<FolderState> {
    let read = |name: &str| text_if_there(&folder.join(name));
    if let Some(text) = read(DIVERGED)? {
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let [message, settings] = ["error", "config"].map(|key| value[key].as_str().unwrap_or_default().to_owned());
        same(folder, &settings, &adopt(config.clone(), folder, &settings, any_shards)?)?;
        return Ok(FolderState::Diverged(message));
    }
    let Some(text) = read(CONFIG)? else { return Ok(FolderState::New) };
    let config = adopt(config.clone(), folder, &text, any_shards)?;
    same(folder, &text, &config)?;
    let finished = finished(folder, &config, &Solo::default())?;
    Ok(if finished.is_some() { FolderState::Finished } else { FolderState::GoesOn(text) })
}

/// What the data, or the ranks, decided for a run that has begun, it keeps.
fn adopt(config: RunConfig, folder: &Path, text: &str, any_shards: bool) -> Result<RunConfig> {
    let old: Settings = toml::from_str(text).map_err(|e| {
        let found = indented(&e.to_string());
        let fix = "move the folder away, or name another with --out";
        Error::invalid(folder.join(CONFIG).display().to_string(), found, "the settings of a run", fix)
    })?;
    let (normalize, augment) = (config.normalize.or(old.normalize), config.augment.or(old.augment));
    let (batch, shuffle_block) = (config.batch.or(old.batch), config.shuffle_block.or(old.shuffle_block));
    let shards = old.shards.filter(|_| any_shards).unwrap_or(config.shards);
    Ok(RunConfig { batch, normalize, augment, shuffle_block, shards, ..config })
}

/// Whether the settings `text` of the run in `folder` are those that are asked for.
fn same(folder: &Path, text: &str, config: &RunConfig) -> Result<()> {
    let differing = differing(text, config)?;
    if differing.is_empty() {
        return Ok(());
    }
    Err(Error::Several {
        what: format!("{} holds a run of other settings", folder.display()),
        items: differing,
        fix: "pass them as they were, or name another folder with --out".to_owned(),
    })
}

/// Keeps why a run has no result but this one, and its settings: it is not tried again.
///
/// # Errors
/// When the disk refuses.
pub fn write_divergence(folder: &Path, message: &str, config: &RunConfig) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
    let text = serde_json::json!({ "error": message, "config": config.to_toml()? });
    write_whole(&folder.join(DIVERGED), format!("{text:#}\n").as_bytes())
}

/// How much work a run is, in operations: what its rows take forward and backward, and what its steps take whatever their rows.
/// Of an ensemble: all its members. What is read of its data is the outline.
///
/// # Errors
/// When the data cannot be read, or the model does not fit it.
pub fn work_of(config: &RunConfig) -> Result<f64> {
    let dataset = Dataset::open(&config.data)?;
    let rows = dataset.rows(Split::Train);
    let batch = batch_of(config, rows)?;
    let classes = dataset.class_names()?.len();
    let flat = matches!(dataset.shape, RowShape::Features { .. });
    let model = Model::new(config.model.resolve()?, dataset.shape.hwc(), flat, classes, config.kernels)?;
    let steps = config.epochs * Shards::new(rows, config.shards).steps(batch);
    let made = config.max_steps.unwrap_or(steps).min(steps) as f64;
    let rows = (config.epochs * rows) as f64 * made / steps as f64;
    let weights = model.parameters() as f64 * OPERATIONS_OF_A_WEIGHT;
    Ok((rows * model.training_flops() as f64 + made * weights) * config.members() as f64)
}
