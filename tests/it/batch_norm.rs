//! Batch norm: against PyTorch (`tests/golden/norms.h5`; `make_norms.py` beside it made the values in f64), and against differences of
//! its own loss.

use std::path::PathBuf;

use glasses::kernels::rng::TrainingPass;
use glasses::kernels::{Isa, Leaf};
use glasses::model::{Engine, Gradients, Init, Model, ModelSpec, Params, Workspace};

use crate::golden::assert_close;
use crate::gradients;

#[derive(serde::Deserialize)]
struct Networks {
    network: Vec<toml::Table>,
}

const TRAINING: TrainingPass = TrainingPass { seed: 1, epoch: 0 };

/// What a training pass of a network came to.
struct Trained {
    logits: Vec<f32>,
    used_logits: Vec<f32>,
    gradients: Gradients,
    /// The values behind the weights: running statistics after the step.
    running: Vec<f32>,
}

/// One step's forward and backward pass of these rows; the running statistics take it in.
fn train(model: &Model, mut params: Params, rows: &[f32], leaves: &[Leaf]) -> Trained {
    let batch = leaves.last().unwrap().end;
    let mut ws = Workspace::for_training(model, batch, leaves.len());
    ws.batch = batch;
    (ws.rows, ws.labels) = ((0..batch as u32).collect(), (0..batch as u32).map(|row| row % 3).collect());
    ws.leaves = leaves.to_vec();
    ws.input_mut().copy_from_slice(rows);
    model.forward(&params, &mut ws, Some(TRAINING));
    let logits = ws.logits().to_vec();
    let mut gradients = Gradients::zeros(model.parameters());
    gradients.start();
    model.backward(&params, &mut ws, TRAINING, &mut gradients);
    for norm in model.norms() {
        let channels = norm.channels;
        ws.norms.running(norm, |_, sums| {
            let places = [&norm.mean, &norm.variance].into_iter().flat_map(|place| place.clone());
            for (place, sum) in places.zip(sums) {
                let value = &mut params.values[place];
                *value += (norm.momentum * (sum / batch as f64 - f64::from(*value))) as f32;
            }
            assert_eq!(sums.len(), 2 * channels);
        });
    }
    let mut used = Workspace::for_inference(model, batch);
    used.batch = batch;
    used.input_mut().copy_from_slice(rows);
    model.forward(&params, &mut used, None);
    let used_logits = used.logits().to_vec();
    Trained { logits, used_logits, gradients, running: params.values[model.parameters()..].to_vec() }
}

#[test]
fn networks_with_norms_agree_with_pytorch_however_the_rows_lie_in_shards() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/norms.h5");
    let file = hdf5::File::open(path).unwrap();
    let networks: Networks = toml::from_str(include_str!("../golden/norms.toml")).unwrap();
    for mut table in networks.network {
        let sizes: Vec<usize> = table.remove("input").unwrap().try_into().unwrap();
        let spec = ModelSpec::parse(&toml::to_string(&table).unwrap(), "norms.toml").unwrap();
        let (input, flat) = match sizes[..] {
            [h, w, c] => ([h, w, c], false),
            _ => ([1, 1, sizes[0]], true),
        };
        let group = file.group(&spec.name).unwrap();
        let read = |name: &str| -> Vec<f32> { group.dataset(name).unwrap().read_raw().unwrap() };
        let loss: f64 = group.attr("loss_sum").unwrap().read_scalar().unwrap();
        for engine in [Engine::Direct, Engine::Gemm] {
            let model = Model::new(spec.clone(), input, flat, 3, engine).unwrap();
            let mut params = Params::initial(model.table.clone(), Init::He, 1);
            let (mut want, mut running) = (vec![f32::NAN; model.parameters()], Vec::new());
            for param in model.table.iter() {
                let (layer, tensor) = param.name.split_once('.').unwrap();
                if param.is_statistic {
                    running.extend(read(&param.name));
                } else {
                    params.values[param.range.clone()].copy_from_slice(&read(&param.name));
                    want[param.range.clone()].copy_from_slice(&read(&format!("{layer}.d_{tensor}")));
                }
            }
            let shards: [&[usize]; 3] = [&[5], &[2, 3], &[1, 1, 1, 2]];
            for shards in shards {
                let mut leaves = Vec::new();
                glasses::kernels::leaves(shards, &mut leaves);
                let run = || train(&model, params.clone(), &read("input"), &leaves);
                let found = run();
                let what = format!("{} by {engine:?}, shards of {shards:?} rows", spec.name);
                assert_close(&found.logits, &read("logits"), 1e-4, &what);
                assert_close(&found.gradients.values, &want, 1e-4, &what);
                assert_close(&found.running, &running, 1e-5, &what);
                assert_close(&found.used_logits, &read("used_logits"), 1e-4, &what);
                assert!((found.gradients.score.loss_sum - loss).abs() <= 1e-5 * loss, "{what}");
                for isa in Isa::available().filter(|_| engine == Engine::Direct) {
                    let other = isa.with(run);
                    let same = other.gradients.values[..] == found.gradients.values[..]
                        && (other.logits, other.running) == (found.logits.clone(), found.running.clone());
                    assert!(same, "{what} on {}", isa.name());
                }
            }
        }
    }
}

