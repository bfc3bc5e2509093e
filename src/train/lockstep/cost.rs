//! What a step would take: the model behind `--comm auto` and `glasses plan`. Times are seconds on one core, sizes floats.
//!
//! A step is its arithmetic, and what of the exchange cannot hide behind it. `benches/plan_check.sh` holds it against real runs.

use serde::Serialize;

use super::norm_groups::NormGroups;
use super::setting::{Setting, most_rows};
use super::sizes::Ranks;
use crate::comm::{Nodes, Strategy, Wire};
use crate::data::Shards;
use crate::kernels::DenseShape;
use crate::model::ops::Normalize;
use crate::model::{Model, Units};

/// A time that grows with the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Linear {
    /// Whatever the rows.
    pub fixed: f64,
    /// A row.
    pub a_row: f64,
}

impl Linear {
    /// Through two measurements (rows, time).
    pub fn through([(rows, time), (more, longer)]: [(f64, f64); 2]) -> Linear {
        let a_row = ((longer - time) / (more - rows)).max(0.0);
        Linear { fixed: (time - a_row * rows).max(0.0), a_row }
    }

    fn at(self, rows: f64) -> f64 {
        self.fixed + self.a_row * rows
    }
}

/// What work takes on one core of this machine.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Rates {
    /// Everything below the first dense layer, forward (with the preparation of rows) and backward.
    pub images: [Linear; 2],
    /// A weight of a dense layer: forward, the gradients of inputs, those of weights with the update.
    pub dense: [Linear; 3],
    /// Adding a float of a neighbour's sum.
    #[serde(rename = "join")]
    pub merge: f64,
    /// Updating a parameter by a sum that lies in memory.
    pub update: f64,
    /// A node barrier.
    #[serde(rename = "meet")]
    pub node_barrier: f64,
    /// What a byte that is sent or received takes of the processor.
    pub byte: f64,
}

/// What lies between machines.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Link {
    /// Seconds until a message of no length is there.
    pub latency: f64,
    /// Bytes a second, each way, of a machine.
    pub bandwidth: f64,
}

/// What of a network the exchange sees.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The units of the parameters below the first dense layer, and of those from there on.
    pub units: [Units; 2],
    /// Dense layers, from below, and whether anything below has weights.
    pub dense: Vec<(DenseShape, bool)>,
    /// Batch norms.
    pub norms: Vec<Normalize>,
}

impl Shape {
    /// Of this network.
    pub fn of(model: &Model) -> Shape {
        let dense = model.dense_steps().into_iter().map(|step| (step.dense.shape, step.d_input.is_some()));
        let units = Units::of_params(&model.table);
        let below = units.partition_point(|unit| unit.end <= model.summed_params().end);
        let (below, above) = (units.part(0..below), units.part(below..units.len()));
        Shape { units: [below, above], dense: dense.collect(), norms: model.norms().to_vec() }
    }
}

/// What a step is predicted to be.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Predicted {
    /// All of it.
    pub seconds: f64,
    /// Of it, time that a rank waits for messages.
    pub waiting: f64,
    /// Bytes that a rank (the root) hands to MPI.
    pub sent: f64,
    /// Bytes that it reads from its neighbours' memory.
    pub shared: f64,
    /// Exchanges of batch norms' sums.
    pub norm_exchanges: usize,
}

/// What adds up while a step is predicted.
#[derive(Default)]
struct Sum {
    /// Arithmetic before, between and after the dense layers' part; the update.
    forward: f64,
    backward: f64,
    update: f64,
    /// Messages between machines that nothing hides, and those behind forward and backward.
    exposed: f64,
    rows_travel: f64,
    node_barriers: f64,
    norm_exchanges: usize,
    /// Bytes to other ranks; of them, to other machines.
    sent: f64,
    away: f64,
    shared: f64,
}

