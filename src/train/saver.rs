//! Checkpoints of a run: when they are due, what they hold, and writing them while training goes on.

use std::fs::File;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::progress::Progress;
use crate::checkpoint::{Checkpoints, Described, State, Tensor, write_state};
use crate::config::Every;
use crate::error::{Error, Result, in_words};
use crate::kernels::Buffer;
use crate::metrics::EpochLine;
use crate::model::{Param, Params};
use crate::optim::Optimizer;
use crate::position::{self, Phase};

/// The text of a checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// The program that wrote it.
    pub glasses: String,
    /// All settings, as in `config.toml`.
    pub settings: String,
    /// The digest of the rows that the run trains and judges by.
    pub data: String,
    /// Ranks that made the last step.
    pub ranks: usize,
    /// The plan, where the weights depend on it: [`Lockstep::binding_plan`](super::Lockstep::binding_plan).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plan: String,
    /// Steps that the optimizer has made.
    pub optimizer_steps: u64,
    /// Where the run stands.
    pub progress: Progress,
    /// The lines of the epochs that are done.
    pub lines: Vec<EpochLine>,
    /// The chain of digests up to here.
    pub chain: u64,
    /// What else a model file would say; older checkpoints do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Described>,
}

/// What a checkpoint holds, copied so that training can go on.
struct Snapshot {
    meta: Meta,
    /// Groups of tensors, and their values.
    groups: Vec<(&'static str, Buffer)>,
    params: Params,
}

/// Groups of optimizer state, in the order of [`crate::optim::State`].
const STATE: [&str; 2] = ["optimizer/first", "optimizer/second"];

/// The steps of a checkpoint that is on disk, and what became of older ones; or what the disk said, and what it refused.
type Written = Result<(usize, Result<()>), Box<(Error, Arc<Snapshot>)>>;

/// Writes the checkpoints of a run; on the root only.
pub struct Saver {
    checkpoints: Checkpoints,
    every: Every,
    keep: usize,
    /// When the last one was made, and after how many steps.
    last: (Instant, usize),
    thread: Option<JoinHandle<Written>>,
    /// What the disk has refused.
    left: Option<Arc<Snapshot>>,
    /// Steps of the newest that is whole on disk.
    newest: Option<usize>,
    /// Whether older ones could be removed.
    pruned: Result<()>,
    /// Whether somebody knows that they could not.
    told: bool,
    /// Whether those that were written have been taken away: the next one is due.
    gone: bool,
}

impl Saver {
    /// Checkpoints in `checkpoints` of a run that has made `step` steps; the newest of them is `newest`.
    pub fn new(checkpoints: Checkpoints, every: Every, keep: usize, step: usize, newest: Option<usize>) -> Saver {
        let last = (Instant::now(), step);
        Saver {
            checkpoints,
            every,
            keep,
            last,
            thread: None,
            left: None,
            newest,
            pruned: Ok(()),
            told: false,
            gone: false,
        }
    }

