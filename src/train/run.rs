//! The state of a run on every rank, and its step.

use std::time::Instant;

use super::data::TrainData;
use super::digests;
use super::evaluate::{Evaluation, evaluate};
use super::fault::Fault;
use super::lockstep::{ExchangeConfig, Lockstep, StepContext, StepFlags, StepResult, recorded};
use super::progress::Progress;
use crate::comm::{Communicator, all_agree};
use crate::config::{Batch, RunConfig};
use crate::data::{EpochOrder, Part};
use crate::error::{Error, Exit, Result};
use crate::model::ops::Normalize;
use crate::model::{Model, Param, Params, Predictor};
use crate::optim::{self, Optimizer};
use crate::row_count::RowCount;
use crate::stopwatch::Stopwatch;
use crate::trace::{Trace, What};

/// The state of a run on every rank: the network, its weights, the data and the progress.
pub struct Run<'a> {
    pub config: &'a RunConfig,
    pub comm: &'a dyn Communicator,
    pub data: TrainData,
    pub model: Model,
    pub params: Params,
    pub optimizer: Optimizer,
    pub lockstep: Lockstep<'a>,
    /// The progress, but for the time and the bytes since the last [`Run::lap`].
    pub progress: Progress,
    /// Whether every value that this rank has computed was a finite number.
    pub well: bool,
    /// Rows of a step, over all ranks.
    pub batch: usize,
    /// Steps of the whole run.
    pub total_steps: usize,
    /// The spans of this rank's work, where they are recorded.
    pub trace: Trace,
    /// The fault that a test injects.
    pub fault: Option<Fault>,
    /// The time, and the bytes handed to MPI, at the last lap.
    since: (Instant, u64),
}

/// What a step does besides the update.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepRequest {
    /// All ranks' digests; every rank requests them, or none.
    pub digests: bool,
    /// This rank will write a checkpoint.
    pub checkpoint: bool,
    /// The signal after which the run ends with this step and a checkpoint.
    pub interrupt: Option<u8>,
}

/// What a step came to.
pub struct StepOutcome {
    /// All ranks' digests, if they were requested.
    pub digests: Option<digests::Found>,
    /// The signal after which the run ends here.
    pub interrupt: Option<u8>,
}

/// Whether `--zero-init-residual` finds what it is for.
fn check_zero_init(config: &RunConfig, model: &Model) -> Result<()> {
    if !config.zero_init_residual || model.table.iter().any(|param| param.ends_residual) {
        return Ok(());
    }
    Err(Error::invalid(
        "--zero-init-residual",
        format!("no residual block of '{}' that ends in a norm with weights", model.spec.name),
        "one at least, whose weights begin with zeros",
        "leave the option away, or end the layers of residual blocks in batch_norm",
    ))
}

/// What is said where the groups of a batch norm may be one value a channel: less their mean they are all zero.
fn single_values(model: &Model, norm_rows: RowCount, batch: usize) -> Option<String> {
    let of_one =
        |norm: &&Normalize| norm.pixels == 1 && (batch == 1 || norm.rows.unwrap_or(norm_rows) == RowCount::Rows(1));
    model.norms().iter().find(of_one)?;
    Some(
        "a batch norm of vectors has groups of one row: all of them become its bias, and nothing behind it learns from its input; \
         a larger --batch, or --norm-rows, gives it more rows"
            .to_owned(),
    )
}

/// The number that is not finite. The same on every rank.
#[derive(Debug)]
pub struct Diverged(pub String);

