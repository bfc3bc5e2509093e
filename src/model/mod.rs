//! The network: text to graph to program, forward, loss, backward. It does not know that ranks exist.

mod advice;
mod backward;
mod builder;
mod engine;
mod explain;
mod forward;
mod fuse;
mod gradients;
mod graph;
mod layer_times;
mod memory;
pub mod ops;
mod params;
mod predictor;
mod probe;
mod profile;
mod program;
mod segments;
pub mod room;
mod row_memory;
mod shape;
mod spec;
mod step;
mod units;
mod workspace;
pub mod zoo;

pub use backward::SumsOf;
pub use engine::Engine;
pub use explain::{Evidence, Method};
pub use forward::{DenseStep, Through};
pub use gradients::SlotId;
pub use graph::{Graph, LayerInfo, Node, Tensor, TensorId, Written};
pub use layer_times::LayerTimes;
pub use params::{Gradients, Init, Initial, Param, Params};
pub use predictor::Predictor;
pub use probe::Probe;
pub use profile::Times;
pub use shape::Shape;
pub use spec::{Block, BlockKind, Item, Join, ModelSpec};
pub use units::{UNIT_INPUTS, Units};
pub use workspace::Workspace;

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use program::Program;
use segments::Traversal;

/// A network planned for one input shape and number of classes.
#[derive(Debug)]
pub struct Model {
    /// As it was written.
    pub spec: ModelSpec,
    /// Outputs.
    pub classes: usize,
    /// The parameters.
    pub table: Arc<[Param]>,
    /// As it was written, operation by operation.
    pub graph: Graph,
    program: Program,
    /// A row of the input: `[h, w, c]`.
    input: [usize; 3],
}

impl Model {
    /// Plans `spec` for rows of `[h, w, c]`, or of `c` features where `flat`.
    ///
    /// # Errors
    /// When a layer does not fit what reaches it, or the last one does not fit the classes.
    pub fn new(spec: ModelSpec, input: [usize; 3], flat: bool, classes: usize, engine: Engine) -> Result<Model> {
        let graph = builder::build(&spec, input, flat, classes)?;
        let program = Program::new(graph.clone(), engine)?;
        Ok(Model { spec, classes, table: program.table.clone().into(), graph, program, input })
    }

    /// Number of weights and biases.
    pub fn parameters(&self) -> usize {
        self.table.last().map_or(0, |param| param.range.end)
    }

    /// The layers as a person would list them.
    pub fn layers(&self) -> &[LayerInfo] {
        &self.program.layers
    }

    /// Floating-point operations of one training row: forward, and backward without the input's gradient.
    pub fn training_flops(&self) -> u64 {
        let flops = self.program.layers.iter().map(|layer| layer.flops);
        let first = self.program.layers.iter().map(|layer| layer.flops).find(|&flops| flops > 0).unwrap_or(0);
        3 * flops.sum::<u64>() - first
    }

    /// The first step behind all that images go through in turn.
    pub fn image_steps(&self) -> usize {
        self.program.segments.image_steps()
    }

    /// All steps.
    pub fn steps(&self) -> usize {
        self.program.steps.len()
    }

    /// Whether a step takes all rows at once; else images go through it in turn.
    pub fn takes_all_rows(&self, step: usize) -> bool {
        self.program.segments.of(step).traversal == Traversal::Rows
    }

    /// Weights and biases of the steps that images go through in turn: the first ones of all.
    pub fn image_params(&self) -> Range<usize> {
        self.program.segments.image_params()
    }
}
