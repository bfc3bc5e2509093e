//! What glasses 0.1.0 wrote (`tests/golden/glasses-0.1.0/`): a dataset, and a run of three steps on it, of which the model and the
//! checkpoint are kept. The program of that version made these files, and the figures below:
//!
//!     glasses synth --kind spiral --count 60 --out spiral.h5
//!     glasses train --data spiral.h5 --model small.toml --epochs 2 --max-steps 3 --normalize dataset --out run
//!     glasses eval --model run/model.h5 --data spiral.h5 --json
//!     glasses train --resume run --max-steps 6

use std::path::Path;

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::fixtures::{refused, unlock, words};
use crate::run::{glasses, mpirun};

/// A folder with the dataset and the run.
fn old() -> TempDir {
    let dir = tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/glasses-0.1.0");
    std::fs::create_dir_all(dir.path().join("run/checkpoints")).unwrap();
    for (name, to) in [
        ("spiral.h5", "spiral.h5"),
        ("model.h5", "run/model.h5"),
        ("config.toml", "run/config.toml"),
        ("metrics.jsonl", "run/metrics.jsonl"),
        ("step-000000003.h5", "run/checkpoints/step-000000003.h5"),
    ] {
        std::fs::copy(from.join(name), dir.path().join(to)).unwrap();
    }
    dir
}

fn json_of(args: &str, dir: &Path) -> Value {
    serde_json::from_str(&glasses(&words(args), dir).success().stdout).unwrap()
}

#[test]
fn an_old_dataset_and_an_old_model_are_read() {
    let dir = old();
    let dir = dir.path();
    let data = json_of("info spiral.h5 --json", dir);
    assert_eq!(data["classes"], json!(["arm 0", "arm 1", "arm 2"]));
    assert_eq!(data["splits"][0], json!({"split": "train", "rows": 48, "rows_of_class": [16, 16, 16]}));
    assert!(data["refused"].is_null());
    let model = json_of("info run/model.h5 --json", dir);
    let digest = "8be9b912582a729e19c0abed4cd99899eba85716f3b00695c113089274833404";
    assert_eq!((&model["weights_sha256"], &model["normalize"]), (&json!(digest), &json!("dataset")));
    let figures = json_of("eval --model run/model.h5 --data spiral.h5 --json", dir);
    assert_eq!(figures["confusion"], json!([[0, 4, 0], [0, 3, 1], [0, 4, 0]]));
    let loss = figures["loss"].as_f64().unwrap();
    assert!((loss - 1.286_282_378_678_112_6).abs() < 1e-6, "{loss}");
    glasses(&words("export run --to safetensors --out m.safetensors"), dir).success();
    // Before that there was no digest beside the numbers.
    let file = hdf5::File::open_rw(dir.join("run/model.h5")).unwrap();
    file.delete_attr("values_xxh3").unwrap();
    file.close().unwrap();
    unlock(&dir.join("run/model.h5"));
    assert_eq!(json_of("eval --model run/model.h5 --data spiral.h5 --json", dir), figures);
}

#[test]
fn an_old_run_goes_on_to_the_weights_that_it_would_have_had() {
    for ranks in [1, 3] {
        let dir = old();
        let dir = dir.path();
        // An old checkpoint names no classes: it is no model, and that is said.
        let step = "run/checkpoints/step-000000003.h5";
        refused(dir, &format!("eval --model {step} --data spiral.h5"), &["names no classes", "train --resume"]);
        mpirun(ranks, &words("train --resume run --max-steps 6"), dir).success();
        let summary: Value =
            serde_json::from_str(&std::fs::read_to_string(dir.join("run/summary.json")).unwrap()).unwrap();
        let digest = "740e221a29c5920a58e92012ffd5b13567ad2dad5fc7098d141309f3984489fd";
        assert_eq!(summary["weights_sha256"], json!(digest), "{ranks} ranks");
        glasses(&words("eval --model run --data spiral.h5"), dir).success();
    }
}
