//! A run's folder: `config.toml`, `metrics.jsonl`, `digests.jsonl`, `checkpoints/`, `model.h5`, `summary.json`. The root
//! writes, all know the path. It has one writer: a lock that ends with its process.
//!
//! A run that ends before its first epoch is over or its first checkpoint written takes its folder away again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::checkpoint::Checkpoints;
use crate::comm::{Communicator, on_root};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::files::{is_temporary, read_text, remove_temporaries, write_whole};
use crate::lock::{LOCK_FILE, RunLock};
use crate::metrics::{EpochLine, Lines, Summary, json};
use crate::report::{Console, LIVE_FILE};
use crate::tensorboard;

const METRICS: &str = "metrics.jsonl";
/// The chain of digests.
pub const DIGESTS: &str = "digests.jsonl";
/// The results of a finished run.
pub const SUMMARY: &str = "summary.json";
const CHECKPOINTS: &str = "checkpoints";

/// How long a run that is to go on waits for its former process to end: ranks outlive a killed mpirun by a second or two.
const FORMER_PROCESS: Duration = Duration::from_secs(30);

/// What the folders of members begin with.
pub const MEMBER: &str = "member-";

/// The folder of a member.
pub fn member_folder(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("{MEMBER}{index}"))
}

/// The folder of one run.
#[derive(Debug, Default)]
pub struct RunDir {
    path: PathBuf,
    /// On the root.
    metrics: Option<Lines>,
    /// On the root.
    digests: Option<Lines>,
    /// What to take away if there is never anything to go on from.
    unfinished: Unfinished,
    /// On the root. Last: it is given back when all else is done.
    lock: Option<RunLock>,
}

