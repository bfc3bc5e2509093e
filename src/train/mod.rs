//! Training: the epoch loop reads like the algorithm.

mod account;
mod alike;
mod assumed;
mod board;
mod data;
mod deal;
mod digests;
mod ensemble;
mod evaluate;
mod examine;
mod fault;
mod interrupt;
mod keeping;
mod live;
mod lockstep;
mod memory;
mod micro_batch;
mod origin;
mod prepare;
mod progress;
mod pulse;
mod removed;
mod run_dir;
mod saver;
mod timeline;
mod trainer;
mod verify;
mod vote;

pub use alike::check_finished;
pub use assumed::{Assumed, of_file};
pub use data::{TrainData, default_batch};
pub use deal::{End, Job, deal, failure, left_of};
pub use ensemble::{MEMBER, member_folder};
pub use evaluate::{EVALUATION_SHARDS, Evaluation, evaluate};
pub use examine::{REPORT, subject_of};
pub use interrupt::{caught, listen};
pub use lockstep::{
    ExchangeConfig, Lockstep, StepContext, StepFlags, StepResult, all_by, can_share, can_take, cost, decide, most_rows,
};
pub use memory::{Case, Memory};
pub use origin::{Origin, finished};
pub use prepare::{Found, prepare, work_of};
pub use pulse::{Pulse, part_of};
pub use run_dir::{SUMMARY, check_out};
pub use saver::check_meta;
pub use timeline::check_trace;
pub use verify::{Verdict, Wrong, check_digests, verify};
pub use vote::vote;

use crate::comm::{Communicator, Traced, on_root};
use crate::config::{RunConfig, Together};
use crate::error::Result;
use crate::metrics::Summary;
use crate::position::{self, Phase};
use crate::report::Console;
use crate::trace::Trace;
use board::Board;
use progress::Best;
use timeline::Timeline;
use trainer::Trainer;

/// The most rows that go through the network at once: what bounds memory, whatever the batch.
const MICRO_BATCH: usize = 64;

/// Rows that evaluation takes at once: enough to use a dense layer's weights well when they come from memory.
const EVALUATION_BATCH: usize = 32;

/// Collective: trains as `config` says, from where `origin` says; the results are in the run directory when it returns.
///
/// # Errors
/// The same one on every rank: bad data, a model that does not fit, an output folder that refuses, a run that cannot be
/// resumed so, weights that differ between ranks, a loss that is no longer a number.
pub fn run(config: &RunConfig, origin: &Origin, comm: &dyn Communicator) -> Result<Summary> {
    launch(config, origin, comm, Console::new(comm.is_root()))
}

/// As [`run`]; what is said goes to `console`.
fn launch(config: &RunConfig, origin: &Origin, comm: &dyn Communicator, console: Console) -> Result<Summary> {
    match config.strategy {
        Together::Lockstep => in_lockstep(config, origin, comm, console),
        Together::Ensemble => ensemble::run(config, origin, comm, &console),
    }
}

/// One network, of which all ranks have the same weights after every step.
fn in_lockstep(config: &RunConfig, origin: &Origin, comm: &dyn Communicator, mut console: Console) -> Result<Summary> {
    on_root(comm, || check_trace(config).map(|()| String::new()))?;
    let folder = origin.reopen(comm, &console)?;
    pulse::give_up_after(config.stall_timeout);
    position::enter(Phase::Start);
    let trace = config.trace.as_ref().map(|_| Trace::with_room(timeline::ROOM)).unwrap_or_default();
    let traced = Traced::new(comm, trace.clone());
    let comm: &dyn Communicator = if trace.is_some() { &traced } else { comm };
    let mut trainer = Trainer::new(config, &origin.plan(comm)?, comm)?;
    trainer.folder = folder;
    trainer.begin(origin, &console)?;
    let timeline = Timeline::start(&mut trainer, &trace);
    trainer.data.notes.iter().for_each(|note| console.note(note));
    if trainer.rises_to_the_end() {
        console.note("--max-steps ends the run within --warmup-epochs: the learning rate rises to the end");
    }
    console.say(trainer.describe());
    if let Some(refused) = &trainer.lockstep.refused {
        console.warn(format!(
            "no memory is shared, ranks of one machine send messages, which is slower: {refused}; give more (docker run --shm-size=2g), or \
             pass --window off"
        ));
    }
    if trainer.fault.is_some() {
        console.warn("GLASSES_FAULT is set: this run will go wrong, as a test wants it");
    }
    let mut board = Board::new(config.tensorboard && comm.is_root(), &trainer.lines);
    // An epoch may have ended where the run was left, and not been judged.
    while !trainer.is_done() || trainer.ends_epoch() {
        console.start_epoch(trainer.progress.epoch + 1, config.epochs, trainer.rows(), trainer.progress.sums.count);
        let (line, [val, test]) = trainer.train_and_evaluate(&console)?;
        trainer.add_line(&line, &console);
        board.add(&trainer, &line, [&val, &test], &console);
        let best = trainer.progress.best.map(|best| best.accuracy);
        // What --max-steps cuts short is no epoch: with more steps it would be another.
        let val = val.filter(|_| trainer.ends_epoch()).map(|val| val.accuracy());
        if let Some(accuracy) = val.filter(|accuracy| best.is_none_or(|best| *accuracy > best)) {
            trainer.progress.best = Some(Best { accuracy, epoch: line.epoch });
            trainer.save_best(&console);
        }
        console.end_epoch(&line, config.epochs);
        trainer.end_epoch(line, &console);
    }
    let summary = trainer.keep_results(&console)?;
    trainer.report(&console);
    if let Some(timeline) = timeline {
        // Last: a disk that refuses it takes nothing else away.
        timeline.write(&trainer, &console)?;
    }
    console.end_run(&summary, trainer.folder.path());
    position::enter(Phase::Work);
    Ok(summary)
}
