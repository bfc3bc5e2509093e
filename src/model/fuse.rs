//! Fusion, with one rule: an operation may compute the only reader of its output too.

use super::engine::Engine;
use super::graph::{Graph, Node};
use super::ops::Op;
use crate::kernels::PoolShape;

/// `graph` with rectifiers and 2×2 max-pools behind convolutions, and rectifiers behind sums and norms, computed by these. The second engine
/// computes every operation by itself.
pub fn fuse(mut graph: Graph, engine: Engine) -> Graph {
    let mut index = 0;
    while index < graph.nodes.len() {
        let reader = graph.only_reader(graph.nodes[index].output);
        match reader.filter(|&reader| engine == Engine::Direct && swallows(&graph.nodes, index, reader)) {
            Some(reader) => {
                let swallowed = graph.nodes.remove(reader);
                let node = &mut graph.nodes[index];
                let before = std::mem::replace(&mut node.output, swallowed.output);
                match pool_of(&swallowed) {
                    Some(pool) => node.fused.pool = Some(pool),
                    None => {
                        node.fused.rectifier = swallowed.op.rectifier();
                        // Of an image that was flattened in between, the image.
                        graph.tensors[swallowed.output].shape = graph.tensors[before].shape.clone();
                    }
                }
            }
            None => index += 1,
        }
    }
    graph
}

/// Whether the operation at `index` can compute `reader` too, behind what it computes already.
fn swallows(nodes: &[Node], index: usize, reader: usize) -> bool {
    let (node, reader) = (&nodes[index], &nodes[reader]);
    let has_pool = node.fused.pool.is_some();
    let may_rectify = node.fused.rectifier.is_none() && !has_pool && reader.op.rectifier().is_some();
    match node.op {
        Op::Conv(ref conv) if conv.is_plain() => may_rectify || (!has_pool && pool_of(reader).is_some()),
        Op::Add(_) | Op::BatchNorm(_) => may_rectify,
        _ => false,
    }
}

/// A max-pool of which every input pixel lies in exactly one 2×2 window.
fn pool_of(node: &Node) -> Option<PoolShape> {
    let Op::MaxPool(pool) = &node.op else { return None };
    let shape = PoolShape::new(node.inputs[0].1.as_image().ok()?, pool.0).ok()?;
    let window = (shape.kh, shape.kw, shape.stride, shape.pad_top, shape.pad_left);
    let covers = shape.h_in == 2 * shape.h_out && shape.w_in == 2 * shape.w_out;
    (window == (2, 2, 2, 0, 0) && covers).then_some(shape)
}
