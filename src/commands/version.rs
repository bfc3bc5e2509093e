//! `glasses --version`: what this program was built from, and what it runs on.

use crate::comm;
use crate::doctor::COMMIT;
use crate::error::Error;
use crate::kernels;

/// Version, commit, MPI, HDF5 and instruction set.
pub fn text() -> String {
    let (major, minor, release) = hdf5::library_version();
    let isa = match kernels::choose() {
        Ok(isa) => isa.name().to_owned(),
        Err(wrong) => Error::from(wrong).to_string().lines().next().unwrap_or_default().to_owned(),
    };
    format!(
        "glasses {}\ncommit {COMMIT}\nMPI    {}\nHDF5   {major}.{minor}.{release}\nISA    {isa}",
        env!("CARGO_PKG_VERSION"),
        comm::library()
    )
}
