//! Before the first step: what each layer takes, and the memory for it.

use std::ops::Range;

use super::Lockstep;
use super::cost::Predicted;
use super::factors::SharedLayer;
use super::plan::{self, ExchangeConfig, ExchangePlan};
use super::reduce::{Section, Trees};
use super::shared_memory::{Replica, SegmentSizes};
use super::topology::Topology;
use crate::comm::{Communicator, Nodes, Reduce, SharedWindow, Strategy, all_agree};
use crate::error::{Error, Result};
use crate::kernels::{Buffer, zeros};
use crate::model::{DenseStep, Gradients, Model, Params, Workspace, units};
use crate::optim::{self, Optimizer};
use crate::train::data::TrainData;
use crate::train::memory::enough_memory;

/// The network, the data, and the run's settings of the exchange and of the optimizer.
struct Requested<'t> {
    model: &'t Model,
    data: &'t TrainData,
    batch: usize,
    config: &'t ExchangeConfig,
    settings: optim::Settings,
}

/// A rank's part of the step, with its parameters and the optimizer.
type Started<'a> = (Lockstep<'a>, Params, Optimizer);

impl<'a> Lockstep<'a> {
    /// Collective: the memory for steps of `batch` rows over all ranks, the parameters (zeros) and the optimizer.
    ///
    /// # Errors
    /// When the system would not give the memory, or what was asked for does not go together.
    pub fn new(
        model: &Model,
        data: &TrainData,
        batch: usize,
        config: ExchangeConfig,
        settings: optim::Settings,
        comm: &'a dyn Communicator,
    ) -> Result<(Lockstep<'a>, Params, Optimizer)> {
        let requested = Requested { model, data, batch, config: &config, settings };
        let apart = || Nodes::apart(comm.size(), comm.rank());
        if config.window == SharedWindow::Off || config.reduce == Reduce::Mpi || comm.nodes().count() == comm.size() {
            return Ok(Lockstep::within(&requested, comm, apart())?.expect("memory of our own"));
        }
        let refused = match Lockstep::within(&requested, comm, comm.nodes().clone())? {
            Ok(found) => return Ok(found),
            Err(refused) => refused,
        };
        if config.window == SharedWindow::On {
            let fix = "give more (docker run --shm-size=2g, mount -o remount,size=…), or pass --window off";
            return Err(Error::invalid("--window on", refused, "memory that the ranks of a machine share", fix));
        }
        let found = Lockstep::within(&requested, comm, apart())?;
        let (mut lockstep, params, optimizer) = found.expect("memory of our own");
        lockstep.refused = Some(refused);
        Ok((lockstep, params, optimizer))
    }

    /// As [`Lockstep::new`], with memory shared in these groups; or the system's message, where it refuses the memory.
    fn within(
        requested: &Requested<'_>,
        comm: &'a dyn Communicator,
        groups: Nodes,
    ) -> Result<Result<Started<'a>, String>> {
        let mut decision = Decision::new(requested, comm, groups);
        let sizes = decision.sizes(requested);
        all_agree(comm, enough_memory(requested.model, decision.capacity, decision.shards, sizes.floats(true)))?;
        let mut workspace = Workspace::for_training(requested.model, decision.capacity, decision.shards);
        let parts = match take_memory(&sizes, &decision.topology) {
            Ok(parts) => parts,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut replica = decision.place(&sizes, &parts, &mut workspace);
        let lockstep = decision.lockstep(requested, workspace);
        lockstep.clear(&mut replica);
        let params = Params { values: replica.params, table: requested.model.table.clone() };
        Ok(Ok((lockstep, params, Optimizer::within(requested.settings, replica.moments))))
    }

    /// Collective: a run begins with zeros, which MPI does not promise. Each rank writes what it updates: memory lies near the one who
    /// touches it first.
    fn clear(&self, replica: &mut Replica) {
        let sections = self.sections.iter().map(Section::own);
        for own in sections.chain(self.layers.iter().flat_map(SharedLayer::own_params)) {
            replica.params[own.clone()].fill(0.0);
            replica.moments.iter_mut().for_each(|moments| moments[own.clone()].fill(0.0));
        }
        self.topology.node_barrier();
    }
}

/// Collective: the greatest of the ranks' numbers.
fn greatest(comm: &dyn Communicator, number: usize) -> usize {
    let number_of = |bytes: &Vec<u8>| bytes[..].try_into().map(u64::from_le_bytes).unwrap_or(0) as usize;
    comm.allgather(&(number as u64).to_le_bytes()).iter().map(number_of).max().unwrap_or(number)
}

/// The topology and the plan of all ranks, before any of them takes memory for it.
struct Decision<'a> {
    topology: Topology<'a>,
    trees: Trees,
    plan: ExchangePlan,
    units: Vec<Range<usize>>,
    /// Sums of gradients that the rank with the most of them brings, and those that wait for their other half.
    sums: (usize, usize),
    /// Rows of the greatest micro-batch of any rank.
    capacity: usize,
    /// Shards of this rank.
    shards: usize,
}

