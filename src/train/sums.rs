//! The gradients of a step: this rank's rows go through the network, micro-batch by micro-batch, their gradients are
//! summed in the order of the fixed tree, and the ranks finish the tree. `glasses bench` times this very code.

use std::ops::Range;
use std::time::Instant;

use super::data::TrainData;
use super::memory::{enough_memory, exchange};
use super::micro_batch::next_run;
use crate::comm::{Communicator, Reduce, slice_of};
use crate::data::{EpochOrder, Shards};
use crate::error::Result;
use crate::kernels::{self, Buffer, Score, Subtrees, zeros};
use crate::metrics::Seconds;
use crate::model::{Gradients, Model, Params, Workspace};

/// The sums over the rows of a step, and the memory that they take.
#[derive(Debug)]
pub struct GradientSums {
    /// Where micro-batches go through the network.
    pub workspace: Workspace,
    /// One of each of this rank's subtrees, and before one is whole those that wait for their other half. The first one
    /// ends up as the sum over all ranks.
    sums: Vec<Gradients>,
    /// This rank's rows of the step: numbers in the split, shard after shard.
    rows: Vec<u32>,
    /// Rows of the step in each shard, whoever owns it.
    rows_of_each: Vec<usize>,
    /// How sums over them are ordered, and by whom.
    tree: Subtrees,
    reduce: Reduce,
    /// The part of the sum that this rank finishes, or with [`Reduce::Mpi`] all of it.
    finished: Buffer,
    /// What this rank tells: two flags, then a loss and a count of right rows a subtree. And what all tell.
    scores: [Vec<f64>; 2],
}

/// What a rank tells the others with its sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tells {
    /// The last update was made with a gradient that was not finite.
    pub unwell: bool,
    /// A checkpoint of what this step makes is due.
    pub checkpoint: bool,
}

impl GradientSums {
    /// Memory for steps of `batch` rows over all ranks.
    ///
    /// # Errors
    /// When the system would not give it.
    pub fn new(
        model: &Model,
        data: &TrainData,
        batch: usize,
        reduce: Reduce,
        comm: &dyn Communicator,
    ) -> Result<GradientSums> {
        let (rows_at_once, shards) = (data.rows_at_once(batch), data.train.owned.len());
        let mut tree = Subtrees::default();
        let all = &data.train.shards;
        let ends = (0..comm.size()).map(|rank| all.owned(rank, comm.size()).end);
        tree.plant(&vec![1; all.count()], ends, comm.rank());
        let own = if reduce == Reduce::Tree { tree.sums_of[comm.rank()] } else { 1 };
        let sums = own + data.sums_that_wait(batch);
        let exchange = exchange(&tree, model.parameters(), comm.rank(), comm.size());
        enough_memory(model, rows_at_once, shards, sums, exchange)?;
        let finished = match (comm.size(), reduce) {
            (1, _) => 0,
            (size, Reduce::Tree) => slice_of(model.parameters(), comm.rank(), size).len(),
            (_, Reduce::Mpi) => model.parameters(),
        };
        let told = 2 + 2 * tree.sums_of.iter().copied().max().unwrap_or(0);
        Ok(GradientSums {
            workspace: Workspace::for_training(model, rows_at_once, shards),
            sums: (0..sums).map(|_| Gradients::zeros(model.parameters())).collect(),
            rows: Vec::new(),
            rows_of_each: Vec::new(),
            tree,
            reduce,
            finished: zeros(finished),
            scores: [vec![0.0; told], vec![0.0; told * comm.size()]],
        })
    }

    /// Takes this rank's rows of step `step` of an epoch.
    pub fn choose(&mut self, order: &EpochOrder, shards: &Shards, step: usize, batch: usize, comm: &dyn Communicator) {
        let (rank, size) = (comm.rank(), comm.size());
        order.step(shards, step, batch, &mut self.rows);
        shards.rows_of_each(step, batch, &mut self.rows_of_each);
        if self.reduce == Reduce::Mpi {
            let own = shards.owned(rank, size);
            self.rows_of_each[..own.start].fill(0);
            self.rows_of_each[own.end..].fill(0);
        }
        let ends = (0..size).map(|rank| shards.owned(rank, size).end);
        self.tree.plant(&self.rows_of_each, ends, rank);
    }

