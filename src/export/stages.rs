//! The network layer by layer, with every shape worked out: what a writer of another format walks along.

use crate::checkpoint::SavedModel;
use crate::error::{Error, Result};
use crate::kernels::{ConvShape, DenseShape, PoolShape, Window};
use crate::model::ops::Op;
use crate::model::{Model, Params, Shape, Written};

/// One layer of the network.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Kind and place, as in the names of weights: `conv0`, `relu1`, `dense7`.
    pub name: String,
    /// What it does.
    pub kind: Kind<'a>,
    /// The stages that it reads, by their places; the network's input is none.
    pub inputs: Vec<Option<usize>>,
    /// Whether it gives values of a flattened image, which other programs have in another order.
    pub is_scattered: bool,
}

/// What a layer does.
#[derive(Debug)]
pub enum Kind<'a> {
    /// A convolution of an image.
    Conv(ConvShape, Weights<'a>),
    /// The largest value under each window, clipped to the image.
    MaxPool(PoolShape),
    /// The mean of the values under each window, clipped to the image.
    AvgPool(PoolShape),
    /// The mean of each channel: a vector.
    GlobalAvgPool,
    /// The largest value of each channel: a vector.
    GlobalMaxPool,
    /// An image `[h, w, c]` becomes a vector: in the order of those who have channels first, or in ours.
    Flatten([usize; 3], Order),
    /// A dense layer, and what its input was made of.
    Dense(DenseShape, Vec<Part>, Weights<'a>),
    /// An element-wise function.
    Function(Function),
    /// Nothing when a model is used; this share of zeros when it is trained.
    Dropout(f32),
    /// The sum of its inputs.
    Add,
    /// The channels of its inputs, one after another.
    Concat,
}

/// The order of the values of a flattened image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Channel, row, column: as PyTorch has them.
    ChannelsFirst,
    /// Row, column, channel, as we have them; for networks that add vectors which have no order of PyTorch's in common.
    ChannelsLast,
}

/// A stretch of a vector: a flattened image `[h, w, c]`, whose order other programs have otherwise.
pub type Part = [usize; 3];

/// An element-wise function as others call it.
#[derive(Debug)]
pub struct Function {
    /// ONNX's operators, one behind the other.
    pub onnx: Vec<Operator>,
    /// PyTorch's module.
    pub torch: String,
}

/// An operator of ONNX that reads what the one before it gave.
#[derive(Debug)]
pub struct Operator {
    /// Its name.
    pub name: &'static str,
    /// Its attributes.
    pub attributes: Vec<(&'static str, f32)>,
    /// What it takes besides, behind that.
    pub operands: Vec<Operand>,
}

/// What an operator takes besides.
#[derive(Clone, Copy, Debug)]
pub enum Operand {
    /// A number.
    Number(f32),
    /// The function's own argument.
    Argument,
}

/// A function of one value, with nothing to set.
fn function(onnx: &'static str, torch: impl Into<String>) -> Function {
    Function { onnx: vec![operator(onnx, [])], torch: torch.into() }
}

fn operator<const N: usize>(name: &'static str, operands: [Operand; N]) -> Operator {
    Operator { name, attributes: Vec::new(), operands: operands.to_vec() }
}

/// `v · Φ(v)`, and its approximation, in operators of the version that we write: `Gelu` itself came with 20.
fn gelu(tanh: bool) -> Function {
    use Operand::{Argument, Number};
    let inner = match tanh {
        false => vec![operator("Mul", [Number(std::f32::consts::FRAC_1_SQRT_2)]), operator("Erf", [])],
        true => vec![
            operator("Mul", [Argument]),
            operator("Mul", [Number(0.044715)]),
            operator("Add", [Number(1.0)]),
            operator("Mul", [Argument]),
            operator("Mul", [Number((2.0 / std::f64::consts::PI).sqrt() as f32)]),
            operator("Tanh", []),
        ],
    };
    let gate = [operator("Add", [Number(1.0)]), operator("Mul", [Argument]), operator("Mul", [Number(0.5)])];
    let torch = if tanh { "nn.GELU(approximate=\"tanh\")" } else { "nn.GELU()" };
    Function { onnx: inner.into_iter().chain(gate).collect(), torch: torch.to_owned() }
}

/// Weights and biases of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// Convolution `[kh, kw, c_in / groups, c_out]`, dense `[inputs, outputs]`.
    pub weight: &'a [f32],
    /// `[outputs]`, or empty.
    pub bias: &'a [f32],
}

