//! What a step of ranks of one machine touches of memory, before there is any: as `start.rs`, `pass.rs` and `reduce.rs` divide it.

use super::cost::{Link, Rates, Shape, best};
use super::factors::SharedLayer;
use super::plan::{can_take, decide};
use super::setting::Setting;
use super::topology::{input_units, share_out, stretch};
use crate::comm::{Comm, Strategy, Wire};
use crate::kernels::{DenseShape, Leaf, ReductionTree, dense_forward_sums};
use crate::model::{DenseStep, Model};
use crate::train::micro_batch::next_run;

/// Floats of one rank, but for its workspace.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    /// The strategy of each dense layer; none where all layers are summed.
    pub strategies: Vec<Strategy>,
    /// Its own sums of gradients.
    pub sums: usize,
    /// What it reads and writes of its neighbours' segments.
    pub exchange: usize,
    /// What it has of its own for dense layers that are shared out.
    pub layers: usize,
    /// Sums of shards below the first dense layer that stand side by side.
    pub levels: usize,
    /// Rows that go through the network at once, forward and backward.
    pub at_once: usize,
}

/// Of the rank with the most sums, where each of `ranks` ranks has `rows` rows of a step, at most `capacity` of them at once, from
/// `shards` shards together.
pub fn footprint(
    model: &Model,
    (rows, capacity): (usize, usize),
    (shards, ranks): (usize, usize),
    comm: Comm,
) -> Footprint {
    let batch = rows * ranks;
    let steps = model.dense_steps();
    let on_machine = Setting {
        batch,
        shards,
        ranks,
        on_machine: ranks,
        cores: ranks as f64,
        window: ranks > 1,
        wire: Wire::F32,
        norm: 0,
    };
    let strategies = decide(comm, &steps, &on_machine, || {
        let may = |layer: usize, strategy: Strategy| can_take(&steps[layer], strategy, ranks);
        // Nothing travels between machines.
        let link = Link { latency: 1e-5, bandwidth: 1e10 };
        best(&Shape::of(model), &Rates::guess(model), &link, &on_machine, &may)
    });
    let trees = |me: usize| {
        let mut tree = ReductionTree::default();
        tree.build(&vec![batch.div_ceil(shards); shards], (1..=ranks).map(|end| end * shards / ranks), me);
        tree
    };
    let sums_of = trees(0).sums_of;
    let most = (0..ranks).max_by_key(|&rank| sums_of[rank]).unwrap_or(0);
    let tree = trees(most);
    let (levels, depth, at_once) = match strategies.is_empty() {
        true => run_by_run(&tree.own, capacity),
        false => (deepest(&tree.own), sums_of[most], rows),
    };
    let summed = if strategies.is_empty() { model.parameters() } else { model.image_params().end };
    let Shape { units: [below, above], .. } = Shape::of(model);
    let above = if strategies.is_empty() { above } else { Vec::new() };
    let lane = [below, above].iter().map(|units| share_out(units, ranks)[0].len()).sum::<usize>();
    let shared: Vec<(&DenseStep, Strategy)> = steps.iter().zip(strategies.iter().copied()).collect();
    let exchanged = |(step, strategy): &(&DenseStep, Strategy)| of_neighbours(step.dense.shape, *strategy, rows, ranks);
    let own = |(step, _): &(&DenseStep, Strategy)| {
        SharedLayer::own_floats(step.dense.shape, batch, capacity).iter().sum::<usize>()
    };
    Footprint {
        sums: depth * summed,
        exchange: lane * (tree.merges.len() - sums_of[most]) + shared.iter().map(exchanged).sum::<usize>(),
        layers: shared.iter().map(own).sum(),
        levels,
        at_once,
        strategies,
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

/// The same inside a micro-batch, and over all of them; the most rows of one.
fn run_by_run(leaves: &[Leaf], capacity: usize) -> (usize, usize, usize) {
    let (mut inside, mut most, mut rows, mut depth, mut next, mut start, mut run) = (0, 0, 0, 0, 0, 0, Vec::new());
    while next < leaves.len() {
        let (count, merges) = next_run(&leaves[next..], start, capacity, &mut run);
        let end = leaves[next + count - 1].end;
        rows = rows.max((end - start).min(capacity));
        (next, start) = (next + count, end);
        inside = inside.max(deepest(&run));
        most = most.max(depth + 1);
        depth = depth + 1 - merges;
    }
    (inside, most, rows)
}

/// For a dense layer: what a rank publishes besides its inputs, and what it reads from its neighbours' segments.
fn of_neighbours(shape: DenseShape, strategy: Strategy, rows: usize, ranks: usize) -> usize {
    let DenseShape { inputs, outputs } = shape;
    let others = (ranks - 1) * rows;
    let published = rows * outputs;
    match strategy {
        Strategy::Split if ranks > 1 => {
            let stretch = stretch(inputs, ranks - 1, ranks).len();
            let partials = dense_forward_sums(shape, ranks * rows) + others * outputs;
            published + partials + others * (2 * stretch + outputs)
        }
        Strategy::Factors => published + others * (share_out(&input_units(inputs), ranks)[0].len() + outputs),
        _ => published,
    }
}
