//! What several networks say together: the mean of their probabilities.

use std::ops::Range;

use super::evaluate::{EVALUATION_SHARDS, Evaluation, Tally};
use crate::checkpoint::SavedModel;
use crate::comm::{Communicator, all_agree};
use crate::data::Part;
use crate::error::{Error, Result};
use crate::kernels;
use crate::model::{Predictor, Workspace};

/// The smallest probability that has a loss: a network may say 0 of what is true.
const LEAST: f64 = 1e-45;

/// Bytes of sums that a rank holds at once. With more, its rows are gone through in several blocks, and all networks are read for each.
const MOST: usize = 256 << 20;

/// Collective: how well `networks` networks do together on the rows of `part`, and how often each is correct alone. `read` gives a network
/// and the rows that go through it at once; one is in memory at a time. Losses are summed as [`evaluate`](super::evaluate()) does.
///
/// # Errors
/// The same one on every rank: those of `read`, and where there is no memory for a number a row and class.
pub fn vote(
    part: &Part,
    (networks, classes): (usize, usize),
    comm: &dyn Communicator,
    mut read: impl FnMut(usize) -> Result<(SavedModel, usize)>,
) -> Result<(Evaluation, Vec<f64>)> {
    let rows_of = |rank| part.shards.rows_of(part.shards.owned(rank, comm.size()));
    let most_rows = (0..comm.size()).map(|rank| rows_of(rank).len()).max().unwrap_or(0);
    let block = (MOST / size_of::<f64>() / classes).clamp(1, most_rows.max(1));
    let mut sums = all_agree(comm, room(block.min(rows_of(comm.rank()).len()), classes))?;
    let (mut tally, mut correct) = (Tally::new(part), vec![0; networks]);
    for first in (0..most_rows).step_by(block) {
        let own = rows_of(comm.rank());
        let rows = (own.start + first).min(own.end)..(own.start + first + block).min(own.end);
        let labels = &part.labels()[rows.start - own.start..rows.end - own.start];
        let sums = &mut sums[..rows.len() * classes];
        sums.fill(0.0);
        for (network, correct) in correct.iter_mut().enumerate() {
            let (saved, batch) = all_agree(comm, read(network))?;
            *correct += add(&saved, part, rows.clone(), batch, sums);
        }
        for (sums, &label) in sums.chunks_exact(classes).zip(labels) {
            let probability = sums[label as usize] / networks as f64;
            tally.add(-libm::log(probability.max(LEAST)), label, most_probable(sums));
        }
    }
    comm.allreduce_u64(&mut correct);
    let alone = correct.iter().map(|&correct| correct as f64 / part.shards.rows() as f64).collect();
    Ok((tally.finish(EVALUATION_SHARDS, comm), alone))
}

/// Room for a number a row and class.
fn room(rows: usize, classes: usize) -> Result<Vec<f64>> {
    let mut sums = Vec::new();
    sums.try_reserve_exact(rows.saturating_mul(classes)).map_err(|_| {
        let found =
            format!("{rows} rows of {classes} classes for one rank: a number each is kept of what they all say");
        Error::invalid("several models", found, "numbers that fit into its memory", "start fewer ranks on a machine")
    })?;
    sums.resize(rows * classes, 0.0);
    Ok(sums)
}

/// Adds a network's probabilities of some rows, `batch` at a time, to `sums [row, class]`; how many it predicts correctly.
fn add(saved: &SavedModel, part: &Part, range: Range<usize>, batch: usize, sums: &mut [f64]) -> u64 {
    let classes = saved.classes.len();
    let mut ws = Workspace::for_inference(&saved.model, batch);
    let mut predictor = Predictor { model: &saved.model, params: &saved.params, workspace: &mut ws };
    let mut sums = sums.chunks_exact_mut(classes);
    let (mut correct, mut probabilities) = (0, Vec::new());
    predictor.run(
        range,
        |rows, input| part.prepare(rows, &saved.normalizer, input),
        |rows, logits| {
            probabilities.clear();
            probabilities.extend_from_slice(logits);
            kernels::softmax(classes, &mut probabilities);
            for (row, &label) in probabilities.chunks_exact(classes).zip(part.labels_of(rows)) {
                correct += u64::from(kernels::argmax(row) == Some(label as usize));
                let sum = sums.next().into_iter().flatten();
                sum.zip(row).for_each(|(sum, probability)| *sum += f64::from(*probability));
            }
        },
    );
    correct
}

/// The first of the largest numbers; none where one is not a number.
fn most_probable(sums: &[f64]) -> Option<usize> {
    if sums.iter().any(|sum| sum.is_nan()) {
        return None;
    }
    (0..sums.len()).reduce(|best, class| if sums[class] > sums[best] { class } else { best })
}
