//! What is printed, computed again from first principles: `docs/report.md` defines each figure.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use crate::fixtures::words;
use crate::run::{glasses, mpirun, shell};

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn number(value: &Value, path: &str) -> f64 {
    value.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {value}"))
}

#[track_caller]
fn near(got: f64, want: f64, tolerance: f64, what: &str) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1e-12), "{what}: {got}, not {want}");
}

/// Labels of a split.
fn labels(file: &Path, split: &str) -> Vec<usize> {
    let file = hdf5::File::open(file).unwrap();
    let labels = file.dataset(&format!("{split}/labels")).unwrap().read_raw::<i64>().unwrap();
    labels.into_iter().map(|label| label as usize).collect()
}

/// The logits of an exported model for the first rows of the test split, in rows of `classes`.
fn logits(path: &Path, classes: usize) -> Vec<Vec<f64>> {
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let data = tensors.tensor("logits").unwrap().data();
    let value = |four: &[u8; 4]| f64::from(f32::from_le_bytes(*four));
    let values: Vec<f64> = data.as_chunks::<4>().0.iter().map(value).collect();
    values.chunks(classes).map(<[f64]>::to_vec).collect()
}

#[test]
fn every_figure_of_a_run_follows_from_its_definition() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    glasses(&words("synth --out faces.h5 --count 150 --test 0.2 --val 0.2 --size 24"), dir).success();
    let began = Instant::now();
    let train =
        "train --data faces.h5 --batch 16 --epochs 3 --seed 5 --lr 0.02 --schedule cosine --warmup-epochs 1 --out run";
    let outcome = mpirun(2, &words(train), dir).success();
    let outside = began.elapsed().as_secs_f64();
    let (run, data) = (dir.join("run"), dir.join("faces.h5"));
    let summary = read(&run.join("summary.json"));
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    // Rows and steps.
    let [train, val, test] = ["train", "val", "test"].map(|split| labels(&data, split));
    assert_eq!(
        (number(&summary, "/train_rows"), number(&summary, "/test_rows")),
        (train.len() as f64, test.len() as f64)
    );
    assert!(!val.is_empty() && lines.len() == 3);
    let of_epoch = train.len().div_ceil(16);
    let steps: Vec<f64> = lines.iter().map(|line| number(line, "/step")).collect();
    assert_eq!(steps, [1, 2, 3].map(|epoch| (epoch * of_epoch) as f64));
    assert_eq!(number(&summary, "/steps"), (3 * of_epoch) as f64);
    let parameters = glasses(&words("info --model glasses --input 24x24x3 --json"), dir).success().stdout;
    assert_eq!(summary["parameters"], serde_json::from_str::<Value>(&parameters).unwrap()["parameters"]);

    // The learning rate of each epoch's last step: it rises over the first epoch, half a cosine over the two others.
    for (epoch, line) in lines.iter().enumerate() {
        let done = ((epoch + 1) * of_epoch - 1) as f64 - of_epoch as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done / (2 * of_epoch) as f64).cos());
        near(number(line, "/lr"), if epoch == 0 { 0.02 } else { 0.02 * cosine }, 1e-12, "lr");
    }

    // Losses and accuracies, from the logits of the rows.
    glasses(&words("export run --to onnx --out run.onnx --samples faces.h5"), dir).success();
    let logits = logits(&dir.join("run.samples.safetensors"), 2);
    assert_eq!(logits.len(), test.len());
    let (mut loss, mut cells) = (0.0, [[0.0_f64; 2]; 2]);
    for (row, &label) in logits.iter().zip(&test) {
        let most = row.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|logit| (logit - most).exp()).sum();
        loss += most + sum.ln() - row[label];
        cells[label][usize::from(row[1] > row[0])] += 1.0;
    }
    let count = test.len() as f64;
    let accuracy = (cells[0][0] + cells[1][1]) / count;
    let rows = [0, 1].map(|class: usize| cells[class][0] + cells[class][1]);
    let said = [0, 1].map(|class: usize| cells[0][class] + cells[1][class]);
    let balanced = (cells[0][0] / rows[0] + cells[1][1] / rows[1]) / 2.0;
    let f1 = [0, 1].map(|class: usize| 2.0 * cells[class][class] / (rows[class] + said[class]));
    let commonest = rows[0].max(rows[1]) / count;
    for of in [&summary, &lines[2]] {
        near(number(of, "/test_loss"), loss / count, 1e-5, "loss");
        near(number(of, "/test_accuracy"), accuracy, 1e-12, "accuracy");
        near(number(of, "/test_balance/balanced_accuracy"), balanced, 1e-12, "balanced accuracy");
        near(number(of, "/test_balance/macro_f1"), (f1[0] + f1[1]) / 2.0, 1e-12, "macro F1");
        near(number(of, "/test_balance/majority_class_accuracy"), commonest, 1e-12, "the commonest class");
    }
    let eval: Value =
        serde_json::from_str(&glasses(&words("eval --model run --data faces.h5 --json"), dir).success().stdout)
            .unwrap();
    for class in 0..2 {
        for (said_class, cell) in cells[class].iter().enumerate() {
            assert_eq!(number(&eval, &format!("/confusion/{class}/{said_class}")), *cell);
        }
        near(number(&eval, &format!("/classes/{class}/recall")), cells[class][class] / rows[class], 1e-12, "recall");
        if said[class] > 0.0 {
            let precision = cells[class][class] / said[class];
            near(number(&eval, &format!("/classes/{class}/precision")), precision, 1e-12, "precision");
        }
    }
    let best = lines.iter().map(|line| number(line, "/val_accuracy")).fold(f64::MIN, f64::max);
    let first = lines.iter().position(|line| number(line, "/val_accuracy") == best).unwrap();
    assert_eq!(number(&summary, "/best_epoch"), (first + 1) as f64, "the first of the best epochs on /val");

    // Time: phases are parts of the wall time, speeds are rows over it.
    let mut all = 0.0;
    for line in &lines {
        let phases: f64 = ["load", "forward", "backward", "sync", "update"]
            .iter()
            .map(|key| number(line, &format!("/seconds/{key}")))
            .sum();
        let wall = train.len() as f64 / number(line, "/images_per_sec");
        // What lies between the phases is not theirs; the root's wall time, and the phases' mean over two ranks.
        assert!(phases <= 1.1 * wall + 0.02 && phases >= 0.5 * wall, "{phases} of {wall} s: {line}");
        let (slowest, mean) = (number(line, "/slowest/seconds"), number(line, "/slowest/mean"));
        assert!(slowest >= mean && number(line, "/slowest/rank") < 2.0, "{line}");
        near(mean, phases - number(line, "/seconds/sync"), 1e-6, "seconds that ranks do not wait");
        all += wall;
    }
    near(number(&summary, "/images_per_sec"), 3.0 * train.len() as f64 / all, 1e-9, "images/s of the run");
    let wall = number(&summary, "/wall_seconds");
    assert!(all <= wall && wall <= outside, "training {all}, the run {wall}, seen from outside {outside} s");

    // Bytes: those of the epochs, and with the final evaluation and digests those of the run.
    for key in ["sent", "shared", "predicted_sent", "predicted_shared"] {
        let sum: f64 = lines.iter().map(|line| number(line, &format!("/exchange/{key}"))).sum();
        assert_eq!(number(&summary, &format!("/exchange/{key}")), sum, "{key}");
    }
    let bytes: f64 = lines.iter().map(|line| number(line, "/bytes_communicated")).sum();
    assert!(number(&summary, "/bytes_communicated") >= bytes, "{summary}");

    // What is printed is what is written.
    let said = |part: String| assert!(outcome.stdout.contains(&part), "'{part}' in {}", outcome.stdout);
    for line in &lines {
        said(format!(
            "train loss {:.4} accuracy {:.2} %",
            number(line, "/train_loss"),
            100.0 * number(line, "/train_accuracy")
        ));
        said(format!(
            "val loss {:.4} accuracy {:.2} %",
            number(line, "/val_loss"),
            100.0 * number(line, "/val_accuracy")
        ));
        said(format!("{:.0} images/s", number(line, "/images_per_sec")));
    }
    said(format!("test accuracy {:.2} % ({} rows)", 100.0 * accuracy, test.len()));
    said(format!("weights sha256 {}", summary["weights_sha256"].as_str().unwrap()));
}

