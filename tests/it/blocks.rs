//! Every command with networks that have blocks: what it says of them is what another way of getting it says.

use std::collections::BTreeMap;
use std::path::Path;

use glasses::checkpoint::{self, SavedModel};
use glasses::data::synth::faces;
use glasses::data::{Dataset, Part, Split, Values};
use glasses::kernels;
use glasses::model::{Engine, Model, Workspace};
use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::{refused, words};
use crate::ranks::{assert_same_run, weights};
use crate::run::{Outcome, glasses, mpirun, shell};

/// The last map is the sum of a residual block and its shortcut.
const SUM: &str = r#"name = "sum"
layers = [
    "conv 3x3x4 stride 2 pad 1", "relu",
    { name = "layer1", repeat = 2, layers = [{ residual = ["conv 3x3x4", "relu", "conv 3x3x4"] }, "relu"] },
    { name = "layer2", residual = ["conv 3x3x6 stride 2 pad 1", "relu", "conv 3x3x6"], shortcut = ["conv 1x1x6 stride 2"] },
    "global_avgpool", "dense classes",
]
"#;

/// The last map is what branches give side by side; a residual block of dense layers follows.
const CONCAT: &str = r#"name = "concat"
layers = [
    "conv 3x3x4 stride 2 pad 1", "relu",
    { name = "mix", branches = [["conv 1x1x3", "relu"], ["maxpool 3 stride 1 pad 1"], []], join = "concat" },
    "flatten", "dense 6", "tanh", { residual = ["dense 6", "relu"] }, "dense classes",
]
"#;

/// What is computed of each, as one: what is fused stands together, behind the number of its first layer, from 1.
const STEPS: [(&str, &str); 2] = [
    (
        "sum",
        "1 conv 3x3x4 stride 2 pad 1, relu; 3 conv 3x3x4, relu (layer1[0].layers[0].residual); 5 conv 3x3x4 (layer1[0].layers[0].residual); \
         6 add, relu (layer1[0].layers[0]); 8 conv 3x3x4, relu (layer1[1].layers[0].residual); 10 conv 3x3x4 (layer1[1].layers[0].residual); \
         11 add, relu (layer1[1].layers[0]); 13 conv 3x3x6 stride 2 pad 1, relu (layer2.residual); 15 conv 3x3x6 (layer2.residual); \
         16 conv 1x1x6 stride 2 (layer2.shortcut); 17 add (layer2); 18 global_avgpool; 19 dense classes",
    ),
    (
        "concat",
        "1 conv 3x3x4 stride 2 pad 1, relu; 3 conv 1x1x3, relu (mix.branches[0]); 5 maxpool 3 stride 1 pad 1 (mix.branches[1]); \
         6 concat, flatten (mix); 8 dense 6; 9 tanh; 10 dense 6 (layers[6].residual); 11 relu (layers[6].residual); \
         12 add (layers[6]); 13 dense classes",
    ),
];

const TRAIN: &str = "train --data faces.h5 --epochs 1 --batch 8 --augment none";

/// A folder with `faces.h5` (64 + 16 rows of 24x24x3), `sum.toml` and `concat.toml`.
fn folder() -> TempDir {
    let dir = crate::fixtures::faces();
    std::fs::write(dir.path().join("sum.toml"), SUM).unwrap();
    std::fs::write(dir.path().join("concat.toml"), CONCAT).unwrap();
    dir
}

