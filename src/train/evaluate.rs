//! Evaluation across ranks: each rank takes its shards of the rows, each row counts once.

use crate::comm::Communicator;
use crate::data::{Normalizer, Part};
use crate::kernels::{self, Score};
use crate::model::{Model, Params, Workspace};

/// How well a model does on some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Sum of the losses, and rows that are right.
    pub score: Score,
    /// Rows.
    pub count: u64,
    /// `[true class, said class]` counts, row-major. Rows whose logits are not numbers stand in no cell.
    pub confusion: Vec<u64>,
}

impl Evaluation {
    /// Mean loss.
    pub fn loss(&self) -> f64 {
        self.score.loss_sum / self.count as f64
    }

    /// Share of rows that are right.
    pub fn accuracy(&self) -> f64 {
        self.score.correct as f64 / self.count as f64
    }
}

/// Collective: evaluates on all rows of `part`'s split. Losses are summed within a shard, then over the shards in the
/// fixed tree, so that the ranks do not change them.
pub fn evaluate(
    model: &Model,
    params: &Params,
    ws: &mut Workspace,
    part: &Part,
    normalizer: &Normalizer,
    comm: &dyn Communicator,
) -> Evaluation {
    let shards = part.shards.count();
    let mut losses = vec![0.0; shards];
    let mut counts = vec![0u64; 1 + model.classes * model.classes];
    let mut rows: Vec<u32> = Vec::with_capacity(ws.capacity);
    for shard in part.owned.clone() {
        let range = part.rows_of(shard);
        let mut score = Score::default();
        for first in range.clone().step_by(ws.capacity) {
            rows.clear();
            rows.extend(first as u32..range.end.min(first + ws.capacity) as u32);
            part.fill(&rows, normalizer, ws);
            model.forward(params, ws, None);
            score = model.loss(ws, score);
            for (logits, &label) in ws.logits().chunks_exact(model.classes).zip(&ws.labels) {
                if let Some(said) = kernels::argmax(logits) {
                    counts[1 + label as usize * model.classes + said] += 1;
                }
            }
        }
        losses[shard] = score.loss_sum;
        counts[0] += score.correct;
    }
    comm.sum_f64(&mut losses);
    comm.sum_u64(&mut counts);
    let empty = |shard: usize| part.rows_of(shard).is_empty();
    let loss_sum = kernels::tree(shards, &mut |s| (!empty(s)).then(|| losses[s]), &|a, b| a + b).unwrap_or(0.0);
    Evaluation {
        score: Score { loss_sum, correct: counts[0] },
        count: part.shards.rows() as u64,
        confusion: counts[1..].to_vec(),
    }
}
