//! The network layer by layer, with every shape worked out: what a writer of another format walks along.

use crate::checkpoint::SavedModel;
use crate::data::RowShape;
use crate::error::{Error, Result};
use crate::kernels::{Activation, ConvShape, DenseShape, Padding, PoolShape, Window};
use crate::model::{LayerSpec, Model, Params};

/// One layer of the network.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Kind and place, as in the names of weights: `conv0`, `relu1`, `dense7`.
    pub name: String,
    /// What it does.
    pub kind: Kind<'a>,
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
    /// An image `[h, w, c]` becomes a vector.
    Flatten([usize; 3]),
    /// A dense layer; where its input is a flattened image, the image's `[h, w, c]`.
    Dense(DenseShape, Option<[usize; 3]>, Weights<'a>),
    /// An element-wise function.
    Activation(Activation),
    /// Nothing when a model is used; this share of zeros when it is trained.
    Dropout(f32),
}

/// Weights and biases of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// Convolution `[kh, kw, c_in, c_out]`, dense `[inputs, outputs]`.
    pub weight: &'a [f32],
    /// `[outputs]`
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

    /// The weight's shape with channels first, as PyTorch has it: `[c_out, c_in, kh, kw]` or `[outputs, inputs]`.
    pub fn shape_channels_first(&self) -> Vec<usize> {
        match self {
            Kind::Conv(shape, _) => vec![shape.c_out, shape.c_in, shape.kh, shape.kw],
            Kind::Dense(shape, ..) => vec![shape.outputs, shape.inputs],
            _ => vec![],
        }
    }

    /// Where each weight of that shape, in order, lies in ours. The inputs of a dense layer behind an image go channel by
    /// channel there, pixel by pixel here.
    pub fn places_channels_first(&self) -> Box<dyn Iterator<Item = usize>> {
        match *self {
            Kind::Conv(ConvShape { kh, kw, c_in, c_out, .. }, _) => {
                let of = move |o| (0..c_in).flat_map(move |i| (0..kh * kw).map(move |k| (k * c_in + i) * c_out + o));
                Box::new((0..c_out).flat_map(of))
            }
            Kind::Dense(DenseShape { inputs, outputs }, image, _) => {
                let [h, w, c] = image.unwrap_or([1, 1, inputs]);
                let of = move |o| (0..c).flat_map(move |i| (0..h * w).map(move |pixel| (pixel * c + i) * outputs + o));
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
    walk(&saved.model, &saved.params, saved.shape)
}

/// As [`stages`], of a network that is no file yet.
///
/// # Errors
/// Never for a model that was planned.
pub fn walk<'a>(model: &Model, params: &'a Params, shape: RowShape) -> Result<Vec<Stage<'a>>> {
    let mut input = shape.hwc();
    // The image that a vector was made of, as long as nothing has mixed its values.
    let mut image = None;
    let mut stages = Vec::new();
    for (index, (layer, info)) in model.spec.layers.iter().zip(model.layers()).enumerate() {
        let failed =
            |why: String| Error::invalid(format!("layer {index} '{layer}'"), why, "a planned layer", "report it");
        let word = layer.to_string();
        let name = format!("{}{index}", word.split(' ').next().unwrap_or_default());
        let outputs = info.output.last().copied().unwrap_or(0);
        let kind = match *layer {
            LayerSpec::Conv { window, c_out } => {
                let shape = ConvShape::new(input, window, c_out).map_err(failed)?;
                Kind::Conv(shape, weights(params, &name).ok_or_else(|| failed("no weights".into()))?)
            }
            LayerSpec::MaxPool(window) => Kind::MaxPool(PoolShape::new(input, window).map_err(failed)?),
            LayerSpec::AvgPool(window) => Kind::AvgPool(PoolShape::new(input, window).map_err(failed)?),
            LayerSpec::GlobalAvgPool => Kind::GlobalAvgPool,
            LayerSpec::Flatten => {
                image = image.or(Some(input));
                Kind::Flatten(input)
            }
            LayerSpec::Dense(_) => {
                let shape = DenseShape { inputs: input[2], outputs };
                Kind::Dense(shape, image.take(), weights(params, &name).ok_or_else(|| failed("no weights".into()))?)
            }
            LayerSpec::Activation(activation) => Kind::Activation(activation),
            LayerSpec::Dropout(p) => Kind::Dropout(p),
            LayerSpec::Softmax => continue,
        };
        input = match info.output[..] {
            [h, w, c] => [h, w, c],
            _ => [1, 1, outputs],
        };
        stages.push(Stage { name, kind });
    }
    Ok(stages)
}

fn weights<'a>(params: &'a Params, layer: &str) -> Option<Weights<'a>> {
    let find = |tensor: &str| {
        let name = format!("{layer}.{tensor}");
        let param = params.table.iter().find(|param| param.name == name)?;
        Some(&params.values[param.range.clone()])
    };
    Some(Weights { weight: find("weight")?, bias: find("bias")? })
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
        let window = Window { kh: s.kh, kw: s.kw, stride: s.stride, padding: Padding::Pixels(0) };
        Pads::new([s.h_in, s.w_in], [s.h_out, s.w_out], window, [s.pad_top, s.pad_left])
    }

    /// Of a pooling layer.
    pub fn of_pool(s: &PoolShape) -> Pads {
        let window = Window { kh: s.kh, kw: s.kw, stride: s.stride, padding: Padding::Pixels(0) };
        Pads::new([s.h_in, s.w_in], [s.h_out, s.w_out], window, [s.pad_top, s.pad_left])
    }

    fn new(input: [usize; 2], output: [usize; 2], window: Window, [top, left]: [usize; 2]) -> Pads {
        let behind = |input: usize, output: usize, k: usize, before: usize| {
            ((output - 1) * window.stride + k).saturating_sub(input + before)
        };
        let bottom = behind(input[0], output[0], window.kh, top);
        Pads { top, left, bottom, right: behind(input[1], output[1], window.kw, left) }
    }

    /// Whether there are none.
    pub fn none(&self) -> bool {
        *self == Pads { top: 0, left: 0, bottom: 0, right: 0 }
    }

    /// Whether they are the same on opposite sides.
    pub fn even(&self) -> bool {
        (self.top, self.left) == (self.bottom, self.right)
    }
}
