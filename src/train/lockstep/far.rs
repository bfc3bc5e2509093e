//! What travels between groups for a dense layer that is shared out: whole rows to whoever takes them in for a group (*factors*),
//! or to every rank the stretch that it has the weights of, and its results back (*split*).

use std::ops::Range;

use super::team::Team;
use crate::comm::{CHANNELS, Wire};
use crate::kernels::{Buffer, DenseShape, Rows, RowsMut, Subtrees, dense_forward_sums, zeros};
use crate::model::Workspace;

/// Channels of a layer: inputs, gradients of outputs, partial sums, gradients of inputs, weights.
const A_LAYER: usize = 5;

/// The first of them.
const FIRST: usize = 4;

/// Dense layers that can be shared out.
pub const MOST_LAYERS: usize = (CHANNELS - FIRST) / A_LAYER;

/// What travels on a channel: of which of the layers that are shared out, if of one; and what it is, for a person.
pub fn what_travels(channel: usize) -> (Option<usize>, &'static str) {
    match channel {
        0..2 => (None, "sums below the first dense layer"),
        2..FIRST => (None, "sums from the first dense layer on"),
        _ => {
            let whats = ["inputs", "gradients of outputs", "partial sums", "gradients of inputs", "weights"];
            (Some((channel - FIRST) / A_LAYER), whats[(channel - FIRST) % A_LAYER])
        }
    }
}

/// A layer's messages.
pub struct Far {
    channel: usize,
    inputs: usize,
    /// Rows of a rank at most.
    most: usize,
    /// Where weights are split: this rank's rows, stretch by stretch, to be sent, and their gradients as they come back.
    sent: [Buffer; 2],
    /// The same stretch of other ranks' rows, and its gradients.
    taken: [Buffer; 2],
    /// Partial sums for this rank's rows.
    partials: Buffer,
    /// For each rank: where its part begins in `sent`, `taken` and `partials`.
    starts: Vec<[usize; 3]>,
}

impl Far {
    /// `split` are the stretches of the ranks, and the tree over their blocks.
    pub fn new(
        shape: DenseShape,
        layer: usize,
        most: usize,
        split: Option<(&[Range<usize>], &Subtrees)>,
        team: &Team<'_>,
    ) -> Far {
        let mut starts = vec![[0; 3]; team.size()];
        let mut ends = [0; 3];
        if let Some((slices, blocks)) = split {
            for rank in team.far_ranks() {
                starts[rank] = ends;
                let partial = blocks.sums_of[rank] * most * shape.outputs;
                let lengths = [most * slices[rank].len(), most * slices[team.rank()].len(), partial];
                ends.iter_mut().zip(lengths).for_each(|(end, length)| *end += length);
            }
        }
        let [sent, taken, partials] = ends;
        Far {
            channel: FIRST + A_LAYER * layer,
            inputs: shape.inputs,
            most,
            sent: [zeros(sent), zeros(sent)],
            taken: [zeros(taken), zeros(taken)],
            partials: zeros(partials),
            starts,
        }
    }

    /// *factors*: the rows of other groups' ranks that this rank takes in may come.
    pub fn expect_rows(&self, team: &Team<'_>, layer: usize) {
        for (rank, place) in team.taken_in() {
            for row in 0..team.rows[rank] {
                let into = &team.own().layers[layer].boxes[place][0];
                team.receive(self.channel, rank, into, row * self.inputs..(row + 1) * self.inputs);
            }
        }
    }

    /// *factors*: row `row` of this rank stands in the layer's input.
    pub fn send_row(&self, team: &Team<'_>, layer: usize, row: usize) {
        for group in team.others() {
            let from = &team.own().layers[layer].input;
            team.send(self.channel, team.receiver(group), from, row * self.inputs..(row + 1) * self.inputs);
        }
    }

    /// All rows that this rank sends and takes in have travelled.
    pub fn finish_rows(&self, team: &Team<'_>) {
        team.comm.finish(self.channel);
        team.comm.finish(self.channel + 1);
    }

    /// The gradients of the outputs of this rank's rows are shown.
    pub fn send_d_outputs(&self, team: &Team<'_>, layer: usize, outputs: usize) {
        let own = &team.own().layers[layer];
        for group in team.others() {
            let place = 0..team.own_rows() * outputs;
            team.send(self.channel + 1, team.receiver(group), &own.d_output, place);
        }
        for (rank, place) in team.taken_in() {
            team.receive(self.channel + 1, rank, &own.boxes[place][1], 0..team.rows[rank] * outputs);
        }
    }

    /// They have all come, and this rank's have gone.
    pub fn finish_d_outputs(&self, team: &Team<'_>) {
        team.comm.finish(self.channel + 1);
    }

