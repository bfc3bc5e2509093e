//! The network layer by layer, with every shape worked out: what a writer of another format walks along.

use std::borrow::Cow;

use super::order::{Order, Part, inputs_channels_first, order, parts_behind, parts_in_front};
use crate::checkpoint::SavedModel;
use crate::error::{Error, Result};
use crate::kernels::{AdaptiveShape, ConvShape, DenseShape, GroupNormShape, PoolShape, Window};
use crate::model::ops::{BatchNorm, Op};
use crate::model::{Model, Params, Shape};

/// One layer of the network.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Kind and place, as in the names of weights: `conv0`, `relu1`, `dense7`.
    pub name: String,
    /// What other programs call it: `layer1.0.conv1` of a network that names its blocks, else the same.
    pub key: String,
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
    /// The means of windows that share out the image.
    AdaptiveAvgPool(AdaptiveShape),
    /// The mean of each channel: a vector.
    GlobalAvgPool,
    /// The largest value of each channel: a vector.
    GlobalMaxPool,
    /// An image `[h, w, c]` becomes a vector: in the order of those who have channels first, or in ours.
    Flatten([usize; 3], Order),
    /// A dense layer, and what its input was made of.
    Dense(DenseShape, Vec<Part>, Weights<'a>),
    /// The values of each group of channels, normalised, times a weight, plus a bias.
    GroupNorm(GroupNormShape, Weights<'a>),
    /// The channels of an image or a vector, normalised over rows, times a weight, plus a bias.
    BatchNorm(BatchNormShape, Weights<'a>, Statistics<'a>),
    /// Nothing: the convolution in front computes it.
    Folded,
    /// The channels of each pixel, or a vector, normalised.
    LayerNorm(LayerNormShape, Weights<'a>),
    /// An element-wise function.
    Function(Function),
    /// Nothing when a model is used; this share of zeros when it is trained.
    Dropout(f32),
    /// Nothing when a model is used; rows become zero with this probability when it is trained.
    DropPath(f32),
    /// The sum of its inputs.
    Add,
    /// The channels of its inputs, one after another.
    Concat,
    /// The first input, an image or not, times a factor a channel.
    Scale {
        /// Whether it is an image.
        is_image: bool,
    },
}

/// What a batch norm reads.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormShape {
    /// Channels of an image, values of a vector.
    pub channels: usize,
    /// Whether it is an image.
    pub is_image: bool,
    /// What is added to a variance.
    pub eps: f64,
    /// The share of a step in the running statistics.
    pub momentum: f64,
    /// Whether it has weights of its own; else they are ones.
    pub has_weight: bool,
}

/// The running statistics of a batch norm.
#[derive(Clone, Copy, Debug)]
pub struct Statistics<'a> {
    /// `[channels]`
    pub mean: &'a [f32],
    /// `[channels]`
    pub variance: &'a [f32],
}

/// What a layer normalisation reads.
#[derive(Clone, Copy, Debug)]
pub struct LayerNormShape {
    /// Channels of an image, values of a vector.
    pub channels: usize,
    /// Whether it is an image.
    pub is_image: bool,
    /// What is added to a variance.
    pub eps: f64,
}

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
#[derive(Clone, Debug)]
pub struct Weights<'a> {
    /// Convolution `[kh, kw, c_in / groups, c_out]`, dense `[inputs, outputs]`.
    pub weight: Cow<'a, [f32]>,
    /// `[outputs]`, or empty.
    pub bias: Cow<'a, [f32]>,
}

