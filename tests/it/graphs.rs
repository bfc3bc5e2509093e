//! Networks that are no chains: against PyTorch (`tests/golden/graphs.h5`; `make_graphs.py` beside it made the values in f64), and
//! against differences of their own loss.

use std::path::PathBuf;

use glasses::kernels::rng::TrainingPass;
use glasses::model::{Engine, Gradients, Init, Model, ModelSpec, Params, StepRoom, Workspace};

use crate::golden::assert_close;
use crate::gradients;

const CLASSES: usize = 3;

#[derive(serde::Deserialize)]
struct Networks {
    network: Vec<toml::Table>,
}

/// A network, and a row of its input.
struct Network {
    spec: ModelSpec,
    input: [usize; 3],
    flat: bool,
}

fn networks() -> Vec<Network> {
    let networks: Networks = toml::from_str(include_str!("../golden/graphs.toml")).unwrap();
    let network = |mut table: toml::Table| {
        let sizes: Vec<usize> = table.remove("input").unwrap().try_into().unwrap();
        let spec = ModelSpec::parse(&toml::to_string(&table).unwrap(), "graphs.toml").unwrap();
        let (input, flat) = match sizes[..] {
            [h, w, c] => ([h, w, c], false),
            _ => ([1, 1, sizes[0]], true),
        };
        Network { spec, input, flat }
    };
    networks.network.into_iter().map(network).collect()
}

#[test]
fn networks_with_blocks_agree_with_pytorch() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/graphs.h5");
    let file = hdf5::File::open(path).unwrap();
    for Network { spec, input, flat } in networks() {
        let group = file.group(&spec.name).unwrap();
        let read = |name: &str| -> Vec<f32> { group.dataset(name).unwrap().read_raw().unwrap() };
        for engine in [Engine::Direct, Engine::Gemm] {
            let model = Model::new(spec.clone(), input, flat, CLASSES, engine).unwrap();
            let mut params = Params::initial(model.table.clone(), Init::He, 1);
            let mut want = vec![f32::NAN; model.parameters()];
            for param in model.table.iter() {
                let (layer, tensor) = param.name.split_once('.').unwrap();
                params.values[param.range.clone()].copy_from_slice(&read(&param.name));
                want[param.range.clone()].copy_from_slice(&read(&format!("{layer}.d_{tensor}")));
            }
            let rows = read("input");
            let batch = rows.len() / input.iter().product::<usize>();
            // All rows at once, and two at a time.
            for capacity in [batch, 2] {
                let mut ws = Workspace::for_training(&model, capacity, 1);
                let mut gradients = Gradients::zeros(model.parameters());
                gradients.start();
                let mut logits = Vec::new();
                for (first, rows) in rows.chunks(capacity * input.iter().product::<usize>()).enumerate() {
                    ws.batch = rows.len() / input.iter().product::<usize>();
                    let numbers = (first * capacity..first * capacity + ws.batch).map(|row| row as u32);
                    (ws.rows, ws.labels) =
                        (numbers.clone().collect(), numbers.map(|row| row % CLASSES as u32).collect());
                    ws.input_mut().copy_from_slice(rows);
                    model.forward(&params, &mut ws, Some(TrainingPass { seed: 1, epoch: 0 }));
                    logits.extend_from_slice(ws.logits());
                    model.backward(&params, &mut ws, TrainingPass { seed: 1, epoch: 0 }, &mut gradients);
                }
                let what = format!("{} by {engine:?}, {capacity} rows at once", spec.name);
                assert_close(&logits, &read("logits"), 2e-5, &what);
                assert_close(&gradients.values, &want, 1e-4, &what);
                let loss: f64 = group.attr("loss_sum").unwrap().read_scalar().unwrap();
                assert!((gradients.score.loss_sum - loss).abs() <= 1e-5 * loss, "{what}");
            }
            // A workspace for forward passes reuses memory: the same logits, bit for bit.
            let mut all = Workspace::for_training(&model, batch, 1);
            let mut few = Workspace::for_inference(&model, batch);
            for ws in [&mut all, &mut few] {
                ws.batch = batch;
                ws.input_mut().copy_from_slice(&rows);
                model.forward(&params, ws, None);
            }
            assert_eq!(all.logits(), few.logits(), "{}", spec.name);
            assert_close(all.logits(), &read("logits"), 2e-5, &spec.name);
            assert!(
                Workspace::inference_bytes(&model, batch)
                    < Workspace::bytes(&model, StepRoom { capacity: batch, shards: 1, groups: 1 })
            );
        }
    }
}

