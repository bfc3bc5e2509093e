//! From text to steps: checks every layer against the shape that reaches it, before anything is allocated.

use std::ops::Range;

use super::layers::{
    ActivationLayer, AvgPool, Conv, Copy, Dense, Dropout, GemmConv, GemmDense, InPlace, Layer, MaxPool,
};
use super::params::Param;
use super::spec::{LayerSpec, ModelSpec};
use super::{Engine, sizes};
use crate::error::{Error, Result};
use crate::kernels::{Activation, ConvShape, DenseShape, Padding, PoolShape, Rectifier, Window};

/// The most weights that we plan for: 32 GiB of them.
const MOST_WEIGHTS: usize = 1 << 33;

/// What happens to the chain of buffers.
#[derive(Debug)]
pub enum Step {
    /// Reads the newest buffer, writes the next one. Its packed weights stand at this place.
    Map(Box<dyn Layer>, Range<usize>),
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
    /// The layer that each step was planned for; those behind it without a step of their own are fused into it.
    pub layer_of: Vec<usize>,
    /// The buffers; the first holds the input, the last the logits.
    pub buffers: Vec<Row>,
    /// How many steps, and how many buffers, come before the first dense layer: they are worked through image by image, so
    /// that an image stays in the cache from layer to layer.
    pub by_image: (usize, usize),
    /// Weights and biases of those steps: the first ones of all.
    pub weights_by_image: usize,
    /// What a row of the input is: `[h, w, c]`.
    pub input: [usize; 3],
    /// The parameters, in order.
    pub table: Vec<Param>,
    /// The layers as listed.
    pub layers: Vec<LayerInfo>,
    /// Floats of packed weights.
    pub packed: usize,
    engine: Engine,
    /// A convolution that may still have something fused into it, and its layer's number.
    open: Option<(usize, Conv)>,
    shape: [usize; 3],
    flat: bool,
    /// What the newest buffer's content must keep for the way back.
    keeps: Keeps,
}

/// What a row takes in a buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Values, borders included.
    pub values: usize,
    /// Values of the gradient, with borders of its own.
    pub gradient: usize,
    /// Words that the layer which writes the buffer keeps for the way back.
    pub kept: usize,
}

impl Row {
    fn dense(values: usize) -> Row {
        Row { values, gradient: values, kept: 0 }
    }
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
    pub fn new(spec: &ModelSpec, input: [usize; 3], flat: bool, classes: usize, engine: Engine) -> Result<Plan> {
        let advice = |index: usize| {
            sizes::advice(spec, index, input, |spec, input| {
                let none = |_: usize| None;
                Plan::build(spec, input, flat, classes, engine, &none).is_ok()
            })
        };
        Plan::build(spec, input, flat, classes, engine, &advice)
    }

