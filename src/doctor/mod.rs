//! Whether a launch is sound. The checks of [`start`] run at every start, cost milliseconds and are silent where all is well;
//! `glasses doctor` shows them all, and those of [`places`].
//!
//! What is known before MPI starts is in [`crate::launch`]; what has to fit a run's data and settings is in `train` and
//! `config`, which call [`same`] here.

mod build;
mod cores;
pub mod places;
mod rank;
mod same;

pub use build::COMMIT;
pub use same::{same, same_command};

use serde::{Deserialize, Serialize};

use crate::comm::Communicator;
use crate::error::{Error, Result};
use crate::launch::{Launch, Launcher};
use crate::plural::plural;
use rank::Rank;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It works, but slower, or less safely, than it should.
    Warning,
    /// It does not work.
    Error,
}

/// A check and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What should have been; empty where it is.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub expected: String,
    /// What to type, or to do; empty where nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub fix: String,
}

impl Check {
    /// Nothing to be done.
    pub fn ok(name: &str, found: impl Into<String>) -> Check {
        Check {
            name: name.to_owned(),
            verdict: Verdict::Ok,
            found: found.into(),
            expected: String::new(),
            fix: String::new(),
        }
    }

    /// It works, but.
    pub fn warning(name: &str, found: impl Into<String>, expected: &str, fix: impl Into<String>) -> Check {
        let (expected, fix) = (expected.to_owned(), fix.into());
        Check { verdict: Verdict::Warning, expected, fix, ..Check::ok(name, found) }
    }

    /// It does not work.
    pub fn error(name: &str, found: impl Into<String>, expected: impl Into<String>, fix: impl Into<String>) -> Check {
        let (expected, fix) = (expected.into(), fix.into());
        Check { verdict: Verdict::Error, expected, fix, ..Check::ok(name, found) }
    }
}

impl From<&Error> for Check {
    fn from(error: &Error) -> Check {
        match error {
            Error::Invalid { place, found, expected, fix } => Check::error(place, found, expected, fix),
            other => Check::error("start", other.to_string(), "", ""),
        }
    }
}

impl From<&Check> for Error {
    fn from(check: &Check) -> Error {
        Error::invalid(&check.name, &check.found, &check.expected, &check.fix)
    }
}

/// Collective: the checks of every start, from one exchange.
pub fn examine(comm: &dyn Communicator, launch: &Launch) -> Vec<Check> {
    let ranks = Rank::allgather(comm);
    let mut checks = vec![launched(launch, &ranks), build::same_build(&ranks), rank::instruction_sets(&ranks)];
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
