//! Batch norm: against PyTorch (`tests/golden/norms.h5`; `make_norms.py` beside it made the values in f64), and against differences of
//! its own loss.

use glasses::model::{Engine, Init, Model, ModelSpec, Params};

use crate::gradients;

fn model(layers: &str, input: [usize; 3], flat: bool) -> Model {
    let spec = ModelSpec::parse(&format!("name = \"m\"\nlayers = [{layers}]"), "m").unwrap();
    Model::new(spec, input, flat, 3, Engine::Direct).unwrap()
}

#[test]
fn norms_agree_with_differences() {
    for (layers, input, flat) in [
        (r#""conv 3x3x5", "batch_norm", "tanh", "flatten", "dense classes""#, [5, 4, 2], false),
        (r#""batch_norm", "conv 3x3x5", "tanh", "batch_norm scale no", "flatten", "dense classes""#, [5, 4, 2], false),
        (r#""conv 3x3x4", "batch_norm", "leaky_relu 0.3", "conv 3x3x17 stride 2 pad 1", "batch_norm eps 0.01", "global_avgpool", "dense classes""#, [7, 7, 3], false),
        (r#""conv 3x3x4", { residual = ["batch_norm", "tanh", "conv 3x3x4", "batch_norm"] }, "tanh", "global_avgpool", "dense classes""#, [5, 5, 3], false),
        (r#""conv 3x3x4", { residual = ["conv 3x3x6 stride 2 pad 1", "batch_norm"], shortcut = ["conv 1x1x6 stride 2 pad 0", "batch_norm"] }, "tanh", "flatten", "dense 7", "batch_norm", "tanh", "dense classes""#, [6, 6, 3], false),
        (r#""conv 3x3x4", { branches = [["batch_norm"], [], ["batch_norm", "tanh"]], join = "concat" }, "flatten", "dense classes""#, [4, 4, 3], false),
        (r#""dense 9", "batch_norm", "tanh", "dense 6", "batch_norm", "dense classes""#, [1, 1, 5], true),
    ] {
        let model = model(layers, input, flat);
        let mut params = Params::initial(model.table.clone(), Init::Xavier, 4);
        gradients::check(&model, &mut params, 6, 4e-3);
    }
}