/// The step of a network whose dense layers take `strategies` (none: all are summed).
pub fn predict(shape: &Shape, strategies: &[Strategy], rates: &Rates, link: &Link, setting: &Setting) -> Predicted {
    let at = Scale::new(setting);
    let mut sum = Sum::default();
    sum.forward += rates.images[0].at(at.most);
    sum.backward += rates.images[1].at(at.most);
    let hides = rates.images[1].at(at.most);
    for (index, &(dense, inputs)) in shape.dense.iter().enumerate() {
        match strategies.get(index).copied().unwrap_or(Strategy::Reduce) {
            Strategy::Reduce => {
                sum.own_rows(rates, dense, inputs, at.most);
                sum.backward += at.weights(dense) * rates.dense[2].at(at.most);
            }
            Strategy::Factors => sum.factors(rates, dense, inputs, &at),
            Strategy::Split => sum.split(rates, link, dense, inputs, &at),
        }
    }
    let none = Units::default();
    let above = if strategies.is_empty() { &shape.units[1] } else { &none };
    sum.sections(rates, link, [&shape.units[0], above], hides, &at);
    sum.node_barriers += if at.members > 1.0 { 2.0 } else { 0.0 };
    if at.ranks > 1.0 {
        sum.sent += 8.0 * setting.norm as f64;
    }
    if at.groups > 1.0 {
        sum.sent += 8.0 * at.moves.scores();
        sum.exposed += link.latency * at.ranks.log2().ceil() * f64::from(u8::from(at.machines > 1.0));
    }
    sum.norms(&shape.norms, link, setting, &at);
    sum.total(rates, link, &at)
}

/// What the system takes to let another rank go on that shares the core: found by `benches/plan_check.sh`.
const TURN: f64 = 1e-4;

/// A setting in numbers that formulas want.
struct Scale {
    ranks: f64,
    groups: f64,
    members: f64,
    machines: f64,
    /// Of the other ranks, or groups, those on other machines.
    away: f64,
    /// Rows of a step, and of the rank that has the most.
    batch: f64,
    most: f64,
    moves: Ranks,
    /// How many ranks take turns on a core.
    turns: f64,
    on_machine: f64,
    /// Bytes of a float that travels.
    float: f64,
}

impl Scale {
    fn new(setting: &Setting) -> Scale {
        let ranks = setting.ranks as f64;
        let on_machine = setting.on_machine.min(setting.ranks) as f64;
        let members = if setting.window { on_machine } else { 1.0 };
        let machines = (ranks / on_machine).ceil();
        let others = ranks - 1.0;
        Scale {
            ranks,
            members,
            groups: (ranks / members).ceil(),
            machines,
            away: if setting.window || others == 0.0 { 1.0 } else { (ranks - on_machine) / others },
            batch: setting.batch as f64,
            most: most_rows(setting.batch, setting.shards, setting.ranks) as f64,
            moves: Ranks::new(setting),
            turns: (on_machine / setting.cores).max(1.0),
            on_machine,
            float: if setting.wire == Wire::Bf16 { 2.0 } else { 4.0 },
        }
    }

    fn weights(&self, dense: DenseShape) -> f64 {
        (dense.inputs * dense.outputs) as f64
    }
}

impl Sum {
    /// A dense layer's passes over a rank's own rows.
    fn own_rows(&mut self, rates: &Rates, dense: DenseShape, inputs: bool, rows: f64) {
        let weights = (dense.inputs * dense.outputs) as f64;
        self.forward += weights * rates.dense[0].at(rows);
        self.backward += if inputs { weights * rates.dense[1].at(rows) } else { 0.0 };
    }

    fn send(&mut self, bytes: f64, at: &Scale) {
        self.sent += bytes;
        self.away += bytes * at.away;
    }

    fn factors(&mut self, rates: &Rates, dense: DenseShape, inputs: bool, at: &Scale) {
        let weights = at.weights(dense) / at.members;
        self.own_rows(rates, dense, inputs, at.most);
        self.update += weights * rates.dense[2].at(at.batch);
        let moves = at.moves.factors(dense);
        self.send(moves.sent * at.float, at);
        self.rows_travel += moves.sent * at.float * at.away;
        self.shared += 4.0 * moves.shared;
        self.node_barriers += if at.groups > 1.0 && at.members > 1.0 { 1.0 } else { 0.0 };
    }

    fn split(&mut self, rates: &Rates, link: &Link, dense: DenseShape, inputs: bool, at: &Scale) {
        let weights = at.weights(dense) / at.ranks;
        self.forward += weights * rates.dense[0].at(at.batch);
        self.backward += if inputs { weights * rates.dense[1].at(at.batch) } else { 0.0 };
        self.backward += weights * rates.dense[2].at(at.batch);
        let (travels, shared) = at.moves.split(dense, inputs);
        for floats in travels {
            let bytes = floats * at.float;
            self.send(bytes, at);
            if at.machines > 1.0 {
                self.exposed += link.latency + at.on_machine * bytes * at.away / link.bandwidth;
            }
        }
        self.shared += 4.0 * shared;
        self.node_barriers += if at.members > 1.0 { 4.0 } else { 0.0 };
    }

