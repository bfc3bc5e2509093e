//! The exchange plan: which strategy each layer takes.

use std::time::Instant;

use super::cost::{Linear, Link, Predicted, Rates, Shape, best, predict};
use super::link::Measured;
use super::point_to_point::MOST_LAYERS;
use super::setting::{Setting, most_rows};
use crate::comm::{Comm, Communicator, Nodes, Reduce, SharedWindow, Strategy, Wire};
use crate::kernels::{self, DENSE_BLOCK, zeros};
use crate::model::{DenseStep, Model};
use crate::plural::plural;
use crate::row_count::RowCount;
use crate::train::micro_batch::MICRO_BATCH;

/// How gradients are exchanged, as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct ExchangeConfig {
    /// In the fixed tree, or by MPI's own sum.
    pub reduce: Reduce,
    /// The strategy of dense layers.
    pub comm: Comm,
    /// Whether ranks of a machine share memory.
    pub window: SharedWindow,
    /// The width of numbers between machines.
    pub wire: Wire,
    /// The rows of norm groups.
    pub norm_rows: RowCount,
    /// What [`Comm::Auto`] came to when the run began, where its weights depend on it: it goes on so.
    pub recorded: Option<Vec<Strategy>>,
}

/// How all ranks exchange the gradients of each layer.
#[derive(Debug)]
pub struct ExchangePlan {
    /// The dense layers that are shared out, from below; where there are none, all layers are summed.
    pub shared: Vec<(DenseStep, Strategy)>,
    /// What the cost model wants to know.
    case: (Shape, Setting, Link),
    /// What was measured between two machines.
    measured: Option<Measured>,
}

/// Whether a dense layer can take this strategy on so many ranks: every rank of a split one has a whole block at least.
pub fn can_take(step: &DenseStep, strategy: Strategy, ranks: usize) -> bool {
    strategy != Strategy::Split || step.dense.shape.inputs.div_ceil(DENSE_BLOCK) >= ranks
}

/// Whether dense layers can be shared out at all: all rows of a step must go through a rank's network at once.
pub fn can_share(steps: &[DenseStep], setting: &Setting) -> bool {
    let most = most_rows(setting.batch, setting.shards, setting.ranks);
    most <= MICRO_BATCH && !steps.is_empty() && steps.len() <= MOST_LAYERS
}

/// All dense layers by one strategy; those that cannot be split by *factors*.
pub fn all_by(strategy: Strategy, steps: &[DenseStep], ranks: usize) -> Vec<Strategy> {
    let or_factors = |step| if can_take(step, strategy, ranks) { strategy } else { Strategy::Factors };
    steps.iter().map(or_factors).collect()
}

/// The strategies of dense layers for what was asked for; none where all are summed. `best` is asked where it is left open.
pub fn decide(
    comm: Comm,
    steps: &[DenseStep],
    setting: &Setting,
    best: impl FnOnce() -> Vec<Strategy>,
) -> Vec<Strategy> {
    match comm {
        _ if !can_share(steps, setting) => Vec::new(),
        Comm::Reduce => Vec::new(),
        // A lone rank works as if its weights were split among one.
        _ if setting.ranks == 1 => all_by(Strategy::Split, steps, 1),
        Comm::Factors => all_by(Strategy::Factors, steps, setting.ranks),
        Comm::Split => all_by(Strategy::Split, steps, setting.ranks),
        Comm::Auto => best(),
    }
}

/// What of a run decides its plan, besides the ranks.
#[derive(Clone, Copy)]
pub struct PlanRequest<'t> {
    /// Rows of a step.
    pub batch: usize,
    /// The shards that they come from.
    pub shards: usize,
    /// Parts that the norm of the gradient is summed over, where it is limited.
    pub norm: usize,
    /// What was asked for.
    pub config: &'t ExchangeConfig,
}

