//! Options about norms, and weights of the zoo from elsewhere: what has no effect is refused or said, what is left out is found.

use std::path::Path;

use crate::fixtures::{refused, words};
use crate::ranks::weights;
use crate::run::glasses;

fn prepare(dir: &Path) {
    glasses(&words("synth --out faces.h5 --count 24 --size 24"), dir).success();
}

/// A network with a residual block of these layers.
fn residual(dir: &Path, layers: &str) {
    let text = format!(
        "name = \"r\"\nlayers = [\"conv 3x3x8\", \"batch_norm\", \"relu\", {{ residual = [\"conv 3x3x8\", {layers}] }}, \
         \"global_avgpool\", \"dense classes\"]\n"
    );
    std::fs::write(dir.join("r.toml"), text).unwrap();
}

#[test]
fn residual_blocks_begin_as_their_shortcuts_or_the_option_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    prepare(dir);
    let line = "train --data faces.h5 --model r.toml --epochs 1 --max-steps 1";
    let scale = "{ scale = [\"global_avgpool\", \"dense 8\", \"sigmoid\"] }";
    for (case, behind) in [
        "",
        ", \"drop_path 0.1\"",
        ", \"dropout 0.1\"",
        &format!(", {scale}"),
        &format!(", {scale}, \"drop_path 0.2\""),
    ]
    .into_iter()
    .enumerate()
    {
        residual(dir, &format!("\"batch_norm\"{behind}"));
        let of = |option: &str| {
            let out = format!("{case}{option}");
            glasses(&words(&format!("{line} --out {out} {option}")), dir).success();
            weights(&dir.join(out))
        };
        assert_ne!(of(""), of("--zero-init-residual"), "{behind}");
    }
    // Behind nothing but a dropped path stands the norm in front of the block.
    let outside = "name = \"r\"\nlayers = [\"conv 3x3x8\", \"batch_norm\", { residual = [\"drop_path 0.1\"] }, \"relu\", \"global_avgpool\", \"dense classes\"]\n";
    for layers in ["\"batch_norm scale no\"", "\"batch_norm\", \"relu\"", "\"relu\"", "outside"] {
        residual(dir, layers);
        if layers == "outside" {
            std::fs::write(dir.join("r.toml"), outside).unwrap();
        }
        let parts = &[
            "--zero-init-residual",
            "no residual block of 'r' that ends in a norm with weights",
            "leave the option away",
        ];
        refused(dir, &format!("{line} --out none --zero-init-residual"), parts);
    }
}

#[test]
fn a_norm_over_one_value_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    prepare(dir);
    let text = "name = \"n\"\nlayers = [\"flatten\", \"dense 8\", \"batch_norm\", \"relu\", \"dense classes\"]\n";
    std::fs::write(dir.join("n.toml"), text).unwrap();
    for (options, is_said) in [
        ("--batch 1", true),
        ("--batch 8 --norm-rows 1", true),
        ("--batch 8 --norm-rows 2", false),
        ("--batch 8", false),
    ] {
        let out = options.replace([' ', '-'], "");
        let line = format!("train --data faces.h5 --model n.toml --epochs 1 --max-steps 1 {options} --out {out}");
        let said = glasses(&words(&line), dir).success().stderr;
        assert_eq!(said.contains("note: a batch norm of vectors has groups of one row"), is_said, "{options}: {said}");
    }
}

#[test]
fn the_number_of_classes_is_that_of_the_network_s_last_layer() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    prepare(dir);
    glasses(&words("train --data faces.h5 --model resnet20 --epochs 1 --max-steps 1 --out run"), dir).success();
    glasses(&words("export run --to safetensors --out noted.safetensors"), dir).success();
    // As other programs write it: `fc` is not the last name, and nothing is said of classes.
    without_notes(dir, "noted.safetensors", "plain.safetensors", "");
    let import = "import plain.safetensors --model resnet20 --input 24x24x3";
    for (case, classes) in ["", "--classes 2", "--classes no,yes"].into_iter().enumerate() {
        let said = glasses(&words(&format!("{import} {classes} --out {case}")), dir).success().stdout;
        assert!(said.contains(": fc [64, 2]"), "{said}");
        let named = if case == 2 { "no, yes" } else { "0, 1" };
        assert!(said.contains(&format!("classes {named}")), "{said}");
    }
    refused(dir, &format!("{import} --classes 3"), &["'fc.weight'", "[2, 64]", "[3, 64]", "--classes"]);
}