    /// Sums the gradients over this rank's rows. `training` is the run's seed and the epoch.
    pub fn sum(
        &mut self,
        model: &Model,
        params: &Params,
        data: &TrainData,
        training: (u64, usize),
        seconds: &mut Seconds,
    ) {
        let GradientSums { workspace: ws, sums, rows, tree, .. } = self;
        let mut lap = Lap::start();
        let leaves = &tree.own;
        let (mut depth, mut next, mut start, mut done) = (0, 0, 0, 0);
        while next < leaves.len() {
            let mut run = std::mem::take(&mut ws.leaves);
            let (count, joins) = next_run(&leaves[next..], start, ws.capacity, &mut run);
            let end = leaves[next + count - 1].end;
            ws.leaves = run;
            sums[depth].start();
            for micro_batch in rows[start..end].chunks(ws.capacity) {
                if micro_batch.len() < end - start {
                    // A part of one shard.
                    ws.leaves.clear();
                }
                done += micro_batch.len();
                ws.probe.at(next, done == end);
                data.train.fill(micro_batch, &data.normalizer, ws);
                data.augment(training, ws);
                lap.end(&mut seconds.load);
                model.forward(params, ws, Some(training));
                lap.end(&mut seconds.forward);
                model.backward(params, ws, training, &mut sums[depth]);
                lap.end(&mut seconds.backward);
            }
            for _ in 0..joins {
                let (left, right) = sums.split_at_mut(depth);
                depth -= 1;
                kernels::add(&mut left[depth].values, &right[0].values);
                left[depth].score = left[depth].score + right[0].score;
            }
            (depth, next, start) = (depth + 1, next + count, end);
            lap.end(&mut seconds.backward);
        }
    }

    /// From now on until [`GradientSums::watched`], what the shards bring is watched.
    pub fn watch(&mut self) {
        self.workspace.probe.start(self.tree.own.len());
    }

    /// The digest of what each of the shards `owned` brought; nothing of those without a row in the step.
    pub fn watched(&mut self, owned: Range<usize>) -> Vec<Option<u64>> {
        let mut digests = self.workspace.probe.finish().into_iter();
        self.rows_of_each[owned].iter().map(|&rows| if rows > 0 { digests.next() } else { None }).collect()
    }

    /// Collective: joins what all ranks have summed. The sum over all rows of the step, on every rank, and what any of them
    /// tells the others.
    pub fn finish(&mut self, tells: Tells, comm: &dyn Communicator) -> (&mut Gradients, Tells) {
        if comm.size() == 1 {
            return (&mut self.sums[0], tells);
        }
        let (score, told) = self.join_scores(tells, comm);
        match self.reduce {
            Reduce::Tree => {
                let sums = &self.sums;
                comm.scatter_sums(&self.tree, &|sum| &sums[sum].values, &mut self.finished);
                comm.gather_slices(&self.finished, &mut self.sums[0].values);
            }
            Reduce::Mpi => {
                let mine = &mut self.sums[0].values;
                if self.tree.sums_of[comm.rank()] == 0 {
                    mine.fill(0.0);
                }
                comm.sum_f32(mine, &mut self.finished);
                std::mem::swap(mine, &mut self.finished);
            }
        }
        self.sums[0].score = score;
        (&mut self.sums[0], told)
    }

    /// Collective: what the loss said about all rows of the step, and what any rank tells.
    fn join_scores(&mut self, tells: Tells, comm: &dyn Communicator) -> (Score, Tells) {
        let [mine, all] = &mut self.scores;
        mine.fill(0.0);
        [mine[0], mine[1]] = [tells.unwell, tells.checkpoint].map(|flag| f64::from(u8::from(flag)));
        let own = self.tree.sums_of[comm.rank()];
        for (two, sum) in mine[2..].as_chunks_mut::<2>().0.iter_mut().zip(&self.sums[..own]) {
            *two = [sum.score.loss_sum, sum.score.correct as f64];
        }
        comm.gather_f64(mine, all);
        let score = |two: &[f64; 2]| Score { loss_sum: two[0], correct: two[1] as u64 };
        let any = |flag: usize| all.chunks(mine.len()).any(|rank| rank[flag] == 1.0);
        let told = Tells { unwell: any(0), checkpoint: any(1) };
        let ranks = all.chunks(mine.len()).map(|rank| rank[2..].as_chunks::<2>().0);
        let joined = match self.reduce {
            Reduce::Tree => {
                let scores = ranks.zip(&self.tree.sums_of).flat_map(|(rank, &sums)| rank[..sums].iter().map(score));
                self.tree.join(scores, |a, b| a + b)
            }
            Reduce::Mpi => ranks.map(|rank| score(&rank[0])).reduce(|a, b| a + b),
        };
        (joined.unwrap_or_default(), told)
    }
}

/// A stopwatch that hands each phase the time since the last one ended.
pub struct Lap(Instant);

impl Lap {
    /// Starts it.
    pub fn start() -> Lap {
        Lap(Instant::now())
    }

    /// A phase is over.
    pub fn end(&mut self, phase: &mut f64) {
        let now = Instant::now();
        *phase += (now - self.0).as_secs_f64();
        self.0 = now;
    }
}
