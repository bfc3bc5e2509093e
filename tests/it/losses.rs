//! Training steps of whole networks against PyTorch's (`tests/golden/losses.json`; `make_losses.py` beside it made them,
//! with its own implementation of the random numbers, the shards and the order of rows).

use std::path::PathBuf;

use glasses::data::{EpochOrder, Normalize, Normalizer, Shards, Shuffle};
use glasses::kernels::rng::TrainingPass;
use glasses::kernels::rng::{Purpose, Stream};
use glasses::model::Engine;
use glasses::model::{Gradients, Init, Model, Params, Workspace, zoo};
use glasses::optim::{Optimizer, OptimizerKind, Settings};
use serde_json::Value;

const ROWS: usize = 100;
const SHARDS: usize = 8;
const BATCH: usize = 16;
const SEED: u64 = 1;
/// The seed that the data is made with.
const DATA: u64 = 99;

fn golden() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/losses.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn random_numbers_agree_with_a_second_implementation() {
    let rng = &golden()["rng"];
    let address = &rng["address"];
    let field = |name: &str| address[name].as_u64().unwrap() as usize;
    let seed = address["seed"].as_str().unwrap().parse().unwrap();
    assert_eq!(field("purpose"), Purpose::Dropout as usize);
    let stream = Stream::new(seed, Purpose::Dropout, field("layer"), field("epoch"), field("row"));
    for (i, bits) in numbers(&rng["bits"]).iter().enumerate() {
        assert_eq!(f64::from(stream.bits(i)), *bits);
        assert_eq!(stream.uniform(i), numbers(&rng["uniform"])[i] as f32);
        assert_eq!(stream.below(i, 1000) as f64, numbers(&rng["below_1000"])[i]);
    }
    let mut normal = [0.0; 9];
    stream.fill_normal(&mut normal, 0.5);
    for (got, want) in normal.iter().zip(numbers(&rng["normal_std_0.5"])) {
        assert!((f64::from(*got) - want).abs() <= 1e-7, "{got} {want}");
    }
    let permutation: Vec<f64> = stream.permutation(10).into_iter().map(f64::from).collect();
    assert_eq!(permutation, numbers(&rng["permutation_10"]));
}

#[test]
fn the_order_of_rows_agrees_with_a_second_implementation() {
    for order in golden()["orders"].as_array().unwrap() {
        let size = |name: &str| order[name].as_u64().unwrap() as usize;
        let shards = Shards::new(size("rows"), size("shards"));
        for (epoch, steps) in order["epochs"].as_array().unwrap().iter().enumerate() {
            let own = EpochOrder::new(&shards, 0..size("shards"), &Shuffle::whole(SEED), epoch);
            for (t, want) in steps.as_array().unwrap().iter().enumerate() {
                let mut rows = Vec::new();
                own.step(&shards, t, size("batch"), &mut rows);
                // The definition lists positions; a step lists them shard by shard.
                for row in numbers(want) {
                    assert!(rows.contains(&(row as u32)), "epoch {epoch}, step {t}, row {row}: {rows:?}");
                }
            }
        }
    }
}

/// One row of the data that both sides make.
fn fill_row(flat: bool, row: usize, output: &mut [f32]) {
    let stream = Stream::new(DATA, Purpose::Synth, 0, 0, row);
    if flat {
        output.iter_mut().enumerate().for_each(|(e, v)| *v = 2.0 * stream.uniform(e) - 1.0);
    } else {
        let channels = if output.len() == 28 * 28 { 1 } else { 3 };
        let pixels: Vec<u8> = (0..output.len()).map(|e| stream.bits(e) as u8).collect();
        Normalizer::new(Normalize::PerImage, channels).pixels(&pixels, output);
    }
}

fn settings(run: &Value) -> Settings {
    let kind = match run["optimizer"].as_str().unwrap() {
        "sgd" => OptimizerKind::Sgd,
        "momentum" => OptimizerKind::Momentum,
        "adamw" => OptimizerKind::Adamw,
        other => panic!("{other}"),
    };
    let number = |name: &str| run[name].as_f64().unwrap_or(0.0) as f32;
    let (momentum, weight_decay) = (number("momentum"), number("weight_decay"));
    Settings { kind, momentum, weight_decay, clip_value: None, clip_norm: None }
}

#[test]
fn ten_training_losses_of_every_network_agree_with_pytorch() {
    let golden = golden();
    let runs = golden["runs"].as_array().unwrap();
    let steady = |name: &str| runs.iter().any(|run| run["model"] == name && run["steady"] == true);
    // tests/it/norm_losses.rs has those with norms.
    let has_norms = |name: &&str| {
        let model = Model::new(zoo::find(name).unwrap(), [32, 32, 3], false, 2, Engine::Direct);
        model.is_ok_and(|model| model.has_norms())
    };
    assert!(zoo::names().filter(|name| !has_norms(name)).all(steady), "a network has no run to compare whole");
    let mut compared = 0;
    for run in runs {
        let name = run["model"].as_str().unwrap();
        let (input, flat, classes) = match name {
            "mnist" => ([28, 28, 1], false, 10),
            "spiral" => ([1, 1, 2], true, 3),
            _ => ([80, 80, 3], false, 2),
        };
        let model = Model::new(zoo::find(name).unwrap(), input, flat, classes, Engine::Direct).unwrap();
        let mut params = Params::initial(model.table.clone(), Init::He, SEED);
        let mut optimizer = Optimizer::new(settings(run), model.parameters());
        let mut ws = Workspace::for_training(&model, BATCH, 1);
        let mut gradients = Gradients::zeros(model.parameters());
        let shards = Shards::new(ROWS, SHARDS);
        let (losses, steps) = (numbers(&run["losses"]), shards.steps(BATCH));
        for (index, want) in losses.iter().enumerate() {
            let epoch = index / steps;
            let order = EpochOrder::new(&shards, 0..SHARDS, &Shuffle::whole(SEED), epoch);
            let mut rows = Vec::new();
            order.step(&shards, index % steps, BATCH, &mut rows);
            ws.batch = rows.len();
            let label = |row: &u32| Stream::new(DATA, Purpose::Synth, 1, 0, *row as usize).bits(0) % classes as u32;
            ws.labels = rows.iter().map(label).collect();
            ws.rows = rows;
            let length: usize = input.iter().product();
            let rows = ws.rows.clone();
            for (row, output) in rows.iter().zip(ws.input_mut().chunks_exact_mut(length)) {
                fill_row(flat, *row as usize, output);
            }
            gradients.start();
            model.forward(&params, &mut ws, Some(TrainingPass { seed: SEED, epoch }));
            model.backward(&params, &mut ws, TrainingPass { seed: SEED, epoch }, &mut gradients);
            let count = ws.batch as u64;
            let loss = gradients.score.loss_sum / count as f64;
            // Some of these runs double any rounding until it shows: where PyTorch in f32 leaves PyTorch in f64 by a
            // tenth of what we accept, the comparison of this run ends. The steady runs never do.
            if numbers(&run["f32_drift"])[index] > 1e-5 {
                assert!(!run["steady"].as_bool().unwrap());
                break;
            }
            compared += 1;
            assert!((loss - want).abs() <= 1e-4 * want.abs(), "{name}, step {index}: got {loss}, want {want}");
            assert_eq!(count as f64, numbers(&run["count"])[index]);
            let lr = run["lr"].as_f64().unwrap() as f32;
            assert!(optimizer.step(&mut params.values, &mut gradients.values, count, lr), "finite gradients");
        }
    }
    assert!(compared >= 60, "only {compared} steps were compared");
}
