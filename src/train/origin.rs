//! Where a run begins: from nothing, from where another process left it, or from the weights of another run.

use std::path::{Path, PathBuf};

use super::digests;
use super::run_dir::{RunDir, checkpoints_of, summary_of};
use super::saver::{self, Meta};
use crate::checkpoint::State;
use crate::comm::{Communicator, on_root};
use crate::config::{RunConfig, Settings};
use crate::error::{Error, Result};
use crate::kernels::Buffer;
use crate::model::Params;
use crate::optim::{Optimizer, Schedule};
use crate::plural::plural;
use crate::report::Console;

/// Where a run begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Origin {
    /// From initial weights.
    #[default]
    Scratch,
    /// From the newest checkpoint of the run in this folder, in the same folder.
    Resume(PathBuf),
    /// From the weights of the run in this folder, as a run of its own.
    Fork(PathBuf),
}

/// Settings that may change while a run goes on: they do not touch what it computes.
const FREE: [&str; 12] = [
    "data",
    "checkpoint-every",
    "keep",
    "max-failed-checkpoints",
    "stall-timeout",
    "digest-every",
    "max-steps",
    "comm",
    "window",
    "trace",
    "tensorboard",
    "ranks-per-member",
];

/// What the settings of a run in a folder are, as it wrote them.
pub(super) const CONFIG: &str = "config.toml";

/// Collective: how far the run in `dir` came, if it is finished and `config` does not ask for more steps.
///
/// # Errors
/// When the root cannot read the folder, or `config` is that of another run.
pub fn finished(dir: &Path, config: &RunConfig, comm: &dyn Communicator) -> Result<Option<String>> {
    let found = on_root(comm, || {
        let Some((steps, weights)) = finish_of(dir) else { return Ok(String::new()) };
        let path = dir.join(CONFIG);
        let text = crate::files::read_text(&path)?;
        same_settings(dir, &text, config)?;
        let old = Settings::read(&path)?;
        if old.max_steps != config.max_steps || old.epochs != Some(config.epochs) {
            return Ok(String::new());
        }
        Ok(format!(
            "the run in {} is finished: {}, weights sha256 {weights}",
            dir.display(),
            plural(steps as usize, "step")
        ))
    })?;
    Ok(Some(found).filter(|text| !text.is_empty()))
}

/// Steps and weights of a run that is finished.
pub(super) fn finish_of(dir: &Path) -> Option<(u64, String)> {
    let summary = summary_of(dir)?;
    let whole = dir.join("model.h5").exists() || summary["members"].is_array();
    Some((summary["steps"].as_u64()?, summary["weights_sha256"].as_str()?.to_owned())).filter(|_| whole)
}

impl Origin {
    /// Collective: takes the folder of a run that is to go on, before anything of it is read. The root says when it has to
    /// wait for another process.
    ///
    /// # Errors
    /// When another process keeps it.
    pub fn reopen(&self, comm: &dyn Communicator, console: &Console) -> Result<RunDir> {
        match self {
            Origin::Resume(dir) => RunDir::reopen(dir, comm, console),
            _ => Ok(RunDir::default()),
        }
    }

    /// Collective: the plan of a run that is to go on, where its weights depend on it.
    ///
    /// # Errors
    /// When the root cannot read it.
    pub fn plan(&self, comm: &dyn Communicator) -> Result<String> {
        match self {
            Origin::Resume(dir) => on_root(comm, || digests::plan_of(dir)),
            _ => Ok(String::new()),
        }
    }
}

/// Collective: the root reads the newest whole checkpoint in `dir` of at most `at_most` steps and gives it to all; damaged
/// ones are named. What it says of its run.
///
/// # Errors
/// When none of them is whole, `check` refuses it, or it is of another network or optimizer.
pub fn restore(
    dir: &Path,
    at_most: Option<usize>,
    params: &mut Params,
    mut optimizer: Option<&mut Optimizer>,
    comm: &dyn Communicator,
    console: &Console,
    check: &dyn Fn(&Meta) -> Result<()>,
) -> Result<Meta> {
    let mut found = None;
    let text = on_root(comm, || {
        let (state, meta) = newest(dir, at_most, console)?;
        check(&meta)?;
        saver::restore_params(&state, params)?;
        if let Some(optimizer) = &mut optimizer {
            saver::restore_optimizer(&state, meta.optimizer_steps, params, optimizer)?;
        }
        found = Some(meta);
        Ok(state.meta.clone())
    })?;
    let place = || dir.display().to_string();
    let meta = match found {
        Some(meta) => meta,
        None => saver::parse(&text, place())?,
    };
    share(&mut params.values, comm);
    if let Some(optimizer) = optimizer {
        let own = optimizer.state();
        *own.steps = meta.optimizer_steps;
        share(own.first, comm);
        share(own.second, comm);
    }
    // Where ranks share memory, all of them have written into it.
    comm.node_barrier();
    Ok(meta)
}