/// Runs `glasses LINE` on so many ranks, on 0 without a launcher.
#[track_caller]
fn run(ranks: usize, line: &str, dir: &Path) -> Outcome {
    let end = if ranks == 0 { glasses(&words(line), dir) } else { mpirun(ranks, &words(line), dir) };
    end.success()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn read_json(path: &Path) -> Value {
    json(&std::fs::read_to_string(path).unwrap())
}

/// `glasses eval --json` of a model or a run.
fn eval(ranks: usize, models: &str, dir: &Path) -> Value {
    json(&run(ranks, &format!("eval --data faces.h5 --json --model {models}"), dir).stdout)
}

/// Pictures in `photos/`, as the program finds them, and their pixels.
fn photos(dir: &Path) -> Vec<Vec<u8>> {
    std::fs::create_dir(dir.join("photos")).unwrap();
    let save = |row: usize| {
        let (pixels, _) = faces::draw(9, row, 24);
        let picture = image::RgbImage::from_raw(24, 24, pixels.clone()).unwrap();
        picture.save(dir.join(format!("photos/{row}.png"))).unwrap();
        pixels
    };
    (0..5).map(save).collect()
}

/// The probabilities of each picture, by `glasses predict`.
fn predict(ranks: usize, options: &str, dir: &Path) -> Vec<Vec<f64>> {
    let said = json(&run(ranks, &format!("predict photos --json {options}"), dir).stdout);
    let numbers = |said: &Value| said.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    said.as_array().unwrap().iter().map(|said| numbers(&said["probabilities"])).collect()
}

/// The same of rows of pixels by the second engine: every layer by itself, as a product of matrices.
fn by_products(saved: &SavedModel, rows: &[Vec<u8>]) -> Vec<Vec<f64>> {
    let model = Model::new(saved.model.spec.clone(), [24, 24, 3], false, saved.model.classes, Engine::Gemm).unwrap();
    let mut ws = Workspace::for_inference(&model, 1);
    let probabilities = |pixels: &Vec<u8>| {
        ws.batch = 1;
        saved.normalizer.pixels(pixels, ws.input_mut());
        model.forward(&saved.params, &mut ws, None);
        let powers: Vec<f64> = ws.logits().iter().map(|&logit| f64::from(logit).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|power| power / sum).collect()
    };
    rows.iter().map(probabilities).collect()
}

#[track_caller]
fn assert_near(got: &[Vec<f64>], want: &[Vec<f64>], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
        assert!((got - want).abs() <= 2e-6, "{what}: {got} {want}");
    }
}

#[test]
fn a_grid_of_networks_makes_the_runs_that_train_makes() {
    let dir = folder();
    let dir = dir.path();
    let points = ["sum", "concat"].map(|model| ["0.01", "0.001"].map(|lr| (model, lr))).concat();
    let grid = "sweep --data faces.h5 --epochs 1 --batch 8 --augment none --grid model=sum.toml,concat.toml --grid lr=0.01,0.001";
    for (ranks, each) in [(0, 1), (2, 1), (2, 2)] {
        let out = format!("grid-{ranks}-{each}");
        run(ranks, &format!("{grid} --ranks-per-run {each} --out {out}"), dir);
        for (model, lr) in &points {
            let alone = format!("{model}-{lr}");
            if ranks == 0 {
                run(0, &format!("{TRAIN} --model {model}.toml --lr {lr} --out {alone}"), dir);
            }
            let name = format!("model-{model}.toml-lr{lr}");
            assert_same_run(&dir.join(&out).join(&name), &dir.join(&alone), &format!("{name} in {out}"));
        }
        let table = json(&run(0, &format!("sweep --table {out} --json"), dir).stdout);
        let runs = table["runs"].as_array().unwrap();
        assert_eq!((runs.len(), &table["keys"]), (4, &Value::from(vec!["model", "lr"])), "{table}");
        for entry in runs {
            let summary = read_json(&dir.join(&out).join(entry["run"].as_str().unwrap()).join("summary.json"));
            assert_eq!(entry["test_loss"], summary["test_loss"], "{entry}");
        }
    }
}

#[test]
fn members_of_an_ensemble_are_runs_and_answer_by_their_mean() {
    let dir = folder();
    let dir = dir.path();
    photos(dir);
    for model in ["sum", "concat"] {
        let line = format!("{TRAIN} --model {model}.toml --bootstrap --seed 5");
        run(2, &format!("{line} --strategy ensemble --out all-{model}"), dir);
        run(0, &line.replace("--seed 5", &format!("--seed 6 --out one-{model}")), dir);
        assert_same_run(&dir.join(format!("all-{model}/member-1")), &dir.join(format!("one-{model}")), model);
        let together = eval(0, &format!("all-{model}"), dir);
        assert_eq!(together, eval(3, &format!("all-{model}"), dir), "on any ranks");
        let summary = read_json(&dir.join(format!("all-{model}/summary.json")));
        assert_eq!(
            (&together["loss"], &together["accuracy"]),
            (&summary["test_loss"], &summary["test_accuracy"]),
            "{model}"
        );
        let [one, two, mean] =
            ["/member-0", "/member-1", ""].map(|member| predict(0, &format!("--model all-{model}{member}"), dir));
        assert!(one != two, "two networks");
        let half = |(one, two): (&Vec<f64>, &Vec<f64>)| one.iter().zip(two).map(|(a, b)| (a + b) / 2.0).collect();
        let want: Vec<Vec<f64>> = one.iter().zip(&two).map(half).collect();
        assert_near(&mean, &want, model);
    }
}

