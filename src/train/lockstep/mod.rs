//! A training step of all ranks: rows through the network, gradients to everyone, the update. `glasses bench` times this very
//! code.
//!
//! Convolutions' gradients are summed over the ranks (`reduce.rs`). Those of dense layers are summed, too, or the layer is shared
//! out (`factors.rs`, `split.rs`). The order of every sum is that of the fixed tree over shards, whatever the strategy.

pub mod cost;
mod point_to_point;
mod division;
mod shared_memory;
mod link;
mod norm_groups;
mod norm_statistics;
mod norms;
mod pass;
mod plan;
mod setting;
mod factors;
mod split;
mod all_rows;
mod sizes;
mod start;
mod step;
mod step_memory;
mod reduce;
mod running_statistics;
mod scores;
mod topology;

pub use division::{Division, OneMachine};
pub use plan::{ExchangeConfig, all_by, can_share, can_take, decide, recorded};
pub use setting::{Setting, most_rows};
pub use step::{StepContext, StepFlags, StepResult};
pub use step_memory::StepMemory;

use std::ops::Range;

use super::data::TrainData;
use super::digests::{self, Copies};
use crate::comm::{CHANNELS, Reduce, Strategy, Wire};
use crate::data::{EpochOrder, Shards};
use crate::kernels::{self, Buffer, Score};
use crate::metrics::{Exchange, Seconds};
use crate::model::{Gradients, Model, Params, Units, Workspace};
use crate::optim::Optimizer;
use crate::position::{self, Phase};
use crate::stopwatch::Stopwatch;
use crate::trace::{Trace, What};
use cost::Predicted;
use factors::{SharedLayer, Update, UpdateProfile};
use norms::StepNorms;
use plan::ExchangePlan;
use reduce::{Section, Trees};
use step::{StepInput, should_update};
use topology::Topology;

/// One rank's side of the training steps of all ranks.
pub struct Lockstep<'a> {
    /// Where micro-batches go through the network.
    pub workspace: Workspace,
    /// Sizes of all that its steps work in.
    pub memory: StepMemory,
    topology: Topology<'a>,
    config: ExchangeConfig,
    /// How the gradients of each layer are exchanged.
    pub plan: ExchangePlan,
    /// Rows of the last step, and what such a one is predicted to move.
    predicted: (usize, Predicted),
    /// Why memory is not shared, where it was to be.
    pub refused: Option<String>,
    /// One of each of this rank's subtrees, and before one is whole those that wait for their other half.
    sums: Vec<Gradients>,
    /// Sums over all ranks, of what this rank finishes.
    total: Buffer,
    /// This rank's rows of the step: numbers in the split, shard after shard.
    rows: Vec<u32>,
    /// Rows of the step in each shard, whoever owns it.
    rows_of_each: Vec<usize>,
    trees: Trees,
    /// Layers below the first dense one, and, unless they are shared out, those from there on.
    sections: [Section; 2],
    /// Dense layers that are shared out, from below.
    layers: Vec<SharedLayer>,
    /// Of each rank: two flags, then a loss and a count of correct predictions a subtree.
    gathered: Vec<f64>,
    /// Of each unit of the parameters, what it adds to the square of the gradient's norm.
    squares: Vec<f64>,
    units: Units,
    /// The parts that are digested by themselves, of running statistics too.
    digest_units: Units,
    /// Batch norms.
    norms: StepNorms,
    /// The scores and flags of all ranks in this step, once they are exchanged.
    agreed: Option<(Score, StepFlags)>,
}

impl<'a> Lockstep<'a> {
    /// The exchange plan, for a person.
    pub fn describe(&self, model: &Model) -> String {
        self.plan.describe(model, &self.topology.groups, &self.config)
    }

    /// Groups and strategies, where numbers are rounded between groups, so that the weights depend on them; else
    /// nothing.
    pub fn binding_plan(&self) -> String {
        let groups = &self.topology.groups;
        if self.config.wire == Wire::F32 {
            return String::new();
        }
        let strategies: Vec<Strategy> = self.layers.iter().map(|layer| layer.strategy).collect();
        plan::record(&strategies, groups)
    }

    /// From now on, what this rank does is recorded.
    pub fn record(&mut self, trace: &Trace) {
        self.workspace.record(trace);
        self.topology.trace = trace.clone();
    }

    /// The messages of a channel, for a person; `steps` are the names of the network's steps.
    pub fn describe_channel(&self, channel: usize, steps: &[String]) -> String {
        let (layer, what) = point_to_point::describe_channel(channel);
        let layer = layer.and_then(|index| self.layers.get(index));
        layer.map_or(what.to_owned(), |layer| format!("{what} of {}", steps[layer.step.step]))
    }

