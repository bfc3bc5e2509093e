//! A training step of all ranks: rows through the network, gradients to everyone, the update. `glasses bench` times this very
//! code.
//!
//! Convolutions' gradients are summed over the ranks (`sums.rs`). Those of dense layers are summed, too, or the layer is shared
//! out (`shared.rs`). The order of every sum is that of the fixed tree over shards, whatever the strategy.

pub mod cost;
mod far;
mod footprint;
mod lap;
mod layout;
mod link;
mod pass;
mod plan;
mod setting;
mod shared;
mod sizes;
mod start;
mod sums;
mod team;

pub use footprint::footprint;
pub use lap::Lap;
pub use plan::{How, all_by, can_share, can_take, decide, recorded};
pub use setting::{Setting, most_rows};

use std::ops::Range;

use super::data::TrainData;
use super::digests::{self, Copies};
use crate::comm::{CHANNELS, Reduce, Strategy, Wire};
use crate::data::{EpochOrder, Shards};
use crate::kernels::{self, Buffer, Score};
use crate::metrics::{Exchange, Seconds};
use crate::model::{Gradients, Model, Params, Workspace};
use crate::optim::Optimizer;
use crate::position::{self, Phase};
use crate::trace::{Trace, What};
use cost::Predicted;
use plan::Plan;
use shared::{SharedLayer, Update, Watch};
use sums::{Section, Trees};
use team::Team;

/// All ranks' training steps, as one of them makes them.
pub struct Lockstep<'a> {
    /// Where micro-batches go through the network.
    pub workspace: Workspace,
    team: Team<'a>,
    how: How,
    /// What is done with each layer.
    pub plan: Plan,
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
    /// What each rank tells: two numbers, then a loss and a count of right rows a subtree.
    told: Vec<f64>,
    /// Of each unit of the parameters, what it adds to the square of the gradient's norm.
    squares: Vec<f64>,
    units: Vec<Range<usize>>,
    /// What the ranks have told one another in this step, once they have.
    agreed: Option<(Score, Tells)>,
}

/// What a rank tells the others with its sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tells {
    /// The last update was made with a gradient that was not finite.
    pub unwell: bool,
    /// A checkpoint of what this step makes is due.
    pub checkpoint: bool,
    /// The signal after which the run is to end behind this step, and a checkpoint.
    pub stop: Option<u8>,
}

/// What a step came to.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// What the loss said about all rows.
    pub score: Score,
    /// What any rank told.
    pub told: Tells,
    /// Whether there was an update: none where a rank is unwell, or the loss is no number.
    pub updated: bool,
    /// Whether all gradients that this rank has seen were finite.
    pub finite: bool,
    /// What this rank moved, and what the root was predicted to.
    pub exchange: Exchange,
}

/// Where in the run a step is.
#[derive(Clone, Copy, Debug)]
pub struct At {
    /// The run's seed, and the epoch.
    pub training: (u64, usize),
    /// Rows of the step.
    pub count: u64,
    /// Learning rate.
    pub lr: f32,
}

impl<'a> Lockstep<'a> {
    /// What is done with each layer, for a person.
    pub fn describe(&self, model: &Model) -> String {
        self.plan.describe(model, &self.team, &self.how)
    }

    /// Groups and strategies, where numbers are rounded on their way between groups, so that the weights depend on them; else
    /// nothing.
    pub fn binding_plan(&self) -> String {
        let groups = &self.team.groups;
        if self.how.wire == Wire::F32 {
            return String::new();
        }
        let strategies: Vec<Strategy> = self.layers.iter().map(|layer| layer.strategy).collect();
        plan::record(&strategies, groups)
    }

    /// From now on, what this rank does is recorded.
    pub fn record(&mut self, trace: &Trace) {
        self.workspace.record(trace);
        self.team.trace = trace.clone();
    }

    /// What travels on a channel, for a person; `steps` are the names of the network's.
    pub fn what_travels(&self, channel: usize, steps: &[String]) -> String {
        let (layer, what) = far::what_travels(channel);
        let layer = layer.and_then(|index| self.layers.get(index));
        layer.map_or(what.to_owned(), |layer| format!("{what} of {}", steps[layer.step.step]))
    }

    /// Takes this rank's rows of step `step` of an epoch.
    pub fn choose(&mut self, order: &EpochOrder, shards: &Shards, step: usize, batch: usize) {
        let (rank, size) = (self.team.rank(), self.team.size());
        order.step(shards, step, batch, &mut self.rows);
        shards.rows_of_each(step, batch, &mut self.rows_of_each);
        let owned = |rank: usize| shards.owned(rank, size);
        for (rank, rows) in self.team.rows.iter_mut().enumerate() {
            *rows = self.rows_of_each[owned(rank)].iter().sum();
        }
        if self.how.reduce == Reduce::Mpi {
            self.rows_of_each[..owned(rank).start].fill(0);
            self.rows_of_each[owned(rank).end..].fill(0);
        }
        self.trees.plant(&self.rows_of_each, &|rank| owned(rank).end, &self.team);
    }