    /// As [`Plan::new`]; `advice` says what else to do about a layer that does not fit.
    fn build(
        spec: &ModelSpec,
        input: [usize; 3],
        flat: bool,
        classes: usize,
        engine: Engine,
        advice: &dyn Fn(usize) -> Option<String>,
    ) -> Result<Plan> {
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
        if classes == 0 {
            return Err(model("data without classes".to_owned(), "at least one".to_owned(), "name the classes"));
        }
        let values = length(&input).map_err(|_| {
            let found = format!("an input {} of more than 2^33 values", show(&input));
            model(found, "one that fits into memory".to_owned(), "take smaller rows")
        })?;
        let buffers = vec![Row::dense(values)];
        let mut plan = Plan { buffers, input, shape: input, flat, engine, ..Plan::default() };
        for (index, layer) in spec.layers.iter().enumerate() {
            let before = plan.shape_now();
            let refuse = |why: String| {
                Error::invalid(
                    format!("model '{}', layer {index} '{layer}'", spec.name),
                    format!("input {}: {why}", show(&before)),
                    "a layer that fits the shape that reaches it",
                    advice(index).unwrap_or_else(|| "change this layer or the ones before it".to_owned()),
                )
            };
            if *layer == LayerSpec::Softmax && index + 1 < spec.layers.len() {
                return Err(refuse("softmax is part of the loss and may only stand last".to_owned()));
            }
            plan.add(index, layer, classes).map_err(refuse)?;
        }
        plan.close();
        if plan.by_image == (0, 0) {
            plan.by_image = (plan.steps.len(), plan.buffers.len());
            plan.weights_by_image = plan.weights();
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

    /// The first step with weights: nothing below it needs a gradient.
    pub fn first_weights(&self) -> usize {
        let has = |step: &Step| matches!(step, Step::Map(layer, _) if layer.has_weights());
        self.steps.iter().position(has).unwrap_or(0)
    }

    /// How many of these steps overwrite their buffer.
    pub fn in_place_steps(&self, steps: Range<usize>) -> usize {
        self.steps[steps].iter().filter(|step| matches!(step, Step::InPlace(_))).count()
    }

    /// The buffer that is the newest one before step `step`.
    pub fn buffer_before(&self, step: usize) -> usize {
        step - self.in_place_steps(0..step)
    }

    /// The lowest buffer whose gradient is wanted.
    pub fn lowest_gradient(&self) -> usize {
        1 + self.buffer_before(self.first_weights())
    }

    fn shape_now(&self) -> Vec<usize> {
        if self.flat { vec![self.shape[2]] } else { self.shape.to_vec() }
    }

    fn add(&mut self, index: usize, layer: &LayerSpec, classes: usize) -> Result<(), String> {
        let (before, mut flops) = (self.weights(), 0);
        match *layer {
            LayerSpec::Conv { window, c_out } => flops = self.convolution(index, window, c_out)?,
            LayerSpec::MaxPool(window) => {
                self.image()?;
                let shape = PoolShape::new(self.shape, window)?;
                let output = [shape.h_out, shape.w_out, shape.channels];
                match &mut self.open {
                    Some((_, conv)) if is_two_by_two(&shape) && !conv.block.pool => {
                        conv.block = conv.block.with_pool();
                        self.shape = output;
                    }
                    _ => drop(self.map(MaxPool(shape), output)?),
                }
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
            LayerSpec::Dense(outputs) => flops = self.dense(index, outputs.unwrap_or(classes))?,
            LayerSpec::Activation(activation) => self.activation(activation)?,
            LayerSpec::Dropout(p) => {
                self.close();
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

    fn convolution(&mut self, index: usize, window: Window, c_out: usize) -> Result<u64, String> {
        self.image()?;
        let shape = ConvShape::new(self.shape, window, c_out)?;
        let wants_d_input = !self.table.is_empty();
        let weight = [shape.kh, shape.kw, shape.c_in, c_out];
        let (weight, bias) = self.weight_and_bias(&format!("conv{index}"), &weight)?;
        let output = [shape.h_out, shape.w_out, c_out];
        if self.engine == Engine::Gemm {
            return self.map(GemmConv { shape, weight, bias }, output);
        }
        length(&output)?;
        let mut conv = Conv::new(shape, weight, bias, wants_d_input);
        if let Some((_, below)) = &mut self.open {
            below.connect(&mut conv);
        }
        self.close();
        self.shape = output;
        let flops = conv.flops();
        self.open = Some((index, conv));
        Ok(flops)
    }

    fn dense(&mut self, index: usize, outputs: usize) -> Result<u64, String> {
        if !self.flat {
            return Err("a dense layer takes a vector; put \"flatten\" before it".to_owned());
        }
        let before = self.weights();
        let shape = DenseShape { inputs: self.shape[2], outputs };
        let (weight, bias) = self.weight_and_bias(&format!("dense{index}"), &[shape.inputs, outputs])?;
        self.close();
        if self.by_image == (0, 0) {
            self.by_image = (self.steps.len(), self.buffers.len());
            self.weights_by_image = before;
        }
        match self.engine {
            Engine::Direct => self.map(Dense { shape, weight, bias }, [1, 1, outputs]),
            Engine::Gemm => self.map(GemmDense { shape, weight, bias }, [1, 1, outputs]),
        }
    }

    fn activation(&mut self, activation: Activation) -> Result<(), String> {
        let rectifier = match activation {
            Activation::Relu => Some(Rectifier::Relu),
            Activation::LeakyRelu(slope) if slope > 0.0 => Some(Rectifier::Leaky(slope)),
            _ => None,
        };
        if let (Some((_, conv)), Some(rectifier)) = (&mut self.open, rectifier)
            && conv.fuse(rectifier)
        {
            return Ok(());
        }
        self.close();
        let keeps = match activation {
            Activation::Relu | Activation::LeakyRelu(_) => Keeps::Sign,
            Activation::Sigmoid | Activation::Tanh => Keeps::Value,
        };
        self.in_place(ActivationLayer(activation), self.keeps == Keeps::Nothing, keeps)
    }

    /// Takes the open convolution into the steps: from now on nothing can be fused into it.
    fn close(&mut self) {
        if let Some((index, conv)) = self.open.take() {
            let block = &conv.block;
            let row = Row { values: block.output.len(), gradient: block.d_output.len(), kept: conv.kept() };
            self.keeps = if block.rectifier.is_some() { Keeps::Sign } else { Keeps::Nothing };
            self.push(index, conv, row);
        }
    }

    fn push(&mut self, index: usize, layer: impl Layer + 'static, row: Row) {
        let packed = self.packed..self.packed + layer.packed().next_multiple_of(16);
        self.packed = packed.end;
        self.buffers.push(row);
        self.layer_of.push(index);
        self.steps.push(Step::Map(Box::new(layer), packed));
    }

    fn map(&mut self, layer: impl Layer + 'static, output: [usize; 3]) -> Result<u64, String> {
        self.close();
        let flops = layer.flops();
        // The layer that is being added: it is listed last.
        self.push(self.layers.len(), layer, Row::dense(length(&output)?));
        self.shape = output;
        self.keeps = Keeps::Nothing;
        Ok(flops)
    }

    fn in_place(&mut self, layer: impl InPlace + 'static, allowed: bool, keeps: Keeps) -> Result<(), String> {
        if !allowed {
            self.map(Copy, self.shape)?;
        }
        self.layer_of.push(self.layers.len());
        self.steps.push(Step::InPlace(Box::new(layer)));
        self.keeps = keeps;
        Ok(())
    }
}

/// Values in an output.
fn length(shape: &[usize]) -> Result<usize, String> {
    let length = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    length.filter(|&l| l <= MOST_WEIGHTS).ok_or_else(|| "the output would be more than 2^33 values".to_owned())
}

/// Whether every input pixel lies in exactly one 2×2 window.
fn is_two_by_two(pool: &PoolShape) -> bool {
    let window = (pool.kh, pool.kw, pool.stride, pool.pad_top, pool.pad_left);
    window == (2, 2, 2, 0, 0) && pool.h_in == 2 * pool.h_out && pool.w_in == 2 * pool.w_out
}

fn show(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x")
}