impl Kind<'_> {
    /// Weights and biases, where there are any.
    pub fn weights(&self) -> Option<Weights<'_>> {
        match self {
            Kind::Conv(_, weights) | Kind::Dense(_, _, weights) => Some(*weights),
            _ => None,
        }
    }

    /// The weight's shape with channels first, as PyTorch has it: `[c_out, c_in / groups, kh, kw]` or `[outputs, inputs]`.
    pub fn shape_channels_first(&self) -> Vec<usize> {
        match self {
            Kind::Conv(shape, _) => vec![shape.c_out, shape.group_in(), shape.kh, shape.kw],
            Kind::Dense(shape, ..) => vec![shape.outputs, shape.inputs],
            _ => vec![],
        }
    }

    /// Where each weight of that shape, in order, lies in ours. The inputs of a dense layer behind an image go channel by
    /// channel there, pixel by pixel here.
    pub fn places_channels_first(&self) -> Box<dyn Iterator<Item = usize>> {
        match *self {
            Kind::Conv(shape, _) => {
                let (ConvShape { kh, kw, c_out, .. }, c_in) = (shape, shape.group_in());
                let of = move |o| (0..c_in).flat_map(move |i| (0..kh * kw).map(move |k| (k * c_in + i) * c_out + o));
                Box::new((0..c_out).flat_map(of))
            }
            Kind::Dense(DenseShape { outputs, .. }, ref parts, _) => {
                let start = |first: &mut usize, part: &Part| {
                    *first += part.iter().product::<usize>();
                    Some((*first - part.iter().product::<usize>(), *part))
                };
                let inputs: Vec<usize> = parts.iter().scan(0, start).flat_map(inputs_channels_first).collect();
                let of = move |o: usize| inputs.clone().into_iter().map(move |input| input * outputs + o);
                Box::new((0..outputs).flat_map(of))
            }
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// The layers of a saved model, first to last; softmax, which follows by itself, is left out.
///
/// # Errors
/// Never for a model that was planned.
pub fn stages(saved: &SavedModel) -> Result<Vec<Stage<'_>>> {
    walk(&saved.model, &saved.params)
}

/// As [`stages`], of a network that is no file yet.
///
/// # Errors
/// Never for a model that was planned.
pub fn walk<'a>(model: &Model, params: &'a Params) -> Result<Vec<Stage<'a>>> {
    let order = if has_mixed_sums(model) { Order::ChannelsLast } else { Order::ChannelsFirst };
    let mut stages: Vec<Stage<'a>> = Vec::new();
    // Of each layer: its stage, and what the vector that it gives was made of.
    let mut ends: Vec<(Option<usize>, Vec<Part>)> = Vec::new();
    for (number, layer) in model.graph.written.iter().enumerate() {
        let failed =
            |why: String| Error::invalid(format!("layer {number} '{}'", layer.op), why, "a planned layer", "report it");
        let name = format!("{}{number}", layer.op.word());
        let inputs = layer.inputs.iter().map(|(layer, _)| layer.and_then(|layer| ends[layer].0)).collect();
        let parts_of = |layer: Option<usize>| layer.map(|layer| ends[layer].1.as_slice());
        let parts = parts_behind(layer, order, parts_of);
        let shape = &layer.inputs[0].1;
        let kind = match &layer.op {
            Op::Conv(conv) => Kind::Conv(
                conv.shape(shape).map_err(failed)?,
                weights(params, &name).ok_or_else(|| failed("no weights".into()))?,
            ),
            Op::Depthwise(conv) => Kind::Conv(
                conv.shape(shape).map_err(failed)?,
                weights(params, &name).ok_or_else(|| failed("no weights".into()))?,
            ),
            Op::MaxPool(pool) => Kind::MaxPool(pool_shape(shape, pool.0).map_err(failed)?),
            Op::AvgPool(pool) => Kind::AvgPool(pool_shape(shape, pool.0).map_err(failed)?),
            Op::GlobalAvgPool(_) => Kind::GlobalAvgPool,
            Op::GlobalMaxPool(_) => Kind::GlobalMaxPool,
            Op::Flatten(_) => Kind::Flatten(shape.as_image().unwrap_or([1, 1, shape.len()]), order),
            Op::Dense(_) => {
                let shape = DenseShape { inputs: shape.len(), outputs: layer.output.len() };
                Kind::Dense(
                    shape,
                    parts_in_front(layer, parts_of),
                    weights(params, &name).ok_or_else(|| failed("no weights".into()))?,
                )
            }
            Op::Relu(_) => Kind::Function(function("Relu", "nn.ReLU()")),
            Op::Relu6(_) => Kind::Function(Function {
                onnx: vec![operator("Clip", [Operand::Number(0.0), Operand::Number(6.0)])],
                torch: "nn.ReLU6()".to_owned(),
            }),
            Op::LeakyRelu(leaky) => Kind::Function(Function {
                onnx: vec![Operator { attributes: vec![("alpha", leaky.0)], ..operator("LeakyRelu", []) }],
                torch: format!("nn.LeakyReLU({})", leaky.0),
            }),
            Op::HardSwish(_) => Kind::Function(function("HardSwish", "nn.Hardswish()")),
            Op::HardSigmoid(_) => Kind::Function(Function {
                onnx: vec![Operator {
                    attributes: vec![("alpha", 1.0 / 6.0), ("beta", 0.5)],
                    ..operator("HardSigmoid", [])
                }],
                torch: "nn.Hardsigmoid()".to_owned(),
            }),
            Op::Silu(_) => Kind::Function(Function {
                onnx: vec![operator("Sigmoid", []), operator("Mul", [Operand::Argument])],
                torch: "nn.SiLU()".to_owned(),
            }),
            Op::Gelu(op) => Kind::Function(gelu(op.tanh)),
            Op::Sigmoid(_) => Kind::Function(function("Sigmoid", "nn.Sigmoid()")),
            Op::Tanh(_) => Kind::Function(function("Tanh", "nn.Tanh()")),
            Op::Dropout(dropout) => Kind::Dropout(dropout.0),
            Op::BatchNorm(_) => return Err(failed("no export yet".into())),
            Op::Add(_) => Kind::Add,
            Op::Concat(_) => Kind::Concat,
            Op::Softmax(_) => {
                ends.push((layer.inputs[0].0.and_then(|layer| ends[layer].0), parts));
                continue;
            }
        };
        let is_scattered = layer.output.sizes().len() == 1 && parts.iter().any(|[h, w, c]| h * w > 1 && *c > 1);
        ends.push((Some(stages.len()), parts));
        stages.push(Stage { name, kind, inputs, is_scattered });
    }
    Ok(stages)
}