    /// Takes this rank's rows of step `step` of an epoch.
    pub fn choose(&mut self, order: &EpochOrder, shards: &Shards, step: usize, batch: usize) {
        let (rank, size) = (self.topology.rank(), self.topology.size());
        order.step(shards, step, batch, &mut self.rows);
        shards.rows_of_each(step, batch, &mut self.rows_of_each);
        let owned = |rank: usize| shards.owned(rank, size);
        self.norms.groups.choose(&self.rows_of_each, &|rank| owned(rank).end, &self.topology.groups);
        for (rank, rows) in self.topology.rows.iter_mut().enumerate() {
            *rows = self.rows_of_each[owned(rank)].iter().sum();
        }
        if self.config.reduce == Reduce::Mpi {
            self.rows_of_each[..owned(rank).start].fill(0);
            self.rows_of_each[owned(rank).end..].fill(0);
        }
        self.trees.build(&self.rows_of_each, &|rank| owned(rank).end, &self.topology.groups);
    }

    /// Digests what the shards bring, from now on until [`Lockstep::watched`].
    pub fn watch(&mut self) {
        self.workspace.probe.start(self.trees.ranks.own.len());
    }

    /// The digest of what each of the shards `owned` brought; nothing of those without a row in the step.
    pub fn watched(&mut self, owned: Range<usize>) -> Vec<Option<u64>> {
        let mut digests = self.workspace.probe.finish().into_iter();
        self.rows_of_each[owned].iter().map(|&rows| if rows > 0 { digests.next() } else { None }).collect()
    }

    /// Collective: the step over the rows that were chosen.
    pub fn step(
        &mut self,
        model: &Model,
        params: &mut Params,
        optimizer: &mut Optimizer,
        data: &TrainData,
        context: StepContext,
        seconds: &mut Seconds,
    ) -> StepResult {
        self.agreed = None;
        let input = StepInput { model, data, context };
        let before = (self.topology.comm.bytes_communicated(), self.topology.read);
        optimizer.begin(context.count, context.lr);
        if self.layers.is_empty() && !self.norms.groups.span_ranks {
            self.pass_summed(&input, params, seconds);
        } else {
            self.pass_at_once(&input, params, optimizer, seconds);
        }
        let mut stopwatch = Stopwatch::start();
        if self.agreed.is_none_or(|(score, flags)| should_update(score, flags)) {
            self.topology.node_barrier();
        }
        if self.agreed.is_none() {
            self.exchange_scores(context.flags);
        }
        let (score, flags) = self.agreed.unwrap_or_default();
        stopwatch.lap(&mut seconds.sync);
        let updated = should_update(score, flags);
        if updated {
            self.update_statistics(model, params, context.count);
            self.update(params, optimizer, seconds);
        } else {
            // The run is over, but messages under way have to arrive.
            (0..CHANNELS).for_each(|channel| self.topology.comm.finish(channel));
        }
        if self.predicted.0 != context.count as usize {
            self.predicted = (context.count as usize, self.plan.predict(context.count as usize));
        }
        let exchange = Exchange {
            sent: self.topology.comm.bytes_communicated() - before.0,
            shared: self.topology.read - before.1,
            predicted_sent: self.predicted.1.sent as u64,
            predicted_shared: self.predicted.1.shared as u64,
        };
        StepResult { score, flags, updated, finite: optimizer.finite(), exchange }
    }

    /// All ranks have published their sums: the totals are formed, and the parameters updated.
    fn update(&mut self, params: &mut Params, optimizer: &mut Optimizer, seconds: &mut Seconds) {
        let mut stopwatch = Stopwatch::start();
        position::enter(Phase::Update);
        if self.config.reduce == Reduce::Mpi {
            let mine = &mut self.sums[0].values;
            if self.trees.ranks.sums_of[self.topology.rank()] == 0 {
                mine.fill(0.0);
            }
            self.topology.comm.allreduce_f32(mine, &mut self.total);
            stopwatch.lap(&mut seconds.sync);
            let began = self.topology.trace.now();
            self.update_all(params, optimizer);
            self.topology.trace.end(began, What::Update, 0, [0; 4]);
            return stopwatch.lap(&mut seconds.update);
        }
        let Lockstep { workspace, topology, trees, sections, layers, total, .. } = self;
        sections[0].start(trees, topology);
        let later = optimizer.wants_norm();
        for layer in layers.iter_mut().filter(|layer| layer.strategy == Strategy::Factors) {
            layer.messages.finish_rows(topology);
            // The rows that other ranks of this group receive have come, too.
            if topology.is_multi_node() {
                topology.node_barrier();
            }
            stopwatch.lap(&mut seconds.sync);
            let update = if later { Update::Later(total, params) } else { Update::Now(optimizer, params) };
            let profile = UpdateProfile::new(workspace.times(layer.step.step), topology.trace.now());
            let updating = layer.update(&trees.ranks.leaves, update, topology, None, profile);
            stopwatch.lap(&mut seconds.backward);
            (seconds.update, seconds.backward) = (seconds.update + updating, seconds.backward - updating);
        }
        for section in sections.iter_mut().rev() {
            section.exchange(trees, topology, total);
        }
        stopwatch.lap(&mut seconds.sync);
        if topology.is_multi_node() || later {
            self.update_total(params, optimizer);
        } else {
            for section in sections.iter() {
                section
                    .merge(trees, topology, |place, sum| optimizer.update(place.start, &mut params.values[place], sum));
            }
        }
        let others = self.topology.members() - 1;
        let finished: usize = self.sections.iter().map(|section| section.own().len()).sum();
        self.topology.has_read(others * finished);
        stopwatch.lap(&mut seconds.update);
        self.topology.node_barrier();
        stopwatch.lap(&mut seconds.sync);
    }