/// Collective: the root's values, on every rank.
fn share(values: &mut Buffer, comm: &dyn Communicator) {
    if comm.size() == 1 {
        return;
    }
    let own = if comm.is_root() { bytemuck::cast_slice(values).to_vec() } else { Vec::new() };
    let bytes = comm.broadcast(own);
    for (value, four) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *value = f32::from_ne_bytes(*four);
    }
}

/// The newest whole checkpoint in `dir` of at most `at_most` steps, and what it says.
pub(super) fn newest(dir: &Path, at_most: Option<usize>, console: &Console) -> Result<(State, Meta)> {
    let checkpoints = checkpoints_of(dir);
    let mut damaged = Vec::new();
    // A run that goes on meanwhile takes its older ones away.
    for _ in 0..3 {
        damaged.clear();
        let mut at_most = at_most;
        while let Some((step, state)) = checkpoints.newest_whole(at_most, &mut |error| damaged.push(error.to_string()))
        {
            let meta = saver::meta(&state)?;
            match saver::check_name(&state, &meta) {
                Ok(()) => {
                    damaged.iter().for_each(|error| console.warn(format!("a checkpoint is left out: {error}")));
                    return Ok((state, meta));
                }
                Err(error) => damaged.push(error.to_string()),
            }
            let Some(below) = step.checked_sub(1) else { break };
            at_most = Some(below);
        }
    }
    Err(Error::Several {
        what: format!("{}: no checkpoint that can be used", checkpoints.folder().display()),
        items: damaged,
        fix: "mend what is named, or move the folder 'checkpoints' away to start over".to_owned(),
    })
}

/// Whether a checkpoint is of the run that this process would go on with.
pub(super) fn same_run(
    dir: &Path,
    meta: &Meta,
    data: &str,
    (ranks, plan): (usize, &str),
    config: &RunConfig,
) -> Result<()> {
    same_settings(dir, &meta.settings, config)?;
    if meta.data != data {
        return Err(changed(dir, vec![format!("the rows of the dataset: digest {data} was {}", meta.data)]));
    }
    if let Some(setting) = config.binds_ranks().filter(|_| meta.ranks != ranks) {
        return Err(changed(dir, vec![format!("ranks, with {setting}: {ranks} were {}", meta.ranks)]));
    }
    if meta.plan != plan {
        return Err(changed(dir, vec![format!("plan, with --wire bf16: {plan} was {}", meta.plan)]));
    }
    Ok(())
}

/// Whether the settings `text` of the run in `dir` are those of `config`, as far as they decide what is computed.
pub(super) fn same_settings(dir: &Path, text: &str, config: &RunConfig) -> Result<()> {
    let differing = differing(text, config)?;
    if differing.is_empty() { Ok(()) } else { Err(changed(dir, differing)) }
}

/// What of the settings `text` is not as in `config`, as far as it decides what is computed.
pub(super) fn differing(text: &str, config: &RunConfig) -> Result<Vec<String>> {
    let parse = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
    let (old, new) = (parse(text), parse(&config.to_toml()?));
    // Without a schedule, more epochs only come behind those that were.
    let more_epochs = config.schedule == Schedule::Constant;
    let is_free = |key: &str| FREE.contains(&key) || (key == "epochs" && more_epochs);
    let show = |value: Option<&toml::Value>| value.map_or("not set".to_owned(), |value| short(&value.to_string()));
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    Ok(keys
        .into_iter()
        .filter(|key| !is_free(key) && old.get(*key) != new.get(*key))
        .map(|key| format!("{key}: {} was {}", show(new.get(key)), show(old.get(key))))
        .collect())
}

/// The values of a whole network would hide the rest.
fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

pub(super) fn changed(dir: &Path, differing: Vec<String>) -> Error {
    Error::Several {
        what: format!("--resume {}: these are not as they were, and decide what the run computes", dir.display()),
        items: differing,
        fix: "leave them as they were, or add --fork to start a run of its own from those weights".to_owned(),
    }
}
