//! `glasses predict`: what it is given, how it chooses, how it lists.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::at_hand::typed;
use crate::fixtures::{faces, refused, refused_by_all, words};
use crate::run::{glasses, mpirun, shell};

/// A model (`run`), and 70 pictures in `photos/a` and `photos/b`.
fn trained() -> TempDir {
    let dir = faces();
    glasses(&words("--data faces.h5 --model tiny.toml --epochs 3 --out run"), dir.path()).success();
    for i in 0..70u32 {
        let folder = dir.path().join("photos").join(if i % 2 == 0 { "a" } else { "b" });
        std::fs::create_dir_all(&folder).unwrap();
        let picture =
            image::RgbImage::from_fn(30, 26, |x, y| image::Rgb([(x * i) as u8, (y * 9) as u8, (x * y) as u8]));
        picture.save(folder.join(format!("{i:02}.{}", if i % 3 == 0 { "jpg" } else { "png" }))).unwrap();
    }
    dir
}

fn json(dir: &Path, args: &str) -> Vec<Value> {
    serde_json::from_str(&glasses(&words(&format!("predict --model run {args} --json")), dir).success().stdout).unwrap()
}

fn files(said: &[Value]) -> Vec<&str> {
    said.iter().map(|one| one["file"].as_str().unwrap()).collect()
}

#[test]
fn pictures_come_from_folders_patterns_and_standard_input() {
    let dir = trained();
    let path = dir.path();
    let all = json(path, "photos");
    assert_eq!(all.len(), 70);
    let some = json(path, "photos/**/*.jpg");
    assert!(some.len() == 24 && files(&some).iter().all(|file| file.ends_with(".jpg")), "{:?}", files(&some));
    assert_eq!(files(&json(path, "photos/b/0[13].png photos/?")).len(), 71);
    let piped =
        typed("find photos -name '*.png' | sort -r | glasses predict --model run - --json", path, &[]).success();
    let piped: Vec<Value> = serde_json::from_str(&piped.stdout).unwrap();
    assert!(piped.len() == 46 && files(&piped)[0] == "photos/b/67.png", "{:?}", files(&piped));
    let nul = typed("find photos -name '0*.png' -print0 | mpirun -n 2 glasses predict --model run - --json", path, &[]);
    assert_eq!(serde_json::from_str::<Vec<Value>>(&nul.success().stdout).unwrap().len(), 6);
    // Whoever computes it, and beside whichever others: the same bits.
    let find = |file: &Value| all.iter().find(|one| one["file"] == *file).unwrap();
    for one in some.iter().chain(&piped) {
        assert_eq!(one, find(&one["file"]));
    }
    // A file of such a name is that file.
    std::fs::copy(path.join("photos/a/00.jpg"), path.join("what?.jpg")).unwrap();
    assert_eq!(json(path, "what?.jpg")[0]["probabilities"], all[0]["probabilities"]);
    refused_by_all(path, "predict --model run photos/*.gif", &["photos/*.gif: found no such file", "pattern"]);
    refused(path, "predict --model run photos/[.png", &["photos/[.png", "pattern"]);
    refused_by_all(path, "predict --model run -", &["standard input", "find photos"]);
}

#[test]
fn several_pictures_are_followed_by_a_rate() {
    let dir = trained();
    for end in [
        glasses(&words("predict --model run photos"), dir.path()),
        mpirun(3, &words("predict --model run photos"), dir.path()),
    ] {
        let end = end.success();
        assert_eq!(end.stdout.lines().count(), 70);
        let rate =
            end.stderr.lines().find(|line| line.starts_with("70 pictures in ")).unwrap_or_else(|| panic!("{end:?}"));
        let rate: f64 = rate.rsplit_once(", ").unwrap().1.trim_end_matches(" pictures/s").parse().unwrap();
        assert!(rate > 1.0, "{end:?}");
    }
    let one = glasses(&words("predict --model run photos/a/00.jpg"), dir.path()).success();
    assert!(one.stdout.lines().count() == 1 && one.stderr.is_empty(), "{one:?}");
}