    /// With all ranks' sums in `total`: where the norm is limited, it must be known first.
    fn update_total(&mut self, params: &mut Params, optimizer: &mut Optimizer) {
        let Lockstep { topology, trees, sections, layers, total, .. } = self;
        if !topology.is_multi_node() {
            for section in sections.iter() {
                section.merge(trees, topology, |place, sum| total[place].copy_from_slice(sum));
            }
        }
        if optimizer.wants_norm() {
            self.squares.fill(0.0);
            let own = sections.iter().map(Section::own).chain(layers.iter().flat_map(SharedLayer::own_params));
            for own in own {
                let first = self.units.partition_point(|unit| unit.end <= own.start);
                for (unit, square) in self.units.iter().zip(&mut self.squares).skip(first) {
                    if unit.start >= own.end {
                        break;
                    }
                    *square = optimizer.measure(&mut total[unit]);
                }
            }
            self.sum_squares(optimizer);
        }
        let Lockstep { topology, sections, layers, total, .. } = self;
        let began = topology.trace.now();
        sections.iter().for_each(|section| section.update(optimizer, &mut params.values, total));
        if optimizer.wants_norm() {
            for own in layers.iter().flat_map(SharedLayer::own_params) {
                optimizer.update(own.start, &mut params.values[own.clone()], &mut total[own]);
            }
        }
        topology.trace.end(began, What::Update, 0, [0; 4]);
    }

    /// One rank brings each unit's part of the square of the norm: where several groups know it, the first one's.
    fn sum_squares(&mut self, optimizer: &mut Optimizer) {
        let topology = &self.topology;
        if topology.groups.mine() > 0 {
            for (unit, square) in self.units.iter().zip(&mut self.squares) {
                let is_split = |layer: &SharedLayer| {
                    layer.strategy == Strategy::Split && layer.step.dense.weight.contains(&unit.start)
                };
                if !self.layers.iter().any(is_split) {
                    *square = 0.0;
                }
            }
        }
        if topology.size() > 1 {
            topology.comm.allreduce_f64(&mut self.squares);
        }
        limit_norm(&self.squares, optimizer);
    }

    /// With MPI's own sum of everything.
    fn update_all(&mut self, params: &mut Params, optimizer: &mut Optimizer) {
        let Lockstep { total, units, squares, .. } = self;
        if optimizer.wants_norm() {
            for (unit, square) in units.iter().zip(squares.iter_mut()) {
                *square = optimizer.measure(&mut total[unit]);
            }
            limit_norm(squares, optimizer);
        }
        optimizer.update(0, &mut params.values[..total.len()], total);
    }

    /// Whether this rank is the one of its group that writes the group's parameters where all would write the same.
    pub fn writes_params(&self) -> bool {
        self.topology.groups.place() == 0
    }

    /// Digests of the units that this rank answers for.
    pub fn copies<'p>(&'p self, params: &'p Params) -> Copies<'p> {
        let (topology, units) = (&self.topology, &self.digest_units);
        let split = |unit: &Range<usize>| {
            self.layers.iter().find(|layer| !layer.is_whole(topology) && layer.step.dense.weight.contains(&unit.start))
        };
        let share = |place: usize| place * units.len() / topology.members();
        let place = topology.groups.place();
        let is_own = |(index, unit): &(usize, Range<usize>)| match split(unit) {
            Some(layer) => layer.weights_of(topology.rank()).contains(&unit.start),
            None => (share(place)..share(place + 1)).contains(index),
        };
        let own = units.iter().enumerate().filter(is_own);
        let own = own.map(|(index, unit)| (index, digests::of_values(&params.values[unit]))).collect();
        Copies { groups: &topology.groups, table: &params.table, units, own }
    }

    /// Collective: brings together the parameters of layers whose weights are split; with `optimizer`, on the root, what belongs
    /// to them.
    pub fn collect(&self, params: &Params, optimizer: Option<&mut Optimizer>) {
        let mut buffers = vec![(params.values.alias(), optimizer.is_some())];
        if let Some(optimizer) = optimizer {
            let state = optimizer.state();
            buffers.extend([state.first.alias(), state.second.alias()].map(|buffer| (buffer, true)));
        }
        for layer in self.layers.iter().filter(|layer| !layer.is_whole(&self.topology)) {
            for (values, to_root) in buffers.iter().filter(|(values, _)| !values.is_empty()) {
                layer.messages.collect(values, &|rank| layer.weights_of(rank), *to_root, &self.topology);
            }
        }
    }
}

/// Limits the gradient's norm, the square of which is the sum of `squares` in the fixed tree.
fn limit_norm(squares: &[f64], optimizer: &mut Optimizer) {
    let sum = kernels::tree(squares.len(), &mut |unit| Some(squares[unit]), &|a, b| a + b);
    optimizer.limit(sum.unwrap_or(0.0));
}
