//! A run that has no model yet, where one is asked for; and its checkpoints, which do.

use crate::fixtures::{faces, refused, refused_by_all, words};
use crate::run::glasses;

#[test]
fn an_interrupted_run_is_named_with_what_it_has_and_its_checkpoint_is_a_model() {
    let dir = faces();
    let path = dir.path();
    let whole = "--data faces.h5 --model tiny.toml --epochs 2 --normalize dataset --checkpoint-every 1s --out run";
    glasses(&words(whole), path).success();
    let step = std::fs::read_dir(path.join("run/checkpoints")).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    let step = step.strip_prefix(path).unwrap().to_str().unwrap().to_owned();
    // The last checkpoint is the model.
    let judged =
        |model: &str| glasses(&words(&format!("eval --model {model} --data faces.h5 --json")), path).success().stdout;
    assert_eq!(judged(&step), judged("run"));
    glasses(&words(&format!("info {step}")), path).success();
    glasses(&words(&format!("export {step} --to onnx --out a.onnx")), path).success();
    image::RgbImage::new(24, 24).save(path.join("one.png")).unwrap();
    let said = |model: &str| glasses(&words(&format!("predict --model {model} one.png --json")), path).success().stdout;
    assert_eq!(said(&step), said("run"));
    std::fs::remove_file(path.join("run/model.h5")).unwrap();
    let parts = ["no model.h5 yet", "glasses train --resume run", &step];
    refused_by_all(path, "eval --model run --data faces.h5", &parts);
    refused_by_all(path, "predict --model run one.png", &parts);
    refused(path, "export run --to onnx --out c.onnx", &parts);
}