#[test]
fn networks_with_blocks_agree_with_differences() {
    for Network { spec, input, flat } in networks() {
        let model = Model::new(spec, input, flat, CLASSES, Engine::Direct).unwrap();
        let mut params = Params::initial(model.table.clone(), Init::He, 4);
        gradients::check(&model, &mut params, 3, 4e-3);
    }
    // Sums that read a tensor more than once.
    for layers in [
        r#""conv 3x3x4", { branches = [[], [], []], join = "add" }, "conv 3x3x4""#,
        r#""conv 3x3x4", { branches = [["conv 3x3x4", "tanh", "conv 3x3x4"], [], []], join = "add" }"#,
        r#""conv 3x3x4", { branches = [[], ["conv 3x3x4"], []], join = "add" }, "tanh", { branches = [[], []], join = "concat" }"#,
        r#""conv 3x3x4", { scale = ["global_avgpool", "tanh"] }, { scale = ["global_maxpool", "sigmoid"] }"#,
        r#""conv 3x3x4", "global_avgpool", { scale = [{ layers = ["flatten"] }] }"#,
        r#""conv 3x3x4", { residual = [{ scale = [{ residual = ["conv 1x1x4"] }, "global_avgpool", { scale = ["dense 4"] }] }] }"#,
        r#"{ scale = ["global_avgpool", "dense 2", "sigmoid"] }, "conv 3x3x4""#,
        r#""conv 3x3x4", "tanh", { branches = [[], []], join = "add" }, { branches = [[], ["tanh"], []], join = "add" }"#,
    ] {
        let text = format!("name = \"sums\"\nlayers = [{layers}, \"flatten\", \"dense classes\"]");
        let spec = ModelSpec::parse(&text, "sums").unwrap();
        let model = Model::new(spec, [5, 4, 2], false, CLASSES, Engine::Direct).unwrap();
        let mut params = Params::initial(model.table.clone(), Init::Xavier, 4);
        // A loss that three times a tensor goes into is bent: small weights keep it straight between two points.
        params.values.iter_mut().for_each(|value| *value *= 0.3);
        gradients::check(&model, &mut params, 4, 4e-3);
    }
    // Dropout, whose mask is drawn again, and blocks inside of blocks.
    let text = r#"
        name = "nested"
        layers = [
            "conv 3x3x4", "dropout 0.3",
            { branches = [
                ["conv 3x3x4", { residual = ["dropout 0.2", "conv 3x3x4", "tanh"] }],
                ["sigmoid", "dropout 0.2"],
                [],
            ], join = "add" },
            "tanh", { residual = ["sigmoid", "tanh"] }, "flatten", { residual = ["tanh", "dropout 0.1"] },
            "dense 8", { residual = ["sigmoid"] }, "dropout 0.1", "dense classes",
        ]"#;
    let model =
        Model::new(ModelSpec::parse(text, "nested").unwrap(), [5, 6, 2], false, CLASSES, Engine::Direct).unwrap();
    let mut params = Params::initial(model.table.clone(), Init::Xavier, 4);
    gradients::check(&model, &mut params, 4, 1e-3);
}

