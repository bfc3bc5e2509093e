//! `--strategy ensemble`: networks that never merge their gradients, and say together what they learned.
//!
//! A member is the run that `glasses train` would make with its seed; groups of ranks take members as they take the runs of a
//! sweep (`deal.rs`), so that their number has nothing to do with that of the ranks.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::deal::{End, deal, failure};
use super::epoch::in_lockstep;
use super::evaluate::{EVALUATION_SHARDS, Evaluation};
use super::micro_batch::EVALUATION_BATCH;
use super::origin::{CONFIG, Origin, differing};
use super::prepare::{Found, prepare, work_of};
use super::pulse::part_of;
use super::run_dir::{MEMBER, RunDir, member_folder, summary_of, write_config, write_summary};
use super::vote::vote;
use crate::checkpoint;
use crate::comm::{Communicator, all_agree, on_root};
use crate::config::RunConfig;
use crate::data::{Dataset, Part, Split};
use crate::error::{Error, Exit, Result};
use crate::metrics::{Exchange, Member, Summary};
use crate::plural::plural;
use crate::report::{Console, percent};

/// Collective: trains all members, judges them together, writes the summary.
///
/// # Errors
/// The same one on every rank: a member that failed, diverged or was interrupted; a folder that refuses.
pub(super) fn run(config: &RunConfig, origin: &Origin, comm: &dyn Communicator, console: &Console) -> Result<Summary> {
    let (started, members, each) = (Instant::now(), config.members(), config.ranks_of_run(comm.size()));
    on_root(comm, || work_of(config).map(|_| String::new()))?;
    let settings = RunConfig { data: config.data_from_everywhere(), ..config.clone() };
    let folder = folder(&settings, origin, comm)?;
    console.say(format!(
        "training an ensemble of {members} networks on {}, {each} a network{}; nothing travels between networks",
        plural(comm.size(), "rank"),
        if config.bootstrap { ", each on rows drawn with replacement" } else { "" },
    ));
    let runs = (0..members).map(|index| (format!("{MEMBER}{index}"), config.member(index))).collect();
    let (mut jobs, mut diverged) = (Vec::new(), Vec::new());
    for (index, found) in prepare(runs, &folder, (each, false), comm)?.into_iter().enumerate() {
        match found {
            Found::Left(job) => jobs.push(job),
            Found::Finished => {}
            Found::Diverged(said) => diverged.push(format!("{MEMBER}{index}: {said}")),
        }
    }
    let again = format!("`glasses train --resume {}`", folder.display());
    let _part = part_of(&again, &folder);
    let ends = deal(&jobs, &folder, each, comm, console, in_lockstep);
    on_root(comm, || {
        if !folder.join(CONFIG).exists() {
            // Somebody has removed it; members, which write theirs anew, can go on only with it.
            std::fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
            write_config(&folder, &settings)?;
            console.warn(format!("{} was removed or moved meanwhile: its settings are written anew", folder.display()));
        }
        Ok(String::new())
    })?;
    let ends = ends?;
    if let Some(failure) = failure(&jobs, &ends, &again) {
        return Err(failure);
    }
    diverged.extend(jobs.iter().zip(&ends).filter_map(|(job, end)| match end {
        Some(End::Diverged(said)) => Some(format!("{}: {said}", job.name)),
        _ => None,
    }));
    if !diverged.is_empty() {
        let what = format!("{} of {members} networks diverged", diverged.len());
        let fix = "lower --lr, or limit gradients with --clip-norm 1".to_owned();
        return Err(Error::Several { what, items: diverged, fix }.ended(Exit::Diverged));
    }
    let [val, test] = judge(config, &folder, comm)?;
    let text = on_root(comm, || {
        // Groups beyond the members have nothing to do.
        let at_work = each * members.min(comm.size() / each);
        let mut summary = summary(config, &folder, at_work, [val.as_ref(), test.as_ref()])?;
        summary.ranks = comm.size();
        summary.wall_seconds = started.elapsed().as_secs_f64();
        write_summary(&folder, &summary)?;
        serde_json::to_string(&summary).map_err(|e| Error::io("describe", &folder)(e.into()))
    })?;
    let summary: Summary = serde_json::from_str(&text).map_err(|e| Error::io("understand", &folder)(e.into()))?;
    tell(&summary, &folder, console);
    Ok(summary)
}

/// Collective: the ensemble's folder, with its settings in it.
fn folder(config: &RunConfig, origin: &Origin, comm: &dyn Communicator) -> Result<PathBuf> {
    match origin {
        Origin::Scratch => {
            let name = config.model.resolve()?.name;
            RunDir::create_for_members(config, &name, comm)
        }
        Origin::Resume(dir) => {
            on_root(comm, || {
                let path = dir.join(CONFIG);
                let text = crate::files::read_text(&path)?;
                let differing = differing(&text, config)?;
                let what = format!("--resume {}: these are not as they were", dir.display());
                let fix = "leave them as they were, or start another ensemble".to_owned();
                if differing.is_empty() {
                    Ok(String::new())
                } else {
                    Err(Error::Several { what, items: differing, fix })
                }
            })?;
            Ok(dir.clone())
        }
        Origin::Fork(dir) => Err(Error::invalid(
            format!("--fork, of {}", dir.display()),
            "an ensemble",
            "one network, whose weights others begin with",
            "name a member's folder, and leave --strategy ensemble away",
        )),
    }
}

