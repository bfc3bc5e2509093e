//! Where a run begins: from scratch, resumed or forked.

use std::path::Path;

use super::alike;
use super::origin::{CONFIG, Origin, finish_of, restore, same_run, same_settings};
use super::pulse;
use super::recorder::Recorder;
use super::run::Run;
use super::run_dir::{RunDir, checkpoints_of};
use super::saver::{self, Meta, Saver};
use crate::checkpoint::{self, Checkpoints, Described};
use crate::comm::{all_agree, on_root};
use crate::error::{Error, Result};
use crate::plural::plural;
use crate::report::Console;

/// Collective: makes the run's folder where it has none, and puts the run where `origin` says.
///
/// # Errors
/// When the folder is not to be had, or the run cannot be gone on with so.
pub fn begin(run: &mut Run<'_>, recorder: &mut Recorder, origin: &Origin, console: &Console) -> Result<()> {
    let (comm, config) = (run.comm, run.config);
    let mut newest = None;
    match origin {
        Origin::Scratch => {
            let (config, name) = (run.config_that_runs(), &run.model.spec.name);
            recorder.folder = RunDir::create(&config, name, comm, |_| Ok(()))?;
            pulse::in_folder(recorder.folder.path(), comm.is_root());
        }
        Origin::Fork(dir) => {
            take_weights(run, dir, console)?;
            let (config, meta) = (run.config_that_runs(), recorder.meta(run));
            let (params, optimizer) = (&run.params, &mut run.optimizer);
            // Without it nobody could begin again where this run began.
            let first = |checkpoints: &Checkpoints| saver::write_first(checkpoints, meta, params, optimizer);
            recorder.folder = RunDir::create(&config, &run.model.spec.name, comm, first)?;
            pulse::in_folder(recorder.folder.path(), comm.is_root());
        }
        Origin::Resume(dir) => {
            pulse::in_folder(dir, comm.is_root());
            newest = resume(run, recorder, dir, console)?;
            let (progress, text) = (&run.progress, run.config_that_runs().to_toml()?);
            let (folder, lines) = (&mut recorder.folder, &recorder.lines);
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
        let checkpoints = recorder.folder.checkpoints();
        recorder.saver = Some(Saver::new(checkpoints, config.checkpoint_every, config.keep, run.progress.step, newest));
        if let Some(reason) = recorder.folder.unlocked() {
            console
                .warn(format!("nothing keeps another process out of {}: {reason}", recorder.folder.path().display()));
        }
    }
    recorder.write_start(run, matches!(origin, Origin::Fork(_)));
    Ok(())
}

/// Collective: goes to where the run in `dir` was left. After how many steps that is, if there was a checkpoint.
fn resume(run: &mut Run<'_>, recorder: &mut Recorder, dir: &Path, console: &Console) -> Result<Option<usize>> {
    let comm = run.comm;
    let none = on_root(comm, || {
        let refuse = |found: String, fix: &str| {
            Err(Error::invalid(format!("--resume {}", dir.display()), found, "a run that was left in the middle", fix))
        };
        if !checkpoints_of(dir).steps()?.is_empty() {
            return Ok(String::new());
        }
        if finish_of(dir).is_some() {
            return refuse("a finished run without a checkpoint".to_owned(), "use its model.h5, or --fork it");
        }
        let path = dir.join(CONFIG);
        let text = crate::files::read_text(&path)?;
        same_settings(dir, &text, &run.config_that_runs())?;
        Ok("none".to_owned())
    })?;
    if none == "none" {
        console.say(format!("{} has no checkpoint yet: starting over", dir.display()));
        return Ok(None);
    }
    let (data, ranks, config) = (&run.data.fingerprint, comm.size(), run.config_that_runs());
    let plan = run.lockstep.binding_plan();
    let check = |meta: &Meta| same_run(dir, meta, data, (ranks, &plan), &config);
    let meta = restore(dir, None, &mut run.params, Some(&mut run.optimizer), comm, console, &check)?;
    (run.progress, recorder.lines, recorder.chain) = (meta.progress, meta.lines, meta.chain);
    let step = run.progress.step;
    if run.total_steps < step {
        return Err(Error::invalid(
            "--max-steps",
            plural(run.total_steps, "step"),
            format!("at least the {step} that {} has made", dir.display()),
            "leave it away, or add --fork",
        ));
    }
    console.say(format!("resuming {} after step {step} (epoch {})", dir.display(), run.progress.epoch + 1));
    Ok(Some(step))
}

/// Collective: the weights of the run in `dir`, and nothing else of it.
fn take_weights(run: &mut Run<'_>, dir: &Path, console: &Console) -> Result<()> {
    let comm = run.comm;
    let any = on_root(comm, || Ok(if checkpoints_of(dir).steps()?.is_empty() { "" } else { "some" }.to_owned()))?;
    if any == "some" {
        let data = &run.data;
        let check = |meta: &Meta| match meta.model.as_ref().map(Described::rows) {
            Some((shape, classes)) => alike::check(dir, (shape, classes), (data.shape, &data.classes), console),
            None => Ok(()),
        };
        let meta = restore(dir, None, &mut run.params, None, comm, console, &check)?;
        let step = meta.progress.step;
        console.say(format!("starting from the weights of {} after step {step}", dir.display()));
        return Ok(());
    }
    let path = dir.join("model.h5");
    let saved = all_agree(comm, checkpoint::read(&path))?;
    let (rows, data) = ((saved.shape, &saved.classes[..]), (run.data.shape, &run.data.classes[..]));
    all_agree(comm, alike::check(dir, rows, data, console))?;
    if saved.params.table != run.params.table {
        return Err(Error::invalid(
            path.display().to_string(),
            format!("weights of the network '{}'", saved.model.spec.name),
            format!("those of '{}', as this run has them", run.model.spec.name),
            "give --model as that run had it",
        ));
    }
    run.params.values.copy_from_slice(&saved.params.values);
    console.say(format!("starting from the weights of {}", path.display()));
    Ok(())
}