/// Collective: what is done with the dense layers in a run's steps, with memory shared in these groups.
pub fn choose(model: &Model, request: &PlanRequest<'_>, comm: &dyn Communicator, groups: &Nodes) -> ExchangePlan {
    let PlanRequest { batch, shards, norm, config } = *request;
    let steps = model.dense_steps();
    let (members, machines) = (comm.nodes().members(), comm.nodes().count());
    let setting = Setting {
        batch,
        shards,
        ranks: comm.size(),
        on_machine: members,
        cores: members as f64,
        window: groups.members() > 1,
        wire: config.wire,
        norm_rows: config.norm_rows,
        norm,
    };
    let shape = Shape::of(model);
    let measured = (machines > 1).then(|| Measured::between_machines(comm));
    let between = measured.map_or(Link { latency: 1e-5, bandwidth: 1e10 }, |measured| measured.link);
    let strategies =
        decide(if config.reduce == Reduce::Mpi { Comm::Reduce } else { config.comm }, &steps, &setting, || {
            let may = |layer: usize, strategy: Strategy| can_take(&steps[layer], strategy, comm.size());
            let fits = |found: &&Vec<Strategy>| {
                let all =
                    found.iter().enumerate().all(|(layer, &strategy)| layer < steps.len() && may(layer, strategy));
                all && (found.is_empty() || found.len() == steps.len())
            };
            if let Some(recorded) = config.recorded.as_ref().filter(fits) {
                return recorded.clone();
            }
            broadcast_strategies(comm, steps.len(), || best(&shape, &Rates::guess(model), &between, &setting, &may))
        });
    ExchangePlan { shared: steps.into_iter().zip(strategies).collect(), case: (shape, setting, between), measured }
}

/// Groups and strategies (none: all layers are summed), as a run records them where its weights depend on them.
pub fn record(strategies: &[Strategy], groups: &Nodes) -> String {
    let sizes: Vec<String> = (0..groups.count()).map(|group| groups.ranks(group).len().to_string()).collect();
    let layers: Vec<String> = strategies.iter().map(|strategy| format!("{strategy:?}").to_lowercase()).collect();
    let layers = if layers.is_empty() { "reduce".to_owned() } else { layers.join(", ") };
    format!("dense layers by {layers}, groups of {} ranks", sizes.join(", "))
}

/// The strategies of a plan that [`record`] wrote.
pub fn recorded(plan: &str) -> Option<Vec<Strategy>> {
    let (layers, _) = plan.strip_prefix("dense layers by ")?.split_once(", groups of ")?;
    if layers == "reduce" {
        return Some(Vec::new());
    }
    let strategy = |name: &str| match name {
        "factors" => Some(Strategy::Factors),
        "split" => Some(Strategy::Split),
        _ => None,
    };
    layers.split(", ").map(strategy).collect()
}

/// Groups of so many ranks, for a person.
fn groups_of(sizes: &[usize]) -> String {
    /// So many are listed.
    const SHOWN: usize = 8;
    let (least, most) = (sizes.iter().copied().min().unwrap_or(0), sizes.iter().copied().max().unwrap_or(0));
    let each = match sizes {
        _ if least == most => most.to_string(),
        _ if sizes.len() <= SHOWN => sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(" + "),
        _ => format!("{least} to {most}"),
    };
    format!("{} of {each} {}", plural(sizes.len(), "node group"), if most == 1 { "rank" } else { "ranks" })
}

/// Collective: what the root decides.
fn broadcast_strategies(
    comm: &dyn Communicator,
    layers: usize,
    decide: impl FnOnce() -> Vec<Strategy>,
) -> Vec<Strategy> {
    let own = if comm.is_root() { decide() } else { Vec::new() };
    let bytes = comm.broadcast(own.iter().map(|&strategy| strategy as u8).collect());
    let strategy = |&byte: &u8| Strategy::ALL[usize::from(byte)];
    bytes.iter().take(layers).map(strategy).collect()
}

impl Rates {
    /// Bytes that [`Rates::guess`] writes to.
    pub const GUESS: usize = 4 * Rates::FLOATS;

