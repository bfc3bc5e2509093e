//! From a model's text to its graph: every layer is checked against the shape that reaches it.

use std::ops::Range;

use super::advice::{advice, differ, join_advice};
use super::graph::{Graph, LayerInfo, Node, Tensor, TensorId, Written};
use super::ops::{Add, Concat, Fused, Op, Parameter, Scale};
use super::params::Param;
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

/// A layer or a block that is refused.
struct Refusal {
    place: String,
    found: String,
    expected: String,
    fix: String,
    /// The layer's place in the list, where that is the network's own and the layer does not fit.
    index: Option<usize>,
}

impl Refusal {
    /// A layer that does not fit the shape that reaches it.
    fn layer(place: String, input: &Shape, why: &str, index: Option<usize>) -> Refusal {
        let fix = "change this layer or the ones before it".to_owned();
        let expected = "a layer that fits the shape that reaches it".to_owned();
        Refusal { place, found: format!("input {input}: {why}"), expected, fix, index }
    }

    /// What no shape would mend.
    fn text(place: String, found: String, expected: &str, fix: &str) -> Refusal {
        Refusal { place, found, expected: expected.to_owned(), fix: fix.to_owned(), index: None }
    }
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
        };
        let value = Value { tensor: 0, layer: None, shape: input.clone(), by_rows: false };
        let value = builder.list(&spec.layers, "", "layers", value)?;
        builder.graph.output = value.tensor;
        builder.order();
        Ok((builder.graph, value.shape))
    }

    /// The layers and blocks of a list, `key` in the text, of the block of path `block` (none is the network itself).
    fn list(&mut self, items: &[Item], block: &str, key: &str, mut value: Value) -> Result<Value, Refusal> {
        for (index, item) in items.iter().enumerate() {
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
                    let before_norm = matches!(items.get(index + 1), Some(Item::Layer(next)) if next.is_norm());
                    self.layer(op, before_norm, block, vec![value.clone()]).map_err(refuse)?
                }
                Item::Block(inner) => {
                    let place = match &inner.name {
                        Some(name) if block.is_empty() => name.clone(),
                        Some(name) => format!("{block}.{name}"),
                        None => format!("{key}[{index}]"),
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
                    let end = self.block(inner, &place, value)?;
                    self.depth -= 1;
                    end
                }
            };
        }
        Ok(value)
    }

    /// All repeats of a block.
    fn block(&mut self, block: &Block, place: &str, mut value: Value) -> Result<Value, Refusal> {
        for repeat in 0..block.repeat {
            let place = if block.repeat > 1 { format!("{place}[{repeat}]") } else { place.to_owned() };
            value = match &block.kind {
                BlockKind::Layers(layers) => self.list(layers, &place, &format!("{place}.layers"), value)?,
                BlockKind::Residual { layers, shortcut } => {
                    let [inside, around] = ["residual", "shortcut"].map(|key| format!("{place}.{key}"));
                    let sum = self.list(layers, &inside, &inside, value.clone())?;
                    self.end_residual(sum.tensor);
                    let around = self.list(shortcut, &around, &around, value.clone())?;
                    self.join(Op::Add(Add), block, &place, &value, vec![sum, around])?
                }
                BlockKind::Scale(layers) => {
                    let inside = format!("{place}.scale");
                    let outside = self.makes_factors;
                    self.makes_factors |= value.shape.as_image().is_ok();
                    let factors = self.list(layers, &inside, &inside, value.clone())?;
                    self.makes_factors = outside;
                    self.join(Op::Scale(Scale), block, &place, &value, vec![value.clone(), factors])?
                }
                BlockKind::Branches { branches, join } => {
                    let list = |(index, branch): (usize, &Vec<Item>)| {
                        let place = format!("{place}.branches[{index}]");
                        self.list(branch, &place, &place, value.clone())
                    };
                    let ends = branches.iter().enumerate().map(list).collect::<Result<Vec<Value>, Refusal>>()?;
                    let op = if *join == Join::Add { Op::Add(Add) } else { Op::Concat(Concat) };
                    self.join(op, block, &place, &value, ends)?
                }
            };
        }
        Ok(value)
    }

    /// Marks the weight of the norm that writes `tensor`, the end of a residual block's layers, if it is a norm.
    fn end_residual(&mut self, tensor: TensorId) {
        let norm = self.graph.nodes.iter().position(|node| node.output == tensor && node.op.is_norm());
        let params = norm.map(|norm| &mut self.params[norm]);
        params.into_iter().flatten().filter(|param| param.name.ends_with(".weight")).for_each(|param| {
            param.ends_residual = true;
        });
    }

    /// The end of a block of path `path`, which joins what its lists of layers make of `input`.
    fn join(&mut self, op: Op, block: &Block, path: &str, input: &Value, ends: Vec<Value>) -> Result<Value, Refusal> {
        let place = || format!("{path}, its join '{op}'");
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
        self.layer(&op, false, path, ends).map_err(|why| Refusal::layer(place(), &input.shape, &why, None))
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

    /// Adds an operation as it is written, and its line of the listing; a norm may follow it.
    fn layer(&mut self, written: &Op, before_norm: bool, block: &str, inputs: Vec<Value>) -> Result<Value, String> {
        let mut op = written.clone();
        op.decide(before_norm);
        let shapes: Vec<&Shape> = inputs.iter().map(|input| &input.shape).collect();
        let shape = op.output(&shapes, self.classes)?;
        let flops = op.flops(shapes[0], &shape);
        let number = self.number - 1;
        let is_wide = matches!(op, Op::Dense(_)) && !self.makes_factors;
        let by_rows = is_wide || inputs.iter().any(|input| input.by_rows);
        let param = |Parameter { name, shape, initial, is_statistic }: Parameter| {
            let name = format!("{}{number}.{name}", op.word());
            Param { name, shape, range: 0..0, initial, is_statistic, ends_residual: false }
        };
        let params: Vec<Param> = op.parameters(shapes[0], &shape).into_iter().map(param).collect();
        self.count(&params)?;
        let weights = params.iter().filter(|param| !param.is_statistic);
        let parameters = weights.map(|param| param.shape.iter().product::<usize>()).sum();
        let image = shapes[0].as_image().ok();
        let unseen = op.window().zip(image).map(|(window, [h, w, _])| window.unseen([h, w]));
        let info = LayerInfo {
            block: block.to_owned(),
            layer: written.to_string(),
            output: shape.sizes().to_vec(),
            parameters,
            flops,
            unseen: unseen.filter(|unseen| *unseen != [0, 0]),
        };
        self.graph.layers.push(info);
        self.graph.written.push(Written {
            op: written.clone(),
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

    /// What goes image by image comes first; then weights follow one another as the operations do, those of dense layers that take all
    /// rows at once last; then statistics.
    fn order(&mut self) {
        let mut nodes: Vec<(Node, Vec<Param>)> =
            std::mem::take(&mut self.graph.nodes).into_iter().zip(self.params.drain(..)).collect();
        nodes.sort_by_key(|(node, _)| node.by_rows);
        let is_wide = |node: &Node| node.by_rows && matches!(node.op, Op::Dense(_));
        let mut table = Table::default();
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

/// A table of tensors that grows.
#[derive(Default)]
struct Table {
    params: Vec<Param>,
    /// Values of all of them.
    values: usize,
}

impl Table {
    /// Takes some; their places.
    fn take<'p>(&mut self, params: impl Iterator<Item = &'p Param>) -> Range<usize> {
        let first = self.params.len();
        for param in params {
            let range = self.values..self.values + param.shape.iter().product::<usize>();
            self.values = range.end;
            self.params.push(Param { range, ..param.clone() });
        }
        first..self.params.len()
    }
}

fn layer_place(block: &str, index: usize, op: &Op) -> String {
    if block.is_empty() { format!("layer {index} '{op}'") } else { format!("{block}, layer {index} '{op}'") }
}
