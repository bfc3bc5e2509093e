//! What is said of a dataset before time is spent on it, and what it is refused for: by `glasses train`, of the rows that its ranks
//! have, and by `glasses info`, of the file.

use super::batch::{BATCH, default_batch};
use super::evaluate::EVALUATION_SHARDS;
use super::removed;
use crate::comm::{Communicator, Solo};
use crate::data::{Dataset, Normalize, Part, Shards, Split, remarks};
use crate::error::{Error, Result};

/// Bytes of features of a split that [`of_file`] looks at.
const LOOKED_AT: usize = 256 << 20;

/// Bytes of doubles whose rounding is looked at.
const DOUBLES: usize = 64 << 20;

/// What training assumes of a file.
#[derive(Debug)]
pub struct Assumed {
    /// The splits that are there, their rows, and rows of each class where the labels can be read.
    pub splits: Vec<(Split, usize, Option<Vec<u64>>)>,
    /// What it will say.
    pub notes: Vec<String>,
    /// Why it will not begin.
    pub refused: Option<Error>,
}

/// What `glasses train FILE` says without other flags, on one rank. All labels are read, features up to a limit, of pictures some.
///
/// # Errors
/// When the file cannot be read.
pub fn of_file(dataset: &Dataset) -> Result<Assumed> {
    let mut refused = None;
    let mut splits = Vec::new();
    for split in Split::ALL.into_iter().filter(|&split| dataset.rows(split) > 0) {
        let counts = or_refusal(dataset.count_labels(split), &mut refused)?;
        or_refusal(dataset.look_at_first(split, LOOKED_AT), &mut refused)?;
        splits.push((split, dataset.rows(split), counts));
    }
    let of_labels = splits.first().and_then(|(_, _, counts)| counts.clone());
    let classes = of_labels.as_ref().map(|counts| dataset.names_of(counts.len()));
    let (Some(mut histogram), Some(Some(classes))) =
        (of_labels, classes.map(|classes| or_refusal(classes, &mut refused)).transpose()?)
    else {
        return Ok(Assumed { splits, notes: dataset.notes.clone(), refused });
    };
    for (split, _, counts) in &splits {
        if counts.as_ref().is_some_and(|counts| counts.len() > classes.len()) {
            or_refusal(dataset.check_all_labels(*split, classes.len()), &mut refused)?;
        }
    }
    histogram.resize(classes.len(), 0);
    or_refusal(several_classes(dataset, &classes, &histogram), &mut refused)?;
    let looks = removed::applies(dataset.shape, Normalize::of(dataset.shape), classes.len(), EVALUATION_SHARDS);
    let sample = if looks && refused.is_none() { Some(sample(dataset)?) } else { None };
    let notes = notes(dataset, &classes, &histogram, sample.as_ref(), true, &Solo::default());
    Ok(Assumed { splits, notes, refused })
}

/// What a call found; where it is what training refuses, the first such is kept instead.
fn or_refusal<T>(found: Result<T>, refused: &mut Option<Error>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error @ Error::Invalid { .. }) => {
            refused.get_or_insert(error);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The rows that a run with the default shards has the linear fit look at.
fn sample(dataset: &Dataset) -> Result<Part> {
    let shards = Shards::new(dataset.rows(Split::Train), EVALUATION_SHARDS);
    let most = removed::rows_of_a_shard(dataset.shape.len(), shards.count());
    let chosen: Vec<usize> =
        (0..shards.count()).flat_map(|shard| shards.rows_of(shard..shard + 1).take(most)).collect();
    // As many of each shard: they are cut into the same ones again.
    let block = dataset.pick(Split::Train, 0..chosen.len(), |place| chosen[place])?;
    Ok(Part::whole(block, dataset.shape.len(), shards.count()))
}

/// Collective: what training says of its data. `histogram` has the training rows of each class; the linear fit looks at `sample`, where
/// it applies; `no_batch`: nobody gave one.
pub(super) fn notes(
    dataset: &Dataset,
    classes: &[String],
    histogram: &[u64],
    sample: Option<&Part>,
    no_batch: bool,
    comm: &dyn Communicator,
) -> Vec<String> {
    let mut notes = dataset.notes.clone();
    if comm.is_root() {
        // What cannot be read, the reading of the rows has said.
        notes.extend(dataset.coarse(DOUBLES).ok().flatten());
    }
    notes.extend(remarks::of_classes(classes, histogram));
    let batch = default_batch(dataset.rows(Split::Train));
    if no_batch && batch < BATCH {
        notes.push(format!("--batch is {batch}, all training rows, where {BATCH} is the default"));
    }
    notes.extend(sample.and_then(|sample| removed::remark(dataset.shape, sample, classes.len(), comm)));
    notes
}

/// Whether there is something to tell apart.
pub(super) fn several_classes(dataset: &Dataset, classes: &[String], histogram: &[u64]) -> Result<()> {
    let present: Vec<&str> =
        classes.iter().zip(histogram).filter(|(_, count)| **count > 0).map(|(name, _)| name.as_str()).collect();
    if present.len() >= 2 {
        return Ok(());
    }
    Err(Error::invalid(
        format!("{} {}", dataset.path.display(), dataset.place(Split::Train, "labels")),
        format!("one class only ('{}')", present.join("")),
        "at least two classes among the training rows",
        "check the labels that the dataset was made from",
    ))
}
