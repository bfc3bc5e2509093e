//! What people type who know other programs, or no flags: answered with the line that was meant; and sizes beyond a limit, with the limit.

use std::time::{Duration, Instant};

use crate::fixtures::{refused, refused_by_ranks, words};
use crate::run::glasses;

/// A folder with `d.h5` of features, a run on it, a table, and a folder of pictures.
fn used() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    glasses(&words("synth --kind spiral --count 60 --out d.h5"), path).success();
    std::fs::write(path.join("m.toml"), crate::fixtures::DENSE).unwrap();
    glasses(&words("train --data d.h5 --model m.toml --epochs 1 --batch 8 --out run"), path).success();
    std::fs::write(path.join("t.csv"), "x,y,label\n1,2,0\n").unwrap();
    std::fs::create_dir(path.join("photos")).unwrap();
    image::RgbImage::new(4, 4).save(path.join("photos/x.png")).unwrap();
    dir
}

#[test]
fn files_without_flags_are_answered_with_the_whole_line() {
    let dir = used();
    for (line, meant) in [
        ("eval run d.h5", "glasses eval --model run --data d.h5\n"),
        ("eval d.h5 run", "glasses eval --model run --data d.h5\n"),
        ("eval --split test run/model.h5 d.h5", "glasses eval --model run/model.h5 --data d.h5\n"),
        ("eval run --data d.h5", "glasses eval --model run --data d.h5\n"),
        ("eval --data d.h5 run", "glasses eval --model run --data d.h5\n"),
        ("eval --model run d.h5", "glasses eval --model run --data d.h5\n"),
        ("eval --model run", "glasses eval --model run --data FILE.h5\n"),
        ("eval run", "glasses eval --model run --data FILE.h5\n"),
        ("predict run photos/x.png", "glasses predict --model run photos/x.png\n"),
        ("predict c3.h5 photos", "glasses predict --model c3.h5 photos\n"),
        ("predict photos/x.png", "glasses predict --model runs/… photos/x.png\n"),
        ("predict --model run", "glasses predict --model run photos\n"),
        (
            "test c3.h5",
            "glasses eval --model c3.h5 --data FILE.h5; or, if it is a dataset: glasses eval --model runs/… --data c3.h5",
        ),
        ("test run d.h5", "'test' is called `glasses eval` here: glasses eval --model run --data d.h5\n"),
        ("infer run photos", "'infer' is called `glasses predict` here: glasses predict --model run photos\n"),
        ("train run", "glasses train --resume run"),
        ("ingest photos", "glasses ingest photos --out photos.h5\n"),
        ("export run", "glasses export run --to onnx --out model.onnx\n"),
    ] {
        let ended = glasses(&words(line), dir.path());
        assert_eq!(ended.code, Some(2), "{line}: {ended:?}");
        assert!(ended.stderr.contains("\nfix: ") && ended.stderr.contains(meant), "{line}: {ended:?}");
    }
}

#[test]
fn what_is_no_dataset_yet_is_answered_with_ingest() {
    let dir = used();
    for command in ["train --model m.toml", "--model m.toml", "eval --model run"] {
        refused(dir.path(), &format!("{command} --data t.csv"), &["t.csv", "fix: ", "glasses ingest t.csv --out t.h5"]);
        for folder in ["photos", "photos/"] {
            let fix = format!("glasses ingest {folder} --out photos.h5");
            refused(dir.path(), &format!("{command} --data {folder}"), &["a folder", &fix]);
        }
        refused(dir.path(), &format!("{command} --data photos/x.png"), &["glasses ingest photos --out photos.h5"]);
    }
    refused(dir.path(), "info t.csv", &["glasses ingest t.csv --out t.h5"]);
    refused_by_ranks(2, dir.path(), "train --model m.toml --data photos", &["glasses ingest photos --out photos.h5"]);
}

#[test]
fn sizes_beyond_a_limit_are_refused_with_the_limit_at_once() {
    let dir = used();
    let path = dir.path();
    glasses(&words("synth --size 24 --count 20 --out faces.h5"), path).success();
    for (layer, parts) in [
        ("dense 100000", &["100000 is too large", "at most 65535"][..]),
        ("conv 3x3x100000", &["100000 is too large", "at most 65535"]),
        ("avgpool 3 stride 65536", &["65536 is too large", "at most 65535"]),
        ("maxpool 70000", &["70000 is too large", "at most 65535"]),
        ("conv 3x3x4 pad 65536", &["65536 is too large", "at most 65535"]),
        ("dense 99999999999999999999999", &["is too large", "at most 65535"]),
        ("maxpool 60", &["write 'maxpool 60 pad same'", "--size 60"]),
    ] {
        std::fs::write(
            path.join("big.toml"),
            format!("name = \"big\"\nlayers = [\"{layer}\", \"flatten\", \"dense classes\"]\n"),
        )
        .unwrap();
        let start = Instant::now();
        refused(path, "info --model big.toml --input 24x24x3", parts);
        refused(path, "train --model big.toml --data faces.h5 --batch 8", parts);
        assert!(start.elapsed() < Duration::from_secs(20), "{layer}: {:?}", start.elapsed());
    }
    for input in ["100000000", "100000x100000x3", "80x80x70000", "99999999999999999999999999"] {
        for command in ["info --model glasses", "plan", "bench"] {
            refused(path, &format!("{command} --input {input}"), &["is too large", "from 1 to 65535"]);
        }
    }
    refused(path, "info --model glasses --input 80x0x3", &["from 1 to 65535"]);
}