impl Kind<'_> {
    /// Weights and biases, where there are any.
    pub fn weights(&self) -> Option<&Weights<'_>> {
        match self {
            Kind::Conv(_, weights)
            | Kind::Dense(_, _, weights)
            | Kind::GroupNorm(_, weights)
            | Kind::BatchNorm(_, weights, _)
            | Kind::LayerNorm(_, weights) => Some(weights),
            _ => None,
        }
    }

    /// The weight's shape with channels first, as PyTorch has it: `[c_out, c_in / groups, kh, kw]` or `[outputs, inputs]`.
    pub fn shape_channels_first(&self) -> Vec<usize> {
        match self {
            Kind::Conv(shape, _) => vec![shape.c_out, shape.group_in(), shape.kh, shape.kw],
            Kind::Dense(shape, ..) => vec![shape.outputs, shape.inputs],
            Kind::GroupNorm(GroupNormShape { channels, .. }, _)
            | Kind::BatchNorm(BatchNormShape { channels, .. }, ..)
            | Kind::LayerNorm(LayerNormShape { channels, .. }, _) => vec![*channels],
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
            Kind::GroupNorm(GroupNormShape { channels, .. }, _)
            | Kind::BatchNorm(BatchNormShape { channels, .. }, ..)
            | Kind::LayerNorm(LayerNormShape { channels, .. }, _) => Box::new(0..channels),
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
    let order = order(model);
    let mut stages: Vec<Stage<'a>> = Vec::new();
    // Of each layer: its stage, and what the vector that it gives was made of.
    let mut ends: Vec<(Option<usize>, Vec<Part>)> = Vec::new();
    for (number, layer) in model.graph.written.iter().enumerate() {
        let failed =
            |why: String| Error::invalid(format!("layer {number} '{}'", layer.op), why, "a planned layer", "report it");
        let name = layer.op.numbered(number);
        let inputs = layer.inputs.iter().map(|(layer, _)| layer.and_then(|layer| ends[layer].0)).collect();
        let parts_of = |layer: Option<usize>| layer.map(|layer| ends[layer].1.as_slice());
        let parts = parts_behind(layer, order, parts_of);
        let shape = &layer.inputs[0].1;
        let kind = match &layer.op {
            Op::Conv(conv) => Kind::Conv(conv.shape(shape).map_err(failed)?, weights(params, &name).map_err(failed)?),
            Op::Depthwise(conv) => {
                Kind::Conv(conv.shape(shape).map_err(failed)?, weights(params, &name).map_err(failed)?)
            }
            Op::MaxPool(pool) => Kind::MaxPool(pool_shape(shape, pool.0).map_err(failed)?),
            Op::AvgPool(pool) => Kind::AvgPool(pool_shape(shape, pool.0).map_err(failed)?),
            Op::AdaptiveAvgPool(pool) => Kind::AdaptiveAvgPool(pool.shape(shape).map_err(failed)?),
            Op::GlobalAvgPool(_) => Kind::GlobalAvgPool,
            Op::GlobalMaxPool(_) => Kind::GlobalMaxPool,
            Op::Flatten(_) => Kind::Flatten(shape.as_image().unwrap_or([1, 1, shape.len()]), order),
            Op::Dense(_) => {
                let shape = DenseShape { inputs: shape.len(), outputs: layer.output.len() };
                Kind::Dense(shape, parts_in_front(layer, parts_of), weights(params, &name).map_err(failed)?)
            }
            Op::GroupNorm(norm) => {
                Kind::GroupNorm(norm.shape(shape).map_err(failed)?, weights(params, &name).map_err(failed)?)
            }
            Op::LayerNorm(norm) => {
                let is_image = shape.as_image().is_ok();
                let shape = LayerNormShape { channels: shape.channels(), is_image, eps: norm.eps };
                Kind::LayerNorm(shape, weights(params, &name).map_err(failed)?)
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
            Op::BatchNorm(norm) => batch_norm(norm, shape, params, &name).map_err(failed)?,
            Op::DropPath(drop) => Kind::DropPath(drop.0),
            Op::Add(_) => Kind::Add,
            Op::Concat(_) => Kind::Concat,
            Op::Scale(_) => Kind::Scale { is_image: shape.as_image().is_ok() },
            Op::Softmax(_) => {
                ends.push((layer.inputs[0].0.and_then(|layer| ends[layer].0), parts));
                continue;
            }
        };
        let is_scattered = layer.output.sizes().len() == 1 && parts.iter().any(|[h, w, c]| h * w > 1 && *c > 1);
        ends.push((Some(stages.len()), parts));
        stages.push(Stage { name, key: layer.key.clone(), kind, inputs, is_scattered });
    }
    Ok(stages)
}

fn pool_shape(input: &Shape, window: Window) -> Result<PoolShape, String> {
    PoolShape::new(input.as_image()?, window)
}

/// A tensor of a layer.
fn tensor<'a>(params: &'a Params, layer: &str, tensor: &str) -> Result<&'a [f32], String> {
    let name = format!("{layer}.{tensor}");
    let param = params.table.iter().find(|param| param.name == name).ok_or("no weights")?;
    Ok(&params.values[param.range.clone()])
}

fn weights<'a>(params: &'a Params, layer: &str) -> Result<Weights<'a>, String> {
    let bias = tensor(params, layer, "bias").unwrap_or_default();
    Ok(Weights { weight: tensor(params, layer, "weight")?.into(), bias: bias.into() })
}

fn batch_norm<'a>(norm: &BatchNorm, shape: &Shape, params: &'a Params, layer: &str) -> Result<Kind<'a>, String> {
    let (channels, is_image) = (shape.channels(), shape.as_image().is_ok());
    let &BatchNorm { eps, momentum, scale, .. } = norm;
    let shape = BatchNormShape { channels, is_image, eps, momentum, has_weight: scale };
    let weight = if scale { tensor(params, layer, "weight")?.into() } else { vec![1.0; channels].into() };
    let find = |name: &str| tensor(params, layer, name);
    let statistics = Statistics { mean: find("running_mean")?, variance: find("running_var")? };
    Ok(Kind::BatchNorm(shape, Weights { weight, bias: find("bias")?.into() }, statistics))
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
