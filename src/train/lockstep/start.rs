//! Before the first step: what each layer takes, and the memory for it.

use std::ops::Range;

use super::Lockstep;
use super::cost::Predicted;
use super::layout::{Copy, Sizes};
use super::plan::{self, How, Plan};
use super::shared::SharedLayer;
use super::sums::{Section, Trees};
use super::team::Team;
use crate::comm::{Communicator, Nodes, Reduce, Strategy, Window, agree};
use crate::error::{Error, Result};
use crate::kernels::{Buffer, zeros};
use crate::model::{DenseStep, Gradients, Model, Params, Workspace, units};
use crate::optim::{self, Optimizer};
use crate::train::data::TrainData;
use crate::train::memory::enough_memory;

/// What is trained, on what, and as it was asked for.
struct Asked<'t> {
    model: &'t Model,
    data: &'t TrainData,
    batch: usize,
    how: &'t How,
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
        how: How,
        settings: optim::Settings,
        comm: &'a dyn Communicator,
    ) -> Result<(Lockstep<'a>, Params, Optimizer)> {
        let asked = Asked { model, data, batch, how: &how, settings };
        let apart = || Nodes::apart(comm.size(), comm.rank());
        if how.window == Window::Off || how.reduce == Reduce::Mpi || comm.nodes().count() == comm.size() {
            return Ok(Lockstep::within(&asked, comm, apart())?.expect("memory of our own"));
        }
        let refused = match Lockstep::within(&asked, comm, comm.nodes().clone())? {
            Ok(found) => return Ok(found),
            Err(refused) => refused,
        };
        if how.window == Window::On {
            let fix = "give more (docker run --shm-size=2g, mount -o remount,size=…), or say --window off";
            return Err(Error::invalid("--window on", refused, "memory that the ranks of a machine share", fix));
        }
        let found = Lockstep::within(&asked, comm, apart())?;
        let (mut lockstep, params, optimizer) = found.expect("memory of our own");
        lockstep.refused = Some(refused);
        Ok((lockstep, params, optimizer))
    }

    /// As [`Lockstep::new`], with memory shared in these groups; or what the system said where it refuses it.
    fn within(asked: &Asked<'_>, comm: &'a dyn Communicator, groups: Nodes) -> Result<Result<Started<'a>, String>> {
        let mut decided = Decided::new(asked, comm, groups);
        let sizes = decided.sizes(asked);
        agree(comm, enough_memory(asked.model, decided.capacity, decided.shards, sizes.floats(true)))?;
        let mut workspace = Workspace::for_training(asked.model, decided.capacity, decided.shards);
        let parts = match take_memory(&sizes, &decided.team) {
            Ok(parts) => parts,
            Err(refused) => return Ok(Err(refused)),
        };
        let mut copy = decided.place(&sizes, &parts, &mut workspace);
        let lockstep = decided.lockstep(asked, workspace);
        lockstep.clear(&mut copy);
        let params = Params { values: copy.params, table: asked.model.table.clone() };
        Ok(Ok((lockstep, params, Optimizer::within(asked.settings, copy.moments))))
    }

    /// Collective: a run begins with zeros, which MPI does not promise. Each rank writes what it updates: memory lies near the one who
    /// touches it first.
    fn clear(&self, copy: &mut Copy) {
        let sections = self.sections.iter().map(Section::own);
        for own in sections.chain(self.layers.iter().flat_map(SharedLayer::own_params)) {
            copy.params[own.clone()].fill(0.0);
            copy.moments.iter_mut().for_each(|moments| moments[own.clone()].fill(0.0));
        }
        self.team.meet();
    }
}

/// Collective: the greatest of the ranks' numbers.
fn greatest(comm: &dyn Communicator, number: usize) -> usize {
    let number_of = |bytes: &Vec<u8>| bytes[..].try_into().map(u64::from_le_bytes).unwrap_or(0) as usize;
    comm.gather(&(number as u64).to_le_bytes()).iter().map(number_of).max().unwrap_or(number)
}

/// What all ranks do, before any of them takes memory for it.
struct Decided<'a> {
    team: Team<'a>,
    trees: Trees,
    plan: Plan,
    units: Vec<Range<usize>>,
    /// Sums of gradients that the rank with the most of them brings, and those that wait for their other half.
    sums: (usize, usize),
    /// Rows of the greatest micro-batch of any rank.
    capacity: usize,
    /// Shards of this rank.
    shards: usize,
}