impl<'a> Decision<'a> {
    /// Collective.
    fn new(requested: &Requested<'_>, comm: &'a dyn Communicator, groups: Nodes) -> Decision<'a> {
        let Requested { model, data, batch, config, settings } = requested;
        let topology = Topology::new(comm, groups, config.wire);
        let all = &data.train.shards;
        let ends = |rank: usize| all.owned(rank, comm.size()).end;
        let mut trees = Trees::default();
        trees.build(&vec![1; all.count()], &ends, &topology);
        let most_sums = |of: &[usize]| of.iter().copied().max().unwrap_or(1).max(1);
        let own = if config.reduce == Reduce::Tree { most_sums(&trees.ranks.sums_of) } else { 1 };
        let units = units(&model.table);
        let norm = if settings.clip_norm.is_some() { units.len() } else { 0 };
        let plan = plan::choose(model, (*batch, all.count()), config, norm, &topology);
        let waiting = if plan.shared.is_empty() { greatest(comm, data.sums_that_wait(*batch)) } else { 0 };
        let capacity = greatest(comm, data.rows_at_once(*batch));
        let shards = all.owned(comm.rank(), comm.size()).len();
        Decision { topology, trees, plan, units, sums: (own, waiting), capacity, shards }
    }

    /// Sizes of a rank's shared segment.
    fn sizes(&self, requested: &Requested<'_>) -> SegmentSizes {
        let Decision { topology, plan, sums: (own, waiting), capacity, .. } = self;
        let model = requested.model;
        let params = model.parameters();
        let summed = if plan.shared.is_empty() { params } else { model.image_params().end };
        let writes = plan.shared.iter().any(|(_, strategy)| *strategy == Strategy::Split);
        let rows = (requested.batch, *capacity);
        let layer = |(index, (step, strategy)): (usize, &(DenseStep, Strategy))| {
            let is_first = plan.shared[..index].iter().all(|(other, _)| other.input != step.input);
            let input = if is_first { Workspace::tensor_floats(model, step.input, *capacity) } else { 0 };
            SharedLayer::sizes(step, *strategy, rows, topology, input)
        };
        SegmentSizes {
            scores: 2 * (2 + 2 * own),
            sums: (own + waiting, summed),
            gradients: if writes { Workspace::gradient_floats(model, *capacity) } else { 0 },
            layers: plan.shared.iter().enumerate().map(layer).collect(),
            params: (params, Optimizer::moments(requested.settings.kind)),
        }
    }

    /// Places what the neighbours read of this rank's workspace in its shared segment. Returns the group's replica.
    fn place(&mut self, sizes: &SegmentSizes, parts: &[Buffer], workspace: &mut Workspace) -> Replica {
        let Decision { topology, plan, .. } = self;
        topology.segments = parts.iter().map(|part| sizes.segment(part)).collect();
        for (index, (step, _)) in plan.shared.iter().enumerate() {
            // Layers that read one tensor share it.
            let first = plan.shared.iter().position(|(other, _)| other.input == step.input).unwrap_or(index);
            for segment in &mut topology.segments {
                segment.layers[index].input = segment.layers[first].input.alias();
            }
            workspace.place_tensor(step.input, &topology.own().layers[index].input);
        }
        if sizes.gradients > 0 {
            workspace.place_gradients(&topology.own().gradients);
        }
        sizes.replica(&parts[0])
    }

    /// The lockstep, ready for the first step.
    fn lockstep(self, requested: &Requested<'_>, workspace: Workspace) -> Lockstep<'a> {
        let Decision { topology, trees, plan, units, sums: (own, _), capacity, .. } = self;
        let model = requested.model;
        let (below, above) = units.split_at(units.partition_point(|unit| unit.end <= model.image_params().end));
        let above = if plan.shared.is_empty() { above } else { &[] };
        let of_groups = &trees.groups.sums_of;
        let rows = (requested.batch, capacity);
        let layers = plan.shared.iter().cloned().enumerate();
        Lockstep {
            sums: topology.own().sums.iter().map(|sum| Gradients::within(sum.alias())).collect(),
            total: zeros(model.parameters()),
            rows: Vec::new(),
            rows_of_each: Vec::new(),
            sections: [Section::new(below, 0, of_groups, &topology), Section::new(above, 2, of_groups, &topology)],
            layers: layers
                .map(|(index, (step, strategy))| SharedLayer::new(step, strategy, index, rows, &topology))
                .collect(),
            gathered: vec![0.0; (2 + 2 * own) * topology.size()],
            squares: vec![0.0; units.len()],
            units,
            agreed: None,
            refused: None,
            predicted: (0, Predicted::default()),
            trees,
            workspace,
            topology,
            config: requested.config.clone(),
            plan,
        }
    }
}

/// Collective: the segments of this group's ranks; where the system refuses one group, all ranks get its message.
fn take_memory(sizes: &SegmentSizes, topology: &Topology<'_>) -> Result<Vec<Buffer>, String> {
    // A rank that is alone asks, too, where others share: on its machine they may.
    let mine = match topology.groups.count() == topology.size() {
        true => Ok(vec![zeros(sizes.floats(true))]),
        false => topology.comm.allocate_shared(sizes.floats(topology.groups.place() == 0)),
    };
    let refused = mine.as_ref().err().cloned().unwrap_or_default();
    let all = topology.comm.allgather(refused.as_bytes());
    match all.iter().find(|refused| !refused.is_empty()) {
        Some(refused) => Err(String::from_utf8_lossy(refused).into_owned()),
        None => mine,
    }
}
