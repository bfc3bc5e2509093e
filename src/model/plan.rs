//! From text to steps: checks every layer against the shape that reaches it, before anything is allocated.

use std::ops::Range;

use super::layers::{ActivationLayer, AvgPool, Conv, Copy, Dense, Dropout, InPlace, Layer, MaxPool};
use super::params::Param;
use super::spec::{LayerSpec, ModelSpec};
use crate::error::{Error, Result};
use crate::kernels::{Activation, ConvShape, DenseShape, Padding, PoolShape, Window};

/// The most weights that we plan for: 32 GiB of them.
const MOST_WEIGHTS: usize = 1 << 33;

/// What happens to the chain of buffers.
#[derive(Debug)]
pub enum Step {
    /// Reads the newest buffer, writes the next one.
    Map(Box<dyn Layer>),
    /// Overwrites the newest buffer.
    InPlace(Box<dyn InPlace>),
}

/// One layer as a person would list it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct LayerInfo {
    /// As written in the model.
    pub layer: String,
    /// The output's shape: `[h, w, c]` or `[d]`.
    pub output: Vec<usize>,
    /// Weights and biases.
    pub parameters: usize,
    /// Floating-point operations of a forward pass of one row.
    pub flops: u64,
}

/// The plan of a whole network.
#[derive(Debug, Default)]
pub struct Plan {
    /// What to do, first to last.
    pub steps: Vec<Step>,
    /// Values a row in each buffer; the first holds the input, the last the logits.
    pub buffers: Vec<usize>,
    /// The parameters, in order.
    pub table: Vec<Param>,
    /// The layers as listed.
    pub layers: Vec<LayerInfo>,
    /// Floats of scratch memory.
    pub scratch: usize,
    shape: [usize; 3],
    flat: bool,
    /// What the newest buffer's content must keep for the way back.
    keeps: Keeps,
}

/// What an element-wise layer needs of its own output on the way back.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Keeps {
    #[default]
    Nothing,
    /// Where it is positive: dropout may still overwrite it, because it zeroes the gradient wherever it hides a sign.
    Sign,
    Value,
}

impl Plan {
    /// Plans `spec` for rows of `[h, w, c]` (`flat`: of `c` features) and `classes` classes.
    ///
    /// # Errors
    /// When a layer does not fit what reaches it; names the layer and both shapes.
    pub fn new(spec: &ModelSpec, input: [usize; 3], flat: bool, classes: usize) -> Result<Plan> {
        let model = |found: String, expected: String, fix: &str| {
            Error::invalid(format!("model '{}'", spec.name), found, expected, fix)
        };
        if let Some(wanted) = spec.input.filter(|wanted| *wanted != input) {
            return Err(model(
                format!("data of shape {}", show(&input)),
                format!("its own input {}", show(&wanted)),
                "ingest the pictures with that --size, or take 'input' out of the model",
            ));
        }
        let mut plan = Plan { buffers: vec![input.iter().product()], shape: input, flat, ..Plan::default() };
        for (index, layer) in spec.layers.iter().enumerate() {
            let before = plan.shape_now();
            let refuse = |why: String| {
                Error::invalid(
                    format!("model '{}', layer {index} '{layer}'", spec.name),
                    format!("input {}: {why}", show(&before)),
                    "a layer that fits the shape that reaches it",
                    "change this layer or the ones before it",
                )
            };
            if *layer == LayerSpec::Softmax && index + 1 < spec.layers.len() {
                return Err(refuse("softmax is part of the loss and may only stand last".to_owned()));
            }
            plan.add(index, layer, classes).map_err(refuse)?;
        }
        if !plan.flat || plan.shape[2] != classes {
            return Err(model(
                format!("a last layer that gives {}", show(&plan.shape_now())),
                format!("{classes} outputs, one a class of the data"),
                "end the model in \"dense classes\" (after \"flatten\")",
            ));
        }
        if plan.table.is_empty() {
            return Err(model("no layer with weights".to_owned(), "something to train".to_owned(), "add a layer"));
        }
        Ok(plan)
    }

    fn shape_now(&self) -> Vec<usize> {
        if self.flat { vec![self.shape[2]] } else { self.shape.to_vec() }
    }

