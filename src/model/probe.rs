//! Digests of what each shard brings to a step: its loss, the sums of its gradients below the first dense layer, and the
//! rows (input, gradient of the output) of the dense layers, of which their weights' gradient is made. Off, it costs a
//! branch a layer.

use std::hash::Hasher;

use twox_hash::XxHash3_64;

use crate::kernels::{Leaf, Score};

/// What is known of the shards of a step so far.
#[derive(Debug, Default)]
pub struct Probe {
    on: bool,
    /// The shard of the micro-batch's first leaf, counted over those that have rows, and whether its leaves end in it.
    pub(super) first: usize,
    pub(super) whole: bool,
    shards: Vec<Shard>,
}

/// One shard with rows in the step.
#[derive(Clone, Default)]
struct Shard {
    /// A digest a layer above: row by row, so that micro-batches do not matter.
    layers: Vec<XxHash3_64>,
    /// The loss and the gradients below.
    rest: XxHash3_64,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} layers", self.layers.len())
    }
}

impl Probe {
    /// From now on, steps of `shards` shards with rows are watched.
    pub fn start(&mut self, shards: usize) {
        self.on = true;
        self.shards.clear();
        self.shards.resize(shards, Shard::default());
    }

    /// Ends it: the digest of each shard.
    pub fn finish(&mut self) -> Vec<u64> {
        self.on = false;
        let digest = |mut shard: Shard| {
            shard.layers.iter().for_each(|layer| shard.rest.write_u64(layer.finish()));
            shard.rest.finish()
        };
        self.shards.drain(..).map(digest).collect()
    }

    /// Which shards the next micro-batch is of: from the `first` on, and whether it completes them.
    pub fn at(&mut self, first: usize, whole: bool) {
        (self.first, self.whole) = (first, whole);
    }

    /// The loss of a leaf of the micro-batch.
    pub(super) fn score(&mut self, leaf: usize, score: Score) {
        if self.on && self.whole {
            let rest = &mut self.shards[self.first + leaf].rest;
            rest.write_u64(score.loss_sum.to_bits());
            rest.write_u64(score.correct);
        }
    }

    /// The gradients of a leaf below the first dense layer.
    pub(super) fn gradients(&mut self, leaf: usize, sum: &[f32]) {
        if self.on && self.whole {
            self.shards[self.first + leaf].rest.write(bytemuck::cast_slice(sum));
        }
    }

    /// The rows of leaves, from the `first` of the micro-batch on, at a dense layer, the `layer`-th from above: `input [rows, inputs]`, `d_output [rows,
    /// outputs]`.
    pub(super) fn rows(&mut self, layer: usize, first: usize, leaves: &[Leaf], input: &[f32], d_output: &[f32]) {
        if !self.on {
            return;
        }
        let rows = leaves.last().map_or(0, |leaf| leaf.end);
        let (inputs, outputs) = (input.len() / rows, d_output.len() / rows);
        let mut start = 0;
        for (leaf, shard) in leaves.iter().zip(&mut self.shards[self.first + first..]) {
            if shard.layers.len() <= layer {
                shard.layers.resize(layer + 1, XxHash3_64::default());
            }
            for row in start..leaf.end {
                shard.layers[layer].write(bytemuck::cast_slice(&input[row * inputs..(row + 1) * inputs]));
                shard.layers[layer].write(bytemuck::cast_slice(&d_output[row * outputs..(row + 1) * outputs]));
            }
            start = leaf.end;
        }
    }
}