    /// Sums of gradients: below the first dense layer, and from there on.
    fn sections(&mut self, rates: &Rates, link: &Link, units: [&Units; 2], hides: f64, at: &Scale) {
        for (units, hidden) in units.into_iter().zip([self.update, hides]) {
            let moves = at.moves.section(units);
            self.shared += 4.0 * moves.shared;
            self.update += moves.lane * (at.members * rates.merge + rates.update);
            if at.groups > 1.0 {
                self.update += moves.lane * rates.merge;
                let [sums, totals] = [moves.sums, moves.totals].map(|floats| floats * at.float);
                self.send(sums, at);
                self.send(totals, at);
                if at.machines > 1.0 && moves.lane > 0.0 {
                    let travel = |bytes: f64| link.latency + at.on_machine * bytes * at.away / link.bandwidth;
                    self.exposed += (travel(sums) - hidden).max(0.0) + travel(totals);
                }
            }
        }
    }

    /// Batch norms: each of their exchanges waits for all ranks.
    fn norms(&mut self, norms: &[Normalize], link: &Link, setting: &Setting, at: &Scale) {
        let &Setting { batch, shards, ranks, norm_rows, .. } = setting;
        let members = at.members as usize;
        let sizes = (0..ranks.div_ceil(members)).map(|group| members.min(ranks - group * members));
        let step = Shards::new(batch, shards);
        let rows: Vec<usize> = (0..shards).map(|shard| step.rows_of(shard..shard + 1).len()).collect();
        let ends = |rank: usize| step.owned(rank, ranks).end;
        let moves = NormGroups::new(norms, norm_rows).moves(norms, &rows, &ends, &Nodes::new(sizes, 0));
        self.norm_exchanges = moves.exchanges;
        self.send(moves.sent, at);
        self.shared += moves.shared;
        let exchanges = moves.exchanges as f64;
        if at.members > 1.0 {
            self.node_barriers += exchanges * if at.groups > 1.0 { 2.0 } else { 1.0 };
        }
        if at.machines > 1.0 && exchanges > 0.0 {
            // One rank a group sends for all of it.
            let groups = at.on_machine / at.members;
            self.exposed += exchanges * link.latency + groups * moves.sent * at.away / link.bandwidth;
        }
    }

    fn total(&self, rates: &Rates, link: &Link, at: &Scale) -> Predicted {
        // What arrives is handled, too.
        let handling = 2.0 * self.sent * rates.byte;
        let passes = at.turns * (self.forward + self.backward + handling);
        let travel = link.latency + at.on_machine * self.rows_travel / link.bandwidth;
        // The first image's row is ready after its share of the forward pass.
        let hidden = passes - at.turns * rates.images[0].at(1.0);
        let late = if self.rows_travel > 0.0 { (travel - hidden).max(0.0) } else { 0.0 };
        // Ranks that take turns on a core reach a node barrier one after another.
        let barrier = at.turns * rates.node_barrier + (at.turns - 1.0) * TURN;
        let work = passes + at.turns * self.update + self.node_barriers * barrier;
        let waiting = late + self.exposed;
        let norm_exchanges = self.norm_exchanges;
        Predicted { seconds: work + waiting, waiting, sent: self.sent, shared: self.shared, norm_exchanges }
    }
}

/// The strategies of all dense layers that a step is predicted to be fastest with, of those that `may` have; none where
/// summing everything is.
pub fn best(
    shape: &Shape,
    rates: &Rates,
    link: &Link,
    setting: &Setting,
    may: &dyn Fn(usize, Strategy) -> bool,
) -> Vec<Strategy> {
    let seconds = |strategies: &[Strategy]| predict(shape, strategies, rates, link, setting).seconds;
    let mut found = vec![Strategy::Factors; shape.dense.len()];
    for layer in 0..found.len() {
        let with = |strategy: Strategy| {
            let mut strategies = found.clone();
            strategies[layer] = strategy;
            seconds(&strategies)
        };
        if may(layer, Strategy::Split) && with(Strategy::Split) < with(Strategy::Factors) {
            found[layer] = Strategy::Split;
        }
    }
    if seconds(&[]) < seconds(&found) { Vec::new() } else { found }
}
