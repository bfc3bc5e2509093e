//! The epoch loop: a run from its first step to its results.

use super::account::seconds_of_ranks;
use super::begin::begin;
use super::board::Board;
use super::evaluate::Evaluation;
use super::examine::write_report;
use super::interrupt;
use super::origin::Origin;
use super::progress::Best;
use super::pulse;
use super::recorder::Recorder;
use super::refused::Kind;
use super::run::{Diverged, Run, StepRequest};
use super::timeline::{self, Timeline, check_trace};
use crate::comm::{Communicator, Traced, on_root};
use crate::config::{Every, RunConfig};
use crate::data::EpochOrder;
use crate::error::{Error, Exit, Result};
use crate::metrics::{EpochLine, Summary};
use crate::position::{self, Phase};
use crate::report::{Activity, Console};
use crate::trace::{Trace, What};

/// Collective: trains one network, of which all ranks have the same weights after every step.
///
/// # Errors
/// As [`run`](super::run()).
pub fn in_lockstep(
    config: &RunConfig,
    origin: &Origin,
    comm: &dyn Communicator,
    mut console: Console,
) -> Result<Summary> {
    on_root(comm, || check_trace(config).map(|()| String::new()))?;
    let folder = origin.reopen(comm, &console)?;
    pulse::give_up_after(config.stall_timeout);
    position::enter(Phase::Start);
    let trace = config.trace.as_ref().map(|_| Trace::with_room(timeline::ROOM)).unwrap_or_default();
    let traced = Traced::new(comm, trace.clone());
    let comm: &dyn Communicator = if trace.is_some() { &traced } else { comm };
    let mut run = Run::new(config, &origin.plan(comm)?, comm)?;
    let mut recorder = Recorder::new(folder);
    begin(&mut run, &mut recorder, origin, &console)?;
    let timeline = Timeline::start(&mut run, &trace);
    introduce(&run, &console);
    let mut board = Board::new(config.tensorboard && comm.is_root(), &recorder.lines);
    // An epoch may have ended where the run was left, and not been judged.
    while !run.is_done() || run.ends_epoch() {
        console.start_epoch(run.progress.epoch + 1, config.epochs, run.rows(), run.progress.sums.count);
        let (line, [val, test]) = train_and_evaluate(&mut run, &mut recorder, &console)?;
        recorder.add_line(&mut run, &line, &console);
        board.add(&run, &recorder.folder, &line, [&val, &test], &console);
        let best = run.progress.best.map(|best| best.accuracy);
        // What --max-steps cuts short is no epoch: with more steps it would be another.
        let val = val.filter(|_| run.ends_epoch()).map(|val| val.accuracy());
        if let Some(accuracy) = val.filter(|accuracy| best.is_none_or(|best| *accuracy > best)) {
            run.progress.best = Some(Best { accuracy, epoch: line.epoch });
            recorder.save_best(&mut run, &console);
        }
        console.end_epoch(&line, config.epochs);
        end_epoch(&mut run, &mut recorder, line, &console);
    }
    let summary = recorder.keep_results(&mut run, &console)?;
    write_report(&mut run, recorder.folder.path(), &console);
    if let Some(timeline) = timeline {
        // Last: a disk that refuses it takes nothing else away.
        timeline.write(&run, &console)?;
    }
    console.end_run(&summary, recorder.folder.path());
    position::enter(Phase::Work);
    Ok(summary)
}

/// Describes the run on the console, with notes and warnings.
fn introduce(run: &Run<'_>, console: &Console) {
    run.data.notes.iter().for_each(|note| console.note(note));
    if run.rises_to_the_end() {
        console.note("--max-steps ends the run within --warmup-epochs: the learning rate rises to the end");
    }
    console.say(run.describe());
    if let Some(refused) = &run.lockstep.refused {
        console.warn(format!(
            "no memory is shared, ranks of one machine send messages, which is slower: {refused}; give more (docker run --shm-size=2g), or \
             pass --window off"
        ));
    }
    if run.fault.is_some() {
        console.warn("GLASSES_FAULT is set: this run will go wrong, as a test wants it");
    }
}

/// What is left of an epoch, and the evaluation where one is due: the epoch's figures, and those on `/val` and `/test`.
fn train_and_evaluate(
    run: &mut Run<'_>,
    recorder: &mut Recorder,
    console: &Console,
) -> Result<(EpochLine, [Option<Evaluation>; 2])> {
    run.lap(false);
    train(run, recorder, console)?;
    run.lap(true);
    // For a checkpoint that may follow.
    run.lockstep.collect(&run.params, Some(&mut run.optimizer));
    recorder.report_progress(run, Activity::Evaluating, console);
    position::enter(Phase::Evaluate);
    let due = run.is_done() || (run.progress.epoch + 1).is_multiple_of(run.config.eval_every);
    let found = if due { run.evaluate() } else { [None, None] };
    check_finite(run, &found).map_err(|diverged| recorder.diverged(run, diverged))?;
    if !run.ends_epoch() {
        // --max-steps ends the run here: with more of them, somebody may go on from here.
        recorder.save_state(run, console);
    }
    run.lap(false);
    let line = line(run, [found[0].as_ref(), found[1].as_ref()]);
    Ok((line, found))
}