#[test]
fn one_picture_is_answered_within_a_tenth_of_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    glasses(&words("synth --size 80 --count 20 --out faces.h5"), path).success();
    // The paper's network: 26 MB of weights.
    glasses(&words("--data faces.h5 --epochs 1 --max-steps 1 --out run"), path).success();
    image::RgbImage::from_fn(640, 480, |x, y| image::Rgb([x as u8, y as u8, 9])).save(path.join("one.jpg")).unwrap();
    // Other tests take the cores meanwhile: processor time, user and system, and one quick answer of twenty shows that it can be.
    let time = || {
        let line = "bash -c 'TIMEFORMAT=\"%3U %3S\"; time $GLASSES predict --model run one.jpg >/dev/null'";
        let said = shell(line, path).success().stderr;
        let seconds = said.split_whitespace().map(|seconds| seconds.replace(',', ".").parse::<f64>().unwrap());
        (1000.0 * seconds.sum::<f64>()) as u32
    };
    let times: Vec<u32> = (0..20).map(|_| time()).take_while(|&time| time >= 100).collect();
    assert!(times.len() < 20, "{times:?} ms");
}

#[test]
fn a_threshold_decides_and_top_lists_the_others() {
    let dir = trained();
    let path = dir.path();
    let plain = json(path, "photos");
    let p = |one: &Value, class: usize| one["probabilities"][class].as_f64().unwrap() as f32;
    let mut shares: Vec<f32> = plain.iter().map(|one| one["probability"].as_f64().unwrap() as f32).collect();
    shares.sort_by(f32::total_cmp);
    let middle = shares[35];
    let some = json(path, &format!("photos --threshold {middle}"));
    let unsure = some.iter().filter(|one| one["class"].is_null()).count();
    assert_eq!(unsure, shares.iter().filter(|&&share| share < middle).count());
    assert!(unsure > 0 && unsure < 70, "{unsure}");
    for (one, before) in some.iter().zip(&plain) {
        assert!(one["class"].is_null() || one["class"] == before["class"]);
        assert_eq!(one["probabilities"], before["probabilities"]);
    }
    let text = glasses(&words(&format!("predict --model run photos --threshold {middle}")), path).success().stdout;
    assert_eq!(text.lines().filter(|line| line.contains("  ?  ")).count(), unsure, "{text}");
    // A threshold of one class, as it is read off an ROC curve.
    for least in [0.0, 0.2, 0.5, 0.8] {
        for (one, before) in json(path, &format!("photos --threshold glasses={least}")).iter().zip(&plain) {
            let want = usize::from(p(before, 1) >= least);
            assert_eq!(one["class"], ["no glasses", "glasses"][want], "{one}");
            assert_eq!(one["probability"].as_f64().unwrap() as f32, p(before, want));
        }
    }
    let top = json(path, "photos --top 5");
    for one in &top {
        let top = one["top"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["class"], &top[0]["probability"]), (2, &one["class"], &one["probability"]));
        assert!(top[1]["probability"].as_f64() <= top[0]["probability"].as_f64(), "{one}");
    }
    assert!(plain.iter().all(|one| one.get("top").is_none()));
    let text = glasses(&words("predict --model run photos --top 2"), path).success().stdout;
    assert!(text.lines().all(|line| line.matches(" %").count() == 3), "{text}");
    let table = glasses(&words("predict --model run photos --csv --top 1"), path).success().stdout;
    let head = table.lines().next().unwrap();
    assert_eq!(head, "file,class,probability,no glasses,glasses,class 1,probability 1");
    refused(path, "predict --model run photos --threshold 1.5", &["--threshold", "0 to 1"]);
    refused(path, "predict --model run photos --threshold cat=0.5", &["class 'cat'", "no glasses, glasses"]);
    refused(path, "predict --model run photos --top 0", &["--top"]);
}
