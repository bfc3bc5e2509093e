//! What a folder holds that was named where a run, or its model, is wanted.

use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoints;
use crate::error::{Error, Result, nearest_file};
use crate::train::member_folder;

/// The model file that `path` names: itself, or the one in a run's folder.
///
/// # Errors
/// When the run in the folder is not over: says what it has instead.
pub fn model_file(path: &Path) -> Result<PathBuf> {
    let here = |run| if run == Path::new("") { Path::new(".") } else { run };
    let run = path.parent().map(here).filter(|run| run.join("config.toml").exists());
    let path = match run {
        Some(run) if path.ends_with("checkpoints") && path.is_dir() => {
            let model = model_file(run)?;
            let fix = format!("name the model, {}, or one of the checkpoints", model.display());
            return Err(Error::invalid(path.display().to_string(), "a folder of checkpoints", "a model", fix));
        }
        Some(run) if path.ends_with("model.h5") && path.symlink_metadata().is_err() => run,
        _ if !path.is_dir() => return Ok(path.to_owned()),
        _ => path,
    };
    let file = path.join("model.h5");
    if file.exists() || !path.join("config.toml").exists() {
        return Ok(file);
    }
    let checkpoints = Checkpoints::new(path.join("checkpoints"));
    let newest = checkpoints.steps().unwrap_or_default().last().map(|&step| checkpoints.path(step));
    let best = Some(path.join("best.h5")).filter(|best| best.exists());
    let resume = format!("go on with it: glasses train --resume {}", path.display());
    let fix = match newest.or(best) {
        Some(file) => format!("{resume}; or name what it has so far: {}", file.display()),
        None => resume,
    };
    let found = "a run that was interrupted, or goes on: it has no model.h5 yet";
    Err(Error::invalid(path.display().to_string(), found, "a run that is over", fix))
}

/// Whether a run was begun in the folder `dir`, which `argument` names.
///
/// # Errors
/// When it was not.
pub fn begun(argument: &str, dir: &Path) -> Result<()> {
    not_a_sweep(dir)?;
    // What is there and no file is refused by who reads it.
    if dir.join("config.toml").exists() {
        return Ok(());
    }
    let (found, fix) = match (dir.is_dir(), dir.parent()) {
        _ if !dir.exists() => {
            let near = nearest_file(dir).map(|near| format!("did you mean '{}'?", near.display()));
            let check = "check the path; `glasses train` prints it at its end (runs/… without --out)";
            ("no such folder", near.unwrap_or_else(|| check.to_owned()))
        }
        (false, Some(folder)) if folder.join("config.toml").is_file() => {
            ("a file", format!("name the folder it lies in: {}", folder.display()))
        }
        (false, _) => ("a file", "name the folder of a run; `glasses train` prints it at its end".to_owned()),
        (true, _) => (
            "a folder in which no run was begun: it has no config.toml",
            "name the folder of a run; `glasses train` prints it at its end (runs/… without --out)".to_owned(),
        ),
    };
    Err(Error::invalid(format!("{argument} {}", dir.display()), found, "the folder of a run", fix))
}

/// Whether `path` may be a run's folder: it is not one of several runs, an ensemble or a sweep.
///
/// # Errors
/// When it is; a run in it is named.
pub fn one_run(path: &Path) -> Result<()> {
    if member_folder(path, 0).is_dir() {
        let fix = format!("name a member: {}", member_folder(path, 0).display());
        return Err(several(path, "an ensemble's folder", fix));
    }
    not_a_sweep(path)
}

/// Whether `path` is not a sweep's folder.
///
/// # Errors
/// When it is; a run in it is named.
pub fn not_a_sweep(path: &Path) -> Result<()> {
    if path.join("config.toml").exists() {
        return Ok(());
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let mut runs: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|run| run.join("config.toml").exists()).collect();
    runs.sort();
    match runs.first() {
        None => Ok(()),
        Some(run) => Err(several(
            path,
            "a folder of several runs, as a sweep makes it",
            format!("name one of them: {}", run.display()),
        )),
    }
}

fn several(path: &Path, found: &str, fix: String) -> Error {
    Error::invalid(path.display().to_string(), found, "the folder of one run", fix)
}
