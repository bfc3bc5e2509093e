//! Sums of batch norms over ranks: pieces of groups in the shared segments of a node, one message each way between nodes, merged in the
//! order of the tree over shards on every rank.

use std::cell::{Cell, RefCell};

use super::factors::SharedLayer;
use super::norm_groups::{NormGroups, NormSizes};
use super::point_to_point::NORMS;
use super::reduce::Trees;
use super::topology::Topology;
use crate::comm::Wire;
use crate::model::{NormSum, NormSums, Peers, Through};
use crate::stopwatch::Stopwatch;
use crate::trace::What;

/// The pieces of groups on their way to all ranks.
#[derive(Debug, Default)]
pub struct PieceExchange {
    /// Which of two places of the segment the next exchange takes: neighbours may still read the other one.
    turn: Cell<usize>,
    /// Merged sums, `[pieces, width]`, and their rows.
    waiting: RefCell<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    sums: Vec<f64>,
    rows: Vec<usize>,
}

/// What is exchanged.
#[derive(Clone, Copy, Debug)]
pub struct Exchanged {
    /// How sums are merged.
    pub kind: NormSum,
    /// Numbers of each.
    pub width: usize,
    /// Of which step of the program, counted from 1; 0 for the running statistics.
    pub about: usize,
}

/// Pieces with `rows` rows each that are merged with so many of those before them.
struct Pieces<'a> {
    merges: &'a [usize],
    rows: &'a [usize],
}

impl Waiting {
    /// Merges `pieces`; how many sums are left.
    fn merge<'p>(
        &mut self,
        kind: NormSum,
        width: usize,
        pieces: Pieces<'_>,
        piece: impl Fn(usize) -> &'p [f64],
    ) -> usize {
        let Waiting { sums, rows } = self;
        let mut depth = 0;
        for (index, &merges) in pieces.merges.iter().enumerate() {
            sums[depth * width..(depth + 1) * width].copy_from_slice(piece(index));
            rows[depth] = pieces.rows[index];
            depth += 1;
            for _ in 0..merges {
                depth -= 1;
                let (left, right) = sums.split_at_mut(depth * width);
                kind.merge(rows[depth - 1], &mut left[(depth - 1) * width..], (rows[depth], &right[..width]));
                rows[depth - 1] += rows[depth];
            }
        }
        depth
    }
}

impl PieceExchange {
    /// Room for these.
    pub fn new(sizes: &NormSizes) -> PieceExchange {
        let waiting = Waiting { sums: vec![0.0; sizes.published[1]], rows: vec![0; sizes.pieces] };
        PieceExchange { turn: Cell::new(0), waiting: RefCell::new(waiting) }
    }

    /// Bytes of that room.
    pub fn bytes(sizes: &NormSizes) -> usize {
        8 * (sizes.published[1] + sizes.pieces)
    }

    /// Collective: what all ranks' pieces of `trees` become; `totals` gets one sum a group. The bytes that this rank read from its
    /// neighbours' segments.
    pub fn run<'s>(
        &self,
        topology: &Topology<'_>,
        trees: &Trees,
        exchanged: Exchanged,
        pieces: impl Iterator<Item = &'s [f64]>,
        totals: &mut [f64],
    ) -> u64 {
        let Exchanged { kind, width, about } = exchanged;
        let turn = self.turn.replace(1 - self.turn.get());
        let mut own = topology.own().norms[turn].alias();
        let published = bytemuck::cast_slice_mut::<f32, f64>(&mut own).chunks_exact_mut(width);
        published.zip(pieces).for_each(|(published, piece)| published.copy_from_slice(piece));
        topology.node_barrier();
        let mut waiting = self.waiting.borrow_mut();
        let is_first = topology.groups.place() == 0;
        if topology.is_multi_node() {
            if is_first {
                exchange_nodes(topology, trees, exchanged, turn, &mut waiting);
            }
            topology.node_barrier();
        }
        let began = topology.trace.now();
        let left = if topology.is_multi_node() {
            let all = bytemuck::cast_slice::<f32, f64>(&topology.segments[0].node_norms);
            let pieces = Pieces { merges: &trees.groups.merges, rows: &trees.groups.rows_of };
            waiting.merge(kind, width, pieces, |piece| &all[piece * width..(piece + 1) * width])
        } else {
            let pieces = Pieces { merges: &trees.ranks.merges, rows: &trees.ranks.rows_of };
            waiting.merge(kind, width, pieces, |piece| rank_piece(topology, trees, turn, width, piece))
        };
        totals.copy_from_slice(&waiting.sums[..left * width]);
        // The first rank of a node reads its neighbours' pieces, the others what it made of them, where there are several nodes.
        let neighbours = trees.sums_of_node(&topology.groups) - trees.ranks.sums_of[topology.rank()];
        let pieces = if topology.is_multi_node() && !is_first { trees.groups.merges.len() } else { neighbours };
        let read = (8 * width * pieces) as u64;
        topology.trace.end(began, What::Norm, about, [read, 0, 0, 0]);
        read
    }
}

