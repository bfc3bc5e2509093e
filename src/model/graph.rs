//! The network as a graph: operations on tensors. It holds shapes, never memory.

use std::ops::Range;

use super::ops::{Fused, Layout, Op};
use super::params::Param;
use super::shape::Shape;

/// A tensor's place among those of the graph.
pub type TensorId = usize;

/// A network for one shape of input.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The operations, each behind those whose outputs it reads.
    pub nodes: Vec<Node>,
    /// The tensors; the first is the input.
    pub tensors: Vec<Tensor>,
    /// The logits.
    pub output: TensorId,
    /// The parameters, in order.
    pub table: Vec<Param>,
    /// The layers as a person would list them.
    pub layers: Vec<LayerInfo>,
    /// The same layers as they were written.
    pub written: Vec<Written>,
}

/// A layer as it was written, those that only change a shape among them.
#[derive(Clone, Debug)]
pub struct Written {
    /// What it does.
    pub op: Op,
    /// What other programs call it: `layer1.0.conv1` of a network that names its blocks, else `conv0`.
    pub key: String,
    /// The layers that it reads, by their numbers; the network's input has none. With the shapes of what they give.
    pub inputs: Vec<(Option<usize>, Shape)>,
    /// The shape of its output.
    pub output: Shape,
}

/// What operations read and write: a row each.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The sizes of a row.
    pub shape: Shape,
    /// How a row lies in memory, where that is not densely.
    pub layout: Option<Layout>,
}

impl Tensor {
    /// Floats of a row, borders included.
    pub fn values(&self) -> usize {
        self.layout.map_or_else(|| self.shape.len(), |layout| layout.value.len())
    }

    /// Floats of a row's gradient, borders included.
    pub fn gradients(&self) -> usize {
        self.layout.map_or_else(|| self.shape.len(), |layout| layout.gradient.len())
    }
}

/// An operation of the graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// What it computes besides.
    pub fused: Fused,
    /// The tensors that it reads, and their shapes as it reads them.
    pub inputs: Vec<(TensorId, Shape)>,
    /// The tensor that it writes.
    pub output: TensorId,
    /// Its shape, without what is fused.
    pub shape: Shape,
    /// The places of its weights in the table.
    pub params: Range<usize>,
    /// Those of its running statistics.
    pub statistics: Range<usize>,
    /// Its number in the flattened list of layers.
    pub number: usize,
    /// Its place in [`Graph::layers`].
    pub layer: usize,
    /// Whether it can only begin when all rows have come: a dense layer, and what reads one.
    pub by_rows: bool,
}

/// One layer as a person would list it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LayerInfo {
    /// The block that it stands in, as in `layer2[0].residual`; nothing outside of all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub block: String,
    /// As written in the model.
    pub layer: String,
    /// The output's shape: `[h, w, c]` or `[d]`.
    pub output: Vec<usize>,
    /// Weights and biases.
    pub parameters: usize,
    /// Floating-point operations of a forward pass of one row.
    pub flops: u64,
    /// Rows and columns at the end of its input that no window sees; nothing where all are seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<[usize; 2]>,
}

impl Graph {
    /// The operations that read `tensor`, one of them as often as it reads it.
    pub fn readers(&self, tensor: TensorId) -> impl Iterator<Item = usize> + '_ {
        let reads = move |(index, node): (usize, &Node)| {
            let times = node.inputs.iter().filter(|(input, _)| *input == tensor).count();
            std::iter::repeat_n(index, times)
        };
        self.nodes.iter().enumerate().flat_map(reads)
    }

    /// The only operation that reads `tensor`, if there is one.
    pub fn only_reader(&self, tensor: TensorId) -> Option<usize> {
        let mut readers = self.readers(tensor);
        readers.next().filter(|_| readers.next().is_none() && tensor != self.output)
    }

    /// The operation that writes `tensor`; none writes the input.
    pub fn writer(&self, tensor: TensorId) -> Option<usize> {
        self.nodes.iter().position(|node| node.output == tensor)
    }
}