    /// Whether one is being written: the next one waits, training does not.
    pub fn is_busy(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// What became of the one that was started last, once that is known; it is told once.
    pub fn look(&mut self) -> Option<Result<()>> {
        (self.thread.is_some() && !self.is_busy()).then(|| self.wait())
    }

    /// Whether one is due after `step` steps, which end `epoch` epochs or none.
    pub fn is_due(&self, step: usize, epoch: Option<usize>) -> bool {
        match self.every {
            Every::Never => false,
            _ if self.gone => true,
            Every::Time(time) => self.last.0.elapsed() >= time,
            Every::Steps(steps) => step / steps > self.last.1 / steps,
            Every::Epochs(epochs) => epoch.is_some_and(|epoch| epoch.is_multiple_of(epochs)),
        }
    }

    /// Copies what a checkpoint holds and starts to write it, after the files in `sync` are on disk. Waits for the one before it
    /// first.
    ///
    /// # Errors
    /// When the one before it could not be written.
    pub fn start(&mut self, meta: Meta, params: &Params, optimizer: &mut Optimizer, sync: Vec<File>) -> Result<()> {
        let before = self.wait();
        self.last = (Instant::now(), meta.progress.step);
        self.gone = false;
        // What is newer takes its place.
        self.left = None;
        let snapshot = Arc::new(Snapshot::new(meta, params, optimizer));
        let (checkpoints, keep, own) = (self.checkpoints.clone(), self.keep, snapshot.clone());
        let write = move || match own.keep(&checkpoints, keep, &sync) {
            Ok(pruned) => Ok((own.step(), pruned)),
            Err(failure) => Err(Box::new((failure, own))),
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(write);
        match thread {
            Ok(thread) => self.thread = Some(thread),
            Err(refused) => {
                self.left = Some(snapshot);
                return Err(Error::io("start a thread for", self.checkpoints.folder())(refused));
            }
        }
        before
    }

    /// Waits until the last one that was started is on disk.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn wait(&mut self) -> Result<()> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        if !thread.is_finished() {
            position::enter(Phase::Checkpoint);
        }
        // A panic has ended the process already where there are several ranks.
        match thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Ok((step, pruned)) => {
                self.has_written(step, pruned);
                Ok(())
            }
            Err(refused) => {
                let (failure, snapshot) = *refused;
                self.left = Some(snapshot);
                Err(failure)
            }
        }
    }

    /// Writes at once what the disk has refused, if anything.
    ///
    /// # Errors
    /// When it refuses again.
    pub fn try_again(&mut self) -> Result<()> {
        self.wait()?;
        if let Some(snapshot) = &self.left {
            let (step, pruned) = (snapshot.step(), snapshot.keep(&self.checkpoints, self.keep, &[])?);
            self.has_written(step, pruned);
            self.left = None;
        }
        Ok(())
    }

    fn has_written(&mut self, step: usize, pruned: Result<()>) {
        self.newest = Some(step);
        self.told &= pruned.is_err();
        self.pruned = pruned;
    }

    /// Why older checkpoints are still there; it is told once, until they can be removed again.
    pub fn look_at_older(&mut self) -> Option<&Error> {
        let told = std::mem::replace(&mut self.told, self.pruned.is_err());
        self.pruned.as_ref().err().filter(|_| !told)
    }

    /// Whether the newest one has been taken away since it was written; it is not counted as there then, and another is due.
    pub fn is_gone(&mut self) -> bool {
        if self.newest().is_none() && self.newest.is_some() {
            (self.newest, self.gone) = (None, true);
        }
        self.gone
    }

    /// Steps of the one that was started last, whether or not it could be written; at first, those of the run.
    pub fn last_started(&self) -> usize {
        self.last.1
    }

    /// Steps of the newest checkpoint that is whole on disk, after the one that is being written, if any.
    pub fn newest(&mut self) -> Option<usize> {
        let _ = self.wait();
        self.newest.filter(|&step| self.checkpoints.path(step).is_file())
    }
}

/// Whoever ends waits for a checkpoint that is being written.
impl Drop for Saver {
    fn drop(&mut self) {
        let _ = self.wait();
    }
}

/// Writes the first checkpoint of a run, at once.
///
/// # Errors
/// When the disk refuses.
pub fn write_first(checkpoints: &Checkpoints, meta: Meta, params: &Params, optimizer: &mut Optimizer) -> Result<()> {
    Snapshot::new(meta, params, optimizer).write(checkpoints)
}

impl Snapshot {
    fn new(meta: Meta, params: &Params, optimizer: &mut Optimizer) -> Snapshot {
        let state = optimizer.state();
        let groups = STATE.into_iter().zip([&*state.first, &*state.second]);
        let groups = groups.filter(|(_, values)| !values.is_empty()).map(|(name, values)| (name, values.clone()));
        Snapshot { meta, groups: groups.collect(), params: params.clone() }
    }

    /// Steps of the run when it was made.
    fn step(&self) -> usize {
        self.meta.progress.step
    }