/// Removes, when dropped, the files of a run that has nothing to show, and the folders that were made for it.
#[derive(Debug, Default)]
struct Unfinished {
    files: Vec<PathBuf>,
    /// Innermost first.
    folders: Vec<PathBuf>,
    /// What goes with the process, whatever came of the run: where it stands.
    live: Option<PathBuf>,
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
        for file in self.files.iter().chain(&self.live) {
            let _ = std::fs::remove_file(file);
        }
        for folder in &self.folders {
            // Refuses a folder that someone else has put something into.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

impl RunDir {
    /// Collective: the root makes the folder and writes what runs, after whatever has to be there `first`.
    ///
    /// # Errors
    /// When there is something in it already, or the place refuses.
    pub fn create(
        config: &RunConfig,
        model: &str,
        comm: &dyn Communicator,
        first: impl FnOnce(&Checkpoints) -> Result<()>,
    ) -> Result<RunDir> {
        let mut folder = RunDir::default();
        let path = on_root(comm, || {
            check_out(config)?;
            let unfinished = &mut folder.unfinished;
            let path = match &config.out {
                Some(path) => take(path, unfinished)?,
                None => new_folder(model, unfinished)?,
            };
            let [config_file, metrics, digests] = ["config.toml", METRICS, DIGESTS].map(|name| path.join(name));
            folder.lock = Some(RunLock::acquire(&path, Duration::ZERO)?);
            // Another process may have been faster.
            check_out(config)?;
            unfinished.files = vec![config_file.clone(), metrics.clone(), digests.clone(), path.join(LOCK_FILE)];
            unfinished.live = Some(path.join(LIVE_FILE));
            unfinished.folders.insert(0, path.join(CHECKPOINTS));
            first(&checkpoints_of(&path))?;
            write_config(&path, config)?;
            folder.metrics = Some(Lines::create(&metrics)?);
            folder.digests = Some(Lines::create(&digests)?);
            Ok(path.display().to_string())
        })?;
        folder.path = path.into();
        Ok(folder)
    }

    /// Collective: makes the folder of an ensemble, whose members have folders of their own in it.
    ///
    /// # Errors
    /// As [`RunDir::create`].
    pub fn create_for_members(config: &RunConfig, model: &str, comm: &dyn Communicator) -> Result<PathBuf> {
        let path = on_root(comm, || {
            check_out(config)?;
            let mut unfinished = Unfinished::default();
            let path = match &config.out {
                Some(path) => take(path, &mut unfinished)?,
                None => new_folder(&format!("{model}-ensemble"), &mut unfinished)?,
            };
            write_config(&path, config)?;
            unfinished.folders.clear();
            Ok(path.display().to_string())
        })?;
        Ok(path.into())
    }

    /// Collective: takes the folder of a run that is to go on, as soon as no other process has it, and removes what a killed
    /// one left half-written.
    ///
    /// # Errors
    /// When another process keeps it.
    pub fn reopen(path: &Path, comm: &dyn Communicator, console: &Console) -> Result<RunDir> {
        let mut folder = RunDir { path: path.to_owned(), ..RunDir::default() };
        on_root(comm, || {
            let lock = RunLock::acquire(path, Duration::ZERO).or_else(|held| {
                console.say(format!("waiting up to {} s: {held}", FORMER_PROCESS.as_secs()));
                RunLock::acquire(path, FORMER_PROCESS)
            });
            folder.lock = Some(lock?);
            folder.unfinished.live = Some(path.join(LIVE_FILE));
            remove_temporaries(path);
            Ok(String::new())
        })?;
        Ok(folder)
    }

    /// On the root: takes back what was written behind the epochs of `lines` and `step` steps, and writes the settings that
    /// go on.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn go_on(&mut self, lines: &[EpochLine], step: usize, config: &str) -> Result<()> {
        let path = self.path.join(METRICS);
        write_whole(&path, text_of(lines, &path)?.as_bytes())?;
        self.metrics = Some(Lines::go_on(&path, |_| true)?);
        let up_to = |value: &Value| value["step"].as_u64().is_some_and(|at| at <= step as u64);
        self.digests = Some(Lines::go_on(&self.path.join(DIGESTS), up_to)?);
        tensorboard::keep_steps(&self.path, |at| lines.iter().any(|line| line.step == at))?;
        write_whole(&self.path.join("config.toml"), with_head(config).as_bytes())?;
        match std::fs::remove_file(self.path.join(SUMMARY)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", self.path.join(SUMMARY))(e)),
            _ => Ok(()),
        }
    }

    /// On the root: whether the folder of that name is the one that this run has taken.
    pub fn is_own(&self) -> bool {
        self.lock.as_ref().is_none_or(|lock| lock.is_of(&self.path))
    }

    /// On the root: where the folder, or one of the files that it cannot do without, was taken away, makes it anew: the settings
    /// `config`, the `lines` of the epochs that are done, the digests. Whether it was so.
    ///
    /// # Errors
    /// When another run has the place, or the disk refuses.
    pub fn mend(&mut self, lines: &[EpochLine], config: &str) -> Result<bool> {
        let Some(lock) = &self.lock else { return Ok(false) };
        let is_there = |lines: &Option<Lines>| lines.as_ref().is_some_and(Lines::is_there);
        let (locked, settings) = (lock.is_of(&self.path), read_text(&self.path.join("config.toml")).ok());
        let [metrics, digests] = [&self.metrics, &self.digests].map(is_there);
        if locked && settings.is_some() && metrics && digests {
            return Ok(false);
        }
        // Settings of this run may be all that is left by who is still removing what was made anew before.
        let others = settings.is_some_and(|settings| settings != with_head(config));
        if others && !locked && !metrics && !digests {
            return Err(Error::invalid(
                format!("folder {}", self.path.display()),
                "another run, where this one began",
                "the folder that this run has begun in, or none",
                "move the other one away: this run goes on in a new folder of that name then",
            ));
        }
        std::fs::create_dir_all(&self.path).map_err(Error::io("create the folder", &self.path))?;
        if !locked {
            self.lock = Some(RunLock::acquire(&self.path, Duration::ZERO)?);
        }
        // All of them: who removes a folder may not be at its end.
        if let Some(metrics) = &mut self.metrics {
            metrics.renew(&text_of(lines, &self.path)?)?;
        }
        if let Some(digests) = &mut self.digests {
            let text = digests.all();
            digests.renew(&text)?;
        }
        write_whole(&self.path.join("config.toml"), with_head(config).as_bytes())?;
        self.keep();
        Ok(true)
    }

    /// Why nothing keeps another process out, where the file system has no locks.
    pub fn unlocked(&self) -> Option<&Error> {
        self.lock.as_ref().and_then(RunLock::unlocked)
    }

    /// The files that lines are added to.
    pub fn files(&self) -> Vec<File> {
        [&self.metrics, &self.digests].into_iter().flatten().filter_map(|lines| lines.file().ok()).collect()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where its checkpoints are.
    pub fn checkpoints(&self) -> Checkpoints {
        checkpoints_of(&self.path)
    }

    /// There is something to go on from: it stays, whatever happens.
    pub fn keep(&mut self) {
        (self.unfinished.files, self.unfinished.folders) = Default::default();
    }

    /// On the root: adds an epoch's line, and what is left of others.
    ///
    /// # Errors
    /// When the disk refuses: it is left then.
    pub fn add(&mut self, line: &EpochLine) -> Result<()> {
        self.keep();
        let added = self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.add(line));
        added.and(self.digests.as_mut().map_or(Ok(()), Lines::finish))
    }

    /// On the root: adds a line of digests; what the disk refuses is left.
    pub fn add_digests(&mut self, line: &impl serde::Serialize) {
        let _ = self.digests.as_mut().map_or(Ok(()), |digests| digests.add(line));
    }

    /// On the root: writes the lines that are left.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish_lines(&mut self) -> Result<()> {
        [&mut self.metrics, &mut self.digests].into_iter().flatten().try_for_each(Lines::finish)
    }

