//! From a model's text to its graph: every layer is checked against the shape that reaches it.

use super::advice::{advice, differ, join_advice};
use super::graph::{Graph, LayerInfo, Node, Tensor, TensorId, Written};
use super::keys::{KeyPath, keys};
use super::ops::{Add, Concat, Fused, Op, Parameter, Scale};
use super::params::{Param, ParamTable};
use super::refusal::{Refusal, layer_place};
use super::shape::{MOST_VALUES, Shape};
use super::spec::{Block, BlockKind, Item, Join, ModelSpec};
use crate::error::{Error, Result};

/// The most layers of a network, repeats counted.
const MOST_LAYERS: usize = 1 << 12;

/// How deep blocks may stand in one another.
const MOST_DEPTH: usize = 16;

/// A tensor as the next layer sees it.
#[derive(Clone, Debug)]
struct Value {
    tensor: TensorId,
    /// The layer that gives it; none gives the network's input.
    layer: Option<usize>,
    shape: Shape,
    by_rows: bool,
}

/// Of `spec`, for rows of `[h, w, c]` (`flat`: of `c` features) and `classes` classes.
///
/// # Errors
/// When a layer does not fit what reaches it; names the layer and both shapes.
pub fn build(spec: &ModelSpec, input: [usize; 3], flat: bool, classes: usize) -> Result<Graph> {
    let model = |found: String, expected: String, fix: &str| {
        Error::invalid(format!("model '{}'", spec.name), found, expected, fix)
    };
    if let Some(wanted) = spec.input.filter(|wanted| *wanted != input) {
        return Err(model(
            format!("data of shape {}", Shape::image(input)),
            format!("its own input {}", Shape::image(wanted)),
            "ingest the pictures with that --size, or take 'input' out of the model",
        ));
    }
    if classes == 0 {
        return Err(model("data without classes".to_owned(), "at least one".to_owned(), "name the classes"));
    }
    let shape = if flat { Shape::vector(input[2]) } else { Shape::image(input) };
    Shape::image(input).checked().map_err(|_| {
        let found = format!("an input {} of more than 2^33 values", Shape::image(input));
        model(found, "one that fits into memory".to_owned(), "take smaller rows")
    })?;
    let (graph, value) = Builder::build(spec, &shape, classes).map_err(|refusal| {
        let Refusal { place, found, expected, fix, index } = refusal;
        let fits = |spec: &ModelSpec, input: [usize; 3]| Builder::build(spec, &Shape::image(input), classes).is_ok();
        let index = index.filter(|_| !flat);
        let other_ways = index.and_then(|index| advice(spec, index, input, fits));
        Error::invalid(format!("model '{}', {place}", spec.name), found, expected, other_ways.unwrap_or(fix))
    })?;
    if value.sizes() != [classes] {
        return Err(model(
            format!("a last layer that gives {value}"),
            format!("{classes} outputs, one a class of the data"),
            "end the model in \"dense classes\" (after \"flatten\")",
        ));
    }
    if graph.table.is_empty() {
        return Err(model("no layer with weights".to_owned(), "something to train".to_owned(), "add a layer"));
    }
    Ok(graph)
}

/// A graph that grows.
struct Builder {
    graph: Graph,
    classes: usize,
    /// Layers so far, this one and those that only change a shape among them.
    number: usize,
    /// What all of them read.
    inputs: usize,
    /// Blocks that the layer stands in.
    depth: usize,
    /// Whether it makes factors of an image's channels, which go image by image as the image does.
    makes_factors: bool,
    weights: usize,
    /// The parameters of each node, their places in the block still to come.
    params: Vec<Vec<Param>>,
    /// The way to each layer.
    paths: Vec<KeyPath>,
}

/// Where a list or a layer stands.
#[derive(Clone, Debug, Default)]
struct At {
    /// The path of its block, for a person; nothing outside of all.
    block: String,
    /// The list's own, in the text.
    key: String,
    /// Its path, for other programs.
    keys: KeyPath,
    /// The place of its first repeat there.
    first: usize,
    /// Whether a norm follows it directly.
    before_norm: bool,
    /// Whether the list is one layer with a name.
    is_layer: bool,
}

impl At {
    /// A list of a joining block.
    fn list(&self, list: &str) -> At {
        let place = format!("{}.{list}", self.block);
        At { block: place.clone(), key: place, keys: self.keys.list(list), ..At::default() }
    }
}

