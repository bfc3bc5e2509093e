//! A run in memory: its steps, its epochs, its checkpoints.

use std::time::Instant;

use super::account::seconds_of_ranks;
use super::data::TrainData;
use super::digests::{self, StartLine};
use super::evaluate::{Evaluation, evaluate};
use super::fault::Fault;
use super::interrupt;
use super::keeping::Refused;
use super::live::Told;
use super::lockstep::{ExchangeConfig, Lockstep, StepContext, StepFlags, recorded};
use super::progress::Progress;
use super::run_dir::RunDir;
use super::saver::Saver;
use crate::comm::{self, Communicator, all_agree};
use crate::config::RunConfig;
use crate::data::{EpochOrder, Part};
use crate::error::Result;
use crate::metrics::EpochLine;
use crate::model::{Model, Params};
use crate::optim::{self, Optimizer};
use crate::position::{self, Phase};
use crate::report::{Activity, Console};
use crate::stopwatch::Stopwatch;
use crate::trace::{Trace, What};

/// Everything that a run holds.
pub struct Trainer<'a> {
    pub config: &'a RunConfig,
    pub comm: &'a dyn Communicator,
    pub data: TrainData,
    pub model: Model,
    pub params: Params,
    pub optimizer: Optimizer,
    /// Where the run stands, but for the time and the bytes since the last [`Trainer::lap`].
    pub progress: Progress,
    /// On the root. It ends before the folder, whose lock guards what it writes.
    pub saver: Option<Saver>,
    pub folder: RunDir,
    /// The digest of all digests so far.
    pub chain: u64,
    /// The lines of the epochs that are done.
    pub lines: Vec<EpochLine>,
    pub lockstep: Lockstep<'a>,
    /// Where what this rank does is recorded, if it is.
    pub trace: Trace,
    /// Rows of a step, over all ranks.
    pub batch: usize,
    total_steps: usize,
    /// Whether every value that this rank has computed was a finite number.
    pub(super) well: bool,
    /// By the disk, on the root.
    pub refused: Refused,
    /// What is to go wrong.
    pub fault: Option<Fault>,
    /// What was told to those who watch.
    pub told: Told,
    /// The time, and the bytes handed to MPI, at the last lap.
    since: (Instant, u64),
}

/// What a step was.
pub struct StepOutcome {
    /// What all ranks' digests were, if they were wanted.
    pub digests: Option<digests::Found>,
    /// The signal after which the run ends here.
    pub interrupt: Option<u8>,
}

/// What a step does besides the update.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepRequest {
    /// All ranks' digests; every rank wants them, or none.
    pub digests: bool,
    /// This rank will write a checkpoint.
    pub checkpoint: bool,
}