    /// More than caches hold.
    const FLOATS: usize = 1 << 22;

    /// From what this core does at best, measured in a few milliseconds: good enough to choose by. `glasses plan` measures the
    /// kernels themselves.
    pub fn guess(model: &Model) -> Rates {
        let seconds = |work: &mut dyn FnMut()| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        };
        let mut flops = 0.0;
        let chains = &mut || flops = kernels::fma_chains(1 << 14, std::hint::black_box(1.0)).0 as f64;
        let flop = (0..3).map(|_| seconds(chains)).fold(f64::MAX, f64::min) / flops;
        let (mut sum, values) = (zeros(Rates::FLOATS), zeros(Rates::FLOATS));
        // The first time takes the pages.
        kernels::add(&mut sum, &values);
        let float = seconds(&mut || kernels::add(&mut sum, &values)) / Rates::FLOATS as f64;
        let by_image = model.layers().iter().map(|layer| layer.flops).sum::<u64>() as f64
            - Shape::of(model).dense.iter().map(|(dense, _)| 2.0 * (dense.inputs * dense.outputs) as f64).sum::<f64>();
        let row = |passes: f64| Linear { fixed: 0.0, a_row: passes * by_image * flop };
        let weight = |traffic: f64| Linear { fixed: traffic * float, a_row: 2.0 * flop };
        Rates {
            images: [row(1.0), row(2.0)],
            dense: [weight(0.5), weight(0.5), weight(1.0)],
            merge: float,
            update: float,
            node_barrier: 2e-6,
            byte: float / 4.0,
        }
    }
}

impl ExchangePlan {
    /// Who computes a step.
    pub fn setting(&self) -> &Setting {
        &self.case.1
    }

    /// What a step of `rows` rows is predicted to move.
    pub fn predict(&self, rows: usize) -> Predicted {
        let (shape, setting, link) = &self.case;
        let strategies: Vec<Strategy> = self.shared.iter().map(|(_, strategy)| *strategy).collect();
        predict(shape, &strategies, &Rates::default(), link, &Setting { batch: rows, ..*setting })
    }

    /// For a person.
    pub fn describe(&self, model: &Model, groups: &Nodes, config: &ExchangeConfig) -> String {
        let sizes: Vec<usize> = (0..groups.count()).map(|group| groups.ranks(group).len()).collect();
        let ranks = match sizes[..] {
            [one] if one > 1 => format!("in the shared memory of {one} ranks"),
            _ if sizes.iter().all(|&size| size == 1) => "by messages".to_owned(),
            _ => format!("in shared memory, {}, and by messages between them", groups_of(&sizes)),
        };
        let link = self.measured.map_or(String::new(), |measured| format!(" ({measured})"));
        let rows = |(step, strategy): &(DenseStep, Strategy)| {
            let name = &model.layers()[step.layer].layer;
            format!("{name} by {}", format!("{strategy:?}").to_lowercase())
        };
        let layers = match (config.reduce, self.shared.is_empty()) {
            (Reduce::Mpi, _) => "all layers by MPI's own sum".to_owned(),
            (_, true) => "all layers by reduce".to_owned(),
            _ => self.shared.iter().map(rows).chain(["the others by reduce".to_owned()]).collect::<Vec<_>>().join(", "),
        };
        let Predicted { sent, shared, norm_exchanges, .. } = self.predict(self.case.1.batch);
        let norms = match norm_exchanges {
            0 => String::new(),
            1 => "; running statistics of batch norms in one exchange a step".to_owned(),
            exchanges => format!("; sums of batch norms in {exchanges} exchanges a step"),
        };
        let wire = if config.wire == Wire::Bf16 { ", bfloat16 between machines" } else { "" };
        format!(
            "gradients {ranks}{link}: {layers}{wire}{norms}; {:.2} MB sent and {:.2} MB read a step by the root",
            sent / 1e6,
            shared / 1e6
        )
    }
}