/// Writes the tensors of a file as other programs do, without a note; of those called `negative` the first value is made below zero.
fn without_notes(dir: &Path, from: &str, to: &str, negative: &str) {
    let bytes = std::fs::read(dir.join(from)).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values = |name: &str, tensor: &safetensors::tensor::TensorView<'_>| {
        let mut values = tensor.data().to_vec();
        if name == negative {
            values[..4].copy_from_slice(&(-0.5f32).to_le_bytes());
        }
        values
    };
    let all: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape().to_vec(), values(&name, &tensor)))
        .collect();
    let views = all.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    std::fs::write(dir.join(to), safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn weights_of_norms_that_would_be_taken_wrongly_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    prepare(dir);
    let network = |name: &str, layers: &str| {
        let text =
            format!("name = \"{name}\"\nlayers = [\"conv 3x3x4 stride 8 bias yes\", {layers}, \"dense classes\"]\n");
        std::fs::write(dir.join(format!("{name}.toml")), text).unwrap();
    };
    network("vector", "\"flatten\", \"batch_norm\"");
    network("image", "\"batch_norm\", \"flatten\"");
    network("group", "\"group_norm 2\", \"flatten\"");
    for name in ["vector", "image"] {
        let train = format!("train --data faces.h5 --model {name}.toml --epochs 1 --max-steps 1 --out {name}");
        glasses(&words(&train), dir).success();
        glasses(&words(&format!("export {name} --to safetensors --out {name}.safetensors")), dir).success();
        glasses(&words(&format!("import {name}.safetensors --model {name}.toml --out {name}-own")), dir).success();
    }
    let import = |file: &str, network: &str, out: &str| {
        format!("import {file}.safetensors --model {network}.toml --input 24x24x3 --out {out}")
    };
    // A vector norm's weights have the order of the flattened image, of which the file says nothing.
    without_notes(dir, "vector.safetensors", "plain.safetensors", "");
    refused(dir, &import("plain", "vector", "none"), &["weights from elsewhere for 'vector'", "global_avgpool"]);
    without_notes(dir, "image.safetensors", "plain.safetensors", "");
    glasses(&words(&import("plain", "image", "image-plain")), dir).success();
    refused(
        dir,
        &(import("plain", "group", "none") + " --names conv0,batch_norm1,dense3"),
        &["'batch_norm1.running_mean'", "a running statistic", "'group_norm1'"],
    );
    without_notes(dir, "image.safetensors", "plain.safetensors", "batch_norm1.running_var");
    refused(dir, &import("plain", "image", "none"), &["'batch_norm1.running_var'", "a variance of -0.5"]);
}

#[test]
fn no_two_layers_of_an_exported_network_have_one_name() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    prepare(dir);
    // Layers 2 'relu6' and 62 'relu'.
    let text = "name = \"many\"\nlayers = [\"conv 3x3x4 stride 8\", \"batch_norm\", \"relu6\", { repeat = 59, layers = [\"tanh\"] }, \"relu\", \
                \"global_avgpool\", \"dense classes\"]\n";
    std::fs::write(dir.join("many.toml"), text).unwrap();
    glasses(&words("train --data faces.h5 --model many.toml --epochs 1 --max-steps 1 --out run"), dir).success();
    glasses(&words("export run --to onnx --out many.onnx"), dir).success();
    let onnx = String::from_utf8_lossy(&std::fs::read(dir.join("many.onnx")).unwrap()).into_owned();
    assert!(onnx.contains("relu62") && onnx.contains("relu6_2"), "{onnx}");
}
