//! A checkpoint as a model: what it says of its network beside the numbers.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::model::{SavedModel, read_model};
use super::state::{State, is_state, read_state};
use crate::data::{Normalize, Normalizer, RowShape, foreign};
use crate::error::{Error, Result};
use crate::kernels::zeros;
use crate::model::{Engine, Model, ModelSpec, Params};

/// What a model file says in its attributes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Described {
    spec: String,
    shape: RowShape,
    classes: Vec<String>,
    normalize: Normalize,
    mean: Vec<f32>,
    inverse_deviation: Vec<f32>,
}

/// The part of a checkpoint's text that is read here.
#[derive(Deserialize)]
struct Text {
    #[serde(default)]
    model: Option<Described>,
}

impl Described {
    /// What its rows are, and its class names in label order.
    pub fn rows(&self) -> (RowShape, &[String]) {
        (self.shape, &self.classes)
    }

    /// Of the network that is being trained.
    pub fn of(model: &Model, shape: RowShape, normalizer: &Normalizer, classes: &[String]) -> Described {
        let (mean, inverse_deviation) = normalizer.parts();
        Described {
            spec: toml::to_string(&model.spec).unwrap_or_default(),
            shape,
            classes: classes.to_vec(),
            normalize: normalizer.mode(),
            mean: mean.to_vec(),
            inverse_deviation: inverse_deviation.to_vec(),
        }
    }
}

/// Reads a model file, or a checkpoint as the model that its run had then.
///
/// # Errors
/// When it is not a whole file of a version that we know.
pub fn read(path: &Path) -> Result<SavedModel> {
    // What cannot be read here, the other way says better.
    if is_state(path).unwrap_or(false) { of_state(&read_state(path)?) } else { read_model(path) }
}

fn of_state(state: &State) -> Result<SavedModel> {
    let path = state.path();
    let place = || format!("checkpoint {}", path.display());
    let text: Text = serde_json::from_str(&state.meta).map_err(|e| {
        Error::invalid(place(), format!("a text that is none of ours ({e})"), "a checkpoint", "take another one")
    })?;
    let Some(Described { spec, shape, classes, normalize, mean, inverse_deviation }) = text.model else {
        let fix = "go on with its run (`glasses train --resume`), which then writes a model";
        return Err(Error::invalid(
            place(),
            "one of glasses 0.2.0 or before, which names no classes",
            "a newer one",
            fix,
        ));
    };
    let flat = matches!(shape, RowShape::Features { .. });
    let spec = ModelSpec::parse(&spec, &place())?;
    let model = Model::new(spec, shape.hwc(), flat, classes.len(), Engine::Direct)?;
    let channels = shape.hwc()[2];
    let normalizer = if normalize != Normalize::Dataset {
        Normalizer::new(normalize, channels)
    } else if mean.len() == channels && inverse_deviation.len() == channels {
        Normalizer::from_parts(normalize, channels, mean, inverse_deviation)
    } else {
        let found = format!("{} means and {} deviations", mean.len(), inverse_deviation.len());
        return Err(Error::invalid(place(), found, format!("{channels} of each"), "take another checkpoint"));
    };
    foreign::fits(path, "params", model.values().checked_mul(4))?;
    let mut values = zeros(model.values());
    for param in model.table.iter() {
        state.read_into(&format!("params/{}", param.name), &param.shape, &mut values[param.range.clone()])?;
    }
    if values.iter().any(|value| !value.is_finite()) {
        let fix = "take an older checkpoint: the training had diverged";
        return Err(Error::invalid(place(), "weights that are no numbers", "finite numbers", fix));
    }
    let params = Params { values, table: model.table.clone() };
    Ok(SavedModel { model, params, shape, normalizer, classes })
}
