//! Training: a step (`run.rs`) and the epoch loop (`epoch.rs`) read like the algorithm.

mod account;
mod alike;
mod assumed;
mod batch;
mod begin;
mod board;
mod data;
mod deal;
mod digests;
mod ensemble;
mod epoch;
mod evaluate;
mod examine;
mod fault;
mod interrupt;
mod job;
mod live;
mod lockstep;
mod memory;
mod micro_batch;
mod origin;
mod prepare;
mod progress;
mod pulse;
mod recorder;
mod refused;
mod removed;
mod run;
mod run_dir;
mod saver;
mod shard_sums;
mod timeline;
mod verify;
mod vote;

pub use alike::check_finished;
pub use assumed::{Assumed, of_file};
pub use batch::default_batch;
pub use data::TrainData;
pub use deal::{End, failure, left_of};
pub use evaluate::{EVALUATION_SHARDS, Evaluation, evaluate};
pub use examine::{REPORT, subject_of};
pub use interrupt::{caught, listen};
pub use job::Job;
pub use lockstep::{
    ExchangeConfig, Lockstep, Setting, StepContext, StepFlags, StepResult, all_by, can_share, can_take, cost, decide,
    most_rows,
};
pub use memory::{Case, Memory};
pub use origin::{Origin, finished};
pub use prepare::{Found, prepare, work_of};
pub use pulse::{Pulse, part_of};
pub use run_dir::{MEMBER, SUMMARY, check_out, member_folder};
pub use saver::check_meta;
pub use timeline::check_trace;
pub use verify::{Verdict, Wrong, check_digests, verify};
pub use vote::vote;

use std::path::Path;

use crate::comm::Communicator;
use crate::config::{RunConfig, Together};
use crate::error::Result;
use crate::metrics::Summary;
use crate::report::Console;

/// Collective: trains as `config` says, from where `origin` says; the results are in the run directory when it returns.
///
/// # Errors
/// The same one on every rank: bad data, a model that does not fit, an output folder that refuses, a run that cannot be
/// resumed so, weights that differ between ranks, a loss that is no longer a number.
pub fn run(config: &RunConfig, origin: &Origin, comm: &dyn Communicator) -> Result<Summary> {
    launch(config, origin, comm, Console::new(comm.is_root()))
}

/// As [`run`]; messages go to `console`.
fn launch(config: &RunConfig, origin: &Origin, comm: &dyn Communicator, console: Console) -> Result<Summary> {
    match config.strategy {
        Together::Lockstep => epoch::in_lockstep(config, origin, comm, console),
        Together::Ensemble => ensemble::run(config, origin, comm, &console),
    }
}

/// Collective: runs `jobs` in their order, as many at a time as there are groups of `each` ranks: how each of them ended, on every rank;
/// `None` where it never began.
///
/// # Errors
/// The same one on every rank: the folder is not everyone's, another process deals in it, or it refuses the claims.
pub fn deal(
    jobs: &[Job],
    folder: &Path,
    each: usize,
    comm: &dyn Communicator,
    console: &Console,
) -> Result<Vec<Option<End>>> {
    deal::deal(jobs, folder, each, comm, console, launch)
}
