//! A rank's share of a step: its rows go through the network, micro-batch by micro-batch, and their gradients are summed in
//! the order of the fixed tree. `glasses bench` times this very code.

use std::time::Instant;

use super::data::TrainData;
use super::memory::enough_memory;
use super::micro_batch::next_run;
use crate::data::{EpochOrder, Shards};
use crate::error::Result;
use crate::kernels::{self, Leaf};
use crate::metrics::Seconds;
use crate::model::{Gradients, Model, Params, Workspace};

/// The sums over this rank's rows of a step, and the memory that they take.
#[derive(Debug)]
pub struct GradientSums {
    /// Where micro-batches go through the network.
    pub workspace: Workspace,
    /// The tree's sum, and before it is whole those that wait for their other half.
    sums: Vec<Gradients>,
    /// This rank's rows of the step: numbers in the split, shard after shard.
    rows: Vec<u32>,
    /// How many of each shard.
    rows_of_shard: Vec<usize>,
    /// How sums over them are ordered.
    leaves: Vec<Leaf>,
}

impl GradientSums {
    /// Memory for steps of `batch` rows over all ranks.
    ///
    /// # Errors
    /// When the system would not give it.
    pub fn new(model: &Model, data: &TrainData, batch: usize) -> Result<GradientSums> {
        let (rows_at_once, shards) = (data.rows_at_once(batch), data.train.owned.len());
        let sums = 1 + data.sums_that_wait(batch);
        enough_memory(model, rows_at_once, shards, sums)?;
        Ok(GradientSums {
            workspace: Workspace::for_training(model, rows_at_once, shards),
            sums: (0..sums).map(|_| Gradients::zeros(model.parameters())).collect(),
            rows: Vec::new(),
            rows_of_shard: Vec::new(),
            leaves: Vec::new(),
        })
    }

    /// Takes this rank's rows of step `step` of an epoch.
    pub fn choose(&mut self, order: &EpochOrder, shards: &Shards, step: usize, batch: usize) {
        order.step(shards, step, batch, &mut self.rows, &mut self.rows_of_shard);
        kernels::leaves(&self.rows_of_shard, &mut self.leaves);
    }

    /// Sums the gradients over the rows that were chosen. `training` is the run's seed and the epoch.
    pub fn sum(
        &mut self,
        model: &Model,
        params: &Params,
        data: &TrainData,
        training: (u64, usize),
        seconds: &mut Seconds,
    ) -> &mut Gradients {
        let GradientSums { workspace: ws, sums, rows, leaves, .. } = self;
        let mut lap = Lap::start();
        sums[0].start();
        let (mut depth, mut next, mut start) = (0, 0, 0);
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
            }
            (depth, next, start) = (depth + 1, next + count, end);
            lap.end(&mut seconds.backward);
        }
        sums[0].finish();
        &mut sums[0]
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