#[test]
fn verify_names_the_flipped_parameter_of_a_block() {
    let dir = folder();
    let dir = dir.path();
    for (ranks, model, param, how) in [
        (1, "sum", "conv14.weight", ""),
        (2, "sum", "conv15.bias", "--window on"),
        (2, "sum", "conv9.weight", "--window off"),
        (2, "concat", "dense9.weight", "--window on --comm factors"),
        (1, "concat", "conv2.weight", ""),
    ] {
        let (what, out) = (format!("{model} {param} {how}"), format!("{model}-{param}"));
        // Ranks that share a copy need not meet between the fault and the digest of its step: the next one shows it.
        let every = if how.starts_with("--window on") { 2 } else { 1 };
        let line = format!("{TRAIN} --model {model}.toml --digest-every {every} {how} --out");
        let fault = format!("GLASSES_FAULT='flip rank=0 step=3 param={param}'");
        let end = shell(&format!("{fault} ${{MPIRUN:-mpirun}} -n {ranks} $GLASSES {line} {out}"), dir);
        // Two copies tell that they differ; where there is one, nobody can while the run goes on.
        if how == "--window off" {
            let message = end.failure();
            assert!(message.contains("after step 3") && message.contains(&format!("first in {param}")), "{message}");
        } else {
            end.success();
        }
        let verdict = glasses(&words(&format!("verify {out} --json")), dir);
        let wrong = &json(verdict.stdout.trim())["wrong"];
        assert_eq!(wrong["step"], 2 + every, "{what}: {wrong}");
        let names: Vec<&str> = wrong["params"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        // What was computed with the wrong bit is wrong, too.
        assert!(if every == 1 { names == [param] } else { names.contains(&param) }, "{what}: {wrong}");
        assert!(verdict.failure().contains(&format!("first in {}", names[0])), "{what}");
        run(ranks, &format!("{line} right-{out}"), dir);
        let said = run(2, &format!("verify right-{out}"), dir).stdout;
        assert!(said.contains(&format!("all {} digests up to step 8 are right", 8 / every)), "{what}: {said}");
    }
}

#[test]
fn a_fork_begins_with_the_weights_of_its_run() {
    let dir = folder();
    let dir = dir.path();
    for model in ["sum", "concat"] {
        run(0, &format!("{TRAIN} --model {model}.toml --out {model}"), dir);
        let fork = format!("train --resume {model} --fork --epochs 1 --seed 3 --digest-every 2");
        run(0, &format!("{fork} --lr 1e-9 --out near-{model}"), dir);
        let [from, near] = [model.to_owned(), format!("near-{model}")].map(|name| eval(0, &name, dir));
        let [from, near] = [&from, &near].map(|said| said["loss"].as_f64().unwrap());
        assert!((from - near).abs() <= 1e-5 * from, "{model}: {from} {near}");
        // The same fork on other ranks, and stopped in its middle.
        run(0, &format!("{fork} --lr 1e-2 --out far-{model}"), dir);
        run(3, &format!("{fork} --lr 1e-2 --out cut-{model} --max-steps 5"), dir);
        run(2, &format!("train --resume cut-{model} --max-steps 100"), dir);
        let far = dir.join(format!("far-{model}"));
        assert_same_run(&dir.join(format!("cut-{model}")), &far, model);
        assert_ne!(weights(&far), weights(&dir.join(model)), "it learned on");
        assert!(
            run(2, &format!("verify far-{model}"), dir).stdout.contains("all 4 digests up to step 8 are right"),
            "{model}"
        );
    }
}

#[test]
fn bench_times_the_steps_of_blocks_and_counts_the_operations_that_info_counts() {
    let dir = folder();
    let dir = dir.path();
    for (model, steps) in STEPS {
        let steps: Vec<&str> = steps.split("; ").collect();
        let options = format!("--model {model}.toml --input 24x24x3");
        let line = format!("bench --json --seconds 0.01 --batch 3 {options}");
        let [alone, two] = [0, 2].map(|ranks| json(&run(ranks, &line, dir).stdout));
        let timed = |found: &Value| found["layers"].as_array().map(|all| all[..all.len() - 3].to_vec()).unwrap();
        // As `--trace` names them, but for numbers and what only changes a shape.
        let name = |step: &&str| step.split_once(' ').unwrap().1.replace(", flatten", "").replace(", ", " + ");
        let block = |layer: &Value| layer["block"].as_str().map_or(String::new(), |block| format!(" ({block})"));
        let full = |layer: &Value| format!("{}{}", layer["layer"].as_str().unwrap(), block(layer));
        let names: Vec<String> = timed(&alone).iter().map(full).collect();
        assert_eq!(names, steps.iter().map(name).collect::<Vec<_>>());
        let layer =
            timed(&alone).into_iter().find(|layer| layer["layer"].as_str().unwrap().starts_with("add")).unwrap();
        assert!(layer["forward"]["ms"].as_f64() > Some(0.0) && layer["backward_weights"].is_null(), "{layer}");
        let flops: u64 = timed(&alone).iter().map(|layer| layer["flops"].as_u64().unwrap()).sum();
        let info = json(&run(0, &format!("info --json {options}"), dir).stdout);
        assert_eq!(info["forward_flops"], flops, "{model}");
        assert_eq!((&two["ranks"], timed(&two).len()), (&Value::from(2), steps.len()));
    }
}

#[test]
fn plan_predicts_the_bytes_that_ranks_of_two_machines_send() {
    let dir = folder();
    let dir = dir.path();
    for model in ["sum", "concat"] {
        for comm in ["reduce", "factors", "split"] {
            let plan =
                format!("plan --model {model}.toml --input 24x24x3 --ranks 2 --ranks-per-node 1 --batch 8 --json");
            let plan = json(&run(0, &format!("{plan} --comm {comm}"), dir).stdout);
            let out = format!("{model}-{comm}");
            let line = format!("{TRAIN} --model {model}.toml --comm {comm} --out {out}");
            shell(&format!("GLASSES_NODE_RANKS=1 ${{MPIRUN:-mpirun}} -n 2 $GLASSES {line}"), dir).success();
            let epoch = read_json(&dir.join(&out).join("metrics.jsonl"));
            let sent = plan["rows"][0]["step"]["sent"].as_f64().unwrap();
            assert_eq!(epoch["exchange"]["sent"].as_f64(), Some(8.0 * sent), "{out}: {epoch} {plan}");
            assert!(sent > 0.0 && plan["rows"][0]["machines"] == 2, "{out}: {plan}");
            assert_eq!(weights(&dir.join(&out)), weights(&dir.join(format!("{model}-reduce"))), "{out}");
        }
    }
}

#[test]
fn a_timeline_has_a_span_for_each_step_of_a_block_and_each_row() {
    let dir = folder();
    let dir = dir.path();
    for (model, steps) in STEPS {
        let steps: Vec<&str> = steps.split("; ").collect();
        let line = format!("{TRAIN} --model {model}.toml --window on --comm reduce");
        run(2, &format!("{line} --trace {model}.json --out {model}"), dir);
        let trace = read_json(&dir.join(format!("{model}.json")));
        let mut spans = BTreeMap::<&str, usize>::new();
        for event in trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["cat"] == "kernels") {
            *spans.entry(event["name"].as_str().unwrap()).or_default() += 1;
        }
        let mut found: Vec<&str> = spans.keys().filter_map(|name| name.strip_suffix(": forward")).collect();
        found.sort_by_key(|name| name.split_once(' ').unwrap().0.parse::<usize>().unwrap());
        assert_eq!(found, steps, "{model}");
        let first_dense = steps.iter().position(|step| step.contains("dense")).unwrap();
        for (place, step) in steps.iter().enumerate() {
            let count = |part: &str| spans.get(format!("{step}: {part}").as_str()).copied().unwrap_or(0);
            // One for each of 64 rows, image by image; from the first dense layer on one a step for all rows of a rank.
            assert!(count("forward") >= if place < first_dense { 64 } else { 16 }, "{model}: {step}");
            if step.contains("conv") {
                assert_eq!(count("backward weights"), 64, "{model}: {step}");
            }
            assert_eq!(count("backward data") == 0, place == 0, "{model}: {step}");
        }
        run(0, &format!("{line} --out plain-{model}"), dir);
        assert_same_run(&dir.join(model), &dir.join(format!("plain-{model}")), model);
    }
}

