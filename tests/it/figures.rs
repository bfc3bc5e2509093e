//! Printed figures mean what docs/report.md says: each is computed again from what the run left, on one rank and on several.

use std::path::Path;

use serde_json::Value;

use crate::fixtures::{faces, words};
use crate::ranks::metrics;
use crate::run::{Outcome, glasses, mpirun, shell};

const COMMON: &str = "train --data faces.h5 --model tiny.toml --epochs 3 --batch 8";

fn run(ranks: usize, line: &str, dir: &Path) -> Outcome {
    if ranks == 1 { glasses(&words(line), dir) } else { mpirun(ranks, &words(line), dir) }.success()
}

fn summary(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("summary.json")).unwrap()).unwrap()
}

fn number(summary: &Value, key: &str) -> f64 {
    summary[key].as_f64().unwrap_or_else(|| panic!("{key} in {summary}"))
}

#[test]
fn the_last_line_and_the_summary_say_the_same_and_its_rate_is_of_the_time_beside_it() {
    let dir = faces();
    let dir = dir.path();
    for ranks in [1, 3] {
        let out = format!("on-{ranks}");
        let said = run(ranks, &format!("{COMMON} --out {out}"), dir).stdout;
        let line = said.lines().find(|line| line.starts_with("test accuracy")).unwrap();
        let found = summary(&dir.join(&out));
        let (wall, training) = (number(&found, "wall_seconds"), number(&found, "training_seconds"));
        let rate = number(&found, "images_per_sec");
        assert!(line.contains(&format!(" in {wall:.1} s ({training:.1} s of training, {rate:.0} images/s)")), "{line}");
        assert!(0.0 < training && training < wall, "{found}");
        // 64 rows, three times.
        assert!((rate * training - 192.0).abs() < 1e-6 * 192.0, "{found}");
        // The epochs' rates are of parts of the same time.
        let text = std::fs::read_to_string(dir.join(&out).join("metrics.jsonl")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let sum: f64 = lines.map(|line| 64.0 / number(&line, "images_per_sec")).sum();
        assert!((sum - training).abs() < 1e-6 * training, "{sum} {training}");
        assert_eq!(metrics(&dir.join(&out)).len(), 3);
    }
}

#[test]
fn a_run_that_goes_on_adds_up_the_time_of_both_processes() {
    let dir = faces();
    let dir = dir.path();
    run(2, &format!("{COMMON} --out run --max-steps 11"), dir);
    let before = summary(&dir.join("run"));
    run(1, "train --resume run --max-steps 1000", dir);
    let after = summary(&dir.join("run"));
    let [training, wall] = ["training_seconds", "wall_seconds"];
    assert!(number(&after, training) > number(&before, training), "{before} {after}");
    // Of the first process up to its checkpoint: what it did behind that is done again.
    assert!(number(&after, wall) > number(&after, training), "{after}");
    assert!((number(&before, "images_per_sec") * number(&before, "training_seconds") - 88.0).abs() < 1e-4, "{before}");
    assert!((number(&after, "images_per_sec") * number(&after, "training_seconds") - 192.0).abs() < 1e-4, "{after}");
}

#[test]
fn an_ensemble_s_rate_is_that_of_all_ranks_together() {
    let dir = faces();
    let dir = dir.path();
    for (ranks, members, options, at_work) in
        [(1, 3, "", 1.0), (2, 3, "", 2.0), (4, 3, "--ranks-per-member 2", 4.0), (3, 2, "", 2.0)]
    {
        let out = format!("on-{ranks}-{members}");
        run(ranks, &format!("{COMMON} --strategy ensemble --members {members} {options} --out {out}"), dir);
        let found = summary(&dir.join(&out));
        let of = |member: usize| summary(&dir.join(&out).join(format!("member-{member}")));
        let rank_seconds: f64 =
            (0..members).map(|m| number(&of(m), "training_seconds") * number(&of(m), "ranks")).sum();
        let training = rank_seconds / at_work;
        assert!((number(&found, "training_seconds") - training).abs() < 1e-6 * training, "{out}: {found}");
        let rate = 192.0 * members as f64 / training;
        assert!((number(&found, "images_per_sec") - rate).abs() < 1e-6 * rate, "{out}: {rate} {found}");
        assert_eq!(found["ranks"], ranks, "{found}");
    }
}

/// Words for which "1 …s" is right.
const NO_PLURALS: [&str; 8] = ["is", "process", "s", "was", "has", "images/s", "us", "pass"];

/// What is said of one thing as if it were several.
fn odd_plurals(text: &str) -> Vec<String> {
    let all: Vec<&str> = text.split(|c: char| c.is_whitespace() || "(),;:|\"".contains(c)).collect();
    let odd = |pair: &&[&str]| pair[0] == "1" && pair[1].ends_with('s') && !NO_PLURALS.contains(&pair[1]);
    all.windows(2).filter(odd).map(|pair| pair.join(" ")).collect()
}

#[test]
fn one_of_a_kind_is_singular_in_all_messages() {
    assert_eq!(odd_plurals("on 1 ranks (1 steps, 1 row, 11 rows)"), ["1 ranks", "1 steps"]);
    let dir = faces();
    let dir = dir.path();
    let rows: String = (0..30).map(|i| format!("{i}.5,{}\n", i % 2)).collect();
    std::fs::write(dir.join("one.csv"), format!("width,label\n{rows}")).unwrap();
    let one = "--data faces.h5 --model tiny.toml --batch full --epochs 1";
    let lines = [
        format!("train {one} --shards 1 --checkpoint-every 1step --out run"),
        "train --resume run".to_owned(),
        "verify run".to_owned(),
        "info faces.h5".to_owned(),
        "info --model tiny.toml --input 24x24x3 --ranks 1 --shards 1 --batch 1 --rows 1".to_owned(),
        "eval --model run/model.h5 --data faces.h5".to_owned(),
        format!("sweep {one} --grid lr=0.1 --out sweep"),
        "sweep --table sweep".to_owned(),
        format!("train {one} --strategy ensemble --members 2 --out both"),
        "ingest one.csv --out one.h5".to_owned(),
        "info one.h5".to_owned(),
        "train --data one.h5 --model dense.toml --epochs 1 --batch full --max-steps 1 --trace t.json --out features"
            .to_owned(),
        "report run --figures figures".to_owned(),
        "watch run --once".to_owned(),
        "doctor".to_owned(),
        "synth --size 16 --count 2 --out two.h5".to_owned(),
        "bench --model spiral --input 1 --classes 2 --batch 1 --seconds 0.01".to_owned(),
        // What is refused.
        format!("train {one} --out none --batch 65"),
        format!("train {one} --out none --strategy ensemble --members 1"),
        "predict --model run/model.h5 gone.png".to_owned(),
        "info --model tiny.toml --ranks 2 --shards 1".to_owned(),
    ];
    for line in lines {
        let end = glasses(&words(&line), dir);
        let found = odd_plurals(&format!("{}\n{}", end.stdout, end.stderr));
        assert_eq!(found, Vec::<String>::new(), "glasses {line}: {end:?}");
    }
    for line in [
        format!("train {one} --shards 1 --out none"),
        format!("sweep {one} --grid lr=0.2 --ranks-per-run 1 --out more"),
    ] {
        let end = mpirun(2, &words(&line), dir);
        let found = odd_plurals(&format!("{}\n{}", end.stdout, end.stderr));
        assert_eq!(found, Vec::<String>::new(), "2 ranks, glasses {line}: {end:?}");
    }
}

#[test]
fn groups_of_ranks_are_counted_as_they_are() {
    let dir = faces();
    let groups = |ranks: usize, most: usize| {
        let train = format!("$GLASSES {COMMON} --max-steps 1 --out on-{ranks}-{most}");
        let said = shell(&format!("GLASSES_NODE_RANKS={most} ${{MPIRUN:-mpirun}} -n {ranks} {train}"), dir.path());
        let said = said.success().stdout;
        said.lines().find(|line| line.starts_with("gradients ")).unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    for (ranks, most, words) in [
        (5, 3, "gradients in shared memory, 2 node groups of 3 + 2 ranks, and by messages between them"),
        (4, 2, "gradients in shared memory, 2 node groups of 2 ranks, and by messages between them"),
        (3, 3, "gradients in the shared memory of 3 ranks:"),
        (2, 1, "gradients by messages"),
    ] {
        let said = groups(ranks, most);
        assert!(said.starts_with(words), "{ranks} ranks, {most} a machine: {said}");
    }
}