impl<'a> Trainer<'a> {
    /// Collective: reads the data, plans the network, takes the memory, draws the initial weights.
    /// `plan` is that of the run that is gone on with, where its weights depend on it.
    pub fn new(config: &'a RunConfig, plan: &str, comm: &'a dyn Communicator) -> Result<Trainer<'a>> {
        let started = Instant::now();
        let data = TrainData::load(config, comm)?;
        let (shape, classes) = (data.shape, data.classes.len());
        let model = config
            .model
            .resolve()
            .and_then(|spec| Model::new(spec, shape.hwc(), data.is_flat(), classes, config.kernels));
        let model = all_agree(comm, model)?;
        let batch = all_agree(comm, data.batch(config))?;
        let total_steps = config.epochs * data.train.shards.steps(batch);
        let settings = optim::Settings {
            kind: config.optimizer,
            momentum: config.momentum as f32,
            weight_decay: config.weight_decay as f32,
            clip_value: config.clip_value.map(|v| v as f32),
            clip_norm: config.clip_norm.map(|v| v as f32),
        };
        let exchange = ExchangeConfig {
            reduce: config.reduce,
            comm: config.comm,
            window: config.window,
            wire: config.wire,
            recorded: recorded(plan),
        };
        let (lockstep, mut params, optimizer) = Lockstep::new(&model, &data, batch, exchange, settings, comm)?;
        if lockstep.writes_params() {
            params.draw(config.init, config.seed);
        }
        comm.node_barrier();
        let fault = Fault::from_environment().and_then(|fault| {
            fault.as_ref().map_or(Ok(()), |fault| fault.check(comm.size(), &params))?;
            Ok(fault)
        });
        let fault = all_agree(comm, fault)?;
        Ok(Trainer {
            params,
            optimizer,
            progress: Progress::default(),
            folder: RunDir::default(),
            saver: None,
            chain: 0,
            lines: Vec::new(),
            lockstep,
            trace: Trace::default(),
            total_steps: config.max_steps.map_or(total_steps, |most| most.min(total_steps)),
            well: true,
            refused: Refused::default(),
            fault,
            told: Told::default(),
            since: (started, 0),
            config,
            comm,
            data,
            model,
            batch,
        })
    }

    /// Whether every step has been made.
    pub fn is_done(&self) -> bool {
        self.progress.step >= self.total_steps
    }

    /// Steps of the whole run.
    pub fn total_steps(&self) -> usize {
        self.total_steps
    }

    /// Training rows.
    pub fn rows(&self) -> usize {
        self.data.train.shards.rows()
    }

    /// Steps of an epoch.
    pub fn steps_of_epoch(&self) -> usize {
        self.data.train.shards.steps(self.batch)
    }

    /// What is left of an epoch, and the evaluation where one is due: the epoch's figures, and those on `/val` and `/test`.
    pub fn train_and_evaluate(&mut self, console: &Console) -> Result<(EpochLine, [Option<Evaluation>; 2])> {
        self.lap(false);
        self.epoch(console)?;
        self.lap(true);
        // For a checkpoint that may follow.
        self.lockstep.collect(&self.params, Some(&mut self.optimizer));
        let epoch = self.progress.epoch + 1;
        self.tell(Activity::Evaluating, console);
        position::enter(Phase::Evaluate);
        let due = self.is_done() || epoch.is_multiple_of(self.config.eval_every);
        let (val, test) = if due { self.evaluate() } else { (None, None) };
        // The last step's update may be the one that goes too far: no later step would see it.
        if let Some(bad) = [&val, &test].into_iter().flatten().map(Evaluation::loss).find(|loss| !loss.is_finite()) {
            return Err(self.diverged(format!("loss {bad}")));
        }
        if self.is_done() && !self.params.values.iter().all(|value| value.is_finite()) {
            return Err(self.diverged("weights that are not finite".to_owned()));
        }
        if !self.ends_epoch() {
            // --max-steps ends the run here: with more of them, somebody may go on from here.
            self.save_state(console);
        }
        self.lap(false);
        let sums = &mut self.progress.sums;
        let (seconds, slowest) = seconds_of_ranks(self.comm, sums.seconds);
        sums.seconds = seconds;
        let line = EpochLine {
            epoch,
            step: self.progress.step,
            lr: sums.lr,
            train_loss: sums.loss_sum / sums.count as f64,
            train_accuracy: sums.correct as f64 / sums.count as f64,
            val_loss: val.as_ref().map(Evaluation::loss),
            val_accuracy: val.as_ref().map(Evaluation::accuracy),
            test_loss: test.as_ref().map(Evaluation::loss),
            test_accuracy: test.as_ref().map(Evaluation::accuracy),
            val_balance: val.as_ref().map(|val| val.confusion.balance()),
            test_balance: test.as_ref().map(|test| test.confusion.balance()),
            seconds: sums.seconds,
            images_per_sec: sums.count as f64 / sums.wall_seconds,
            bytes_communicated: sums.bytes,
            exchange: sums.exchange,
            slowest,
        };
        Ok((line, [val, test]))
    }

    /// One pass over the training rows, or what is left of it, or what `--max-steps` leaves of that.
    fn epoch(&mut self, console: &Console) -> Result<()> {
        let (epoch, first) = (self.progress.epoch, self.progress.step_of_epoch);
        let train = &self.data.train;
        let order = EpochOrder::new(&train.shards, train.owned.clone(), self.config.seed, epoch);
        for step in first..self.steps_of_epoch() {
            if self.is_done() {
                break;
            }
            let [ends_epoch, ends] = [step + 1 == self.steps_of_epoch(), self.progress.step + 1 == self.total_steps];
            let next = self.progress.step + 1;
            let write = ends_epoch || next.is_multiple_of(self.config.digest_every);
            self.look_after_checkpoints(console);
            let saves = !ends && !ends_epoch && self.is_checkpoint_due(next, None);
            position::reach(epoch + 1, next);
            let began = self.trace.now();
            let outcome = self.step(&order, step, StepRequest { digests: write || ends, checkpoint: saves })?;
            self.trace.end(began, What::Step, self.progress.step, [0; 4]);
            if let Some(found) = outcome.digests {
                self.compare_digests(&found, write)?;
            }
            self.tell(Activity::Training, console);
            // The last step is followed by the run's end anyway.
            if let Some(signal) = outcome.interrupt.filter(|_| !ends) {
                return self.interrupted(signal, console);
            }
            if saves {
                self.save_state(console);
            }
        }
        Ok(())
    }

    /// One optimizer update, the `step`-th of the epoch, from this rank's rows and everyone else's.
    ///
    /// # Errors
    /// When a loss or a gradient is not finite: on every rank, at this step or the next.
    pub fn step(&mut self, order: &EpochOrder, step: usize, request: StepRequest) -> Result<StepOutcome> {
        let interrupt = interrupt::caught().or(self.is_out_of_patience().then_some(interrupt::FAILED_WRITES));
        let lr = self.learning_rate();
        let Trainer { comm, data, model, params, optimizer, lockstep, .. } = self;
        let (comm, seconds) = (*comm, &mut self.progress.sums.seconds);
        lockstep.choose(order, &data.train.shards, step, self.batch);
        if request.digests {
            lockstep.watch();
        }
        let count = data.train.shards.rows_of_step(step, self.batch) as u64;
        let flags = StepFlags { nonfinite: !self.well, checkpoint: request.checkpoint, interrupt };
        let (seed, epoch) = (self.config.seed, self.progress.epoch);
        let context = StepContext { seed, epoch, count, lr: lr as f32, flags };
        let result = lockstep.step(model, params, optimizer, data, context, seconds);
        let mut stopwatch = Stopwatch::start();
        if result.flags.nonfinite {
            return Err(self.diverged("a gradient that is not finite".to_owned()));
        }
        let score = result.score;
        if !result.updated {
            self.progress.step += 1;
            return Err(self.diverged(format!("loss {}", score.loss_sum)));
        }
        self.well = result.finite;
        self.progress.sums.exchange += result.exchange;
        self.progress.step += 1;
        self.progress.step_of_epoch = step + 1;
        self.progress.sums.add(score, count, lr);
        if let Some(fault) = &self.fault {
            fault.strike(comm.rank(), self.progress.step, params);
        }
        // All ranks compare their weights before a checkpoint.
        let digests = (request.digests || result.flags.checkpoint).then(|| {
            let began = self.trace.now();
            let own = if request.digests { lockstep.watched(data.train.owned.clone()) } else { Vec::new() };
            let found = digests::exchange(comm, self.well, &lockstep.copies(params), &own);
            self.trace.end(began, What::Digest, 0, [0; 4]);
            found
        });
        let all_well = digests.as_ref().map_or(comm.size() > 1 || self.well, |found| found.all_well);
        if result.flags.checkpoint {
            lockstep.collect(params, Some(optimizer));
        }
        stopwatch.lap(&mut self.progress.sums.seconds.sync);
        if !all_well {
            return Err(self.diverged("a gradient that is not finite".to_owned()));
        }
        Ok(StepOutcome { digests, interrupt: result.flags.interrupt })
    }

    /// Collective: writes what the ranks found (where only `--max-steps` ends, nothing is due), and stops where they differ.
    fn compare_digests(&mut self, found: &digests::Found, write: bool) -> Result<()> {
        let at = (self.progress.step, self.progress.epoch + 1);
        let mut chain = self.chain;
        let (line, error) = found.line(at, &self.params, &mut chain, self.comm);
        if write || error.is_some() {
            self.chain = chain;
            self.folder.add_digests(&line);
        }
        error.map_or(Ok(()), |error| {
            // For `glasses verify`.
            self.folder.keep();
            Err(error)
        })
    }

    /// Collective: who computes from here on.
    pub fn write_start(&mut self, fork: bool) {
        let (step, hosts) = (self.progress.step, comm::hosts(self.comm));
        if self.comm.is_root() {
            let (data, version) = (self.data.fingerprint.clone(), env!("CARGO_PKG_VERSION").to_owned());
            let plan = self.lockstep.binding_plan();
            self.folder.add_digests(&StartLine { step, hosts, data, plan, fork, version });
        }
    }

    /// The epoch is over and written: the next one begins.
    pub fn end_epoch(&mut self, line: EpochLine, console: &Console) {
        let ends = self.ends_epoch();
        self.lines.push(line);
        if !ends {
            return;
        }
        self.progress.end_epoch();
        let (step, epoch) = (self.progress.step, Some(self.progress.epoch));
        if !self.is_done() && self.is_checkpoint_due(step, epoch) {
            self.save_state(console);
        }
    }

    /// Whether the epoch is over, not only cut short by `--max-steps`.
    pub fn ends_epoch(&self) -> bool {
        self.progress.step_of_epoch == self.steps_of_epoch()
    }

    /// Where the run stands right now; the time since the last lap was training or not.
    pub fn now(&self, training: bool) -> Progress {
        let mut now = self.progress.clone();
        let (seconds, bytes) = (self.since.0.elapsed().as_secs_f64(), self.comm.bytes_communicated() - self.since.1);
        now.wall_seconds += seconds;
        now.sums.wall_seconds += if training { seconds } else { 0.0 };
        now.sums.bytes += bytes;
        now.bytes += bytes;
        now
    }

    /// Adds the time and the bytes since the last lap to where the run stands.
    fn lap(&mut self, training: bool) {
        self.progress = self.now(training);
        self.since = (Instant::now(), self.comm.bytes_communicated());
    }

    /// Steps in which the learning rate rises.
    fn warmup(&self) -> usize {
        (self.config.warmup_epochs * self.steps_of_epoch() as f64).round() as usize
    }

    /// Whether the learning rate is still rising where the run ends, in a warm-up that somebody asked for: longer than an epoch.
    pub fn rises_to_the_end(&self) -> bool {
        self.warmup() > self.total_steps && self.config.warmup_epochs > 1.0
    }

    fn learning_rate(&self) -> f64 {
        let (epoch_steps, warmup) = (self.steps_of_epoch(), self.warmup());
        self.config.schedule.at(self.config.lr, self.progress.step, warmup, self.config.epochs * epoch_steps)
    }

    /// On the validation and the test rows, where there are any.
    fn evaluate(&mut self) -> (Option<Evaluation>, Option<Evaluation>) {
        let (mut stopwatch, began) = (Stopwatch::start(), self.trace.now());
        let Trainer { comm, data, model, params, lockstep, .. } = self;
        lockstep.collect(params, None);
        let mut on = |part: &Option<Part>| {
            part.as_ref().map(|part| {
                let rows = (part, part.shards.count());
                evaluate(model, params, &mut lockstep.workspace, rows, &data.normalizer, *comm)
            })
        };
        let results = (on(&data.val), on(&data.test));
        stopwatch.lap(&mut self.progress.sums.seconds.evaluate);
        self.trace.end(began, What::Evaluate, 0, [0; 4]);
        results
    }
}
