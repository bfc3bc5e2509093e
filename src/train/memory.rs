//! What a training rank needs of the machine's memory, known before anything is allocated.

use super::lockstep::{Division, OneMachine, StepMemory, cost};
use crate::comm::{Comm, Strategy};
use crate::model::{DenseStep, Model};
use crate::optim::{Optimizer, OptimizerKind};
use crate::row_count::RowCount;

/// The program with its libraries, HDF5's memory and what the allocator keeps; without and with pictures. Measured, as all of these, by
/// `benches/memory.sh`: `benches/results/2026-11-30-memory.md`.
const PROGRAM: [usize; 2] = [26_000_000, 30_500_000];

/// MPI's own memory besides, and for each rank of a machine, up to so many: Open MPI 4.1.4, on 2, 4 and 8 ranks.
const MPI: usize = 5_500_000;
const MPI_A_RANK: usize = 1_400_000;
const MPI_RANKS: usize = 4;

/// The report's page on the root, after everything is saved.
const REPORT: usize = 2_600_000;

/// What the allocator keeps of a checkpoint's memory, beside MPI's, while the report is written: one part of so many, of a checkpoint of fewer
/// bytes than these. glibc gives larger pieces back at once.
const KEPT: [usize; 2] = [3, 16 << 20];

/// What the program takes only after the plan is chosen.
const LATER: usize = 4_000_000;

/// One part of so many of what steps touch is added for peaks that scatter from run to run.
const SCATTER: usize = 100;

/// What HDF5 takes for an image of a file beyond its numbers, a tensor.
const BY_TENSOR: usize = 4096;

/// What is trained, and how: ranks of one machine.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Rows that a rank trains in a step.
    pub rows: usize,
    /// Shards of all ranks.
    pub shards: usize,
    /// Ranks.
    pub ranks: usize,
    /// How gradients travel.
    pub comm: Comm,
    /// The rows of norm groups.
    pub norm_rows: RowCount,
    /// How they change weights.
    pub optimizer: OptimizerKind,
    /// Bytes of the rows that a rank keeps.
    pub data: usize,
}

/// Bytes that a rank holds at its peak, by what they are for. What ranks of a machine share counts for each that touches it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// How dense layers' gradients travel: reduce, factors, split.
    pub dense_layers: String,
    /// Weights, and the rank's own sums of their gradients.
    pub weights_and_gradients: usize,
    /// What the rank touches of its neighbours' memory; nothing on one rank.
    pub exchange: usize,
    /// What the optimizer remembers.
    pub optimizer: usize,
    /// Activations, their gradients, packed weights and scratch memory.
    pub workspace: usize,
    /// The rows of data that the rank keeps.
    pub rows: usize,
    /// A checkpoint: a copy of weights and optimizer, and the file, built in memory; or, if more (on the root), the report, or what choosing
    /// the plan took before there was anything else.
    pub saving: usize,
    /// The program and its libraries, and a little for what peaks scatter by.
    pub program: usize,
    /// MPI's own; nothing on one rank.
    pub mpi: usize,
}

impl Memory {
    /// For the root, if it has as many subtrees as the rank that has the most.
    pub fn predict(model: &Model, case: &Case) -> Memory {
        let Case { rows, shards, ranks, comm, norm_rows, optimizer, data } = *case;
        let values = 4 * model.values();
        let machine = OneMachine { rows, shards, ranks, comm, norm_rows };
        let division = Division::of_machine(model, &machine);
        let step = StepMemory::new(model, &division, optimizer).touched;
        let moments = Optimizer::moments(optimizer);
        let has_pictures = model.graph.tensors.first().is_some_and(|input| input.shape.sizes().len() > 1);
        let saved = (1 + moments) * (2 * values + model.table.len() * BY_TENSOR);
        let kept = if ranks > 1 && (REPORT..KEPT[1]).contains(&saved) { saved / KEPT[0] } else { 0 };
        // Before steps have memory of their own.
        let guess = if machine.chooses(model) { cost::Rates::GUESS } else { 0 };
        let guess = guess.saturating_sub(LATER + step.weights + step.sums + step.moments + step.workspace);
        Memory {
            dense_layers: name(&division.shared),
            weights_and_gradients: step.weights + step.sums,
            exchange: step.exchange + step.neighbours,
            optimizer: step.moments,
            workspace: step.workspace,
            rows: data,
            saving: [saved + kept, REPORT, guess].into_iter().max().unwrap_or(saved),
            program: PROGRAM[usize::from(has_pictures)]
                + (step.weights + step.sums + step.moments + step.workspace) / SCATTER,
            mpi: if ranks > 1 { MPI + MPI_A_RANK * ranks.min(MPI_RANKS) } else { 0 },
        }
    }

    /// Each part, and what it is, for a person.
    pub fn parts(&self) -> [(usize, &'static str); 8] {
        [
            (self.weights_and_gradients, "weights and gradients"),
            (self.exchange, "of other ranks' memory"),
            (self.optimizer, "optimizer"),
            (self.workspace, "activations and scratch"),
            (self.rows, "rows of data"),
            (self.saving, "while the model is saved or reported (on the root)"),
            (self.program, "the program"),
            (self.mpi, "MPI"),
        ]
    }

    /// Everything at once.
    pub fn total(&self) -> usize {
        self.parts().iter().map(|(bytes, _)| bytes).sum()
    }
}

fn name(shared: &[(DenseStep, Strategy)]) -> String {
    let mut names: Vec<String> = shared.iter().map(|(_, one)| format!("{one:?}").to_lowercase()).collect();
    names.dedup();
    if names.is_empty() { "reduce".to_owned() } else { names.join(", ") }
}
