//! A run's folder: `config.toml`, `metrics.jsonl`, `model.h5`, `summary.json`. The root writes, all know the path.
//!
//! A run that ends before its first epoch is over takes its folder away again; later, what completed epochs wrote stays.

use std::path::{Path, PathBuf};

use crate::comm::{Communicator, agree_root};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::metrics::{EpochLine, MetricsFile, Summary};

/// The folder of one run.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// On the root.
    metrics: Option<MetricsFile>,
    /// What to take away if no epoch is ever completed.
    unfinished: Unfinished,
}

/// Removes, when dropped, the files of a run that has nothing to show, and the folders that were made for it.
#[derive(Debug, Default)]
struct Unfinished {
    files: Vec<PathBuf>,
    /// Innermost first.
    folders: Vec<PathBuf>,
}

impl Unfinished {
    /// Makes `path` and the folders above it that are missing, and remembers which those were.
    fn create_folders(&mut self, path: &Path) -> Result<()> {
        let missing = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        self.folders = missing.map(Path::to_owned).chain(std::mem::take(&mut self.folders)).collect();
        std::fs::create_dir_all(path).map_err(Error::io("create the folder", path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
        for folder in &self.folders {
            // Refuses a folder that someone else has put something into.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

impl RunDir {
    /// Collective: the root makes the folder and writes what runs.
    ///
    /// # Errors
    /// When there is something in it already, or the place refuses.
    pub fn create(config: &RunConfig, model: &str, comm: &dyn Communicator) -> Result<RunDir> {
        let (mut metrics, mut unfinished) = (None, Unfinished::default());
        let path = agree_root(comm, || {
            check_out(config)?;
            let path = match &config.out {
                Some(path) => take(path, &mut unfinished)?,
                None => new_folder(model, &mut unfinished)?,
            };
            let [config_file, metrics_file] = ["config.toml", "metrics.jsonl"].map(|name| path.join(name));
            unfinished.files = vec![config_file.clone(), metrics_file.clone()];
            write_whole(&config_file, config_text(config)?.as_bytes())?;
            metrics = Some(MetricsFile::create(&metrics_file)?);
            Ok(path.display().to_string())
        })?;
        Ok(RunDir { path: path.into(), metrics, unfinished })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// On the root: adds an epoch's line.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn add(&mut self, line: &EpochLine) -> Result<String> {
        self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.add(line))?;
        (self.unfinished.files, self.unfinished.folders) = Default::default();
        Ok(String::new())
    }

    /// On the root: writes the summary, last of all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(&self, summary: &Summary) -> Result<String> {
        let path = self.path.join("summary.json");
        let mut text = serde_json::to_string_pretty(summary).map_err(|e| Error::io("write", &path)(e.into()))?;
        text.push('\n');
        write_whole(&path, text.as_bytes())?;
        Ok(String::new())
    }
}

fn config_text(config: &RunConfig) -> Result<String> {
    let head = "# What this run did; `glasses --config` with this file does it again, in a folder of its own.\n";
    Ok(format!("{head}{}", config.to_toml()?))
}

/// Whether the folder that the user named, if so, is new or empty: nothing is ever overwritten.
///
/// # Errors
/// When it holds something.
pub fn check_out(config: &RunConfig) -> Result<()> {
    let Some(path) = &config.out else {
        return Ok(());
    };
    let filled = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if filled {
        return Err(Error::invalid(
            format!("--out {}", path.display()),
            "a folder that holds something",
            "a new or an empty one",
            "name another, or move this one away",
        ));
    }
    Ok(())
}

/// The folder that the user named, made where it is missing.
fn take(path: &Path, unfinished: &mut Unfinished) -> Result<PathBuf> {
    unfinished.create_folders(path)?;
    Ok(path.to_owned())
}

/// `runs/<time>-<model>`, with a number behind it if two runs start in the same second.
fn new_folder(model: &str, unfinished: &mut Unfinished) -> Result<PathBuf> {
    let runs = Path::new("runs");
    unfinished.create_folders(runs)?;
    let safe: String = model.chars().map(|c| if c.is_alphanumeric() || "-_".contains(c) { c } else { '-' }).collect();
    let name = format!("{}-{safe}", jiff::Zoned::now().strftime("%Y%m%d-%H%M%S"));
    let mut path = runs.join(&name);
    let mut number = 2;
    loop {
        match std::fs::create_dir(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                path = runs.join(format!("{name}-{number}"));
                number += 1;
            }
            other => {
                other.map_err(Error::io("create the folder", &path))?;
                unfinished.folders.insert(0, path.clone());
                return Ok(path);
            }
        }
    }
}
