//! Runs that are ended from outside and gone on with: the same weights, metrics and digests as if nothing had been.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixtures::{TINY, refused};
use crate::ranks::{digests, metrics, weights};
use crate::run::{Outcome, finish, glasses, mpirun};

const TRAIN: &str = "train --data faces.h5 --model tiny.toml --epochs 4 --batch 5 --optimizer adam";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    std::fs::write(dir.join("tiny.toml"), TINY).unwrap();
    glasses(&["synth", "--size", "24", "--count", "80", "--val", "0.1", "--out", "faces.h5"], dir).success();
    folder
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn run(dir: &Path, line: &str) -> Outcome {
    glasses(&words(line), dir).success()
}

#[track_caller]
fn assert_same_run(got: &Path, want: &Path) {
    assert_eq!(weights(got), weights(want));
    assert_eq!(metrics(got), metrics(want));
    assert_eq!(digests(got), digests(want));
    let best = |folder: &Path| std::fs::read(folder.join("best.h5")).unwrap();
    assert!(best(got) == best(want), "the best model");
}

#[test]
fn a_run_that_stops_in_the_middle_of_an_epoch_goes_on_on_any_ranks() {
    let folder = folder();
    let dir = folder.path();
    run(dir, &format!("{TRAIN} --digest-every 3 --out whole"));
    for (first, second, stop) in [(0, 3, 7), (3, 0, 16), (2, 5, 20), (4, 1, 12)] {
        let out = format!("{first}-{second}");
        let on = |ranks: usize, line: String| match ranks {
            0 => glasses(&words(&line), dir).success(),
            ranks => mpirun(ranks, &words(&line), dir).success(),
        };
        on(first, format!("{TRAIN} --digest-every 3 --out {out} --max-steps {stop}"));
        let outcome = on(second, format!("train --resume {out} --max-steps 1000"));
        assert!(outcome.stdout.contains(&format!("after step {stop} ")), "{}", outcome.stdout);
        assert_same_run(&dir.join(&out), &dir.join("whole"));
    }
}

