//! Where a run begins: from nothing, from where another process left it, or from the weights of another run.

use std::path::{Path, PathBuf};

use super::run_dir::{RunDir, checkpoints_of, summary_of};
use super::saver::{Meta, Saver, meta, restore_optimizer, restore_params};
use super::trainer::Trainer;
use crate::checkpoint::{self, State, read_state};
use crate::comm::{Communicator, Reduce, agree, agree_root};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::metrics::EpochLine;
use crate::optim::Schedule;
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
const FREE: [&str; 5] = ["data", "checkpoint-every", "keep", "digest-every", "max-steps"];

/// What the settings of a run in a folder are, as it wrote them.
const CONFIG: &str = "config.toml";

/// Collective: how far the run in `dir` came, if it is finished and `config` does not ask for more steps.
///
/// # Errors
/// When the root cannot read the folder.
pub fn finished(dir: &Path, config: &RunConfig, comm: &dyn Communicator) -> Result<Option<String>> {
    let found = agree_root(comm, || {
        let Some(summary) = summary_of(dir) else { return Ok(String::new()) };
        let text = std::fs::read_to_string(dir.join(CONFIG)).map_err(Error::io("read", dir.join(CONFIG)))?;
        let old: toml::Table = text.parse().unwrap_or_default();
        let number = |key: &str| old.get(key).and_then(toml::Value::as_integer).map(|n| n as usize);
        if number("max-steps") != config.max_steps || number("epochs") != Some(config.epochs) {
            return Ok(String::new());
        }
        Ok(format!(
            "the run in {} is finished: {} steps, weights sha256 {}",
            dir.display(),
            summary["steps"],
            summary["weights_sha256"].as_str().unwrap_or("unknown"),
        ))
    })?;
    Ok(Some(found).filter(|text| !text.is_empty()))
}

