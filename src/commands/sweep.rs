//! `glasses sweep`: many runs within one job, and the table of what came of them.

mod paper;
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{probe, train};
use crate::comm::{Communicator, all_agree, on_root};
use crate::config::grid::{Axis, Point, points};
use crate::config::{DEFAULT_DATA, RunConfig, Settings, groups};
use crate::error::{Error, Result};
use crate::plural::plural;
use crate::report::Console;
use crate::report::sweep::{Best, State, Sweep};
use crate::train::{Found, Job, SUMMARY, deal, failure, left_of, part_of, prepare, work_of};

/// Where a sweep writes that names no place.
const DEFAULT_OUT: &str = "runs/sweep";

/// What goes on with a sweep.
const AGAIN: &str = "the same command";

/// Options of `glasses sweep`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    mpirun -n 2 glasses sweep --data faces.h5 --grid lr=1e-3,1e-4 --epochs 1\n  \
    glasses sweep --table runs/sweep --json")]
#[command(mut_arg("out", |arg| arg.help("Folder for the results, one in it for each run; a former sweep goes on [default: runs/sweep]")))]
pub struct Options {
    /// A setting and its values, as in lr=1e-1,1e-2; several make every combination. Any option of train can be one
    #[arg(long, value_name = "KEY=V,V…", required_unless_present = "table")]
    pub grid: Vec<Axis>,
    /// Ranks that train one run, in lockstep [default: as few as keep all ranks busy]
    #[arg(long, value_name = "R")]
    pub ranks_per_run: Option<usize>,
    /// Only make the table again, from the finished runs in this folder: a sweep's, or one that an array job filled
    #[arg(long, value_name = "DIR", conflicts_with_all = ["grid", "ranks_per_run"])]
    pub table: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Settings as TOML; its keys are the options of train, and a flag wins
    #[arg(long, value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
    /// What a flag said.
    #[command(flatten)]
    pub settings: Settings,
}

/// Collective: runs the grid, or what is left of it, and writes the table.
///
/// # Errors
/// The same one on every rank: a grid that makes no sense, a run that failed or was interrupted. A run that diverged is a result.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    if let Some(folder) = &options.table {
        return on_root(comm, || show(&table::of_folder(folder)?, folder, options.json)).map(|_| ());
    }
    let console = if options.json { Console::warnings(comm.is_root(), "sweep") } else { Console::new(comm.is_root()) };
    let SweepPlan { points, configs, each, any_shards } = all_agree(comm, plan(options, comm.size()))?;
    let folder = options.settings.out.clone().unwrap_or_else(|| DEFAULT_OUT.into());
    let texts = configs.iter().map(RunConfig::to_toml).collect::<Result<Vec<_>>>();
    train::same_settings(&all_agree(comm, texts)?.concat(), comm)?;
    let named = options.settings.data.is_some() || options.grid.iter().any(|axis| axis.key == "data");
    if let Some(config) = configs.iter().find(|config| !named && config.data == Path::new(DEFAULT_DATA)) {
        train::make_default_data(config, comm)?;
    }
    let data: BTreeSet<PathBuf> = configs.iter().map(|config| config.data.clone()).collect();
    let begun = points.iter().map(|point| folder.join(&point.name)).filter(|run| !run.join(SUMMARY).exists());
    let begun = begun.flat_map(|run| probe::files_of_run(&run));
    probe::check(&data.into_iter().chain(begun).collect::<Vec<_>>(), comm)?;
    let order = longest_first(&configs, comm)?;
    let runs = order.iter().map(|&index| (points[index].name.clone(), configs[index].clone())).collect();
    let found = prepare(runs, &folder, (each, any_shards), comm)?;
    let jobs: Vec<Job> =
        found.into_iter().filter_map(|found| if let Found::Left(job) = found { Some(job) } else { None }).collect();
    console.say(format!(
        "{}, for {} of {} each, in {}",
        left_of(jobs.len(), points.len()),
        plural(comm.size() / each, "group"),
        plural(each, "rank"),
        folder.display()
    ));
    on_root(comm, || {
        std::fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
        Ok(String::new())
    })?;
    let _part = part_of(AGAIN, &folder);
    let ends = deal(&jobs, &folder, each, comm, &console)?;
    let keys = options.grid.iter().map(|axis| axis.key.clone()).collect();
    on_root(comm, || show(&grid(keys, &points, &folder), &folder, options.json))?;
    failure(&jobs, &ends, AGAIN).map_or(Ok(()), Err)
}

