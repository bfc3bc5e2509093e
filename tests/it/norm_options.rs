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
    for layers in ["\"batch_norm scale no\"", "\"batch_norm\", \"relu\"", "\"relu\""] {
        residual(dir, layers);
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
    let bytes = std::fs::read(dir.join("noted.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let plain = safetensors::serialize(tensors.tensors(), None).unwrap();
    std::fs::write(dir.join("plain.safetensors"), plain).unwrap();
    let import = "import plain.safetensors --model resnet20 --input 24x24x3";
    for (case, classes) in ["", "--classes 2", "--classes no,yes"].into_iter().enumerate() {
        let said = glasses(&words(&format!("{import} {classes} --out {case}")), dir).success().stdout;
        assert!(said.contains("fc: fc [64, 2]") || said.contains(": fc [64, 2]"), "{said}");
        let named = if case == 2 { "no, yes" } else { "0, 1" };
        assert!(said.contains(&format!("classes {named}")), "{said}");
    }
    refused(dir, &format!("{import} --classes 3"), &["'fc.weight'", "[2, 64]", "[3, 64]", "--classes"]);
}
