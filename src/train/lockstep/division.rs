//! How a run's steps are divided among its ranks, as one of them sees it. Nothing here takes memory, and nothing asks other ranks: `info`
//! divides a run that there is not yet by the same arithmetic.

use super::cost::{Link, Rates, Shape, best};
use super::norm_groups::{NormGroups, NormSizes};
use super::plan::{ExchangeConfig, ExchangePlan, can_share, can_take, decide};
use super::reduce::Trees;
use super::setting::{Setting, most_rows};
use crate::comm::{Comm, Nodes, Reduce, Strategy, Wire};
use crate::kernels::{self, Leaf};
use crate::model::{DenseStep, Model, StepRoom, Units};
use crate::row_count::RowCount;
use crate::train::data::TrainData;
use crate::train::micro_batch::{EVALUATION_BATCH, LeafRun, rows_at_once};

/// A rank's part of the steps of a run.
#[derive(Debug)]
pub struct Division {
    /// Node groups.
    pub groups: Nodes,
    /// Rows of a step over all ranks.
    pub batch: usize,
    /// Rows of a step of the rank that has the most.
    pub most_rows: usize,
    /// Rows of the greatest micro-batch of any rank.
    pub capacity: usize,
    /// Shards of all ranks.
    shards: usize,
    /// The order of sums, where all shards have as many rows as they can have in a step.
    pub trees: Trees,
    /// The units of the parameters.
    pub units: Units,
    /// What norm groups take.
    pub norms: NormSizes,
    /// The dense layers that are shared out, from below; where there are none, all layers are summed.
    pub shared: Vec<(DenseStep, Strategy)>,
    /// In the fixed tree, or by MPI's own sum.
    pub reduce: Reduce,
    /// Whether the gradient's norm is limited.
    pub limits_norm: bool,
}

/// A run on one machine that there is not yet.
#[derive(Clone, Copy, Debug)]
pub struct OneMachine {
    /// Rows that a rank trains in a step.
    pub rows: usize,
    /// Shards of all ranks.
    pub shards: usize,
    /// Ranks.
    pub ranks: usize,
    /// How gradients travel.
    pub comm: Comm,
    /// The rows of norm groups.
    pub norm_rows: RowCount,
}

impl OneMachine {
    fn setting(&self) -> Setting {
        let OneMachine { rows, shards, ranks, norm_rows, .. } = *self;
        Setting {
            batch: rows * ranks,
            shards,
            ranks,
            on_machine: ranks,
            cores: ranks as f64,
            window: ranks > 1,
            wire: Wire::F32,
            norm_rows,
            norm: 0,
        }
    }

    /// Whether the root looks for the best plan, and takes [`Rates::GUESS`] bytes for a while.
    pub fn chooses(&self, model: &Model) -> bool {
        self.comm == Comm::Auto && self.ranks > 1 && can_share(&model.dense_steps(), &self.setting())
    }
}

/// What a rank's rows take while they go through the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassSizes {
    /// Rows that go through it at once, forward and backward.
    pub rows: usize,
    /// Sums of shards' gradients of the steps that images go through in turn that stand side by side.
    pub levels: usize,
    /// Sums of gradients: the rank's own, and those that wait for their other half.
    pub sums: usize,
}

impl Division {
    /// As a run of `data` divides its steps by `plan`; on every rank of these groups.
    pub fn of_run(
        model: &Model,
        data: &TrainData,
        plan: &ExchangePlan,
        config: &ExchangeConfig,
        groups: Nodes,
    ) -> Division {
        let (setting, ranks) = (plan.setting(), groups.size());
        let most = data.most_rows(setting.batch, ranks);
        let shards = &data.train.shards;
        let mut steps = shards.unlike_steps(setting.batch);
        let norms = NormGroups::sizes(
            model.norms(),
            config.norm_rows,
            &|rank| shards.owned(rank, ranks).end,
            &groups,
            |rows| {
                steps.next().is_some_and(|step| {
                    shards.rows_of_each(step, setting.batch, rows);
                    true
                })
            },
        );
        let capacity = rows_at_once(most, data.most_evaluated(ranks)).max(norms.rows);
        Division::new(model, setting, (most, capacity), plan.shared.clone(), (config.reduce, norms), groups)
    }