impl<'a> Run<'a> {
    /// Collective: reads the data, plans the network, takes the memory, draws the initial weights.
    /// `plan` is that of the run that is gone on with, where its weights depend on it.
    pub fn new(config: &'a RunConfig, plan: &str, comm: &'a dyn Communicator) -> Result<Run<'a>> {
        let started = Instant::now();
        let mut data = TrainData::load(config, comm)?;
        let (shape, classes) = (data.shape, data.classes.len());
        let model = config
            .model
            .resolve()
            .and_then(|spec| Model::new(spec, shape.hwc(), data.is_flat(), classes, config.kernels));
        let model = all_agree(comm, model)?;
        all_agree(comm, check_zero_init(config, &model))?;
        let batch = all_agree(comm, data.batch(config))?;
        data.notes.extend(single_values(&model, config.norm_rows, batch));
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
            norm_rows: config.norm_rows,
            recorded: recorded(plan),
        };
        let (lockstep, mut params, mut optimizer) = Lockstep::new(&model, &data, batch, exchange, settings, comm)?;
        if !config.decay_norms.unwrap_or(!model.has_norms()) {
            // Of weights, those of one size: norms' and biases.
            let spared = Param::weights(&model.table).iter().filter(|param| param.shape.len() == 1);
            optimizer.spare(spared.map(|param| param.range.clone()).collect());
        }
        if lockstep.writes_params() {
            params.draw(config.init, config.seed);
            if config.zero_init_residual {
                params.zero_residuals();
            }
        }
        comm.node_barrier();
        let fault = Fault::from_environment().and_then(|fault| {
            fault.as_ref().map_or(Ok(()), |fault| fault.check(comm.size(), &params))?;
            Ok(fault)
        });
        let fault = all_agree(comm, fault)?;
        Ok(Run {
            config,
            comm,
            data,
            model,
            params,
            optimizer,
            lockstep,
            progress: Progress::default(),
            well: true,
            batch,
            total_steps: config.max_steps.map_or(total_steps, |most| most.min(total_steps)),
            trace: Trace::default(),
            fault,
            since: (started, 0),
        })
    }

    /// One optimizer update, the `step`-th of the epoch, from this rank's rows and everyone else's.
    ///
    /// # Errors
    /// When a loss or a gradient is not finite: on every rank, at this step or the next.
    pub fn step(&mut self, order: &EpochOrder, step: usize, request: StepRequest) -> Result<StepOutcome, Diverged> {
        let lr = self.learning_rate();
        let Run { data, model, params, optimizer, lockstep, .. } = self;
        lockstep.choose(order, &data.train.shards, step, self.batch);
        if request.digests {
            lockstep.watch();
        }
        let count = data.train.shards.rows_of_step(step, self.batch) as u64;
        let StepRequest { checkpoint, interrupt, .. } = request;
        let flags = StepFlags { nonfinite: !self.well, checkpoint, interrupt };
        let (seed, epoch) = (self.config.seed, self.progress.epoch);
        let context = StepContext { seed, epoch, count, lr: lr as f32, flags };
        let result = lockstep.step(model, params, optimizer, data, context, &mut self.progress.sums.seconds);
        let mut stopwatch = Stopwatch::start();
        self.count(&result, step, count, lr)?;
        if let Some(fault) = &self.fault {
            fault.strike(self.comm.rank(), self.progress.step, &mut self.params);
        }
        // All ranks compare their weights before a checkpoint.
        let digests = (request.digests || result.flags.checkpoint).then(|| self.exchange_digests(request.digests));
        let all_well = digests.as_ref().map_or(self.comm.size() > 1 || self.well, |found| found.all_well);
        if result.flags.checkpoint {
            self.lockstep.collect(&self.params, Some(&mut self.optimizer));
        }
        stopwatch.lap(&mut self.progress.sums.seconds.sync);
        if !all_well {
            return Err(Diverged("a gradient that is not finite".to_owned()));
        }
        Ok(StepOutcome { digests, interrupt: result.flags.interrupt })
    }

    /// Adds a step, the `step`-th of the epoch, to the progress.
    fn count(&mut self, result: &StepResult, step: usize, count: u64, lr: f64) -> Result<(), Diverged> {
        if result.flags.nonfinite {
            return Err(Diverged("a gradient that is not finite".to_owned()));
        }
        self.progress.step += 1;
        if !result.updated {
            return Err(Diverged(format!("loss {}", result.score.loss_sum)));
        }
        self.well = result.finite;
        self.progress.step_of_epoch = step + 1;
        self.progress.sums.exchange += result.exchange;
        self.progress.sums.add(result.score, count, lr);
        Ok(())
    }

    /// Collective: all ranks' digests of the weights; with `shards`, of the gradients of its shards, too.
    fn exchange_digests(&mut self, shards: bool) -> digests::Found {
        let began = self.trace.now();
        let owned = self.data.train.owned.clone();
        let own = if shards { self.lockstep.watched(owned) } else { Vec::new() };
        let found = digests::exchange(self.comm, self.well, &self.lockstep.copies(&self.params), &own);
        self.trace.end(began, What::Digest, 0, [0; 4]);
        found
    }

    /// Whether every step has been result.
    pub fn is_done(&self) -> bool {
        self.progress.step >= self.total_steps
    }

    /// Training rows.
    pub fn rows(&self) -> usize {
        self.data.train.shards.rows()
    }

    /// Steps of an epoch.
    pub fn steps_of_epoch(&self) -> usize {
        self.data.train.shards.steps(self.batch)
    }

    /// Whether the epoch is over, not only cut short by `--max-steps`.
    pub fn ends_epoch(&self) -> bool {
        self.progress.step_of_epoch == self.steps_of_epoch()
    }

    /// The progress right now; the time since the last lap was training or not.
    pub fn now(&self, training: bool) -> Progress {
        let mut now = self.progress.clone();
        let (seconds, bytes) = (self.since.0.elapsed().as_secs_f64(), self.comm.bytes_communicated() - self.since.1);
        now.wall_seconds += seconds;
        now.sums.wall_seconds += if training { seconds } else { 0.0 };
        now.sums.bytes += bytes;
        now.bytes += bytes;
        now
    }

    /// Adds the time and the bytes since the last lap to the progress.
    pub fn lap(&mut self, training: bool) {
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
    pub fn evaluate(&mut self) -> [Option<Evaluation>; 2] {
        let (mut stopwatch, began) = (Stopwatch::start(), self.trace.now());
        let Run { comm, data, model, params, lockstep, .. } = self;
        lockstep.collect(params, None);
        let mut predictor = Predictor { model, params, workspace: &mut lockstep.workspace };
        let mut on = |part: &Option<Part>| {
            let part = part.as_ref()?;
            Some(evaluate(&mut predictor, part, part.shards.count(), &data.normalizer, *comm))
        };
        let results = [on(&data.val), on(&data.test)];
        stopwatch.lap(&mut self.progress.sums.seconds.evaluate);
        self.trace.end(began, What::Evaluate, 0, [0; 4]);
        results
    }

    /// The settings with everything that the data decided.
    pub fn config_that_runs(&self) -> RunConfig {
        RunConfig {
            // `--resume` may come from another folder.
            data: self.config.data_from_everywhere(),
            normalize: Some(self.data.normalizer.mode()),
            augment: Some(self.data.augment),
            shuffle_block: (!self.config.shuffle_window.is_all()).then_some(self.data.shuffle.block),
            batch: self.config.batch.or(Some(Batch::Rows(self.batch))),
            ..self.config.clone()
        }
    }

    /// Why this run cannot go on; `checkpoint` says what it could go on from.
    pub fn diverged(&self, Diverged(found): Diverged, checkpoint: &str) -> Error {
        Error::invalid(
            format!("step {} (epoch {})", self.progress.step, self.progress.epoch + 1),
            format!("{found}: the training diverged"),
            "finite numbers",
            format!("lower --lr (it was {}), or limit gradients with --clip-norm 1{checkpoint}", self.config.lr),
        )
        .ended(Exit::Diverged)
    }
}