    /// *split*: this rank's rows stand in the layer's input.
    pub fn send_inputs(&mut self, slices: &[Range<usize>], team: &Team<'_>, layer: usize) {
        let own = slices[team.rank()].len();
        let input = &team.own().layers[layer].input;
        for rank in team.far_ranks() {
            let (slice, [sent, taken, _]) = (&slices[rank], self.starts[rank]);
            let stretches = self.sent[0][sent..].chunks_exact_mut(slice.len().max(1));
            for (row, stretch) in stretches.take(team.own_rows()).enumerate() {
                stretch.copy_from_slice(&input[row * self.inputs..][slice.clone()]);
            }
            team.send(self.channel, rank, &self.sent[0], sent..sent + team.own_rows() * slice.len());
            team.receive(self.channel, rank, &self.taken[0], taken..taken + team.rows[rank] * own);
        }
    }

    /// They have all come.
    pub fn receive_inputs(&self, team: &Team<'_>) {
        team.comm.finish(self.channel);
    }

    /// The stretch `own` of the rows of a rank of another group.
    pub fn inputs(&self, rank: usize, own: &Range<usize>, rows: usize) -> Rows<'_> {
        let start = self.starts[rank][1];
        let values = &self.taken[0][start..start + self.most * own.len()];
        Rows { values, stride: own.len(), first: own.start, count: rows }
    }

    /// Where the gradients of that stretch go.
    pub fn d_inputs(&mut self, rank: usize, own: &Range<usize>, rows: usize) -> RowsMut<'_> {
        let start = self.starts[rank][1];
        let values = &mut self.taken[1][start..start + self.most * own.len()];
        RowsMut { values, stride: own.len(), first: own.start, count: rows }
    }

    /// *split*: this rank's partial sums of all rows are shown.
    pub fn send_partials(&self, blocks: &Subtrees, team: &Team<'_>, layer: usize, shape: DenseShape) {
        let mut at = 0;
        for rank in 0..team.size() {
            let rows = team.rows[rank];
            if team.near(rank).is_none() {
                let from = &team.own().layers[layer].partials;
                let floats = blocks.sums_of[team.rank()] * rows * shape.outputs;
                team.send(self.channel + 2, rank, from, at..at + floats);
                let (start, sums) = (self.starts[rank][2], blocks.sums_of[rank]);
                let floats = sums * team.own_rows() * shape.outputs;
                team.receive(self.channel + 2, rank, &self.partials, start..start + floats);
            }
            at += dense_forward_sums(shape, rows);
        }
    }

    /// They have all come.
    pub fn receive_partials(&self, team: &Team<'_>) {
        team.comm.finish(self.channel + 2);
    }

    /// The `index`-th partial sum of `len` floats from a rank of another group.
    pub fn partial(&self, rank: usize, index: usize, len: usize) -> &[f32] {
        &self.partials[self.starts[rank][2] + index * len..][..len]
    }

    /// *split*: the gradients of the inputs of all rows are there: other groups' ranks get theirs, this rank's come.
    pub fn exchange_d_inputs(&mut self, slices: &[Range<usize>], ws: &mut Workspace, team: &Team<'_>) {
        let own = slices[team.rank()].len();
        for rank in team.far_ranks() {
            let [sent, taken, _] = self.starts[rank];
            team.send(self.channel + 3, rank, &self.taken[1], taken..taken + team.rows[rank] * own);
            let floats = team.own_rows() * slices[rank].len();
            team.receive(self.channel + 3, rank, &self.sent[1], sent..sent + floats);
        }
        team.comm.finish(self.channel + 3);
        let (_, d_input) = ws.gradients_mut();
        for rank in team.far_ranks() {
            let (slice, start) = (&slices[rank], self.starts[rank][0]);
            let stretches = self.sent[1][start..].chunks_exact(slice.len().max(1));
            for (row, stretch) in stretches.take(team.own_rows()).enumerate() {
                d_input[row * self.inputs..][slice.clone()].copy_from_slice(stretch);
            }
        }
    }

    /// *split*: brings every rank's parameters (or what belongs to them) to all groups, or to the root's alone.
    pub fn collect(&self, values: &Buffer, parts: &dyn Fn(usize) -> Range<usize>, to_root: bool, team: &Team<'_>) {
        let (groups, channel) = (&team.groups, self.channel + 4);
        for group in team.others().filter(|&group| group == 0 || !to_root) {
            team.comm.send(channel, team.receiver(group), values, parts(team.rank()), Wire::F32);
        }
        if groups.mine() == 0 || !to_root {
            for (rank, _) in team.taken_in() {
                team.comm.receive(channel, rank, values, parts(rank), Wire::F32);
            }
        }
        team.comm.finish(channel);
        team.node_barrier();
    }
}