/// `update` is the optimizer's sweep over the weights under every plan, where it happens.
#[test]
fn the_update_takes_its_time_under_every_plan() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // 6.3 million weights in one layer: nearly all of the step is about them.
    let model = "name = \"wide\"\nlayers = [\"flatten\", \"dense 512\", \"relu\", \"dense classes\"]\n";
    std::fs::write(dir.join("wide.toml"), model).unwrap();
    glasses(&words("synth --out faces.h5 --count 96 --size 64"), dir).success();
    let train =
        "train --data faces.h5 --model wide.toml --optimizer adamw --lr 1e-4 --batch 16 --epochs 2 --eval-every 5";
    let mut found = Vec::new();
    for (ranks, plan) in [(1, "split"), (1, "reduce"), (2, "split"), (2, "factors"), (2, "reduce")] {
        let out = format!("{plan}-{ranks}");
        mpirun(ranks, &words(&format!("{train} --comm {plan} --out {out}")), dir).success();
        let text = std::fs::read_to_string(dir.join(&out).join("metrics.jsonl")).unwrap();
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        let [backward, update] = ["backward", "update"].map(|phase| number(&line, &format!("/seconds/{phase}")));
        assert!(backward > 0.0 && update > 0.0, "{out}: {line}");
        found.push((out, ranks as f64 * update, ranks as f64 * backward));
    }
    // Three numbers a weight, wherever they come from: not a thousandth of it, nor what belongs to the backward pass.
    let least = found.iter().map(|(_, update, _)| *update).fold(f64::MAX, f64::min);
    assert!(found.iter().all(|(_, update, _)| *update <= 8.0 * least), "seconds of all ranks: {found:?}");
    let least = found.iter().map(|(.., backward)| *backward).fold(f64::MAX, f64::min);
    assert!(found.iter().all(|(.., backward)| *backward <= 8.0 * least), "seconds of all ranks: {found:?}");
}

