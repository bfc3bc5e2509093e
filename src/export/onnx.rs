//! A model as an ONNX graph: raw rows in, probabilities out. Preparation and softmax are inside it.
//!
//! Input: `pictures` u8 `[N, h, w, c]`, or `features` f32 `[N, d]`, for any N. Outputs: `probabilities` and `logits`,
//! both f32 `[N, classes]`. Opset 17: the last one in which reductions take their axes as attributes, so that older
//! runtimes read it too.

use std::path::Path;

use prost::Message;

use super::fold::folded;
use super::metadata;
use super::onnx_graph::{FLOAT, Graph, Value, float, int, ints, value_info};
use super::onnx_proto::*;
use super::stages::{Function, Kind, Operand, Pads, Stage, Weights, stages};
use crate::checkpoint::SavedModel;
use crate::data::{Normalize, RowShape};
use crate::error::{Error, Result};
use crate::kernels::{AdaptiveShape, GroupNormShape, PoolShape};
use crate::plural::plural;

const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// What a protobuf message can hold.
const MOST_BYTES: usize = (1 << 31) - (1 << 20);

/// An element type, as ONNX numbers them.
const DOUBLE: i32 = 11;

/// The bytes of the file; `path` is the model's own, for the metadata. `unfolded` leaves batch norms as they are, for training elsewhere; else
/// convolutions compute those behind them.
///
/// # Errors
/// When the weights are more than an ONNX file can hold.
pub fn encode(saved: &SavedModel, path: &Path, unfolded: bool) -> Result<Vec<u8>> {
    if size_of_val(&saved.params.values[..]) > MOST_BYTES {
        return Err(Error::invalid(
            path.display().to_string(),
            plural(saved.params.values.len(), "weight"),
            "at most 2 GiB of them, which is what an ONNX file can hold",
            "export with --to safetensors",
        ));
    }
    let network = stages(saved)?;
    let network = if unfolded { network } else { folded(network) };
    let mut graph = Graph::new(saved.shape);
    graph.prepare(saved);
    let input = graph.value();
    let mut values: Vec<Value> = Vec::with_capacity(network.len());
    for stage in &network {
        let of = |stage: &Option<usize>| stage.map_or_else(|| input.clone(), |stage| values[stage].clone());
        let inputs: Vec<Value> = stage.inputs.iter().map(of).collect();
        values.push(graph.stage(stage, inputs));
    }
    if let Some(last) = values.pop() {
        graph.value = last.name;
    }
    // A network may end in an image of one pixel that "flatten" made a vector: its last value is the logits.
    let logits = std::mem::take(&mut graph.value);
    graph.node_to("Identity", &[&logits], "logits", vec![]);
    graph.node_to("Softmax", &["logits"], "probabilities", vec![int("axis", 1)]);
    let classes = saved.model.classes;
    let rows = |name: &str| value_info(name, FLOAT, &[classes]);
    let proto = GraphProto {
        node: graph.nodes,
        name: saved.model.spec.name.clone(),
        initializer: graph.initializers,
        input: vec![graph.input],
        output: vec![rows("probabilities"), rows("logits")],
    };
    let metadata_props = metadata(saved, path).into_iter();
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "glasses".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        doc_string: "First output: the probability of each class, named in the metadata 'classes'.".to_owned(),
        graph: Some(proto),
        opset_import: vec![OperatorSetId { version: OPSET }],
        metadata_props: metadata_props.map(|(key, value)| StringString { key: key.to_owned(), value }).collect(),
    };
    Ok(model.encode_to_vec())
}