/// Whether the layer that comes first is a norm.
fn is_norm(item: &Item) -> bool {
    item.first().is_some_and(Op::is_norm)
}

impl Builder {
    fn build(spec: &ModelSpec, input: &Shape, classes: usize) -> Result<(Graph, Shape), Refusal> {
        let tensors = vec![Tensor { shape: input.clone(), layout: None }];
        let (nodes, table, layers, written) = Default::default();
        let graph = Graph { nodes, tensors, output: 0, table, layers, written };
        let mut builder = Builder {
            graph,
            classes,
            number: 0,
            inputs: 0,
            depth: 0,
            makes_factors: false,
            weights: 0,
            params: Vec::new(),
            paths: Vec::new(),
        };
        let value = Value { tensor: 0, layer: None, shape: input.clone(), by_rows: false };
        let at = At { key: "layers".to_owned(), ..At::default() };
        let value = builder.list(&spec.layers, &at, value)?;
        builder.graph.output = value.tensor;
        builder.name();
        builder.order();
        Ok((builder.graph, value.shape))
    }

    /// The layers and blocks of a list.
    fn list(&mut self, items: &[Item], at: &At, mut value: Value) -> Result<Value, Refusal> {
        let block = &at.block;
        // A repeated block without a name has as many places in a list of other programs.
        let mut place_of_key = 0;
        for (index, item) in items.iter().enumerate() {
            let before_norm = items.get(index + 1).map_or(at.before_norm, is_norm);
            value = match item {
                Item::Layer(op) => {
                    let is_last = block.is_empty() && index + 1 == items.len();
                    let place = || layer_place(block, index, op);
                    if matches!(op, Op::Softmax(_)) && !is_last {
                        let found = "softmax before the end: it is part of the loss and may only stand last".to_owned();
                        let expected = "a softmax as the network's last layer, or none";
                        return Err(Refusal::text(place(), found, expected, "take it out: it follows by itself"));
                    }
                    self.count_layer(1, place)?;
                    let own = block.is_empty().then_some(index);
                    let refuse = |why: String| Refusal::layer(place(), &value.shape, &why, own);
                    let keys = if at.is_layer { at.keys.clone() } else { at.keys.item(None, place_of_key) };
                    let at = At { keys, before_norm, ..at.clone() };
                    self.layer(op, &at, vec![value.clone()]).map_err(refuse)?
                }
                Item::Block(inner) => {
                    let place = match &inner.name {
                        Some(name) if block.is_empty() => name.clone(),
                        Some(name) => format!("{block}.{name}"),
                        None => format!("{}[{index}]", at.key),
                    };
                    let is_same = |other: &Item| matches!(other, Item::Block(other) if other.name.is_some() && other.name == inner.name);
                    if items[..index].iter().any(is_same) {
                        let found = "a second block of that name in one list".to_owned();
                        return Err(Refusal::text(place, found, "a name of its own", "give it another, or none"));
                    }
                    if self.depth == MOST_DEPTH {
                        let found = format!("blocks that stand more than {MOST_DEPTH} deep in one another");
                        let fix = "write the layers of the inner ones into the outer ones";
                        return Err(Refusal::text(place, found, "fewer", fix));
                    }
                    self.depth += 1;
                    let joins = !matches!(inner.kind, BlockKind::Layers(_));
                    let keys = match &inner.name {
                        None if inner.repeat > 1 => at.keys.clone(),
                        None if joins => at.keys.join(place_of_key),
                        name => at.keys.item(name.as_deref(), place_of_key),
                    };
                    let first = if inner.name.is_none() { place_of_key } else { 0 };
                    let is_layer = inner.named_layer().is_some();
                    let at = At { block: place, key: String::new(), keys, first, before_norm, is_layer };
                    let end = self.block(inner, &at, value)?;
                    self.depth -= 1;
                    place_of_key += if inner.name.is_none() { inner.repeat - 1 } else { 0 };
                    end
                }
            };
            place_of_key += 1;
        }
        Ok(value)
    }