/// Collective: what all members say together of the validation and the test rows.
fn judge(config: &RunConfig, folder: &Path, comm: &dyn Communicator) -> Result<[Option<Evaluation>; 2]> {
    let dataset = all_agree(comm, Dataset::open(&config.data))?;
    let classes = all_agree(comm, dataset.class_names())?.len();
    let mut found = [None, None];
    for (split, found) in [Split::Val, Split::Test].into_iter().zip(&mut found) {
        if dataset.rows(split) == 0 {
            continue;
        }
        let part =
            all_agree(comm, Part::read(&dataset, split, EVALUATION_SHARDS.max(comm.size()), comm.rank(), comm.size()))?;
        let first = part.shards.rows_of(part.owned.clone()).start;
        all_agree(comm, dataset.check_labels(split, first, part.labels(), classes))?;
        let read = |index| {
            let path = member_folder(folder, index).join("model.h5");
            let saved = checkpoint::read(&path)?.folded()?;
            if saved.classes.len() != classes {
                let found = format!("{} classes", saved.classes.len());
                let fix = "train the ensemble anew: the data has changed";
                return Err(Error::invalid(
                    path.display().to_string(),
                    found,
                    format!("{classes}, as the data has"),
                    fix,
                ));
            }
            Ok((saved, EVALUATION_BATCH))
        };
        *found = Some(vote(&part, (config.members(), classes), comm, read)?.0);
    }
    Ok(found)
}

/// On the root: what all members came to, on `at_work` ranks.
fn summary(
    config: &RunConfig,
    folder: &Path,
    at_work: usize,
    [val, test]: [Option<&Evaluation>; 2],
) -> Result<Summary> {
    let read = |index: usize| {
        let path = member_folder(folder, index);
        let value: Value = summary_of(&path).unwrap_or_default();
        serde_json::from_value::<Summary>(value).map_err(|e| Error::io("read the summary in", &path)(e.into()))
    };
    let all = (0..config.members()).map(read).collect::<Result<Vec<_>>>()?;
    let mean = |get: fn(&Summary) -> f64| all.iter().map(get).sum::<f64>() / all.len() as f64;
    let trained = all.iter().map(Summary::trained);
    let rows: f64 = trained.clone().map(|(rows, _)| rows).sum();
    // Seconds of one rank; a member may have been trained on more of them than there are now.
    let rank_seconds: f64 = trained.zip(&all).map(|((_, seconds), summary)| seconds * summary.ranks as f64).sum();
    let training_seconds = rank_seconds / at_work as f64;
    let mut exchange = Exchange::default();
    all.iter().for_each(|summary| exchange += summary.exchange);
    let member = |(index, summary): (usize, &Summary)| Member {
        folder: format!("{MEMBER}{index}"),
        seed: config.seed + index as u64,
        train_loss: summary.train_loss,
        train_accuracy: summary.train_accuracy,
        val_accuracy: summary.val_accuracy,
        test_accuracy: summary.test_accuracy,
        weights_sha256: summary.weights_sha256.clone(),
    };
    Ok(Summary {
        train_loss: mean(|summary| summary.train_loss),
        train_accuracy: mean(|summary| summary.train_accuracy),
        val_loss: val.map(Evaluation::loss),
        val_accuracy: val.map(Evaluation::accuracy),
        test_loss: test.map(Evaluation::loss),
        test_accuracy: test.map(Evaluation::accuracy),
        val_balance: val.map(|val| val.confusion.balance()),
        test_balance: test.map(|test| test.confusion.balance()),
        best_epoch: None,
        images_per_sec: rows / training_seconds,
        training_seconds,
        bytes_communicated: all.iter().map(|summary| summary.bytes_communicated).sum(),
        exchange,
        weights_sha256: digest(&all),
        members: all.iter().enumerate().map(member).collect(),
        ..all[0].clone()
    })
}

/// One digest of the members' digests.
fn digest(all: &[Summary]) -> String {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    all.iter().for_each(|summary| hash.update(&summary.weights_sha256));
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tell(summary: &Summary, folder: &Path, console: &Console) {
    let mut lines = Vec::new();
    if let Some(accuracy) = summary.test_accuracy {
        let each: Vec<f64> = summary.members.iter().filter_map(|member| member.test_accuracy).collect();
        let mean = each.iter().sum::<f64>() / each.len() as f64;
        let [least, most] = [each.iter().copied().fold(1.0, f64::min), each.iter().copied().fold(0.0, f64::max)];
        lines.push(format!(
            "test accuracy {} together ({}); alone {} to {}, {} in the mean",
            percent(accuracy),
            plural(summary.test_rows, "row"),
            percent(least),
            percent(most),
            percent(mean)
        ));
    } else {
        lines.push(format!("training accuracy {} in the mean (no test rows)", percent(summary.train_accuracy)));
    }
    lines.push(format!("weights sha256 {} (of all members' digests)", summary.weights_sha256));
    lines.push(format!("results in {}", folder.display()));
    lines.iter().for_each(|line| console.say(line));
}