/// What the vector in front of a layer was made of; an image has no parts.
fn parts_in_front<'p>(layer: &Written, parts_of: impl Fn(Option<usize>) -> Option<&'p [Part]>) -> Vec<Part> {
    let (input, shape) = &layer.inputs[0];
    parts_of(*input).map_or_else(|| vec![[1, 1, shape.len()]], <[Part]>::to_vec)
}

/// The same of the vector that a layer gives.
fn parts_behind<'p>(
    layer: &Written,
    order: Order,
    parts_of: impl Fn(Option<usize>) -> Option<&'p [Part]>,
) -> Vec<Part> {
    if layer.output.as_image().is_ok() {
        return Vec::new();
    }
    let whole = || vec![[1, 1, layer.output.len()]];
    match &layer.op {
        Op::Dense(_) | Op::GlobalAvgPool(_) | Op::GlobalMaxPool(_) => whole(),
        Op::Flatten(_) if layer.inputs[0].1.as_image().is_ok() => match (order, layer.inputs[0].1.as_image()) {
            (Order::ChannelsFirst, Ok(image)) => vec![image],
            _ => whole(),
        },
        Op::Concat(_) => {
            let of_input = |(input, shape): &(Option<usize>, Shape)| {
                parts_of(*input).map_or_else(|| vec![[1, 1, shape.len()]], <[Part]>::to_vec)
            };
            layer.inputs.iter().flat_map(of_input).collect()
        }
        _ => parts_in_front(layer, parts_of),
    }
}

