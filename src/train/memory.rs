//! What a training rank needs of the machine's memory, known before anything is allocated.

use super::{EVALUATION_BATCH, MICRO_BATCH};
use crate::error::{Error, Result};
use crate::kernels::{self, Subtrees};
use crate::model::{Model, Workspace};
use crate::optim::{Optimizer, OptimizerKind};

/// The program itself with its libraries, without MPI's. Measured: `benches/results/`.
const PROGRAM: usize = 20 << 20;

/// Bytes that a rank holds at its peak, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// Weights, and the sums of their gradients.
    pub weights_and_gradients: usize,
    /// The slice of all ranks' sums that a rank joins; nothing on one rank.
    pub exchange: usize,
    /// What the optimizer remembers.
    pub optimizer: usize,
    /// Activations, their gradients, packed weights and scratch memory.
    pub workspace: usize,
    /// The rows of data that the rank keeps.
    pub rows: usize,
    /// A checkpoint: a copy of weights and optimizer, and the file, built in memory (on the root).
    pub saving: usize,
    /// The program and its libraries, without MPI's.
    pub program: usize,
}

impl Memory {
    /// For one of `ranks` ranks with `shards` shards together (the one with the most subtrees), that trains `rows` rows a
    /// step and keeps `data` bytes of data.
    pub fn predict(
        model: &Model,
        rows: usize,
        (shards, ranks): (usize, usize),
        optimizer: OptimizerKind,
        data: usize,
    ) -> Memory {
        let values = 4 * model.parameters();
        let mut tree = Subtrees::default();
        tree.plant(&vec![1; shards], (1..=ranks).map(|end| end * shards / ranks), 0);
        let sums = tree.sums_of.iter().copied().max().unwrap_or(1);
        let exchange = if ranks > 1 { model.parameters().div_ceil(ranks) * (1 + tree.joins.len()) } else { 0 };
        let shards = shards.div_ceil(ranks);
        let waiting = if rows <= MICRO_BATCH { 0 } else { kernels::most_waiting(shards) };
        let moments = Optimizer::moments(optimizer);
        Memory {
            weights_and_gradients: (1 + sums + waiting) * values,
            exchange: 4 * exchange,
            optimizer: moments * values,
            workspace: Workspace::bytes(model, rows.clamp(EVALUATION_BATCH, MICRO_BATCH), shards),
            rows: data,
            saving: 2 * (1 + moments) * values,
            program: PROGRAM,
        }
    }

    /// Everything at once.
    pub fn total(&self) -> usize {
        let Memory { weights_and_gradients, exchange, optimizer, workspace, rows, saving, program } = *self;
        weights_and_gradients + exchange + optimizer + workspace + rows + saving + program
    }
}

/// Whether the system would give a rank what training takes: it is asked for once, whole, and given back.
///
/// # Errors
/// When it would not; says how much that was.
pub fn enough_memory(model: &Model, rows_at_once: usize, shards: usize, shown: usize) -> Result<()> {
    // What it shows others, parameters and the optimizer's moments among it, and the sums over all ranks.
    let bytes = Workspace::bytes(model, rows_at_once, shards) + 4 * (model.parameters() + shown);
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| {
        Error::invalid(
            format!("model '{}'", model.spec.name),
            format!("{} weights: training takes {} MB a rank", model.parameters(), bytes / 1_000_000),
            "less than the memory of this machine",
            "make its layers smaller, or train on a machine with more memory",
        )
    })
}