#[test]
fn a_layer_that_does_not_fit_is_named_by_the_path_of_its_block() {
    let refused = |layers: &str| {
        let spec = ModelSpec::parse(&format!("name = \"m\"\nlayers = [{layers}]"), "m").unwrap();
        Model::new(spec, [9, 9, 3], false, CLASSES, Engine::Direct).unwrap_err().to_string()
    };
    let tail = "\"flatten\", \"dense classes\"";
    for (layers, want) in [
        (
            format!(
                "\"conv 3x3x4\", {{ name = \"layer2\", repeat = 2, residual = [\"relu\", \"conv 3x3x8\"] }}, {tail}"
            ),
            "model 'm', layer2[0], its join 'add': found input 9x9x4: 9x9x8 cannot be added to 9x9x4: the layers give 9x9x8, the block's input is 9x9x4, expected one shape of all that is added\n  fix: add a shortcut beside 'residual', such as shortcut = [\"conv 1x1x8\"]",
        ),
        (
            format!("{{ name = \"layer2\", layers = [{{ residual = [\"relu\", \"conv 11x11x3 pad 0\"] }}] }}, {tail}"),
            "model 'm', layer2.layers[0].residual, layer 1 'conv 11x11x3 pad 0': found input 9x9x3: output height",
        ),
        (
            format!("{{ branches = [[\"conv 3x3x4\"], [\"maxpool 2\"]], join = \"concat\" }}, {tail}"),
            "model 'm', layers[0], its join 'concat': found input 9x9x3: 9x9x4 cannot stand beside 4x4x3: branches[0] gives 9x9x4, branches[1] 4x4x3, expected images of one height and width, or vectors\n  fix: change the layers of one of the two",
        ),
        (
            format!("{{ name = \"neck\", layers = [\"flatten\", \"conv 3x3x4\"] }}, {tail}"),
            "model 'm', neck, layer 1 'conv 3x3x4': found input 243: this layer takes an image, not a vector",
        ),
        (
            format!("{{ name = \"a\", layers = [\"relu\"] }}, {{ name = \"a\", layers = [\"relu\"] }}, {tail}"),
            "model 'm', a: found a second block of that name in one list, expected a name of its own\n  fix: give it another",
        ),
        (
            format!("{{ residual = [{{ residual = [\"conv 11x11x3 pad 0\"] }}] }}, {tail}"),
            "model 'm', layers[0].residual[0].residual, layer 0 'conv 11x11x3 pad 0'",
        ),
        (
            format!("{{ name = \"down\", residual = [\"conv 3x3x8 stride 2 pad 1\"] }}, {tail}"),
            "such as shortcut = [\"conv 1x1x8 stride 2\"]",
        ),
        (
            format!("{{ name = \"down\", residual = [\"conv 3x3x8 stride 2\"], shortcut = [\"conv 1x1x8\"] }}, {tail}"),
            "the layers give 5x5x8, the shortcut 9x9x8, expected one shape of all that is added\n  fix: shortcut = [\"conv 1x1x8 stride 2\"] gives 5x5x8",
        ),
        ("\"flatten\", { residual = [\"dense 9\"] }, \"dense classes\"".to_owned(), "such as shortcut = [\"dense 9\"]"),
        (
            format!("{{ branches = [[\"relu\"], [], [\"maxpool 3\"]], join = \"add\" }}, {tail}"),
            "branches[0] gives 9x9x3, branches[2] 3x3x3",
        ),
        (
            format!("{{ residual = [\"relu\", \"softmax\"] }}, {tail}"),
            "layers[0].residual, layer 1 'softmax': found softmax before the end",
        ),
        (
            format!("{}\"relu\"{}, {tail}", "{ residual = [".repeat(17), "] }".repeat(17)),
            "found blocks that stand more than 16 deep in one another, expected fewer",
        ),
        (
            format!("{{ repeat = 9, branches = [{}[]], join = \"add\" }}, {tail}", "[], ".repeat(1000)),
            "twice as many branches",
        ),
        (
            format!("{{ repeat = 1000, layers = [{{ repeat = 1000, layers = [\"relu\"] }}] }}, {tail}"),
            "more than 4096 layers",
        ),
    ] {
        let message = refused(&layers);
        assert!(message.contains(want), "{layers}: {message}");
    }
}
