//! The network as it is run: every operation with its kernels, in order.

use std::ops::Range;

use super::engine::Engine;
use super::fuse::fuse;
use super::gradients::{GradientPlan, Target};
use super::graph::{Graph, LayerInfo, Node, TensorId};
use super::memory::{Memory, Purpose};
use super::ops::work::{Keeps, Work};
use super::ops::{ConvWork, Layout, Op, Site};
use super::params::Param;
use super::segments::Segments;
use super::step::{Row, Step, Steps};
use crate::error::{Error, Result};

/// What is run.
#[derive(Debug)]
pub struct Program {
    /// First to last.
    pub steps: Vec<Step>,
    /// How rows go through the steps.
    pub segments: Segments,
    /// Floats of each tensor's row, and of its gradient.
    pub rows: Vec<Row>,
    /// The logits.
    pub output: TensorId,
    /// The parameters, in order.
    pub table: Vec<Param>,
    /// The layers as a person would list them.
    pub layers: Vec<LayerInfo>,
    /// Floats of packed weights.
    pub packed: usize,
    /// The gradients, and who writes which.
    pub gradients: GradientPlan,
    /// What a training workspace holds.
    pub training: Memory,
    /// What a workspace for forward passes holds.
    pub inference: Memory,
    /// What one for forward passes holds that keeps every tensor.
    pub explanation: Memory,
}

impl Program {
    /// Of `graph`, computed by `engine`.
    ///
    /// # Errors
    /// Never for a graph whose shapes were checked.
    pub fn new(graph: Graph, engine: Engine) -> Result<Program> {
        let mut graph = fuse(graph, engine);
        let wanted = wanted_gradients(&graph);
        lay_out(&mut graph, engine, &wanted);
        let mut steps = Vec::new();
        let mut packed = 0;
        for node in &graph.nodes {
            let work = work(&graph, node, engine, &wanted).map_err(|why| {
                Error::invalid(format!("layer {} '{}'", node.number, node.op), why, "a planned layer", "report it")
            })?;
            let length = if let Work::Map(map) = &work { map.packed().next_multiple_of(16) } else { 0 };
            steps.push(Step {
                work,
                inputs: node.inputs.iter().map(|(tensor, _)| *tensor).collect(),
                output: node.output,
                held: None,
                packed: packed..packed + length,
                layer: node.layer,
                has_weights: !node.params.is_empty(),
            });
            packed += length;
        }
        let kept = hold(&graph, &mut steps);
        let segments = Segments::new(&graph);
        let rows: Vec<Row> = graph
            .tensors
            .iter()
            .map(|tensor| Row {
                sizes: tensor.shape.sizes().to_vec(),
                values: tensor.values(),
                gradients: tensor.gradients(),
            })
            .collect();
        let planned = Steps { steps: &steps, segments: &segments, rows: &rows, output: graph.output };
        let gradients = GradientPlan::new(planned, &wanted);
        let memory = |purpose: Purpose| Memory::plan(planned, &gradients, &kept, purpose);
        Ok(Program {
            training: memory(Purpose::Training),
            inference: memory(Purpose::Inference),
            explanation: memory(Purpose::Explanation),
            steps,
            segments,
            rows,
            output: graph.output,
            table: graph.table,
            layers: graph.layers,
            packed,
            gradients,
        })
    }

    /// Where the gradients of a step's inputs go; nothing where its backward pass is not wanted.
    pub fn targets(&self, step: usize) -> Option<&[Target]> {
        self.gradients.targets[step].as_deref()
    }
}

/// The tensors whose gradients are wanted: something with weights stands in front.
fn wanted_gradients(graph: &Graph) -> Vec<bool> {
    let mut wanted = vec![false; graph.tensors.len()];
    for node in &graph.nodes {
        wanted[node.output] = !node.params.is_empty() || node.inputs.iter().any(|(input, _)| wanted[*input]);
    }
    wanted
}

/// Tensors between two convolutions lie as both want them, where nobody else reads them.
fn lay_out(graph: &mut Graph, engine: Engine, wanted: &[bool]) {
    if engine != Engine::Direct {
        return;
    }
    for index in 0..graph.nodes.len() {
        let below = &graph.nodes[index];
        let above = graph.only_reader(below.output).map(|above| &graph.nodes[above]);
        let convolutions =
            above.and_then(|above| Some((convolution(graph, below, wanted)?, convolution(graph, above, wanted)?)));
        if let Some((below, above)) = convolutions {
            let output = graph.nodes[index].output;
            graph.tensors[output].layout = Some(below.layout_below(&above));
        }
    }
}

/// A convolution with its fused operations, its tensors dense.
fn convolution(graph: &Graph, node: &Node, wanted: &[bool]) -> Option<ConvWork> {
    let Op::Conv(conv) = &node.op else { return None };
    let (input, shape) = &node.inputs[0];
    let ranges = ranges(graph, node);
    Some(ConvWork::fused(conv.shape(shape).ok()?, &ranges, wanted[*input], node.fused))
}

fn ranges(graph: &Graph, node: &Node) -> Vec<Range<usize>> {
    graph.table[node.params.clone()].iter().map(|param| param.range.clone()).collect()
}

fn work(graph: &Graph, node: &Node, engine: Engine, wanted: &[bool]) -> Result<Work, String> {
    let layout = |tensor: TensorId| -> Option<Layout> { graph.tensors[tensor].layout };
    let inputs: Vec<&super::shape::Shape> = node.inputs.iter().map(|(_, shape)| shape).collect();
    node.op.work(&Site {
        inputs: &inputs,
        output: &node.shape,
        parameters: &ranges(graph, node),
        engine,
        number: node.number,
        wants_d_input: node.inputs.iter().any(|(input, _)| wanted[*input]),
        fused: node.fused,
        input_layout: layout(node.inputs[0].0),
        output_layout: layout(node.output),
    })
}

/// Lets outputs take the place of inputs where no backward pass misses what stood there. What is kept of each tensor.
fn hold(graph: &Graph, steps: &mut [Step]) -> Vec<Keeps> {
    let mut kept = vec![Keeps::Nothing; graph.tensors.len()];
    for step in steps.iter_mut() {
        match &step.work {
            Work::Map(map) => kept[step.output] = map.keeps(),
            Work::Elementwise(work) => {
                let may = |input: &usize| {
                    let tensor = step.inputs[*input];
                    let is_dense = graph.tensors[tensor].layout.is_none();
                    is_dense && graph.only_reader(tensor).is_some() && kept[tensor] <= work.overwrites()
                };
                step.held = (0..step.inputs.len().min(work.replaceable())).find(may);
                let before = step.held.map_or(Keeps::Nothing, |input| kept[step.inputs[input]]);
                kept[step.output] = work.keeps(before);
            }
            Work::View | Work::Concat(_) | Work::Scale(_) => {}
        }
    }
    kept
}
