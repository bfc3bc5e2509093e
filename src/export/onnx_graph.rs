//! A graph of ONNX that grows at its end.

use super::onnx_proto::*;
use crate::data::RowShape;

/// Element types, as ONNX numbers them.
pub const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT64: i32 = 7;

/// What a stage gives.
#[derive(Clone)]
pub struct Value {
    pub name: String,
    /// Whether it is an image with channels last, as ours are, or first, as ONNX wants them.
    pub channels_last: bool,
}

/// A graph that grows at its end.
pub struct Graph {
    pub nodes: Vec<NodeProto>,
    pub initializers: Vec<TensorProto>,
    pub input: ValueInfo,
    /// The newest value.
    pub value: String,
    /// Whether it is an image with channels last, as ours are, or first, as ONNX wants them.
    pub channels_last: bool,
}

impl Graph {
    pub fn new(shape: RowShape) -> Graph {
        let (name, kind, sizes) = match shape {
            RowShape::Image { h, w, c } => ("pictures", UINT8, vec![h, w, c]),
            RowShape::Features { d } => ("features", FLOAT, vec![d]),
        };
        let input = value_info(name, kind, &sizes);
        Graph { nodes: Vec::new(), initializers: Vec::new(), input, value: name.to_owned(), channels_last: true }
    }

    pub fn node_to(&mut self, op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> String {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            attribute,
        });
        output.to_owned()
    }

    /// The newest value goes through `op`, together with `others`.
    pub fn then(&mut self, op: &str, others: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        let value = std::mem::take(&mut self.value);
        let inputs: Vec<&str> = std::iter::once(value.as_str()).chain(others.iter().copied()).collect();
        self.value = self.node_to(op, &inputs, output, attribute);
    }

    pub fn tensor(&mut self, name: &str, dims: &[usize], values: impl Iterator<Item = f32>) -> String {
        let raw_data = values.flat_map(f32::to_le_bytes).collect();
        let dims = dims.iter().map(|&size| size as i64).collect();
        self.initializers.push(TensorProto { dims, data_type: FLOAT, name: name.to_owned(), raw_data });
        name.to_owned()
    }

    /// A list of whole numbers.
    pub fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let dims = vec![values.len() as i64];
        self.initializers.push(TensorProto { dims, data_type: INT64, name: name.to_owned(), raw_data });
        name.to_owned()
    }

    /// The newest value.
    pub fn value(&self) -> Value {
        Value { name: self.value.clone(), channels_last: self.channels_last }
    }

    /// The newest value with its channels where they are wanted.
    pub fn channels(&mut self, last: bool, name: &str) {
        if self.channels_last != last {
            let order: &[i64] = if last { &[0, 2, 3, 1] } else { &[0, 3, 1, 2] };
            let output = format!("{name}.channels_{}", if last { "last" } else { "first" });
            self.then("Transpose", &[], &output, vec![ints("perm", order)]);
            self.channels_last = last;
        }
    }

    /// Several values go through `op` together, their channels all where they are wanted.
    pub fn join(&mut self, op: &str, inputs: Vec<Value>, last: bool, name: &str, attributes: Vec<AttributeProto>) {
        let mut names = Vec::with_capacity(inputs.len());
        for (index, Value { name: value, channels_last }) in inputs.into_iter().enumerate() {
            (self.value, self.channels_last) = (value, channels_last);
            self.channels(last, &format!("{name}.input{index}"));
            names.push(std::mem::take(&mut self.value));
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.value = self.node_to(op, &names, &format!("{name}.output"), attributes);
    }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: Some(value), kind: 2, ..AttributeProto::default() }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ints: values.to_vec(), kind: 7, ..AttributeProto::default() }
}

pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f: Some(value), kind: 1, ..AttributeProto::default() }
}

/// Any number of rows of these sizes.
pub fn value_info(name: &str, elem_type: i32, sizes: &[usize]) -> ValueInfo {
    let rows = Dimension { param: Some("N".to_owned()), value: None };
    let sizes = sizes.iter().map(|&size| Dimension { value: Some(size as i64), param: None });
    let shape = TensorShape { dim: std::iter::once(rows).chain(sizes).collect() };
    let tensor = TensorType { elem_type, shape: Some(shape) };
    ValueInfo { name: name.to_owned(), kind: Some(TypeProto { tensor: Some(tensor) }) }
}