impl Graph {
    /// What a normaliser does to a row.
    fn prepare(&mut self, saved: &SavedModel) {
        let raw = self.value.clone();
        let pixels = matches!(saved.shape, RowShape::Image { .. });
        if pixels {
            self.then("Cast", &[], "prepare.values", vec![int("to", FLOAT.into())]);
        }
        match saved.normalizer.mode() {
            Normalize::None => {}
            // Rows of features are taken as they are.
            Normalize::Unit if !pixels => {}
            Normalize::Unit => {
                let scale = self.tensor("prepare.scale", &[], std::iter::once(1.0 / 255.0));
                self.then("Mul", &[&scale], "prepare.scaled", vec![]);
            }
            Normalize::Dataset => {
                let (mean, inverse) = saved.normalizer.parts();
                let mean = self.tensor("prepare.mean", &[mean.len()], mean.iter().copied());
                let inverse = self.tensor("prepare.inverse", &[inverse.len()], inverse.iter().copied());
                self.standardise(&mean, &inverse);
            }
            Normalize::PerImage => {
                let axes: &[i64] = if pixels { &[1, 2] } else { &[1] };
                let (mean, inverse) = self.moments(&raw, axes);
                self.standardise(&mean, &inverse);
            }
        }
    }

    fn standardise(&mut self, mean: &str, inverse: &str) {
        self.then("Sub", &[mean], "prepare.centred", vec![]);
        self.then("Mul", &[inverse], "prepare.standardised", vec![]);
    }

    /// Mean and one over the deviation (0 where nothing varies) of the rows `raw` along `axes`. In f64, as our own are:
    /// the mean of thousands of pixels in f32 would be off by more than the network's own rounding.
    fn moments(&mut self, raw: &str, axes: &[i64]) -> (String, String) {
        let reduce = || vec![ints("axes", axes), int("keepdims", 1)];
        let to = |kind: i32| vec![int("to", kind.into())];
        let values = self.node_to("Cast", &[raw], "moments.values", to(DOUBLE));
        let mean = self.node_to("ReduceMean", &[&values], "moments.mean", reduce());
        let centred = self.node_to("Sub", &[&values, &mean], "moments.centred", vec![]);
        let squares = self.node_to("Mul", &[&centred, &centred], "moments.squares", vec![]);
        let variance = self.node_to("ReduceMean", &[&squares], "moments.variance", reduce());
        let deviation = self.node_to("Sqrt", &[&variance], "moments.deviation", vec![]);
        let inverse = self.node_to("Reciprocal", &[&deviation], "moments.reciprocal", vec![]);
        let inverse = self.node_to("Cast", &[&inverse], "moments.reciprocal_f32", to(FLOAT));
        let zero = self.tensor("moments.zero", &[], std::iter::once(0.0));
        let deviation = self.node_to("Cast", &[&deviation], "moments.deviation_f32", to(FLOAT));
        let varies = self.node_to("Greater", &[&deviation, &zero], "moments.varies", vec![]);
        let inverse = self.node_to("Where", &[&varies, &inverse, &zero], "moments.inverse", vec![]);
        (self.node_to("Cast", &[&mean], "moments.mean_f32", to(FLOAT)), inverse)
    }

    /// An element-wise function of the value: its operators, one behind the other.
    fn function(&mut self, name: &str, function: &Function) {
        let argument = self.value.clone();
        for (place, operator) in function.onnx.iter().enumerate() {
            let is_last = place + 1 == function.onnx.len();
            let output = if is_last { format!("{name}.output") } else { format!("{name}.step{place}") };
            let attributes = operator.attributes.iter().map(|&(name, value)| float(name, value)).collect();
            let operand = |(index, operand): (usize, &Operand)| match *operand {
                Operand::Argument => argument.clone(),
                Operand::Number(value) => {
                    self.tensor(&format!("{name}.number{place}_{index}"), &[], std::iter::once(value))
                }
            };
            let operands: Vec<String> = operator.operands.iter().enumerate().map(operand).collect();
            let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
            self.then(operator.name, &operands, &output, attributes);
        }
    }

    /// The first value times a factor a channel.
    fn scale(&mut self, name: &str, mut inputs: Vec<Value>, is_image: bool) {
        let Some(Value { name: mut factors, .. }) = inputs.pop() else { return };
        for Value { name, channels_last } in inputs {
            (self.value, self.channels_last) = (name, channels_last);
        }
        if is_image {
            self.channels(false, name);
            let shape = self.integers(&format!("{name}.shape"), &[0, -1, 1, 1]);
            factors = self.node_to("Reshape", &[&factors, &shape], &format!("{name}.factors"), vec![]);
        }
        self.then("Mul", &[&factors], &format!("{name}.output"), vec![]);
    }