    /// All repeats of a block.
    fn block(&mut self, block: &Block, at: &At, mut value: Value) -> Result<Value, Refusal> {
        for repeat in 0..block.repeat {
            let is_last = repeat + 1 == block.repeat;
            let at = &match block.repeat {
                1 => at.clone(),
                _ => At {
                    block: format!("{}[{repeat}]", at.block),
                    keys: at.keys.item(None, at.first + repeat),
                    ..at.clone()
                },
            };
            let place = &at.block;
            value = match &block.kind {
                BlockKind::Layers(layers) => {
                    let before_norm = if is_last { at.before_norm } else { layers.first().is_some_and(is_norm) };
                    let inside = At { key: format!("{place}.layers"), before_norm, ..at.clone() };
                    self.list(layers, &inside, value)?
                }
                BlockKind::Residual { layers, shortcut } => {
                    let sum = self.list(layers, &at.list("residual"), value.clone())?;
                    self.end_residual(value.tensor, sum.tensor);
                    let around = self.list(shortcut, &at.list("shortcut"), value.clone())?;
                    self.join(Op::Add(Add), block, at, &value, vec![sum, around])?
                }
                BlockKind::Scale(layers) => {
                    let outside = self.makes_factors;
                    self.makes_factors |= value.shape.as_image().is_ok();
                    let factors = self.list(layers, &at.list("scale"), value.clone())?;
                    self.makes_factors = outside;
                    self.join(Op::Scale(Scale), block, at, &value, vec![value.clone(), factors])?
                }
                BlockKind::Branches { branches, join } => {
                    let list = |(index, branch): (usize, &Vec<Item>)| {
                        let place = format!("{place}.branches[{index}]");
                        let inside = At { block: place.clone(), key: place, ..at.list(&format!("branches.{index}")) };
                        self.list(branch, &inside, value.clone())
                    };
                    let ends = branches.iter().enumerate().map(list).collect::<Result<Vec<Value>, Refusal>>()?;
                    let op = if *join == Join::Add { Op::Add(Add) } else { Op::Concat(Concat) };
                    self.join(op, block, at, &value, ends)?
                }
            };
        }
        Ok(value)
    }

    /// Marks the weight of the norm that writes `tensor`, the end of a residual block's layers of `input`; dropouts, dropped paths and
    /// factors behind it leave zeros as they are.
    fn end_residual(&mut self, input: TensorId, tensor: TensorId) {
        let writer = self.graph.nodes.iter().position(|node| node.output == tensor && tensor != input);
        let Some(place) = writer else { return };
        let node = &self.graph.nodes[place];
        if matches!(node.op, Op::Dropout(_) | Op::DropPath(_) | Op::Scale(_)) {
            return self.end_residual(input, node.inputs[0].0);
        }
        let params = Some(&mut self.params[place]).filter(|_| node.op.is_norm());
        params.into_iter().flatten().filter(|param| param.name.ends_with(".weight")).for_each(|param| {
            param.ends_residual = true;
        });
    }

    /// The end of a block, which joins what its lists of layers make of `input`.
    fn join(&mut self, op: Op, block: &Block, at: &At, input: &Value, ends: Vec<Value>) -> Result<Value, Refusal> {
        let place = || format!("{}, its join '{op}'", at.block);
        self.count_layer(ends.len(), place)?;
        let shapes: Vec<&Shape> = ends.iter().map(|end| &end.shape).collect();
        op.output(&shapes, self.classes).map_err(|why| {
            let found = format!("input {}: {why}: {}", input.shape, differ(&block.kind, &op, &shapes));
            let expected = match op {
                Op::Add(_) => "one shape of all that is added".to_owned(),
                Op::Scale(_) => format!("a vector of {}, one factor a channel", input.shape.channels()),
                _ => "images of one height and width, or vectors".to_owned(),
            };
            let fix = join_advice(&block.kind, &input.shape, &shapes);
            Refusal::text(place(), found, &expected, &fix)
        })?;
        let at = At { keys: at.keys.list("join"), before_norm: false, ..at.clone() };
        self.layer(&op, &at, ends).map_err(|why| Refusal::layer(place(), &input.shape, &why, None))
    }

    /// Counts a layer of so many inputs, which there must be room for.
    fn count_layer(&mut self, inputs: usize, place: impl Fn() -> String) -> Result<(), Refusal> {
        self.number += 1;
        self.inputs += inputs;
        if self.number.max(self.inputs / 2) <= MOST_LAYERS {
            return Ok(());
        }
        let found = format!("more than {MOST_LAYERS} layers, or twice as many branches, repeats counted");
        Err(Refusal::text(place(), found, "a smaller network", "repeat its blocks less often"))
    }

