//! Networks with channel scaling, normalisation within a row and stochastic depth: what is drawn, what every command says of them, and
//! that the sums of their small dense layers have one order.

use std::path::Path;

use glasses::kernels::rng::{Purpose, Stream, TrainingPass};
use glasses::model::{Engine, Gradients, Init, Model, ModelSpec, Params, Workspace};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::{refused, words};
use crate::ranks::{assert_same_run, weights};
use crate::run::{glasses, mpirun, shell};

/// Squeeze-and-excitation inside a residual block, twice; the last map is scaled.
const SQUEEZED: &str = r#"name = "squeezed"
layers = [
    "conv 3x3x8 stride 2 pad 1", "group_norm 2", "relu",
    { name = "layer1", repeat = 2, layers = [{ residual = [
        "conv 3x3x8", "layer_norm", "silu", { name = "se", scale = ["global_avgpool", "dense 4", "relu", "dense 8", "sigmoid"] }, "drop_path 0.2",
    ] }] },
    { scale = ["adaptive_avgpool 2x3", "conv 1x1x2", "flatten", { scale = ["dense 5", "silu", "dense 12", "hard_sigmoid"] }, "dense 8", "sigmoid"] },
    "flatten", "dense 6", "tanh", { scale = ["dense 6", "sigmoid"] }, "dense classes",
]
"#;

const TRAIN: &str = "train --data faces.h5 --model squeezed.toml --epochs 1 --batch 8 --augment none";

