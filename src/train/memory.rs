//! What a training rank needs of the machine's memory, known before anything is allocated.

use super::{EVALUATION_BATCH, MICRO_BATCH};
use crate::error::{Error, Result};
use crate::kernels;
use crate::model::{Model, Workspace};
use crate::optim::OptimizerKind;

/// The program itself with its libraries, without MPI's. Measured: `benches/results/`.
const PROGRAM: usize = 20 << 20;

/// Bytes that a rank holds at its peak, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// Weights, and the sums of their gradients.
    pub weights_and_gradients: usize,
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
    /// For a rank that trains `rows` rows a step, in `shards` shards, and keeps `data` bytes of data.
    pub fn predict(model: &Model, rows: usize, shards: usize, optimizer: OptimizerKind, data: usize) -> Memory {
        let values = 4 * model.parameters();
        let waiting = if rows <= MICRO_BATCH { 0 } else { kernels::most_waiting(shards) };
        let moments = match optimizer {
            OptimizerKind::Sgd => 0,
            OptimizerKind::Momentum | OptimizerKind::Nesterov => 1,
            OptimizerKind::Adam | OptimizerKind::Adamw => 2,
        };
        Memory {
            weights_and_gradients: (2 + waiting) * values,
            optimizer: moments * values,
            workspace: Workspace::bytes(model, rows.clamp(EVALUATION_BATCH, MICRO_BATCH), shards),
            rows: data,
            saving: 2 * (1 + moments) * values,
            program: PROGRAM,
        }
    }

    /// Everything at once.
    pub fn total(&self) -> usize {
        self.weights_and_gradients + self.optimizer + self.workspace + self.rows + self.saving + self.program
    }
}

/// Whether the system would give a rank what training takes: it is asked for once, whole, and given back.
///
/// # Errors
/// When it would not; says how much that was.
pub fn enough_memory(model: &Model, rows_at_once: usize, shards: usize, sums: usize) -> Result<()> {
    // Weights, two moments of the optimizer, and this rank's sums.
    let bytes = Workspace::bytes(model, rows_at_once, shards) + (3 + sums) * 4 * model.parameters();
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| {
        Error::invalid(
            format!("model '{}'", model.spec.name),
            format!("{} weights: training takes {} MB a rank", model.parameters(), bytes / 1_000_000),
            "less than the memory of this machine",
            "make its layers smaller, or train on a machine with more memory",
        )
    })
}