    /// Writes it, after the files in `sync` are on disk: after a power cut, the lines of what a checkpoint has done are there. Then
    /// removes older ones; what became of that comes back.
    fn keep(&self, checkpoints: &Checkpoints, keep: usize, sync: &[File]) -> Result<Result<()>> {
        sync.iter().try_for_each(File::sync_data).map_err(Error::io("write", checkpoints.folder()))?;
        self.write(checkpoints)?;
        Ok(checkpoints.prune(keep))
    }

    fn write(&self, checkpoints: &Checkpoints) -> Result<()> {
        std::fs::create_dir_all(checkpoints.folder()).map_err(Error::io("create the folder", checkpoints.folder()))?;
        let path = checkpoints.path(self.step());
        let meta = serde_json::to_string(&self.meta).map_err(|e| Error::io("write", &path)(e.into()))?;
        let table = &self.params.table[..];
        let of_weights = self.groups.iter().map(|(name, values)| (*name, values, Param::weights(table)));
        let groups = [("params", &self.params.values, table)].into_iter().chain(of_weights);
        let names: Vec<(String, &[usize], &[f32])> = groups
            .flat_map(|(group, values, table)| {
                table.iter().map(move |param| {
                    (format!("{group}/{}", param.name), &param.shape[..], &values[param.range.clone()])
                })
            })
            .collect();
        let tensors: Vec<Tensor<'_>> =
            names.iter().map(|(name, shape, values)| Tensor { name, shape, values }).collect();
        write_state(&path, &meta, &tensors)
    }
}

/// What a checkpoint says of its run.
///
/// # Errors
/// When its text is not what this version writes.
pub fn meta(state: &State) -> Result<Meta> {
    parse(&state.meta, format!("checkpoint {}", state.path().display()))
}

/// Whether a checkpoint has the name that it was written under: the copy of an older one would be taken for a newer.
///
/// # Errors
/// When it has another one.
pub fn check_name(state: &State, meta: &Meta) -> Result<()> {
    let step = meta.progress.step;
    if state.path().ends_with(Checkpoints::new("").path(step)) {
        return Ok(());
    }
    let (place, found) = (format!("checkpoint {}", state.path().display()), format!("the state after step {step}"));
    Err(Error::invalid(place, found, "that of the step in its name", "give the file its name back"))
}

/// The text of a checkpoint at `place`.
///
/// # Errors
/// When it is not what this version writes.
pub fn parse(text: &str, place: String) -> Result<Meta> {
    serde_json::from_str(text).map_err(|e| {
        let fix = "resume with the version that wrote it";
        Error::invalid(format!("{place} /meta"), in_words(&e.to_string()), "what this version of glasses writes", fix)
    })
}

/// Whether a text is what a checkpoint says of its run.
///
/// # Errors
/// As `--resume` has them for that text.
pub fn check_meta(text: &str) -> Result<()> {
    parse(text, "checkpoint".to_owned()).map(drop)
}

/// Puts a checkpoint's weights into `params`.
///
/// # Errors
/// When they are those of another network.
pub fn restore_params(state: &State, params: &mut Params) -> Result<()> {
    let table = params.table.clone();
    restore("params", state, &table, &mut params.values)
}

/// Puts a checkpoint's optimizer state where it belongs.
///
/// # Errors
/// When it is that of another optimizer or network.
pub fn restore_optimizer(state: &State, steps: u64, params: &Params, optimizer: &mut Optimizer) -> Result<()> {
    let own = optimizer.state();
    *own.steps = steps;
    for (group, values) in STATE.into_iter().zip([own.first, own.second]) {
        if !values.is_empty() {
            restore(group, state, Param::weights(&params.table), values)?;
        }
    }
    Ok(())
}

fn restore(group: &str, state: &State, table: &[Param], values: &mut [f32]) -> Result<()> {
    table.iter().try_for_each(|param| {
        state.read_into(&format!("{group}/{}", param.name), &param.shape, &mut values[param.range.clone()])
    })
}
