//! A run's folder that is removed, moved or replaced while the run works in it: it is said, and what is left is a run that goes on.

use std::path::Path;

use crate::fixtures::{faces, words};
use crate::ranks::{metrics, weights};
use crate::run::{Outcome, glasses, shell};

const TRAIN: &str = "train --data faces.h5 --model tiny.toml --epochs 100000";

/// Starts a run in `run` on a line of its own, does `what` after its first epoch and `then`; `$P` is its process, `log` what it says.
fn meanwhile(dir: &Path, train: &str, what: &str, then: &str) -> Outcome {
    let line = format!(
        "rm -f log; {train} --out run > log 2>&1 & P=$!
         until grep -q '^epoch' log || ! kill -0 $P; do sleep 0.05; done
         {what}
         {then}
         wait $P; R=$?; cat log; exit $R"
    );
    shell(&line, dir)
}

/// Waits for a word of it, and ends the run as a batch system does.
const INTERRUPT: &str = "until grep -q 'written anew' log || ! kill -0 $P; do sleep 0.05; done; kill -TERM $P";

/// The run in `run` was interrupted and saved: it goes on to what it would have come to.
#[track_caller]
fn goes_on(dir: &Path, said: &str) {
    assert!(said.contains("removed or moved while the run worked there"), "{said}");
    assert!(said.contains("saved; `glasses train --resume run` goes on"), "{said}");
    let step = said.rsplit_once("after step ").unwrap().1.split(':').next().unwrap();
    let steps = (step.parse::<usize>().unwrap() + 10).to_string();
    glasses(&["train", "--resume", "run", "--max-steps", &steps], dir).success();
    let whole = format!("{TRAIN} --out whole --max-steps {steps}");
    glasses(&words(&whole), dir).success();
    assert_eq!(weights(&dir.join("run")), weights(&dir.join("whole")));
    assert_eq!(metrics(&dir.join("run")), metrics(&dir.join("whole")));
    glasses(&["verify", "run"], dir).success();
    std::fs::remove_dir_all(dir.join("run")).unwrap();
    std::fs::remove_dir_all(dir.join("whole")).unwrap();
}

#[test]
fn a_run_whose_folder_is_taken_away_says_so_and_can_be_gone_on_with() {
    let folder = faces();
    let dir = folder.path();
    for what in ["rm -rf run", "mv run moved", "rm -rf run; mkdir run", "rm -rf run/*"] {
        let end = meanwhile(dir, &format!("$GLASSES {TRAIN}"), what, INTERRUPT);
        assert_eq!(end.code, Some(75), "{what}: {end:#?}");
        goes_on(dir, &end.stdout);
    }
    // What was moved is a run, too.
    glasses(&words("verify moved"), dir).success();
}

#[test]
fn ranks_whose_folder_is_taken_away_save_in_a_new_one() {
    let folder = faces();
    let dir = folder.path();
    // mpirun passes USR1 on; after TERM it would end the ranks itself.
    let interrupt = INTERRUPT.replace("TERM", "USR1");
    let end = meanwhile(dir, &format!("${{MPIRUN:-mpirun}} -n 2 $GLASSES {TRAIN}"), "rm -rf run", &interrupt);
    goes_on(dir, &end.stdout);
}

#[test]
fn a_run_whose_folder_is_taken_away_ends_with_all_its_results() {
    let folder = faces();
    let dir = folder.path();
    // Three seconds or more.
    let train = "$GLASSES train --data faces.h5 --model tiny.toml --epochs 300";
    let end = meanwhile(dir, train, "rm -rf run", "").success();
    assert!(end.stdout.contains("written anew"), "{end:#?}");
    assert_eq!(std::fs::read_to_string(dir.join("run/metrics.jsonl")).unwrap().lines().count(), 300);
    glasses(&words("eval --model run --data faces.h5"), dir).success();
    glasses(&words("verify run"), dir).success();
    assert!(dir.join("run/summary.json").exists() && dir.join("run/config.toml").exists());
}

#[test]
fn nothing_is_written_into_another_run_that_took_the_place() {
    let folder = faces();
    let dir = folder.path();
    let what = "kill -STOP $P; mv run moved; mkdir run; echo theirs > run/config.toml; kill -CONT $P";
    let train = format!("$GLASSES {TRAIN} --max-failed-checkpoints 2");
    let end = meanwhile(dir, &train, what, "");
    assert!(end.code.is_some_and(|code| ![0, 75].contains(&code)), "{end:#?}");
    assert!(end.stdout.contains("another run, where this one began"), "{end:#?}");
    let left: Vec<_> = std::fs::read_dir(dir.join("run")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["config.toml"], "{end:#?}");
    assert_eq!(std::fs::read_to_string(dir.join("run/config.toml")).unwrap(), "theirs\n");
}

#[test]
fn an_ensemble_whose_folder_is_taken_away_can_be_gone_on_with() {
    let folder = faces();
    let dir = folder.path();
    let train = TRAIN.replace("100000", "3000");
    let line = format!(
        "$GLASSES {train} --strategy ensemble --members 2 --out run > log 2>&1 & P=$!
         until [ -s run/member-0/metrics.jsonl ] || ! kill -0 $P; do sleep 0.05; done
         rm -rf run
         {INTERRUPT}; wait $P; R=$?; cat log; exit $R"
    );
    let end = shell(&line, dir);
    assert_eq!(end.code, Some(75), "{end:#?}");
    glasses(&words("train --resume run"), dir).success();
    glasses(&words(&format!("{train} --strategy ensemble --members 2 --out whole")), dir).success();
    assert_eq!(weights(&dir.join("run")), weights(&dir.join("whole")));
}
