//! What several networks say together: the mean of their probabilities.

use super::evaluate::{EVALUATION_SHARDS, Evaluation, Tally};
use crate::checkpoint::SavedModel;
use crate::comm::Communicator;
use crate::data::Part;
use crate::error::{Error, Result};
use crate::kernels;
use crate::model::Workspace;
use crate::plural::plural;

/// The smallest probability that has a loss: a network may say 0 of what is true.
const LEAST: f64 = 1e-45;

/// The sums of the probabilities that networks give this rank's rows.
pub struct Vote<'a> {
    part: &'a Part,
    classes: usize,
    /// `[row, class]`
    sums: Vec<f64>,
    networks: usize,
}

impl<'a> Vote<'a> {
    /// Nobody has spoken yet of the rows of `part`.
    ///
    /// # Errors
    /// When there is no memory for a number a row and class.
    pub fn new(part: &'a Part, classes: usize) -> Result<Vote<'a>> {
        let (rows, mut sums) = (part.labels().len(), Vec::new());
        sums.try_reserve_exact(rows.saturating_mul(classes)).map_err(|_| {
            let found = format!(
                "{} of {} for one rank: a number each is kept of what they all say",
                plural(rows, "row"),
                plural(classes, "class")
            );
            Error::invalid(
                "several models",
                found,
                "numbers that fit into its memory",
                "start more ranks, or judge fewer rows",
            )
        })?;
        sums.resize(rows * classes, 0.0);
        Ok(Vote { part, classes, sums, networks: 0 })
    }

    /// Collective: a network speaks, of `batch` rows at a time; its own accuracy.
    pub fn add(&mut self, saved: &SavedModel, batch: usize, comm: &dyn Communicator) -> f64 {
        let mut ws = Workspace::for_inference(&saved.model, batch);
        let range = self.part.shards.rows_of(self.part.owned.clone());
        let (mut sums, mut labels) = (self.sums.chunks_exact_mut(self.classes), self.part.labels().iter());
        let (mut rows, mut correct, mut probabilities) = (Vec::new(), [0], Vec::new());
        for first in range.clone().step_by(ws.capacity) {
            rows.clear();
            rows.extend(first as u32..range.end.min(first + ws.capacity) as u32);
            self.part.fill(&rows, &saved.normalizer, &mut ws);
            saved.model.forward(&saved.params, &mut ws, None);
            probabilities.clear();
            probabilities.extend_from_slice(ws.logits());
            kernels::softmax(self.classes, &mut probabilities);
            for (row, label) in probabilities.chunks_exact(self.classes).zip(labels.by_ref()) {
                correct[0] += u64::from(kernels::argmax(row) == Some(*label as usize));
                let sum = sums.next().into_iter().flatten();
                sum.zip(row).for_each(|(sum, probability)| *sum += f64::from(*probability));
            }
        }
        self.networks += 1;
        comm.sum_u64(&mut correct);
        correct[0] as f64 / self.part.shards.rows() as f64
    }

    /// Collective: how well all of them do together. Losses are summed as [`evaluate`](super::evaluate()) does.
    pub fn evaluate(&self, comm: &dyn Communicator) -> Evaluation {
        let mut tally = Tally::new(self.part);
        for (sums, &label) in self.sums.chunks_exact(self.classes).zip(self.part.labels()) {
            let probability = sums[label as usize] / self.networks as f64;
            tally.add(-libm::log(probability.max(LEAST)), label, most_probable(sums));
        }
        tally.finish(EVALUATION_SHARDS, comm)
    }
}

/// The first of the largest numbers; none where one is not a number.
fn most_probable(sums: &[f64]) -> Option<usize> {
    if sums.iter().any(|sum| sum.is_nan()) {
        return None;
    }
    (0..sums.len()).reduce(|best, class| if sums[class] > sums[best] { class } else { best })
}