/// Whether vectors are added that are made of different parts: channels first, their values would not be where their partners are.
fn has_mixed_sums(model: &Model) -> bool {
    let mut ends: Vec<Vec<Part>> = Vec::new();
    for layer in &model.graph.written {
        let parts_of = |layer: Option<usize>| layer.map(|layer| ends[layer].as_slice());
        let canonical = |(input, shape): &(Option<usize>, Shape)| {
            let parts = parts_of(*input).map_or_else(|| vec![[1, 1, shape.len()]], <[Part]>::to_vec);
            // Where nothing is moved, the values' places are their own.
            let is_moved = |[h, w, c]: &Part| h * w > 1 && *c > 1;
            if parts.iter().any(is_moved) { parts } else { vec![[1, 1, shape.len()]] }
        };
        let is_vector = layer.output.as_image().is_err();
        if is_vector && matches!(layer.op, Op::Add(_)) {
            let first = canonical(&layer.inputs[0]);
            if layer.inputs.iter().any(|input| canonical(input) != first) {
                return true;
            }
        }
        let parts = parts_behind(layer, Order::ChannelsFirst, parts_of);
        ends.push(parts);
    }
    false
}

fn pool_shape(input: &Shape, window: Window) -> Result<PoolShape, String> {
    PoolShape::new(input.as_image()?, window)
}

/// The inputs of a dense layer that lie in a part of a vector, which begins at the first number: channel by channel.
fn inputs_channels_first((first, [h, w, c]): (usize, Part)) -> impl Iterator<Item = usize> {
    (0..c).flat_map(move |channel| (0..h * w).map(move |pixel| first + pixel * c + channel))
}

fn weights<'a>(params: &'a Params, layer: &str) -> Option<Weights<'a>> {
    let find = |tensor: &str| {
        let name = format!("{layer}.{tensor}");
        let param = params.table.iter().find(|param| param.name == name)?;
        Some(&params.values[param.range.clone()])
    };
    Some(Weights { weight: find("weight")?, bias: find("bias").unwrap_or_default() })
}

/// Pixels of padding around an image: above, left, below, right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pads {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below that some window covers.
    pub bottom: usize,
    /// Columns to the right that some window covers.
    pub right: usize,
}

impl Pads {
    /// Of a convolution.
    pub fn of_conv(s: &ConvShape) -> Pads {
        Pads::new([s.h_in, s.w_in], [s.h_out, s.w_out], s.extent(), s.stride, [s.pad_top, s.pad_left])
    }

    /// Of a pooling layer.
    pub fn of_pool(s: &PoolShape) -> Pads {
        Pads::new([s.h_in, s.w_in], [s.h_out, s.w_out], [s.kh, s.kw], s.stride, [s.pad_top, s.pad_left])
    }

    fn new(input: [usize; 2], output: [usize; 2], window: [usize; 2], stride: usize, [top, left]: [usize; 2]) -> Pads {
        let behind = |axis: usize, before: usize| {
            ((output[axis] - 1) * stride + window[axis]).saturating_sub(input[axis] + before)
        };
        Pads { top, left, bottom: behind(0, top), right: behind(1, left) }
    }

    /// Whether there are none.
    pub fn none(&self) -> bool {
        *self == Pads { top: 0, left: 0, bottom: 0, right: 0 }
    }

    /// Whether windows land alike with `top` rows below, too, and `left` columns to the right, of which some may be seen by no window.
    pub fn floors(input: [usize; 2], output: [usize; 2], window: [usize; 2], stride: usize, pads: Pads) -> bool {
        [pads.top, pads.left].iter().enumerate().all(|(axis, pad)| {
            let span = (input[axis] + 2 * pad).checked_sub(window[axis]);
            span.is_some_and(|span| span / stride + 1 == output[axis])
        })
    }

    /// Whether they are the same on opposite sides.
    pub fn even(&self) -> bool {
        (self.top, self.left) == (self.bottom, self.right)
    }
}
