//! The network as it is run: every operation with its kernels, in order.

use std::ops::Range;

use super::engine::Engine;
use super::fuse::fuse;
use super::gradients::{GradientPlan, Target};
use super::graph::{Graph, LayerInfo, Node, TensorId};
use super::memory::{Memory, Purpose};
use super::ops::work::{Keeps, Work};
use super::ops::{ConvWork, Layout, Normalize, Op, Site};
use super::params::Param;
use super::segments::{PlannedStep, Segments};
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
    /// The weights, in order, and the running statistics.
    pub table: Vec<Param>,
    /// The norms.
    pub norms: Vec<Normalize>,
    /// Floats of the weights whose gradients are summed shard by shard: the first ones.
    pub summed: usize,
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
        let mut wanted = wanted_gradients(&graph);
        lay_out(&mut graph, engine, &wanted);
        let rows = graph.tensors.iter().map(|tensor| Row {
            sizes: tensor.shape.sizes().to_vec(),
            values: tensor.values(),
            gradients: tensor.gradients(),
        });
        let mut growing = Growing { rows: rows.collect(), ..Growing::default() };
        for node in &graph.nodes {
            let work = work(&graph, node, engine, &wanted).map_err(|why| {
                Error::invalid(format!("layer {} '{}'", node.number, node.op), why, "a planned layer", "report it")
            })?;
            match work {
                Work::Normalize(norm) => growing.norm(&graph, node, norm, &mut wanted),
                work => growing.step(&graph, node, work, node.inputs.iter().map(|(tensor, _)| *tensor).collect()),
            }
        }
        let Growing { mut steps, planned, rows, norms, packed } = growing;
        let kept = hold(&graph, &mut steps, rows.len());
        let segments = Segments::new(planned.into_iter());
        let planned = Steps { steps: &steps, segments: &segments, rows: &rows, output: graph.output };
        let gradients = GradientPlan::new(planned, &wanted);
        let memory = |purpose: Purpose| Memory::plan(planned, &gradients, &kept, purpose);
        Ok(Program {
            training: memory(Purpose::Training),
            inference: memory(Purpose::Inference),
            explanation: memory(Purpose::Explanation),
            summed: summed(&graph),
            steps,
            norms,
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

/// The steps of a program, one behind the other.
#[derive(Default)]
struct Growing {
    steps: Vec<Step>,
    planned: Vec<PlannedStep>,
    rows: Vec<Row>,
    norms: Vec<Normalize>,
    packed: usize,
}

impl Growing {
    /// A norm: its statistics, which write nothing but a name for its input behind them, and what reads that.
    fn norm(&mut self, graph: &Graph, node: &Node, mut norm: Normalize, wanted: &mut Vec<bool>) {
        norm.norm = self.norms.len();
        let (input, known) = (node.inputs[0].0, self.rows.len());
        self.rows.push(self.rows[input].clone());
        wanted.push(!node.params.is_empty() || wanted[input]);
        self.norms.push(norm.clone());
        self.step(graph, node, Work::Statistics(norm.clone()), vec![input]);
        if let (Some(step), Some(planned)) = (self.steps.last_mut(), self.planned.last_mut()) {
            (step.output, step.held, planned.ends) = (known, Some(0), true);
        }
        self.step(graph, node, Work::Normalize(norm), vec![known]);
        if let (Some(step), Some(planned)) = (self.steps.last_mut(), self.planned.last_mut()) {
            (step.params, planned.params, planned.weights) = (0..0, 0..0, 0);
        }
    }

    fn step(&mut self, graph: &Graph, node: &Node, work: Work, inputs: Vec<TensorId>) {
        let length = match &work {
            Work::Map(map) => map.packed().next_multiple_of(16),
            Work::Normalize(norm) => norm.width().next_multiple_of(16),
            _ => 0,
        };
        let params = &graph.table[node.params.clone()];
        let (first, last) = (params.first(), params.last());
        let params = first.zip(last).map_or(0..0, |(first, last)| first.range.start..last.range.end);
        let is_dense = matches!(node.op, Op::Dense(_));
        let maps = node.inputs.iter().map(|(input, _)| *input).chain([node.output]);
        self.planned.push(PlannedStep {
            by_rows: node.by_rows,
            params: params.clone(),
            // Dense layers that make factors of an image's channels are small.
            weights: if is_dense { 0 } else { params.len() },
            maps: maps.map(|tensor| graph.tensors[tensor].shape.len()).sum(),
            ends: false,
        });
        self.steps.push(Step {
            work,
            inputs,
            output: node.output,
            held: None,
            packed: self.packed..self.packed + length,
            layer: node.layer,
            params,
            sums_leaves: is_dense,
        });
        self.packed += length;
    }
}

/// Floats of the weights whose gradients are summed shard by shard: all but those of dense layers that take all rows at once.
fn summed(graph: &Graph) -> usize {
    let is_wide = |node: &&Node| node.by_rows && matches!(node.op, Op::Dense(_));
    let wide = graph.nodes.iter().filter(is_wide).filter_map(|node| graph.table.get(node.params.start));
    let weights = Param::weights(&graph.table).last().map_or(0, |param| param.range.end);
    wide.map(|param| param.range.start).min().unwrap_or(weights)
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

/// A plain convolution with its fused operations, its tensors dense.
fn convolution(graph: &Graph, node: &Node, wanted: &[bool]) -> Option<ConvWork> {
    let Op::Conv(conv) = &node.op else { return None };
    if !conv.is_plain() {
        return None;
    }
    let (input, shape) = &node.inputs[0];
    let ranges = ranges(graph, node);
    Some(ConvWork::fused(conv.shape(shape).ok()?, &ranges, wanted[*input], node.fused))
}

fn ranges(graph: &Graph, node: &Node) -> Vec<Range<usize>> {
    let both = graph.table[node.params.clone()].iter().chain(&graph.table[node.statistics.clone()]);
    both.map(|param| param.range.clone()).collect()
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

/// Lets outputs take the place of inputs where no backward pass misses what stood there. What is kept of each of `tensors` tensors.
fn hold(graph: &Graph, steps: &mut [Step], tensors: usize) -> Vec<Keeps> {
    let mut kept = vec![Keeps::Nothing; tensors];
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
            // It is its input.
            Work::Statistics(_) => kept[step.output] = Keeps::Value,
            Work::Normalize(norm) => {
                kept[step.output] = if norm.rectifier.is_some() { Keeps::Sign } else { Keeps::Nothing };
            }
            Work::View | Work::Concat(_) | Work::Scale(_) => {}
        }
    }
    kept
}
