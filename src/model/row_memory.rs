//! How much memory each layer takes for a row of a training step.

use std::ops::Range;

use super::Model;
use super::gradients::Target;
use super::memory::Place;

/// Floats of a row that earlier tensors have taken in a region.
#[derive(Default)]
struct Taken(Vec<Range<usize>>);

impl Taken {
    /// Takes `place`; how many of its floats nobody has taken before. What images take turns in, no row has.
    fn take(&mut self, place: &Place) -> usize {
        if place.images.is_some() {
            return 0;
        }
        let range = place.offset..place.offset + place.floats;
        let mut free = vec![range.clone()];
        for taken in &self.0 {
            let apart =
                |free: Range<usize>| [free.start..free.end.min(taken.start), free.start.max(taken.end)..free.end];
            free = free.into_iter().flat_map(apart).filter(|free| !free.is_empty()).collect();
        }
        self.0.push(range);
        free.iter().map(Range::len).sum()
    }
}

impl Model {
    /// Bytes that each of [`Model::layers`] takes for every row that goes through the network at once: its output, the gradient of that, and
    /// what it keeps for its backward pass. What stands in another's place takes nothing, nor does what images take turns in.
    pub fn row_bytes(&self) -> Vec<usize> {
        let program = &self.program;
        let mut bytes = vec![0; program.layers.len()];
        let mut values = Taken::default();
        // The input's.
        program.training.values.first().map(|place| values.take(place));
        for step in &program.steps {
            let floats = values.take(&program.training.values[step.output]);
            bytes[step.layer] += 4 * floats + 2 * step.kept();
        }
        let mut gradients = Taken::default();
        for (step, targets) in program.steps.iter().zip(&program.gradients.targets) {
            let through = |target: &Target| if let Target::Add { through, .. } = target { *through } else { None };
            let through = targets.iter().flatten().filter_map(through);
            for slot in program.gradients.of[step.output].into_iter().chain(through) {
                bytes[step.layer] += 4 * gradients.take(&program.training.gradients[slot]);
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Engine, Model, ModelSpec, StepRoom, Workspace};

    fn model(layers: &str) -> Model {
        let spec = ModelSpec::parse(&format!("name = \"m\"\nlayers = [{layers}]"), "m").unwrap();
        Model::new(spec, [12, 12, 3], false, 2, Engine::Direct).unwrap()
    }

    #[test]
    fn layers_take_together_what_a_row_takes_of_a_workspace() {
        for layers in [
            r#""conv 3x3x8", "relu", "maxpool 2", "conv 3x3x16", "tanh", "flatten", "dense 20", "relu", "dense classes""#,
            r#""conv 3x3x8", "relu", { residual = ["conv 3x3x8", "relu", "conv 3x3x8"] }, "relu", "global_avgpool", "dense classes""#,
            r#""conv 3x3x8", "group_norm 2", { scale = ["global_avgpool", "dense 4", "sigmoid", "dense 8"] }, "relu", "adaptive_avgpool 5",
                "flatten", "dense 20", { scale = ["tanh"] }, "layer_norm", "dense classes""#,
            r#""conv 3x3x8", { branches = [["conv 1x1x4"], ["maxpool 3 stride 1 pad 1"], []], join = "concat" }, "flatten",
                "dense 20", "tanh", { residual = ["dense 20", "dropout 0.1"] }, "dense classes""#,
        ] {
            let model = model(layers);
            let rows = model.row_bytes();
            let input = 4 * Workspace::tensor_floats(&model, 0, 1);
            let together = rows.iter().sum::<usize>() + input;
            let bytes = |capacity| Workspace::bytes(&model, StepRoom { capacity, shards: 1, groups: 1 });
            let a_row = bytes(101) - bytes(100);
            // Every place begins with a cache line.
            assert!((together..=together + 64 * 2 * rows.len()).contains(&a_row), "{together} {a_row} {layers}");
        }
    }

    #[test]
    fn what_stands_in_another_s_place_takes_nothing() {
        let rows = model(r#""conv 3x3x8", "relu", "flatten", "dense 10", "relu", "dense classes""#).row_bytes();
        // The rectifier is the convolution's own; the gradient of its output all rows have.
        assert_eq!(rows[1..3], [0, 0]);
        assert!(rows[0] >= 2 * 4 * 12 * 12 * 8, "{rows:?}");
        assert_eq!(rows[3..5], [80, 0]);
    }
}
