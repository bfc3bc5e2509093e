//! Whether a launch is sound. The checks of [`start`] run at every start, cost milliseconds and are silent where all is well;
//! `glasses doctor` shows them all, and those of [`places`].
//!
//! What is known before MPI starts is in [`crate::launch`]; what has to fit a run's data and settings is in `train` and
//! `config`, which call [`same`] here.

mod build;
mod check;
mod cores;
mod cpus;
pub mod places;
mod rank;
mod same;

pub use build::COMMIT;
pub use check::{Check, Verdict};
pub use same::{same, same_command};

use crate::comm::Communicator;
use crate::error::Result;
use crate::launch::{Launch, Launcher};
use crate::plural::plural;
use rank::Rank;

/// Collective: the checks of every start, from one exchange.
pub fn examine(comm: &dyn Communicator, launch: &Launch) -> Vec<Check> {
    let ranks = Rank::allgather(comm);
    let mut checks = vec![launched(launch, &ranks), rank::same_build(&ranks), rank::instruction_sets(&ranks)];
    if comm.is_root() {
        checks.extend(cores::judge(&ranks, &launch.launcher));
    }
    checks
}

/// Collective: whether this start is sound; what is only slower than it should be, in words, for the root to print.
///
/// # Errors
/// The same one on every rank, where it is not.
pub fn start(comm: &dyn Communicator, launch: &Launch) -> Result<Vec<String>> {
    let checks = examine(comm, launch);
    if let Some(wrong) = checks.iter().find(|check| check.verdict == Verdict::Error) {
        return Err(wrong.into());
    }
    let warnings = checks.into_iter().filter(|check| check.verdict == Verdict::Warning);
    Ok(warnings.map(|Check { found, fix, .. }| format!("{found}; {fix}")).collect())
}

/// How the ranks came to be. Whether they found one another was seen before: else we would not be here.
fn launched(launch: &Launch, ranks: &[Rank]) -> Check {
    let hosts = rank::hosts(ranks);
    let mut found = format!("{}, {}", launch.launcher, plural(ranks.len(), "rank"));
    if launch.launcher == Launcher::Alone {
        found = "no launcher, 1 rank (mpirun -n 8 glasses … starts 8)".to_owned();
    }
    if hosts.len() > 1 {
        found += &format!(" on {} hosts", hosts.len());
    }
    Check::ok("launch", found)
}