impl<'a> Decided<'a> {
    /// Collective.
    fn new(asked: &Asked<'_>, comm: &'a dyn Communicator, groups: Nodes) -> Decided<'a> {
        let Asked { model, data, batch, how, settings } = asked;
        let team = Team::new(comm, groups, how.wire);
        let all = &data.train.shards;
        let ends = |rank: usize| all.owned(rank, comm.size()).end;
        let mut trees = Trees::default();
        trees.plant(&vec![1; all.count()], &ends, &team);
        let most_sums = |of: &[usize]| of.iter().copied().max().unwrap_or(1).max(1);
        let own = if how.reduce == Reduce::Tree { most_sums(&trees.ranks.sums_of) } else { 1 };
        let units = units(&model.table);
        let norm = if settings.clip_norm.is_some() { units.len() } else { 0 };
        let plan = plan::choose(model, (*batch, all.count()), how, norm, &team);
        let waiting = if plan.shared.is_empty() { greatest(comm, data.sums_that_wait(*batch)) } else { 0 };
        let capacity = greatest(comm, data.rows_at_once(*batch));
        let shards = all.owned(comm.rank(), comm.size()).len();
        Decided { team, trees, plan, units, sums: (own, waiting), capacity, shards }
    }

    /// How much a rank shows the others.
    fn sizes(&self, asked: &Asked<'_>) -> Sizes {
        let Decided { team, plan, sums: (own, waiting), capacity, shards, .. } = self;
        let model = asked.model;
        let (buffers, gradients) = Workspace::lengths(model, *capacity, *shards);
        let params = model.parameters();
        let summed = if plan.shared.is_empty() { params } else { model.image_params().end };
        let writes = plan.shared.iter().any(|(_, strategy)| *strategy == Strategy::Split);
        let rows = (asked.batch, *capacity);
        let layer = |(step, strategy): &(DenseStep, Strategy)| {
            SharedLayer::sizes(step, *strategy, rows, team, buffers[step.input])
        };
        Sizes {
            scores: 2 * (2 + 2 * own),
            sums: (own + waiting, summed),
            gradients: if writes { gradients } else { 0 },
            layers: plan.shared.iter().map(layer).collect(),
            params: (params, Optimizer::moments(asked.settings.kind)),
        }
    }

    /// Puts into memory that others see what they read of this rank's workspace. The group's copy of what is trained.
    fn place(&mut self, sizes: &Sizes, parts: &[Buffer], workspace: &mut Workspace) -> Copy {
        let Decided { team, plan, .. } = self;
        team.areas = parts.iter().map(|part| sizes.cut(part)).collect();
        for (index, (step, _)) in plan.shared.iter().enumerate() {
            workspace.place_buffer(step.input, team.own().layers[index].input.alias());
        }
        if sizes.gradients > 0 {
            workspace.place_gradients([0, 1].map(|turn| team.own().gradients[turn].alias()));
        }
        sizes.cut_copy(&parts[0])
    }

    /// All of it, ready for the first step.
    fn lockstep(self, asked: &Asked<'_>, workspace: Workspace) -> Lockstep<'a> {
        let Decided { team, trees, plan, units, sums: (own, _), capacity, .. } = self;
        let model = asked.model;
        let (below, above) = units.split_at(units.partition_point(|unit| unit.end <= model.image_params().end));
        let above = if plan.shared.is_empty() { above } else { &[] };
        let of_groups = &trees.groups.sums_of;
        let rows = (asked.batch, capacity);
        let layers = plan.shared.iter().cloned().enumerate();
        Lockstep {
            sums: team.own().sums.iter().map(|sum| Gradients::within(sum.alias())).collect(),
            total: zeros(model.parameters()),
            rows: Vec::new(),
            rows_of_each: Vec::new(),
            sections: [Section::new(below, 0, of_groups, &team), Section::new(above, 2, of_groups, &team)],
            layers: layers.map(|(index, (step, how))| SharedLayer::new(step, how, index, rows, &team)).collect(),
            told: vec![0.0; (2 + 2 * own) * team.size()],
            squares: vec![0.0; units.len()],
            units,
            agreed: None,
            refused: None,
            predicted: (0, Predicted::default()),
            trees,
            workspace,
            team,
            how: asked.how.clone(),
            plan,
        }
    }
}

/// Collective: the memory of this group's ranks; where one group is refused, all are.
fn take_memory(sizes: &Sizes, team: &Team<'_>) -> Result<Vec<Buffer>, String> {
    // A rank that is alone asks, too, where others share: on its machine they may.
    let mine = match team.groups.count() == team.size() {
        true => Ok(vec![zeros(sizes.floats(true))]),
        false => team.comm.share(sizes.floats(team.groups.place() == 0)),
    };
    let said = mine.as_ref().err().cloned().unwrap_or_default();
    let all = team.comm.gather(said.as_bytes());
    match all.iter().find(|said| !said.is_empty()) {
        Some(said) => Err(String::from_utf8_lossy(said).into_owned()),
        None => mine,
    }
}