fn model(layers: &str, input: [usize; 3], flat: bool) -> Model {
    let spec = ModelSpec::parse(&format!("name = \"m\"\nlayers = [{layers}]"), "m").unwrap();
    Model::new(spec, input, flat, 3, Engine::Direct).unwrap()
}

/// Convolutions compute the norms behind them: the same logits to rounding, with fewer operations.
#[test]
fn folded_networks_say_what_the_trained_ones_do() {
    let networks: Networks = toml::from_str(include_str!("../golden/norms.toml")).unwrap();
    let file = hdf5::File::open(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/norms.h5")).unwrap();
    for mut table in networks.network {
        let sizes: Vec<usize> = table.remove("input").unwrap().try_into().unwrap();
        let spec = ModelSpec::parse(&toml::to_string(&table).unwrap(), "norms.toml").unwrap();
        let name = spec.name.clone();
        let (input, flat) = match sizes[..] {
            [h, w, c] => ([h, w, c], false),
            _ => ([1, 1, sizes[0]], true),
        };
        let group = file.group(&name).unwrap();
        let read = |name: &str| -> Vec<f32> { group.dataset(name).unwrap().read_raw().unwrap() };
        let model = Model::new(spec.clone(), input, flat, 3, Engine::Direct).unwrap();
        let mut params = Params::initial(model.table.clone(), Init::He, 1);
        for param in model.table.iter() {
            params.values[param.range.clone()].copy_from_slice(&read(&param.name));
        }
        let folded = model.folded(&params).unwrap();
        assert_eq!(folded.is_none(), name == "features", "{name}");
        let (used, used_params) = folded.unwrap_or((model, params));
        let left = used.norms().len();
        assert_eq!(
            left,
            [("plain", 0), ("first", 2), ("residual", 0), ("branches", 4), ("features", 2)]
                .into_iter()
                .find(|(of, _)| *of == name)
                .unwrap()
                .1,
            "{name}"
        );
        let mut ws = Workspace::for_inference(&used, 5);
        ws.batch = 5;
        ws.input_mut().copy_from_slice(&read("input"));
        used.forward(&used_params, &mut ws, None);
        assert_close(ws.logits(), &read("used_logits"), 1e-4, &name);
        // The second engine computes every operation by itself.
        let second = Model::new(spec, input, flat, 3, Engine::Gemm).unwrap();
        assert!(second.folded(&Params::initial(second.table.clone(), Init::He, 1)).unwrap().is_none());
    }
}

#[test]
fn norms_agree_with_differences() {
    for (layers, input, flat) in [
        (r#""conv 3x3x5", "batch_norm", "tanh", "flatten", "dense classes""#, [5, 4, 2], false),
        (r#""batch_norm", "conv 3x3x5", "tanh", "batch_norm scale no", "flatten", "dense classes""#, [5, 4, 2], false),
        (
            r#""conv 3x3x4", "batch_norm", "leaky_relu 0.3", "conv 3x3x17 stride 2 pad 1", "batch_norm eps 0.01", "global_avgpool", "dense classes""#,
            [7, 7, 3],
            false,
        ),
        (
            r#""conv 3x3x4", { residual = ["batch_norm", "tanh", "conv 3x3x4", "batch_norm"] }, "tanh", "global_avgpool", "dense classes""#,
            [5, 5, 3],
            false,
        ),
        (
            r#""conv 3x3x4", { residual = ["conv 3x3x6 stride 2 pad 1", "batch_norm"], shortcut = ["conv 1x1x6 stride 2 pad 0", "batch_norm"] }, "tanh", "flatten", "dense 7", "batch_norm", "tanh", "dense classes""#,
            [6, 6, 3],
            false,
        ),
        (
            r#""conv 3x3x4", { branches = [["batch_norm"], [], ["batch_norm", "tanh"]], join = "concat" }, "flatten", "dense classes""#,
            [4, 4, 3],
            false,
        ),
        (r#""dense 9", "batch_norm", "tanh", "dense 6", "batch_norm", "dense classes""#, [1, 1, 5], true),
    ] {
        let model = model(layers, input, flat);
        let mut params = Params::initial(model.table.clone(), Init::Xavier, 4);
        gradients::check(&model, &mut params, 6, 4e-3);
    }
}
