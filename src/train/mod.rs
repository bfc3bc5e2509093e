//! Training: the epoch loop reads like the algorithm.

mod data;
mod evaluate;
mod memory;
mod micro_batch;
mod run_dir;
mod sums;
mod sync;

pub use data::TrainData;
pub use evaluate::{Evaluation, evaluate};
pub use memory::Memory;
pub use run_dir::check_out;
pub use sums::GradientSums;

use std::time::Instant;

use crate::checkpoint;
use crate::comm::{Communicator, agree, agree_root};
use crate::config::RunConfig;
use crate::data::EpochOrder;
use crate::error::{Error, Result};
use crate::kernels::Score;
use crate::metrics::{EpochLine, Seconds, Summary};
use crate::model::{Gradients, Model, Params};
use crate::optim::{self, Optimizer};
use crate::report::Console;
use run_dir::RunDir;
use sums::Lap;

/// The most rows that go through the network at once: what bounds memory, whatever the batch.
const MICRO_BATCH: usize = 64;

/// Rows that evaluation takes at once: enough to use a dense layer's weights well when they come from memory.
const EVALUATION_BATCH: usize = 32;

/// Everything that a run holds in memory.
struct Trainer<'a> {
    config: &'a RunConfig,
    comm: &'a dyn Communicator,
    data: TrainData,
    model: Model,
    params: Params,
    optimizer: Optimizer,
    /// Over this rank's rows of the step.
    own: GradientSums,
    /// The sum over everyone's rows.
    total: Gradients,
    batch: usize,
    total_steps: usize,
    steps_done: usize,
    rows_done: u64,
    /// Wall time of the training phases.
    training_seconds: f64,
    /// Time a phase in this epoch.
    seconds: Seconds,
}

/// Collective: trains as `config` says; the results are in the run directory when it returns.
///
/// # Errors
/// The same one on every rank: bad data, a model that does not fit, an output folder that refuses, weights that differ
/// between ranks, a loss that is no longer a number.
pub fn run(config: &RunConfig, comm: &dyn Communicator) -> Result<Summary> {
    let started = Instant::now();
    let mut console = Console::new(comm.is_root());
    let mut trainer = Trainer::new(config, comm)?;
    let mut folder = RunDir::create(&trainer.config_that_runs(), &trainer.model.spec.name, comm)?;
    console.say(trainer.describe());
    let (mut best, mut lines) = (None, Vec::new());
    for epoch in 0..config.epochs {
        console.start_epoch(epoch + 1, config.epochs, trainer.data.train.shards.rows());
        let (line, val) = trainer.train_and_evaluate(epoch, &console)?;
        agree_root(comm, || folder.add(&line))?;
        if let Some(val) = val.filter(|val| best.is_none_or(|(accuracy, _)| val.accuracy() > accuracy)) {
            best = Some((val.accuracy(), epoch + 1));
            trainer.save(&folder, "best.h5")?;
        }
        console.end_epoch(&line, config.epochs);
        lines.push(line);
        if trainer.is_done() {
            break;
        }
    }
    trainer.save(&folder, "model.h5")?;
    let summary = trainer.summary(&lines, best.map(|(_, epoch)| epoch), started);
    agree_root(comm, || folder.finish(&summary))?;
    console.end_run(&summary, folder.path());
    Ok(summary)
}

