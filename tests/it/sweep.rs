//! `glasses sweep`: every point of a grid is the run that `glasses train` makes, is made once, and stands in the table.

use std::path::Path;

use serde_json::Value;

use crate::fixtures::{faces, refused, refused_by_all, refused_by_ranks, words};
use crate::ranks::assert_same_run;
use crate::run::{Outcome, glasses, mpirun, shell};

/// What all runs have in common.
const COMMON: &str = "--data faces.h5 --model tiny.toml --epochs 2 --checkpoint-every 4";

const GRID: &str = "--grid lr=1e-2,0.001 --grid batch=8,16";

const NAMES: [&str; 4] = ["lr0.01-batch8", "lr0.01-batch16", "lr0.001-batch8", "lr0.001-batch16"];

fn sweep(ranks: usize, options: &str, dir: &Path) -> Outcome {
    let line = format!("sweep {COMMON} {options}");
    if ranks == 0 { glasses(&words(&line), dir) } else { mpirun(ranks, &words(&line), dir) }
}

/// Each point by itself, in `single/NAME`.
fn singles(dir: &Path) {
    for name in NAMES {
        let (lr, batch) = name.trim_start_matches("lr").split_once("-batch").unwrap();
        let line = format!("train {COMMON} --lr {lr} --batch {batch} --out single/{name}");
        glasses(&words(&line), dir).success();
    }
}

