//! Computing a run's steps again, on whatever ranks there are, and comparing digests: which step went wrong, in which
//! parameter, in which shard, on which machine.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::digests::{DigestLine, Found, StartLine, hex};
use super::run_dir::{DIGESTS, checkpoints_of};
use super::saver::{meta, restore_optimizer, restore_params};
use super::trainer::{Trainer, Wants};
use crate::checkpoint::read_state;
use crate::comm::{Communicator, agree, agree_root};
use crate::config::RunConfig;
use crate::data::EpochOrder;
use crate::error::{Error, Result};
use crate::report::progress_bar;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The step whose checkpoint the computation began from; 0 are the initial weights.
    pub from: usize,
    /// Digest steps that were compared.
    pub compared: usize,
    /// The last of them.
    pub last: usize,
    /// The first one that differs.
    pub wrong: Option<Wrong>,
}

/// The first digest step whose digests are not those of the run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Wrong {
    /// Optimizer updates done.
    pub step: usize,
    /// From 1.
    pub epoch: usize,
    /// The digest step before it, up to which all was right.
    pub right_until: usize,
    /// Parameters whose digests differ from the root's of the run.
    pub params: Vec<String>,
    /// Shards whose digests differ, each with the rank that had it and its machine.
    pub shards: Vec<WrongShard>,
    /// Ranks of the run that had other weights than its root, and whether theirs are the right ones.
    pub odd: Vec<(usize, String, bool)>,
}

/// A shard that brought something else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WrongShard {
    /// Which one.
    pub shard: usize,
    /// The rank that computed it.
    pub rank: usize,
    /// The machine of that rank.
    pub host: String,
}

/// What a run wrote into its chain of digests.
struct Recorded {
    starts: Vec<StartLine>,
    lines: BTreeMap<usize, DigestLine>,
}

impl Recorded {
    fn read(dir: &Path) -> Result<Recorded> {
        let path = dir.join(DIGESTS);
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let mut recorded = Recorded { starts: Vec::new(), lines: BTreeMap::new() };
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        for (number, line) in whole.enumerate() {
            let invalid = |e: serde_json::Error| {
                let place = format!("{} line {}", path.display(), number + 1);
                Error::invalid(place, e.to_string(), "digests as `glasses train` writes them", "restore the file")
            };
            let value: Value = serde_json::from_str(line).map_err(invalid)?;
            if value.get("hosts").is_some() {
                recorded.starts.push(serde_json::from_value(value).map_err(invalid)?);
            } else {
                let line: DigestLine = serde_json::from_value(value).map_err(invalid)?;
                recorded.lines.insert(line.step, line);
            }
        }
        Ok(recorded)
    }

    /// Who computed a step.
    fn start(&self, step: usize) -> Option<&StartLine> {
        self.starts.iter().rev().find(|start| start.step < step)
    }
}

/// Collective: computes the steps of the run in `dir` again, of which `config` holds the settings, and compares all digests
/// of `steps`.
///
/// # Errors
/// When the run's files cannot be read, the data is other data, or this program's own ranks differ.
pub fn verify(
    config: &RunConfig,
    dir: &Path,
    steps: RangeInclusive<usize>,
    comm: &dyn Communicator,
) -> Result<Verdict> {
    let recorded = agree(comm, Recorded::read(dir))?;
    let wanted: Vec<usize> = recorded.lines.range(steps.clone()).map(|(&step, _)| step).collect();
    let (Some(&first), Some(&last)) = (wanted.first(), wanted.last()) else {
        let found = match (recorded.lines.first_key_value(), recorded.lines.last_key_value()) {
            (Some((first, _)), Some((last, _))) => format!("digests of steps {first} to {last} only"),
            _ => "no digests at all".to_owned(),
        };
        let place = format!("{} in steps {}..{}", dir.display(), steps.start(), steps.end());
        return Err(Error::invalid(place, found, "a digest of at least one of those steps", "name other --steps"));
    };
    let mut trainer = Trainer::new(config, comm)?;
    agree(comm, same_data(&trainer, &recorded))?;
    let from = trainer.go_back(dir, first, &recorded)?;
    let bar = progress_bar(comm.is_root(), (last - from) as u64, "steps");
    let mut verdict = Verdict { from, compared: 0, last, wrong: None };
    while trainer.progress.step < last && verdict.wrong.is_none() {
        let train = &trainer.data.train;
        let order = EpochOrder::new(&train.shards, train.owned.clone(), config.seed, trainer.progress.epoch);
        for step in trainer.progress.step_of_epoch..trainer.steps_of_epoch() {
            let line = recorded.lines.get(&(trainer.progress.step + 1)).filter(|line| steps.contains(&line.step));
            let wants = Wants { digests: line.is_some(), checkpoint: false };
            let outcome = trainer.step(&order, step, wants)?;
            bar.inc(1);
            if let (Some(line), Some(found)) = (line, outcome.digests) {
                let at = (line.step, line.epoch);
                found.line(at, &trainer.params, &mut 0, comm).1.map_or(Ok(()), Err)?;
                verdict.compared += 1;
                verdict.wrong = trainer.compare(line, &found, &recorded);
            }
            if verdict.wrong.is_some() || trainer.progress.step == last {
                break;
            }
        }
        trainer.progress.end_epoch();
    }
    bar.finish_and_clear();
    Ok(verdict)
}

