//! `--strategy ensemble`: members are runs with seeds of their own, whoever trains them, and answer together.

use std::path::Path;

use glasses::data::{Dataset, Part, Split, Values};
use serde_json::Value;

use crate::fixtures::{faces, refused, refused_by_all, words};
use crate::ranks::assert_same_run;
use crate::run::{Outcome, glasses, mpirun};

const COMMON: &str = "train --data faces.h5 --model tiny.toml --epochs 2 --batch 8";

fn run(ranks: usize, line: &str, dir: &Path) -> Outcome {
    if ranks == 0 { glasses(&words(line), dir) } else { mpirun(ranks, &words(line), dir) }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn summary(folder: &Path) -> Value {
    json(&std::fs::read_to_string(folder.join("summary.json")).unwrap())
}

#[test]
fn a_member_is_the_run_with_its_seed_on_any_ranks_in_any_groups() {
    let dir = faces();
    let dir = dir.path();
    for seed in [5, 6, 7, 8] {
        glasses(&words(&format!("{COMMON} --bootstrap --seed {seed} --out seed-{seed}")), dir).success();
    }
    let want = |folder: &Path| {
        let found = summary(folder);
        (found["test_accuracy"].clone(), found["weights_sha256"].clone(), found["members"].as_array().unwrap().len())
    };
    let mut first = None;
    for (ranks, groups) in [(0, ""), (2, ""), (4, ""), (4, "--ranks-per-member 2"), (3, "--ranks-per-member 3")] {
        let out = format!("on-{ranks}{}", groups.replace(' ', ""));
        let line = format!("{COMMON} --bootstrap --strategy ensemble --members 4 {groups} --seed 5 --out {out}");
        let said = run(ranks, &line, dir).success().stdout;
        assert!(said.contains("together (16 rows)"), "{said}");
        for member in 0..4 {
            let (got, want) =
                (dir.join(&out).join(format!("member-{member}")), dir.join(format!("seed-{}", 5 + member)));
            assert_same_run(&got, &want, &format!("{ranks} ranks {groups}"));
        }
        assert_eq!(&want(&dir.join(&out)), first.get_or_insert_with(|| want(&dir.join(&out))));
        // Nothing travels where a member is one rank's.
        if groups.is_empty() {
            assert_eq!(summary(&dir.join(&out))["bytes_communicated"], 0);
        }
    }
    // As many members as ranks, where nobody says.
    run(2, &format!("{COMMON} --strategy ensemble --out two"), dir).success();
    assert_eq!(summary(&dir.join("two"))["members"].as_array().unwrap().len(), 2);
}

#[test]
fn several_models_answer_with_the_mean_of_their_probabilities() {
    let dir = faces();
    let dir = dir.path();
    run(0, &format!("{COMMON} --strategy ensemble --members 3 --out all"), dir).success();
    let eval = |ranks: usize, models: &str| {
        json(&run(ranks, &format!("eval --data faces.h5 --json --model {models}"), dir).success().stdout)
    };
    let together = eval(0, "all");
    let mut named = eval(3, "all/member-0 all/member-1/model.h5 --model all/member-2");
    // Only how they were named may differ.
    named["members"] = together["members"].clone();
    assert_eq!(named, together);
    assert_eq!(together["accuracy"], summary(&dir.join("all"))["test_accuracy"]);
    assert_eq!(together["loss"], summary(&dir.join("all"))["test_loss"]);
    for member in 0..3 {
        let alone = eval(0, &format!("all/member-{member}"));
        assert_eq!(together["members"][member]["accuracy"], alone["accuracy"]);
    }
    // One model, twice, says what it says once.
    let (once, twice) = (eval(0, "all/member-0"), eval(0, "all/member-0 all/member-0"));
    assert_eq!((&once["accuracy"], &once["confusion"]), (&twice["accuracy"], &twice["confusion"]));
    assert!((once["loss"].as_f64().unwrap() - twice["loss"].as_f64().unwrap()).abs() < 1e-6);
    pictures(dir);
    let predict = |models: &str| -> Vec<f64> {
        let found = json(&run(0, &format!("predict photos --json {models}"), dir).success().stdout);
        found.as_array().unwrap().iter().map(|said| said["probabilities"][1].as_f64().unwrap()).collect()
    };
    let each: Vec<Vec<f64>> = (0..3).map(|member| predict(&format!("--model all/member-{member}"))).collect();
    let all = predict("--model all");
    assert_eq!(all, predict("--model all/member-0 --model all/member-1 --model all/member-2"));
    for (picture, said) in all.iter().enumerate() {
        let mean = each.iter().map(|one| one[picture]).sum::<f64>() / 3.0;
        assert!((said - mean).abs() < 1e-6, "{said} {mean}");
    }
    glasses(&words("synth --size 32 --count 40 --out small.h5"), dir).success();
    glasses(&words("train --data small.h5 --model tiny.toml --epochs 1 --out small"), dir).success();
    refused_by_all(dir, "eval --data faces.h5 --model all small", &["small", "24x24x3", "32x32x3"]);
    refused(dir, "predict photos --model all --explain maps", &["--explain", "3 models"]);
}

fn pictures(dir: &Path) {
    std::fs::create_dir(dir.join("photos")).unwrap();
    for index in 0..5u8 {
        let picture =
            image::RgbImage::from_fn(24, 24, |x, y| image::Rgb([x as u8 * 10, y as u8 * (index + 1), (x * y) as u8]));
        picture.save(dir.join(format!("photos/{index}.png"))).unwrap();
    }
}

#[test]
fn an_ensemble_goes_on_with_the_members_that_are_left() {
    let dir = faces();
    let dir = dir.path();
    let line = format!("{COMMON} --strategy ensemble --members 3 --checkpoint-every 2");
    run(0, &format!("{line} --out whole"), dir).success();
    run(0, &format!("{line} --out cut"), dir).success();
    // One was ended in the middle, one had not begun.
    let cut = dir.join("cut");
    for path in ["summary.json", "member-1/summary.json", "member-1/model.h5"] {
        std::fs::remove_file(cut.join(path)).unwrap();
    }
    std::fs::remove_dir_all(cut.join("member-2")).unwrap();
    let message = run(0, "eval --data faces.h5 --model cut", dir).failure();
    assert!(message.contains("member-1/model.h5") && message.contains("--resume"), "{message}");
    run(2, "train --resume cut", dir).success();
    for member in ["member-0", "member-1", "member-2"] {
        assert_same_run(&cut.join(member), &dir.join("whole").join(member), member);
    }
    assert_eq!(summary(&cut)["test_loss"], summary(&dir.join("whole"))["test_loss"]);
    let said = run(2, "train --resume cut", dir).success().stdout;
    assert!(said.contains("is finished"), "{said}");
    refused(dir, "train --resume cut --members 4", &["members"]);
    refused(dir, "train --resume cut --fork --out other", &["--fork", "ensemble"]);
}

#[test]
fn an_ensemble_that_makes_no_sense_is_refused() {
    let dir = faces();
    let dir = dir.path();
    refused(dir, &format!("{COMMON} --strategy ensemble"), &["--members", "1 network"]);
    refused_by_all(dir, &format!("{COMMON} --members 3"), &["--members", "--strategy ensemble"]);
    refused_by_all(
        dir,
        &format!("{COMMON} --strategy ensemble --members 2 --ranks-per-member 2"),
        &["--ranks-per-member"],
    );
    refused_by_all(
        dir,
        &format!("{} --strategy ensemble --members 2", COMMON.replace("--batch 8", "--batch 65")),
        &["65 rows"],
    );
}

#[test]
fn rows_are_drawn_with_replacement_from_all_and_the_same_by_any_ranks() {
    let dir = faces();
    let dataset = Dataset::open(&dir.path().join("faces.h5")).unwrap();
    let images = |part: &Part| match part.values() {
        Values::Images(pixels) => pixels.clone(),
        Values::Features(_) => unreachable!(),
    };
    let whole = images(&Part::read(&dataset, Split::Train, 8, 0, 1).unwrap());
    let drawn = Part::draw(&dataset, Split::Train, 8, (0, 1), 3).unwrap();
    let len = dataset.shape.len();
    let labels = Part::read(&dataset, Split::Train, 8, 0, 1).unwrap().labels().to_vec();
    let pixels = images(&drawn);
    let mut times = vec![0; labels.len()];
    for (row, label) in pixels.chunks_exact(len).zip(drawn.labels()) {
        let from = whole.chunks_exact(len).position(|other| other == row).expect("a row of the file");
        assert_eq!(labels[from], *label);
        times[from] += 1;
    }
    // Of N rows drawn N times, a share of 1/e is expected to be left out.
    let left = times.iter().filter(|times| **times == 0).count() as f64 / times.len() as f64;
    assert!((0.2..0.55).contains(&left) && times.iter().any(|times| *times > 1), "{left}");
    let parts: Vec<u8> =
        (0..3).flat_map(|rank| images(&Part::draw(&dataset, Split::Train, 8, (rank, 3), 3).unwrap())).collect();
    assert!(parts == pixels);
    assert!(images(&Part::draw(&dataset, Split::Train, 8, (0, 1), 4).unwrap()) != pixels);
}
