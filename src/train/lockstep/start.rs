//! Before the first step: what each layer takes is decided, the memory for it is asked for and taken.

use super::Lockstep;
use super::cost::Predicted;
use super::division::Division;
use super::factors::SharedLayer;
use super::norms::StepNorms;
use super::plan::{self, ExchangeConfig, ExchangePlan, PlanRequest};
use super::reduce::Section;
use super::shared_memory::{Replica, SegmentSizes};
use super::step_memory::StepMemory;
use super::topology::Topology;
use crate::comm::{Communicator, Nodes, Reduce, SharedWindow};
use crate::error::{Error, Result};
use crate::kernels::{Buffer, zeros};
use crate::model::{Gradients, Model, Params, Units, Workspace};
use crate::optim::{self, Optimizer};
use crate::train::data::TrainData;

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
        let Requested { model, .. } = requested;
        let mut decision = Decision::new(requested, comm, groups);
        decision.memory.check(model, comm)?;
        let mut workspace = Workspace::for_steps(model, decision.division.room());
        let parts = match take_segments(&decision.memory.segment, &decision.topology) {
            Ok(parts) => parts,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut replica = decision.place(&parts, &mut workspace);
        let lockstep = decision.lockstep(requested, workspace);
        lockstep.clear(&mut replica);
        let params = Params { values: replica.params, table: model.table.clone() };
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
        if self.writes_params() {
            let first = self.memory.segment.replica.params;
            replica.params[first..].fill(0.0);
        }
        self.topology.node_barrier();
    }
}

/// The topology, the plan of all ranks and a rank's part of it, before any of them takes memory for it.
struct Decision<'a> {
    topology: Topology<'a>,
    plan: ExchangePlan,
    division: Division,
    memory: StepMemory,
}

impl<'a> Decision<'a> {
    /// Collective.
    fn new(requested: &Requested<'_>, comm: &'a dyn Communicator, groups: Nodes) -> Decision<'a> {
        let Requested { model, data, batch, config, settings } = *requested;
        let norm = if settings.clip_norm.is_some() { Units::of_params(&model.table).len() } else { 0 };
        let request = PlanRequest { batch, shards: data.train.shards.count(), norm, config };
        let plan = plan::choose(model, &request, comm, &groups);
        let division = Division::of_run(model, data, &plan, config, groups.clone());
        let memory = StepMemory::new(model, &division, settings.kind);
        Decision { topology: Topology::new(comm, groups, config.wire), plan, division, memory }
    }

    /// Places what the neighbours read of this rank's workspace in its shared segment. Returns the group's replica.
    fn place(&mut self, parts: &[Buffer], workspace: &mut Workspace) -> Replica {
        let Decision { topology, plan, memory: StepMemory { segment: sizes, .. }, .. } = self;
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
        let Decision { topology, plan, division, memory } = self;
        let layers = plan.shared.iter().cloned().zip(&memory.layers).enumerate();
        Lockstep {
            sums: topology.own().sums.iter().map(|sum| Gradients::within(sum.alias())).collect(),
            total: zeros(memory.total),
            rows: Vec::new(),
            rows_of_each: Vec::new(),
            sections: [Section::new(&memory.sections[0], 0), Section::new(&memory.sections[1], 2)],
            layers: layers
                .map(|(index, ((step, strategy), sizes))| SharedLayer::new(step, strategy, index, sizes))
                .collect(),
            gathered: vec![0.0; memory.scores],
            squares: vec![0.0; memory.squares],
            digest_units: Units::of_tensors(&requested.model.table),
            norms: StepNorms::new(requested.model, requested.config.norm_rows, &memory),
            units: division.units,
            agreed: None,
            refused: None,
            predicted: (0, Predicted::default()),
            trees: division.trees,
            workspace,
            topology,
            config: requested.config.clone(),
            plan,
            memory,
        }
    }
}

/// Collective: the segments of this group's ranks; where the system refuses one group, all ranks get its message.
fn take_segments(sizes: &SegmentSizes, topology: &Topology<'_>) -> Result<Vec<Buffer>, String> {
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