    /// From now on until [`Lockstep::watched`], what the shards bring is watched.
    pub fn watch(&mut self) {
        self.workspace.probe.start(self.trees.ranks.own.len());
    }

    /// The digest of what each of the shards `owned` brought; nothing of those without a row in the step.
    pub fn watched(&mut self, owned: Range<usize>) -> Vec<Option<u64>> {
        let mut digests = self.workspace.probe.finish().into_iter();
        self.rows_of_each[owned].iter().map(|&rows| if rows > 0 { digests.next() } else { None }).collect()
    }

    /// Collective: the step over the rows that were chosen.
    #[allow(clippy::too_many_arguments)] // What is trained, on what, and what to say of it.
    pub fn step(
        &mut self,
        model: &Model,
        params: &mut Params,
        optimizer: &mut Optimizer,
        data: &TrainData,
        at: At,
        tells: Tells,
        seconds: &mut Seconds,
    ) -> Made {
        self.agreed = None;
        let before = (self.team.comm.bytes_communicated(), self.team.read);
        optimizer.begin(at.count, at.lr);
        if self.layers.is_empty() {
            self.pass_summed(model, params, data, (at.training, tells), seconds);
        } else {
            self.pass_shared(model, params, optimizer, data, (at, tells), seconds);
        }
        let mut lap = Lap::start();
        if self.agreed.is_none_or(|(score, told)| goes_on(score, told)) {
            self.team.meet();
        }
        if self.agreed.is_none() {
            self.agree(tells);
        }
        let (score, told) = self.agreed.unwrap_or_default();
        lap.end(&mut seconds.sync);
        let updated = goes_on(score, told);
        if updated {
            self.update(params, optimizer, seconds);
        } else {
            // The run is over, but what travels has to arrive.
            (0..CHANNELS).for_each(|channel| self.team.comm.finish(channel));
        }
        if self.predicted.0 != at.count as usize {
            self.predicted = (at.count as usize, self.plan.predict(at.count as usize));
        }
        let exchange = Exchange {
            sent: self.team.comm.bytes_communicated() - before.0,
            shared: self.team.read - before.1,
            predicted_sent: self.predicted.1.sent as u64,
            predicted_shared: self.predicted.1.shared as u64,
        };
        Made { score, told, updated, finite: optimizer.finite(), exchange }
    }

    /// All ranks have shown what they bring: sums are finished, and parameters updated.
    fn update(&mut self, params: &mut Params, optimizer: &mut Optimizer, seconds: &mut Seconds) {
        let mut lap = Lap::start();
        position::enter(Phase::Update);
        if self.how.reduce == Reduce::Mpi {
            let mine = &mut self.sums[0].values;
            if self.trees.ranks.sums_of[self.team.rank()] == 0 {
                mine.fill(0.0);
            }
            self.team.comm.sum_f32(mine, &mut self.total);
            lap.end(&mut seconds.sync);
            let began = self.team.trace.now();
            self.update_all(params, optimizer);
            self.team.trace.end(began, What::Update, 0, [0; 4]);
            return lap.end(&mut seconds.update);
        }
        let Lockstep { workspace, team, trees, sections, layers, total, .. } = self;
        sections[0].start(trees, team);
        let later = optimizer.wants_norm();
        for layer in layers.iter_mut().filter(|layer| layer.strategy == Strategy::Factors) {
            layer.far.finish_rows(team);
            // What other ranks of this group take in has come to them, too.
            if team.is_spread() {
                team.meet();
            }
            lap.end(&mut seconds.sync);
            let update = if later { Update::Later(total, params) } else { Update::Now(optimizer, params) };
            let watch = Watch::new(workspace.times(layer.step.step), team.trace.now());
            let updating = layer.update(&trees.ranks.leaves, update, team, None, watch);
            lap.end(&mut seconds.backward);
            (seconds.update, seconds.backward) = (seconds.update + updating, seconds.backward - updating);
        }
        for section in sections.iter_mut().rev() {
            section.exchange(trees, team, total);
        }
        lap.end(&mut seconds.sync);
        if team.is_spread() || later {
            self.update_total(params, optimizer);
        } else {
            for section in sections.iter() {
                section.join(trees, team, |place, sum| optimizer.update(place.start, &mut params.values[place], sum));
            }
        }
        let near = self.team.members() - 1;
        let finished: usize = self.sections.iter().map(|section| section.own().len()).sum();
        self.team.has_read(near * finished);
        lap.end(&mut seconds.update);
        self.team.meet();
        lap.end(&mut seconds.sync);
    }