    /// On the root: writes the lines that are left, and the summary, last of all.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(&mut self, summary: &Summary) -> Result<()> {
        self.finish_lines()?;
        write_summary(&self.path, summary)
    }
}

/// Writes the settings of the run in `path`.
///
/// # Errors
/// When the disk refuses.
pub fn write_config(path: &Path, config: &RunConfig) -> Result<()> {
    write_whole(&path.join("config.toml"), with_head(&config.to_toml()?).as_bytes())
}

/// Writes the summary of the run in `path`.
///
/// # Errors
/// When the disk refuses.
pub fn write_summary(path: &Path, summary: &Summary) -> Result<()> {
    let path = path.join(SUMMARY);
    let mut text = serde_json::to_string_pretty(summary).map_err(|e| Error::io("write", &path)(e.into()))?;
    text.push('\n');
    write_whole(&path, text.as_bytes())
}

/// The checkpoints of the run in `path`.
pub fn checkpoints_of(path: &Path) -> Checkpoints {
    Checkpoints::new(path.join(CHECKPOINTS))
}

/// The summary of a run that is finished.
pub fn summary_of(path: &Path) -> Option<Value> {
    serde_json::from_str(&read_text(&path.join(SUMMARY)).ok()?).ok()
}

/// A line each.
fn text_of(lines: &[EpochLine], path: &Path) -> Result<String> {
    lines.iter().map(|line| Ok(json(line, path)? + "\n")).collect()
}

fn with_head(config: &str) -> String {
    format!("# What this run did; `glasses --config` with this file does it again, in a folder of its own.\n{config}")
}

/// Whether the folder that the user named, if so, is new or empty: nothing is ever overwritten.
///
/// # Errors
/// When it holds something.
pub fn check_out(config: &RunConfig) -> Result<()> {
    let Some(path) = &config.out else {
        return Ok(());
    };
    // What a process leaves that was killed before it wrote its settings is nothing.
    let is_nothing = |name: &str| name == LOCK_FILE || is_temporary(name);
    let filled = std::fs::read_dir(path).is_ok_and(|mut entries| {
        entries.any(|entry| !entry.is_ok_and(|e| e.file_name().to_str().is_some_and(is_nothing)))
    });
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
