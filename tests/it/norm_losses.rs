//! Ten training losses of networks with batch norm against PyTorch in f64 (`tests/golden/norm_losses.json`; `make_norm_losses.py` beside it
//! made them): the root mean square of their distances is at most twice that of PyTorch's own losses in f32.

use glasses::kernels::rng::{Purpose, Stream, TrainingPass};
use glasses::model::{Engine, Gradients, Init, Model, ModelSpec, Param, Params, Workspace, zoo};
use glasses::optim::{Optimizer, OptimizerKind, Settings};
use serde_json::Value;

const SEED: u64 = 11;
const CLASSES: usize = 3;
/// The first of the networks' numbers, which the weights are addressed by.
const FIRST: usize = 50;

fn normals(layer: usize, row: usize, std: f64, values: &mut [f32]) {
    Stream::new(SEED, Purpose::Synth, layer, 0, row).fill_normal(values, std);
}

/// The network without dropout, and its weights by formula.
fn network(index: usize, name: &str, side: usize) -> (Model, Params) {
    let text = toml::to_string(&zoo::find(name).unwrap()).unwrap().replace("dropout 0.2", "dropout 0");
    let spec = ModelSpec::parse(&text, name).unwrap();
    let model = Model::new(spec, [side, side, 3], false, CLASSES, Engine::Direct).unwrap();
    let mut params = Params::initial(model.table.clone(), Init::He, 1);
    for Param { name, shape, range, .. } in Param::weights(&model.table) {
        let (layer, tensor) = name.split_once('.').unwrap();
        let number: usize = layer.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        let address = 1000 * (FIRST + index) + 2 * number;
        let values = &mut params.values[range.clone()];
        let is_norm = layer.starts_with("batch_norm");
        match tensor {
            "weight" if is_norm => {
                normals(address, 1, 0.3, values);
                values.iter_mut().for_each(|value| *value += 1.0);
            }
            "weight" => {
                let fan_in: usize = shape[..shape.len() - 1].iter().product();
                normals(address, 1, (fan_in as f64).powf(-0.5), values);
            }
            _ => normals(address + 1, 1, if is_norm { 0.3 } else { 0.1 }, values),
        }
    }
    (model, params)
}

#[test]
fn ten_losses_are_as_near_to_f64_as_pytorch_s_own_f32() {
    let golden: Value = serde_json::from_str(include_str!("../golden/norm_losses.json")).unwrap();
    let rows = golden["rows"].as_u64().unwrap() as usize;
    for (index, run) in golden["runs"].as_array().unwrap().iter().enumerate() {
        let name = run["model"].as_str().unwrap();
        let (model, mut params) = network(index, name, run["side"].as_u64().unwrap() as usize);
        let settings =
            Settings { kind: OptimizerKind::Sgd, momentum: 0.0, weight_decay: 0.0, clip_value: None, clip_norm: None };
        let mut optimizer = Optimizer::new(settings, model.parameters());
        let mut ws = Workspace::for_training(&model, rows, 1);
        let mut gradients = Gradients::zeros(model.parameters());
        (ws.rows, ws.labels) = ((0..rows as u32).collect(), (0..rows).map(|row| (row % CLASSES) as u32).collect());
        ws.batch = rows;
        let training = TrainingPass { seed: 1, epoch: 0 };
        let number = |list: &str, step: usize| run[list][step].as_f64().unwrap();
        // Squares of the distances, ours and PyTorch's.
        let mut squares = [0.0f64; 2];
        let steps = run["losses"].as_array().unwrap().len();
        for step in 0..steps {
            normals(900_000 + 1000 * (FIRST + index) + step, 0, 1.0, ws.input_mut());
            gradients.start();
            model.forward(&params, &mut ws, Some(training));
            model.backward(&params, &mut ws, training, &mut gradients);
            let (loss, exact) = (gradients.score.loss_sum / rows as f64, number("losses", step));
            for (square, loss) in squares.iter_mut().zip([loss, number("losses_f32", step)]) {
                *square += (loss - exact) * (loss - exact);
            }
            let lr = golden["lr"].as_f64().unwrap() as f32;
            let weights = model.parameters();
            assert!(optimizer.step(&mut params.values[..weights], &mut gradients.values, rows as u64, lr), "finite");
        }
        let [ours, theirs] = squares.map(|square| (square / steps as f64).sqrt());
        println!("{name}: ours are {ours:.2e} from f64 in the root mean square, PyTorch's f32 {theirs:.2e}");
        assert!(ours <= 2.0 * theirs, "{name}: ours {ours:e}, PyTorch's f32 {theirs:e}");
    }
}