#[test]
fn predict_and_eval_say_what_the_second_engine_says() {
    let dir = folder();
    let dir = dir.path();
    kernels::choose().unwrap();
    let rows = photos(dir);
    for model in ["sum", "concat"] {
        run(2, &format!("{TRAIN} --model {model}.toml --lr 5e-3 --out {model}"), dir);
        let saved = checkpoint::read(&dir.join(model).join("model.h5")).unwrap();
        let said = predict(0, &format!("--model {model}"), dir);
        assert_eq!(said, predict(3, &format!("--model {model}"), dir), "{model} on any ranks");
        assert_near(&said, &by_products(&saved, &rows), model);
        // Test rows: the loss is the mean of what their own classes' probabilities cost.
        let dataset = Dataset::open(&dir.join("faces.h5")).unwrap();
        let part = Part::read(&dataset, Split::Test, 8, 0, 1).unwrap();
        let Values::Images(pixels) = part.values() else { unreachable!() };
        let rows: Vec<Vec<u8>> = pixels.chunks(24 * 24 * 3).map(<[u8]>::to_vec).collect();
        let probabilities = by_products(&saved, &rows);
        let cost = |(row, label): (&Vec<f64>, &u32)| -row[*label as usize].ln();
        let loss = probabilities.iter().zip(part.labels()).map(cost).sum::<f64>() / rows.len() as f64;
        let evaluated = eval(0, model, dir);
        assert!((evaluated["loss"].as_f64().unwrap() - loss).abs() <= 1e-5 * loss, "{model}: {evaluated} {loss}");
        assert_eq!(evaluated, eval(2, model, dir), "{model} on any ranks");
    }
}

