//! Evaluation across ranks: each rank takes its shards of the rows, each row counts once.

use crate::comm::Communicator;
use crate::data::{Normalizer, Part, Shards};
use crate::kernels::{self, Score};
use crate::metrics::Confusion;
use crate::model::Predictor;

/// Shards in whose order losses are summed where no training decides it: as many as a training run has by default, so that the
/// figures are those of its summary (but for the rounding of batch norms, which are folded outside of training).
pub const EVALUATION_SHARDS: usize = 8;

/// How well a model does on some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Sum of the losses, and rows that are predicted correctly.
    pub score: Score,
    /// Rows.
    pub count: u64,
    /// Rows by true and predicted class.
    pub confusion: Confusion,
}

impl Evaluation {
    /// Mean loss.
    pub fn loss(&self) -> f64 {
        self.score.loss_sum / self.count as f64
    }

    /// Share of rows that are predicted correctly.
    pub fn accuracy(&self) -> f64 {
        self.score.correct as f64 / self.count as f64
    }
}

/// Collective: evaluates on all rows of `part`'s split. Losses are summed within each of `shards` shards, then over these in the
/// fixed tree, whatever `part` was cut into for the ranks: nothing depends on their number.
pub fn evaluate(
    predictor: &mut Predictor<'_>,
    part: &Part,
    shards: usize,
    normalizer: &Normalizer,
    comm: &dyn Communicator,
) -> Evaluation {
    let (mut tally, classes) = (Tally::new(part), predictor.model.classes);
    predictor.run(
        part.shards.rows_of(part.owned.clone()),
        |rows, input| part.prepare(rows, normalizer, input),
        |rows, logits| {
            for (logits, &label) in logits.chunks_exact(classes).zip(part.labels_of(rows)) {
                let score = kernels::softmax_cross_entropy(classes, logits, &[label], None, Score::default());
                tally.add(score.loss_sum, label, kernels::argmax(logits));
            }
        },
    );
    tally.finish(shards, comm)
}

/// What is found of this rank's rows, one after another.
pub struct Tally<'a> {
    part: &'a Part,
    losses: Vec<f64>,
    confusion: Confusion,
}

impl<'a> Tally<'a> {
    /// Nothing is known yet of the rows of `part`.
    pub fn new(part: &'a Part) -> Tally<'a> {
        Tally { part, losses: Vec::with_capacity(part.labels().len()), confusion: Confusion::default() }
    }

    /// The next row.
    pub fn add(&mut self, loss: f64, label: u32, predicted: Option<usize>) {
        self.losses.push(loss);
        self.confusion.add(label, predicted);
    }

    /// Collective: what all ranks found; losses are summed as [`evaluate`] says.
    pub fn finish(self, shards: usize, comm: &dyn Communicator) -> Evaluation {
        let Tally { part, losses, confusion } = self;
        let shards = Shards::new(part.shards.rows(), shards);
        let rows_of = |shard: usize| shards.rows_of(shard..shard + 1);
        let sum = |losses: &[f64]| losses.iter().fold(0.0, |sum, loss| sum + loss);
        let mut sums = vec![0.0; shards.count()];
        if shards.count() == part.shards.count() {
            let first = part.shards.rows_of(part.owned.clone()).start;
            for shard in part.owned.clone() {
                let rows = rows_of(shard);
                sums[shard] = sum(&losses[rows.start - first..rows.end - first]);
            }
            comm.allreduce_f64(&mut sums);
        } else {
            // A shard's rows are several ranks'.
            let all = gather::<f64>(&losses, comm).concat();
            (0..shards.count()).for_each(|shard| sums[shard] = sum(&all[rows_of(shard)]));
        }
        let mut all = Confusion::default();
        gather::<u64>(&confusion.to_numbers(), comm).iter().for_each(|numbers| all.add_numbers(numbers));
        let of_shard = &mut |shard: usize| (!rows_of(shard).is_empty()).then(|| sums[shard]);
        let loss_sum = kernels::tree(shards.count(), of_shard, &|a, b| a + b).unwrap_or(0.0);
        let correct = all.pairs().filter(|[label, predicted, _]| label == predicted).map(|[_, _, rows]| rows).sum();
        Evaluation { score: Score { loss_sum, correct }, count: shards.rows() as u64, confusion: all }
    }
}

/// Collective: every rank's numbers, in rank order.
fn gather<T: bytemuck::Pod>(own: &[T], comm: &dyn Communicator) -> Vec<Vec<T>> {
    let all = comm.allgather(bytemuck::cast_slice(own));
    all.iter().map(|bytes| bytemuck::pod_collect_to_vec(bytes)).collect()
}