fn same_data(trainer: &Trainer<'_>, recorded: &Recorded) -> Result<()> {
    let Some(start) = recorded.starts.last().filter(|start| start.data != trainer.data.fingerprint) else {
        return Ok(());
    };
    Err(Error::invalid(
        format!("dataset {}", trainer.config.data.display()),
        format!("rows with the digest {}", trainer.data.fingerprint),
        format!("those that the run trained on, {}", start.data),
        "name that dataset with --data",
    ))
}

impl Trainer<'_> {
    /// Collective: goes to the newest checkpoint before step `first` of the run in `dir`, or to its beginning.
    fn go_back(&mut self, dir: &Path, first: usize, recorded: &Recorded) -> Result<usize> {
        let (comm, checkpoints) = (self.comm, checkpoints_of(dir));
        let found = agree_root(comm, || {
            let whole = checkpoints.newest_whole(Some(first - 1), &mut |_| ());
            Ok(whole.map_or(String::new(), |(step, _)| step.to_string()))
        })?;
        let Ok(step) = found.parse::<usize>() else {
            let fork = recorded.starts.first().is_some_and(|start| start.fork);
            let place = format!("{} before step {first}", dir.display());
            let fix = "name later --steps, or keep more checkpoints with --keep";
            let refused = || Error::invalid(place, "no checkpoint", "one: the run began as a fork of another", fix);
            return if fork { Err(refused()) } else { Ok(0) };
        };
        let restored = read_state(&checkpoints.path(step)).and_then(|state| {
            let meta = meta(&state)?;
            restore_params(&state, &mut self.params)?;
            restore_optimizer(&state, meta.optimizer_steps, &self.params, &mut self.optimizer)?;
            Ok(meta.progress)
        });
        self.progress = agree(comm, restored)?;
        Ok(step)
    }

    /// What differs between a step of the run and the same step computed again.
    fn compare(&self, line: &DigestLine, found: &Found, recorded: &Recorded) -> Option<Wrong> {
        let by_name = self.params.table.iter().zip(found.root()).map(|(param, &digest)| (&param.name, hex(digest)));
        let right: BTreeMap<&String, String> = by_name.clone().collect();
        let is_right = |params: &BTreeMap<String, String>| right.iter().all(|(name, hex)| params.get(*name) == Some(hex));
        let params: Vec<String> =
            by_name.filter(|(name, hex)| line.params.get(*name) != Some(hex)).map(|(name, _)| name.clone()).collect();
        let start = recorded.start(line.step);
        let hosts = start.map_or(&[][..], |start| &start.hosts);
        let owner = |shard: usize| {
            let ranks = hosts.len().max(1);
            (0..ranks).find(|&rank| self.data.train.shards.owned(rank, ranks).contains(&shard)).unwrap_or(0)
        };
        // Where ranks differed at a checkpoint, the shards had not been watched.
        let watched = if line.shards.is_empty() { 0 } else { self.data.train.shards.count() };
        let shards: Vec<WrongShard> = (0..watched)
            .filter(|&shard| line.shards.get(shard) != Some(&found.shards[shard].map(hex)))
            .map(|shard| WrongShard {
                shard,
                rank: owner(shard),
                host: hosts.get(owner(shard)).cloned().unwrap_or_default(),
            })
            .collect();
        let odd: Vec<(usize, String, bool)> =
            line.odd.iter().map(|odd| (odd.rank, odd.host.clone(), is_right(&odd.params))).collect();
        if params.is_empty() && shards.is_empty() && odd.is_empty() {
            return None;
        }
        let right_until = recorded.lines.range(..line.step).next_back().map_or(0, |(&step, _)| step);
        Some(Wrong { step: line.step, epoch: line.epoch, right_until, params, shards, odd })
    }
}
