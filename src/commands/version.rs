//! `glasses --version` and `glasses version`: what this program was built from, and what it runs on.

use serde::Serialize;

use super::bench::measure::cpu_name;
use crate::comm::{self, Communicator};
use crate::doctor::COMMIT;
use crate::error::{Error, Result};
use crate::kernels::{self, Isa};
use crate::say;

/// Options of `glasses version`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    glasses version\n  \
    glasses version --json     # for scripts; glasses --version is one line")]
pub struct Options {
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// What is told of the program.
#[derive(Debug, Serialize)]
struct Version {
    glasses: &'static str,
    /// Of the sources; `-modified` behind it where they were others.
    commit: &'static str,
    /// The library that answers, or that there is none.
    mpi: String,
    hdf5: String,
    /// The instruction set in use, or what is wrong with `GLASSES_ISA`.
    isa: String,
    /// Those that the processor has.
    isas: Vec<&'static str>,
    cpu: String,
    target: String,
}

impl Version {
    fn here() -> Version {
        let (major, minor, release) = hdf5::library_version();
        let isa = match kernels::choose() {
            Ok(isa) => isa.name().to_owned(),
            Err(wrong) => Error::from(wrong).to_string().lines().next().unwrap_or_default().to_owned(),
        };
        Version {
            glasses: env!("CARGO_PKG_VERSION"),
            commit: COMMIT,
            mpi: comm::library().replace(" v", " "),
            hdf5: format!("{major}.{minor}.{release}"),
            isa,
            isas: Isa::available().map(Isa::name).collect(),
            cpu: cpu_name().unwrap_or_else(|| "unknown".to_owned()),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        }
    }

    fn line(&self) -> String {
        let mpi = if cfg!(feature = "mpi") { &self.mpi } else { "no MPI" };
        format!("glasses {} (commit {}, {mpi}, HDF5 {}, {})", self.glasses, self.commit, self.hdf5, self.isa)
    }

    fn lines(&self) -> String {
        format!(
            "glasses {}\ncommit  {}\nMPI     {}\nHDF5    {}\nISA     {} (of {})\nCPU     {}\ntarget  {}",
            self.glasses,
            self.commit,
            self.mpi,
            self.hdf5,
            self.isa,
            self.isas.join(", "),
            self.cpu,
            self.target
        )
    }
}

/// What `--version` prints: one line, or (with `--verbose`) what `glasses version` does.
pub fn text(verbose: bool) -> String {
    let version = Version::here();
    if verbose { version.lines() } else { version.line() }
}

/// Collective: the root prints version, commit, MPI, HDF5, instruction sets and processor.
///
/// # Errors
/// Never: what cannot be printed is said at the end.
pub fn run(options: &Options, comm: &dyn Communicator) -> Result<()> {
    if comm.is_root() {
        let version = Version::here();
        match options.json {
            true => say!("{}", serde_json::to_string(&version).unwrap_or_default()),
            false => say!("{}", version.lines()),
        }
    }
    Ok(())
}
