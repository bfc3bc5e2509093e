//! `glasses train`, and `glasses` alone.

use std::path::{Path, PathBuf};

use super::{folder, probe};
use crate::comm::{Communicator, all_agree, on_root};
use crate::config::{Batch, DEFAULT_DATA, RunConfig, Settings};
use crate::data::synth::{FaceOptions, write_faces};
use crate::doctor;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::report::{Console, progress_bar};
use crate::train::{self, Origin};

/// The dataset of a first run: small enough for minutes, large enough to learn from.
const FIRST_RUN: FaceOptions =
    FaceOptions { count: 1000, size: 64, test: 0.2, val: 0.0, seed: 1, replace: false, parallel: false };

/// Options of `glasses train`.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses train --data faces.h5 --epochs 2 --out runs/faces\n  \
    mpirun -n 2 glasses train --data faces.h5 --epochs 2 --out runs/two\n  \
    glasses train --data faces.h5 --strategy ensemble --members 2 --epochs 1\n  \
    glasses train --resume runs/faces --fork --lr 1e-5 --epochs 1 --out runs/on")]
pub struct Options {
    /// Settings as TOML; its keys are the options below, and a flag wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// Go on with the run in this folder where it was left, on any number of ranks, to the same weights
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "recipe"])]
    pub resume: Option<PathBuf>,
    /// With --resume: start a run of its own from those weights; every setting may change
    #[arg(long, requires = "resume")]
    pub fork: bool,
    /// What a flag said.
    #[command(flatten)]
    pub settings: Settings,
}

/// Collective: trains.
///
/// # Errors
/// The same one on every rank.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    let ours =
        || options.resume.as_deref().map_or(Ok(()), |dir| folder::begun("--resume", dir)).map(|()| String::new());
    on_root(comm, ours)?;
    let from = options.resume.as_ref().map(|dir| dir.join("config.toml"));
    let file = from.as_deref().or(options.config.as_deref()).map_or(Ok(Settings::default()), Settings::read);
    let named = options.settings.data.is_some() || file.as_ref().is_ok_and(|file| file.data.is_some());
    let config = file.and_then(|file| options.settings.clone().lower(file, comm.size()));
    let config = config.and_then(|config| one_folder(options, config));
    let config = all_agree(comm, config.and_then(|config| long_enough(options, config)))?;
    let text = format!("{}\nresume {:?}, fork {}", all_agree(comm, config.to_toml())?, options.resume, options.fork);
    same_settings(&text, comm)?;
    match &options.resume {
        None if !named => make_default_data(&config, comm)?,
        // Nothing is drawn for a run that had data of its own.
        Some(dir) if !named => on_root(comm, || names_no_data(dir).map(|()| String::new())).map(|_| ())?,
        _ => {}
    }
    let begun = options.resume.as_deref().map(probe::files_of_run).unwrap_or_default();
    probe::check(&[vec![config.data.clone()], begun].concat(), comm)?;
    let origin = match &options.resume {
        None => Origin::Scratch,
        Some(dir) if options.fork => Origin::Fork(dir.clone()),
        Some(dir) => {
            if let Some(text) = train::finished(dir, &config, comm)? {
                if options.settings.data.is_some() {
                    train::check_finished(dir, &config, comm)?;
                }
                Console::new(comm.is_root()).say(text);
                return Ok(());
            }
            Origin::Resume(dir.clone())
        }
    };
    train::run(&config, &origin, comm)?;
    Ok(())
}

/// Collective: whether all ranks have the same settings.
pub(super) fn same_settings(text: &str, comm: &dyn Communicator) -> Result<()> {
    let fix = "give every rank the same command line and the same copy of the --config file";
    doctor::same(comm, "settings", text, "the same settings on every rank", fix)
}

/// A new run reaches its learning rate; one that goes on stays as it was.
fn long_enough(options: &Options, config: RunConfig) -> Result<RunConfig> {
    if options.resume.is_none() || options.fork {
        config.check_warmup()?;
    }
    Ok(config)
}

/// Settings without a dataset go on with the default one, where that is there.
fn names_no_data(dir: &Path) -> Result<()> {
    if Path::new(DEFAULT_DATA).exists() {
        return Ok(());
    }
    Err(Error::invalid(
        dir.join("config.toml").display().to_string(),
        format!("no 'data', and no {DEFAULT_DATA} here"),
        "the settings of a run, which name its data",
        "pass --data FILE.h5; if the file was emptied or cut short, copy it again",
    ))
}

/// A run that goes on stays in its folder.
fn one_folder(options: &Options, config: RunConfig) -> Result<RunConfig> {
    match (&options.resume, &options.settings.out) {
        (Some(dir), Some(out)) if !options.fork => Err(Error::invalid(
            format!("--out {}", out.display()),
            format!("a second folder beside --resume {}", dir.display()),
            "one: a resumed run goes on in its own",
            "leave --out away, or add --fork to start a run of its own from those weights",
        )),
        _ => Ok(config),
    }
}

/// Before anything is drawn: whether this run could train on it. Where there is a dataset already, that one decides.
fn fits_first_run(config: &RunConfig) -> Result<()> {
    if Path::new(DEFAULT_DATA).exists() {
        return Ok(());
    }
    let size = FIRST_RUN.size;
    let rows = (FIRST_RUN.count as f64 * (1.0 - FIRST_RUN.test)) as usize;
    let refuse = |found: String| {
        Error::invalid(
            format!("a run without --data, in a folder without {DEFAULT_DATA}"),
            found,
            format!("one that fits {rows} drawn faces of {size}x{size}x3, which would be made"),
            "name your data with --data; `glasses synth` makes others (--kind spiral for dense networks)",
        )
    };
    Model::new(config.model.resolve()?, [size, size, 3], false, 2, config.kernels)
        .map_err(|e| refuse(e.to_string()))?;
    match config.batch {
        Some(Batch::Rows(batch)) if batch > rows => Err(refuse(format!("--batch {batch}"))),
        _ => train::check_out(config).and_then(|()| train::check_trace(config)),
    }
}

/// Collective: where a run names no data and there is none here, the root makes some and says so; the others wait.
///
/// # Errors
/// When a run of these settings could not train on it, or the disk refuses.
pub(super) fn make_default_data(config: &RunConfig, comm: &dyn Communicator) -> Result<()> {
    all_agree(comm, fits_first_run(config))?;
    let console = Console::new(comm.is_root());
    on_root(comm, || {
        let path = Path::new(DEFAULT_DATA);
        if path.exists() {
            return Ok(String::new());
        }
        let count = FIRST_RUN.count;
        console
            .say(format!("no --data and no {DEFAULT_DATA} here: making one of {count} drawn faces (`glasses synth`)"));
        let bar = progress_bar(comm.is_root(), count as u64, "faces");
        let options = FaceOptions { parallel: comm.size() == 1, ..FIRST_RUN };
        let written = write_faces(path, &options, &mut |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        written.map(|_| String::new())
    })?;
    Ok(())
}