    /// Means of windows: of one size where the image can be shared out evenly, else products with matrices of shares.
    fn share_out(&mut self, name: &str, s: &AdaptiveShape) {
        let output = format!("{name}.output");
        if s.h_in.is_multiple_of(s.h_out) && s.w_in.is_multiple_of(s.w_out) {
            let window = [(s.h_in / s.h_out) as i64, (s.w_in / s.w_out) as i64];
            self.then("AveragePool", &[], &output, vec![ints("kernel_shape", &window), ints("strides", &window)]);
            return;
        }
        let share = |index: usize, inputs: usize, outputs: usize, input: usize| {
            let window = AdaptiveShape::window(index, inputs, outputs);
            if window.contains(&input) { 1.0 / window.len() as f32 } else { 0.0 }
        };
        let columns = (0..s.w_in * s.w_out).map(|at| share(at % s.w_out, s.w_in, s.w_out, at / s.w_out));
        let columns = self.tensor(&format!("{name}.columns"), &[s.w_in, s.w_out], columns);
        self.then("MatMul", &[&columns], &format!("{name}.narrow"), vec![]);
        let rows = (0..s.h_out * s.h_in).map(|at| share(at / s.h_in, s.h_in, s.h_out, at % s.h_in));
        let rows = self.tensor(&format!("{name}.rows"), &[s.h_out, s.h_in], rows);
        let narrow = std::mem::take(&mut self.value);
        self.value = self.node_to("MatMul", &[&rows, &narrow], &output, vec![]);
    }

    /// Groups as the channels of a normalisation of their own; then a factor and a summand a channel.
    fn group_norm(&mut self, name: &str, s: &GroupNormShape, Weights { weight, bias }: &Weights<'_>) {
        let image = std::mem::take(&mut self.value);
        let groups = self.integers(&format!("{name}.groups"), &[0, s.groups as i64, -1]);
        self.value = self.node_to("Reshape", &[&image, &groups], &format!("{name}.grouped"), vec![]);
        let [ones, zeros] = [("ones", 1.0), ("zeros", 0.0)].map(|(tensor, value)| {
            self.tensor(&format!("{name}.{tensor}"), &[s.groups], std::iter::repeat_n(value, s.groups))
        });
        let eps = vec![float("epsilon", s.eps as f32)];
        self.then("InstanceNormalization", &[&ones, &zeros], &format!("{name}.normalised"), eps);
        let shape = self.node_to("Shape", &[&image], &format!("{name}.shape"), vec![]);
        self.then("Reshape", &[&shape], &format!("{name}.image"), vec![]);
        let weight = self.tensor(&format!("{name}.weight"), &[s.channels, 1, 1], weight.iter().copied());
        self.then("Mul", &[&weight], &format!("{name}.scaled"), vec![]);
        let bias = self.tensor(&format!("{name}.bias"), &[s.channels, 1, 1], bias.iter().copied());
        self.then("Add", &[&bias], &format!("{name}.output"), vec![]);
    }