/// The last step's update may be the one that goes too far: no later step would see it.
fn check_finite(run: &Run<'_>, found: &[Option<Evaluation>]) -> std::result::Result<(), Diverged> {
    if let Some(bad) = found.iter().flatten().map(Evaluation::loss).find(|loss| !loss.is_finite()) {
        return Err(Diverged(format!("loss {bad}")));
    }
    if run.is_done() && !run.params.values.iter().all(|value| value.is_finite()) {
        return Err(Diverged("weights that are not finite".to_owned()));
    }
    Ok(())
}

/// Collective: the figures of the epoch, or of what there is of it.
fn line(run: &mut Run<'_>, [val, test]: [Option<&Evaluation>; 2]) -> EpochLine {
    let sums = &mut run.progress.sums;
    let (seconds, slowest) = seconds_of_ranks(run.comm, sums.seconds);
    sums.seconds = seconds;
    EpochLine {
        epoch: run.progress.epoch + 1,
        step: run.progress.step,
        lr: sums.lr,
        train_loss: sums.loss_sum / sums.count as f64,
        train_accuracy: sums.correct as f64 / sums.count as f64,
        val_loss: val.map(Evaluation::loss),
        val_accuracy: val.map(Evaluation::accuracy),
        test_loss: test.map(Evaluation::loss),
        test_accuracy: test.map(Evaluation::accuracy),
        val_balance: val.map(|val| val.confusion.balance()),
        test_balance: test.map(|test| test.confusion.balance()),
        seconds: sums.seconds,
        images_per_sec: sums.count as f64 / sums.wall_seconds,
        bytes_communicated: sums.bytes,
        exchange: sums.exchange,
        slowest,
    }
}

/// One pass over the training rows, or what is left of it, or what `--max-steps` leaves of that.
fn train(run: &mut Run<'_>, recorder: &mut Recorder, console: &Console) -> Result<()> {
    let (epoch, first) = (run.progress.epoch, run.progress.step_of_epoch);
    let rows = &run.data.train;
    let order = EpochOrder::new(&rows.shards, rows.owned.clone(), &run.data.shuffle, epoch);
    for step in first..run.steps_of_epoch() {
        if run.is_done() {
            break;
        }
        let next = run.progress.step + 1;
        let [ends_epoch, ends] = [step + 1 == run.steps_of_epoch(), next == run.total_steps];
        let write = ends_epoch || next.is_multiple_of(run.config.digest_every);
        recorder.look_after_checkpoints(run, console);
        let saves = !ends && !ends_epoch && recorder.is_checkpoint_due(next, None);
        let interrupt = pending_interrupt(run, recorder);
        let request = StepRequest { digests: write || ends, checkpoint: saves, interrupt };
        position::reach(epoch + 1, next);
        let began = run.trace.now();
        let outcome = run.step(&order, step, request).map_err(|diverged| recorder.diverged(run, diverged))?;
        run.trace.end(began, What::Step, run.progress.step, [0; 4]);
        if let Some(found) = outcome.digests {
            recorder.compare_digests(run, &found, write)?;
        }
        recorder.report_progress(run, Activity::Training, console);
        // The last step is followed by the run's end anyway.
        if let Some(signal) = outcome.interrupt.filter(|_| !ends) {
            return interrupted(run, recorder, signal, console);
        }
        if saves {
            recorder.save_state(run, console);
        }
    }
    Ok(())
}

/// The signal that this process got, or [`interrupt::FAILED_WRITES`]: the run ends after the next step.
fn pending_interrupt(run: &Run<'_>, recorder: &Recorder) -> Option<u8> {
    let gives_up = recorder.is_out_of_patience(run.config.max_failed_checkpoints);
    interrupt::caught().or(gives_up.then_some(interrupt::FAILED_WRITES))
}

/// The epoch is over and written: the next one begins.
fn end_epoch(run: &mut Run<'_>, recorder: &mut Recorder, line: EpochLine, console: &Console) {
    let ends = run.ends_epoch();
    recorder.lines.push(line);
    if !ends {
        return;
    }
    run.progress.end_epoch();
    let (step, epoch) = (run.progress.step, Some(run.progress.epoch));
    if !run.is_done() && recorder.is_checkpoint_due(step, epoch) {
        recorder.save_state(run, console);
    }
}

/// Collective: the run ends here because a rank got a signal; the root saves a checkpoint.
fn interrupted(run: &mut Run<'_>, recorder: &mut Recorder, signal: u8, console: &Console) -> Result<()> {
    let (step, comm) = (run.progress.step, run.comm);
    let again = pulse::again(&recorder.folder.path().display().to_string());
    on_root(comm, || {
        let end = |what: String, exit: Exit| {
            let message = format!("interrupted by {} after step {step}: {what}", interrupt::name(signal));
            Err(Error::Ended { message, exit })
        };
        if run.config.checkpoint_every == Every::Never {
            return end("nothing is saved, as --checkpoint-every never says".to_owned(), Exit::Unsaved);
        }
        let saved = recorder.insist(run, Kind::Checkpoint, "a checkpoint", console, &Recorder::write_checkpoint);
        let newest = recorder.newest_checkpoint();
        match (saved, newest) {
            (Ok(()), Some(newest)) if newest == step => {
                end(format!("saved; {again} goes on from there"), Exit::Interrupted)
            }
            (saved, newest) => {
                let why =
                    saved.err().map_or_else(|| "its numbers are not finite".to_owned(), |failure| failure.to_string());
                let older = match newest {
                    Some(newest) => format!("{again} goes on from step {newest}"),
                    None => "there is no older one".to_owned(),
                };
                end(format!("this step could not be saved; {older}: {why}"), Exit::Unsaved)
            }
        }
    })?;
    Ok(())
}
