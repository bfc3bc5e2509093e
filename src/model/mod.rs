//! The network: text to graph to program, forward, loss, backward. It does not know that ranks exist.

mod advice;
mod backward;
mod backward_step;
mod builder;
mod engine;
mod explain;
mod fold;
mod forward;
mod fuse;
mod gradients;
mod graph;
mod keys;
mod layer_times;
mod leaves;
mod memory;
mod norms;
pub mod ops;
mod params;
mod predictor;
mod probe;
mod profile;
mod program;
mod segments;
pub mod room;
mod refusal;
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
pub use fold::UsedNorm;
pub use forward::DenseStep;
pub use gradients::SlotId;
pub use graph::{Graph, LayerInfo, Node, Tensor, TensorId, Written};
pub use layer_times::LayerTimes;
pub use norms::{Alone, Group, GroupLeaf, Grouping, NormRoom, NormSum, NormSums, Norms, Peers, Through};
pub use params::{Gradients, Init, Initial, Param, Params};
pub use predictor::Predictor;
pub use probe::Probe;
pub use profile::Times;
pub use shape::Shape;
pub use spec::{Block, BlockKind, Item, Join, ModelSpec};
pub use units::{UNIT_INPUTS, Units};
pub use workspace::{StepRoom, Workspace};

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use ops::Normalize;
use ops::work::Work;
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
    /// Who computes.
    engine: Engine,
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
        Ok(Model { spec, classes, engine, table: program.table.clone().into(), graph, program, input })
    }

    /// Number of weights and biases: what is optimised.
    pub fn parameters(&self) -> usize {
        Param::weights(&self.table).last().map_or(0, |param| param.range.end)
    }

    /// Number of all values that a trained network is: weights, biases and, behind them, running statistics.
    pub fn values(&self) -> usize {
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

    /// The weights whose gradients are summed shard by shard: all but those of dense layers that take all rows at once. The first ones.
    pub fn summed_params(&self) -> Range<usize> {
        0..self.program.summed
    }

    /// Whether any layer is a norm.
    pub fn has_norms(&self) -> bool {
        self.graph.nodes.iter().any(|node| node.op.is_norm())
    }

    /// The batch norms, in the order of the steps.
    pub fn norms(&self) -> &[Normalize] {
        &self.program.norms
    }

    /// The steps behind which the sums of each norm are known.
    pub fn norm_steps(&self) -> impl Iterator<Item = usize> + '_ {
        let is_norm = |(index, step): (usize, &step::Step)| matches!(step.work, Work::Statistics(_)).then_some(index);
        self.program.steps.iter().enumerate().filter_map(is_norm)
    }
}
