//! `GLASSES_ISA`: whole runs end in the same weights on every instruction set, and what the processor has not is refused.

use std::path::Path;
use std::process::Command;

use glasses::kernels::Isa;
use serde_json::Value;

use crate::fixtures::everything;
use crate::run::{Outcome, finish, glasses, shell};

/// Dropout, mirror images, a short last batch: all that a run has.
const TRAIN: &str = "train --data faces.h5 --model glasses --epochs 2 --max-steps 7";

fn faces() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    glasses(&["synth", "--size", "24", "--count", "180", "--out", "faces.h5"], dir.path()).success();
    dir
}

/// `glasses TRAIN` with GLASSES_ISA set.
fn train(isa: &str, args: &str, dir: &Path) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glasses"));
    let words = TRAIN.split(' ').chain(args.split(' '));
    command.args(words).current_dir(dir).env("GLASSES_ISA", isa);
    finish(command)
}

fn digest(dir: &Path, out: &str) -> String {
    let text = std::fs::read_to_string(dir.join(out).join("summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&text).unwrap();
    summary["weights_sha256"].as_str().unwrap().to_owned()
}

/// After a refusal: one message with all of `parts`, and nothing written.
#[track_caller]
fn check_refused(outcome: Outcome, dir: &Path, before: &[(std::path::PathBuf, u64)], parts: &[&str]) {
    let message = outcome.failure();
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
    assert_eq!(everything(dir), before, "something was written");
}

#[test]
fn a_run_ends_in_the_same_weights_on_every_instruction_set() {
    let folder = faces();
    let dir = folder.path();
    // 144 training rows: several shards in a micro-batch, several micro-batches in a step, a shard in several.
    for args in [
        "--batch 16 --optimizer adam",
        "--batch 128 --optimizer adamw --clip-norm 1",
        "--batch full --shards 1 --optimizer momentum --lr 0.001",
    ] {
        let mut first: Option<String> = None;
        for isa in Isa::ALL {
            let out = format!("{}-{}", isa.name(), args.replace(' ', ""));
            let before = everything(dir);
            let outcome = train(isa.name(), &format!("{args} --out {out}"), dir);
            if !isa.is_available() {
                let found = format!("'{}', which this processor does not have", isa.name());
                check_refused(outcome, dir, &before, &["GLASSES_ISA", &found, "one of scalar"]);
                continue;
            }
            outcome.success();
            let weights = digest(dir, &out);
            assert_eq!(&weights, first.get_or_insert(weights.clone()), "{args} on {}", isa.name());
        }
    }
}

#[test]
fn two_ranks_of_different_instruction_sets_end_in_the_weights_of_one() {
    let folder = faces();
    let dir = folder.path();
    let best = Isa::available().last().unwrap().name();
    let rank = |isa| format!("-n 1 env GLASSES_ISA={isa} $GLASSES {TRAIN} --batch 128 --out ranks");
    shell(&format!("${{MPIRUN:-mpirun}} {} : {}", rank("scalar"), rank(best)), dir).success();
    // Alone in two micro-batches a step, on two ranks in one each: the tree has the same two halves.
    train(best, "--batch 128 --out alone", dir).success();
    assert_eq!(digest(dir, "ranks"), digest(dir, "alone"));
}

#[test]
fn an_unknown_instruction_set_is_refused_by_all_ranks_with_one_message() {
    let folder = faces();
    let dir = folder.path();
    let before = everything(dir);
    let names: Vec<&str> = Isa::available().map(Isa::name).collect();
    let parts = ["GLASSES_ISA: found 'nonsense'", &format!("one of {}", names.join(", ")), "fix: unset it"];
    check_refused(train("nonsense", "--out run", dir), dir, &before, &parts);
    let all = format!("GLASSES_ISA=nonsense ${{MPIRUN:-mpirun}} -n 2 $GLASSES {TRAIN} --out run");
    check_refused(shell(&all, dir), dir, &before, &parts);
    let rank = |isa| format!("-n 1 env GLASSES_ISA={isa} $GLASSES {TRAIN} --out run");
    let one = format!("${{MPIRUN:-mpirun}} {} : {}", rank("scalar"), rank("nonsense"));
    check_refused(shell(&one, dir), dir, &before, &[parts[0], "(rank 1, "]);
    // Help needs no kernels.
    let mut help = Command::new(env!("CARGO_BIN_EXE_glasses"));
    help.arg("--help").env("GLASSES_ISA", "nonsense").current_dir(dir);
    finish(help).success();
}