impl Trainer<'_> {
    /// Collective: takes or makes the run's folder, and puts the run where `origin` says. The lines of its epochs so far.
    ///
    /// # Errors
    /// When the folder is not to be had, or the run cannot be gone on with so.
    pub fn begin(&mut self, origin: &Origin, console: &Console) -> Result<Vec<EpochLine>> {
        let (comm, config) = (self.comm, self.config);
        let mut lines = Vec::new();
        let mut newest = None;
        match origin {
            Origin::Scratch | Origin::Fork(_) => {
                if let Origin::Fork(dir) = origin {
                    self.take_weights(dir, console)?;
                }
                self.folder = RunDir::create(&self.config_that_runs(), &self.model.spec.name, comm)?;
            }
            Origin::Resume(dir) => {
                self.folder = RunDir::reopen(dir, comm)?;
                newest = self.resume(dir, console)?;
                let (epochs, steps, text) =
                    (self.progress.epoch, self.progress.step, self.config_that_runs().to_toml()?);
                let folder = &mut self.folder;
                let chain = &mut self.chain;
                agree_root(comm, || {
                    (lines, *chain) = folder.go_on(epochs, steps, &text)?;
                    checkpoints_of(dir).remove_after(newest.unwrap_or(0))?;
                    Ok(String::new())
                })?;
            }
        }
        if comm.is_root() {
            let checkpoints = self.folder.checkpoints();
            self.saver = Some(Saver::new(checkpoints, config.checkpoint_every, config.keep, newest));
        }
        let fork = matches!(origin, Origin::Fork(_));
        self.write_start(fork);
        if fork {
            // Without it nobody could begin again where this run began.
            self.save_state(console);
        }
        Ok(lines)
    }

    /// Collective: the newest whole checkpoint in `dir`, if there is one; damaged ones are named.
    fn newest_state(&self, dir: &Path, console: &Console) -> Result<Option<(usize, State)>> {
        let checkpoints = checkpoints_of(dir);
        let found = agree_root(self.comm, || {
            let warn = &mut |damaged: &Error| console.warn(format!("a checkpoint is left out: {damaged}"));
            Ok(checkpoints.newest_whole(None, warn).map_or(String::new(), |(step, _)| step.to_string()))
        })?;
        let Ok(step) = found.parse::<usize>() else { return Ok(None) };
        let state = agree(self.comm, read_state(&checkpoints.path(step)))?;
        Ok(Some((step, state)))
    }

    /// Collective: goes to where the run in `dir` was left. After how many steps that is, if there was a checkpoint.
    fn resume(&mut self, dir: &Path, console: &Console) -> Result<Option<usize>> {
        let comm = self.comm;
        let Some((step, state)) = self.newest_state(dir, console)? else {
            let text = std::fs::read_to_string(dir.join(CONFIG)).map_err(Error::io("read", dir.join(CONFIG)));
            agree(comm, text.and_then(|text| self.same_settings(dir, &text)))?;
            console.say(format!("{} has no checkpoint yet: starting over", dir.display()));
            return Ok(None);
        };
        let restored = meta(&state).and_then(|meta| {
            self.same_run(dir, &meta)?;
            restore_params(&state, &mut self.params)?;
            restore_optimizer(&state, meta.optimizer_steps, &self.params, &mut self.optimizer)?;
            Ok(meta.progress)
        });
        self.progress = agree(comm, restored)?;
        console.say(format!(
            "resuming {} after step {step} (epoch {})",
            dir.display(),
            self.progress.epoch + 1
        ));
        Ok(Some(step))
    }

    /// Whether a checkpoint is of the run that this process would go on with.
    fn same_run(&self, dir: &Path, meta: &Meta) -> Result<()> {
        self.same_settings(dir, &meta.settings)?;
        let changed = |what: String| {
            Err(changed(dir, vec![what]))
        };
        if meta.data != self.data.fingerprint {
            return changed(format!("the rows of the dataset: digest {} was {}", self.data.fingerprint, meta.data));
        }
        if self.config.reduce == Reduce::Mpi && meta.ranks != self.comm.size() {
            return changed(format!("ranks, with --reduce mpi: {} were {}", self.comm.size(), meta.ranks));
        }
        Ok(())
    }

    /// Whether the settings are those of `text`, as far as they decide what is computed.
    fn same_settings(&self, dir: &Path, text: &str) -> Result<()> {
        let parse = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
        let (old, new) = (parse(text), parse(&self.config_that_runs().to_toml()?));
        // Without a schedule, more epochs only come behind those that were.
        let more_epochs = self.config.schedule == Schedule::Constant;
        let is_free = |key: &str| FREE.contains(&key) || (key == "epochs" && more_epochs);
        let show = |value: Option<&toml::Value>| value.map_or("not set".to_owned(), |value| short(&value.to_string()));
        let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let differing: Vec<String> = keys
            .into_iter()
            .filter(|key| !is_free(key) && old.get(*key) != new.get(*key))
            .map(|key| format!("{key}: {} was {}", show(new.get(key)), show(old.get(key))))
            .collect();
        if differing.is_empty() { Ok(()) } else { Err(changed(dir, differing)) }
    }

    /// Collective: the weights of the run in `dir`, and nothing else of it.
    fn take_weights(&mut self, dir: &Path, console: &Console) -> Result<()> {
        let comm = self.comm;
        if let Some((step, state)) = self.newest_state(dir, console)? {
            agree(comm, restore_params(&state, &mut self.params))?;
            console.say(format!("starting from the weights of {} after step {step}", dir.display()));
            return Ok(());
        }
        let path = dir.join("model.h5");
        let saved = agree(comm, checkpoint::read(&path))?;
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

/// The values of a whole network would hide the rest.
fn short(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn changed(dir: &Path, differing: Vec<String>) -> Error {
    Error::Several {
        what: format!("--resume {}: these are not as they were, and decide what the run computes", dir.display()),
        items: differing,
        fix: "leave them as they were, or add --fork to start a run of its own from those weights".to_owned(),
    }
}