/// The combinations, their settings, the ranks of a run, and whether nobody says how many shards it has.
struct SweepPlan {
    points: Vec<Point>,
    configs: Vec<RunConfig>,
    each: usize,
    any_shards: bool,
}

fn plan(options: &Options, ranks: usize) -> Result<SweepPlan> {
    let others = Settings { out: None, ..options.settings.clone() };
    if others.trace.is_some() {
        let (found, fix) = ("a timeline of many runs", "trace one of them with `glasses train`");
        return Err(Error::invalid("--trace", found, "one run", fix));
    }
    let points = points(&options.grid, &others)?;
    let each = options.ranks_per_run.unwrap_or_else(|| fewest_ranks(ranks, points.len()));
    groups("ranks-per-run", ranks, each)?;
    let file = options.config.as_deref().map_or(Ok(Settings::default()), Settings::read)?;
    let file = Settings { out: None, trace: None, ..file };
    let config = |point: &Point| {
        let config = point.settings.clone().lower(file.clone(), each);
        config.and_then(|config| config.check_warmup().map(|()| config)).map_err(|e| {
            let fix = "see `glasses train --help`";
            Error::Several { what: format!("run {}", point.name), items: vec![e.to_string()], fix: fix.to_owned() }
        })
    };
    let configs = points.iter().map(config).collect::<Result<_>>()?;
    let any_shards = points.iter().map(|point| &point.settings).chain([&file]).all(|said| said.shards.is_none());
    Ok(SweepPlan { points, configs, each, any_shards })
}

/// Ranks of a run so that no rank is without one, if `runs` are enough for that: ranks that share a run wait for one another.
fn fewest_ranks(ranks: usize, runs: usize) -> usize {
    (1..=ranks).find(|each| ranks.is_multiple_of(*each) && ranks / each <= runs).unwrap_or(ranks)
}

/// Collective: the runs in the order in which they are dealt out. A long one that begins last would keep everyone waiting.
fn longest_first(configs: &[RunConfig], comm: &dyn Communicator) -> Result<Vec<usize>> {
    let text = on_root(comm, || {
        let work = configs.iter().map(work_of).collect::<Result<Vec<_>>>()?;
        let mut order: Vec<usize> = (0..work.len()).collect();
        // Stable: of equal ones the first.
        order.sort_by(|&a, &b| work[b].total_cmp(&work[a]));
        Ok(order.iter().map(usize::to_string).collect::<Vec<_>>().join(" "))
    })?;
    Ok(text.split(' ').filter_map(|index| index.parse().ok()).collect())
}

/// The grid as it stands in its folder.
fn grid(keys: Vec<String>, points: &[Point], folder: &Path) -> Sweep {
    let row = |point: &Point| {
        let settings = keys.iter().cloned().zip(point.values.iter().cloned()).collect();
        table::row_of(&folder.join(&point.name), &point.name, settings)
    };
    Sweep { runs: points.iter().map(row).collect(), keys }
}

/// `--json`.
#[derive(serde::Serialize)]
struct Printed<'a> {
    #[serde(flatten)]
    sweep: &'a Sweep,
    best: Option<Best>,
}

/// On the root: prints the table, and writes it beside the runs.
fn show(sweep: &Sweep, folder: &Path, json: bool) -> Result<String> {
    table::write(sweep, folder)?;
    if json {
        let printed = Printed { sweep, best: sweep.best() };
        crate::say!("{}", serde_json::to_string_pretty(&printed).map_err(|e| Error::io("write", "stdout")(e.into()))?);
        return Ok(String::new());
    }
    crate::say!("\n{}", sweep.markdown());
    match sweep.best() {
        Some(best) => crate::say!("{}", best.describe()),
        None if sweep.runs.iter().any(|row| row.state == State::Finished) => {
            crate::say!("none is called best: the data has neither /val nor /test");
        }
        None => {}
    }
    let plot = if sweep.figure().is_some() { ", plot in accuracy.svg and accuracy.png" } else { "" };
    crate::say!("table in {}, also as table.csv{plot}", folder.join(table::MARKDOWN).display());
    Ok(String::new())
}