/// A folder with `faces.h5` (64 + 16 rows of 24x24x3) and `squeezed.toml`.
fn folder() -> TempDir {
    let dir = crate::fixtures::faces();
    std::fs::write(dir.path().join("squeezed.toml"), SQUEEZED).unwrap();
    dir
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn model(layers: &str, input: [usize; 3], engine: Engine) -> Model {
    let spec = ModelSpec::parse(&format!("name = \"m\"\nlayers = [{layers}]"), "m").unwrap();
    Model::new(spec, input, input[0] * input[1] == 1, 3, engine).unwrap()
}

#[test]
fn weights_of_norms_begin_with_one_and_leave_the_others_as_drawn() {
    let with = model(
        r#""conv 3x3x6", "relu", "group_norm 2", "flatten", "layer_norm", "dense classes""#,
        [4, 4, 2],
        Engine::Direct,
    );
    let params = Params::initial(with.table.clone(), Init::He, 3);
    let values = |name: &str| {
        let param = with.table.iter().find(|param| param.name == name).unwrap();
        &params.values[param.range.clone()]
    };
    for (name, count) in [("group_norm2", 6), ("layer_norm4", 96)] {
        assert_eq!(values(&format!("{name}.weight")), vec![1.0; count]);
        assert_eq!(values(&format!("{name}.bias")), vec![0.0; count]);
    }
    let without = model(r#""conv 3x3x6", "flatten", "dense classes""#, [4, 4, 2], Engine::Direct);
    let params_without = Params::initial(without.table.clone(), Init::He, 3);
    assert_eq!(values("conv0.weight"), &params_without.values[without.table[0].range.clone()]);
}

#[test]
fn a_row_is_dropped_by_its_address_and_kept_when_a_model_is_used() {
    let model = model(r#""dense 3", "drop_path 0.4""#, [1, 1, 5], Engine::Direct);
    let params = Params::initial(model.table.clone(), Init::He, 3);
    let training = TrainingPass { seed: 9, epoch: 2 };
    let rows = 400;
    let mut input = vec![0.0; rows * 5];
    Stream::new(1, Purpose::Synth, 0, 0, 0).fill_normal(&mut input, 1.0);
    let logits = |capacity: usize, training: Option<TrainingPass>| {
        let mut ws = Workspace::for_training(&model, capacity, 1);
        let mut all = Vec::new();
        for first in (0..rows).step_by(capacity) {
            ws.batch = capacity.min(rows - first);
            ws.rows = (first as u32..(first + ws.batch) as u32).map(|row| 1000 + row).collect();
            let end = first + ws.batch;
            ws.input_mut().copy_from_slice(&input[5 * first..5 * end]);
            model.forward(&params, &mut ws, training);
            all.extend_from_slice(ws.logits());
        }
        all
    };
    let (used, trained) = (logits(rows, None), logits(rows, Some(training)));
    let mut dropped = 0;
    for (row, (used, trained)) in used.chunks(3).zip(trained.chunks(3)).enumerate() {
        let is_dropped = training.stream(Purpose::Dropout, 1, 1000 + row).uniform(0) < 0.4;
        let factor = if is_dropped { 0.0 } else { 1.0 / (1.0 - 0.4f32) };
        assert_eq!(trained, used.iter().map(|value| value * factor).collect::<Vec<_>>(), "row {row}");
        dropped += usize::from(is_dropped);
    }
    assert!((120..200).contains(&dropped), "{dropped} of {rows}");
    for capacity in [1, 7, 64] {
        assert_eq!(logits(capacity, Some(training)), trained, "{capacity} rows at once");
    }
    let other = logits(rows, Some(TrainingPass { epoch: 3, ..training }));
    assert!(other != trained, "another epoch drops other rows");
}

#[test]
fn the_sums_of_small_dense_layers_and_norms_do_not_depend_on_micro_batches() {
    let spec = ModelSpec::parse(SQUEEZED, "squeezed").unwrap();
    let model = Model::new(spec, [12, 10, 3], false, 3, Engine::Direct).unwrap();
    let params = Params::initial(model.table.clone(), Init::He, 4);
    let (rows, values, training) = (12, 12 * 10 * 3, TrainingPass { seed: 5, epoch: 1 });
    let mut pixels = vec![0.0; rows * values];
    Stream::new(9, Purpose::Synth, 0, 0, 0).fill_normal(&mut pixels, 1.0);
    let sum = |micro: usize| {
        let mut ws = Workspace::for_training(&model, micro, 1);
        let mut gradients = Gradients::zeros(model.parameters());
        gradients.start();
        for first in (0..rows).step_by(micro) {
            ws.batch = micro.min(rows - first);
            ws.rows = (first as u32..(first + ws.batch) as u32).collect();
            ws.labels = ws.rows.iter().map(|row| row % 3).collect();
            let end = first + ws.batch;
            ws.input_mut().copy_from_slice(&pixels[first * values..end * values]);
            model.forward(&params, &mut ws, Some(training));
            model.backward(&params, &mut ws, training, &mut gradients);
        }
        gradients.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
    };
    let whole = sum(rows);
    for micro in [1, 4, 5, 7] {
        assert_eq!(sum(micro), whole, "micro-batches of {micro}");
    }
}

#[test]
fn runs_end_in_the_same_weights_by_any_ranks_instruction_sets_and_after_a_stop() {
    let dir = folder();
    let dir = dir.path();
    let train = format!("{TRAIN} --epochs 2 --shards 9 --optimizer adam --clip-norm 1").replace("--epochs 1 ", "");
    glasses(&words(&format!("{train} --out alone")), dir).success();
    for ranks in [2, 3, 5] {
        mpirun(ranks, &words(&format!("{train} --out on-{ranks}")), dir).success();
        assert_same_run(&dir.join(format!("on-{ranks}")), &dir.join("alone"), &format!("{ranks} ranks"));
    }
    for isa in glasses::kernels::Isa::available() {
        let line = format!("GLASSES_ISA={} $GLASSES {train} --out {}", isa.name(), isa.name());
        shell(&line, dir).success();
        assert_eq!(weights(&dir.join(isa.name())), weights(&dir.join("alone")), "{}", isa.name());
    }
    mpirun(2, &words(&format!("{train} --max-steps 5 --out left")), dir).success();
    mpirun(3, &words("train --resume left --max-steps 1000"), dir).success();
    assert_same_run(&dir.join("left"), &dir.join("alone"), "stopped, and gone on with");
    mpirun(2, &words("verify alone"), dir).success();
}

#[test]
fn bench_plan_and_a_timeline_know_every_step() {
    let dir = folder();
    let dir = dir.path();
    let options = "--model squeezed.toml --input 24x24x3";
    let bench =
        json(&glasses(&words(&format!("bench --json --seconds 0.01 --batch 3 {options}")), dir).success().stdout);
    let info = json(&glasses(&words(&format!("info --json {options}")), dir).success().stdout);
    let layers = bench["layers"].as_array().unwrap();
    let named = |name: &str| layers.iter().filter(|layer| layer["layer"].as_str().unwrap().starts_with(name)).count();
    assert_eq!([named("scale"), named("group_norm"), named("layer_norm"), named("drop_path")], [5, 1, 2, 2], "{bench}");
    let flops: u64 = layers.iter().filter_map(|layer| layer["flops"].as_u64()).sum();
    assert_eq!(info["forward_flops"], flops, "{info}");
    // The small dense layers are summed with the convolutions; those behind "flatten" alone can be shared out.
    for comm in ["reduce", "factors", "split"] {
        let plan = format!("plan {options} --ranks 2 --ranks-per-node 1 --batch 8 --json --comm {comm}");
        let plan = json(&glasses(&words(&plan), dir).success().stdout);
        let line = format!("{TRAIN} --comm {comm} --out {comm}");
        shell(&format!("GLASSES_NODE_RANKS=1 ${{MPIRUN:-mpirun}} -n 2 $GLASSES {line}"), dir).success();
        let epoch = json(&std::fs::read_to_string(dir.join(comm).join("metrics.jsonl")).unwrap());
        let sent = plan["rows"][0]["step"]["sent"].as_f64().unwrap();
        assert_eq!(epoch["exchange"]["sent"].as_f64(), Some(8.0 * sent), "{comm}: {epoch} {plan}");
        assert_eq!(weights(&dir.join(comm)), weights(&dir.join("reduce")), "{comm}");
    }
    mpirun(2, &words(&format!("{TRAIN} --trace trace.json --out traced")), dir).success();
    let trace = json(&std::fs::read_to_string(dir.join("trace.json")).unwrap());
    let spans = |name: &str, part: &str| {
        let is = |event: &&Value| {
            let text = event["name"].as_str().unwrap_or_default();
            event["cat"] == "kernels" && text.contains(name) && text.ends_with(part)
        };
        trace["traceEvents"].as_array().unwrap().iter().filter(is).count()
    };
    // Of each image; evaluation comes on top of the forward passes.
    assert!(spans("scale (layer1[0]", "forward") >= 64);
    assert_eq!(spans("scale (layer1[1]", "backward data"), 64);
    assert_eq!(spans("dense 4 (layer1[1].layers[0].residual.se.scale)", "backward weights"), 64);
}

#[test]
fn weights_go_out_and_come_back() {
    let dir = folder();
    let dir = dir.path();
    glasses(&words(&format!("{TRAIN} --out run")), dir).success();
    glasses(&words("export run --to safetensors --out run.safetensors"), dir).success();
    glasses(&words("import run.safetensors --model squeezed.toml --out back"), dir).success();
    let eval = |model: &str| {
        json(&glasses(&words(&format!("eval --data faces.h5 --json --model {model}/model.h5")), dir).success().stdout)
    };
    let [here, back] = ["run", "back"].map(eval);
    ["loss", "accuracy", "confusion"].iter().for_each(|key| assert_eq!(here[key], back[key], "{key}"));
    std::fs::write(dir.join("other.toml"), SQUEEZED.replace("dense 4", "dense 3")).unwrap();
    refused(dir, "import run.safetensors --model other.toml", &["residual.se.scale.1.weight'", "[4, 8]", "[3, 8]"]);
}

#[test]
fn maps_of_scaled_networks_are_the_slopes_of_their_log_odds() {
    for (layers, map) in [
        // The last map is scaled; the factors themselves depend on what stands in front.
        (
            r#""conv 3x3x6 stride 2", "relu", { scale = ["global_avgpool", "dense 3", "relu", "dense 6", "sigmoid"] }"#,
            [6, 6],
        ),
        // Behind the last map, both the product and its factors lead to the logits.
        (
            r#""conv 3x3x6 stride 2", "group_norm 3", "global_avgpool", { scale = ["dense 6", "sigmoid"] }, "layer_norm""#,
            [6, 6],
        ),
    ] {
        let is_vector = layers.contains("global_avgpool\", {");
        let tail = if is_vector { "\"dense classes\"" } else { "\"flatten\", \"dense classes\"" };
        let model = model(&format!("{layers}, {tail}"), [12, 12, 3], Engine::Direct);
        let params = Params::initial(model.table.clone(), Init::He, 3);
        let mut input = vec![0.0; 12 * 12 * 3];
        Stream::new(1, Purpose::Synth, 0, 0, 0).fill_normal(&mut input, 1.0);
        let [mut one, mut four] = [1, 4].map(|capacity| Workspace::for_explanation(&model, capacity));
        for class in 0..3 {
            let evidence = model.explain(&params, &mut one, &input, class);
            assert_eq!([evidence.h, evidence.w], map, "{layers}");
            assert!(evidence.values.iter().all(|value| value.is_finite()) && evidence.values.iter().any(|v| *v != 0.0));
            assert_eq!(evidence, model.explain(&params, &mut four, &input, class), "{layers}");
            // The second engine computes every step by itself.
            let other = Model::new(model.spec.clone(), [12, 12, 3], false, 3, Engine::Gemm).unwrap();
            let by_products = other.explain(&params, &mut Workspace::for_explanation(&other, 1), &input, class);
            crate::golden::assert_close(&evidence.values, &by_products.values, 1e-4, layers);
        }
    }
}

#[test]
fn a_list_that_makes_no_factors_is_refused_with_advice() {
    let refused = |layers: &str, want: &str| {
        let spec = ModelSpec::parse(&format!("name = \"m\"\nlayers = [{layers}, \"flatten\", \"dense classes\"]"), "m")
            .unwrap();
        let message = Model::new(spec, [9, 9, 3], false, 3, Engine::Direct).unwrap_err().to_string();
        assert!(message.contains(want), "{layers}: {message}");
    };
    refused(
        r#""conv 3x3x8", { name = "se", scale = ["global_avgpool", "dense 4", "sigmoid"] }"#,
        "model 'm', se, its join 'scale': found input 9x9x8: 9x9x8 cannot be scaled by 4: the block's input is 9x9x8, the layers give 4, expected a vector of 8, one factor a channel\n  fix: end the list in \"dense 8\", \"sigmoid\"",
    );
    refused(
        r#""conv 3x3x8", { scale = ["conv 1x1x8", "sigmoid"] }"#,
        "9x9x8 cannot be scaled by 9x9x8: the block's input is 9x9x8, the layers give 9x9x8, expected a vector of 8, one factor a channel\n  fix: end the list in \"global_avgpool\", \"dense 8\", \"sigmoid\"",
    );
    refused(r#""flatten", { scale = ["dense 9", "sigmoid"] }"#, "243 cannot be scaled by 9");
    refused(r#""conv 3x3x10", "group_norm 4""#, "10 channels cannot be shared out among 4 groups; 'group_norm 5' fits");
    refused(r#""flatten", "group_norm 3""#, "group_norm takes an image, not a vector; 'layer_norm' takes vectors, too");
    refused(r#""flatten", "adaptive_avgpool 3""#, "takes an image, not a vector");
    refused(r#""adaptive_avgpool 65535""#, "more than 2^33");
}

#[test]
fn info_lists_scaling_with_its_factors() {
    let dir = folder();
    let dir: &Path = dir.path();
    let said = glasses(&words("info --model squeezed.toml --input 24x24x3"), dir).success().stdout;
    for line in [
        "scale",
        "group_norm 2",
        "layer_norm",
        "drop_path 0.2",
        "adaptive_avgpool 2x3",
        "layer1[0].layers[0].residual.se",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
}
