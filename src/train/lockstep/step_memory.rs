//! The memory that a rank's steps take: every size of it, before any is taken. What takes memory takes these sizes, `info` predicts by them,
//! and a run asks by them.

use super::division::Division;
use super::factors::LayerSizes;
use super::norm_groups::NormSizes;
use super::norm_statistics::PieceExchange;
use super::reduce::SectionSizes;
use super::shared_memory::{LayerSegmentSizes, ReplicaSizes, SegmentSizes};
use crate::comm::{Communicator, Reduce, Strategy, all_agree};
use crate::error::{Error, Result};
use crate::kernels::{DenseShape, dense_forward_sums};
use crate::memory::{shortage, swap};
use crate::model::ops::Normalize;
use crate::model::{DenseStep, Model, Units, Workspace};
use crate::optim::{Optimizer, OptimizerKind};
use crate::plural::plural;

/// Sizes of all that a rank's steps work in.
#[derive(Debug)]
pub struct StepMemory {
    /// Its shared segment, and the replica of its group.
    pub segment: SegmentSizes,
    /// Whether its segment holds the replica.
    has_replica: bool,
    /// Sums over all ranks, in floats.
    pub total: usize,
    /// Layers below the first dense one, and, unless they are shared out, those from there on.
    pub sections: [SectionSizes; 2],
    /// Dense layers that are shared out.
    pub layers: Vec<LayerSizes>,
    /// The scores and flags of all ranks, in doubles.
    pub scores: usize,
    /// Squares of the units' gradients, in doubles.
    pub squares: usize,
    /// What the exchange of batch norms' sums takes.
    pub norms: NormSizes,
    /// Bytes of the norms' sums: of a micro-batch, of a step, and on their way to other ranks.
    norm_sums: usize,
    /// Bytes of the workspace.
    workspace: usize,
    /// What of all this steps touch.
    pub touched: Touched,
}

/// Bytes that the steps of a rank touch, by what they are for. The weights and the optimizer's moments are its group's, the other ranks'
/// sums and activations their own; everything else only this rank takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Touched {
    /// Weights.
    pub weights: usize,
    /// What the optimizer remembers.
    pub moments: usize,
    /// The rank's own sums of gradients.
    pub sums: usize,
    /// Activations, their gradients, packed weights and scratch memory.
    pub workspace: usize,
    /// What comes from other ranks, and what goes to them.
    pub exchange: usize,
    /// Of its neighbours' segments, and of partial sums for them in its own.
    pub neighbours: usize,
}

impl Touched {
    /// What a machine has for this rank alone.
    fn own(&self) -> usize {
        self.sums + self.workspace + self.exchange
    }
}

impl StepMemory {
    /// For a rank's part of the steps of `model` as it is divided.
    pub fn new(model: &Model, division: &Division, optimizer: OptimizerKind) -> StepMemory {
        let Division { groups, trees, units, shared, batch, capacity, .. } = division;
        let layer = |(step, strategy): &(DenseStep, Strategy)| {
            LayerSizes::new(step.dense.shape, *strategy, (*batch, *capacity), groups)
        };
        let layers: Vec<LayerSizes> = shared.iter().map(layer).collect();
        let below = units.partition_point(|unit| unit.end <= model.summed_params().end);
        let above = if shared.is_empty() { units.part(below..units.len()) } else { Units::default() };
        let scores = 2 + 2 * division.most_sums();
        let mut memory = StepMemory {
            segment: segment(model, division, optimizer, &layers),
            has_replica: groups.place() == 0,
            total: model.parameters(),
            sections: [units.part(0..below), above]
                .map(|units| SectionSizes::new(&units, &trees.groups.sums_of, groups)),
            layers,
            scores: scores * groups.size(),
            squares: units.len(),
            workspace: Workspace::bytes(model, division.room()),
            norms: division.norms,
            norm_sums: norm_sums(model, division),
            touched: Touched::default(),
        };
        memory.touched = memory.touched(model, division);
        memory
    }

    /// Bytes of all of it.
    pub fn bytes(&self) -> usize {
        let of_sections = self.sections.iter().map(|section| section.outgoing + section.incoming);
        let of_layers = self.layers.iter().map(|layer| layer.private() + layer.messages.floats());
        let floats = self.segment.floats(self.has_replica) + self.total + of_sections.chain(of_layers).sum::<usize>();
        4 * floats + 8 * (self.scores + self.squares) + self.workspace + self.norm_sums
    }

