//! `glasses report`: a page about one run, or several laid over one another.

use std::path::{Path, PathBuf};

use super::folder;
use crate::comm::{Communicator, on_root};
use crate::error::{Error, Result};
use crate::files::{write_out, write_whole};
use crate::plural::plural;
use crate::report::{self, Figure, RunFiles, Subject};
use crate::say;
use crate::train::{REPORT, subject_of};

/// Options of `glasses report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  glasses report runs/faces\n  glasses report runs/faces --figures figures")]
pub struct Options {
    /// Folders of runs; one that is not finished is shown as far as it is
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The page [default: report.html in the run's folder; of several runs, in the current one]
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
    /// Also write each plot as SVG and as PNG into this folder
    #[arg(long, value_name = "DIR")]
    pub figures: Option<PathBuf>,
    /// Where the data is now, if not where it was when the runs were made
    #[arg(long, value_name = "FILE.h5")]
    pub data: Option<PathBuf>,
}

/// Collective: the root writes the page; the others wait.
///
/// # Errors
/// The same one on every rank: no run in a folder, a damaged model, data that does not fit, a place that refuses the page.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    let ours = || options.runs.iter().try_for_each(|run| folder::one_run(run)).map(|()| String::new());
    on_root(comm, ours)?;
    let data = |run: &PathBuf| RunFiles::read(run).ok().and_then(|files| files.data());
    let mut files: Vec<PathBuf> =
        options.data.clone().map_or_else(|| options.runs.iter().filter_map(data).collect(), |data| vec![data]);
    files.extend(options.runs.iter().map(|run| run.join("model.h5")));
    super::probe::check(&files, comm)?;
    on_root(comm, || write(options).map(|()| String::new())).map(|_| ())
}

fn write(options: &Options) -> Result<()> {
    let subject = |run: &PathBuf| subject_of(run, options.data.as_deref());
    let subjects: Vec<Subject> = options.runs.iter().map(subject).collect::<Result<_>>()?;
    let out = match (&options.out, &options.runs[..]) {
        (Some(out), _) => out.clone(),
        (None, [run]) => run.join(REPORT),
        (None, _) => PathBuf::from(REPORT),
    };
    let page = report::page(&subjects)?;
    match &options.out {
        Some(out) => write_out(out, &[page.as_bytes()])?,
        None => write_whole(&out, page.as_bytes())?,
    }
    say!("wrote {}", out.display());
    let noted = subjects.iter().flat_map(|subject| subject.notes.iter().map(move |note| (subject, note)));
    noted.for_each(|(subject, note)| report::note(&format!("{}: {note}", subject.files.name())));
    if let Some(folder) = &options.figures {
        std::fs::create_dir_all(folder).map_err(Error::io("create the folder", folder))?;
        let figures = report::figures(&subjects);
        figures.iter().try_for_each(|figure| write_figure(folder, figure))?;
        say!("wrote {} to {}, each as .svg and .png", plural(figures.len(), "plot"), folder.display());
    }
    Ok(())
}

fn write_figure(folder: &Path, figure: &Figure) -> Result<()> {
    write_whole(&folder.join(format!("{}.svg", figure.name)), figure.svg()?.as_bytes())?;
    write_whole(&folder.join(format!("{}.png", figure.name)), &figure.png()?)
}