impl<'a> Trainer<'a> {
    fn new(config: &'a RunConfig, comm: &'a dyn Communicator) -> Result<Trainer<'a>> {
        let data = TrainData::load(config, comm)?;
        let (shape, classes) = (data.shape, data.classes.len());
        let model = config
            .model
            .resolve()
            .and_then(|spec| Model::new(spec, shape.hwc(), data.is_flat(), classes, config.kernels));
        let model = agree(comm, model)?;
        let batch = agree(comm, data.batch(config))?;
        let own = agree(comm, GradientSums::new(&model, &data, batch))?;
        let total_steps = config.epochs * data.train.shards.steps(batch);
        let settings = optim::Settings {
            kind: config.optimizer,
            momentum: config.momentum as f32,
            weight_decay: config.weight_decay as f32,
            clip_value: config.clip_value.map(|v| v as f32),
            clip_norm: config.clip_norm.map(|v| v as f32),
        };
        Ok(Trainer {
            params: Params::initial(model.table.clone(), config.init, config.seed),
            optimizer: Optimizer::new(settings, model.parameters()),
            own,
            total: Gradients::zeros(model.parameters()),
            total_steps: config.max_steps.map_or(total_steps, |most| most.min(total_steps)),
            steps_done: 0,
            rows_done: 0,
            training_seconds: 0.0,
            seconds: Seconds::default(),
            config,
            comm,
            data,
            model,
            batch,
        })
    }

    /// Whether every step has been made.
    fn is_done(&self) -> bool {
        self.steps_done == self.total_steps
    }

    /// One epoch, the comparison of all ranks' weights, and the evaluation where one is due: the epoch's figures, and
    /// those on `/val`.
    fn train_and_evaluate(&mut self, epoch: usize, console: &Console) -> Result<(EpochLine, Option<Evaluation>)> {
        let (comm, before, start) = (self.comm, self.comm.bytes_communicated(), Instant::now());
        let (score, count, lr) = self.epoch(epoch, console)?;
        let seconds = start.elapsed().as_secs_f64();
        (self.rows_done, self.training_seconds) = (self.rows_done + count, self.training_seconds + seconds);
        sync::same_weights_everywhere(comm, &self.params, epoch + 1)?;
        let due = self.is_done() || (epoch + 1).is_multiple_of(self.config.eval_every);
        let (val, test) = if due { self.evaluate() } else { (None, None) };
        // The last step's update may be the one that goes too far: no later step would see it.
        if let Some(bad) = [&val, &test].into_iter().flatten().map(Evaluation::loss).find(|loss| !loss.is_finite()) {
            return Err(self.diverged(epoch, bad));
        }
        if self.is_done() && !self.params.values.iter().all(|value| value.is_finite()) {
            return Err(self.diverged(epoch, f64::NAN));
        }
        let line = EpochLine {
            epoch: epoch + 1,
            step: self.steps_done,
            lr,
            train_loss: score.loss_sum / count as f64,
            train_accuracy: score.correct as f64 / count as f64,
            val_loss: val.as_ref().map(Evaluation::loss),
            val_accuracy: val.as_ref().map(Evaluation::accuracy),
            test_loss: test.as_ref().map(Evaluation::loss),
            test_accuracy: test.as_ref().map(Evaluation::accuracy),
            seconds: sync::mean_seconds(comm, std::mem::take(&mut self.seconds)),
            images_per_sec: count as f64 / seconds,
            bytes_communicated: comm.bytes_communicated() - before,
        };
        Ok((line, val))
    }

    /// One pass over the training rows (or what `--max-steps` leaves of it): the score, over how many rows, and the
    /// last learning rate.
    fn epoch(&mut self, epoch: usize, console: &Console) -> Result<(Score, u64, f64)> {
        let train = &self.data.train;
        let steps = train.shards.steps(self.batch);
        let order = EpochOrder::new(&train.shards, train.owned.clone(), self.config.seed, epoch);
        let (mut epoch_score, mut epoch_count, mut lr) = (Score::default(), 0, 0.0);
        for step in 0..steps {
            if self.is_done() {
                break;
            }
            self.own.choose(&order, &self.data.train.shards, step, self.batch);
            lr = self.learning_rate();
            let (score, count) = self.step((epoch, step), lr);
            if !score.loss_sum.is_finite() {
                return Err(self.diverged(epoch, score.loss_sum));
            }
            epoch_score.loss_sum += score.loss_sum;
            epoch_score.correct += score.correct;
            epoch_count += count;
            console.advance(count);
        }
        Ok((epoch_score, epoch_count, lr))
    }

    /// One optimizer update from this rank's rows and everyone else's.
    fn step(&mut self, (epoch, step): (usize, usize), lr: f64) -> (Score, u64) {
        let Trainer { data, model, params, own, total, seconds, .. } = self;
        let own = own.sum(model, params, data, (self.config.seed, epoch), seconds);
        let mut lap = Lap::start();
        self.comm.sum_f32(&mut own.values, &mut total.values);
        lap.end(&mut self.seconds.sync);
        // The count travels along as f32, which is exact up to 16 million rows; every rank knows the exact one.
        let (score, travelled) = total.score();
        let count = data.train.shards.rows_of_step(step, self.batch) as u64;
        debug_assert!(count >= 1 << 24 || travelled == count);
        self.optimizer.step(&mut params.values, total.sums_mut(), count, lr as f32);
        lap.end(&mut self.seconds.update);
        self.steps_done += 1;
        (score, count)
    }

    fn learning_rate(&self) -> f64 {
        let epoch_steps = self.data.train.shards.steps(self.batch);
        let warmup = (self.config.warmup_epochs * epoch_steps as f64).round() as usize;
        self.config.schedule.at(self.config.lr, self.steps_done, warmup, self.config.epochs * epoch_steps)
    }

    /// On the validation and the test rows, where there are any.
    fn evaluate(&mut self) -> (Option<Evaluation>, Option<Evaluation>) {
        let mut lap = Lap::start();
        let Trainer { comm, data, model, params, own, .. } = self;
        let mut on = |part: &Option<crate::data::Part>| {
            part.as_ref().map(|part| evaluate(model, params, &mut own.workspace, part, &data.normalizer, *comm))
        };
        let results = (on(&data.val), on(&data.test));
        lap.end(&mut self.seconds.evaluate);
        results
    }

    fn save(&self, folder: &RunDir, name: &str) -> Result<()> {
        let (data, path) = (&self.data, folder.path().join(name));
        agree_root(self.comm, || {
            checkpoint::write(&path, &self.model, &self.params, data.shape, &data.normalizer, &data.classes)
                .map(|()| String::new())
        })?;
        Ok(())
    }

    fn diverged(&self, epoch: usize, loss: f64) -> Error {
        Error::invalid(
            format!("step {} (epoch {})", self.steps_done, epoch + 1),
            format!("loss {loss}: the training diverged"),
            "a finite loss",
            format!("lower --lr (it was {}), or limit gradients with --clip-norm 1", self.config.lr),
        )
    }

    /// The settings with everything that the data decided.
    fn config_that_runs(&self) -> RunConfig {
        RunConfig {
            normalize: Some(self.data.normalizer.mode()),
            augment: Some(self.data.augment),
            ..self.config.clone()
        }
    }

    fn describe(&self) -> String {
        let (data, config) = (&self.data, self.config);
        let rows = |part: &Option<crate::data::Part>| part.as_ref().map_or(0, |part| part.shards.rows());
        format!(
            "training '{}' ({} parameters) on {}: {} train, {} val, {} test rows of {}, classes {}\n\
             {} rank{} ({}), {} shards, batch {}, {} epoch{}, {} lr {}, seed {}",
            self.model.spec.name,
            self.model.parameters(),
            config.data.display(),
            data.train.shards.rows(),
            rows(&data.val),
            rows(&data.test),
            data.shape,
            data.classes.join(", "),
            self.comm.size(),
            if self.comm.size() == 1 { "" } else { "s" },
            self.comm.describe(),
            config.shards,
            self.batch,
            config.epochs,
            if config.epochs == 1 { "" } else { "s" },
            format!("{:?}", config.optimizer).to_lowercase(),
            config.lr,
            config.seed,
        )
    }

    fn summary(&self, lines: &[EpochLine], best_epoch: Option<usize>, started: Instant) -> Summary {
        let last = lines.last();
        let value = |get: fn(&EpochLine) -> f64| last.map_or(f64::NAN, get);
        Summary {
            model: self.model.spec.name.clone(),
            parameters: self.model.parameters(),
            train_rows: self.data.train.shards.rows(),
            test_rows: self.data.test.as_ref().map_or(0, |part| part.shards.rows()),
            ranks: self.comm.size(),
            shards: self.config.shards,
            epochs: lines.len(),
            steps: self.steps_done,
            train_loss: value(|line| line.train_loss),
            train_accuracy: value(|line| line.train_accuracy),
            val_loss: last.and_then(|line| line.val_loss),
            val_accuracy: last.and_then(|line| line.val_accuracy),
            test_loss: last.and_then(|line| line.test_loss),
            test_accuracy: last.and_then(|line| line.test_accuracy),
            best_epoch,
            images_per_sec: self.rows_done as f64 / self.training_seconds,
            bytes_communicated: self.comm.bytes_communicated(),
            weights_sha256: self.params.sha256(),
            wall_seconds: started.elapsed().as_secs_f64(),
        }
    }
}