    /// With all ranks' sums in `total`: where the norm is limited, it must be known first.
    fn update_total(&mut self, params: &mut Params, optimizer: &mut Optimizer) {
        let Lockstep { team, trees, sections, layers, total, .. } = self;
        if !team.is_spread() {
            for section in sections.iter() {
                section.join(trees, team, |place, sum| total[place].copy_from_slice(sum));
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
                    *square = optimizer.measure(&mut total[unit.clone()]);
                }
            }
            self.sum_squares(optimizer);
        }
        let Lockstep { team, sections, layers, total, .. } = self;
        let began = team.trace.now();
        sections.iter().for_each(|section| section.update(optimizer, &mut params.values, total));
        if optimizer.wants_norm() {
            for own in layers.iter().flat_map(SharedLayer::own_params) {
                optimizer.update(own.start, &mut params.values[own.clone()], &mut total[own]);
            }
        }
        team.trace.end(began, What::Update, 0, [0; 4]);
    }

    /// Every unit's part of the square of the norm has one rank that says it: where several groups know it, the first one's.
    fn sum_squares(&mut self, optimizer: &mut Optimizer) {
        let team = &self.team;
        if team.groups.mine() > 0 {
            for (unit, square) in self.units.iter().zip(&mut self.squares) {
                let is_split = |layer: &SharedLayer| {
                    layer.strategy == Strategy::Split && layer.step.dense.weight.contains(&unit.start)
                };
                if !self.layers.iter().any(is_split) {
                    *square = 0.0;
                }
            }
        }
        if team.size() > 1 {
            team.comm.sum_f64(&mut self.squares);
        }
        limit_norm(&self.squares, optimizer);
    }

    /// With MPI's own sum of everything.
    fn update_all(&mut self, params: &mut Params, optimizer: &mut Optimizer) {
        let Lockstep { total, units, squares, .. } = self;
        if optimizer.wants_norm() {
            for (unit, square) in units.iter().zip(squares.iter_mut()) {
                *square = optimizer.measure(&mut total[unit.clone()]);
            }
            limit_norm(squares, optimizer);
        }
        optimizer.update(0, &mut params.values, total);
    }

    /// Whether this rank is the one of its group that writes the group's parameters where all would write the same.
    pub fn writes_params(&self) -> bool {
        self.team.groups.place() == 0
    }

    /// Digests of what this rank has to say something about.
    pub fn copies<'p>(&'p self, params: &'p Params) -> Copies<'p> {
        let (team, units) = (&self.team, &self.units);
        let split = |unit: &Range<usize>| {
            self.layers.iter().find(|layer| !layer.is_whole(team) && layer.step.dense.weight.contains(&unit.start))
        };
        let share = |place: usize| place * units.len() / team.members();
        let place = team.groups.place();
        let is_own = |(index, unit): &(usize, &Range<usize>)| match split(unit) {
            Some(layer) => layer.weights_of(team.rank()).contains(&unit.start),
            None => (share(place)..share(place + 1)).contains(index),
        };
        let own = units.iter().enumerate().filter(is_own);
        let digest = |unit: &Range<usize>| digests::of_values(&params.values[unit.clone()]);
        let own = own.map(|(index, unit)| (index, digest(unit))).collect();
        Copies { groups: &team.groups, table: &params.table, units, own }
    }

    /// Collective: brings together the parameters of layers whose weights are split; with `optimizer`, on the root, what belongs
    /// to them.
    pub fn collect(&self, params: &Params, optimizer: Option<&mut Optimizer>) {
        let mut buffers = vec![(params.values.alias(), optimizer.is_some())];
        if let Some(optimizer) = optimizer {
            let state = optimizer.state();
            buffers.extend([state.first.alias(), state.second.alias()].map(|buffer| (buffer, true)));
        }
        for layer in self.layers.iter().filter(|layer| !layer.is_whole(&self.team)) {
            for (values, to_root) in buffers.iter().filter(|(values, _)| !values.is_empty()) {
                layer.far.collect(values, &|rank| layer.weights_of(rank), *to_root, &self.team);
            }
        }
    }
}

/// Limits the gradient's norm, the square of which is the sum of `squares` in the fixed tree.
fn limit_norm(squares: &[f64], optimizer: &mut Optimizer) {
    let sum = kernels::tree(squares.len(), &mut |unit| Some(squares[unit]), &|a, b| a + b);
    optimizer.limit(sum.unwrap_or(0.0));
}

/// Whether there is to be an update: the same on every rank.
fn goes_on(score: Score, told: Tells) -> bool {
    !told.unwell && score.loss_sum.is_finite()
}
