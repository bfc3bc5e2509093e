//! What the paper reports, and of which settings.

use serde_json::Value;

/// Parameters of the paper's network and its two variations on 80x80x3 pictures of two classes, with the accuracies it reports on
/// its training and its test rows: for one learning rate and batch size.
const REPORTED: [(&str, u64, Option<f64>, f64); 3] = [
    ("glasses", 6_578_674, Some(0.838), 0.790),
    ("glasses-wide", 13_154_274, None, 0.800),
    ("glasses-deep", 1_683_250, None, 0.68),
];

/// The accuracies that the paper reports of a run with these settings, which came to this summary, if it does.
pub fn figures(config: &toml::Table, summary: &Value) -> [Option<f64>; 2] {
    let number = |key: &str| config.get(key).and_then(|v| v.as_float().or(v.as_integer().map(|n| n as f64)));
    let text = |key: &str| config.get(key).and_then(toml::Value::as_str);
    let numbers = [("lr", 1e-3), ("batch", 16.0), ("epochs", 50.0), ("weight-decay", 0.0), ("warmup-epochs", 0.0)];
    let texts = [("optimizer", "sgd"), ("schedule", "constant"), ("augment", "none"), ("normalize", "per-image")];
    let rows = [("train_rows", 400), ("test_rows", 100)];
    let is_paper_s = numbers.iter().all(|(key, want)| number(key) == Some(*want))
        && texts.iter().all(|(key, want)| text(key) == Some(*want))
        && rows.iter().all(|(key, want)| summary[key] == *want)
        && ["clip-value", "clip-norm", "max-steps", "bootstrap", "strategy"]
            .iter()
            .all(|key| !config.contains_key(*key));
    let of_network = |(name, parameters, ..): &&(&str, u64, Option<f64>, f64)| {
        summary["model"] == *name && summary["parameters"] == *parameters
    };
    match REPORTED.iter().find(of_network).filter(|_| is_paper_s) {
        Some((_, _, train, test)) => [*train, Some(*test)],
        None => [None, None],
    }
}
