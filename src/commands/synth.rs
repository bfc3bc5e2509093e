//! `glasses synth`: makes a dataset out of nothing.

use std::io::IsTerminal;
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::comm::{Communicator, on_root};
use crate::data::synth::{FaceOptions, SpiralOptions, faces, spiral, write_faces, write_spiral};
use crate::data::{RowShape, Split};
use crate::error::{Error, Result};
use crate::files::swept;
use crate::report::is_dumb;
use crate::say;

/// What to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Drawn faces with and without glasses: pictures, two classes
    Faces,
    /// A three-armed spiral: points of two features, three classes
    Spiral,
}

/// Options of `glasses synth`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses synth --count 200 --size 32 --out faces.h5\n  \
    glasses synth --kind spiral --out spiral.h5")]
pub struct Options {
    /// The dataset to write
    #[arg(long, value_name = "FILE.h5")]
    pub out: PathBuf,
    /// What to make
    #[arg(long, value_enum, default_value_t = Kind::Faces)]
    pub kind: Kind,
    /// Rows in all, in every split together [default: 2000 faces, 600 points]
    #[arg(long, value_name = "ROWS")]
    pub count: Option<usize>,
    /// Side of the square pictures, in pixels, 24 to 1024; faces only [default: 80]
    #[arg(long, value_name = "PIXELS")]
    pub size: Option<usize>,
    /// Fraction of the rows held back for testing, of each class alike
    #[arg(long, value_name = "FRACTION", default_value_t = 0.2)]
    pub test: f64,
    /// Fraction of the rows held back for validation, of each class alike
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0)]
    pub val: f64,
    /// Another seed gives other rows and another split; the same seed gives the same file
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// Replace the file if it exists
    #[arg(long)]
    pub force: bool,
}

/// Collective: the root draws and writes, the others wait.
///
/// # Errors
/// When an option does not make sense or the file cannot be written; on every rank alike.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    let _swept = comm.is_root().then(|| swept(&options.out));
    let line = on_root(comm, || match options.kind {
        Kind::Faces => make_faces(options, comm.size() == 1),
        Kind::Spiral => make_spiral(options),
    })?;
    if comm.is_root() {
        say!("{line}");
    }
    Ok(())
}

fn make_faces(options: &Options, parallel: bool) -> Result<String> {
    let &Options { test, val, seed, force: replace, .. } = options;
    let (count, size) = (options.count.unwrap_or(2000), options.size.unwrap_or(80));
    let what = FaceOptions { count, size, test, val, seed, replace, parallel };
    let bar = bar(count);
    let rows = write_faces(&options.out, &what, &mut |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    Ok(summary(options, rows?, RowShape::Image { h: size, w: size, c: 3 }, &faces::CLASSES))
}

fn make_spiral(options: &Options) -> Result<String> {
    if let Some(size) = options.size {
        return Err(Error::invalid(
            "--size",
            size.to_string(),
            "nothing: a spiral is made of points, not pictures",
            "leave --size out, or pass --kind faces",
        ));
    }
    let &Options { test, val, seed, force: replace, .. } = options;
    let what = SpiralOptions { count: options.count.unwrap_or(600), test, val, seed, replace };
    // Milliseconds of work: no bar.
    let rows = write_spiral(&options.out, &what, &mut |_| ())?;
    Ok(summary(options, rows, RowShape::Features { d: 2 }, &spiral::CLASSES))
}

/// A bar on standard error where that is a terminal; else one that shows nothing.
fn bar(rows: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() || is_dumb() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("drawing {bar:30} {human_pos}/{human_len} faces, {per_sec}, {eta} left");
    ProgressBar::new(rows as u64).with_style(style.expect("the template is well formed"))
}

fn summary(options: &Options, rows: [usize; 3], shape: RowShape, classes: &[&str]) -> String {
    let splits = Split::ALL.iter().zip(rows).filter(|(_, rows)| *rows > 0);
    let splits: Vec<String> = splits.map(|(split, rows)| format!("{rows} {}", split.name())).collect();
    let noun = if splits.len() == 1 && rows.contains(&1) { "row" } else { "rows" };
    format!(
        "wrote {}: {} {noun} of {shape}, classes: {}",
        options.out.display(),
        splits.join(" + "),
        classes.join(", ")
    )
}
