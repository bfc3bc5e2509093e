//! `glasses bench`: its figures are numbers, its shares are shares, and it measures what it is told to.

use std::path::Path;

use glasses::kernels::{Isa, fma_chains};
use serde_json::Value;

use crate::fixtures::words;
use crate::run::{Outcome, glasses, mpirun, shell};

/// A network with everything that layers of the table can be: fused and not, packed, element-wise, without weights.
const CONV: &str = r#"name = "conv"
layers = [
    "conv 3x3x4", "relu", "maxpool 2",
    "conv 3x3x5 stride 2", "sigmoid", "relu",
    "avgpool 2",
    "flatten",
    "dense 6", "relu", "dropout 0.1",
    "dense classes",
]
"#;

fn parse(end: Outcome) -> Value {
    serde_json::from_str(&end.success().stdout).unwrap()
}

fn bench(dir: &Path, options: &str) -> Value {
    parse(glasses(&words(&format!("bench --seconds 0.01 --json {options}")), dir))
}

/// Every number below `value` is finite; those that can be measured are positive.
fn check_numbers(value: &Value, path: &str) {
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            // Work without multiplications, and what is left of a step, may take no time at all.
            let may_be_zero = ["flops", "share", "ms"].iter().any(|name| path.ends_with(&format!("].{name}")));
            assert!(number.is_finite() && (number > 0.0 || may_be_zero && number == 0.0), "{path}: {number}");
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(place, item)| check_numbers(item, &format!("{path}[{place}]")));
        }
        Value::Object(items) => items.iter().for_each(|(name, item)| check_numbers(item, &format!("{path}.{name}"))),
        _ => {}
    }
}

#[track_caller]
fn check(found: &Value, batches: &[u64]) {
    check_numbers(found, "");
    let layers = found["layers"].as_array().unwrap();
    let shares: f64 = layers.iter().map(|layer| layer["share"].as_f64().unwrap()).sum();
    assert!((0.8..1.25).contains(&shares), "{shares}: {found}");
    for layer in layers {
        let has_flops = layer["flops"].as_u64() > Some(0);
        assert_eq!(layer["forward"].is_object(), has_flops, "{layer}");
        assert_eq!(layer["backward_weights"].is_object(), has_flops, "{layer}");
    }
    assert!(layers[0]["backward_data"].is_null(), "nothing below wants it: {}", layers[0]);
    let steps: Vec<u64> =
        found["steps"].as_array().unwrap().iter().map(|step| step["batch"].as_u64().unwrap()).collect();
    assert_eq!(steps, batches);
    assert!(found["cpu"].is_string() || !cfg!(target_arch = "x86_64"));
}

fn layers(found: &Value) -> Vec<&str> {
    found["layers"].as_array().unwrap().iter().map(|layer| layer["layer"].as_str().unwrap()).collect()
}

const REST: [&str; 3] = ["rows prepared", "sgd update", "loss, sums, the rest"];

#[test]
fn a_network_of_dense_layers_is_measured_layer_by_layer() {
    let dir = tempfile::tempdir().unwrap();
    let found = bench(dir.path(), "--model spiral --input 2 --classes 3 --batch 1,4");
    check(&found, &[1, 4]);
    let spiral = ["dense 200", "relu", "dense 100", "relu", "dense 50", "relu", "dense classes"];
    assert_eq!(layers(&found), [&spiral[..], &REST].concat());
    assert!(found["layers"][2]["backward_data"]["gflops"].as_f64() > Some(0.0), "{found}");
    assert_eq!(found["layers"][2]["input"], serde_json::json!([200]));
    assert!(found["steps"][0]["gemm_images_per_sec"].is_number(), "the baseline stands beside: {found}");
    assert!(found["inference"]["gemm_latency_ms"].is_number(), "{found}");
}

#[test]
fn fused_layers_share_a_line_and_the_engine_can_be_chosen() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("conv.toml"), CONV).unwrap();
    let options = "--model conv.toml --input 16x16x3 --batch 3,70";
    let found = bench(dir.path(), options);
    check(&found, &[3, 70]);
    let rest = ["avgpool 2", "dense 6", "relu", "dropout 0.1", "dense classes"];
    let fused = ["conv 3x3x4 + relu + maxpool 2", "conv 3x3x5 stride 2", "sigmoid", "relu"];
    assert_eq!(layers(&found), [&fused[..], &rest, &REST].concat());
    let gemm = bench(dir.path(), &format!("{options} --kernels gemm --optimizer adamw"));
    check(&gemm, &[3, 70]);
    let apart = ["conv 3x3x4", "relu", "maxpool 2", "conv 3x3x5 stride 2", "sigmoid", "relu"];
    assert_eq!(layers(&gemm), [&apart[..], &rest, &["rows prepared", "adamw update", REST[2]]].concat());
    assert_eq!(gemm["kernels"], "gemm");
    assert!(gemm["steps"][0]["gemm_images_per_sec"].is_null(), "no baseline beside what was chosen: {gemm}");
}

#[test]
fn it_measures_the_instruction_set_that_is_forced() {
    let dir = tempfile::tempdir().unwrap();
    let line = "GLASSES_ISA=scalar $GLASSES bench --model spiral --input 2 --classes 3 --batch 4 --seconds 0.01 --json";
    let found = parse(shell(line, dir.path()));
    check(&found, &[4]);
    assert_eq!(found["isa"], "scalar");
}

#[test]
fn ranks_measure_at_once_and_one_prints() {
    let dir = tempfile::tempdir().unwrap();
    let options = "bench --model spiral --input 2 --classes 3 --batch 4 --seconds 0.01";
    let found = parse(mpirun(2, &words(&format!("{options} --json")), dir.path()));
    check(&found, &[4]);
    assert_eq!(found["ranks"], 2);
    let step = &found["steps"][0];
    assert!(step["slowest_rank_images_per_sec"].as_f64() <= step["images_per_sec"].as_f64(), "{step}");
    let tables = mpirun(2, &words(options), dir.path()).success().stdout;
    for text in [
        "medians of the rounds' own ratios",
        "2 ranks at once",
        "dense classes",
        "slowest rank",
        "gemm images/s",
        "ms at batch 1",
    ] {
        assert_eq!(tables.matches(text).count(), 1, "{text} in {tables}");
    }
}

#[test]
fn the_peak_does_the_operations_that_it_counts() {
    for isa in Isa::available() {
        let (flops, sum) = isa.with(|| fma_chains(100, 3.0));
        assert!((sum - 24.0).abs() <= 1e-4, "twelve chains that tend to 2: {sum}");
        assert!(flops >= 2400 && flops.is_multiple_of(2400), "a round is twelve multiply-adds a lane: {flops}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (options, part) in [
        ("--batch 0", "--batch"),
        ("--batch 4,x", "--batch"),
        ("--seconds 0", "--seconds"),
        ("--seconds nan", "--seconds"),
        ("--input 8x8", "--input"),
        ("--model none", "none"),
        ("--model spiral --input 8x8x3", "dense"),
    ] {
        let message = glasses(&words(&format!("bench {options}")), dir.path()).failure();
        assert!(message.contains(part), "{options}: {message}");
    }
}
