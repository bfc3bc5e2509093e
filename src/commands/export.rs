//! `glasses export`: a model for other programs.

use std::path::{Path, PathBuf};

use super::folder;
use crate::checkpoint;
use crate::comm::{Communicator, all_agree, on_root};
use crate::data::class_names;
use crate::error::{Error, Result};
use crate::export::{onnx, samples, torch, weights};
use crate::files::{write_out, write_whole};
use crate::plural::plural;
use crate::say;

/// What `glasses export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A graph for ONNX runtimes: raw pictures in, probabilities out
    Onnx,
    /// Weights by name, laid out as PyTorch wants them
    Safetensors,
}

/// Options of `glasses export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses export runs/faces --to onnx --out faces.onnx --samples faces.h5\n  \
    glasses export runs/faces --to safetensors --out faces.safetensors")]
pub struct Options {
    /// Model file or checkpoint that `glasses train` wrote, or the folder of its run
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    pub to: Format,
    /// File to write; an older one is replaced
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Leave batch norms as they are, for training elsewhere; else convolutions compute them (with --to onnx)
    #[arg(long)]
    pub unfolded: bool,
    /// Also write up to 200 rows of this dataset with the model's predictions, beside FILE, to check it by
    #[arg(long, value_name = "FILE.h5")]
    pub samples: Option<PathBuf>,
}

/// Collective: the root reads and writes, the others wait.
///
/// # Errors
/// When the model cannot be read or the file not be written.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    on_root(comm, || folder::one_run(&options.model).map(|()| String::new()))?;
    let file = all_agree(comm, folder::model_file(&options.model))?;
    let files = [file].into_iter().chain(options.samples.clone());
    super::probe::check(&files.collect::<Vec<_>>(), comm)?;
    on_root(comm, || export(options).map(|()| String::new()))?;
    Ok(())
}

fn export(options: &Options) -> Result<()> {
    let (path, out) = (folder::model_file(&options.model)?, &options.out);
    let saved = checkpoint::read(&path)?;
    if [&path, &options.model].iter().any(|input| is_same(input, out)) {
        let fix = "name another file with --out";
        return Err(Error::invalid("--out", out.display().to_string(), "a file beside the model itself", fix));
    }
    let bytes = match options.to {
        Format::Onnx => onnx::encode(&saved, &path, options.unfolded)?,
        Format::Safetensors => weights::encode(&saved, &path)?,
    };
    let samples = options.samples.as_ref().map(|data| samples::encode(&saved, data)).transpose()?;
    write_out(out, &[&bytes])?;
    let (name, classes) = (&saved.model.spec.name, class_names::brief(&saved.classes));
    say!("{}: '{name}' for {}, classes {classes}", out.display(), saved.shape);
    if let Some((bytes, rows)) = samples {
        let path = samples::beside(out);
        write_whole(&path, &bytes)?;
        say!("{}: {} with the model's predictions", path.display(), plural(rows, "row"));
    }
    if options.to == Format::Safetensors {
        match torch::script(&saved, out)? {
            Some(script) => say!("\nin PyTorch, `rows` being raw rows as in the dataset:\n\n{script}"),
            None => say!("\nPyTorch has no module for one of its layers: average pooling over an uneven border"),
        }
    }
    Ok(())
}

fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