    fn stage(&mut self, Stage { name, kind, .. }: &Stage<'_>, mut inputs: Vec<Value>) -> Value {
        let output = format!("{name}.output");
        let are_last = inputs.iter().all(|input| input.channels_last);
        if let [Value { name, channels_last }] = &mut inputs[..] {
            (self.value, self.channels_last) = (std::mem::take(name), *channels_last);
        }
        match kind {
            Kind::Conv(shape, weights) => {
                self.channels(false, name);
                let values = kind.places_channels_first().map(|place| weights.weight[place]);
                let weight = self.tensor(&format!("{name}.weight"), &kind.shape_channels_first(), values);
                let has_bias = !weights.bias.is_empty();
                let bias = has_bias
                    .then(|| self.tensor(&format!("{name}.bias"), &[shape.c_out], weights.bias.iter().copied()));
                let mut attributes = window([shape.kh, shape.kw], shape.stride, Pads::of_conv(shape));
                if shape.dilation > 1 {
                    attributes.push(ints("dilations", &[shape.dilation as i64; 2]));
                }
                if shape.groups > 1 {
                    attributes.push(int("group", shape.groups as i64));
                }
                let operands: Vec<&str> = std::iter::once(&weight).chain(&bias).map(String::as_str).collect();
                self.then("Conv", &operands, &output, attributes);
            }
            Kind::MaxPool(shape) => {
                self.channels(false, name);
                self.then("MaxPool", &[], &output, pool(shape));
            }
            Kind::AvgPool(shape) => {
                self.channels(false, name);
                let attributes = [pool(shape), vec![int("count_include_pad", 0)]].concat();
                self.then("AveragePool", &[], &output, attributes);
            }
            Kind::AdaptiveAvgPool(shape) => {
                self.channels(false, name);
                self.share_out(name, shape);
            }
            Kind::GroupNorm(shape, weights) => {
                self.channels(false, name);
                self.group_norm(name, shape, weights);
            }
            Kind::LayerNorm(shape, Weights { weight, bias }) => {
                self.channels(true, name);
                let weight = self.tensor(&format!("{name}.weight"), &[shape.channels], weight.iter().copied());
                let bias = self.tensor(&format!("{name}.bias"), &[shape.channels], bias.iter().copied());
                let attributes = vec![int("axis", -1), float("epsilon", shape.eps as f32)];
                self.then("LayerNormalization", &[&weight, &bias], &output, attributes);
            }
            Kind::BatchNorm(shape, Weights { weight, bias }, statistics) => {
                self.channels(!shape.is_image, name);
                let tensors =
                    [("weight", &weight[..]), ("bias", bias), ("mean", statistics.mean), ("var", statistics.variance)];
                let tensors = tensors.map(|(tensor, values)| {
                    self.tensor(&format!("{name}.{tensor}"), &[shape.channels], values.iter().copied())
                });
                let attributes =
                    vec![float("epsilon", shape.eps as f32), float("momentum", 1.0 - shape.momentum as f32)];
                self.then("BatchNormalization", &tensors.each_ref().map(String::as_str), &output, attributes);
            }
            Kind::Folded => {}
            Kind::GlobalAvgPool | Kind::GlobalMaxPool => {
                let is_mean = matches!(kind, Kind::GlobalAvgPool);
                self.channels(false, name);
                let op = if is_mean { "GlobalAveragePool" } else { "GlobalMaxPool" };
                self.then(op, &[], &format!("{name}.pooled"), vec![]);
                self.then("Flatten", &[], &output, vec![int("axis", 1)]);
                self.channels_last = true;
            }
            Kind::Flatten(..) => {
                self.channels(true, name);
                self.then("Flatten", &[], &output, vec![int("axis", 1)]);
            }
            Kind::Dense(shape, _, Weights { weight, bias }) => {
                let weight =
                    self.tensor(&format!("{name}.weight"), &[shape.inputs, shape.outputs], weight.iter().copied());
                let bias = self.tensor(&format!("{name}.bias"), &[shape.outputs], bias.iter().copied());
                self.then("Gemm", &[&weight, &bias], &output, vec![]);
            }
            Kind::Function(function) => self.function(name, function),
            // It only changes training.
            Kind::Dropout(_) | Kind::DropPath(_) => {}
            Kind::Add => {
                let operator = if inputs.len() == 2 { "Add" } else { "Sum" };
                self.join(operator, inputs, are_last, name, vec![]);
            }
            Kind::Scale { is_image } => self.scale(name, inputs, *is_image),
            Kind::Concat => {
                // Vectors have one axis, images theirs of channels.
                let axis = if are_last { -1 } else { 1 };
                self.join("Concat", inputs, are_last, name, vec![int("axis", axis)]);
            }
        }
        self.value()
    }
}

fn pool(shape: &PoolShape) -> Vec<AttributeProto> {
    window([shape.kh, shape.kw], shape.stride, Pads::of_pool(shape))
}

fn window(kernel: [usize; 2], stride: usize, pads: Pads) -> Vec<AttributeProto> {
    let list = |sizes: &[usize]| sizes.iter().map(|&size| size as i64).collect::<Vec<_>>();
    vec![
        ints("kernel_shape", &list(&kernel)),
        ints("strides", &list(&[stride, stride])),
        ints("pads", &list(&[pads.top, pads.left, pads.bottom, pads.right])),
    ]
}
