//! Where a run begins: from nothing, from where another process left it, or from the weights of another run.

use std::path::{Path, PathBuf};

use super::alike;
use super::digests;
use super::pulse;
use super::run_dir::{RunDir, checkpoints_of, summary_of};
use super::saver::{self, Meta};
use super::trainer::Trainer;
use crate::checkpoint::{self, Checkpoints, Described, State};
use crate::comm::{Communicator, all_agree, on_root};
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
fn finish_of(dir: &Path) -> Option<(u64, String)> {
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

impl Trainer<'_> {
    /// Collective: makes the run's folder where it has none, and puts the run where `origin` says.
    ///
    /// # Errors
    /// When the folder is not to be had, or the run cannot be gone on with so.
    pub fn begin(&mut self, origin: &Origin, console: &Console) -> Result<()> {
        let (comm, config) = (self.comm, self.config);
        let mut newest = None;
        match origin {
            Origin::Scratch => {
                let (config, name) = (self.config_that_runs(), &self.model.spec.name);
                self.folder = RunDir::create(&config, name, comm, |_| Ok(()))?;
                pulse::in_folder(self.folder.path(), comm.is_root());
            }
            Origin::Fork(dir) => {
                self.take_weights(dir, console)?;
                let (config, meta) = (self.config_that_runs(), self.meta());
                let (params, optimizer) = (&self.params, &mut self.optimizer);
                // Without it nobody could begin again where this run began.
                let first = |checkpoints: &Checkpoints| saver::write_first(checkpoints, meta, params, optimizer);
                self.folder = RunDir::create(&config, &self.model.spec.name, comm, first)?;
                pulse::in_folder(self.folder.path(), comm.is_root());
            }
            Origin::Resume(dir) => {
                pulse::in_folder(dir, comm.is_root());
                newest = self.resume(dir, console)?;
                let (progress, text) = (&self.progress, self.config_that_runs().to_toml()?);
                let (folder, lines) = (&mut self.folder, &self.lines);
                on_root(comm, || {
                    folder.go_on(lines, progress.step, &text)?;
                    for path in checkpoints_of(dir).remove_after(newest.unwrap_or(0))? {
                        console.warn(format!(
                            "what is no checkpoint of this run is kept: it is called {} now",
                            path.display()
                        ));
                    }
                    Ok(String::new())
                })?;
            }
        }
        if comm.is_root() {
            let checkpoints = self.folder.checkpoints();
            self.saver =
                Some(saver::Saver::new(checkpoints, config.checkpoint_every, config.keep, self.progress.step, newest));
            if let Some(reason) = self.folder.unlocked() {
                console
                    .warn(format!("nothing keeps another process out of {}: {reason}", self.folder.path().display()));
            }
        }
        self.write_start(matches!(origin, Origin::Fork(_)));
        Ok(())
    }

    /// Collective: goes to where the run in `dir` was left. After how many steps that is, if there was a checkpoint.
    fn resume(&mut self, dir: &Path, console: &Console) -> Result<Option<usize>> {
        let comm = self.comm;
        let none = on_root(comm, || {
            let refuse = |found: String, fix: &str| {
                Err(Error::invalid(
                    format!("--resume {}", dir.display()),
                    found,
                    "a run that was left in the middle",
                    fix,
                ))
            };
            if !checkpoints_of(dir).steps()?.is_empty() {
                return Ok(String::new());
            }
            if finish_of(dir).is_some() {
                return refuse("a finished run without a checkpoint".to_owned(), "use its model.h5, or --fork it");
            }
            let path = dir.join(CONFIG);
            let text = crate::files::read_text(&path)?;
            same_settings(dir, &text, &self.config_that_runs())?;
            Ok("none".to_owned())
        })?;
        if none == "none" {
            console.say(format!("{} has no checkpoint yet: starting over", dir.display()));
            return Ok(None);
        }
        let (data, ranks, config) = (&self.data.fingerprint, comm.size(), self.config_that_runs());
        let plan = self.lockstep.binding_plan();
        let check = |meta: &Meta| same_run(dir, meta, data, (ranks, &plan), &config);
        let meta = restore(dir, None, &mut self.params, Some(&mut self.optimizer), comm, console, &check)?;
        (self.progress, self.lines, self.chain) = (meta.progress, meta.lines, meta.chain);
        let step = self.progress.step;
        if self.total_steps() < step {
            return Err(Error::invalid(
                "--max-steps",
                plural(self.total_steps(), "step"),
                format!("at least the {step} that {} has made", dir.display()),
                "leave it away, or add --fork",
            ));
        }
        console.say(format!("resuming {} after step {step} (epoch {})", dir.display(), self.progress.epoch + 1));
        Ok(Some(step))
    }

    /// Collective: the weights of the run in `dir`, and nothing else of it.
    fn take_weights(&mut self, dir: &Path, console: &Console) -> Result<()> {
        let comm = self.comm;
        let any = on_root(comm, || Ok(if checkpoints_of(dir).steps()?.is_empty() { "" } else { "some" }.to_owned()))?;
        if any == "some" {
            let data = &self.data;
            let check = |meta: &Meta| match meta.model.as_ref().map(Described::rows) {
                Some((shape, classes)) => alike::check(dir, (shape, classes), (data.shape, &data.classes), console),
                None => Ok(()),
            };
            let meta = restore(dir, None, &mut self.params, None, comm, console, &check)?;
            let step = meta.progress.step;
            console.say(format!("starting from the weights of {} after step {step}", dir.display()));
            return Ok(());
        }
        let path = dir.join("model.h5");
        let saved = all_agree(comm, checkpoint::read(&path))?;
        let (rows, data) = ((saved.shape, &saved.classes[..]), (self.data.shape, &self.data.classes[..]));
        all_agree(comm, alike::check(dir, rows, data, console))?;
        if saved.params.table != self.params.table {
            return Err(Error::invalid(
                path.display().to_string(),
                format!("weights of the network '{}'", saved.model.spec.name),
                format!("those of '{}', as this run has them", self.model.spec.name),
                "give --model as that run had it",
            ));
        }
        self.params.values.copy_from_slice(&saved.params.values);
        console.say(format!("starting from the weights of {}", path.display()));
        Ok(())
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
fn same_run(dir: &Path, meta: &Meta, data: &str, (ranks, plan): (usize, &str), config: &RunConfig) -> Result<()> {
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
fn same_settings(dir: &Path, text: &str, config: &RunConfig) -> Result<()> {
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