    /// For the rank that brings the most sums of gradients, with data to evaluate by.
    pub fn of_machine(model: &Model, case: &OneMachine) -> Division {
        let &OneMachine { shards, ranks, comm, .. } = case;
        let setting = case.setting();
        let steps = model.dense_steps();
        let strategies = decide(comm, &steps, &setting, || {
            let may = |layer: usize, strategy: Strategy| can_take(&steps[layer], strategy, ranks);
            // Nothing travels between machines.
            let link = Link { latency: 1e-5, bandwidth: 1e10 };
            best(&Shape::of(model), &Rates::guess(model), &link, &setting, &may)
        });
        let shared: Vec<(DenseStep, Strategy)> = steps.into_iter().zip(strategies).collect();
        let most = most_rows(setting.batch, shards, ranks);
        let of_rank = |rank: usize| {
            let (groups, mut steps) = (Nodes::new([ranks], rank), 0..1);
            let ends = |rank: usize| (rank + 1) * shards / ranks;
            let norms = NormGroups::sizes(model.norms(), case.norm_rows, &ends, &groups, |rows| {
                rows.clear();
                rows.resize(shards, setting.batch.div_ceil(shards));
                steps.next().is_some()
            });
            let rows = (most, rows_at_once(most, EVALUATION_BATCH).max(norms.rows));
            Division::new(model, &setting, rows, shared.clone(), (Reduce::Tree, norms), groups)
        };
        let root = of_rank(0);
        let most_sums = (0..ranks).max_by_key(|&rank| root.trees.ranks.sums_of[rank]).unwrap_or(0);
        if most_sums == 0 { root } else { of_rank(most_sums) }
    }

    fn new(
        model: &Model,
        setting: &Setting,
        (most_rows, capacity): (usize, usize),
        shared: Vec<(DenseStep, Strategy)>,
        (reduce, norms): (Reduce, NormSizes),
        groups: Nodes,
    ) -> Division {
        let &Setting { batch, shards, ranks, .. } = setting;
        let mut trees = Trees::default();
        trees.build(&vec![batch.div_ceil(shards); shards], &|rank| (rank + 1) * shards / ranks, &groups);
        Division {
            groups,
            batch,
            most_rows,
            capacity,
            shards,
            trees,
            units: Units::of_params(&model.table),
            norms,
            shared,
            reduce,
            limits_norm: setting.norm > 0,
        }
    }

    /// What a rank's workspace has room for.
    pub fn room(&self) -> StepRoom {
        StepRoom { capacity: self.capacity, shards: self.own_shards(), groups: self.norms.groups }
    }

    /// Shards of this rank.
    pub fn own_shards(&self) -> usize {
        let start = |rank: usize| rank * self.shards / self.groups.size();
        start(self.groups.rank() + 1) - start(self.groups.rank())
    }

    /// Rows of a step of rank `rank`, at most.
    pub fn rows_of(&self, rank: usize) -> usize {
        let start = |rank: usize| rank * self.shards / self.groups.size();
        ((start(rank + 1) - start(rank)) * self.batch.div_ceil(self.shards)).min(self.most_rows)
    }

    /// Sums of gradients that the rank with the most of them brings to all ranks.
    pub fn most_sums(&self) -> usize {
        match self.reduce {
            Reduce::Tree => self.trees.ranks.sums_of.iter().copied().max().unwrap_or(1).max(1),
            Reduce::Mpi => 1,
        }
    }

    /// Those that may wait for their other half besides, on the rank that has the most of them: none where a step's rows go through at once.
    pub fn waiting_sums(&self) -> usize {
        let at_once = !self.shared.is_empty() || self.most_rows <= self.capacity;
        if at_once { 0 } else { kernels::most_waiting(self.shards.div_ceil(self.groups.size())) }
    }

    /// This rank's pass in a step of as many rows as there can be.
    pub fn pass(&self) -> PassSizes {
        let rank = self.groups.rank();
        let own = &self.trees.ranks.own;
        if self.shared.is_empty() && !self.norms.span_ranks {
            return in_micro_batches(own, self.capacity);
        }
        PassSizes { rows: self.rows_of(rank), levels: deepest(own), sums: self.trees.ranks.sums_of[rank] }
    }
}

/// Sums that stand side by side while some leaves are merged, at most.
fn deepest(leaves: &[Leaf]) -> usize {
    let depths = leaves.iter().scan(0, |waiting, leaf| {
        *waiting += 1;
        let depth = *waiting;
        *waiting -= leaf.merges;
        Some(depth)
    });
    depths.max().unwrap_or(0)
}

/// The pass of these leaves, at most `capacity` rows at once.
fn in_micro_batches(leaves: &[Leaf], capacity: usize) -> PassSizes {
    let (mut pass, mut run, mut own) = (PassSizes::default(), LeafRun::default(), Vec::new());
    while run.leaves.end < leaves.len() {
        run = run.next(leaves, capacity, &mut own);
        pass.rows = pass.rows.max(run.rows.len().min(capacity));
        pass.levels = pass.levels.max(deepest(&own));
        pass.sums = pass.sums.max(run.depth + 1);
    }
    pass
}