    /// Adds an operation as it is written, and its line of the listing.
    fn layer(&mut self, written: &Op, at: &At, inputs: Vec<Value>) -> Result<Value, String> {
        let mut op = written.clone();
        op.decide(at.before_norm);
        let shapes: Vec<&Shape> = inputs.iter().map(|input| &input.shape).collect();
        let shape = op.output(&shapes, self.classes)?;
        let flops = op.flops(shapes[0], &shape);
        let number = self.number - 1;
        let is_wide = matches!(op, Op::Dense(_)) && !self.makes_factors;
        let by_rows = is_wide || inputs.iter().any(|input| input.by_rows);
        let param = |Parameter { name, shape, initial, is_statistic }: Parameter| {
            let name = format!("{}.{name}", op.numbered(number));
            Param { name, shape, range: 0..0, initial, is_statistic, ends_residual: false }
        };
        let params: Vec<Param> = op.parameters(shapes[0], &shape).into_iter().map(param).collect();
        self.count(&params)?;
        let weights = params.iter().filter(|param| !param.is_statistic);
        let parameters = weights.map(|param| param.shape.iter().product::<usize>()).sum();
        let image = shapes[0].as_image().ok();
        let unseen = op.window().zip(image).map(|(window, [h, w, _])| window.unseen([h, w]));
        let info = LayerInfo {
            block: at.block.clone(),
            layer: written.to_string(),
            output: shape.sizes().to_vec(),
            parameters,
            flops,
            unseen: unseen.filter(|unseen| *unseen != [0, 0]),
        };
        self.graph.layers.push(info);
        self.paths.push(at.keys.clone());
        self.graph.written.push(Written {
            op: written.clone(),
            key: String::new(),
            inputs: inputs.iter().map(|input| (input.layer, input.shape.clone())).collect(),
            output: shape.clone(),
        });
        if matches!(op, Op::Flatten(_) | Op::Softmax(_)) {
            // The same values in another shape.
            return Ok(Value { shape, layer: Some(number), ..inputs[0].clone() });
        }
        let output = self.graph.tensors.len();
        self.graph.tensors.push(Tensor { shape: shape.clone(), layout: None });
        self.graph.nodes.push(Node {
            op,
            fused: Fused::default(),
            inputs: inputs.into_iter().map(|input| (input.tensor, input.shape)).collect(),
            output,
            shape: shape.clone(),
            params: 0..0,
            statistics: 0..0,
            number,
            layer: self.graph.layers.len() - 1,
            by_rows,
        });
        self.params.push(params);
        Ok(Value { tensor: output, layer: Some(number), shape, by_rows })
    }

    /// Counts an operation's parameters.
    fn count(&mut self, params: &[Param]) -> Result<(), String> {
        let product = |shape: &[usize]| shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let sum = |sum: usize, param: &Param| sum.checked_add(product(&param.shape)?);
        let count = params
            .iter()
            .try_fold(0usize, sum)
            .filter(|count| self.weights.checked_add(*count).is_some_and(|all| all <= MOST_VALUES));
        let count = count.ok_or_else(|| {
            let sizes: Vec<String> = params[0].shape.iter().map(ToString::to_string).collect();
            format!("weights {} would be more than 2^33 in all", sizes.join("x"))
        })?;
        self.weights += count;
        Ok(())
    }

    /// Gives layers their keys.
    fn name(&mut self) {
        let written = &self.graph.written;
        let numbered = written.iter().enumerate().map(|(number, layer)| layer.op.numbered(number));
        let has_weights: Vec<bool> = self.graph.layers.iter().map(|layer| layer.parameters > 0).collect();
        let keys = keys(&self.paths, &has_weights, numbered);
        self.graph.written.iter_mut().zip(keys).for_each(|(layer, key)| layer.key = key);
    }

    /// What goes image by image comes first; then weights follow one another as the operations do, those of dense layers that take all
    /// rows at once last; then statistics.
    fn order(&mut self) {
        let mut nodes: Vec<(Node, Vec<Param>)> =
            std::mem::take(&mut self.graph.nodes).into_iter().zip(self.params.drain(..)).collect();
        nodes.sort_by_key(|(node, _)| node.by_rows);
        let is_wide = |node: &Node| node.by_rows && matches!(node.op, Op::Dense(_));
        let mut table = ParamTable::default();
        for wide in [false, true] {
            for (node, params) in nodes.iter_mut().filter(|(node, _)| is_wide(node) == wide) {
                node.params = table.take(params.iter().filter(|param| !param.is_statistic));
            }
        }
        for (node, params) in &mut nodes {
            node.statistics = table.take(params.iter().filter(|param| param.is_statistic));
        }
        self.graph.table = table.params;
        self.graph.nodes = nodes.into_iter().map(|(node, _)| node).collect();
    }
}