#[test]
fn maps_and_reports_of_such_networks_are_the_same_by_any_ranks() {
    let dir = folder();
    let dir = dir.path();
    photos(dir);
    for model in ["sum", "concat"] {
        for (ranks, out) in [(0, "one"), (2, "two")] {
            run(ranks, &format!("{TRAIN} --model {model}.toml --out {model}-{out}"), dir);
            run(ranks, &format!("predict photos --model {model}-{out} --explain maps-{model}-{out}"), dir);
        }
        for row in 0..5 {
            let [one, two] = ["one", "two"]
                .map(|out| std::fs::read(dir.join(format!("maps-{model}-{out}/photos-{row}.map.png"))).unwrap());
            assert!(one == two, "{model}, picture {row}");
            let map = image::load_from_memory(&one).unwrap().to_rgb8();
            assert!(map.pixels().any(|pixel| pixel.0[0] != pixel.0[2]), "{model}: no place is lit");
        }
        // Written again, the page is the one that training ended with, pictures and maps included.
        let page = |out: &str| std::fs::read_to_string(dir.join(format!("{model}-{out}/report.html"))).unwrap();
        let before = page("one");
        run(0, &format!("report {model}-one"), dir);
        let pictures = |page: &str| -> Vec<String> {
            page.split("data:image/png;base64,")
                .skip(1)
                .map(|rest| rest[..rest.find('"').unwrap()].to_owned())
                .collect()
        };
        assert!(!pictures(&before).is_empty(), "{model}: no pictures");
        assert_eq!(pictures(&before), pictures(&page("one")), "{model}");
        assert_eq!(pictures(&before), pictures(&page("two")), "{model} on two ranks");
    }
}

#[test]
fn weights_of_blocks_go_out_and_come_back() {
    let dir = folder();
    let dir = dir.path();
    for model in ["sum", "concat"] {
        run(0, &format!("{TRAIN} --model {model}.toml --out {model}"), dir);
        run(0, &format!("export {model} --to safetensors --out {model}.safetensors"), dir);
        let said = run(0, &format!("import {model}.safetensors --model {model}.toml --out back-{model}"), dir).stdout;
        let layers = match model {
            "sum" => [("conv14: layer2.", " [3, 3, 6, 6]"), ("conv15: layer2.", " [1, 1, 4, 6]")],
            _ => [("conv2: mix.branches.0.0", " [1, 1, 4, 3]"), ("dense9: 6.residual.0", " [6, 6]")],
        };
        let has = |(start, end): &(&str, &str)| said.lines().any(|line| line.starts_with(start) && line.ends_with(end));
        assert!(layers.iter().all(has), "{said}");
        let [here, back] = ["", "back-"].map(|from| eval(0, &format!("{from}{model}/model.h5"), dir));
        ["loss", "accuracy", "confusion"].iter().for_each(|key| assert_eq!(here[key], back[key], "{model}: {key}"));
    }
    // A block that is another is named by its layer.
    std::fs::write(dir.join("other.toml"), SUM.replace("conv 1x1x6", "conv 2x2x6")).unwrap();
    refused(
        dir,
        "import sum.safetensors --model other.toml",
        &["shortcut", ".weight'", "[6, 4, 1, 1]", "[6, 4, 2, 2]"],
    );
}