    /// Collective: whether the system would give every rank this memory, which it is asked for once, whole, and gives back; and whether every
    /// machine has what its ranks' steps touch, all together.
    ///
    /// # Errors
    /// On all ranks, where one of them or a machine has less.
    pub fn check(&self, model: &Model, comm: &dyn Communicator) -> Result<()> {
        let bytes = self.bytes();
        let place = || format!("model '{}'", model.spec.name);
        let would_be_given = Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| {
            Error::invalid(
                place(),
                format!("{}: training takes {} MB a rank", plural(model.parameters(), "weight"), bytes / 1_000_000),
                "less than the memory of this machine",
                "make its layers smaller, or train on a machine with more memory",
            )
        });
        all_agree(comm, would_be_given)?;
        let replica = if self.has_replica { self.touched.weights + self.touched.moments } else { 0 };
        let of_each = comm.allgather(&((self.touched.own() + replica) as u64).to_le_bytes());
        let ranks = comm.nodes().neighbours();
        let of_rank = |bytes: &Vec<u8>| bytes[..].try_into().map_or(0, u64::from_le_bytes);
        let touched = of_each[ranks.clone()].iter().map(of_rank).fold(0, u64::saturating_add) as usize;
        let has_room = shortage(touched.saturating_sub(swap())).map_or(Ok(()), |available| {
            let ranks = plural(ranks.len(), "rank");
            Err(Error::invalid(
                place(),
                format!("steps that take {} MB of this machine's memory for {ranks}", touched / 1_000_000),
                format!("at most the {} MB that are free", available / 1_000_000),
                "start fewer ranks a machine, use machines with more memory, or make the batch or the layers smaller",
            ))
        });
        all_agree(comm, has_room)
    }

    /// What of it is touched in steps of as many rows as there can be.
    fn touched(&self, model: &Model, division: &Division) -> Touched {
        let Division { groups, trees, shared, reduce, capacity, .. } = division;
        let pass = division.pass();
        let sum = self.segment.sums.1;
        let of_layers = |floats: &dyn Fn(&LayerSizes, &(DenseStep, Strategy)) -> usize| -> usize {
            self.layers.iter().zip(shared).map(|(layer, step)| floats(layer, step)).sum()
        };
        let published = of_layers(&|_, (step, _)| pass.rows * step.dense.shape.outputs);
        let private = of_layers(&|layer, _| layer.private());
        let ReplicaSizes { values, params, moments } = self.segment.replica;
        let mut exchange = of_layers(&|layer, _| {
            let slots = groups.received_for_node().count() * (layer.segment.slot_input + layer.segment.d_output);
            // They have room for as many rows as go through at once.
            (layer.messages.floats() + slots) * division.most_rows.min(*capacity) / capacity
        });
        let mut neighbours =
            of_layers(&|layer, (step, strategy)| of_neighbours(layer, step.dense.shape, *strategy, division));
        match reduce {
            Reduce::Mpi => exchange += self.total,
            Reduce::Tree => {
                let own: usize = self.sections.iter().map(|section| section.own().len()).sum();
                let sums: usize = trees.ranks.sums_of[groups.neighbours()].iter().sum();
                neighbours += own * (sums - trees.ranks.sums_of[groups.rank()]);
                exchange += self.sections.iter().map(|section| section.outgoing + section.incoming).sum::<usize>();
                exchange += if groups.is_multi_node() || division.limits_norm { own } else { 0 };
                let updated = of_layers(&|layer, (step, _)| layer.own.len() * step.dense.shape.outputs);
                exchange += if division.limits_norm { updated } else { 0 };
            }
        }
        let workspace = Workspace::touched_bytes(model, division.room(), pass.rows, pass.levels) + self.norm_sums;
        Touched {
            weights: 4 * values,
            moments: 4 * moments * params,
            sums: 4 * pass.sums * sum,
            workspace: workspace + 4 * (published + private),
            exchange: 4 * exchange,
            neighbours: 4 * neighbours,
        }
    }
}

/// Bytes of norms' sums, but for those in the workspace of a step's memory and in segments.
fn norm_sums(model: &Model, division: &Division) -> usize {
    let width: usize = model.norms().iter().map(Normalize::width).sum();
    8 * width * (1 + division.most_sums() + division.waiting_sums()) + PieceExchange::bytes(&division.norms)
}

/// A rank's shared segment.
fn segment(model: &Model, division: &Division, optimizer: OptimizerKind, layers: &[LayerSizes]) -> SegmentSizes {
    let Division { shared, capacity, .. } = division;
    let params = model.parameters();
    let [own, all] = division.norms.published;
    let summed = if shared.is_empty() { params } else { model.summed_params().end };
    // Who has weights of a layer writes the gradients of all rows' inputs.
    let writes = shared.iter().any(|(_, strategy)| *strategy == Strategy::Split);
    let layer = |(index, sizes): (usize, &LayerSizes)| {
        let (step, _) = &shared[index];
        // Layers that read one tensor share it.
        let is_first = shared[..index].iter().all(|(other, _)| other.input != step.input);
        let input = if is_first { Workspace::tensor_floats(model, step.input, *capacity) } else { 0 };
        LayerSegmentSizes { input, ..sizes.segment }
    };
    SegmentSizes {
        scores: 2 * (2 + 2 * division.most_sums()),
        sums: (division.most_sums() + division.waiting_sums(), summed),
        gradients: if writes { Workspace::gradient_floats(model, *capacity) } else { 0 },
        layers: layers.iter().enumerate().map(layer).collect(),
        norms: [2 * own, if division.groups.is_multi_node() { 2 * all } else { 0 }],
        replica: ReplicaSizes { values: model.values(), params, moments: Optimizer::moments(optimizer) },
    }
}

/// For a dense layer: floats that a rank reads and writes of its neighbours' segments, and of partial sums in its own.
fn of_neighbours(sizes: &LayerSizes, shape: DenseShape, strategy: Strategy, division: &Division) -> usize {
    let DenseShape { outputs, .. } = shape;
    let groups = &division.groups;
    let own = division.rows_of(groups.rank());
    let others = groups.neighbours().map(|rank| division.rows_of(rank)).sum::<usize>() - own;
    match strategy {
        Strategy::Split if groups.size() > 1 => {
            let partials = dense_forward_sums(shape, division.batch) + others * outputs;
            partials + others * (2 * sizes.own.len() + outputs)
        }
        Strategy::Factors => others * (sizes.own.len() + outputs),
        _ => 0,
    }
}