#[test]
fn the_efficiency_of_plan_is_that_of_strong_or_weak_scaling_by_one_rank_with_the_same_options() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let args = "plan --model mnist --input 28x28x1 --classes 10 --ranks 1,4,64 --ranks-per-node 4 --batch 64";
    for (how, kind) in
        [("", "strong"), (" --weak", "weak"), (" --comm reduce", "strong"), (" --comm reduce --weak", "weak")]
    {
        let stdout = glasses(&words(&format!("{args}{how} --json")), dir).success().stdout;
        let report: Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(report["scaling"], kind);
        let one = number(&report, "/rows/0/step/seconds");
        assert_eq!((number(&report, "/one_rank/seconds"), number(&report, "/rows/0/efficiency")), (one, 1.0), "{how}");
        for (row, ranks) in [1.0, 4.0, 64.0].into_iter().enumerate() {
            let figure = |key: &str| number(&report, &format!("/rows/{row}/{key}"));
            let of = if kind == "weak" { 1.0 } else { ranks };
            near(figure("efficiency"), one / of / figure("step/seconds"), 1e-12, how);
            assert_eq!(figure("batch"), if kind == "weak" { 64.0 * ranks } else { 64.0 });
            near(figure("images_per_sec"), figure("batch") / figure("step/seconds"), 1e-12, how);
            assert!(figure("efficiency") <= 1.05, "{how}: {report}");
        }
    }
    let said = shell(&format!("$GLASSES {args}; $GLASSES {args} --weak; $GLASSES plan --help"), dir).success().stdout;
    for part in ["strong eff", "T1/(N TN)", "weak eff", "T1/TN", "strong scaling", "weak scaling"] {
        assert!(said.contains(part), "'{part}' in {said}");
    }
}
