//! `glasses export` and `import`, judged by the programs that such files are for: onnx.checker, onnxruntime, PyTorch.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::fixtures::{Raw, faces, refused, words};
use crate::python::Python;
use crate::run::glasses;

/// Rows that are compared.
const ROWS: usize = 200;

/// Steps of training: enough to say several classes.
const STEPS: usize = 40;

/// Layers for 23x21x3 pictures of four classes, and a way to prepare them: every kind of layer, with every kind of border.
const NETWORKS: [(&str, &str); 25] = [
    (
        r#""conv 3x3x5", "sigmoid", "conv 4x4x6 stride 2", "tanh", "maxpool 3 stride 2 pad same", "flatten", "dense classes""#,
        "per-image",
    ),
    (
        r#""conv 2x4x4", "leaky_relu 0.2", "avgpool 3 stride 2 pad same", "conv 3x3x4 pad 0", "relu", "global_avgpool", "dense 7", "tanh", "dense classes""#,
        "dataset",
    ),
    (
        r#""maxpool 2 pad same", "avgpool 3x2 stride 1 pad 1", "flatten", "dropout 0.5", "dense 9", "sigmoid", "dropout 0.2", "dense classes", "softmax""#,
        "unit",
    ),
    (r#""conv 5x5x8 stride 2 pad 2", "leaky_relu", "conv 12x11x4 pad 0", "flatten""#, "per-image"),
    (r#""flatten", "dense 10", "relu", "dense classes""#, "per-image"),
    (
        r#""maxpool 5x4 stride 3 pad same", "conv 1x1x3", "maxpool 3 stride 1 pad 1", "relu", "flatten", "relu", "dense classes""#,
        "unit",
    ),
    (
        r#""avgpool 3 stride 2", "conv 3x3x8", "tanh", "conv 3x3x16", "relu", "maxpool 2 stride 1", "flatten", "dense 8", "tanh", "dense classes""#,
        "none",
    ),
    // (Raw pixels make logits of hundreds, whose rounding alone is 1e-5: "tanh" keeps these small.)
    // Blocks, and pixels that no window sees.
    (
        r#""conv 3x3x8 stride 2 pad 1", "relu", { name = "layer1", repeat = 2, layers = [{ residual = ["conv 3x3x8", "relu", "conv 3x3x8"] }, "relu"] }, { residual = ["conv 3x3x12 stride 2 pad 1", "relu", "conv 3x3x12"], shortcut = ["conv 1x1x12 stride 2 pad 0"] }, "relu", "global_avgpool", "dense classes""#,
        "per-image",
    ),
    (
        r#""conv 3x3x5 pad 0", "tanh", { branches = [["conv 1x1x4", "relu"], ["maxpool 3 stride 1 pad 1"], []], join = "concat" }, "maxpool 2", "flatten", "dense 9", "tanh", "dense classes""#,
        "dataset",
    ),
    (
        r#"{ branches = [["avgpool 2", "flatten"], ["conv 3x3x4 stride 2 pad 0", "relu", "flatten"]], join = "concat" }, "dropout 0.1", "dense 8", "relu", { residual = ["dense 8", "tanh"] }, "dense classes""#,
        "unit",
    ),
    (
        r#""avgpool 3 stride 2", { branches = [["conv 3x3x6", "sigmoid"], ["conv 1x1x6", "relu6"], ["conv 3x3x6", { residual = ["leaky_relu"] }]], join = "add" }, { branches = [["global_avgpool", "dense 5"], ["maxpool 3 stride 3 pad 1", "flatten", "dense 6", "tanh"]], join = "concat" }, "dense classes""#,
        "per-image",
    ),
    (
        r#""maxpool 2", "flatten", { residual = ["leaky_relu 0.2"] }, "dense 7", { repeat = 2, residual = ["tanh", "dense 7"] }, "dense classes""#,
        "per-image",
    ),
    (
        r#""conv 3x3x6", "hard_swish", { residual = ["conv 3x3x6", "silu"] }, { branches = [["global_avgpool", "hard_sigmoid"], ["global_maxpool", "gelu"]], join = "concat" }, "gelu tanh", "dense classes""#,
        "per-image",
    ),
    // Groups, dilated windows, layers without a bias, channels by themselves.
    (
        r#""conv 3x3x8 stride 2 bias no", "relu", "conv 3x3x12 groups 4", "tanh", "conv 3x3x6 pad 2 dilation 2 groups 2 bias no", "relu", "conv 3x4x5 dilation 2", "global_avgpool", "dense classes""#,
        "per-image",
    ),
    (
        r#""conv 1x1x8", "relu6", { residual = ["depthwise 3x3 bias no", "relu6", "conv 1x1x8 bias no"] }, "depthwise 5x4 stride 2 x 2", "depthwise 3x3 pad 2 dilation 2", "depthwise 3x3 stride 2 dilation 2", "flatten", "dense classes""#,
        "dataset",
    ),
    // A sum of vectors that have no order of PyTorch's in common.
    (
        r#""maxpool 4", "conv 3x3x4", "flatten", { residual = ["dense 100", "tanh"] }, "dense 6", "relu", "dense classes""#,
        "per-image",
    ),
    // Normalisation within a row, channel scaling, adaptive pools whose windows are equal, overlap, and are more than the pixels.
    (
        r#""conv 3x3x16 stride 2 pad 1", "group_norm 4", "relu", { repeat = 2, residual = ["conv 3x3x16", "layer_norm eps 1e-3", "silu", { scale = ["global_avgpool", "dense 4", "relu", "dense 16", "sigmoid"] }, "drop_path 0.1"] }, "adaptive_avgpool 5x4", "flatten", "layer_norm", "dense classes""#,
        "per-image",
    ),
    (
        r#""conv 2x6x6 stride 4 pad 0", "layer_norm", "gelu", "adaptive_avgpool 3x2", "group_norm 3 eps 1e-4", "adaptive_avgpool 5x7", { scale = ["adaptive_avgpool 1x2", "conv 1x1x3", "flatten"] }, "flatten", { scale = ["dense 4", "tanh", "dense 210", "sigmoid"] }, "dense 5", "layer_norm", "tanh", "dense classes""#,
        "per-image",
    ),
    // A list of layers, one after the other; a norm of a vector that was an image.
    (
        r#""maxpool 3", "conv 3x3x6", "layer_norm", "relu", "flatten", "layer_norm", "dense 6", "tanh", "dense classes""#,
        "dataset",
    ),
    // Batch norms that convolutions compute, and those that none can; blocks and layers with names.
    (
        r#""stem: conv 3x3x8 bias yes", "norm: batch_norm eps 1e-3", "relu", { name = "stage", repeat = 2, layers = [{ residual = ["one: conv 3x3x8", "n1: batch_norm", "relu6", "two: depthwise 3x3", "batch_norm scale no"] }, "relu"] }, { name = "down", residual = ["conv 3x3x12 stride 2 pad 1 groups 4", "batch_norm"], shortcut = ["conv 1x1x12 stride 2 pad 0", "batch_norm"] }, "global_avgpool", "fc: dense classes""#,
        "per-image",
    ),
    (
        r#""batch_norm", "conv 3x3x6", { branches = [["batch_norm", "relu"], [], ["conv 1x1x3", "batch_norm momentum 0.5"]], join = "concat" }, "batch_norm", "maxpool 3", "flatten", "dense 9", "batch_norm scale no", "tanh", "dense classes""#,
        "none",
    ),
    (
        r#""conv 3x3x6 stride 2 pad 1", "batch_norm", "relu", "maxpool 2", "flatten", "dense 6", "batch_norm", "relu", "dense classes""#,
        "dataset",
    ),
    (r#""maxpool 4", "conv 3x3x4", "flatten", "batch_norm", "dense 6", "relu", "dense classes""#, "per-image"),
    // What PyTorch has no modules for.
    (r#""avgpool 4 stride 1 pad same", "flatten", "dense classes""#, "per-image"),
    (r#""conv 23x20x2 pad 0", "flatten""#, "dataset"),
];

/// What those give up.
const NOT_IN_TORCH: usize = 2;

/// Pictures of noise with a bright stripe, whose place is the class, in both splits; the first of each has a channel without
/// contrast.
fn pictures(dir: &Path, name: &str, [h, w, c]: [usize; 3], classes: usize) {
    let mut state = 7u32;
    let mut file = Raw::create(dir, name);
    for split in ["train", "test"] {
        let pixels: Vec<u8> = (0..ROWS * h * w * c)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (row, channel, column) = (i / (h * w * c), i % c, i / c % w);
                let noise = (state >> 24) as usize / (2 + row % 3);
                let stripe = if column * classes / w == row % classes { 120 } else { 0 };
                if row == 0 && channel == 0 { 9 } else { (noise + stripe + channel).min(255) as u8 }
            })
            .collect();
        let labels: Vec<i64> = (0..ROWS).map(|row| (row % classes) as i64).collect();
        file = file.put(&format!("{split}/images"), &[ROWS, h, w, c], &pixels).labels(split, &labels);
    }
}

/// Trains a few steps and exports in both formats; the printed script, where there is one, stands in `NAME.py`.
fn exported(dir: &Path, name: &str, options: &str, data: &str) {
    glasses(&words(&format!("--data {data} --max-steps {STEPS} --augment none --out {name} {options}")), dir).success();
    let samples = format!("--samples {data}");
    glasses(&words(&format!("export {name} --to onnx --out {name}.onnx {samples}")), dir).success();
    let args = format!("export {name}/model.h5 --to safetensors --out {name}.safetensors {samples}");
    let said = glasses(&words(&args), dir).success().stdout;
    // As trained elsewhere.
    glasses(&words(&format!("export {name} --to onnx --unfolded --out {name}-unfolded.onnx {samples}")), dir).success();
    if let Some(start) = said.find("import torch") {
        std::fs::write(dir.join(format!("{name}.py")), &said[start..]).unwrap();
    }
    // What was exported, taken back, is the same bit for bit.
    let model = if dir.join(format!("{name}.toml")).exists() { format!("{name}.toml") } else { name.to_owned() };
    glasses(&words(&format!("import {name}.safetensors --model {model} --out back-{name}")), dir).success();
    let digest = |path: &str| {
        let info = glasses(&words(&format!("info {path}/model.h5 --json")), dir).success().stdout;
        let info: Value = serde_json::from_str(&info).unwrap();
        let keys = ["weights_sha256", "input", "classes", "normalize", "parameters", "layers"];
        keys.map(|key| info[key].clone())
    };
    assert_eq!(digest(name), digest(&format!("back-{name}")), "{name}");
}

/// Every layer and every network of the zoo, exported.
fn all_exported(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut add = |name: &str, options: &str, data: &str| {
        exported(dir, name, options, data);
        names.push(name.to_owned());
    };
    pictures(dir, "pictures.h5", [23, 21, 3], 4);
    for (index, (layers, normalize)) in NETWORKS.iter().enumerate() {
        let name = format!("net{index}");
        let toml = format!("name = \"{name}\"\nlayers = [{layers}]\n");
        std::fs::write(dir.join(format!("{name}.toml")), toml).unwrap();
        let lr = if *normalize == "none" { "1e-4" } else { "0.01" };
        add(&name, &format!("--model {name}.toml --normalize {normalize} --lr {lr}"), "pictures.h5");
    }
    glasses(&words("synth --size 40 --count 400 --test 0.5 --out faces.h5"), dir).success();
    for name in ["glasses", "glasses-deep", "glasses-wide", "convnet", "resnet20"] {
        add(name, &format!("--model {name}"), "faces.h5");
    }
    pictures(dir, "digits.h5", [28, 28, 1], 10);
    add("mnist", "--model mnist", "digits.h5");
    glasses(&words("synth --kind spiral --count 600 --test 0.5 --out spiral.h5"), dir).success();
    add("spiral", "--model spiral --lr 0.01", "spiral.h5");
    for normalize in ["per-image", "none"] {
        let name = format!("spiral-{normalize}");
        std::fs::write(
            dir.join(format!("{name}.toml")),
            "name = \"s\"\nlayers = [\"dense 9\", \"tanh\", \"dense classes\"]",
        )
        .unwrap();
        add(&name, &format!("--model {name}.toml --normalize {normalize}"), "spiral.h5");
    }
    names
}

#[test]
fn exported_networks_say_the_same_in_onnxruntime_and_pytorch() {
    let dir = tempfile::tempdir().unwrap();
    let names = all_exported(dir.path());
    if let Some(python) = Python::with_readers("exported networks in onnxruntime") {
        let of_name = |name: &String| [format!("{name}.onnx"), format!("{name}-unfolded.onnx")];
        let files: Vec<String> = names.iter().flat_map(of_name).collect();
        let said = python.run("jobs/verify_onnx.py", &files, dir.path()).success().stdout;
        eprintln!("{said}");
        let all = said.matches(&format!(": {ROWS} rows, {ROWS} of the same class")).count();
        assert_eq!(all, files.len(), "{said}");
        // A network that says one class only shows little; raw pixels are hard to learn from.
        assert!(said.matches("(1 of").count() <= 2, "{said}");
        // A check that cannot fail checks nothing.
        std::fs::copy(dir.path().join("net0.onnx"), dir.path().join("net4.onnx")).unwrap();
        let wrong = python.run("jobs/verify_onnx.py", &["net4.onnx".to_owned()], dir.path());
        assert!(wrong.code == Some(1) && wrong.stdout.contains("WRONG"), "{wrong:?}");
    }
    if let Some(python) = Python::with_torch("exported networks in PyTorch") {
        let scripts: Vec<String> = names.iter().map(|name| format!("{name}.py")).collect();
        let scripts: Vec<String> = scripts.into_iter().filter(|script| dir.path().join(script).exists()).collect();
        assert_eq!(scripts.len(), names.len() - NOT_IN_TORCH, "{scripts:?}");
        let said = python.run("tests/python/run_snippets.py", &scripts, dir.path()).success().stdout;
        eprintln!("{said}");
        assert_eq!(said.matches(" ok\n").count(), scripts.len(), "{said}");
    }
}

fn begun() -> TempDir {
    let dir = faces();
    let layers = r#"["conv 3x3x6", "relu", "maxpool 2", "flatten", "dense 5", "tanh", "dense classes"]"#;
    std::fs::write(dir.path().join("begun.toml"), format!("name = \"begun\"\nlayers = {layers}\n")).unwrap();
    dir
}

#[test]
fn a_network_begun_in_pytorch_goes_on_here() {
    let dir = begun();
    let path = dir.path();
    let Some(python) = Python::with_torch("a network begun in PyTorch goes on here") else { return };
    python.run("tests/python/make_sequential.py", &[".".to_owned()], path).success();
    let import = "--model begun.toml --input 24x24x3 --classes no,yes";
    let said = glasses(&words(&format!("import begun.safetensors {import} --out begun")), path).success().stdout;
    assert!(said.contains("conv0: 0 [3, 3, 3, 6]") && said.contains("dense6: 6 [5, 2]"), "{said}");
    refused(path, &format!("import named.safetensors {import}"), &["features", "--names", "conv0, dense4, dense6"]);
    let named = "--names features,hidden,answer --out named";
    glasses(&words(&format!("import named.safetensors {import} {named}")), path).success();
    let model = |name: &str| std::fs::read(path.join(name).join("model.h5")).unwrap();
    assert!(model("begun") == model("named"), "the same weights, whatever they are called and in f64");
    // The same logits: as PyTorch gave them for rows that we read from its file.
    let given = std::fs::read(path.join("begun.logits.safetensors")).unwrap();
    let given = safetensors::SafeTensors::deserialize(&given).unwrap();
    let rows = given.tensor("rows").unwrap();
    Raw::create(path, "rows.h5").put("train/images", rows.shape(), rows.data()).labels("train", &[0; 50]);
    let export = "export begun --to safetensors --out out.safetensors --samples rows.h5";
    glasses(&words(export), path).success();
    let ours = std::fs::read(path.join("out.samples.safetensors")).unwrap();
    let ours = safetensors::SafeTensors::deserialize(&ours).unwrap();
    let logits = |file: &safetensors::SafeTensors<'_>| -> Vec<f32> {
        file.tensor("logits").unwrap().data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    crate::golden::assert_close(&logits(&ours), &logits(&given), 1e-5, "logits");
}

#[test]
fn imported_weights_are_where_training_begins() {
    let dir = begun();
    let path = dir.path();
    let train = "train --data faces.h5 --model begun.toml --epochs 4 --lr 3e-3 --out first";
    let said = glasses(&words(train), path).success().stdout;
    glasses(&words("export first --to safetensors --out first.safetensors"), path).success();
    let said_of_import = glasses(&words("import first.safetensors --model begun.toml"), path).success().stdout;
    assert!(said_of_import.contains("train --resume runs/first --fork"), "{said_of_import}");
    // Where the first run ended, with its normalisation, the second one begins.
    let on = "train --resume runs/first --fork --data faces.h5 --epochs 1 --lr 1e-9 --out on";
    glasses(&words(on), path).success();
    let summary = |run: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(path.join(run).join("summary.json")).unwrap()).unwrap()
    };
    let (first, on) = (summary("first"), summary("on"));
    let loss = |run: &Value| run["test_loss"].as_f64().unwrap();
    assert!((loss(&first) - loss(&on)).abs() <= 1e-4 * loss(&first), "{said} {on}");
    assert_eq!(on["model"], "begun");
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let dir = begun();
    let path = dir.path();
    glasses(&words("train --data faces.h5 --model tiny.toml --epochs 1 --out run"), path).success();
    glasses(&words("export run --to safetensors --out w.safetensors"), path).success();
    refused(path, "import w.safetensors --model begun.toml", &["w.safetensors", "conv0, dense4", "dense6"]);
    refused(
        path,
        "import w.safetensors --model tiny.toml --input 22x24x3",
        &["'dense4.weight'", "[2, 576]", "[2, 528]"],
    );
    refused(path, "import w.safetensors --model tiny.toml --classes a,b,c", &["'dense4.weight'", "[3, 576]"]);
    refused(path, "import w.safetensors --model tiny.toml --names conv0", &["--names", "one module a layer"]);
    refused(path, "import w.safetensors --model tiny.toml --out run", &["run", "holds something"]);
    refused(path, "import faces.h5 --model tiny.toml", &["faces.h5", "no safetensors file"]);
    refused(path, "import none.safetensors --model tiny.toml", &["none.safetensors"]);
    refused(path, "import w.safetensors --model tyni.toml", &["tyni.toml", "did you mean 'tiny.toml'?"]);
    refused(path, "export run --to onnx --out run/model.h5", &["--out", "beside the model"]);
    refused(path, "export faces.h5 --to onnx --out a.onnx", &["faces.h5", "not a model"]);
    glasses(&words("synth --kind spiral --count 60 --out spiral.h5"), path).success();
    let args = "export run --to onnx --out a.onnx --samples spiral.h5";
    refused(path, args, &["spiral.h5", "2 features", "24x24x3, as the model takes"]);
}
