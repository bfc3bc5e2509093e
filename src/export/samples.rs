//! Rows with what a model says of them, as one safetensors file: whoever runs an exported model elsewhere can check that it
//! says the same (`jobs/verify_onnx.py`).
//!
//! Tensors: `rows` as the exported graph takes them (u8 `[N, h, w, c]` or f32 `[N, d]`), `logits` and `probabilities`
//! f32 `[N, classes]`.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::weights::{Owned, serialize};
use crate::checkpoint::SavedModel;
use crate::data::{Dataset, Split, Values};
use crate::error::{Error, Result};
use crate::kernels;
use crate::model::{Predictor, Workspace};

/// Rows that are taken, at most.
pub const MOST_ROWS: usize = 200;

/// Rows that go through the network at once.
const BATCH: usize = 32;

/// Where the samples of an exported file stand: `photos.onnx` has `photos.samples.safetensors`.
pub fn beside(exported: &Path) -> PathBuf {
    exported.with_extension("samples.safetensors")
}

/// The bytes of such a file, and how many rows are in it: the first rows of `data`'s test split, else of its validation or
/// training rows.
///
/// # Errors
/// When the dataset cannot be read, or is of other rows than the model takes.
pub fn encode(saved: &SavedModel, data: &Path) -> Result<(Vec<u8>, usize)> {
    let dataset = Dataset::open(data)?;
    if dataset.shape != saved.shape {
        return Err(Error::invalid(
            data.display().to_string(),
            dataset.shape.to_string(),
            format!("{}, as the model takes", saved.shape),
            "give the dataset that the model was trained on",
        ));
    }
    let split = [Split::Test, Split::Val].into_iter().find(|&split| dataset.rows(split) > 0).unwrap_or(Split::Train);
    let count = dataset.rows(split).min(MOST_ROWS);
    let values = dataset.read(split, 0..count)?.values;
    let logits = logits(saved, &values);
    let mut probabilities = logits.clone();
    kernels::softmax(saved.model.classes, &mut probabilities);
    let [h, w, c] = saved.shape.hwc();
    let rows = match values {
        Values::Images(bytes) => Owned { shape: vec![count, h, w, c], bytes, dtype: Dtype::U8 },
        Values::Features(values) => Owned::f32(vec![count, c], values.into_iter()),
    };
    let shape = || vec![count, saved.model.classes];
    let tensors = vec![
        ("rows".to_owned(), rows),
        ("logits".to_owned(), Owned::f32(shape(), logits.into_iter())),
        ("probabilities".to_owned(), Owned::f32(shape(), probabilities.into_iter())),
    ];
    Ok((serialize(tensors, HashMap::new(), data)?, count))
}

/// `[rows, classes]`
fn logits(saved: &SavedModel, values: &Values) -> Vec<f32> {
    let length = saved.shape.len();
    let count = match values {
        Values::Images(pixels) => pixels.len() / length,
        Values::Features(features) => features.len() / length,
    };
    let mut ws = Workspace::for_inference(&saved.model, BATCH);
    let mut predictor = Predictor { model: &saved.model, params: &saved.params, workspace: &mut ws };
    let mut logits = Vec::with_capacity(count * saved.model.classes);
    let fill = |rows: Range<usize>, input: &mut [f32]| {
        for (row, input) in rows.zip(input.chunks_exact_mut(length)) {
            let place = row * length..(row + 1) * length;
            match values {
                Values::Images(pixels) => saved.normalizer.pixels(&pixels[place], input),
                Values::Features(features) => saved.normalizer.features(&features[place], input),
            }
        }
    };
    predictor.run(0..count, fill, |_, of_batch| logits.extend_from_slice(of_batch));
    logits
}