#[test]
fn a_finished_run_says_so_and_one_without_a_checkpoint_starts_over() {
    let folder = folder();
    let dir = folder.path();
    run(dir, &format!("{TRAIN} --digest-every 3 --out whole --checkpoint-every never"));
    let before = crate::fixtures::everything(dir);
    let outcome = run(dir, "train --resume whole");
    assert!(outcome.stdout.contains("is finished: 48 steps"), "{}", outcome.stdout);
    assert_eq!(crate::fixtures::everything(dir), before);
    // As a killed process leaves it.
    run(dir, &format!("{TRAIN} --digest-every 3 --out killed --checkpoint-every never"));
    std::fs::remove_file(dir.join("killed/summary.json")).unwrap();
    let outcome = run(dir, "train --resume killed");
    assert!(outcome.stdout.contains("starting over"), "{}", outcome.stdout);
    assert_same_run(&dir.join("killed"), &dir.join("whole"));
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_one_before_it_taken() {
    let folder = folder();
    let dir = folder.path();
    run(dir, &format!("{TRAIN} --digest-every 3 --out whole"));
    run(dir, &format!("{TRAIN} --digest-every 3 --out cut --max-steps 8 --keep 3"));
    for steps in [12, 16, 20] {
        run(dir, &format!("train --resume cut --max-steps {steps}"));
    }
    let checkpoint = |step: usize| dir.join(format!("cut/checkpoints/step-{step:09}.h5"));
    assert!(!checkpoint(8).exists() && checkpoint(12).exists());
    let bytes = std::fs::read(checkpoint(20)).unwrap();
    std::fs::write(checkpoint(20), &bytes[..bytes.len() - 1]).unwrap();
    let mut bytes = std::fs::read(checkpoint(16)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(checkpoint(16), &bytes).unwrap();
    let outcome = mpirun(2, &words("train --resume cut --max-steps 1000"), dir).success();
    assert!(
        outcome.stderr.contains("step-000000020.h5") && outcome.stderr.contains("step-000000016.h5"),
        "{outcome:?}"
    );
    assert!(outcome.stdout.contains("after step 12 "), "{outcome:?}");
    assert_same_run(&dir.join("cut"), &dir.join("whole"));
    // Where none is whole, nothing is touched.
    run(dir, &format!("{TRAIN} --digest-every 3 --out lost --max-steps 9"));
    let file = dir.join("lost/checkpoints/step-000000009.h5");
    std::fs::write(&file, b"nothing").unwrap();
    let parts: &[&str] = &["no checkpoint that can be used", "step-000000009.h5", "move the folder"];
    refused(dir, "train --resume lost --max-steps 20", parts);
    std::fs::copy(dir.join("cut/checkpoints/step-000000048.h5"), &file).unwrap();
    refused(dir, "train --resume lost --max-steps 20", &["the state after step 48", "that of the step in its name"]);
    refused(dir, "train --resume cut --seed 2", &["seed: 2 was 1"]);
    refused(dir, "train --resume cut --max-steps 5", &["5 steps", "at least the 48"]);
}

#[test]
fn what_only_looks_like_a_checkpoint_is_left_out() {
    let folder = folder();
    let dir = folder.path();
    run(dir, &format!("{TRAIN} --checkpoint-every 4 --out cut --max-steps 20"));
    run(dir, &format!("{TRAIN} --checkpoint-every 4 --out whole --max-steps 30"));
    let checkpoint = |step: usize| dir.join(format!("cut/checkpoints/step-{step:09}.h5"));
    std::fs::create_dir(checkpoint(700)).unwrap();
    std::fs::write(checkpoint(700).join("kept"), "").unwrap();
    std::fs::create_dir(checkpoint(1)).unwrap();
    std::fs::copy(checkpoint(20), checkpoint(600)).unwrap();
    std::fs::write(checkpoint(500), "damaged").unwrap();
    let end = mpirun(2, &words("train --resume cut --max-steps 30"), dir).success();
    assert!(end.stdout.contains("resuming cut after step 20"), "{end:?}");
    for part in
        ["step-000000700.h5: found a folder", "step-000000600.h5: found the state after step 20", "step-000000500.h5"]
    {
        assert!(end.stderr.contains("a checkpoint is left out") && end.stderr.contains(part), "{part}: {end:?}");
    }
    assert!(!end.stderr.contains("could not be"), "{end:?}");
    // What is no damaged checkpoint is kept, under a name that no checkpoint has.
    assert!(dir.join("cut/checkpoints/step-000000700.h5.unused1/kept").exists() && !checkpoint(700).exists());
    assert!(dir.join("cut/checkpoints/step-000000600.h5.unused1").exists() && !checkpoint(600).exists());
    assert!(!checkpoint(500).exists() && checkpoint(1).is_dir());
    assert_eq!(weights(&dir.join("cut")), weights(&dir.join("whole")));
}

#[test]
fn a_folder_without_a_run_is_not_gone_on_with_and_nothing_is_drawn_for_it() {
    let folder = folder();
    let dir = folder.path();
    run(dir, &format!("{TRAIN} --out cut --max-steps 3"));
    std::fs::create_dir(dir.join("none")).unwrap();
    let no_run = &["--resume none: found a folder in which no run was begun", "config.toml", "the folder of a run"];
    refused(dir, "train --resume none", no_run);
    refused(dir, "train --resume none --fork", no_run);
    refused(dir, "train --resume cut/model.h5", &["found a file", "--resume cut"]);
    refused(dir, "train --resume faces.h5", &["--resume faces.h5: found a file", "the folder of a run"]);
    for text in ["", "epochs = 4\n"] {
        std::fs::write(dir.join("cut/config.toml"), text).unwrap();
        let no_data = &["cut/config.toml: found no 'data'", "--data FILE.h5"];
        crate::fixtures::refused_by_all(dir, "train --resume cut", no_data);
        refused(dir, "train --resume cut --fork", no_data);
    }
    refused(dir, "train --epochs 1 --trace nowhere/t.json", &["no folder nowhere"]);
}

#[test]
fn a_changed_setting_that_decides_the_result_is_refused_with_the_list_and_fork_takes_it() {
    let folder = folder();
    let dir = folder.path();
    run(dir, &format!("{TRAIN} --digest-every 3 --out cut --max-steps 20"));
    let cut: &[&str] = &["batch: 6 was 5", "seed: 9 was 1", "not as they were", "--fork"];
    refused(dir, "train --resume cut --max-steps 30 --batch 6 --seed 9", cut);
    refused(dir, "train --resume cut --max-steps 30 --epochs 9", &["epochs: 9 was 4"]);
    refused(dir, "train --resume cut --out other", &["--out other", "--fork"]);
    refused(dir, "train --resume nowhere", &["nowhere"]);
    glasses(&words("synth --size 24 --count 80 --val 0.1 --seed 2 --out other.h5"), dir).success();
    refused(dir, "train --resume cut --max-steps 30 --data other.h5", &["the rows of the dataset: digest"]);
    let outcome = run(dir, "train --resume cut --fork --out fork --max-steps 30 --batch 6 --seed 9");
    assert!(outcome.stdout.contains("from the weights of cut after step 20"), "{}", outcome.stdout);
    run(dir, "verify fork");
    // A fork can be gone on with, too.
    run(dir, "train --resume cut --fork --out other --max-steps 10");
    run(dir, "train --resume cut --fork --out cut-fork --max-steps 4");
    run(dir, "train --resume cut-fork --max-steps 10");
    assert_eq!(weights(&dir.join("cut-fork")), weights(&dir.join("other")));
}

/// Waits until `path` exists.
fn wait_for(path: &Path, child: &mut Child) {
    let start = Instant::now();
    while !path.exists() {
        assert!(
            start.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(),
            "{path:?} never comes"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_run_directory_has_one_writer() {
    let folder = folder();
    let dir = folder.path();
    let line = "train --data faces.h5 --model tiny.toml --epochs 100000 --checkpoint-every 50 --out run";
    let mut command = Command::new(env!("CARGO_BIN_EXE_glasses"));
    let mut first = command.args(words(line)).current_dir(dir).stdout(Stdio::null()).spawn().unwrap();
    wait_for(&dir.join("run/checkpoints/step-000000050.h5"), &mut first);
    let pid = first.id();
    // As good as dead, but it holds the lock.
    assert!(Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap().success());
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        first.kill().unwrap();
        first.wait().unwrap();
    });
    // Waits for the first one to end, then goes on.
    let outcome = run(dir, "train --resume run --max-steps 5000");
    killer.join().unwrap();
    for part in ["waiting up to 30 s", &format!("process {pid} on "), "resuming run after step"] {
        assert!(outcome.stdout.contains(part), "'{part}' is not in: {}", outcome.stdout);
    }
    let lock = std::fs::read_to_string(dir.join("run/lock")).unwrap();
    assert!(!lock.contains(&format!(" {pid}")), "signed by the second: {lock}");
}

/// `GLASSES_FAULT=FAULT mpirun -n RANKS glasses LINE --window off`: every rank has a copy of its own.
fn with_fault(ranks: usize, fault: &str, line: &str, dir: &Path) -> Outcome {
    with_fault_on(ranks, 0, fault, &format!("{line} --window off"), dir)
}

/// `GLASSES_FAULT=FAULT mpirun -n RANKS glasses LINE`, with at most `most` ranks that share memory (0: as the machine has them).
fn with_fault_on(ranks: usize, most: usize, fault: &str, line: &str, dir: &Path) -> Outcome {
    let mut command = Command::new("bash");
    let many = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1";
    let script = format!("{many} exec ${{MPIRUN:-mpirun}} -n {ranks} $GLASSES {line}");
    command.arg("-c").arg(script).env("GLASSES", env!("CARGO_BIN_EXE_glasses")).env("GLASSES_FAULT", fault);
    command.current_dir(dir);
    if most > 0 {
        command.env("GLASSES_NODE_RANKS", most.to_string());
    }
    finish(command)
}

#[test]
fn one_flipped_bit_in_one_rank_s_memory_stops_the_run_and_is_found() {
    let folder = folder();
    let dir = folder.path();
    let param = "param=conv0.weight";
    // With three copies the odd one is named.
    let line = format!("{TRAIN} --out three --digest-every 4");
    let message = with_fault(3, &format!("flip rank=1 step=8 {param}"), &line, dir).failure();
    for part in ["after step 8", "others on rank 1 on ", "than on 2 ranks, first in conv0.weight", "glasses verify"] {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
    let verdict = glasses(&words("verify three"), dir);
    assert!(verdict.stdout.contains("right up to step 4, not at step 8"), "{verdict:?}");
    assert!(verdict.stdout.contains("weights of rank 1 on") && verdict.stdout.contains("wrong"), "{verdict:?}");
    assert!(verdict.failure().contains("other weights"));
    // With two both are named, and `verify` decides. Not a digest step: what the bit did to others shows at the next one.
    let line = format!("{TRAIN} --out two --digest-every 4");
    let message = with_fault(2, &format!("flip rank=0 step=6 {param}"), &line, dir).failure();
    assert!(message.contains("different ones on rank 0 on ") && message.contains("and rank 1 on "), "{message}");
    let verdict = mpirun(3, &words("verify two --steps 5.."), dir);
    assert!(verdict.stdout.contains("not at step 8"), "{verdict:?}");
    assert!(verdict.stdout.contains("parameter of rank 0: conv0.weight"), "{verdict:?}");
    // What is saved is compared first: no checkpoint holds the wrong bit.
    let line = format!("{TRAIN} --out saved --digest-every 4 --checkpoint-every 6");
    let message = with_fault(2, &format!("flip rank=0 step=6 {param}"), &line, dir).failure();
    assert!(message.contains("after step 6"), "{message}");
    assert!(!dir.join("saved/checkpoints/step-000000006.h5").exists());
    let verdict = glasses(&words("verify saved"), dir);
    assert!(verdict.stdout.contains("weights of rank 1 on") && verdict.stdout.contains("rank 0: wrong"), "{verdict:?}");
    // With a digest a step, the shards that were computed with the wrong weight are named. One rank has nobody to
    // compare with: only `verify` finds it.
    let line = format!("{TRAIN} --out one --digest-every 1");
    with_fault(1, &format!("flip rank=0 step=6 {param}"), &line, dir).success();
    let verdict = glasses(&words("verify one --json"), dir);
    let found: serde_json::Value = serde_json::from_str(verdict.stdout.trim()).unwrap();
    assert_eq!(found["wrong"]["step"], 6);
    assert_eq!(found["wrong"]["params"][0], "conv0.weight");
    assert_eq!(found["wrong"]["shards_known"], true);
    assert_eq!(found["wrong"]["shards"].as_array().unwrap().len(), 0, "the shards of step 6 were right: {found}");
    let verdict = glasses(&words("verify one --steps 7..7 --json"), dir);
    let found: serde_json::Value = serde_json::from_str(verdict.stdout.trim()).unwrap();
    assert!(!found["wrong"]["shards"].as_array().unwrap().is_empty(), "those of step 7 were not: {found}");
    // Nobody may change the chain unseen.
    let path = dir.join("one/digests.jsonl");
    let lines = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        lines.lines().take(4).chain(lines.lines().skip(5)).map(|l| format!("{l}\n")).collect::<String>(),
    )
    .unwrap();
    assert!(glasses(&words("verify one"), dir).failure().contains("lines were changed or taken out"));
}

#[test]
fn one_flipped_bit_is_found_under_every_plan() {
    let folder = folder();
    let dir = folder.path();
    // Nine blocks of inputs in the dense layer: enough for every rank to have some of its weights.
    let layers = r#"["conv 3x3x4", "relu", "flatten", "dense 5", "relu", "dense classes"]"#;
    std::fs::write(dir.join("tiny.toml"), format!("name = \"tiny\"\nlayers = {layers}\n")).unwrap();
    let line = |how: &str, out: &str| format!("{TRAIN} --max-steps 12 --digest-every 4 {how} --out {out}");
    let found_by_verify = |out: &str, param: &str| {
        let verdict = glasses(&words(&format!("verify {out} --json")), dir);
        let found: serde_json::Value = serde_json::from_str(verdict.stdout.trim()).unwrap();
        assert_eq!(found["wrong"]["step"], 8, "{out}: {found}");
        assert!(found["wrong"]["params"].as_array().unwrap().iter().any(|name| name == param), "{out}: {found}");
        assert!(verdict.failure().contains("other weights"));
    };
    // Where every rank has a copy, or every machine, the odd one is named. The bit flips between two digest steps: those who share
    // a copy need not meet between the fault and the digest of the same step.
    for (ranks, most, rank, holder, others, how) in [
        (3, 0, 1, 1, "2 ranks", "--window off --comm reduce"),
        (3, 0, 1, 1, "2 ranks", "--window off --comm factors"),
        (3, 0, 1, 1, "2 ranks", "--window off --comm split"),
        (5, 2, 3, 2, "2 machines", "--window on --comm reduce"),
        (5, 2, 3, 2, "2 machines", "--window on --comm factors"),
        (5, 2, 4, 4, "2 machines", "--window auto --comm split"),
    ] {
        let out = format!("named-{}-{ranks}", how.replace(' ', ""));
        let fault = format!("flip rank={rank} step=6 param=conv0.weight");
        let message = with_fault_on(ranks, most, &fault, &line(how, &out), dir).failure();
        let named = format!("others on rank {holder} on ");
        for part in ["after step 8", &named, &format!("than on {others}, first in conv0.weight"), "glasses verify"] {
            assert!(message.contains(part), "{how}: '{part}' is not in: {message}");
        }
        let verdict = glasses(&words(&format!("verify {out}")), dir);
        assert!(verdict.stdout.contains(&format!("weights of rank {holder} on")), "{verdict:?}");
        assert!(verdict.failure().contains("other weights"));
    }
    // Of two machines both are named.
    let fault = "flip rank=3 step=6 param=dense3.weight";
    let message = with_fault_on(4, 2, fault, &line("--comm factors", "two"), dir).failure();
    assert!(message.contains("different ones on rank 0 on ") && message.contains("and rank 2 on "), "{message}");
    assert!(message.contains("first in dense3.weight"), "{message}");
    // Where there is one copy only, nobody can tell while the run goes on: `verify` does.
    for (ranks, rank, param, how) in [
        (3, 2, "conv0.weight", "--window on --comm reduce"),
        (3, 1, "dense3.weight", "--window on --comm factors"),
        (2, 1, "dense5.bias", "--window on --comm split"),
        (4, 0, "conv0.weight", "--window auto --comm auto"),
        (3, 0, "dense3.weight", "--window off --comm split"),
    ] {
        let out = format!("one-{}-{ranks}", how.replace(' ', ""));
        let fault = format!("flip rank={rank} step=6 param={param}");
        with_fault_on(ranks, 0, &fault, &line(how, &out), dir).success();
        found_by_verify(&out, param);
    }
}

#[test]
fn a_run_verifies_on_any_ranks_and_other_data_is_refused() {
    let folder = folder();
    let dir = folder.path();
    mpirun(3, &words(&format!("{TRAIN} --digest-every 3 --out run --checkpoint-every 10 --keep 4")), dir).success();
    let outcome = run(dir, "verify run");
    assert!(outcome.stdout.contains("all 16 digests up to step 48 are right"), "{outcome:?}");
    let outcome = mpirun(2, &words("verify run --steps 32..40"), dir).success();
    assert!(outcome.stdout.contains("computed from the checkpoint of step "), "{outcome:?}");
    glasses(&words("synth --size 24 --count 80 --val 0.1 --seed 2 --out other.h5"), dir).success();
    refused(dir, "verify run --data other.h5", &["other.h5", "digest"]);
    refused(dir, "verify run --steps 100..", &["the nearest before is of step 48, behind it none"]);
    refused(dir, "verify nowhere", &["nowhere"]);
}

#[test]
fn a_diverged_run_names_the_last_checkpoint() {
    let folder = folder();
    let dir = folder.path();
    let line = "train --data faces.h5 --model tiny.toml --epochs 40 --batch 5 --optimizer sgd --lr 1e30 --out run";
    for ranks in [1, 3] {
        let outcome = mpirun(ranks, &words(line), dir);
        let message = outcome.failure();
        assert!(message.contains("the training diverged") && message.contains("step "), "{message}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_removed_is_no_failed_one() {
    let folder = folder();
    let dir = folder.path();
    run(dir, &format!("{TRAIN} --checkpoint-every 2 --out run --max-steps 4"));
    // Nobody removes a folder as if it were a file.
    let stays = dir.join("run/checkpoints/.glasses-1-a.part");
    std::fs::create_dir(&stays).unwrap();
    let outcome = run(dir, "train --resume run --max-steps 20");
    assert_eq!(outcome.stderr.matches("older checkpoints could not be removed").count(), 1, "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("could not be written"), "{}", outcome.stderr);
    let names = std::fs::read_dir(dir.join("run/checkpoints")).unwrap();
    let names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.len() <= 3 && names.contains(&"step-000000020.h5".to_owned()), "{names:?}");
    let summary = std::fs::read_to_string(dir.join("run/summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["failed_checkpoints"], 0, "{summary}");
}