    fn add(&mut self, index: usize, layer: &LayerSpec, classes: usize) -> Result<(), String> {
        let (before, mut flops) = (self.weights(), 0);
        match *layer {
            LayerSpec::Conv { window, c_out } => {
                self.image()?;
                let shape = ConvShape::new(self.shape, window, c_out)?;
                let weight = [shape.kh, shape.kw, shape.c_in, c_out];
                let (weight, bias) = self.weight_and_bias(&format!("conv{index}"), &weight)?;
                flops = self.map(Conv { shape, weight, bias }, [shape.h_out, shape.w_out, c_out])?;
            }
            LayerSpec::MaxPool(window) => {
                self.image()?;
                let shape = PoolShape::new(self.shape, window)?;
                self.map(MaxPool(shape), [shape.h_out, shape.w_out, shape.channels])?;
            }
            LayerSpec::AvgPool(window) => {
                self.image()?;
                let shape = PoolShape::new(self.shape, window)?;
                self.map(AvgPool(shape), [shape.h_out, shape.w_out, shape.channels])?;
            }
            LayerSpec::GlobalAvgPool => {
                self.image()?;
                let [kh, kw, c] = self.shape;
                let whole = Window { kh, kw, stride: 1, padding: Padding::Pixels(0) };
                self.map(AvgPool(PoolShape::new(self.shape, whole)?), [1, 1, c])?;
                self.flat = true;
            }
            LayerSpec::Flatten => {
                self.shape = [1, 1, self.shape.iter().product()];
                self.flat = true;
            }
            LayerSpec::Dense(outputs) => {
                if !self.flat {
                    return Err("a dense layer takes a vector; put \"flatten\" before it".to_owned());
                }
                let shape = DenseShape { inputs: self.shape[2], outputs: outputs.unwrap_or(classes) };
                let sizes = [shape.inputs, shape.outputs];
                let (weight, bias) = self.weight_and_bias(&format!("dense{index}"), &sizes)?;
                flops = self.map(Dense { shape, weight, bias }, [1, 1, shape.outputs])?;
            }
            LayerSpec::Activation(activation) => {
                let keeps = match activation {
                    Activation::Relu | Activation::LeakyRelu(_) => Keeps::Sign,
                    Activation::Sigmoid | Activation::Tanh => Keeps::Value,
                };
                self.in_place(ActivationLayer(activation), self.keeps == Keeps::Nothing, keeps)?;
            }
            LayerSpec::Dropout(p) => {
                self.in_place(Dropout { p, index }, self.keeps != Keeps::Value, self.keeps)?;
            }
            LayerSpec::Softmax => {}
        }
        let parameters = self.weights() - before;
        self.layers.push(LayerInfo { layer: layer.to_string(), output: self.shape_now(), parameters, flops });
        Ok(())
    }

    fn image(&self) -> Result<(), String> {
        if self.flat { Err("this layer takes an image, not a vector".to_owned()) } else { Ok(()) }
    }

    fn weights(&self) -> usize {
        self.table.last().map_or(0, |param| param.range.end)
    }

    fn weight_and_bias(&mut self, layer: &str, weight: &[usize]) -> Result<(Range<usize>, Range<usize>), String> {
        let start = self.weights();
        let length = weight.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let outputs = weight[weight.len() - 1];
        let length = length
            .filter(|length| start + outputs + length <= MOST_WEIGHTS)
            .ok_or_else(|| format!("weights {} would be more than 2^33 in all", show(weight)))?;
        let weight_range = start..start + length;
        let bias_range = weight_range.end..weight_range.end + outputs;
        let mut push = |tensor: &str, shape: Vec<usize>, range: &Range<usize>| {
            self.table.push(Param { name: format!("{layer}.{tensor}"), shape, range: range.clone() });
        };
        push("weight", weight.to_vec(), &weight_range);
        push("bias", vec![outputs], &bias_range);
        Ok((weight_range, bias_range))
    }

    fn map(&mut self, layer: impl Layer + 'static, output: [usize; 3]) -> Result<u64, String> {
        let length = output.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let length = length.filter(|&l| l <= MOST_WEIGHTS).ok_or("the output would be more than 2^33 values")?;
        let flops = layer.flops();
        self.scratch = self.scratch.max(layer.scratch());
        self.buffers.push(length);
        self.steps.push(Step::Map(Box::new(layer)));
        self.shape = output;
        self.keeps = Keeps::Nothing;
        Ok(flops)
    }

    fn in_place(&mut self, layer: impl InPlace + 'static, allowed: bool, keeps: Keeps) -> Result<(), String> {
        if !allowed {
            self.map(Copy, self.shape)?;
        }
        self.steps.push(Step::InPlace(Box::new(layer)));
        self.keeps = keeps;
        Ok(())
    }
}

fn show(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}
