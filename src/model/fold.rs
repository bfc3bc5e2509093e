//! A network for use: batch norms by their running statistics, computed by the convolutions in front of them.

use std::sync::Arc;

use super::Model;
use super::engine::Engine;
use super::graph::{Graph, Node};
use super::ops::{BatchNorm, Op};
use super::params::{Initial, Param, ParamTable, Params};
use super::program::Program;
use crate::error::Result;
use crate::kernels::zeros;

/// A batch norm of a trained network: what it makes of a channel is `x · factor + shift`.
#[derive(Clone, Copy, Debug)]
pub struct UsedNorm<'a> {
    /// `[channels]`; ones where there is none.
    pub weight: Option<&'a [f32]>,
    /// `[channels]`
    pub bias: &'a [f32],
    /// The running mean `[channels]`.
    pub mean: &'a [f32],
    /// The running variance `[channels]`.
    pub variance: &'a [f32],
    /// What is added to a variance.
    pub eps: f64,
}

impl UsedNorm<'_> {
    /// Weights `[…, channels]` and biases (`[channels]`, or none) of the convolution in front, with the norm in them: computed in f64, rounded
    /// once.
    pub fn folded(&self, weight: &[f32], bias: &[f32]) -> [Vec<f32>; 2] {
        let channels = self.bias.len();
        let factor = |channel: usize| {
            let weight = self.weight.map_or(1.0, |weight| f64::from(weight[channel]));
            weight / (f64::from(self.variance[channel]) + self.eps).sqrt()
        };
        let factors: Vec<f64> = (0..channels).map(factor).collect();
        let scaled =
            weight.iter().enumerate().map(|(place, value)| (f64::from(*value) * factors[place % channels]) as f32);
        let shift = |channel: usize| {
            let own = bias.get(channel).copied().unwrap_or(0.0);
            let centred = f64::from(own) - f64::from(self.mean[channel]);
            centred.mul_add(factors[channel], f64::from(self.bias[channel])) as f32
        };
        [scaled.collect(), (0..channels).map(shift).collect()]
    }
}

/// A convolution and the norm that it computes.
struct Pair {
    /// The convolution's place among the operations.
    conv: usize,
    norm: Node,
    op: BatchNorm,
}

impl Model {
    /// The same network with each norm folded into a convolution that nothing else reads, and its weights; nothing where there is none to fold.
    /// It is for use, not for training. The second engine computes every operation by itself.
    ///
    /// # Errors
    /// Never for a model that was planned.
    pub fn folded(&self, params: &Params) -> Result<Option<(Model, Params)>> {
        let mut graph = self.graph.clone();
        let pairs = if self.engine == Engine::Direct { take_norms(&mut graph) } else { Vec::new() };
        if pairs.is_empty() {
            return Ok(None);
        }
        graph.table = table(&mut graph.nodes, &self.graph.table);
        let table: Arc<[Param]> = graph.table.clone().into();
        let mut values = zeros(table.last().map_or(0, |param| param.range.end));
        let old = |name: &str| {
            params.table.iter().find(|param| param.name == name).map(|param| &params.values[param.range.clone()])
        };
        for param in table.iter() {
            if let Some(old) = old(&param.name) {
                values[param.range.clone()].copy_from_slice(old);
            }
        }
        for Pair { conv, norm, op } in &pairs {
            let of = |places: std::ops::Range<usize>, tensor: &str| {
                let param = params.table[places].iter().find(|param| param.name.ends_with(tensor));
                param.map(|param| &params.values[param.range.clone()])
            };
            let used = UsedNorm {
                weight: of(norm.params.clone(), ".weight"),
                bias: of(norm.params.clone(), ".bias").unwrap_or_default(),
                mean: of(norm.statistics.clone(), ".running_mean").unwrap_or_default(),
                variance: of(norm.statistics.clone(), ".running_var").unwrap_or_default(),
                eps: op.eps,
            };
            let own = &table[graph.nodes[*conv].params.clone()];
            let bias = old(&own[1].name).unwrap_or_default();
            let folded = used.folded(old(&own[0].name).unwrap_or_default(), bias);
            own.iter().zip(folded).for_each(|(param, folded)| values[param.range.clone()].copy_from_slice(&folded));
        }
        let program = Program::new(graph.clone(), self.engine)?;
        let model = Model { spec: self.spec.clone(), table: table.clone(), graph, program, ..*self };
        Ok(Some((model, Params { values, table })))
    }
}

/// Takes norms out of `graph` that convolutions can compute.
fn take_norms(graph: &mut Graph) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        let input = node.inputs[0].0;
        let is_conv = |conv: &usize| matches!(graph.nodes[*conv].op, Op::Conv(_) | Op::Depthwise(_));
        let conv = graph.writer(input).filter(is_conv).filter(|_| graph.only_reader(input) == Some(index));
        let (Op::BatchNorm(op), Some(conv)) = (&node.op, conv) else {
            index += 1;
            continue;
        };
        let op = op.clone();
        let norm = graph.nodes.remove(index);
        let node = &mut graph.nodes[conv];
        node.output = norm.output;
        match &mut node.op {
            Op::Conv(conv) => conv.options.bias = Some(true),
            Op::Depthwise(conv) => conv.options.bias = Some(true),
            _ => {}
        }
        pairs.push(Pair { conv, norm, op });
    }
    pairs
}

/// The table of `nodes`, which convolutions with new biases are among; `old` is the one that they refer to.
fn table(nodes: &mut [Node], old: &[Param]) -> Vec<Param> {
    let mut table = ParamTable::default();
    for wide in [false, true] {
        for node in nodes.iter_mut().filter(|node| (node.by_rows && matches!(node.op, Op::Dense(_))) == wide) {
            let mut params = old[node.params.clone()].to_vec();
            let is_conv = matches!(node.op, Op::Conv(_) | Op::Depthwise(_));
            if let (true, [weight]) = (is_conv && has_bias(&node.op), &params[..]) {
                let outputs = weight.shape.last().copied().unwrap_or(0);
                let name = weight.name.replace(".weight", ".bias");
                let bias = Param { name, shape: vec![outputs], initial: Initial::Zeros, ..weight.clone() };
                params.push(bias);
            }
            node.params = table.take(params.iter());
        }
    }
    for node in nodes {
        node.statistics = table.take(old[node.statistics.clone()].iter());
    }
    table.params
}

/// Whether a convolution says that it has a bias.
fn has_bias(op: &Op) -> bool {
    match op {
        Op::Conv(conv) => conv.options.bias == Some(true),
        Op::Depthwise(conv) => conv.options.bias == Some(true),
        _ => false,
    }
}
