//! Computing a run's steps again, on whatever ranks there are, and comparing digests: which step went wrong, in which
//! parameter, in which shard, on which machine.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::digests::{self, DigestLine, Found, StartLine, hex};
use super::origin::restore;
use super::run::{Run, StepRequest};
use super::run_dir::{DIGESTS, checkpoints_of};
use crate::comm::{Communicator, all_agree, on_root};
use crate::config::RunConfig;
use crate::data::EpochOrder;
use crate::error::{Error, Result, in_words};
use crate::model::Engine;
use crate::model::Param;
use crate::plural::plural;
use crate::report::{Console, progress_bar};

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
    /// Up to which step all was right: the digest step before it, or where the computation began.
    pub right_until: usize,
    /// Parameters whose digests differ from the root's of the run.
    pub params: Vec<String>,
    /// Whether the run has digests of what the shards brought to this step, made with weights that were right before it:
    /// only then do shards say who computed wrong.
    pub shards_known: bool,
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
    fn read(dir: &Path, table: &[Param]) -> Result<Recorded> {
        let path = dir.join(DIGESTS);
        let text = crate::files::read_text(&path)?;
        Recorded::parse(&text, &path, table)
    }

    /// The text of the file at `path`.
    fn parse(text: &str, path: &Path, table: &[Param]) -> Result<Recorded> {
        let mut chain = 0;
        let mut recorded = Recorded { starts: Vec::new(), lines: BTreeMap::new() };
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        for (number, line) in whole.enumerate() {
            let invalid = |e: serde_json::Error| {
                let place = format!("{} line {}", path.display(), number + 1);
                Error::invalid(
                    place,
                    in_words(&e.to_string()),
                    "digests as `glasses train` writes them",
                    "restore the file",
                )
            };
            let value: Value = serde_json::from_str(line).map_err(invalid)?;
            if value.get("hosts").is_some() {
                recorded.starts.push(serde_json::from_value(value).map_err(invalid)?);
            } else {
                let line: DigestLine = serde_json::from_value(value).map_err(invalid)?;
                chain = digests::next_in_chain(chain, line.params_in_order(table));
                if line.chain != hex(chain) {
                    let place = format!("{} line {}", path.display(), number + 1);
                    let found = format!("chain {}", line.chain);
                    let expected = format!("{}, which follows from the lines before it", hex(chain));
                    let fix = "lines were changed or taken out: restore the file from a copy";
                    return Err(Error::invalid(place, found, expected, fix));
                }
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

/// Whether a text is a chain of digests (`digests.jsonl`) of a network with these parameters.
///
/// # Errors
/// As [`verify`] has them for that file.
pub fn check_digests(text: &str, table: &[Param]) -> Result<()> {
    Recorded::parse(text, Path::new(DIGESTS), table).map(drop)
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
    let plan = on_root(comm, || digests::plan_of(dir))?;
    let mut run = Run::new(config, &plan, comm)?;
    let recorded = all_agree(comm, Recorded::read(dir, &run.params.table))?;
    let wanted: Vec<usize> = recorded.lines.range(steps.clone()).map(|(&step, _)| step).collect();
    let (Some(&first), Some(&last)) = (wanted.first(), wanted.last()) else {
        let near = |step: Option<&usize>| step.map_or("none".to_owned(), usize::to_string);
        let before = recorded.lines.range(..*steps.start()).next_back().map(|(step, _)| step);
        let after = recorded.lines.range(*steps.start()..).next().map(|(step, _)| step);
        let found = format!("no digest: the nearest before is of step {}, behind it {}", near(before), near(after));
        let place = format!("--steps of {}", dir.display());
        return Err(Error::invalid(place, found, "a digest of at least one of those steps", "name other --steps"));
    };
    all_agree(comm, same_run(&run, &recorded, last))?;
    let console = Console::new(comm.is_root());
    if config.kernels == Engine::Gemm || recorded.starts.iter().any(|start| start.version != env!("CARGO_PKG_VERSION"))
    {
        console.warn("the gemm kernels, or another version of glasses, made this run: other digests may mean no fault");
    }
    let from = run.go_back(dir, first, &recorded, &console)?;
    let bar = progress_bar(comm.is_root(), (last - from) as u64, "steps");
    let mut verdict = Verdict { from, compared: 0, last, wrong: None };
    while run.progress.step < last && verdict.wrong.is_none() {
        let train = &run.data.train;
        let order = EpochOrder::new(&train.shards, train.owned.clone(), &run.data.shuffle, run.progress.epoch);
        for step in run.progress.step_of_epoch..run.steps_of_epoch() {
            let line = recorded.lines.get(&(run.progress.step + 1)).filter(|line| steps.contains(&line.step));
            let request = StepRequest { digests: line.is_some(), ..StepRequest::default() };
            let outcome = run.step(&order, step, request).map_err(|found| run.diverged(found, ""))?;
            bar.inc(1);
            if let (Some(line), Some(found)) = (line, outcome.digests) {
                let at = (line.step, line.epoch);
                found.line(at, &run.params, &mut 0, comm).1.map_or(Ok(()), Err)?;
                verdict.compared += 1;
                verdict.wrong = run.compare(line, &found, &recorded, from);
            }
            if verdict.wrong.is_some() || run.progress.step == last {
                break;
            }
        }
        run.progress.end_epoch();
    }
    bar.finish_and_clear();
    Ok(verdict)
}

/// Whether the run can be computed again here.
fn same_run(run: &Run<'_>, recorded: &Recorded, last: usize) -> Result<()> {
    let Some(start) = recorded.start(last) else { return Ok(()) };
    let invalid =
        |place: String, found: String, expected: String, fix: &str| Err(Error::invalid(place, found, expected, fix));
    if start.data != run.data.fingerprint {
        return invalid(
            format!("dataset {}", run.config.data.display()),
            format!("rows with the digest {}", run.data.fingerprint),
            format!("those that the run trained on, {}", start.data),
            "name that dataset with --data",
        );
    }
    let plan = run.lockstep.binding_plan();
    if let Some(start) = recorded.starts.iter().find(|start| start.plan != plan) {
        let fix = "start it on as many machines, and give --comm and --window that make this plan";
        return invalid("--wire bf16".to_owned(), plan, format!("{}, as the run had", start.plan), fix);
    }
    let other = |&ranks: &usize| ranks != run.comm.size();
    let ranks = recorded.starts.iter().map(|start| start.hosts.len()).find(other);
    match run.config.binds_ranks().zip(ranks) {
        None => Ok(()),
        Some((setting, ranks)) => invalid(
            setting.to_owned(),
            plural(run.comm.size(), "rank"),
            format!("the {ranks} of the run: its sums depend on them"),
            "start as many ranks as the run had",
        ),
    }
}

impl Run<'_> {
    /// Collective: goes to the newest checkpoint before step `first` of the run in `dir`, or to its beginning.
    fn go_back(&mut self, dir: &Path, first: usize, recorded: &Recorded, console: &Console) -> Result<usize> {
        let comm = self.comm;
        let any = on_root(comm, || {
            let before = checkpoints_of(dir).steps()?.into_iter().any(|step| step < first);
            Ok(if before { "some" } else { "" }.to_owned())
        })?;
        if any.is_empty() {
            let place = format!("{} before step {first}", dir.display());
            let fix = "name later --steps, or keep more checkpoints with --keep";
            let refused = || Error::invalid(place, "no checkpoint", "one: the run began as a fork of another", fix);
            return if recorded.starts.first().is_some_and(|start| start.fork) { Err(refused()) } else { Ok(0) };
        }
        let (params, optimizer) = (&mut self.params, Some(&mut self.optimizer));
        let meta = restore(dir, Some(first - 1), params, optimizer, comm, console, &|_| Ok(()))?;
        self.progress = meta.progress;
        Ok(self.progress.step)
    }

    /// What differs between a step of the run and the same step computed again.
    fn compare(&self, line: &DigestLine, found: &Found, recorded: &Recorded, from: usize) -> Option<Wrong> {
        let by_name = self.params.table.iter().zip(found.root()).map(|(param, &digest)| (&param.name, hex(digest)));
        let right: BTreeMap<&String, String> = by_name.clone().collect();
        let is_right =
            |params: &BTreeMap<String, String>| right.iter().all(|(name, hex)| params.get(*name) == Some(hex));
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
        let right_until = recorded.lines.range(..line.step).next_back().map_or(0, |(&step, _)| step).max(from);
        let shards_known = !line.shards.is_empty() && right_until + 1 == line.step;
        Some(Wrong { step: line.step, epoch: line.epoch, right_until, params, shards_known, shards, odd })
    }
}
