//! A trained model for other programs: ONNX, and named weights as PyTorch lays them out; and such weights read back.
//!
//! - [`stages`]: the network as layers with shapes and weights, in our own layouts;
//! - [`onnx`]: a graph that takes raw rows and gives probabilities;
//! - [`weights`]: a safetensors file, written and read;
//! - [`torch`]: the same network as a line of PyTorch;
//! - [`samples`]: rows with the model's predictions, to check the others by.

mod order;
mod fold;
pub mod stages;
pub mod onnx;
mod onnx_graph;
mod onnx_proto;
pub mod weights;
pub mod torch;
pub mod samples;

use std::path::Path;

use crate::checkpoint::SavedModel;
use crate::data::RowShape;

/// What stands beside the weights in every format: keys and texts.
///
/// `classes` is a JSON array in label order; `origin` says in a sentence what made the file; `network` is the model's
/// TOML; `input` is `HxWxC`, or the number of features; `normalize` names how rows are prepared.
pub fn metadata(saved: &SavedModel, path: &Path) -> Vec<(&'static str, String)> {
    let version = env!("CARGO_PKG_VERSION");
    let name = &saved.model.spec.name;
    let digest = saved.params.sha256();
    let origin = format!("network '{name}' trained by glasses {version}, from {}", path.display());
    vec![
        ("classes", serde_json::json!(saved.classes).to_string()),
        ("origin", origin),
        ("network", toml::to_string(&saved.model.spec).unwrap_or_default()),
        ("input", size(saved.shape)),
        ("normalize", saved.normalizer.mode().name().to_owned()),
        ("weights_sha256", digest),
    ]
}

fn size(shape: RowShape) -> String {
    match shape {
        RowShape::Image { h, w, c } => format!("{h}x{w}x{c}"),
        RowShape::Features { d } => d.to_string(),
    }
}