fn same_as_singles(folder: &Path, dir: &Path) {
    for name in NAMES {
        assert_same_run(&folder.join(name), &dir.join("single").join(name), &format!("{name} of {}", folder.display()));
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn a_point_is_the_run_that_train_makes_on_any_ranks_in_any_groups() {
    let dir = faces();
    let dir = dir.path();
    singles(dir);
    for (ranks, each, lines) in [(0, "1", 4), (2, "1", 4), (2, "2", 4), (4, "2", 4), (4, "1", 4), (3, "1", 4)] {
        let out = format!("on-{ranks}-{each}");
        let said = sweep(ranks, &format!("{GRID} --ranks-per-run {each} --out {out}"), dir).success().stdout;
        same_as_singles(&dir.join(&out), dir);
        let done = said.lines().filter(|line| line.starts_with('[') && line.contains("test accuracy")).count();
        assert_eq!(done, lines, "{said}");
        assert!(said.contains("best on the test rows") && said.contains("|  0.01 |    16 |"), "{said}");
        assert!(!dir.join(&out).join(".claims").exists());
    }
    // Without a word about groups: as many as there are ranks, while there are runs for them.
    let said = sweep(4, "--grid lr=1e-2,0.001 --batch 8 --out few", dir).success().stdout;
    assert!(said.contains("2 of 2 runs are left, for 2 groups of 2 ranks each"), "{said}");
    assert_same_run(&dir.join("few/lr0.01"), &dir.join("single/lr0.01-batch8"), "two ranks");
}

#[test]
fn what_is_finished_is_not_run_again_and_what_is_not_goes_on() {
    let dir = faces();
    let dir = dir.path();
    singles(dir);
    sweep(0, "--grid lr=1e-2 --grid batch=8,16 --out grid", dir).success();
    // Two epochs of four and eight steps: one is left in the middle, behind a checkpoint; one is new.
    let cut = format!("train {COMMON} --lr 0.001 --batch 8 --max-steps 5 --out grid/lr0.001-batch8");
    glasses(&words(&cut), dir).success();
    let written =
        |name: &str| std::fs::metadata(dir.join("grid").join(name).join("model.h5")).unwrap().modified().unwrap();
    let before = NAMES[..2].iter().map(|name| written(name)).collect::<Vec<_>>();
    let said = sweep(2, &format!("{GRID} --out grid"), dir).success().stdout;
    assert!(said.contains("2 of 4 runs are left"), "{said}");
    assert_eq!(before, NAMES[..2].iter().map(|name| written(name)).collect::<Vec<_>>());
    same_as_singles(&dir.join("grid"), dir);
    let said = sweep(3, &format!("{GRID} --out grid"), dir).success().stdout;
    assert!(said.contains("0 of 4 runs are left") && said.contains("0.001"), "{said}");
    let other = format!("sweep {COMMON} {GRID} --out grid --seed 2");
    refused(dir, &other, &["holds a run of other settings", "seed: 2 was 1", "--out"]);
}

#[test]
fn a_run_that_diverges_is_a_result_and_one_that_fails_stops_no_other() {
    let dir = faces();
    let dir = dir.path();
    let grid = "--grid lr=0.01,1e30 --optimizer sgd --batch 8 --out grid";
    let said = sweep(2, grid, dir).success().stdout;
    assert!(said.contains("lr1000000000000000000000000000000: diverged"), "{said}");
    let table = json(&sweep(0, &format!("{grid} --json"), dir).success().stdout);
    let states: Vec<&str> =
        table["runs"].as_array().unwrap().iter().map(|run| run["state"].as_str().unwrap()).collect();
    assert_eq!((states, &table["keys"][0]), (vec!["finished", "diverged"], &Value::from("lr")));
    let said = sweep(2, grid, dir).success().stdout;
    assert!(said.contains("0 of 2 runs are left"), "{said}");
    // A folder that holds something else is left alone; the others are run.
    std::fs::create_dir(dir.join("grid/lr0.001")).unwrap();
    std::fs::write(dir.join("grid/lr0.001/notes.txt"), "mine").unwrap();
    let failed = sweep(2, &grid.replace("lr=", "lr=0.001,0.003,"), dir).failure();
    assert!(failed.contains("1 of 2 runs failed") && failed.contains("a folder that holds something"), "{failed}");
    assert!(dir.join("grid/lr0.003/summary.json").exists());
    let text = std::fs::read_to_string(dir.join("grid/table.md")).unwrap();
    assert!(text.contains("not finished") && text.contains("diverged"), "{text}");
}

#[test]
fn the_table_is_made_again_from_any_folder_of_runs() {
    let dir = faces();
    let dir = dir.path();
    singles(dir);
    std::fs::create_dir(dir.join("single/empty")).unwrap();
    let table = json(&glasses(&words("sweep --table single --json"), dir).success().stdout);
    assert_eq!(table["keys"], Value::from(vec!["lr", "batch"]));
    let runs: Vec<&str> = table["runs"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap()).collect();
    assert_eq!(runs, ["lr0.001-batch8", "lr0.001-batch16", "lr0.01-batch8", "lr0.01-batch16"]);
    for name in ["table.md", "table.csv", "accuracy.svg", "accuracy.png"] {
        assert!(dir.join("single").join(name).exists(), "{name}");
    }
    let summary = json(&std::fs::read_to_string(dir.join("single/lr0.001-batch8/summary.json")).unwrap());
    assert_eq!(table["runs"][0]["test_accuracy"], summary["test_accuracy"]);
    refused_by_all(dir, "sweep --table nothing", &["nothing"]);
    std::fs::create_dir(dir.join("nothing")).unwrap();
    refused_by_all(dir, "sweep --table nothing", &["no finished run"]);
}

#[test]
fn a_grid_that_makes_no_sense_is_refused_before_anything_is_written() {
    let dir = faces();
    let dir = dir.path();
    refused_by_all(dir, &format!("sweep {COMMON} --grid bacth=8,16"), &["did you mean 'batch'?"]);
    refused_by_all(dir, &format!("sweep {COMMON} --grid lr=0.1,x"), &["invalid value 'x'"]);
    refused_by_all(dir, &format!("sweep {COMMON} --grid lr=0.1,-1"), &["run lr", "a positive number"]);
    refused_by_all(dir, &format!("sweep {COMMON} --grid epochs=1,2"), &["--grid epochs", "given twice"]);
    refused_by_all(dir, &format!("sweep {COMMON} --grid batch=8,65"), &["65 rows, more than the 64"]);
    refused_by_all(dir, "sweep --data no.h5 --grid lr=0.1", &["no.h5"]);
    refused_by_all(dir, &format!("sweep {COMMON}"), &["--grid"]);
    refused_by_ranks(3, dir, &format!("sweep {COMMON} {GRID} --ranks-per-run 2"), &["--ranks-per-run", "1, 3"]);
}

#[test]
fn a_signal_to_one_rank_ends_the_runs_of_all_groups_and_the_same_command_goes_on() {
    let dir = faces();
    let long = "sweep --data faces.h5 --model tiny.toml --batch 2 --epochs 3000 --grid lr=0.001,0.0001 --ranks-per-run 1 --out grid";
    let script = format!(
        "${{MPIRUN:-mpirun}} -n 2 $GLASSES {long} & p=$!
         until [ -e grid/lr0.001/live.json ] && [ -e grid/lr0.0001/live.json ] || ! kill -0 $p; do sleep 0.05; done
         read -r one _ </proc/$p/task/$p/children
         kill -USR1 $one
         wait $p"
    );
    let end = shell(&script, dir.path());
    assert_eq!(end.code, Some(75), "{end:?}");
    assert!(end.stderr.contains("interrupted, saved: 2 of 2 runs are left"), "{end:?}");
    for run in ["lr0.001", "lr0.0001"] {
        let saved = dir.path().join("grid").join(run).join("checkpoints").read_dir().unwrap().count();
        assert!(saved > 0 && !dir.path().join("grid").join(run).join("summary.json").exists(), "{run}: {end:?}");
    }
    // The same command, but for what may change.
    let on = glasses(&words(&format!("{long} --max-steps 1")), dir.path());
    assert!(on.code != Some(0) && on.stderr.contains("--max-steps"), "it goes on behind the first step: {on:?}");
}

#[test]
fn a_signal_to_a_rank_that_rests_ends_the_run_of_the_others() {
    let dir = faces();
    // One run for two groups: one of the two ranks rests, and each is signalled once.
    for child in ["$one", "$two"] {
        let script = format!(
            "${{MPIRUN:-mpirun}} -n 2 $GLASSES sweep --data faces.h5 --model tiny.toml --batch 2 --epochs 3000 --grid lr=0.001 \
               --ranks-per-run 1 --out grid & p=$!
             until grep -q '\"steps\":\\[[1-9]' grid/lr0.001/live.json 2>/dev/null || ! kill -0 $p; do sleep 0.05; done
             read -r one two _ </proc/$p/task/$p/children
             kill -USR1 {child}
             wait $p"
        );
        let end = shell(&script, dir.path());
        assert_eq!(end.code, Some(75), "{child}: {end:?}");
        assert!(end.stderr.contains("interrupted, saved: 1 of 1 run is left; the same command goes on"), "{end:?}");
        std::fs::remove_dir_all(dir.path().join("grid")).unwrap();
    }
}

#[test]
fn a_grid_that_grows_keeps_its_runs_whatever_the_ranks_of_a_run() {
    let dir = faces();
    let dir = dir.path();
    let options = "--grid lr=0.01 --batch 16 --out grid";
    // More ranks a run than the shards that one has by default.
    sweep(9, options, dir).success();
    let config = std::fs::read_to_string(dir.join("grid/lr0.01/config.toml")).unwrap();
    assert!(config.contains("shards = 9"), "{config}");
    let said = sweep(0, "--grid lr=0.01,0.02 --batch 16 --out grid", dir).success().stdout;
    assert!(said.contains("1 of 2 runs are left"), "{said}");
    refused(dir, &format!("sweep {COMMON} {options} --shards 8"), &["shards"]);
}

#[test]
fn the_best_is_named_by_validation_rows_where_there_are_some() {
    let dir = faces();
    let dir = dir.path();
    glasses(&words("synth --size 24 --count 100 --val 0.2 --out judged.h5"), dir).success();
    let grid = "sweep --model tiny.toml --epochs 2 --batch 16 --grid lr=0.03,0.003,0.0003";
    for ranks in [0, 2] {
        let out = format!("grid-{ranks}");
        let line = format!("{grid} --data judged.h5 --out {out}");
        let said = if ranks == 0 { glasses(&words(&line), dir) } else { mpirun(ranks, &words(&line), dir) };
        let said = said.success().stdout;
        let runs = ["lr0.03", "lr0.003", "lr0.0003"].map(|name| {
            let summary = json(&std::fs::read_to_string(dir.join(&out).join(name).join("summary.json")).unwrap());
            (name, summary["val_accuracy"].as_f64().unwrap(), summary["val_loss"].as_f64().unwrap(), summary)
        });
        let mut order: Vec<_> = runs.iter().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.2.total_cmp(&b.2)));
        let (name, accuracy, loss, best) = order[0];
        let want = format!(
            "best on the validation rows: {name}, {:.2} % (loss {loss:.4}); its test accuracy: ",
            100.0 * accuracy
        );
        assert!(said.contains(&want) && !said.contains("best on the test rows"), "{want}: {said}");
        assert!(said.contains("| val accuracy |") && said.contains("| val loss |"), "{said}");
        let table = json(&glasses(&words(&format!("sweep --table {out} --json")), dir).success().stdout);
        assert_eq!((&table["best"]["run"], &table["best"]["by"]), (&Value::from(*name), &Value::from("val")));
        assert_eq!(table["best"]["test_accuracy"], best["test_accuracy"]);
        assert!(table["runs"].as_array().unwrap().iter().all(|run| run["val_loss"].is_f64()), "{table}");
        let csv = std::fs::read_to_string(dir.join(&out).join("table.csv")).unwrap();
        assert!(csv.lines().next().unwrap().contains(",train_accuracy,val_accuracy,test_accuracy,"), "{csv}");
    }
    let said = glasses(&words(&format!("{grid} --data faces.h5 --out unjudged")), dir).success().stdout;
    assert!(said.contains("best on the test rows: ") && said.contains("has no /val"), "{said}");
    let table = json(&glasses(&words("sweep --table unjudged --json"), dir).success().stdout);
    assert_eq!(table["best"]["by"], "test");
}