/// The first rank of a node merges the pieces of its ranks, and exchanges them with the first ranks of other nodes.
fn exchange_nodes(topology: &Topology<'_>, trees: &Trees, exchanged: Exchanged, turn: usize, waiting: &mut Waiting) {
    let Exchanged { kind, width, .. } = exchanged;
    let groups = &topology.groups;
    let neighbours = groups.neighbours();
    let own = trees.before(neighbours.start)..trees.before(neighbours.end);
    let pieces = Pieces { merges: &trees.inside[own.clone()], rows: &trees.ranks.rows_of[own] };
    let left = waiting.merge(kind, width, pieces, |piece| rank_piece(topology, trees, turn, width, piece));
    let start = |node: usize| trees.groups.sums_of[..node].iter().sum::<usize>() * width;
    let mine = start(groups.mine());
    let mut all = topology.segments[0].node_norms.alias();
    let merged = &waiting.sums[..left * width];
    bytemuck::cast_slice_mut::<f32, f64>(&mut all)[mine..mine + merged.len()].copy_from_slice(merged);
    // Two floats hold one number; they are never rounded.
    let floats = |node: usize| 2 * start(node)..2 * start(node + 1);
    for node in groups.other_groups() {
        let rank = groups.ranks(node).start;
        topology.comm.send(NORMS, rank, &all, floats(groups.mine()), Wire::F32);
        topology.comm.receive(NORMS, rank, &all, floats(node), Wire::F32);
    }
    topology.comm.finish(NORMS);
}

/// The `piece`-th piece of this node's ranks, as its rank published it.
fn rank_piece<'t>(topology: &'t Topology<'_>, trees: &Trees, turn: usize, width: usize, mut piece: usize) -> &'t [f64] {
    let ranks = topology.groups.neighbours();
    for rank in ranks.clone() {
        let count = trees.ranks.sums_of[rank];
        if piece < count {
            let published = &topology.segments[rank - ranks.start].norms[turn];
            return &bytemuck::cast_slice::<f32, f64>(published)[piece * width..(piece + 1) * width];
        }
        piece -= count;
    }
    &[]
}

/// A norm as its sums are exchanged.
#[derive(Clone, Copy, Debug)]
pub struct NormStep {
    /// Numbers of its sums.
    pub width: usize,
    /// The step of the program behind which they are.
    pub step: usize,
}

/// What a pass of this rank's rows has to do with other ranks.
pub struct StepPeers<'p, 'a> {
    pub topology: &'p Topology<'a>,
    /// Dense layers by *factors*, whose rows go to other nodes as soon as they are there.
    pub layers: &'p [SharedLayer],
    pub groups: &'p NormGroups,
    pub exchange: &'p PieceExchange,
    /// The norms of the network.
    pub steps: &'p [NormStep],
    /// The seconds of the exchanges.
    pub seconds: f64,
    /// Bytes read from neighbours' segments.
    pub read: u64,
}

impl Peers for StepPeers<'_, '_> {
    fn image_forward(&mut self, through: Through) {
        for layer in self.layers.iter().filter(|layer| layer.sends_rows(self.topology)) {
            if layer.step.ready == through.steps {
                layer.send_row(self.topology, through.row);
            }
        }
        self.topology.comm.progress();
    }

    fn image_backward(&mut self) {
        self.topology.comm.progress();
    }

    fn exchange(&mut self, sums: NormSums<'_>) {
        let NormSums { norm, kind, pieces, totals } = sums;
        if !self.groups.span_ranks {
            return totals.copy_from_slice(pieces);
        }
        let mut stopwatch = Stopwatch::start();
        let trees = &self.groups.trees[self.groups.of[norm]].trees;
        let NormStep { width, step } = self.steps[norm];
        let exchanged = Exchanged { kind, width, about: step + 1 };
        self.read += self.exchange.run(self.topology, trees, exchanged, pieces.chunks_exact(width), totals);
        stopwatch.lap(&mut self.seconds);
    }
}
